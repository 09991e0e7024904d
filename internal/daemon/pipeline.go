package daemon

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"shirube/cache"
	"shirube/cache/shared"
	"shirube/discovery"
	"shirube/internal/clock"
	"shirube/internal/config"
	"shirube/internal/exchange"
	"shirube/internal/frontend"
	"shirube/internal/health"
	"shirube/internal/otlp"
	"shirube/internal/rrset"
	"shirube/internal/wire"
	"shirube/policy"
	"shirube/resolver"
	"shirube/resolver/anchor"
	"shirube/resolver/localroot"
	"shirube/transport"
	"shirube/transport/upstream"
)

// Pipeline is the life of a query without its transports: what a server and
// every test and benchmark of the whole have in common. It is what follows from
// one configuration, a generation: a reload makes the next one, which shares with
// it what is to live on, and puts it in its place. Close the last one at the end.
type Pipeline struct {
	Config    config.Config
	Clock     *clock.Clock // that all the rest goes by; nil: the real time
	Answers   *cache.Answers
	Memory    *cache.Memory
	LocalRoot *localroot.Copy // nil: there is none; it has to be run to stay current
	Anchors   *anchor.Anchors // nil: nothing is validated
	Tracker   *anchor.Tracker // of Anchors; nil: there is none; it has to be run to follow roll-overs
	Cookies   *policy.Cookies // of clients; nil: none
	Health    *health.State   // whether clients are to be sent here
	Shared    *shared.Cache   // nil: nothing is shared; it has to be run to follow its servers
	Resolver  *resolver.Resolver
	Self      *discovery.Directory // what the server says of itself
	Frontend  *frontend.Frontend
	Spans     *otlp.Exporter // that Frontend tells of resolutions; nil: nobody is told; it has to be started

	log       *slog.Logger
	exchanger resolver.Exchanger
	current   *inForce // the pipeline that queries go to: this one, the one before or the next

	zones          *frontend.Zones // as the fleet knows them; nil: they are not shared
	found          *memory         // Memory, as Resolver has it
	anchorSettings []string        // what Anchors are made of
}

// inForce is the pipeline that queries go to. It is a [transport.Handler]: each
// query goes to the one that is in force when it comes, and stays there.
type inForce struct {
	atomic.Pointer[Pipeline]
	reach reach // what all of them are reached by
}

// TryServe implements [transport.Handler].
func (c *inForce) TryServe(buf []byte, q *wire.Query) ([]byte, transport.Outcome) {
	return c.Load().Frontend.TryServe(buf, q)
}

// Expect implements [transport.Expecter].
func (c *inForce) Expect(qs []*wire.Query) { c.Load().Frontend.Expect(qs) }

// Serve implements [transport.Handler].
func (c *inForce) Serve(ctx context.Context, buf []byte, q *wire.Query) []byte {
	return c.Load().Frontend.Serve(ctx, buf, q)
}

// Shed implements [transport.Handler].
func (c *inForce) Shed(buf []byte, q *wire.Query, why string) []byte {
	return c.Load().Frontend.Shed(buf, q, why)
}

// Reject implements [transport.Handler].
func (c *inForce) Reject(client netip.AddrPort, rcode wire.Rcode) (wire.Rcode, bool) {
	return c.Load().Frontend.Reject(client, rcode)
}

// takeOver has queries go to p from now on.
func (p *Pipeline) takeOver() {
	p.current.Store(p)
	p.Frontend.Supersede()
}

// NewPipeline builds a pipeline from cfg that asks servers through exchanger.
// It reads the files that cfg names.
func NewPipeline(cfg config.Config, exchanger resolver.Exchanger, log *slog.Logger) (*Pipeline, error) {
	now := newClock(cfg.Debug, log)
	p := &Pipeline{
		Config: cfg, log: log, exchanger: exchanger,
		Clock:   now,
		Answers: cache.NewAnswers(answersOptions(cfg.Cache)),
		Memory:  cache.NewMemory(cache.MemoryOptions{Bytes: int64(cfg.Cache.RRsetsSize), Clock: now}),
		Health:  new(health.State),
		current: new(inForce),
	}
	p.current.Store(p)
	return p, p.build(nil)
}

// next builds the pipeline that is to follow p: for cfg, and with all that is
// remembered, known, counted and under way in p. p goes on as it is, and both may
// be used at the same time.
func (p *Pipeline) next(cfg config.Config) (*Pipeline, error) {
	next := &Pipeline{
		Config: cfg, log: p.log, exchanger: p.exchanger,
		Clock: p.Clock, Answers: p.Answers, Memory: p.Memory, Health: p.Health, current: p.current,
	}
	if up, ok := p.exchanger.(*upstream.Client); ok {
		var err error
		if next.exchanger, err = up.With(upstreamOptions(cfg.Resolver, p.log)); err != nil {
			return nil, err
		}
	}
	return next, next.build(p)
}

// build makes all that is made anew for a configuration. What is made of the
// same settings as before, if there is a before, is taken from there.
func (p *Pipeline) build(before *Pipeline) error {
	cfg := p.Config
	rules, err := policy.New(policy.Options{Rules: accessRules(cfg.AccessControl)})
	if err != nil {
		return fmt.Errorf("access_control: %w", err)
	}
	if p.Self, err = p.directory(before); err != nil {
		return err
	}
	if err := p.buildShared(before); err != nil {
		return fmt.Errorf("shared_cache: %w", err)
	}
	if err := p.buildResolver(before); err != nil {
		return err
	}
	if before != nil && reflect.DeepEqual(before.Config.Cookies, cfg.Cookies) {
		p.Cookies = before.Cookies
	} else if p.Cookies, err = newCookies(cfg.Cookies); err != nil {
		return fmt.Errorf("cookies: %w", err)
	}
	if err := p.buildTracing(before); err != nil {
		return fmt.Errorf("tracing: %w", err)
	}
	opt := frontend.Options{
		Policy:   rules,
		Self:     p.Self,
		Health:   healthName(cfg.Health, p.Health),
		Cookies:  p.Cookies,
		NSID:     cfg.Identity.Octets(),
		Builtins: builtins(cfg),
		Answers:  p.Answers,
		Resolver: p.Resolver,
		Log:      p.log,
		Clock:    p.Clock,
		UDPSize:  cfg.Limits.UDPSize,
		Timeout:  cfg.Resolver.Timeout,
		Flights:  cfg.Limits.InFlight,
		Waiters:  cfg.Limits.Waiters,
		BogusTTL: cfg.DNSSEC.BogusTTL,

		FlightsPerNetwork: portion(cfg.Limits.InFlightPerNetwork, cfg.Limits.InFlight),

		ClientTimeout: clientTimeout(cfg.Cache.ServeStale),

		Sharing: sharing(cfg, p.Shared, p.zones, p.Memory),
		Slow:    frontend.Slow{After: cfg.Log.SlowResolutions.LongerThan, Interval: cfg.Log.SlowResolutions.Interval},
		Spans:   p.Spans,
	}
	if before != nil {
		p.Frontend, err = before.Frontend.With(opt)
	} else {
		p.Frontend, err = frontend.New(opt)
	}
	return err
}

// Close ends what the pipeline started.
func (p *Pipeline) Close() {
	p.Frontend.Close()
	if p.Shared != nil {
		p.Shared.Close()
	}
}

// buildShared makes the shared cache.
func (p *Pipeline) buildShared(before *Pipeline) (err error) {
	if before != nil && reflect.DeepEqual(before.Config.SharedCache, p.Config.SharedCache) {
		p.Shared = before.Shared
		return nil
	}
	p.Shared, err = newShared(p.Config, p.Clock, p.log)
	return err
}

// buildResolver makes the resolver, and what it rests on.
func (p *Pipeline) buildResolver(before *Pipeline) error {
	cfg := p.Config
	p.found = &memory{Memory: p.Memory}
	opt, err := resolverOptions(cfg, p.exchanger, p.found)
	if err != nil {
		return err
	}
	opt.Log, opt.Clock = p.log, p.Clock
	if p.zones = sharedZones(p); p.zones != nil {
		opt.Fleet = p.zones
	}
	if err := p.buildLocalRoot(before); err != nil {
		return fmt.Errorf("local_root: %w", err)
	}
	if p.LocalRoot != nil {
		opt.LocalRoot = p.LocalRoot.Answer
	}
	if err := p.buildAnchors(before); err != nil {
		return fmt.Errorf("dnssec: %w", err)
	}
	if p.Anchors != nil {
		validation(cfg.DNSSEC, p.Anchors, p.log, &opt)
	}
	if before != nil {
		p.Resolver, err = before.Resolver.With(opt)
	} else {
		p.Resolver, err = resolver.New(opt)
	}
	return err
}

// buildLocalRoot makes the copy of the root zone.
func (p *Pipeline) buildLocalRoot(before *Pipeline) (err error) {
	switch cfg := p.Config.LocalRoot; {
	case before != nil && reflect.DeepEqual(before.Config.LocalRoot, cfg):
		p.LocalRoot = before.LocalRoot
	case cfg.Enabled:
		p.LocalRoot, err = newLocalRoot(cfg, p.Clock, p.log)
	}
	return err
}

// newClock returns nil, which is the real time, unless the configuration is one
// for tests.
func newClock(cfg config.Debug, log *slog.Logger) *clock.Clock {
	if cfg.ClockOffsetFile == "" {
		return nil
	}
	c := clock.FromFile(cfg.ClockOffsetFile, log)
	log.Warn("THE CLOCK IS MOVED BY A FILE: debug.clock_offset_file is set. This is for tests; in production, expired data and signatures pass for good",
		"file", cfg.ClockOffsetFile, "offset", c.Offset())
	return c
}

// fairShare is the part of all queries in flight that one client network, and
// the questions below one zone cut, may have: one in so many. A flood of names
// of a zone whose servers are silent costs the others that much and no more.
const fairShare = 16

// portion returns the configured part of all, which is the fair one when it is 0.
func portion(part, all int) int {
	if part > 0 {
		return part
	}
	return max(all/fairShare, 1)
}

// builtins returns the zones that are answered here, without those that others
// were given for.
func builtins(cfg config.Config) *policy.Builtins {
	if !cfg.BuiltinZones.Enabled {
		return nil
	}
	except := slices.Clone(cfg.BuiltinZones.Except)
	for _, z := range slices.Concat(cfg.ForwardZones, cfg.StubZones) {
		except = append(except, z.Name)
	}
	return policy.NewBuiltins(except)
}

// upstreamOptions translates how questions go out.
func upstreamOptions(cfg config.Resolver, log *slog.Logger) upstream.Options {
	return upstream.Options{
		EDNSSize:          int(cfg.EDNSSize),
		CaseRandomisation: cfg.UseCapsForID,
		Cookies:           cfg.UpstreamCookies,
		TCPOnMismatch:     true,
		Log:               log,
		Opportunistic: upstream.Opportunistic{
			DoT:  slices.Contains(cfg.OpportunisticEncryption, config.AuthorityEncryption(config.ProtocolDoT)),
			DoQ:  slices.Contains(cfg.OpportunisticEncryption, config.AuthorityEncryption(config.ProtocolDoQ)),
			Port: cfg.EncryptedPort, Clear: cfg.Port,
		},
	}
}

// answersOptions translates the configuration of the answer cache.
func answersOptions(cfg config.Cache) cache.AnswersOptions {
	opt := cache.AnswersOptions{
		Bytes:      answersSize(cfg.AnswersSize, memoryAllowed(os.DirFS("/"))),
		MinFailure: cfg.MinFailureTTL,
		MaxFailure: cfg.MaxFailureTTL,
		StaleTTL:   cfg.ServeStale.ReplyTTL,
		Recheck:    cfg.ServeStale.Recheck,
		Prefetch:   cfg.Prefetch,
		Rotate:     cfg.RotateRRsets,
	}
	if cfg.ServeStale.Enabled {
		opt.MaxStale = cfg.ServeStale.MaxAge
	}
	return opt
}

// clientTimeout translates 0, which is the default to the frontend.
func clientTimeout(cfg config.ServeStale) time.Duration {
	if cfg.ClientTimeout == 0 {
		return -1
	}
	return cfg.ClientTimeout
}

// accessRules translates the words of the configuration.
func accessRules(rules []config.AccessRule) []policy.Rule {
	actions := map[config.Action]policy.Action{
		config.ActionAllow:       policy.Allow,
		config.ActionAllowSnoop:  policy.AllowSnoop,
		config.ActionAllowCookie: policy.AllowCookie,
		config.ActionRefuse:      policy.Refuse,
		config.ActionDeny:        policy.Deny,
	}
	out := make([]policy.Rule, 0, len(rules))
	for _, r := range rules {
		out = append(out, policy.Rule{Prefix: r.Prefix, Action: actions[r.Action]})
	}
	return out
}

// resolverOptions translates the configuration of the resolver.
func resolverOptions(conf config.Config, exchanger resolver.Exchanger, memory resolver.Memory) (resolver.Options, error) {
	cfg := conf.Resolver
	hints, err := rootHints(cfg.RootHints)
	if err != nil {
		return resolver.Options{}, err
	}
	modes := map[config.Minimisation]resolver.Minimisation{
		config.MinimisationRelaxed: resolver.Relaxed,
		config.MinimisationStrict:  resolver.Strict,
		config.MinimisationOff:     resolver.Off,
	}
	return resolver.Options{
		Exchanger:     exchanger,
		Memory:        memory,
		Hints:         hints,
		Zones:         zones(conf),
		Port:          cfg.Port,
		Minimise:      modes[cfg.QNameMinimisation],
		NoPriming:     !cfg.PrimeRoot,
		NoIPv4:        !cfg.IPv4,
		NoIPv6:        !cfg.IPv6,
		AllowLoopback: !cfg.DoNotQueryLocalhost,
		AnyGlue:       !cfg.HardenGlue,
		Full:          !conf.Cache.MinimalResponses,
		TTL: resolver.TTLs{
			Min:         conf.Cache.MinTTL,
			Max:         conf.Cache.MaxTTL,
			MaxNegative: conf.Cache.MaxNegativeTTL,
		},
		ZoneInFlight: portion(conf.Limits.InFlightPerZone, conf.Limits.InFlight),

		AggressiveNSEC: conf.DNSSEC.AggressiveNSEC,

		Limits: resolver.Limits{Queries: cfg.MaxQueries, Aliases: cfg.MaxAliases},
	}, nil
}

// zones translates the zones whose servers are configured.
func zones(conf config.Config) []resolver.Zone {
	var out []resolver.Zone
	for _, z := range conf.ForwardZones {
		out = append(out, zone(z, true))
	}
	for _, z := range conf.StubZones {
		out = append(out, zone(z, false))
	}
	return out
}

func zone(z config.Zone, forward bool) resolver.Zone {
	out := resolver.Zone{Name: z.Name, Forward: forward, First: z.First, NoCache: z.NoCache}
	for _, s := range z.Servers {
		server := resolver.ZoneServer{Addr: s.Address.Or(z.Port()), TCP: z.TCP}
		if z.TLS || z.DoH {
			server.TLS = identity(z, s.TLSName, s.DoHPath)
			for _, pin := range s.Pins {
				server.TLS.Pins = append(server.TLS.Pins, pin.Hash())
			}
		}
		out.Servers = append(out.Servers, server)
	}
	for _, name := range z.Hosts {
		host := resolver.ZoneHost{Name: name, TCP: z.TCP}
		if z.TLS || z.DoH {
			host.Port, host.TLS = z.Port(), identity(z, name, "")
		}
		out.Hosts = append(out.Hosts, host)
	}
	return out
}

// identity says how a server of z is known, and with DoH, where it is asked.
func identity(z config.Zone, name wire.Name, path string) *exchange.TLS {
	t := &exchange.TLS{Name: hostName(name)}
	if z.DoH {
		t.Path = cmp.Or(path, "/dns-query")
	}
	return t
}

// newLocalRoot returns the copy of the root zone with what its file holds. A
// file that is missing or bad is no reason not to start: the root can be asked.
func newLocalRoot(cfg config.LocalRoot, now *clock.Clock, log *slog.Logger) (*localroot.Copy, error) {
	opt := localroot.Options{File: cfg.File, Clock: now, Log: log}
	for _, a := range cfg.Servers {
		opt.Servers = append(opt.Servers, a.Or(53))
	}
	switch cfg.ZONEMD {
	case config.ZONEMDIfPresent:
		opt.ZONEMD = localroot.IfPresent
	case config.ZONEMDOff:
		opt.ZONEMD = localroot.Ignore
	}
	c, err := localroot.New(opt)
	if err != nil {
		return nil, err
	}
	c.Load()
	return c, nil
}

// hostName returns n as certificates have it.
func hostName(n wire.Name) string { return strings.TrimSuffix(n.String(), ".") }

// rootHints reads the hints in file; the built-in ones when it is "".
func rootHints(file string) ([]rrset.Server, error) {
	if file == "" {
		return resolver.RootHints(), nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("resolver.root_hints: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	hints, err := resolver.ParseHints(f, file)
	if err != nil {
		return nil, fmt.Errorf("resolver.root_hints: %w", err)
	}
	return hints, nil
}
