package daemon

import (
	"log/slog"
	"os"
	"syscall"

	"shirube/internal/config"
	"shirube/transport/upstream"
)

// spareDescriptors are for everything but queries and connections: listeners,
// files, the runtime's own.
const spareDescriptors = 256

// descriptorsNeeded returns how many file descriptors the configured limits can
// take up: one for each question to a name server, one for each client's
// connection, and sockets between two questions.
func descriptorsNeeded(cfg *config.Config) uint64 {
	n := uint64(cfg.Limits.InFlight) + uint64(cfg.Limits.TCPConnections) + upstream.MaxKept + spareDescriptors
	for _, e := range endpoints(cfg) {
		switch e.proto {
		case config.ProtocolDoT, config.ProtocolDoH, config.ProtocolDoHCleartext:
			return n + uint64(cfg.Limits.TLSConnections) // together
		}
	}
	return n
}

// checkDescriptors warns when the process may not open as many descriptors as
// need be: beyond its limit questions fail and connections stay unaccepted. The
// runtime has raised the soft limit to the hard one already.
func checkDescriptors(log *slog.Logger, need uint64) {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur >= need {
		return
	}
	log.Warn("too few file descriptors for the configured limits: raise them (ulimit -n, LimitNOFILE=) or lower limits.in_flight and limits.tcp_connections",
		"allowed", limit.Cur, "needed", need)
}

// mostRoom is for how many descriptors room is made at the start. Each takes eight
// octets of the kernel's memory.
const mostRoom = 1 << 16

// makeRoom has the kernel make room for as many descriptors as need be, or may be,
// before they are needed. Its table grows to twice its size when it is full, and of
// a process with threads whoever opens a descriptor then waits until every processor
// has passed through the scheduler: 25 ms, in a flood, in which no query was answered.
func makeRoom(need uint64) {
	var limit syscall.Rlimit
	file, err := os.Open(os.DevNull)
	if err != nil || syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return
	}
	defer file.Close()
	last := min(need, limit.Cur, mostRoom) - 1
	if high, _, errno := syscall.Syscall(syscall.SYS_FCNTL, file.Fd(), syscall.F_DUPFD_CLOEXEC, uintptr(last)); errno == 0 {
		syscall.Close(int(high))
	}
}
