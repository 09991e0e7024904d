package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// exampleEncrypted is a comparison of four servers, of which two speak QUIC.
func exampleEncrypted() *encryptedReport {
	return &encryptedReport{
		testbed:  testbed{Date: time.Date(2026, 11, 22, 1, 2, 3, 0, time.UTC), CPU: "A CPU", Cores: 2, Kernel: "6.1", NSD: "NSD 4"},
		Versions: map[string]string{"unbound": "u", "knot": "k", "sdns": "d", "shirube": "s"}, Servers: []string{"unbound", "knot", "sdns", "shirube"},
		Absent: []string{"bind"}, Lacking: []string{"doq-0rtt: sdns: no"}, Failures: []string{"full: knot: it broke"},
		Runs: []encryptedRun{
			{Load: "dot20", Server: "unbound", CPU: 16, PerSecond: 60_000},
			{Load: "dot20", Server: "knot", CPU: 10, PerSecond: 90_000},
			{Load: "dot20", Server: "shirube", CPU: 5, PerSecond: 120_000, Cores: 0.8, DriverLoad: 1.1},
			{Load: "doh20", Server: "knot", CPU: 10, PerSecond: 1},
			{Load: "doh20", Server: "shirube", CPU: 9, PerSecond: 1},
			{Load: "doq20", Server: "sdns", CPU: 40, PerSecond: 20_000, P50: 1, P99: 4},
			{Load: "doq20", Server: "shirube", CPU: 30, PerSecond: 25_000, P50: 1.5, P99: 3, Lost: 2},
			{Load: "doq-0rtt", Server: "shirube", CPU: 200, PerSecond: 900},
		},
	}
}

func TestEncryptedReportComparesWithTheBestPeer(t *testing.T) {
	r := exampleEncrypted()
	if best := r.best("dot20"); best != 10 {
		t.Errorf("the best peer needs %v", best)
	}
	text := r.markdown(r.plot())
	for _, want := range []string{
		"| dot20 | shirube | 5.00 | 200000 queries | 0.50 | 120000 | – | 0.80, 1.10 | 0 | 0.0 % |\n",
		"| doq20 | shirube | 30.00 | 33333 queries | 0.75 | 25000 | 1.50, 3.00 | 0.00, 0.00 | 2 | 0.0 % |\n",
		"| doq-0rtt | shirube | 200.00 | 5000 handshakes | – | 900 |",
		"- Not installed, and so not measured: bind.\n", "not offered: doq-0rtt: sdns: no.\n", "- **Failed**: full: knot: it broke.\n",
		"](2026-11-22-encrypted-cpu.svg)\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestManualTellsOfEncryptedTransports(t *testing.T) {
	dir := t.TempDir()
	if text, err := encryptedDigest(dir); err != nil || text != "Nothing has been measured yet.\n" {
		t.Errorf("of nothing: %q, %v", text, err)
	}
	data, err := json.Marshal(exampleEncrypted())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"2026-11-21-encrypted.json", "2026-11-22-encrypted.json", "2026-11-23-encrypted-full.json"} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := encryptedDigest(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"](../bench/results/2026-11-22-encrypted.md)", "](../bench/results/2026-11-22-encrypted-cpu.svg)",
		"| DoT, 20 connections | 16.00 | 10.00 | – | 5.00 | 0.50 | at most 0.8: met |\n",
		"| DoH, 20 connections | – | 10.00 | – | 9.00 | 0.90 | at most 0.8: **not met** |\n",
		"| DoQ, 20 connections | – | – | 40.00 | 30.00 | 0.75 | |\n",
		"| DoQ, sessions resumed, query in 0-RTT | – | – | – | 200.00 | no peer offers it | |\n",
		"| DoQ, 20 connections | – | – | 20000 | 25000 |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestPartialEncryptedReportsHaveANameOfTheirOwn(t *testing.T) {
	r := exampleEncrypted()
	if r.Partial = []string{"full", "resumed"}; r.base() != "2026-11-22-encrypted-full+resumed" {
		t.Errorf("it is called %s", r.base())
	}
}

func TestServersWithout0RTTAreNoFailure(t *testing.T) {
	r, s := new(encryptedReport), &contestant{name: "x"}
	if err := errors.Join(r.failed(t.Context(), "doq-0rtt", s, errNoEarly), r.failed(t.Context(), "full", s, errors.New("broken\nin two"))); err != nil {
		t.Fatal(err)
	}
	if len(r.Lacking) != 1 || len(r.Failures) != 1 || r.Failures[0] != "full: x: broken" {
		t.Errorf("lacking %q, failures %q", r.Lacking, r.Failures)
	}
}

func TestLoadsAreFoundInTheirOrder(t *testing.T) {
	all, err := findLoads(knownLoads())
	if err != nil || len(all) != len(encryptedLoads) {
		t.Errorf("%d loads, %v", len(all), err)
	}
	some, err := findLoads("doq-full,dot20")
	if err != nil || len(some) != 2 || some[0].name != "dot20" {
		t.Errorf("%v, %v", some, err)
	}
	if _, err := findLoads("dot20,dot21"); err == nil || !strings.Contains(err.Error(), "dot21") {
		t.Errorf("an unknown load: %v", err)
	}
}

func TestSecuredConfigurationsAreThoseBeforeWithoutAnIdentity(t *testing.T) {
	l, c := &lab{dir: "/nowhere", net: new(internet)}, &contestant{name: "x", threads: 2}
	for _, secure := range []func(*contestant, string) string{l.secureUnbound, l.secureKnot, l.secureBIND, l.secureSDNS, l.secureShirube} {
		if got := secure(c, "as it was"); got != "as it was" {
			t.Errorf("%q", got)
		}
	}
	l.identity = &identity{certificate: "/c.pem", key: "/k.pem"}
	for _, text := range []string{
		l.secureUnbound(c, ""), l.secureKnot(c, ""), l.secureBIND(c, "  listen-on-v6 { none; };"), l.secureSDNS(c, sdnsConf(l, c)),
		l.secureShirube(c, shirubeConf(l, c)),
	} {
		if !strings.Contains(text, "853") || !strings.Contains(text, "443") || !strings.Contains(text, "/c.pem") {
			t.Errorf("%s", text)
		}
	}
}
