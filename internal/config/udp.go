package config

// UDP configures how clients are served over UDP. How many sockets there are, and
// how large answers may be, is in [Limits].
type UDP struct {
	// How a reader waits for queries. With `poller` its goroutine waits, and the
	// poller of the Go runtime wakes it; with `blocking` it has a thread of its
	// own, which waits in the kernel. `auto` is the one that needed less CPU time
	// where it was measured: `poller`. On other systems than Linux on amd64 and
	// arm64 there is only that. Readers go on as they began.
	Loop UDPLoop `yaml:"loop" reload:"restart"`
	// Queries that are read, and answers that are sent, with one system call, if
	// so many are there: nobody waits for a batch to be full. The more, the more
	// answers to one client leave together; and the longer the first query of a full
	// batch waits until the others have been looked at. On other systems
	// than Linux on amd64 and arm64 it is always 1. A reader's memory for so many
	// is laid out when it begins, and the kernel writes to it while it reads: so a
	// change needs a restart.
	Batch int `yaml:"batch" range:"1..128" reload:"restart"`
	// Whether a reader that clients on this machine, such as a proxy, ask several queries
	// at a time lets other programs run on its processor before it reads on. More of
	// their queries come together then: at full load that saves about a tenth of the
	// CPU time, and with less load answers take a tenth of a millisecond longer. For clients elsewhere
	// nothing changes. Readers go on as they began.
	GiveWay bool `yaml:"give_way" reload:"restart"`
	// How the kernel picks one of the sockets of an address for a query (Linux
	// only). `off`: by the client's address and port, so that a client stays with
	// its socket. That spreads many clients well, and puts all the load on one
	// reader when a proxy in front of the server asks everything from one port:
	// `random` spreads that, too. `cpu` takes the socket with the number of the
	// CPU that the network card gave the packet to, for a card that spreads
	// packets over as many CPUs as there are `limits.udp_readers`.
	Steering UDPSteering `yaml:"steering"`
	// Room for queries that nobody has read yet, for each socket, with what the
	// kernel needs for each packet itself: about 1 KiB for a query on loopback,
	// 2 KiB from a network card. What finds no room is lost. If the system allows
	// less, a warning names the sysctl that raises its limit. `0`: the system's
	// default.
	ReceiveBuffer Size `yaml:"receive_buffer" range:"0..1GiB"`
	// Room for answers that the network card has not sent yet, for each socket,
	// with the same warning. Readers wait while it is full. `0`: the system's
	// default.
	SendBuffer Size `yaml:"send_buffer" range:"0..1GiB"`
}

// UDPLoop is how a reader waits for queries.
type UDPLoop string

// The ways to wait.
const (
	UDPLoopAuto     UDPLoop = "auto"
	UDPLoopPoller   UDPLoop = "poller"
	UDPLoopBlocking UDPLoop = "blocking"
)

func (UDPLoop) values() []string {
	return []string{string(UDPLoopAuto), string(UDPLoopPoller), string(UDPLoopBlocking)}
}

// UDPSteering is how the kernel picks a socket.
type UDPSteering string

// The ways to pick a socket.
const (
	UDPSteeringOff    UDPSteering = "off"
	UDPSteeringRandom UDPSteering = "random"
	UDPSteeringCPU    UDPSteering = "cpu"
)

func (UDPSteering) values() []string {
	return []string{string(UDPSteeringOff), string(UDPSteeringRandom), string(UDPSteeringCPU)}
}
