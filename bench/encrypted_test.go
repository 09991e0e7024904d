package main

import (
	"strings"
	"testing"
)

func TestEncryptedReportComparesWithTheBestPeer(t *testing.T) {
	r := &encryptedReport{
		Versions: map[string]string{"unbound": "u", "knot": "k", "shirube": "s"}, servers: []string{"unbound", "knot", "shirube"},
		Runs: []encryptedRun{
			{Load: "dot20", Server: "unbound", CPU: 16}, {Load: "dot20", Server: "knot", CPU: 10}, {Load: "dot20", Server: "shirube", CPU: 5},
		},
	}
	if best := r.best("dot20"); best != 10 {
		t.Errorf("the best peer needs %v", best)
	}
	if text := r.markdown(); !strings.Contains(text, "| dot20 | shirube | 5.00 (5.00–5.00) | 200000 queries | 0.50 |") {
		t.Errorf("%s", text)
	}
}

func TestSecuredConfigurationsAreThoseBeforeWithoutAnIdentity(t *testing.T) {
	l, c := &lab{dir: "/nowhere"}, &contestant{name: "x", threads: 2}
	for _, secure := range []func(*contestant, string) string{l.secureUnbound, l.secureKnot, l.secureBIND, l.secureShirube} {
		if got := secure(c, "as it was"); got != "as it was" {
			t.Errorf("%q", got)
		}
	}
	l.identity = &identity{certificate: "/c.pem", key: "/k.pem"}
	for _, text := range []string{l.secureUnbound(c, ""), l.secureKnot(c, ""), l.secureBIND(c, "  listen-on-v6 { none; };"), l.secureShirube(c, shirubeConf(l, c))} {
		if !strings.Contains(text, "853") || !strings.Contains(text, "443") || !strings.Contains(text, "/c.pem") {
			t.Errorf("%s", text)
		}
	}
}
