package daemon

import (
	"log/slog"
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
