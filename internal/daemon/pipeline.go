package daemon

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"shirube/cache"
	"shirube/internal/clock"
	"shirube/internal/config"
	"shirube/internal/exchange"
	"shirube/internal/frontend"
	"shirube/internal/rrset"
	"shirube/internal/wire"
	"shirube/policy"
	"shirube/resolver"
	"shirube/resolver/anchor"
	"shirube/resolver/localroot"
)

// Pipeline is the life of a query without its transports: what a server and
// every test and benchmark of the whole have in common.
type Pipeline struct {
	Clock     *clock.Clock // that all the rest goes by; nil: the real time
	Answers   *cache.Answers
	Memory    *cache.Memory
	LocalRoot *localroot.Copy // nil: there is none; it has to be run to stay current
	Anchors   *anchor.Anchors // nil: nothing is validated
	Tracker   *anchor.Tracker // of Anchors; nil: there is none; it has to be run to follow roll-overs
	Cookies   *policy.Cookies // of clients; nil: none
	Resolver  *resolver.Resolver
	Frontend  *frontend.Frontend // Close it at the end
}

// NewPipeline builds a pipeline from cfg that asks servers through exchanger.
// It reads the files that cfg names.
func NewPipeline(cfg config.Config, exchanger resolver.Exchanger, log *slog.Logger) (*Pipeline, error) {
	now := newClock(cfg.Debug, log)
	p := &Pipeline{
		Clock:   now,
		Answers: cache.NewAnswers(answersOptions(cfg.Cache)),
		Memory:  cache.NewMemory(cache.MemoryOptions{Bytes: int64(cfg.Cache.RRsetsSize), Clock: now}),
	}
	rules, err := policy.New(policy.Options{Rules: accessRules(cfg.AccessControl)})
	if err != nil {
		return nil, fmt.Errorf("access_control: %w", err)
	}
	opt, err := resolverOptions(cfg, exchanger, p.Memory)
	if err != nil {
		return nil, err
	}
	opt.Log, opt.Clock = log, p.Clock
	if cfg.LocalRoot.Enabled {
		if p.LocalRoot, err = newLocalRoot(cfg.LocalRoot, p.Clock, log); err != nil {
			return nil, fmt.Errorf("local_root: %w", err)
		}
		opt.LocalRoot = p.LocalRoot.Answer
	}
	if p.Anchors, err = validation(cfg.DNSSEC, p.Clock, log, &opt); err != nil {
		return nil, fmt.Errorf("dnssec: %w", err)
	}
	if p.Resolver, err = resolver.New(opt); err != nil {
		return nil, err
	}
	if p.Tracker, err = p.newTracker(cfg.DNSSEC); err != nil {
		return nil, err
	}
	if p.Cookies, err = newCookies(cfg.Cookies); err != nil {
		return nil, fmt.Errorf("cookies: %w", err)
	}
	p.Frontend, err = frontend.New(frontend.Options{
		Policy:   rules,
		Cookies:  p.Cookies,
		NSID:     cfg.Identity.Octets(),
		Builtins: builtins(cfg),
		Answers:  p.Answers,
		Resolver: p.Resolver,
		Log:      log,
		Clock:    p.Clock,
		UDPSize:  cfg.Limits.UDPSize,
		Timeout:  cfg.Resolver.Timeout,
		Flights:  cfg.Limits.InFlight,
		Waiters:  cfg.Limits.Waiters,
		BogusTTL: cfg.DNSSEC.BogusTTL,

		FlightsPerNetwork: portion(cfg.Limits.InFlightPerNetwork, cfg.Limits.InFlight),

		ClientTimeout: clientTimeout(cfg.Cache.ServeStale),
	})
	return p, err
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
		if z.TLS {
			server.TLS = &exchange.TLS{Name: hostName(s.TLSName)}
			for _, pin := range s.Pins {
				server.TLS.Pins = append(server.TLS.Pins, pin.Hash())
			}
		}
		out.Servers = append(out.Servers, server)
	}
	for _, name := range z.Hosts {
		host := resolver.ZoneHost{Name: name, TCP: z.TCP}
		if z.TLS {
			host.Port, host.TLS = z.Port(), &exchange.TLS{Name: hostName(name)}
		}
		out.Hosts = append(out.Hosts, host)
	}
	return out
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
