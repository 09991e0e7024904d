package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"time"

	"shirube/internal/admin"
	"shirube/internal/config"
	"shirube/internal/health"
	"shirube/internal/metrics"
	"shirube/internal/wire"
	"shirube/resolver"
	"shirube/transport"
)

// adminSocket is the name of the socket in the directory that systemd gives.
const adminSocket = "admin.sock"

// adminOptions translates the configuration of the admin listener; nil: there is
// to be none.
func (d *Daemon) adminOptions(cfg config.Admin) (*admin.Options, error) {
	path := socketPath(cfg.Enabled, cfg.Socket, adminSocket)
	if !cfg.Enabled || path == "" && len(cfg.Listen) == 0 {
		return nil, nil
	}
	gid, err := groupID(cfg.Group)
	if err != nil {
		return nil, fmt.Errorf("admin.group: %w", err)
	}
	registry, err := metrics.New(d.snapshot)
	if err != nil {
		return nil, err
	}
	opt := &admin.Options{
		Socket: path, Group: gid, UID: os.Geteuid(), Profiles: cfg.Profiles, Log: d.log,
		Backend: admin.Backend{Metrics: registry.Handler(), Health: d.Pipeline().Health, Status: d.statusPage},
	}
	for _, l := range cfg.Listen {
		opt.Addresses = append(opt.Addresses, admin.Address{
			At: l.Address, Cert: l.Certificate, Key: l.Key, ClientCA: l.ClientCA, Token: l.TokenFile,
		})
		if l.TokenFile != "" && l.Certificate == "" && !l.Address.Addr().IsLoopback() {
			d.log.Warn("the admin listener's token goes over the network in clear text", "listen", l.Address.String(),
				"remedy", "give it admin.listen[].cert_file and key_file")
		}
	}
	return opt, nil
}

// openAdmin opens the admin listener that cfg asks for; nil: none. Where d.admin
// listens already, both do.
func (d *Daemon) openAdmin(ctx context.Context, cfg config.Admin) (*admin.Server, error) {
	opt, err := d.adminOptions(cfg)
	if opt == nil || err != nil {
		return nil, err
	}
	s, err := admin.New(*opt)
	if err != nil {
		return nil, err
	}
	if err := s.Listen(ctx, d.admin); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// startAdmin begins to serve what openAdmin has opened.
func (d *Daemon) startAdmin() {
	if d.admin != nil {
		d.admin.Start()
		d.log.Info("admin listener", "listen", d.admin.Where())
	}
}

// adminGrace is how long a scrape by an admin listener that is followed by another
// one may go on.
const adminGrace = 2 * time.Second

// reloadAdmin has another admin listener follow that which is there.
func (d *Daemon) reloadAdmin(r *reload) error {
	cfg, before := r.to.Config.Admin, d.admin
	if reflect.DeepEqual(cfg, r.from.Config.Admin) {
		return nil
	}
	next, err := d.openAdmin(r.ctx, cfg)
	if err != nil {
		return err
	}
	if next != nil {
		r.undo(func() { _ = next.Close() }) // nobody was served there
	}
	r.commit(func() {
		d.admin = next
		d.startAdmin()
	})
	if before != nil {
		r.retire(func() {
			ctx, cancel := context.WithTimeout(d.ctx, adminGrace)
			defer cancel()
			if err := before.Shutdown(ctx); err != nil {
				d.log.Warn("the admin listener before was not closed well", "error", err)
			}
		})
	}
	return nil
}

// closeAdmin ends what openAdmin and startAdmin began.
func (d *Daemon) closeAdmin() error {
	if d.admin == nil {
		return nil
	}
	return d.admin.Close()
}

// snapshot is what there are metrics of, now.
func (d *Daemon) snapshot() metrics.Snapshot {
	s, p, now := d.Stats(), d.Pipeline(), time.Now()
	m := metrics.Snapshot{
		Version: d.Version, Started: d.control.begun,
		Ready: p.Health.Ready(now), Causes: p.Health.Causes(),
		UDP: s.UDP, Streams: streams(&s), Slots: s.Slots, Frontend: s.Frontend, Exemplars: p.Frontend.Exemplars(), Discovery: s.Discovery, Shared: s.Shared, WarmStart: metrics.WarmStart(s.WarmStart),
		Answers: s.Answers, Memory: s.Memory, MemoryLimit: int64(p.Config.Cache.RRsetsSize),
		Resolver: s.Resolver, Upstream: s.Upstream, Dnstap: s.Dnstap,
		Webs:  []metrics.Web{metrics.NewWeb(wire.DoH, &s.DoH.WebCounts), metrics.NewWeb(wire.DoH3, &s.DoH3.WebCounts)},
		HTTP2: s.DoH.HTTP2, Conns: s.TLS.Connections, Certificates: s.TLS.Certificates,
		QUICs: []metrics.QUIC{
			{Proto: wire.DoQ, QUICStats: s.DoQ.QUICStats, Streams: &metrics.QUICStreams{ProtocolErrors: s.DoQ.ProtocolErrors, Cancelled: s.DoQ.Cancelled, TooSlow: s.DoQ.TooSlow, Untaken: s.DoQ.Untaken}},
			{Proto: wire.DoH3, QUICStats: s.DoH3.QUICStats},
		},
	}
	if p.Spans != nil {
		traces := p.Spans.Stats()
		m.Traces = &traces
	}
	if p.LocalRoot != nil {
		m.LocalRoot = &s.LocalRoot
	}
	if p.Anchors != nil {
		m.Anchors = d.trusted(p)
	}
	return m
}

// trusted sums up what p trusts.
func (d *Daemon) trusted(p *Pipeline) *metrics.Anchors {
	a := &metrics.Anchors{
		Root: len(p.Anchors.Tags(wire.Root)), Negatives: len(p.Anchors.Negatives()),
		States: map[string]int{"addpend": 0, "valid": 0, "missing": 0, "revoked": 0, "removed": 0},
	}
	for _, zone := range p.Anchors.Zones() {
		a.Zones++
		if len(p.Anchors.Tags(zone)) == 0 {
			a.Untrusted++
		}
		state, _ := p.Anchors.State(zone)
		for _, k := range state.Keys {
			a.States[k.State.String()]++
		}
	}
	return a
}

// askAgain is how often the root is asked whether it is there, if nothing else
// was answered.
const askAgain = 15 * time.Second

// rootWatch finds out whether the root can be asked. Its value is how long it may
// be out of reach before the server is not ready.
type rootWatch time.Duration

// follow watches until ctx ends. What name servers have answered so far comes
// from answers: while that grows there is no need to ask.
func (w rootWatch) follow(ctx context.Context, inForce func() *Pipeline, answers func() uint64) {
	defer inForce().Health.End(health.NoRoot)
	tick := time.NewTicker(askAgain)
	defer tick.Stop()
	for heard := uint64(0); ; {
		if n := answers(); n != heard {
			heard = n
			inForce().Health.End(health.NoRoot)
		} else {
			w.ask(ctx, inForce())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// ask asks the root, and draws the conclusion.
func (w rootWatch) ask(ctx context.Context, p *Pipeline) {
	begun := time.Now()
	within, cancel := context.WithTimeout(ctx, p.Config.Resolver.Timeout)
	defer cancel()
	q := wire.Question{Name: wire.Root, Type: wire.TypeNS}
	_, err := p.Resolver.Resolve(within, resolver.Query{Question: q, CD: true, Until: p.Clock.Now().Add(afresh)})
	switch {
	case err == nil:
		p.Health.End(health.NoRoot)
	case ctx.Err() == nil: // not the server's end
		p.Health.Begin(health.NoRoot, err.Error(), time.Duration(w), begun)
	}
}

// streams returns what is counted of the transports on connections. What HTTP and
// QUIC count of these is not what TCP does, so it is the queries alone.
func streams(s *Stats) []metrics.Stream {
	return []metrics.Stream{
		{Proto: wire.TCP, TCPStats: s.TCP},
		{Proto: wire.DoT, TCPStats: s.DoT},
		{Proto: wire.DoH, TCPStats: transport.TCPStats{Counts: s.DoH.Counts, AcceptErrors: s.DoH.AcceptErrors}},
		{Proto: wire.DoH3, TCPStats: transport.TCPStats{Counts: s.DoH3.Counts}},
		{Proto: wire.DoQ, TCPStats: transport.TCPStats{Counts: s.DoQ.Counts}},
	}
}
