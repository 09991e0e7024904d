package daemon

import (
	"runtime"

	"shirube/cache"
	"shirube/cache/shared"
	"shirube/discovery"
	"shirube/dnstap"
	"shirube/internal/certs"
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
	DoT        transport.TCPStats
	DoH        transport.DoHStats
	DoH3       transport.DoH3Stats
	DoQ        transport.DoQStats
	TLS        TLSStats
	Slots      transport.SlotsStats
	Frontend   frontend.Stats
	Discovery  discovery.Stats
	Answers    cache.AnswersStats
	Shared     shared.Stats // zero without one
	WarmStart  WarmStats    // zero without one
	Memory     cache.MemoryStats
	Resolver   resolver.Stats
	LocalRoot  localroot.Stats // zero without one
	Upstream   upstream.Stats
	Dnstap     dnstap.Stats
}

// TLSStats is what all encrypted transports have in common.
type TLSStats struct {
	Connections  transport.ConnsStats
	Certificates certs.Stats // zero without any
}

func (s *secure) stats() TLSStats {
	return TLSStats{s.conns.Stats(), s.certs.Stats()}
}

// Stats returns a snapshot. It waits until the server has started.
func (d *Daemon) Stats() Stats {
	<-d.started
	p := d.Pipeline()
	var root localroot.Stats
	if p.LocalRoot != nil {
		root = p.LocalRoot.Stats()
	}
	return Stats{
		Goroutines: runtime.NumGoroutine(),
		UDP:        d.udp.Stats(),
		TCP:        d.tcp.Stats(),
		DoT:        d.secure.dot.Stats(),
		DoH:        d.secure.doh.Stats(),
		DoH3:       d.secure.doh3.Stats(),
		DoQ:        d.secure.doq.Stats(),
		TLS:        d.secure.stats(),
		Slots:      d.slots.Stats(),
		Frontend:   p.Frontend.Stats(),
		Discovery:  p.Self.Stats(),
		Answers:    p.Answers.Stats(),
		Shared:     p.sharedStats(),
		WarmStart:  d.warmed.stats(),
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
		"dot", s.DoT,
		"doh", s.DoH,
		"doh3", s.DoH3,
		"doq", s.DoQ,
		"tls", s.TLS,
		"slots", s.Slots,
		"frontend", s.Frontend,
		"discovery", s.Discovery,
		"answers", s.Answers,
		"shared", s.Shared,
		"warm_start", s.WarmStart,
		"memory", s.Memory,
		"resolver", s.Resolver,
		"local_root", s.LocalRoot,
		"upstream", s.Upstream,
		"dnstap", s.Dnstap,
	)
}
