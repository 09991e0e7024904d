// Package daemon is where the parts of the server meet: it builds them from a
// configuration, starts and stops them. Nothing else knows all of them.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"time"

	"shirube/internal/config"
	"shirube/internal/netx"
	"shirube/transport"
	"shirube/transport/upstream"
)

// Daemon is a whole server.
type Daemon struct {
	*Pipeline

	Version string         // told to who asks at the control socket
	Level   *slog.LevelVar // of the log, to be changed there; nil: it cannot be

	cfg      config.Config
	log      *slog.Logger
	upstream *upstream.Client
	slots    *transport.Slots
	udp      *transport.UDP
	tcp      *transport.TCP
	control  controller

	toldShort  map[string]bool // the UDP buffers that a warning was given for
	background sync.WaitGroup
	cancel     context.CancelFunc
	started    chan struct{} // closed when udp and tcp are there
}

// New builds a server from cfg. It reads the files that cfg names, binds
// nothing and starts nothing.
func New(cfg config.Config, log *slog.Logger) (*Daemon, error) {
	up, err := upstream.New(upstream.Options{
		EDNSSize:          int(cfg.Resolver.EDNSSize),
		CaseRandomisation: cfg.Resolver.UseCapsForID,
		Cookies:           cfg.Resolver.UpstreamCookies,
		TCPOnMismatch:     true,
		Log:               log,
	})
	if err != nil {
		return nil, err
	}
	p, err := NewPipeline(cfg, up, log)
	if err != nil {
		return nil, err
	}
	return &Daemon{
		Pipeline: p, cfg: cfg, log: log, upstream: up,
		slots:   transport.NewSlots(cfg.Limits.InFlight, portion(cfg.Limits.InFlightPerNetwork, cfg.Limits.InFlight)),
		started: make(chan struct{}),
	}, nil
}

// Close ends what New built, of a server that was not started.
func (d *Daemon) Close() {
	d.Frontend.Close()
	d.upstream.Close()
}

// Run serves until ctx ends, then drains. Its error is that of starting or of
// stopping; that queries had to be abandoned when the drain's time was up is
// none, but is logged.
func (d *Daemon) Run(ctx context.Context) error {
	if err := d.Start(); err != nil {
		return err
	}
	<-ctx.Done()
	d.log.Info("stopping", "drain_timeout", d.cfg.Limits.DrainTimeout)
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.cfg.Limits.DrainTimeout)
	defer cancel()
	inFlight := d.slots.Stats().InUse
	err := d.Shutdown(drain)
	if errors.Is(err, context.DeadlineExceeded) {
		if inFlight > 0 {
			d.log.Warn("the drain's time was up: queries were abandoned", "in_flight_at_its_start", inFlight)
		}
		err = nil
	}
	d.LogStats()
	return err
}

// Start binds every listener and begins to serve. After an error nothing is
// bound.
func (d *Daemon) Start() error {
	begun := time.Now()
	checkDescriptors(d.log, d.descriptorsNeeded())
	d.limitMemory()
	ctx, cancel := context.WithCancel(context.Background())
	d.cancel = cancel
	b, err := d.bind(ctx)
	// Also of what was bound before an error, so that Shutdown closes it.
	d.udp = transport.NewUDP(d.udpOptions(), b.udp...)
	d.tcp = transport.NewTCP(d.tcpOptions(), b.tcp...)
	if err == nil {
		err = d.control.open(ctx, d)
	}
	if err != nil {
		return errors.Join(err, d.Shutdown(ctx))
	}
	d.control.where, d.control.begun = b.where, begun
	d.udp.Start(ctx)
	d.tcp.Start(ctx)
	close(d.started)
	d.control.start(d.log)
	d.log.Info("ready", "listen", b.where, "took", time.Since(begun).Round(time.Microsecond))
	if d.LocalRoot != nil {
		// Owner: d. End: Shutdown. Bound: one.
		d.background.Go(func() { d.LocalRoot.Run(ctx) })
	}
	if d.Tracker != nil {
		// Owner: d. End: Shutdown. Bound: one.
		d.background.Go(func() { d.Tracker.Run(ctx) })
	}
	if d.cfg.Cookies.Enabled && d.cfg.Cookies.SecretFile != "" {
		// Owner: d. End: Shutdown. Bound: one.
		d.background.Go(func() { followSecrets(ctx, d.Cookies, d.cfg.Cookies.SecretFile, d.log) })
	}
	if d.cfg.Resolver.PrimeRoot {
		// Owner: d. End: the priming's, at the latest by its timeout or
		// Shutdown. Bound: one.
		d.background.Go(func() { d.prime(ctx) })
	}
	return nil
}

// bound is what a server listens on.
type bound struct {
	udp   []*net.UDPConn
	tcp   []net.Listener
	where []string // for the log
}

// bind binds every configured listener. With an error it returns what it had
// bound so far.
func (d *Daemon) bind(ctx context.Context) (b bound, err error) {
	for _, l := range d.cfg.Listen {
		for _, proto := range l.Protocols {
			switch proto {
			case config.ProtocolUDP:
				conns, err := netx.ListenUDP(ctx, l.Address, d.readers())
				b.udp = append(b.udp, conns...)
				if err == nil {
					err = d.tune(conns)
				}
				if err != nil {
					return b, err
				}
			case config.ProtocolTCP:
				ln, err := netx.ListenTCP(ctx, l.Address)
				if err != nil {
					return b, err
				}
				b.tcp = append(b.tcp, ln)
			}
			b.where = append(b.where, fmt.Sprintf("%s/%s", l.Address, proto))
		}
	}
	return b, nil
}

// prime saves the first client the wait for the root.
func (d *Daemon) prime(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Resolver.Timeout)
	defer cancel()
	if err := d.Resolver.Prime(ctx); err != nil && ctx.Err() == nil {
		d.log.Warn("cannot ask the root for its servers; going on with the hints", "error", err)
	}
}

// readers returns how many sockets each UDP address gets.
func (d *Daemon) readers() int {
	if n := d.cfg.Limits.UDPReaders; n > 0 {
		return n
	}
	return runtime.GOMAXPROCS(0)
}

// answerGrace is what a client's query may outlive its resolution by: long
// enough to be told that it failed.
const answerGrace = time.Second

func (d *Daemon) udpOptions() transport.UDPOptions {
	l := d.cfg.Limits
	return transport.UDPOptions{
		Handler:        d.Frontend,
		Slots:          d.slots,
		Log:            d.log,
		MaxSize:        int(l.UDPSize),
		Timeout:        d.cfg.Resolver.Timeout + answerGrace,
		DiscardTimeout: l.UDPDiscardTimeout,
		Batch:          d.cfg.UDP.Batch,
		Loop:           loops[d.cfg.UDP.Loop],
	}
}

func (d *Daemon) tcpOptions() transport.TCPOptions {
	l := d.cfg.Limits
	return transport.TCPOptions{
		Handler:           d.Frontend,
		Slots:             d.slots,
		Log:               d.log,
		Timeout:           d.cfg.Resolver.Timeout + answerGrace,
		UDPSize:           int(l.UDPSize),
		MaxConns:          l.TCPConnections,
		MaxConnsPerClient: l.TCPConnectionsPerClient,
		MaxInFlight:       l.TCPInFlight,
		FirstByteTimeout:  l.TCPFirstByteTimeout,
		MessageTimeout:    l.TCPMessageTimeout,
		IdleTimeout:       l.TCPIdleTimeout,
	}
}

// Shutdown stops accepting queries, lets those in flight finish until ctx
// ends, and ends everything that Start began.
func (d *Daemon) Shutdown(ctx context.Context) error {
	defer context.AfterFunc(ctx, d.Frontend.Abandon)() // what is still in flight then
	d.control.stopping.Store(true)
	var udp, tcp error
	var wg sync.WaitGroup
	wg.Go(func() { udp = d.udp.Shutdown(ctx) }) // one each, end with ctx
	wg.Go(func() { tcp = d.tcp.Shutdown(ctx) })
	wg.Wait()
	closed := d.control.close() // not earlier: one may want to see how it stops
	d.cancel()
	d.Frontend.Close()
	d.background.Wait()
	d.upstream.Close()
	return errors.Join(udp, tcp, closed)
}
