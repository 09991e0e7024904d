package rpl

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"shirube/internal/config"
	"shirube/internal/daemon"
	"shirube/internal/wire"
)

// outcome is what became of one scenario.
type outcome struct {
	skipped []string // why it was not played
	err     error    // why it failed
	sent    string   // the queries of one that failed
}

// load reads the scenario in file, and plans how it is played. The plan is nil if
// it is not to be, and out says why.
func load(t *testing.T, file string) (sc *Scenario, p *plan, out outcome) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, outcome{err: err}
	}
	if sc, err = Read(filepath.Base(file), bytes.NewReader(text)); err != nil {
		return nil, nil, outcome{err: err}
	}
	if p, err = planOf(t, sc); err != nil || len(p.reasons) > 0 {
		return nil, nil, outcome{err: err, skipped: p.reasons}
	}
	return sc, p, outcome{}
}

// replay plays the scenario in file to a whole pipeline.
func replay(t *testing.T, file string) outcome {
	t.Helper()
	sc, p, out := load(t, file)
	if p == nil {
		return out
	}
	synctest.Test(t, func(t *testing.T) {
		world := NewWorld(sc)
		world.Minimised = p.cfg.Resolver.QNameMinimisation != config.MinimisationOff
		pipeline, err := daemon.NewPipeline(p.cfg, world, slog.New(slog.DiscardHandler))
		if err != nil {
			out.err = err
			return
		}
		defer pipeline.Frontend.Close()
		err = Play(t.Context(), sc, world, pipeline.Frontend, p.play)
		out = outcome{err: err}
		if err != nil {
			out.sent = world.Sent()
		}
	})
	return out
}

// TestScenarios plays the scenarios of this repository.
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.rpl")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".rpl"), func(t *testing.T) {
			switch out := replay(t, file); {
			case out.err != nil:
				t.Errorf("%v\nqueries sent:\n%s", out.err, out.sent)
			case out.skipped != nil:
				t.Errorf("not played: %s", strings.Join(out.skipped, ", "))
			}
		})
	}
}

func TestPlanMapsSettings(t *testing.T) {
	unbound := func(lines string) string { return "server:\n" + lines + "\nCONFIG_END\nSCENARIO_BEGIN x\n" + nothing }
	deckard := func(lines string) string { return lines + "\nCONFIG_END\nSCENARIO_BEGIN x\n" + nothing }
	for name, tt := range map[string]struct {
		text string
		ok   func(p *plan) bool
	}{
		"a date":              {unbound(`val-override-date: "20070916134226"`), func(p *plan) bool { return p.date.Equal(time.Date(2007, 9, 16, 13, 42, 26, 0, time.UTC)) }},
		"seconds since 1970":  {deckard(`val-override-timestamp: "1450794800"`), func(p *plan) bool { return p.date.Unix() == 1450794800 }},
		"TTLs":                {unbound("cache-min-ttl: 5 cache-max-ttl: 10"), func(p *plan) bool { return p.cfg.Cache.MinTTL == 5*time.Second && p.cfg.Cache.MaxTTL == 10*time.Second }},
		"features":            {deckard("features: min_ttl = 5 ; the default"), func(p *plan) bool { return p.cfg.Cache.MinTTL == 5*time.Second }},
		"no IPv6":             {unbound("do-ip6: no"), func(p *plan) bool { return !p.cfg.Resolver.IPv6 && p.cfg.Resolver.IPv4 }},
		"no minimisation":     {unbound(`qname-minimisation: "no"`), func(p *plan) bool { return p.cfg.Resolver.QNameMinimisation == config.MinimisationOff }},
		"strict minimisation": {unbound("qname-minimisation-strict: yes"), func(p *plan) bool { return p.cfg.Resolver.QNameMinimisation == config.MinimisationStrict }},
		"loopback":            {unbound("do-not-query-localhost: no"), func(p *plan) bool { return !p.cfg.Resolver.DoNotQueryLocalhost }},
		"NSID of octets": {unbound(`nsid: "0123456789abcdef"`), func(p *plan) bool {
			return string(p.cfg.Identity.Octets()) == "\x01\x23\x45\x67\x89\xab\xcd\xef"
		}},
		"NSID of text": {unbound("nsid: ascii_tokyo"), func(p *plan) bool { return string(p.cfg.Identity.Octets()) == "tokyo" }},
		"cookies": {unbound(`answer-cookie: yes cookie-secret: "000102030405060708090a0b0c0d0e0f"`), func(p *plan) bool {
			return p.cfg.Cookies.Enabled && len(p.cfg.Cookies.Secrets) == 1 && p.cfg.Cookies.Secrets[0].Octets()[15] == 15
		}},
		"no cookies": {unbound("do-ip6: no"), func(p *plan) bool { return !p.cfg.Cookies.Enabled }},
		"a rule for who has cookies": {unbound("access-control: 127.0.0.0/8 allow_cookie"), func(p *plan) bool {
			return p.cfg.AccessControl[len(p.cfg.AccessControl)-1].Action == config.ActionAllowCookie
		}},
		"full answers":    {unbound("minimal-responses: no"), func(p *plan) bool { return !p.cfg.Cache.MinimalResponses }},
		"minimal answers": {unbound("minimal-responses: yes"), func(p *plan) bool { return p.cfg.Cache.MinimalResponses }},
		"a rule for loopback": {unbound("access-control: 127.0.0.0/8 allow_snoop"), func(p *plan) bool {
			r := p.cfg.AccessControl
			return len(r) == 2 && r[1].Prefix.String() == "127.0.0.0/8" && r[1].Action == config.ActionAllowSnoop
		}},
		"glue from anybody": {unbound("harden-glue: no"), func(p *plan) bool { return !p.cfg.Resolver.HardenGlue }},
		"a forward zone": {unbound("forward-zone:\nname: \"a.\"\nforward-addr: 192.0.2.1\nforward-host: ns.b\nforward-first: yes\nforward-tcp-upstream: yes"), func(p *plan) bool {
			z := p.cfg.ForwardZones
			return len(z) == 1 && z[0].Name == wire.MustParseName("a.") && z[0].Servers[0].Address.String() == "192.0.2.1" &&
				z[0].Hosts[0] == wire.MustParseName("ns.b.") && z[0].First && z[0].TCP
		}},
		"a stub zone": {unbound("stub-zone:\nname: a\nstub-addr: 192.0.2.1"), func(p *plan) bool {
			return len(p.cfg.StubZones) == 1 && p.hints == nil && !p.cfg.StubZones[0].First
		}},
		"hints": {deckard("stub-addr: 2001:db8::1\nstub-name: rootns."), func(p *plan) bool {
			text, err := os.ReadFile(p.cfg.Resolver.RootHints)
			return err == nil && string(text) == ". 3600 NS rootns.\nrootns. 3600 AAAA 2001:db8::1\n"
		}},
		"anchors": {unbound("trust-anchor: \"a. DS 1 8 2 00\"\nval-nsec3-keysize-iterations: \"1024 50 2048 100\"\ndomain-insecure: b"), func(p *plan) bool {
			d := p.cfg.DNSSEC
			return d.Validation && len(d.TrustAnchors) == 1 && d.TrustAnchors[0] == "a. DS 1 8 2 00" && d.MaxNSEC3Iterations == 50 &&
				len(d.NegativeTrustAnchors) == 1 && d.NegativeTrustAnchors[0].Name == wire.MustParseName("b.")
		}},
		"anchors in a file": {unbound("trust-anchor-file:\nTEMPFILE_NAME x\nTEMPFILE_CONTENTS x\n. DS 1 8 2 00\nTEMPFILE_END"), func(p *plan) bool {
			text, err := os.ReadFile(p.cfg.DNSSEC.TrustAnchorFiles[0])
			return err == nil && string(text) == ". DS 1 8 2 00\n" && p.cfg.DNSSEC.Validation
		}},
		"no time of signatures": {unbound(`val-override-date: "-1"`), func(p *plan) bool { return p.cfg.DNSSEC.OverrideTime.Ignore() && p.date.IsZero() }},
		"no hints":              {unbound("do-ip6: no"), func(p *plan) bool { return p.cfg.Resolver.RootHints == "" }},
		"hints in a file": {unbound("root-hints:\nTEMPFILE_NAME x\nTEMPFILE_CONTENTS x\n. NS a.\nTEMPFILE_END"), func(p *plan) bool {
			text, err := os.ReadFile(p.cfg.Resolver.RootHints)
			return err == nil && string(text) == ". NS a.\n"
		}},
	} {
		p, err := planOf(t, mustRead(t, tt.text))
		if err != nil || len(p.reasons) > 0 || !tt.ok(p) {
			t.Errorf("%s: plan %+v, error %v", name, p, err)
		}
	}
}

func TestPlanSaysWhatIsMissing(t *testing.T) {
	for lines, want := range map[string]string{
		"server: no-such-setting: yes":                                 "unknown setting no-such-setting",
		"no-such-key: on":                                              "unknown setting no-such-key",
		"server: trust-anchor: \". DS 1 8 2 00\"":                      "",
		"server: prefetch: yes":                                        "",
		"server: prefetch: no":                                         "",
		"server: harden-glue: no":                                      "",
		"server: verbosity: 4":                                         "",
		"server: module-config: \"dns64 iterator\"":                    "needs DNS64",
		"server: module-config: \"python iterator\"":                   "unknown module python",
		"server: local-zone: test. nodefault":                          "",
		"server: local-zone: test. static":                             "needs local zones",
		"server: access-control: ::1 allow_setrd":                      "needs access-control: allow_setrd",
		"stub-zone: name: \".\" stub-addr: 192.0.2.1 stub-first: yes":  "",
		"stub-zone: name: example. stub-addr: 192.0.2.1":               "",
		"stub-zone: name: example. stub-host: ns. stub-prime: yes":     "needs stub-prime",
		"stub-zone: name: example. stub-addr: ::1 stub-no-cache: yes":  "",
		"stub-zone: name: example. stub-addr: ::1 stub-no-such: yes":   "unknown setting stub-no-such",
		"forward-zone: name: example.":                                 "needs a zone without servers: an exception from the one around it",
		"forward-zone: name: \".\" forward-addr: 192.0.2.1":            "",
		"python: python-script: x":                                     "unknown clause python:",
		"features: dns64_prefix = fe80::; warp = 9":                    "needs DNS64, unknown feature warp",
		"server: do-nat64: yes\nserver: do-nat64: yes dns64-prefix: x": "needs DNS64, needs NAT64",
	} {
		p, err := planOf(t, mustRead(t, lines+"\nCONFIG_END\nSCENARIO_BEGIN x\n"+nothing))
		if err != nil || strings.Join(p.reasons, ", ") != want {
			t.Errorf("%s: %q, error %v; want %q", lines, p.reasons, err, want)
		}
	}
}

func TestPlanReportsSettingsThatAreWrong(t *testing.T) {
	for _, lines := range []string{
		"do-ip6: maybe", "cache-max-ttl: long", "val-override-date: soon", "access-control: everybody allow", "access-control: ::1",
		"stub-addr: here", "local-zone: x", "minimal-responses: 2", "qname-minimisation: ?", "prefetch:", "features: min_ttl = x",
		"nsid: tokyo", "answer-cookie: 2", "cookie-secret: \"00\"", "cookie-secret: x",
	} {
		if p, err := planOf(t, mustRead(t, "server:\n"+lines+"\nCONFIG_END\nSCENARIO_BEGIN x\n"+nothing)); err == nil || !strings.HasPrefix(err.Error(), "test.rpl:") {
			t.Errorf("%s: %+v, error %v", lines, p, err)
		}
	}
}

func TestEverySettingHasOneMeaning(t *testing.T) {
	for key, r := range server {
		if r.same == "" && r.needs == "" && r.apply == nil || r.needs != "" && (r.apply != nil || r.same != "") {
			t.Errorf("%s: %+v", key, r)
		}
	}
}
