package netx

import "fmt"

// Buffers are the sizes of a socket's buffers, in octets as the kernel counts
// them: with what it needs for each packet itself. 0 is what they are.
type Buffers struct {
	Receive int // datagrams that nobody has read yet; what has no room is lost
	Send    int // datagrams that the interface has not sent yet
}

// Shortfall is a buffer that is smaller than it was to be.
type Shortfall struct {
	Buffer    string // "receive" or "send"
	Want, Got int    // octets
	Limit     string // the sysctl that bounds it; empty if that is not known
}

// Remedy says what an operator can do about s.
func (s Shortfall) Remedy() string {
	if s.Limit == "" {
		return "raise the system's limit, or ask for less"
	}
	return fmt.Sprintf("sysctl -w %s=%d", s.Limit, s.Want)
}
