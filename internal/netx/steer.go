package netx

// Steering is how the kernel picks one of the sockets that share an address for
// a datagram.
type Steering uint8

// The ways to pick a socket.
const (
	SteerByClient Steering = iota // by the addresses and ports of both sides, so that a client stays with its socket
	SteerRandom                   // any, each time
	SteerByCPU                    // by the CPU that the datagram came in on
)
