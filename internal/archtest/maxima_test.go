package archtest

import (
	"go/ast"
	"go/token"
	"os"
	"regexp"
	"strings"
	"testing"
)

// noLimits are constants that are called a maximum and bound nothing that others
// could make too much of, and why.
var noLimits = map[string]string{
	// What a format allows: more cannot be said in it.
	"cache.maxTTL": "RFC 2181", "wire.maxTTL": "RFC 2181", "upstream.maxAge": "RFC 9111",
	"cache.maxKey": "the longest name", "wire.MaxNameLen": "RFC 1035", "wire.MaxLabelLen": "RFC 1035", "wire.maxLabels": "RFC 1035",
	"resolver.maxLabels": "RFC 1035", "wire.MaxOrderKeyLen": "the longest name", "wire.maxServerCookie": "RFC 7873", "wire.maxCookieOctets": "RFC 7873",
	"upstream.maxServerCookie": "RFC 7873", "upstream.maxCookieLen": "RFC 7873", "upstream.maxQueryLen": "what the server itself asks", "upstream.maxEDNSSize": "what is offered",
	"transport.maxStreamID": "RFC 9113", "transport.maxWindow": "RFC 9113", "netx.maxPiece": "what the kernel takes", "netlink.maxDatagram": "what the kernel sends",
	"localsock.maxPath": "unix(7)", "localsock.maxPeerGroups": "the kernel refuses to tell of more, and none counts", "config.maxSocketPath": "unix(7)", "netprep.maxName": "if.h", "systemd.maxName": "sd_listen_fds(3)", "anchor.maxFileName": "file systems",
	"shared.maxMilli": "the year 9999", "dnssec.maxStdlibE": "what crypto/rsa takes", "config.maxChaos": "RFC 1035", "config.maxNSID": "the frontend's MaxNSID", "clock.MaxOffset": "what a time.Duration holds",
	// The shape of memory that has its size from elsewhere.
	"cache.maxSlack": "of a slot", "cache.maxFreq": "two bits", "cache.maxTTLs": "of MaxAnswer octets", "cache.maxArena": "of the size of the cache", "cache.maxArenas": "of the size of the cache",
	"dnstap.maxLanes": "of the size of a queue", "collector.maxHalvings": "of 64 bits", "netx.MaxBatch": "udp.batch is checked against it",
	// How long something waits; more of it costs nothing.
	"cache.maxPrefetch": "what fits into its field", "infra.MaxOut": "between tries of a family", "infra.MaxBackoff": "between tries of a server", "infra.MaxTimeout": "resolver.timeout ends a question",
	"localroot.maxRefresh": "between looks at the root zone", "control.maxSeconds": "what a time.Duration holds", "convert.maxException": "what the configuration takes",
	// How much of a text, or of a list, a person is shown.
	"config.maxQuote": "shown", "config.maxNearest": "a hint", "config.maxBrokenLines": "a hint", "daemon.maxNamesShown": "shown", "collector.maxColumns": "shown",
	"otlp.maxReplyText": "shown", "verify.maxFlushSay": "shown", "resolver.maxReasons": "shown",
	// What the operator himself writes down, once.
	"config.maxMeasure": "a number", "config.maxTapIdentity": "a name", "main.maxConvertPasses": "over the operator's own file",
}

// notServed are the directories that no server has anything of.
var notServed = []string{"bench", "deploy", "internal/lab", "internal/rpl", "internal/simnet", "tools", ".git"}

// TestEveryMaximumHasARowOrAReason finds all constants that are called a maximum:
// what bounds something stands in docs/limits.md, with a test that shows it bite.
func TestEveryMaximumHasARowOrAReason(t *testing.T) {
	page, err := os.ReadFile("../../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[string]bool)
	for name := range noLimits {
		known[name] = true
	}
	found := 0
	for _, m := range maxima(t) {
		found++
		_, name, _ := strings.Cut(m, ".")
		listed := regexp.MustCompile("`" + name + "`").Match(page)
		if !known[m] && !listed {
			t.Errorf("%s bounds what? docs/limits.md has no row for it", m)
		}
		delete(known, m)
	}
	for name := range known {
		t.Errorf("there is no %s", name)
	}
	if found < 150 {
		t.Errorf("only %d were found", found)
	}
}

// maxima returns all constants of what is served that are called a maximum, as
// package.name.
func maxima(t *testing.T) (names []string) {
	t.Helper()
	called := regexp.MustCompile(`^[mM]ax[A-Z]`)
	eachFile(t, notServed, func(_ string, _ *token.FileSet, f *ast.File) {
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, spec := range g.Specs {
				for _, n := range spec.(*ast.ValueSpec).Names {
					if called.MatchString(n.Name) {
						names = append(names, f.Name.Name+"."+n.Name)
					}
				}
			}
		}
	})
	return names
}
