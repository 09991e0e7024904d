package netx

// Memory is where a [Stream] puts what it reads. Both methods are called by the
// goroutine that reads, and none after Read has returned.
type Memory interface {
	// Space returns where the next octets go: room for one at least.
	Space() []byte

	// Wait says that nothing has come yet. What the last Space returned is not
	// used any more: from now on the connection is silent, maybe for long.
	Wait()
}

// ErrEmpty says that nothing more is there for now. To who reads TLS over a [Stream]
// it is an error that passes ([net.Error], as crypto/tls asks).
var ErrEmpty error = emptyError{}

type emptyError struct{}

func (emptyError) Error() string   { return "nothing has come yet" }
func (emptyError) Timeout() bool   { return false }
func (emptyError) Temporary() bool { return true }
