// Package daemon is where the parts of the server meet: it builds them from a
// configuration, starts and stops them. Nothing else knows all of them.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"shirube/dnstap"
	"shirube/internal/admin"
	"shirube/internal/config"
	"shirube/internal/netx"
	"shirube/internal/systemd"
	"shirube/transport"
	"shirube/transport/upstream"
)

// Daemon is a whole server.
type Daemon struct {
	Version string         // told to who asks at the control socket
	Level   *slog.LevelVar // of the log, to be changed there; nil: it cannot be

	// Load reads the configuration anew, for [Daemon.Reload]; nil: there is
	// nothing to be read.
	Load func() (config.Config, error)

	// Successor returns the command of a process that is to take over from this one
	// ([Daemon.TakeOver]); nil: there is none.
	Successor func() (*exec.Cmd, error)

	log      *slog.Logger
	current  *inForce
	tap      *dnstap.Tap
	tapped   atomic.Pointer[tapped] // nil: nobody looks for who asks most
	upstream *upstream.Client
	slots    *transport.Slots
	udp      *transport.UDP
	tcp      *transport.TCP
	secure   secure
	control  controller
	admin    *admin.Server // nil: there is none
	life     life
	warmed   warmed
	manager  *systemd.Notifier // nil: there is none
	watchdog time.Duration     // within which manager wants to hear that the server is alive; 0: never
	passed   *netx.Passed      // sockets that it, or the process before, has handed on, until Start
	next     succession

	reloading  sync.Mutex // held by who changes what is in force, and what is below
	listening  []listening
	tasks      tasks
	toldShort  map[string]bool // the UDP buffers that a warning was given for
	sweeps     chan sweep
	background sync.WaitGroup
	ctx        context.Context // of all that Start began
	cancel     context.CancelFunc
	started    chan struct{} // closed when the server serves
}

// New builds a server from cfg. It reads the files that cfg names, binds
// nothing and starts nothing.
func New(cfg config.Config, log *slog.Logger) (*Daemon, error) {
	top := nextTapped(&cfg.Dnstap.Top, nil)
	tap, err := newTap(&cfg, top, log)
	if err != nil {
		return nil, err
	}
	opt := upstreamOptions(cfg.Resolver, log)
	opt.Tap = tap
	up, err := upstream.New(opt)
	if err != nil {
		return nil, err
	}
	p, err := NewPipeline(cfg, up, log)
	if err != nil {
		return nil, err
	}
	d := &Daemon{
		log: log, current: p.current, upstream: up, tap: tap,
		slots:   transport.NewSlots(cfg.Limits.InFlight, portion(cfg.Limits.InFlightPerNetwork, cfg.Limits.InFlight)),
		sweeps:  make(chan sweep, maxSweeps),
		started: make(chan struct{}),
	}
	d.tapped.Store(top)
	d.udp, d.tcp = transport.NewUDP(d.udpOptions(&cfg)), transport.NewTCP(d.tcpOptions(&cfg))
	d.ctx, d.cancel = context.WithCancel(context.Background())
	if err := d.newSecure(&cfg); err != nil {
		d.Close()
		return nil, err
	}
	d.next.superseded = make(chan struct{})
	d.life.hastens = [2]chan struct{}{make(chan struct{}), make(chan struct{})}
	d.tellHealth(Starting)
	d.OnState(d.tellHealth)
	return d, nil
}

// Check reads the files that cfg names, as a server does that is started with it, and
// returns what it could not start with. It binds nothing, starts nothing and leaves
// nothing behind.
func Check(cfg config.Config, log *slog.Logger) error {
	cfg.Cache.AnswersSize = leastAnswers // there may be a server with all that memory
	d, err := New(cfg, log)
	if err != nil {
		return err
	}
	defer d.Close()
	if _, err := groupID(cfg.Control.Group); err != nil {
		return fmt.Errorf("control.group: %w", err)
	}
	if _, err := groupID(cfg.DoH.Group); err != nil {
		return fmt.Errorf("doh.group: %w", err)
	}
	opt, err := d.adminOptions(cfg.Admin)
	if opt == nil || err != nil {
		return err
	}
	s, err := admin.New(*opt)
	if err != nil {
		return err
	}
	return s.Close()
}

// Pipeline returns what queries go through now. A reload puts another one in its
// place.
func (d *Daemon) Pipeline() *Pipeline { return d.current.Load() }

// cfg returns the configuration in force, which is not to be changed.
func (d *Daemon) cfg() *config.Config { return &d.Pipeline().Config }

// Close ends what New built, of a server that was not started.
func (d *Daemon) Close() {
	d.Pipeline().Close()
	d.upstream.Close()
	d.cancel()
}

// Run serves until ctx ends, or another process has taken over. Then it drains, for
// drain.delay, unless another serves, stops accepting, lets the queries in flight
// finish, and returns. Its error is that of starting or of
// stopping; that queries had to be abandoned when the time was up is none, but is
// logged.
func (d *Daemon) Run(ctx context.Context) error {
	if err := d.Start(); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		d.awaitDrain()
	case <-d.next.superseded: // clients are served by another process
	}
	timeout := d.cfg().Limits.DrainTimeout
	d.log.Info("stopping", "drain_timeout", timeout)
	finish, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), timeout, errTooLate)
	defer cancel()
	// Owner: Run. End: Run's. Bound: one.
	go func() {
		select {
		case <-d.life.hastens[1]:
			cancel()
		case <-finish.Done():
		}
	}()
	inFlight := d.slots.Stats().InUse
	err := d.Shutdown(finish)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		if inFlight > 0 {
			d.log.Warn("queries were abandoned", "in_flight_at_its_start", inFlight, "why", context.Cause(finish))
		}
		err = nil
	}
	d.LogStats()
	return err
}

// errTooLate says why queries are abandoned at the end.
var errTooLate = errors.New("the time to finish them was up")

// Start binds every listener and begins to serve. After an error nothing is
// bound.
func (d *Daemon) Start() error {
	begun := time.Now()
	d.reloading.Lock()
	defer d.reloading.Unlock()
	p := d.Pipeline()
	need := descriptorsNeeded(&p.Config)
	checkDescriptors(d.log, need)
	makeRoom(need)
	d.limitMemory()
	d.dropPassed(&p.Config)
	opened, err := d.open(d.ctx, &p.Config, nil)
	if err == nil && d.next.heir == nil {
		err = d.openLocal(&p.Config)
	}
	if err == nil {
		err = d.mayServe()
	}
	if err != nil {
		d.renounce()
		opened.close()
		return errors.Join(err, d.shutdown(d.ctx))
	}
	d.control.begun = begun
	d.startTap()
	p.Spans.Start(d.Version)
	for _, t := range d.transports() {
		t.Start(d.ctx)
	}
	if p.Shared != nil {
		p.Shared.Heed()
	}
	d.beginWarmStart(p)
	d.listen(opened)
	d.tasks.follow(d.ctx, d.wanted(p))
	d.passed.Drop(nil)
	d.passed = nil
	close(d.started)
	d.become(Ready, Starting)
	d.succeed()
	d.control.start(d.log)
	d.startAdmin()
	d.log.Info("ready", "listen", d.where(), "took", time.Since(begun).Round(time.Microsecond))
	if p.Config.Resolver.PrimeRoot {
		// Owner: d. End: the priming's, at the latest by its timeout or
		// Shutdown. Bound: one.
		d.background.Go(func() { d.prime(d.ctx) })
	}
	return nil
}

// wanted lists what is done in the background for p.
func (d *Daemon) wanted(p *Pipeline) []task {
	list := []task{{key: "sweep", run: d.sweep}}
	if d.watchdog > 0 {
		list = append(list, task{key: "watchdog", run: d.watch})
	}
	if len(p.Config.TLS.Certificates) > 0 {
		list = append(list, task{key: d.secure.certs, run: d.secure.certs.Run})
	}
	if p.LocalRoot != nil {
		list = append(list, task{key: p.LocalRoot, run: p.LocalRoot.Run})
	}
	if p.Tracker != nil {
		list = append(list, task{key: p.Tracker, run: p.Tracker.Run})
	}
	if file := p.Config.Cookies.SecretFile; p.Cookies != nil && file != "" {
		list = append(list, task{key: p.Cookies, run: func(ctx context.Context) { cookieSecrets(file, p.Cookies).follow(ctx, d.log) }})
	}
	if grace := p.Config.Health.RootGrace; grace > 0 {
		w := rootWatch(grace)
		list = append(list, task{key: w, run: func(ctx context.Context) { w.follow(ctx, d.Pipeline, d.upstream.Answers) }})
	}
	return append(list, sharedTasks(p, d.log)...)
}

// prime saves the first client the wait for the root.
func (d *Daemon) prime(ctx context.Context) {
	p := d.Pipeline()
	ctx, cancel := context.WithTimeout(ctx, p.Config.Resolver.Timeout)
	defer cancel()
	if err := p.Resolver.Prime(ctx); err != nil && ctx.Err() == nil {
		d.log.Warn("cannot ask the root for its servers; going on with the hints", "error", err)
	}
}

// answerGrace is what a client's query may outlive its resolution by: long
// enough to be told that it failed.
const answerGrace = time.Second

func (d *Daemon) udpOptions(cfg *config.Config) transport.UDPOptions {
	l := cfg.Limits
	return transport.UDPOptions{
		Handler:        d.current,
		Slots:          d.slots,
		Tap:            d.tap,
		Log:            d.log,
		MaxSize:        int(l.UDPSize),
		Timeout:        cfg.Resolver.Timeout + answerGrace,
		DiscardTimeout: l.UDPDiscardTimeout,
		Batch:          cfg.UDP.Batch,
		GiveWay:        cfg.UDP.GiveWay,
		Loop:           loops[cfg.UDP.Loop],
	}
}

func (d *Daemon) tcpOptions(cfg *config.Config) transport.TCPOptions {
	l := cfg.Limits
	return transport.TCPOptions{
		Handler:           d.current,
		Slots:             d.slots,
		Tap:               d.tap,
		Log:               d.log,
		Timeout:           cfg.Resolver.Timeout + answerGrace,
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
	d.reloading.Lock() // what a reload has begun it ends
	d.become(Stopping, Starting, Ready, Draining)
	d.reloading.Unlock()
	return d.shutdown(ctx)
}

// shutdown is Shutdown where no reload is under way, and none will be.
func (d *Daemon) shutdown(ctx context.Context) error {
	front := d.Pipeline().Frontend
	defer context.AfterFunc(ctx, front.Abandon)() // what is still in flight then
	errs := make([]error, len(d.transports()))
	var wg sync.WaitGroup
	for i, t := range d.transports() {
		wg.Go(func() { errs[i] = t.Shutdown(ctx) }) // one each, end with ctx
	}
	wg.Wait()
	closed := errors.Join(d.control.close(), d.closeAdmin()) // not earlier: one may want to see how it stops
	d.cancel()
	d.Pipeline().Close()
	d.tasks.follow(d.ctx, nil)
	d.background.Wait()
	d.upstream.Close()
	d.closeTracing(ctx, d.Pipeline().Spans)
	d.closeTap(ctx) // the last: now nobody has anything to tell
	return errors.Join(append(errs, closed)...)
}
