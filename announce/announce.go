// Package announce has the addresses of a resolver follow its health: an address
// is announced to routers while the resolver answers on it, over each transport
// that clients use, and says that it is ready. What is decided here, some [Driver]
// makes routes of.
//
// It is for a process of its own: when the resolver crashes or hangs, somebody has
// to be left who takes its address away, and when this process ends its BGP
// sessions do, and the routes with them.
package announce

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Transport is how a resolver is asked: one of the words below.
type Transport string

// The transports.
const (
	UDP  Transport = "udp"
	TCP  Transport = "tcp"
	DoT  Transport = "dot"
	DoH  Transport = "doh"
	DoH3 Transport = "doh3"
	DoQ  Transport = "doq"
)

// Target is one place where a resolver is asked.
type Target struct {
	Transport Transport
	At        netip.AddrPort
}

// VIP is an address that several resolvers have.
type VIP struct {
	Addr     netip.Addr
	Prefixes []netip.Prefix // what is announced for it
	Targets  []Target       // all have to answer; canaries are asked of the first one
}

// Exchange sends query over a transport on a connection of its own, and returns the
// response.
type Exchange func(ctx context.Context, to Target, query []byte) ([]byte, error)

// Options configures an [Announcer].
type Options struct {
	VIPs     []VIP
	Probes   Probes
	Fleet    Fleet
	Drain    Drain
	Exchange Exchange
	// Ready asks the resolver whether it is ready; nil: nobody does.
	Ready func(ctx context.Context) (Readiness, error)
	// Beat is called after each round of questions, to show that there are any; nil:
	// nobody wants to know.
	Beat func()
	Log  *slog.Logger // nil: nowhere
}

// Probes is what is asked, and what follows.
type Probes struct {
	Interval time.Duration // between two rounds of questions
	Timeout  time.Duration // for an answer; at most Interval
	Rise     int           // successes in a row that make an address well
	Fall     int           // failures in a row that make it ill
	Name     string        // asked for with type A
	Canaries []string      // names of others, that show whether the Internet can be asked
	Needed   int           // so many of them have to be answered
}

// Fleet is who else has the addresses.
type Fleet struct {
	Members []Target // nil: nothing is known of others
	Needed  int      // so many of an address's family have to be well before it is withdrawn here
	Name    string   // that they are asked for; "": that of Probes
	Keep    bool     // without Members: an address stays when only the Internet cannot be asked
}

// Drain is how an announcement ends that is wanted to.
type Drain struct {
	Graceful    time.Duration // with the community GRACEFUL_SHUTDOWN, before it is withdrawn
	Settle      time.Duration // from the last withdrawal to the end of the sessions
	DisableFile string        // while it exists, nothing is announced; "": none
}

// How is how a prefix is announced.
type How uint8

// The ways.
const (
	Withdrawn  How = iota // not at all
	Draining              // with the community GRACEFUL_SHUTDOWN (RFC 8326)
	LastResort            // so that any other announcer is preferred
	Announced
)

// String returns the word for h in logs and metrics.
func (h How) String() string {
	return [...]string{"withdrawn", "draining", "last_resort", "announced"}[h]
}

// GracefulShutdown is the community GRACEFUL_SHUTDOWN, 65535:0 (RFC 8326 §3).
const GracefulShutdown uint32 = 65535 << 16

// Attributes are what routes say of themselves.
type Attributes struct {
	MED, LastResortMED    uint32
	Communities           []uint32 // of all routes
	LastResortCommunities []uint32 // besides, of [LastResort]
}

// Of returns what a route says that is announced as how.
func (a *Attributes) Of(how How) (med uint32, communities []uint32) {
	communities = slices.Clone(a.Communities)
	switch how {
	case LastResort:
		return a.LastResortMED, append(communities, a.LastResortCommunities...)
	case Draining:
		return a.MED, append(communities, GracefulShutdown)
	}
	return a.MED, communities
}

// Route is a prefix and how it is to be announced.
type Route struct {
	Prefix netip.Prefix
	How    How
}

// Driver makes routes.
type Driver interface {
	// Apply has exactly these routes announced as they say. It is called each round,
	// and does nothing if nothing has changed.
	Apply(ctx context.Context, routes []Route) error
	// Peers returns the sessions by which routes go out, if it has any.
	Peers() []Peer
	// Close ends what the driver began. Nothing is applied any more.
	Close() error
}

// Peer is a router that is announced to.
type Peer struct {
	Address     string `json:"address"`
	Established bool   `json:"established"`
	Changes     uint64 `json:"changes"` // of Established
}

// applyTime is how long a driver may take to change routes.
const applyTime = 5 * time.Second

// Announcer asks, decides, and has a [Driver] announce.
type Announcer struct {
	opt    Options
	driver Driver
	probe  prober

	// Of the goroutine in Run.
	vips    []*vip
	members []*member
	ready   check
	last    Readiness // what the resolver said last
	ending  bool
	failed  bool // the driver, the last time

	mu    sync.Mutex
	stats Stats
}

// New checks opt and returns an Announcer. It starts nothing.
func New(opt Options, driver Driver) (*Announcer, error) {
	p := &opt.Probes
	switch {
	case len(opt.VIPs) == 0:
		return nil, errors.New("announce: no addresses")
	case opt.Exchange == nil || driver == nil:
		return nil, errors.New("announce: no Exchange or no Driver")
	case p.Interval <= 0 || p.Timeout <= 0 || p.Timeout > p.Interval || p.Rise < 1 || p.Fall < 1:
		return nil, fmt.Errorf("announce: %v within %v, rise %d, fall %d: expected a timeout within the interval, and counts", p.Timeout, p.Interval, p.Rise, p.Fall)
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	a := &Announcer{opt: opt, driver: driver, probe: prober{opt.Exchange, p.Timeout}}
	for i := range opt.VIPs {
		v := &opt.VIPs[i]
		if len(v.Targets) == 0 {
			return nil, fmt.Errorf("announce: %s is asked over no transport", v.Addr)
		}
		a.vips = append(a.vips, &vip{conf: v, transports: make([]check, len(v.Targets)), probes: make([]ProbeStats, len(v.Targets))})
	}
	for i := range opt.Fleet.Members {
		a.members = append(a.members, &member{target: opt.Fleet.Members[i]})
	}
	a.note()
	return a, nil
}

// vip is an address and what is known of it.
type vip struct {
	conf       *VIP
	transports []check // of conf.Targets
	probes     []ProbeStats
	canaries   check

	reason  Reason
	how     How
	changes uint64
	leaving time.Time // since when it is to go; zero: it is not
	left    bool      // it went because it was wanted to: only health brings it back
}

// member is another resolver of the fleet.
type member struct {
	target Target
	check  check
	last   bool // its last answer was good
}

// Run asks and announces until ctx ends. Then it drains: routes are announced with
// GRACEFUL_SHUTDOWN, withdrawn, and the driver closed. The end of hasten ends what
// it waits for.
func (a *Announcer) Run(ctx, hasten context.Context) error {
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return a.leave(hasten)
		case <-next.C:
		}
		began := time.Now()
		a.round(ctx)
		if ctx.Err() != nil { // what was cut short says nothing
			continue
		}
		a.plan(ctx, time.Now())
		if a.opt.Beat != nil {
			a.opt.Beat()
		}
		next.Reset(max(0, time.Until(began.Add(a.opt.Probes.Interval))))
	}
}

// plan decides how each address is announced, and has the driver do it.
func (a *Announcer) plan(ctx context.Context, now time.Time) {
	for _, v := range a.vips {
		a.decide(v, now)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), applyTime)
	defer cancel()
	err := a.driver.Apply(ctx, a.routes())
	switch {
	case err != nil && !a.failed:
		a.opt.Log.Error("cannot change routes; it is tried again each round", "err", err)
	case err == nil && a.failed:
		a.opt.Log.Info("routes can be changed again")
	}
	a.failed = err != nil
	if a.failed {
		a.mu.Lock()
		a.stats.DriverErrors++
		a.mu.Unlock()
	}
	a.note()
}

// routes returns all prefixes. One of several addresses is announced as the best
// of them is.
func (a *Announcer) routes() []Route {
	var list []Route
	for _, v := range a.vips {
		for _, p := range v.conf.Prefixes {
			i := slices.IndexFunc(list, func(r Route) bool { return r.Prefix == p })
			if i < 0 {
				list = append(list, Route{p, v.how})
				continue
			}
			list[i].How = max(list[i].How, v.how)
		}
	}
	return list
}

// leave takes all routes away, gently.
func (a *Announcer) leave(hasten context.Context) error {
	a.ending = true
	ctx, anything := context.WithoutCancel(hasten), a.anything()
	a.plan(ctx, time.Now())
	if a.anything() {
		wait(hasten, a.opt.Drain.Graceful)
		for _, v := range a.vips {
			a.set(v, Withdrawn)
		}
		a.withdraw(ctx)
	}
	if anything {
		wait(hasten, a.opt.Drain.Settle)
	}
	return a.driver.Close()
}

// withdraw has the driver take away what has been decided to be.
func (a *Announcer) withdraw(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, applyTime)
	defer cancel()
	if err := a.driver.Apply(ctx, a.routes()); err != nil {
		a.opt.Log.Error("cannot withdraw routes", "err", err)
	}
	a.note()
}

// anything reports whether an address is announced.
func (a *Announcer) anything() bool {
	return slices.ContainsFunc(a.vips, func(v *vip) bool { return v.how != Withdrawn })
}

// wait waits for d, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
