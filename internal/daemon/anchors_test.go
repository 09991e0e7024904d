package daemon

import (
	"crypto"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/simnet"
	"shirube/internal/wire"
	"shirube/resolver"
	"shirube/resolver/anchor"
)

// signedKey returns a key of example.com, and its DNSKEY set in the form of a
// zone file with its own signature, which begins before the time of bubbles.
func signedKey(t *testing.T) (key *dns.DNSKEY, set string) {
	t.Helper()
	key = &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: "example.com.", Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 3600},
		Flags: dns.ZONE | dns.SEP, Protocol: 3, Algorithm: dns.ECDSAP256SHA256,
	}
	private, err := key.Generate(256)
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Date(1999, 12, 1, 0, 0, 0, 0, time.UTC)
	sig := &dns.RRSIG{
		Hdr:       dns.RR_Header{Name: "example.com.", Rrtype: dns.TypeRRSIG, Class: dns.ClassINET, Ttl: 3600},
		Algorithm: key.Algorithm, KeyTag: key.KeyTag(), SignerName: "example.com.", OrigTtl: 3600,
		Inception: uint32(begin.Unix()), Expiration: uint32(begin.Add(365 * 24 * time.Hour).Unix()),
	}
	if err := sig.Sign(private.(crypto.Signer), []dns.RR{key}); err != nil {
		t.Fatal(err)
	}
	return key, key.String() + "\n" + sig.String() + "\n"
}

// TestAnchorsDecideWhatIsValidated: below an anchor what is not signed is
// withheld, unless a negative anchor says otherwise; elsewhere it passes.
func TestAnchorsDecideWhatIsValidated(t *testing.T) {
	key, _ := signedKey(t)
	change := func(cfg *config.Config, _ *simnet.Net) {
		cfg.DNSSEC.Validation, cfg.DNSSEC.RootTrustAnchor = true, false
		cfg.DNSSEC.TrustAnchors = []config.TrustAnchor{config.TrustAnchor(key.ToDS(dns.SHA256).String())}
	}
	ask := func(t *testing.T, p *Pipeline, name string) error {
		q := wire.Question{Name: wire.MustParseName(name), Type: wire.TypeA}
		_, err := p.Resolver.Resolve(t.Context(), resolver.Query{Question: q})
		return err
	}
	inBubble(t, change, func(t *testing.T, p *Pipeline, _ *simnet.Net) {
		if err := ask(t, p, "www.example.com."); err == nil {
			t.Error("without a signature below an anchor, it passed")
		}
		if err := ask(t, p, "ns.other.net."); err != nil {
			t.Errorf("where there is no anchor: %v", err)
		}
	})
	inBubble(t, func(cfg *config.Config, n *simnet.Net) {
		change(cfg, n)
		cfg.DNSSEC.NegativeTrustAnchors = []config.NegativeTrustAnchor{{Name: wire.MustParseName("example.com."), For: time.Hour}}
	}, func(t *testing.T, p *Pipeline, _ *simnet.Net) {
		if err := ask(t, p, "www.example.com."); err != nil {
			t.Errorf("below a negative anchor: %v", err)
		}
	})
}

// times returns how often a question was sent, at least.
func times(n *simnet.Net, question string) (count int) {
	for _, e := range n.Log() {
		if strings.Contains(e.String(), question) {
			count++
		}
	}
	return count
}

// TestTrackerAsksTheZoneItself, past what is remembered, and tells it what is
// trusted.
func TestTrackerAsksTheZoneItself(t *testing.T) {
	key, set := signedKey(t)
	inBubble(t, func(cfg *config.Config, _ *simnet.Net) {
		cfg.DNSSEC.Validation, cfg.DNSSEC.RootTrustAnchor = true, false
		cfg.DNSSEC.TrustAnchors = []config.TrustAnchor{config.TrustAnchor(key.ToDS(dns.SHA256).String())}
	}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		n.Break("192.0.2.11", simnet.Mutate(func(m *dns.Msg) {
			m.Answer, m.Ns = simnet.RRs(set), nil
		}).If(simnet.Type(wire.TypeDNSKEY)))
		zone := wire.MustParseName("example.com.")
		for i := range 2 {
			got, err := p.current.fetchKeys(t.Context(), zone)
			if err != nil {
				t.Fatal(err)
			}
			if probe := anchor.Check(zone, got, p.Clock.Now()); len(probe.Signers) != 1 {
				t.Errorf("got %+v of %v", probe, got)
			}
			if asked := times(n, "192.0.2.11 example.com. DNSKEY"); asked != i+1 {
				t.Errorf("%d questions were sent by the end of look %d: %v", asked, i, n.Log())
			}
		}
		if q, ok := anchor.KeyTagQuery(zone, p.Anchors.Tags(zone)); ok {
			p.current.signal(t.Context(), q)
			p.current.signal(t.Context(), q)
			if asked := times(n, q.String()); asked != 2 {
				t.Errorf("%v was sent %d times", q, asked)
			}
		}
	})
}

func TestTrackerEndsWithTheServerAndKeepsItsState(t *testing.T) {
	cfg := scenarioConfig(t)
	cfg.Listen = []config.Listener{{Address: netip.MustParseAddrPort("127.0.0.1:0"), Protocols: []config.Protocol{config.ProtocolUDP}}}
	cfg.Resolver.RootHints, cfg.Resolver.DoNotQueryLocalhost = "testdata/nobody.hints", false
	cfg.DNSSEC.Validation, cfg.DNSSEC.StateDirectory = true, filepath.Join(t.TempDir(), "state")
	d, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(cfg.DNSSEC.StateDirectory, "root.json")
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(file); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Error("no state was written")
			break
		}
	}
	if err := d.Shutdown(t.Context()); err != nil { // it waits for the tracker
		t.Error(err)
	}
}

func TestNewAnchorsReadsWhatTheConfigurationNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		key, set := signedKey(t)
		file := filepath.Join(t.TempDir(), "example.key")
		if err := os.WriteFile(file, []byte(key.String()+" ;;state=2 [ VALID ]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		var log lockedBuffer
		cfg := config.Default().DNSSEC
		cfg.TrustAnchorFiles = []string{file}
		cfg.NegativeTrustAnchors = []config.NegativeTrustAnchor{
			{Name: wire.MustParseName("over.example."), Until: "19991231235959"},
			{Name: wire.MustParseName("broken.example."), For: time.Hour, Reason: "they lost their key"},
		}
		a, err := anchorsOf(cfg, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := a.Closest(wire.MustParseName("www.example.com.")); !ok || len(got.Digests()) != 1 || got.Digests()[0].KeyTag != key.KeyTag() {
			t.Errorf("got %v, %v", got, ok)
		}
		if got := a.Negatives(); len(got) != 1 || time.Until(got[0].Until) != time.Hour {
			t.Errorf("got %v", got)
		}
		if got := log.String(); !strings.Contains(got, "over.example.") || !strings.Contains(got, "they lost their key") {
			t.Errorf("the log has %q", got)
		}

		cfg.TrustAnchorFiles = []string{file + ".bad"}
		if err := os.WriteFile(file+".bad", []byte("\n"+strings.Replace(set, "RRSIG", "A", 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := anchorsOf(cfg, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "trust_anchor_files[0]: "+file+".bad:3: ") {
			t.Errorf("got %v", err)
		}
	})
}

// anchorsOf returns the anchors of a configuration.
func anchorsOf(cfg config.DNSSEC, log *slog.Logger) (*anchor.Anchors, error) {
	p := &Pipeline{Config: config.Config{DNSSEC: cfg}, log: log, current: new(inForce)}
	err := p.buildAnchors(nil)
	return p.Anchors, err
}

func TestValidationTellsWhatMakesItWeak(t *testing.T) {
	for want, change := range map[string]func(c *config.DNSSEC){
		"not validating, since":              func(c *config.DNSSEC) { c.Validation = false },
		"SIGNATURES ARE CHECKED AT ANOTHER":  func(c *config.DNSSEC) { c.OverrideTime = "20070916134226" },
		"BOGUS ANSWERS ARE GIVEN TO CLIENTS": func(c *config.DNSSEC) { c.Permissive = true },
	} {
		var log lockedBuffer
		var opt resolver.Options
		cfg := config.Default().DNSSEC
		change(&cfg)
		p := &Pipeline{Config: config.Config{DNSSEC: cfg}, log: slog.New(slog.NewTextHandler(&log, nil)), current: new(inForce)}
		if err := p.buildAnchors(nil); err != nil {
			t.Fatal(err)
		}
		if p.Anchors != nil {
			validation(cfg, p.Anchors, p.log, &opt)
		}
		if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, want) {
			t.Errorf("the log has %q, want %q", got, want)
		}
		if (opt.Anchors != nil) != cfg.Validation || opt.SignatureTime.IsZero() != (cfg.OverrideTime == "") || opt.Permissive != cfg.Permissive {
			t.Errorf("%s: got %+v", want, opt)
		}
	}
}

func TestStateDirectoryIsTheConfiguredOrSystemds(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", "/var/lib/shirube:/var/lib/other")
	if got := stateDirectory(""); got != "/var/lib/shirube" {
		t.Errorf("got %q", got)
	}
	if got := stateDirectory("/srv"); got != "/srv" {
		t.Errorf("got %q", got)
	}
	t.Setenv("STATE_DIRECTORY", "")
	if got := stateDirectory(""); got != "" {
		t.Errorf("got %q", got)
	}
}
