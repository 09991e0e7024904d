package netx

import (
	"fmt"
	"net/netip"
	"time"
)

// MaxBatch is how many datagrams a [Batch] moves with one system call at most.
// More would keep the first ones waiting.
const MaxBatch = 128

// DefaultBatch is how many datagrams a [Batch] moves with one system call unless
// told otherwise. With 32 the call itself costs each of them next to nothing, but of
// so few less goes to each client: see [Batch.Flush].
const DefaultBatch = MaxBatch

// sendPatience is how long replies wait for room in a socket's send buffer. The
// kernel empties it at the speed of the interface, so that it is full for
// longer only when the interface is stuck; and whoever waits reads no queries.
const sendPatience = 200 * time.Millisecond

// Loop is how a [Batch] waits for datagrams.
type Loop uint8

// The loops. Where a system has no batches, there is only the poller.
const (
	LoopAuto     Loop = iota // the one that needs less CPU time: the poller
	LoopPoller               // the goroutine waits, and Go's poller wakes it
	LoopBlocking             // a thread of its own waits in the kernel
)

var loopNames = [...]string{"auto", "poller", "blocking"}

// String returns the word for l that the configuration has.
func (l Loop) String() string {
	if int(l) >= len(loopNames) {
		return fmt.Sprintf("Loop%d", uint8(l))
	}
	return loopNames[l]
}

// BatchOptions configures a [Batch]. A zero field but MaxMessage means its
// default.
type BatchOptions struct {
	MaxMessage int // octets of a datagram that are read; what is beyond is cut off
	Size       int // datagrams to a system call, up to MaxBatch; DefaultBatch
	Loop       Loop
	// GiveWay has Receive let other programs run first when clients on this machine
	// have asked several queries: they come together then, which costs each of them
	// less and takes it longer. Where there are no batches it means nothing.
	GiveWay bool
}

// size returns how many datagrams go to a system call.
func (o BatchOptions) size() int {
	if o.Size <= 0 {
		return DefaultBatch
	}
	return min(o.Size, MaxBatch)
}

// Datagram is one datagram of a [Batch]. It borrows the Batch's memory until the
// next Receive.
type Datagram struct {
	Msg   []byte
	Local netip.Addr     // that it was sent to, if the socket was told to find out
	From  netip.AddrPort // without a zone, and never an IPv4-mapped address; the zero AddrPort: nobody knows
	Cut   bool           // the datagram was longer than Msg
	Group bool           // it was sent to a broadcast or multicast address
}
