package archtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// goPackage is what the tests need of `go list -json`.
type goPackage struct {
	Dir            string
	ImportPath     string
	GoFiles        []string
	IgnoredGoFiles []string // for other systems and with other build tags
	TestGoFiles    []string
	XTestGoFiles   []string
	Deps           []string // import paths of all that the package rests on
}

// files returns the package's Go files, whatever system they are for.
func (p *goPackage) files() []string {
	return slices.Concat(p.GoFiles, p.IgnoredGoFiles, p.TestGoFiles, p.XTestGoFiles)
}

// listPackages returns the packages of the module.
func listPackages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=Dir,ImportPath,GoFiles,IgnoredGoFiles,TestGoFiles,XTestGoFiles,Deps", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var packages []goPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		packages = append(packages, p)
	}
	if len(packages) == 0 {
		t.Fatal("go list names no package")
	}
	return packages
}

// root is the module's root, seen from this package.
const root = "../.."

// relDir returns an import path of the module as a directory below the root.
func relDir(importPath string) string {
	return strings.TrimPrefix(strings.TrimPrefix(importPath, module), "/")
}

// inScope reports whether the rule's pattern is about a file, given as a slash
// path from the root.
func inScope(pattern, file string) bool {
	switch {
	case pattern == "...":
		return true
	case strings.HasSuffix(pattern, ".go"):
		ok, err := path.Match(pattern, file)
		return ok && err == nil
	default:
		return covers(pattern, path.Dir(file))
	}
}

// appliesTo reports whether the rule is for a file, a slash path from the root.
func (r *rule) appliesTo(file string) bool {
	match := func(pattern string) bool { return inScope(pattern, file) }
	isTest := strings.HasSuffix(file, "_test.go")
	return (r.tests || !isTest) && slices.ContainsFunc(r.in, match) && !slices.ContainsFunc(r.not, match)
}

// broken returns a line for every rule that forbids file to import what.
func broken(file, what string) []string {
	var out []string
	for i := range rules {
		if r := &rules[i]; r.appliesTo(file) && r.forbids(what) {
			out = append(out, fmt.Sprintf("%s imports %s against rule %q: %s", file, what, r.name, r.reason))
		}
	}
	return out
}

// TestImportsPointDownwards reads every Go file of the module.
func TestImportsPointDownwards(t *testing.T) {
	for _, p := range listPackages(t) {
		for _, name := range p.files() {
			file := path.Join(relDir(p.ImportPath), name)
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.ImportsOnly)
			if err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			for _, imp := range f.Imports {
				what, err := strconv.Unquote(imp.Path.Value)
				if err != nil {
					t.Errorf("%s: import %s: %v", file, imp.Path.Value, err)
				}
				for _, line := range broken(file, what) {
					t.Error(line)
				}
			}
		}
	}
}

// TestNoPackageReachesAroundARule catches what the imports of single files do
// not show: a forbidden package of ours that is reached through a third one.
func TestNoPackageReachesAroundARule(t *testing.T) {
	for _, p := range listPackages(t) {
		file := path.Join(relDir(p.ImportPath), "x.go")
		for _, dep := range p.Deps {
			if !covers(ours, dep) {
				continue
			}
			for i := range rules {
				if r := &rules[i]; r.appliesTo(file) && r.forbids(dep) {
					t.Errorf("%s reaches %s against rule %q: %s", p.ImportPath, dep, r.name, r.reason)
				}
			}
		}
	}
}

// TestValidationNeverAsksTheTime holds dnssec to being pure: the time comes in
// as an argument.
func TestValidationNeverAsksTheTime(t *testing.T) {
	for _, p := range listPackages(t) {
		if !covers(module+"/dnssec/...", p.ImportPath) {
			continue
		}
		for _, name := range slices.Concat(p.GoFiles, p.IgnoredGoFiles) {
			for _, call := range clockReads(t, filepath.Join(p.Dir, name)) {
				t.Errorf("%s reads the clock: time.%s", path.Join(relDir(p.ImportPath), name), call)
			}
		}
	}
}

// clockReads returns the functions of package time by which the file reads the
// clock or waits. It takes "time" for the package, as its importer writes it.
func clockReads(t *testing.T, file string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		switch id, ok := sel.X.(*ast.Ident); {
		case !ok || id.Name != "time":
		case slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"}, sel.Sel.Name):
			out = append(out, sel.Sel.Name)
		}
		return true
	})
	return out
}

// TestRulesBite shows for every rule an import that breaks it, so that a typing
// error in the table cannot turn a rule off.
func TestRulesBite(t *testing.T) {
	tests := []struct{ rule, file, imports string }{
		{"wire", "internal/wire/name.go", "github.com/miekg/dns"},
		{"wire", "internal/wire/name.go", "shirube/internal/ede"},
		{"ede", "internal/ede/ede.go", "shirube/internal/wire"},
		{"rrset", "internal/rrset/rrset.go", "shirube/internal/ede"},
		{"exchange", "internal/exchange/exchange.go", "shirube/internal/rrset"},
		{"clock", "internal/clock/clock.go", "shirube/internal/config"},
		{"deadline", "internal/deadline/deadline.go", "shirube/internal/wire"},
		{"share", "internal/share/share.go", "shirube/internal/wire"},
		{"stack", "internal/stack/stack.go", "shirube/internal/wire"},
		{"hist", "internal/hist/hist.go", "shirube/internal/wire"},
		{"jsonschema", "internal/jsonschema/jsonschema.go", "shirube/internal/config"},
		{"roff", "internal/roff/roff.go", "shirube/internal/config"},
		{"manual", "internal/manual/manual.go", "shirube/internal/config"},
		{"topk", "internal/topk/topk.go", "shirube/dnstap"},
		{"prefetch", "internal/prefetch/prefetch_asm.go", "shirube/cache"},
		{"health", "internal/health/health.go", "shirube/internal/clock"},
		{"admin", "internal/admin/admin.go", "shirube/internal/metrics"},
		{"porttest", "internal/porttest/porttest.go", "shirube/internal/netx"},
		{"localsock", "internal/localsock/gate.go", "shirube/internal/control"},
		{"netlink", "internal/netlink/netlink_linux.go", "shirube/internal/netx"},
		{"netprep", "internal/netprep/netprep.go", "shirube/internal/config"},
		{"members", "internal/members/members.go", "shirube/internal/config"},
		{"metrics", "cache/answers.go", "shirube/internal/metrics"},
		{"netx", "internal/netx/udp.go", "shirube/internal/wire"},
		{"transport", "transport/udp.go", "github.com/miekg/dns"},
		{"transport", "transport/udp.go", "shirube/transport/upstream"},
		{"transport", "transport/udp.go", "shirube/cache"},
		{"transport", "transport/udp.go", "shirube/policy"},
		{"upstream", "transport/upstream/client.go", "shirube/resolver/infra"},
		{"upstream", "transport/upstream/client.go", "shirube/cache"},
		{"resolver", "resolver/resolver.go", "shirube/cache"},
		{"resolver", "resolver/infra/infra.go", "shirube/transport/upstream"},
		{"resolver", "resolver/resolver.go", "shirube/internal/frontend"},
		{"localroot", "resolver/localroot/localroot.go", "shirube/resolver"},
		{"anchor", "resolver/anchor/tracker.go", "shirube/resolver"},
		{"anchor", "resolver/anchor/tracker.go", "net/netip"},
		{"discovery", "discovery/ddr.go", "shirube/internal/certs"},
		{"discovery", "discovery/records.go", "github.com/miekg/dns"},
		{"control", "internal/control/server.go", "shirube/internal/daemon"},
		{"cache", "cache/memory.go", "shirube/transport"},
		{"policy", "policy/acl.go", "github.com/miekg/dns"},
		{"hit-path", "cache/answers.go", "github.com/miekg/dns"},
		{"hit-path", "internal/frontend/frontend.go", "github.com/miekg/dns"},
		{"convert", "internal/convert/unbound.go", "shirube/internal/wire"},
		{"verify", "internal/verify/verify.go", "shirube/internal/daemon"},
		{"dnssec", "dnssec/verify.go", "net"},
		{"dnssec", "dnssec/verify.go", "net/netip"},
		{"dnssec", "dnssec/verify.go", "context"},
		{"config", "resolver/resolver.go", "shirube/internal/config"},
		{"cmd", "internal/daemon/daemon_test.go", "github.com/spf13/cobra"},
		{"shared", "cache/shared/shared.go", "github.com/miekg/dns"},
		{"shared", "cache/shared/shared.go", "shirube/cache"},
		{"gomemcache", "cache/answers.go", "github.com/bradfitz/gomemcache/memcache"},
		{"gomemcache", "internal/daemon/daemon.go", "github.com/bradfitz/gomemcache/memcache"},
		{"circl", "resolver/resolver.go", "github.com/cloudflare/circl/sign/ed448"},
		{"dnstap", "dnstap/tap.go", "shirube/transport"},
		{"otlp", "internal/otlp/otlp.go", "shirube/resolver"},
		{"collector", "dnstap/collector/collector.go", "shirube/transport"},
		{"golang-dnstap", "transport/udp.go", "github.com/dnstap/golang-dnstap"},
		{"quic-and-http2", "internal/netx/udp.go", "golang.org/x/net/ipv4"},
		{"announce", "announce/probe.go", "shirube/transport/clients"},
		{"announcer", "internal/daemon/daemon.go", "shirube/announce"},
		{"announcer", "cmd/shirube/serve.go", "shirube/announce/bgp"},
		{"speaker", "announce/bgp/speaker.go", "shirube/internal/config"},
		{"exposition", "internal/exposition/exposition.go", "shirube/announce"},
		{"gobgp", "internal/daemon/daemon.go", "github.com/osrg/gobgp/v4/pkg/server"},
		{"gobgp", "announce/announce.go", "github.com/osrg/gobgp/v4/pkg/server"},
		{"prometheus", "cache/answers.go", "github.com/prometheus/client_golang/prometheus"},
		{"yaml", "cmd/shirube/serve.go", "go.yaml.in/yaml/v3"},
		{"superseded", "cache/answers_test.go", "log"},
		{"superseded", "resolver/infra/infra.go", "math/rand"},
		{"test-frameworks", "cache/answers_test.go", "github.com/stretchr/testify/require"},
		{"laboratory", "internal/daemon/daemon.go", "shirube/internal/lab"},
		{"certs", "internal/certs/certs.go", "shirube/transport"},
	}
	seen := map[string]bool{}
	for _, tt := range tests {
		lines := broken(tt.file, tt.imports)
		hit := slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, strconv.Quote(tt.rule)) })
		if !hit {
			t.Errorf("rule %q lets %s import %s", tt.rule, tt.file, tt.imports)
		}
		seen[tt.rule] = true
	}
	for i := range rules {
		if !seen[rules[i].name] {
			t.Errorf("no case shows that rule %q bites", rules[i].name)
		}
	}
}

// TestRulesLetTheDesignThrough shows imports that the design wants.
func TestRulesLetTheDesignThrough(t *testing.T) {
	tests := []struct{ file, imports string }{
		{"internal/wire/name_test.go", "github.com/miekg/dns"},
		{"internal/rrset/rrset.go", "shirube/internal/wire"},
		{"transport/udp.go", "shirube/internal/wire"},
		{"transport/udp.go", "shirube/internal/netx"},
		{"transport/upstream/client.go", "github.com/miekg/dns"},
		{"transport/upstream/client.go", "shirube/internal/exchange"},
		{"resolver/resolver.go", "shirube/resolver/infra"},
		{"cache/memory.go", "github.com/miekg/dns"},
		{"internal/frontend/pack.go", "github.com/miekg/dns"},
		{"internal/daemon/daemon.go", "shirube/internal/config"},
		{"cmd/shirube/serve.go", "github.com/spf13/cobra"},
		{"cmd/shirube/demo.go", "shirube/internal/lab"},
		{"cache/answers.go", "log/slog"},
		{"resolver/infra/infra.go", "math/rand/v2"},
		{"dnssec/verify.go", "time"},
		{"discovery/discovery.go", "shirube/internal/ede"},
	}
	for _, tt := range tests {
		for _, line := range broken(tt.file, tt.imports) {
			t.Error(line)
		}
	}
}
