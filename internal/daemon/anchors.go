package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
	"shirube/resolver"
	"shirube/resolver/anchor"
)

// buildAnchors makes the trust anchors, and what follows their roll-overs. They
// stay the same ones for as long as what they are made of does, files included;
// else the new ones take over what was learned, and the negative ones that were
// added at runtime.
func (p *Pipeline) buildAnchors(before *Pipeline) (err error) {
	cfg := p.Config.DNSSEC
	if !cfg.Validation {
		p.log.Info("not validating, since dnssec.validation is false: forged answers pass for good")
		return nil
	}
	records, err := anchorRecords(cfg, p.log)
	if err != nil {
		return err
	}
	p.anchorSettings = anchorSettings(&cfg, records)
	if before != nil && before.Anchors != nil && slices.Equal(before.anchorSettings, p.anchorSettings) {
		p.Anchors = before.Anchors
		if cfg.Telemetry == before.Config.DNSSEC.Telemetry {
			p.Tracker = before.Tracker
			return nil
		}
	} else if p.Anchors, err = p.newAnchors(records, before); err != nil {
		return err
	}
	p.Tracker, err = p.newTracker(cfg)
	return err
}

// anchorSettings returns what trust anchors are made of, to be compared.
func anchorSettings(cfg *config.DNSSEC, records []dns.RR) []string {
	list := []string{fmt.Sprint(cfg.RootTrustAnchor, cfg.AutoTrustAnchor, cfg.StateDirectory)}
	for _, rr := range records {
		list = append(list, rr.String())
	}
	for _, n := range cfg.NegativeTrustAnchors {
		list = append(list, fmt.Sprintf("%+v", n))
	}
	return list
}

// validation translates the configuration of validation for opt.
func validation(cfg config.DNSSEC, a *anchor.Anchors, log *slog.Logger, opt *resolver.Options) {
	if t, ok := cfg.OverrideTime.Time(); ok {
		log.Warn("SIGNATURES ARE CHECKED AT ANOTHER TIME: dnssec.override_time is set. This is for tests; in production, expired signatures pass for good",
			"time", t)
		opt.SignatureTime = t
	}
	if opt.AnySignatureTime = cfg.OverrideTime.Ignore(); opt.AnySignatureTime {
		log.Warn("THE TIMES OF SIGNATURES ARE IGNORED: dnssec.override_time is -1. This is for tests; in production, expired signatures pass for good")
	}
	if opt.Permissive = cfg.Permissive; cfg.Permissive {
		log.Warn("BOGUS ANSWERS ARE GIVEN TO CLIENTS: dnssec.permissive is true. It protects nobody")
	}
	opt.Anchors = chainAnchors{a}
	if opt.NSEC3Iterations = cfg.MaxNSEC3Iterations; cfg.MaxNSEC3Iterations == 0 {
		opt.NSEC3Iterations = -1
	}
	opt.AnyNXDomain = !cfg.HardenBelowNXDomain
	for _, alg := range cfg.DisabledAlgorithms {
		opt.DisabledAlgorithms = append(opt.DisabledAlgorithms, alg.Number())
	}
	for _, d := range cfg.DisabledDSDigests {
		opt.DisabledDigests = append(opt.DisabledDigests, d.Number())
	}
	if cfg.Sentinel {
		opt.Sentinel = func() []uint16 { return a.Tags(wire.Root) }
	}
}

// anchorRecords returns the trust anchors of cfg, and what the files that it
// names have.
func anchorRecords(cfg config.DNSSEC, log *slog.Logger) ([]dns.RR, error) {
	var records []dns.RR
	for i, text := range cfg.TrustAnchors {
		rr, err := anchor.ParseRecord(string(text))
		if err != nil {
			return nil, fmt.Errorf("trust_anchors[%d]: %w", i, err)
		}
		records = append(records, rr)
	}
	for i, file := range cfg.TrustAnchorFiles {
		rrs, err := anchor.ParseFile(file)
		if err != nil {
			return nil, fmt.Errorf("trust_anchor_files[%d]: %w", i, err)
		}
		if len(rrs) == 0 {
			log.Warn("a file of trust anchors has none that is to be trusted", "file", file)
		}
		records = append(records, rrs...)
	}
	return records, nil
}

// newAnchors returns the anchors of p's configuration, whose records are given,
// with what those before them have learned.
func (p *Pipeline) newAnchors(records []dns.RR, before *Pipeline) (*anchor.Anchors, error) {
	cfg := p.Config.DNSSEC
	opt := anchor.Options{Records: records, NoRoot: !cfg.RootTrustAnchor, Clock: p.Clock, Log: p.log}
	opt.Negatives = negatives(cfg.NegativeTrustAnchors, before, p.Clock.Now(), p.log)
	if cfg.AutoTrustAnchor {
		opt.Directory = stateDirectory(cfg.StateDirectory)
	}
	if before != nil && before.Anchors != nil {
		return before.Anchors.Next(opt)
	}
	return anchor.New(opt)
}

// negatives translates the negative trust anchors. One that is over is no
// reason not to start: the file outlives it. One that was there before a reload
// ends when it would have.
func negatives(list []config.NegativeTrustAnchor, before *Pipeline, now time.Time, log *slog.Logger) []anchor.Negative {
	var out []anchor.Negative
	for _, n := range list {
		until, ok := n.Until.Time()
		if !ok {
			until = now.Add(n.For)
			if before != nil && before.Anchors != nil && slices.Contains(before.Config.DNSSEC.NegativeTrustAnchors, n) {
				until = before.Anchors.NegativeUntil(n.Name) // past, if it was removed since
			}
		}
		if !now.Before(until) {
			log.Warn("a negative trust anchor of the configuration is over", "name", n.Name.String(), "until", until)
			continue
		}
		log.Warn("not validating", "name", n.Name.String(), "until", until, "reason", n.Reason)
		out = append(out, anchor.Negative{Name: n.Name, Until: until, Reason: n.Reason})
	}
	return out
}

// stateDirectory returns the configured directory, or the first that systemd
// gives the service (systemd.exec(5), StateDirectory=).
func stateDirectory(configured string) string {
	if configured != "" {
		return configured
	}
	if list := filepath.SplitList(os.Getenv("STATE_DIRECTORY")); len(list) > 0 {
		return list[0]
	}
	return ""
}

// chainAnchors is anchors as the resolver asks for them.
type chainAnchors struct{ *anchor.Anchors }

// Closest implements [resolver.Anchors].
func (a chainAnchors) Closest(n wire.Name) (zone wire.Name, ds []*dns.DS, ok bool) {
	found, ok := a.Anchors.Closest(n)
	return found.Zone, found.Digests(), ok
}

// Negative implements [resolver.Anchors].
func (a chainAnchors) Negative(n wire.Name) *ede.Error {
	neg, ok := a.Anchors.Negative(n)
	if !ok {
		return nil
	}
	return ede.Errorf(ede.NegativeTrustAnchor, "%v is not validated for now", neg.Name)
}

// newTracker returns what follows the roll-overs of p's anchors, or nil if that
// is not wanted.
func (p *Pipeline) newTracker(cfg config.DNSSEC) (*anchor.Tracker, error) {
	if p.Anchors == nil || !cfg.AutoTrustAnchor {
		return nil, nil
	}
	opt := anchor.TrackerOptions{Anchors: p.Anchors, Fetch: p.current.fetchKeys} // it may outlive p
	if cfg.Telemetry {
		opt.Signal = p.current.signal
	}
	return anchor.NewTracker(opt)
}

// afresh is longer than anything is remembered: an answer that has to outlive
// it is asked for.
const afresh = 365 * 24 * time.Hour

// fetchKeys asks the servers of zone for its keys.
func (c *inForce) fetchKeys(ctx context.Context, zone wire.Name) (rrset.Set, error) {
	q := wire.Question{Name: zone, Type: wire.TypeDNSKEY}
	p := c.Load()
	ans, err := p.Resolver.Resolve(ctx, resolver.Query{Question: q, CD: true, Until: p.Clock.Now().Add(afresh)})
	if err != nil {
		return rrset.Set{}, err
	}
	for _, s := range ans.Records {
		if s.Name == zone && s.Type == wire.TypeDNSKEY {
			return s, nil
		}
	}
	return rrset.Set{}, fmt.Errorf("%v has no keys", zone)
}

// signal asks q of the servers; only that it was asked counts. The answer is
// most often that there is no such name.
func (c *inForce) signal(ctx context.Context, q wire.Question) {
	p := c.Load()
	_, _ = p.Resolver.Resolve(ctx, resolver.Query{Question: q, CD: true, Until: p.Clock.Now().Add(afresh)})
}
