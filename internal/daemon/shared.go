package daemon

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"shirube/cache"
	"shirube/cache/shared"
	"shirube/internal/clock"
	"shirube/internal/config"
	"shirube/internal/frontend"
	"shirube/internal/wire"
)

// newShared returns the shared cache; nil for none.
func newShared(conf config.Config, now *clock.Clock, log *slog.Logger) (*shared.Cache, error) {
	cfg := conf.SharedCache
	if !cfg.Enabled {
		return nil, nil
	}
	opt := shared.Options{
		File:       cfg.ServersFile,
		Generation: uint64(cfg.Generation),
		Writer:     instanceName(conf.Identity),
		Budget:     cfg.Budget,
		Timeout:    cfg.Timeout,
		Batches:    cfg.InFlight,
		Life:       conf.Cache.MaxTTL + conf.Cache.ServeStale.MaxAge + lifeMargin,
		Settle:     conf.Resolver.Timeout,
		Clock:      now,
		Log:        log,
	}
	for _, s := range cfg.Servers {
		opt.Servers = append(opt.Servers, shared.Server{Name: s.Name, Addr: s.Address.Or(cfg.Service.Port)})
	}
	if cfg.Service.Name != "" {
		opt.Service = shared.Service{Name: cfg.Service.Name, Port: cfg.Service.Port}
		for _, a := range cfg.Service.Resolvers {
			opt.Service.Resolvers = append(opt.Service.Resolvers, a.Or(53))
		}
	}
	var err error
	if opt.Secrets, err = sharedSecrets(cfg, log); err != nil {
		return nil, err
	}
	if opt.TLS, err = sharedTLS(cfg.TLS); err != nil {
		return nil, err
	}
	if opt.Auth, err = sharedAuth(cfg); err != nil {
		return nil, err
	}
	return shared.New(opt)
}

// lifeMargin is for how much longer than the longest-lived entry a flush is
// remembered: others may be configured to let theirs live longer, to a degree.
const lifeMargin = 24 * time.Hour

// instanceName is what this server is called in what it writes.
func instanceName(id config.Identity) string {
	if id.NSID != "" {
		return id.NSID
	}
	host, err := os.Hostname()
	if err != nil {
		return "unknown"
	}
	return host
}

// sharedSecrets reads the secrets of the fleet.
func sharedSecrets(cfg config.SharedCache, log *slog.Logger) (shared.Secrets, error) {
	if cfg.Authentication == config.SharedNone {
		log.Warn("THE SHARED CACHE IS NOT AUTHENTICATED: shared_cache.authentication is none. " +
			"Whoever can reach a memcached decides what this server answers")
		return shared.Secrets{}, nil
	}
	return fleetSecrets(cfg.SecretFile, nil).read()
}

// fleetSecrets returns the file of secrets for c, which may be nil to read it
// only.
func fleetSecrets(file string, c *shared.Cache) *secretFile[shared.Secrets] {
	return &secretFile[shared.Secrets]{
		file: file, of: "shared_cache", parse: parseSharedSecrets,
		use: func(s shared.Secrets) (bool, error) { return c.UseSecrets(s) },
	}
}

// parseSharedSecrets reads the secrets of a file.
func parseSharedSecrets(r io.Reader) (s shared.Secrets, err error) {
	err = eachSecret(r, func(line string) error {
		digits, names := strings.CutPrefix(line, "names ")
		secret, err := parseSecret(digits, shared.SecretLen)
		switch {
		case err != nil:
			return err
		case names && s.Names != nil:
			return errors.New("found a second secret for names; expected one")
		case names:
			s.Names = secret
		default:
			s.Values = append(s.Values, secret)
		}
		return nil
	})
	if err == nil && (len(s.Values) == 0 || len(s.Values) > shared.MaxSecrets) {
		err = fmt.Errorf("found %d secrets; expected 1 to %d", len(s.Values), shared.MaxSecrets)
	}
	return s, err
}

// sharedTasks returns what keeps the shared cache of p current.
func sharedTasks(p *Pipeline, log *slog.Logger) []task {
	if p.Shared == nil {
		return nil
	}
	type flushesOf struct{ *shared.Cache }
	list := []task{
		{key: p.Shared, run: p.Shared.Run},
		{key: flushesOf{p.Shared}, run: func(ctx context.Context) { p.Shared.Follow(ctx, p.forget) }},
	}
	if warm := p.Config.SharedCache.WarmStart; warm.Enabled {
		list = append(list, task{
			key: hotOf{p.Shared, warm},
			run: func(ctx context.Context) { tellPopular(ctx, p.Shared, warm, p.current) },
		})
	}
	if file := p.Config.SharedCache.SecretFile; file != "" {
		type secretsOf struct{ *shared.Cache }
		list = append(list, task{
			key: secretsOf{p.Shared},
			run: func(ctx context.Context) { fleetSecrets(file, p.Shared).follow(ctx, log) },
		})
	}
	return list
}

// reloadShared reads the secrets anew, or lets go of the shared cache that is not
// used any more.
func reloadShared(r *reload) error {
	from, to := r.from.Shared, r.to.Shared
	switch {
	case from != to:
		if to != nil {
			to.Heed()
			r.undo(to.Close)
		}
		if from != nil {
			r.retire(from.Close)
		}
	case to != nil && r.to.Config.SharedCache.SecretFile != "":
		secrets, err := fleetSecrets(r.to.Config.SharedCache.SecretFile, nil).read()
		if err != nil {
			return err
		}
		r.commit(func() { _, _ = to.UseSecrets(secrets) }) // they are as many and as long as they have to be
	}
	return nil
}

// sharedStats returns what is counted of the shared cache; zero without one.
func (p *Pipeline) sharedStats() shared.Stats {
	if p.Shared == nil {
		return shared.Stats{}
	}
	s := p.Shared.Stats()
	s.Fleet.ID = p.Shared.FleetID(scopes(p.Config)(wire.Root))
	return s
}

// sharedTLS returns how connections to memcached are encrypted; nil: not at all.
func sharedTLS(cfg config.SharedTLS) (*tls.Config, error) {
	if !cfg.Enabled {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12} // memcached's least, too
	if cfg.CAFile != "" {
		text, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return nil, fmt.Errorf("tls.ca_file: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("tls.ca_file: %s: found no certificate", cfg.CAFile)
		}
	}
	if cfg.CertFile == "" {
		return c, nil
	}
	load := func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(cfg.CertFile, cfg.KeyFile)
		return &pair, err
	}
	if _, err := load(); err != nil {
		return nil, fmt.Errorf("tls.cert_file: %w", err)
	}
	c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	return c, nil
}

// sharedAuth returns who memcached is told that we are.
func sharedAuth(cfg config.SharedCache) (shared.Auth, error) {
	if cfg.Username == "" {
		return shared.Auth{}, nil
	}
	text, err := os.ReadFile(cfg.PasswordFile)
	if err != nil {
		return shared.Auth{}, fmt.Errorf("password_file: %w", err)
	}
	password, _, _ := strings.Cut(string(text), "\n")
	password = strings.TrimSuffix(password, "\r")
	if password == "" || strings.ContainsAny(password, " \t\r") {
		return shared.Auth{}, errors.New("password_file: " + cfg.PasswordFile + ": found no password, or one with spaces in it")
	}
	return shared.Auth{User: cfg.Username, Password: password}, nil
}

// sharedZones returns what tells the fleet of zones; nil for nothing.
func sharedZones(p *Pipeline) *frontend.Zones {
	if p.Shared == nil || !p.Config.SharedCache.Delegations {
		return nil
	}
	return frontend.NewZones(frontend.ZonesOptions{
		Cache: p.Shared, Memory: p.Memory, Scope: scopes(p.Config), Clock: p.Clock, Log: p.log,
	})
}

// sharing returns how the frontend uses the shared cache.
func sharing(conf config.Config, c *shared.Cache, zones *frontend.Zones, memory *cache.Memory) frontend.Sharing {
	if c == nil {
		return frontend.Sharing{}
	}
	s := frontend.Sharing{Cache: c, Zones: zones, Budget: conf.SharedCache.Budget, Scope: scopes(conf), Delegated: func(n wire.Name) time.Time {
		if cut := memory.Cut(n); cut != nil {
			return cut.Until
		}
		return time.Time{}
	}}
	if stale := conf.Cache.ServeStale; stale.Enabled {
		s.MaxStale = stale.MaxAge
	}
	return s
}

// scopes returns what tells apart answers that servers with different
// configurations would give to the same question: those that judge by other
// rules, and those that have a zone from elsewhere.
func scopes(conf config.Config) func(wire.Name) uint64 {
	d := conf.DNSSEC
	base := hashOf("rules", d.Validation, d.RootTrustAnchor, d.TrustAnchors, d.TrustAnchorFiles, d.OverrideTime, d.MaxNSEC3Iterations,
		d.HardenBelowNXDomain, d.DisabledAlgorithms, d.DisabledDSDigests, conf.Resolver.RootHints, conf.Resolver.Port,
		conf.Cache.MaxTTL, conf.Cache.MinTTL, conf.Cache.MaxNegativeTTL, conf.Cache.MinimalResponses)
	zones := make(map[wire.Name]uint64)
	for kind, list := range map[string][]config.Zone{"forward": conf.ForwardZones, "stub": conf.StubZones} {
		for _, z := range list {
			zones[z.Name] = hashOf(kind, base, z)
		}
	}
	return func(n wire.Name) uint64 {
		for len(zones) > 0 {
			if scope, ok := zones[n]; ok {
				return scope
			}
			var ok bool
			if n, ok = n.Parent(); !ok {
				break
			}
		}
		return base
	}
}

// hashOf returns a number that stands for values, the same in every process.
func hashOf(values ...any) uint64 {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", values))
	return binary.BigEndian.Uint64(sum[:])
}
