package daemon

import (
	"runtime"

	"shirube/cache"
	"shirube/cache/shared"
	"shirube/dnstap"
	"shirube/internal/frontend"
	"shirube/resolver"
	"shirube/resolver/localroot"
	"shirube/transport"
	"shirube/transport/upstream"
)

// Stats is a snapshot of what every part has counted.
type Stats struct {
	Goroutines int
	UDP        transport.UDPStats
	TCP        transport.TCPStats
	Slots      transport.SlotsStats
	Frontend   frontend.Stats
	Answers    cache.AnswersStats
	Shared     shared.Stats // zero without one
	Memory     cache.MemoryStats
	Resolver   resolver.Stats
	LocalRoot  localroot.Stats // zero without one
	Upstream   upstream.Stats
	Dnstap     dnstap.Stats
}

// Stats returns a snapshot. It waits until the server has started.
func (d *Daemon) Stats() Stats {
	<-d.started
	p := d.Pipeline()
	var root localroot.Stats
	if p.LocalRoot != nil {
		root = p.LocalRoot.Stats()
	}
	var fleet shared.Stats
	if p.Shared != nil {
		fleet = p.Shared.Stats()
	}
	return Stats{
		Goroutines: runtime.NumGoroutine(),
		UDP:        d.udp.Stats(),
		TCP:        d.tcp.Stats(),
		Slots:      d.slots.Stats(),
		Frontend:   p.Frontend.Stats(),
		Answers:    p.Answers.Stats(),
		Shared:     fleet,
		Memory:     p.Memory.Stats(),
		Resolver:   p.Resolver.Stats(),
		LocalRoot:  root,
		Upstream:   d.upstream.Stats(),
		Dnstap:     d.tap.Stats(),
	}
}

// LogStats writes all counts as one line of the log, if the server has started.
func (d *Daemon) LogStats() {
	select {
	case <-d.started:
	default:
		d.log.Info("no statistics yet: not started")
		return
	}
	s := d.Stats()
	d.log.Info("statistics",
		"goroutines", s.Goroutines,
		"udp", s.UDP,
		"tcp", s.TCP,
		"slots", s.Slots,
		"frontend", s.Frontend,
		"answers", s.Answers,
		"shared", s.Shared,
		"memory", s.Memory,
		"resolver", s.Resolver,
		"local_root", s.LocalRoot,
		"upstream", s.Upstream,
		"dnstap", s.Dnstap,
	)
}
