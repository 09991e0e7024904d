package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"shirube/cache"
	"shirube/cache/shared"
	"shirube/discovery"
	"shirube/internal/config"
	"shirube/internal/control"
	"shirube/internal/frontend"
	"shirube/internal/rrset"
	"shirube/internal/wire"
	"shirube/resolver"
	"shirube/resolver/anchor"
	"shirube/transport"
)

// controller is the control socket of a Daemon, if it has one.
type controller struct {
	server *control.Server            // nil: there is none
	where  atomic.Pointer[[]endpoint] // that clients are listened to
	begun  time.Time
}

// setWhere says where clients are listened to.
func (c *controller) setWhere(list []listening) {
	where := make([]endpoint, 0, len(list))
	for _, l := range list {
		where = append(where, l.endpoint)
	}
	c.where.Store(&where)
}

// where returns where clients are listened to.
func (d *Daemon) where() []endpoint {
	if list := d.control.where.Load(); list != nil {
		return *list
	}
	return nil
}

// controlSocket is the name of the socket in the directory that systemd gives.
const controlSocket = "control.sock"

// controlPath returns where the socket is to be; "": there is to be none.
func controlPath(cfg config.Control) string {
	return socketPath(cfg.Enabled, cfg.Socket, controlSocket)
}

// socketPath returns where a socket is to be: where it is configured, or by its
// name in the directory that systemd gives; "": there is to be none.
func socketPath(enabled bool, configured, name string) string {
	switch {
	case !enabled:
		return ""
	case configured != "":
		return configured
	}
	// systemd.exec(5), RuntimeDirectory=
	if list := filepath.SplitList(os.Getenv("RUNTIME_DIRECTORY")); len(list) > 0 && list[0] != "" {
		return filepath.Join(list[0], name)
	}
	return ""
}

// open opens the socket, if d is to have one.
func (c *controller) open(ctx context.Context, d *Daemon) error {
	path := controlPath(d.cfg().Control)
	if path == "" {
		return nil
	}
	gid, err := groupID(d.cfg().Control.Group)
	if err != nil {
		return fmt.Errorf("control.group: %w", err)
	}
	s, err := control.New(control.Options{Path: path, Group: gid, UID: os.Geteuid(), Backend: d.backend(), Log: d.log})
	if err != nil {
		return err
	}
	c.server = s
	return s.Listen(ctx)
}

// start begins to serve the socket.
func (c *controller) start(log *slog.Logger) {
	if c.server != nil {
		c.server.Start()
		log.Info("control socket", "path", c.server.Path())
	}
}

// close ends what open and start began.
func (c *controller) close() error {
	if c.server == nil {
		return nil
	}
	return c.server.Close()
}

// retire ends the service for another process to take the socket's place.
func (c *controller) retire() error {
	if c.server == nil {
		return nil
	}
	defer func() { c.server = nil }()
	return c.server.Retire()
}

// groupID returns the ID of the group that is named or numbered so; -1 for "".
func groupID(name string) (int, error) {
	if name == "" {
		return -1, nil
	}
	g, err := user.LookupGroup(name)
	if err != nil {
		id, nerr := strconv.ParseUint(name, 10, 31)
		if nerr != nil {
			return 0, err
		}
		return int(id), nil
	}
	return strconv.Atoi(g.Gid)
}

// backend returns what the control socket may do with d.
func (d *Daemon) backend() control.Backend {
	return control.Backend{
		Status:  d.status,
		Stats:   d.counters,
		Lookup:  d.lookup,
		Flights: d.flights,
		Trace:   d.trace,
		Flush:   d.order,
		Cache:   d.cacheLayers,
		Entry:   d.cacheEntry,
		Top:     d.popular,
		Reload: func(ctx context.Context) (control.Reloaded, error) {
			changed, err := d.Reload(ctx)
			return control.Reloaded{Changed: changed}, err
		},
		Drain:       d.Drain,
		HandOver:    d.handOver,
		Upgrade:     d.upgrade,
		LogLevel:    d.logLevel,
		SetLogLevel: d.setLogLevel,

		Validates:      func() bool { return d.Pipeline().Anchors != nil },
		Anchors:        d.anchors,
		Negatives:      d.negatives,
		AddNegative:    d.addNegative,
		RemoveNegative: d.removeNegative,
	}
}

// status is a snapshot of what d is and how it is doing.
func (d *Daemon) status() control.Status {
	s := control.Status{
		Version: d.Version, PID: os.Getpid(), State: d.State().String(),
		Started: d.control.begun, UptimeSeconds: int64(time.Since(d.control.begun) / time.Second),
		InFlight: d.slots.Stats().InUse, Caches: d.caches(), LogLevel: d.logLevel(), Listeners: []control.Listener{},
	}
	for _, e := range d.where() {
		s.Listeners = append(s.Listeners, control.Listener{Address: e.where(), Protocol: string(e.proto)})
	}
	p := d.Pipeline()
	s.Validation = control.Validation{
		Enabled: p.Anchors != nil, Permissive: p.Anchors != nil && p.Config.DNSSEC.Permissive,
		Anchors: d.anchors(), NegativeAnchors: d.negatives(),
	}
	if p.LocalRoot != nil {
		s.LocalRoot = &control.LocalRoot{Serial: p.LocalRoot.Stats().Serial}
	}
	return s
}

// counters is all that was counted.
func (d *Daemon) counters() map[string]any { return control.Counters(d.Stats(), counterWords()) }

// counterWords returns the names of counters that are counted in arrays.
func counterWords() map[string][]string {
	status := []string{"ok", "ignored", "malformed", "unsupported_opcode", "unsupported_version"} // wire.Status
	words := map[string][]string{
		"shared.rejected":           shared.Reasons(),
		"resolver.infra.failures":   {"timeout", "unreachable", "no_route", "malformed", "lame"}, // infra.Cause
		"resolver.infra.family_out": {"ipv4", "ipv6"},
	}
	for i := range transport.NumBatchSizes { // of 2^i datagrams or more, and fewer than twice as many
		words["udp.batches"] = append(words["udp.batches"], fmt.Sprintf("from_%d", 1<<i))
	}
	for i := range transport.NumSendErrors {
		words["udp.send_errors"] = append(words["udp.send_errors"], i.String())
	}
	for i := range transport.NumCloseReasons {
		words["tcp.closed"] = append(words["tcp.closed"], i.String())
	}
	words["dot.closed"] = words["tcp.closed"]
	for i := range transport.NumWebErrors {
		words["doh.errors"] = append(words["doh.errors"], i.String())
	}
	words["doh3.errors"] = words["doh.errors"]
	for i := range transport.NumHTTP2Ends {
		words["doh.http2.ends"] = append(words["doh.http2.ends"], i.String())
	}
	for _, t := range []string{"udp", "tcp", "dot", "doh", "doh3", "doq"} {
		words[t+".status"] = status
		for i := range transport.NumTypeClasses {
			words[t+".types"] = append(words[t+".types"], i.String())
		}
		for i := range transport.NumRcodeClasses {
			words[t+".rcodes"] = append(words[t+".rcodes"], i.String())
		}
	}
	for i := range frontend.NumReasons - 1 {
		words["frontend.reasons"] = append(words["frontend.reasons"], strconv.Itoa(i))
	}
	words["frontend.reasons"] = append(words["frontend.reasons"], "other")
	for proto := wire.DoT; proto < wire.NumProtos; proto++ {
		name := strings.ToLower(proto.String())
		words["discovery.omitted"] = append(words["discovery.omitted"], name)
		for reason := range discovery.NumReasons {
			words["discovery.omitted."+name] = append(words["discovery.omitted."+name], reason.String())
		}
	}
	return words
}

// caches says how full the memory is.
func (d *Daemon) caches() []control.Cache {
	sum := func(name string, limit int64, parts ...cache.StoreStats) control.Cache {
		c := control.Cache{Name: name, Limit: limit}
		for _, p := range parts {
			c.Entries += p.Entries
			c.Bytes += p.Bytes
			c.Evicted += p.Evicted
		}
		return c
	}
	p := d.Pipeline()
	a, m := p.Answers.Stats(), p.Memory.Stats()
	return []control.Cache{
		sum("answers", a.Limit, cache.StoreStats{Entries: a.Answers.Entries, Bytes: a.Answers.Bytes, Evicted: a.Answers.Evicted}, a.Failures),
		sum("rrsets", int64(p.Config.Cache.RRsetsSize), m.Sets, m.Cuts, m.Links, m.Denials.StoreStats),
	}
}

// lookup says what is known of the zone whose servers n would be asked of.
func (d *Daemon) lookup(n wire.Name) control.Lookup {
	l := d.Pipeline().Resolver.Lookup(n)
	out := control.Lookup{
		Name: n.String(), Zone: l.Zone.String(), Kind: l.Kind, Expires: moment(l.Until), DS: saidOfKeys(l.DS),
		Trust: trustOf(l.Link), Servers: []control.NameServer{},
	}
	if !l.DeadUntil.IsZero() {
		out.Dead = &control.Dead{Until: l.DeadUntil, Why: l.DeadWhy.Error()}
	}
	for _, s := range l.Servers {
		out.Servers = append(out.Servers, nameServer(s))
	}
	return out
}

// saidOfKeys returns what a DS set says of a zone's keys, as it came.
func saidOfKeys(ds *rrset.Set) string {
	switch {
	case ds == nil:
		return "unknown"
	case ds.Denial != nil:
		return "unsigned"
	}
	return "signed"
}

// trustOf translates a link of the chain of trust.
func trustOf(l *rrset.Link) *control.Trust {
	if l == nil {
		return nil
	}
	t := &control.Trust{Zone: l.Zone.String(), Trust: l.Trust.String(), Keys: []uint16{}, Until: l.Until}
	for _, k := range l.Keys {
		t.Keys = append(t.Keys, k.KeyTag())
	}
	if l.Err != nil {
		t.Why = l.Err.Error()
	}
	return t
}

// nameServer translates one address of a server.
func nameServer(s resolver.LookupServer) control.NameServer {
	var out control.NameServer
	if s.Host != "" {
		out.Host = s.Host.String()
	}
	if s.Addr.IsValid() {
		out.Address = s.Addr.String()
	}
	if k := s.Known; k != nil {
		out.Known = true
		out.SRTTMillis, out.RTTVarMillis = millis(k.SRTT), millis(k.RTTVar)
		out.TimeoutMillis, out.Silences = k.Timeout.Milliseconds(), k.Silences
		out.DeadUntil, out.LameUntil, out.LastHeard = moment(k.DeadUntil), moment(k.LameUntil), moment(k.Heard)
		out.NoEDNS, out.TCP = k.Bare, k.TCP
	}
	return out
}

// moment returns t as it is left out of a document when it is zero.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// maxListed is how many flights, and how many questions to servers, are listed.
const maxListed = 1000

// flights lists what is being resolved.
func (d *Daemon) flights() control.Flights {
	flights, all := d.Pipeline().Frontend.Flights(maxListed)
	out := control.Flights{Flights: []control.Flight{}, Asking: []control.Asking{}, Omitted: all - len(flights)}
	for _, f := range flights {
		out.Flights = append(out.Flights, control.Flight{
			Name: f.Question.Name.String(), Type: f.Question.Type.String(), CD: f.CD,
			AgeMillis: millis(time.Since(f.Begun)), Waiters: f.Waiters,
		})
	}
	for _, a := range d.Pipeline().Resolver.Asking(maxListed) {
		out.Asking = append(out.Asking, control.Asking{
			Zone: a.Zone.String(), Name: a.Question.Name.String(), Type: a.Question.Type.String(), Server: a.Server.String(),
		})
	}
	return out
}

// trace resolves q with all that is remembered, as a client's question that is
// not in the answer cache would be.
func (d *Daemon) trace(ctx context.Context, q wire.Question, tell func(any)) (control.TraceEnd, error) {
	p := d.Pipeline()
	ctx, cancel := context.WithTimeout(ctx, p.Config.Resolver.Timeout)
	defer cancel()
	ans, err := p.Resolver.Trace(ctx, resolver.Query{Question: q}, func(e resolver.Event) { tell(e) })
	if err != nil {
		return control.TraceEnd{}, fmt.Errorf("%v: %w", q, err)
	}
	return control.TraceEnd{
		Step: control.StepAnswer, Rcode: ans.Rcode.String(), Trust: ans.Trust.String(), Records: ans.Lines(p.Clock.Now()),
	}, nil
}

// flush forgets what is remembered of names: first what answers are made of,
// then the answers.
func (d *Daemon) flush(f control.Flush) control.Flushed { return d.Pipeline().flush(f) }

// flush forgets what f is about. What the fleet has shared of it so far is not
// taken any more by this server; it stays with the others.
func (p *Pipeline) flush(f control.Flush) control.Flushed {
	s := cache.Scope{Name: f.Name, Below: f.Below, Type: f.Type}
	if p.Shared != nil { // first: who asks meanwhile is not to bring it back
		p.Shared.Flush(shared.Flush{Name: f.Name, Below: f.Below, Type: f.Type, Until: p.Clock.Now()})
	}
	m := p.Memory.Flush(s)
	a := p.Answers.Flush(s)
	return control.Flushed{Answers: a.Answers, Failures: a.Failures, RRsets: m.Sets, Cuts: m.Cuts, Links: m.Links, Denials: m.Denials}
}

// anchors says what is trusted.
func (d *Daemon) anchors() []control.Anchor {
	out := []control.Anchor{}
	anchors := d.Pipeline().Anchors
	if anchors == nil {
		return out
	}
	for _, zone := range anchors.Zones() {
		state, ok := anchors.State(zone)
		if !ok {
			continue
		}
		a := control.Anchor{Zone: zone.String(), Trusted: []uint16{}, Configured: []string{}, Keys: []control.Key{}}
		a.Trusted = append(a.Trusted, anchors.Tags(zone)...)
		for _, rr := range state.Configured {
			a.Configured = append(a.Configured, rr.String())
		}
		for _, k := range state.Keys {
			a.Keys = append(a.Keys, control.Key{
				Tag: k.DNSKEY.KeyTag(), Algorithm: dns.AlgorithmToString[k.DNSKEY.Algorithm], State: k.State.String(),
				Since: k.Since, Until: moment(k.Until),
			})
		}
		out = append(out, a)
	}
	return out
}

// negatives lists the live negative trust anchors.
func (d *Daemon) negatives() []control.Negative {
	out := []control.Negative{}
	anchors := d.Pipeline().Anchors
	if anchors == nil {
		return out
	}
	for _, n := range anchors.Negatives() {
		out = append(out, negativeAnchor(n))
	}
	return out
}

func negativeAnchor(n anchor.Negative) control.Negative {
	return control.Negative{Name: n.Name.String(), Until: n.Until, Reason: n.Reason}
}

// errNotValidating says that no name can be excepted from validation.
var errNotValidating = errors.New("nothing is validated")

// addNegative adds a negative trust anchor, and has its names judged anew.
func (d *Daemon) addNegative(name wire.Name, lasts time.Duration, reason string) (control.Negative, error) {
	d.reloading.Lock() // or a reload under way could forget it
	defer d.reloading.Unlock()
	anchors := d.Pipeline().Anchors
	if anchors == nil { // since a moment ago
		return control.Negative{}, errNotValidating
	}
	n, err := anchors.AddNegative(name, lasts, reason)
	if err != nil {
		return control.Negative{}, err
	}
	d.judgeAnew(name, d.cfg().Resolver.Timeout)
	return negativeAnchor(n), nil
}

// removeNegative removes a negative trust anchor, and has its names judged anew.
func (d *Daemon) removeNegative(name wire.Name) bool {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	if anchors := d.Pipeline().Anchors; anchors == nil || !anchors.RemoveNegative(name) {
		return false
	}
	d.judgeAnew(name, d.cfg().Resolver.Timeout)
	return true
}

// sweep is what is to be forgotten once more, and when.
type sweep struct {
	name wire.Name
	at   time.Time
}

// maxSweeps is how many may wait; they do for about resolver.timeout each.
const maxSweeps = 1000

// judgeAnew forgets what was remembered at and below name, since it would not be
// found so any more: now, and again when the resolutions are over that began
// before, each of which takes no longer than longest.
func (d *Daemon) judgeAnew(name wire.Name, longest time.Duration) {
	all := control.Flush{Name: name, Below: true}
	d.flush(all)
	select {
	case d.sweeps <- sweep{name, time.Now().Add(longest)}:
	default:
		d.log.Warn("what was being resolved may be remembered as it was judged before: too many changes at once", "name", name.String())
	}
}

// sweep does what judgeAnew leaves for later, until ctx ends.
func (d *Daemon) sweep(ctx context.Context) {
	for {
		var s sweep
		select {
		case s = <-d.sweeps:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(time.Until(s.at)): // all wait for as long, so the next is not earlier
		case <-ctx.Done():
			return
		}
		d.flush(control.Flush{Name: s.name, Below: true})
	}
}

// logLevel returns the level of the log.
func (d *Daemon) logLevel() string {
	if d.Level == nil {
		return "unknown"
	}
	return strings.ToLower(d.Level.Level().String())
}

// setLogLevel changes the level of the log.
func (d *Daemon) setLogLevel(level string) error {
	if d.Level == nil {
		return errors.New("this server's log has no level that can be changed")
	}
	switch config.Level(level) {
	case config.LevelDebug, config.LevelInfo, config.LevelWarn, config.LevelError:
		var l slog.Level
		if err := l.UnmarshalText([]byte(level)); err != nil {
			return err
		}
		d.Level.Set(l)
		return nil
	}
	return fmt.Errorf("found %q; expected debug, info, warn or error", level)
}
