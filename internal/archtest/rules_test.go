// Package archtest holds the plan of the house to its word: which package may
// import which, and that every dependency is accounted for in the manual.
package archtest

import "strings"

// module is the import path of this module.
const module = "shirube"

// rule forbids imports. It is the one place where a direction is written:
// direction_test.go checks the tree against the rules, and the depguard section
// of .golangci.yml is written from them.
type rule struct {
	name string
	// in lists what the rule is for: a directory "a", a directory and all
	// below it "a/...", or files "a/b*.go". "..." is the whole module.
	in []string
	// not lists what in matches but the rule is not for.
	not []string
	// tests says that the rule is for _test.go files too.
	tests bool
	// deny lists forbidden imports: "p" exactly, or "p/..." with all below.
	deny []string
	// allow lists exceptions from deny.
	allow []string
	// reason is what someone who broke the rule is told.
	reason string
}

// The libraries that have one importer (or, for miekg, banned places).
const (
	miekg = "github.com/miekg/dns/..."
	ours  = module + "/..."
)

// rules is the plan of the house: the import directions of the design.
var rules = []rule{
	{
		name: "wire", in: []string{"internal/wire"}, deny: []string{ours, miekg},
		reason: "wire is the ground floor and works on bytes only: the hit path goes through it and must not unpack messages",
	},
	{
		name: "ede", in: []string{"internal/ede"}, deny: []string{ours, miekg},
		reason: "ede is a leaf: errors know their code, and nothing of the server",
	},
	{
		name: "rrset", in: []string{"internal/rrset"},
		deny: []string{ours}, allow: []string{module + "/internal/wire"},
		reason: "rrset stands on wire only, so that resolver, validator and memory can share it",
	},
	{
		name: "exchange", in: []string{"internal/exchange"},
		deny: []string{ours}, allow: []string{module + "/internal/wire"},
		reason: "exchange is the leaf through which resolver and upstream transport talk without knowing each other",
	},
	{
		name: "clock", in: []string{"internal/clock"}, deny: []string{ours, miekg},
		reason: "clock is a leaf: whoever keeps data asks it for the time",
	},
	{
		name: "deadline", in: []string{"internal/deadline"}, deny: []string{ours, miekg},
		reason: "deadline is a leaf: it adds to package context, and knows nothing of questions",
	},
	{
		name: "share", in: []string{"internal/share"}, deny: []string{ours, miekg},
		reason: "share is a leaf: it counts who holds how much, of whatever it is",
	},
	{
		name: "stack", in: []string{"internal/stack"}, deny: []string{ours, miekg},
		reason: "stack is a leaf: it is about goroutines, whatever they do",
	},
	{
		name: "hist", in: []string{"internal/hist"}, deny: []string{ours, miekg},
		reason: "hist is a leaf: it counts durations, whatever took so long",
	},
	{
		name: "topk", in: []string{"internal/topk"}, deny: []string{ours, miekg},
		reason: "topk is a leaf: it counts keys, whatever they are of",
	},
	{
		name: "prefetch", in: []string{"internal/prefetch"}, deny: []string{ours, miekg},
		reason: "prefetch is a leaf: it knows addresses, whatever is there",
	},
	{
		name: "health", in: []string{"internal/health"}, deny: []string{ours, miekg},
		reason: "health is a leaf: it is told what is wrong, and asked whether anything is",
	},
	{
		name: "admin", in: []string{"internal/admin"},
		deny: []string{ours}, allow: []string{module + "/internal/health", module + "/internal/localsock", module + "/internal/netx"},
		reason: "the admin listener is given functions by the daemon: it knows requests and who sends them, not the server",
	},
	{
		name: "jsonschema", in: []string{"internal/jsonschema"}, deny: []string{ours, miekg},
		reason: "jsonschema is a leaf, for tests: it holds values against schemas, whatever they are about",
	},
	{
		name: "porttest", in: []string{"internal/porttest"}, deny: []string{ours, miekg},
		reason: "porttest is a leaf, for tests: it gives ports, whatever listens on them",
	},
	{
		name: "manual", in: []string{"internal/manual"}, deny: []string{ours, miekg},
		reason: "manual is a leaf, for tests: it reads pages, whatever their commands are for",
	},
	{
		name: "roff", in: []string{"internal/roff"}, deny: []string{ours, miekg},
		reason: "roff is a leaf: it writes manual pages, whatever they are about",
	},
	{
		name: "localsock", in: []string{"internal/localsock"}, deny: []string{ours, miekg},
		reason: "localsock is a leaf: it knows who connects, not what for",
	},
	{
		name: "metrics", in: []string{"..."}, not: []string{"cmd/...", "internal/daemon/...", "internal/metrics/..."},
		deny:   []string{module + "/internal/metrics/..."},
		reason: "metrics read what packages count: no package knows of them, and only the daemon puts the two together",
	},
	{
		name: "netx", in: []string{"internal/netx"},
		deny:   []string{ours, miekg},
		reason: "netx is sockets and system calls: it knows datagrams, not DNS",
	},
	{
		name: "netlink", in: []string{"internal/netlink"}, deny: []string{ours, miekg},
		reason: "netlink is a leaf: it carries messages to the kernel, whatever they are about",
	},
	{
		name: "netprep", in: []string{"internal/netprep"}, deny: []string{ours, miekg}, allow: []string{module + "/internal/netlink"},
		reason: "netprep prepares a network before a server is there: it knows interfaces and routes, and no part of one",
	},
	{
		name: "members", in: []string{"internal/members"}, deny: []string{ours, miekg},
		reason: "members is a leaf: it reads pods, whatever runs in them",
	},
	{
		name: "certs", in: []string{"internal/certs"}, deny: []string{ours, miekg},
		reason: "certs is a leaf: it knows files and handshakes; transport is given a *tls.Config",
	},
	{
		name: "transport", in: []string{"transport/..."}, not: []string{"transport/upstream/..."},
		deny: []string{ours, miekg},
		allow: []string{
			module + "/transport", module + "/internal/wire", module + "/internal/ede", module + "/internal/netx",
			module + "/internal/deadline", module + "/internal/hist", module + "/internal/share", module + "/internal/stack",
			module + "/dnstap",
		},
		reason: "transport knows bytes and a Handler: what a message means is the frontend's business",
	},
	{
		name: "dnstap", in: []string{"dnstap"}, deny: []string{ours, miekg}, allow: []string{module + "/internal/wire"},
		reason: "taps are called on every hit, by whoever has the message: they copy bytes, and know nothing of the server",
	},
	{
		name: "otlp", in: []string{"internal/otlp/..."}, deny: []string{ours, miekg},
		allow:  []string{module + "/internal/wire", module + "/internal/otlp/otlptest"},
		reason: "otlp sends spans, whatever they are of: what a resolution consists of the frontend puts into them",
	},
	{
		name: "collector", in: []string{"dnstap/collector"},
		deny: []string{ours},
		allow: []string{
			module + "/dnstap", module + "/internal/wire", module + "/internal/exposition", module + "/internal/hist", module + "/internal/topk",
		},
		reason: "the collector is a program of its own: it reads what servers send, and is no part of one",
	},
	{
		name: "upstream", in: []string{"transport/upstream/..."},
		deny: []string{
			module + "/resolver/...", module + "/cache/...", module + "/policy/...",
			module + "/internal/frontend/...", module + "/internal/daemon/...",
		},
		reason: "upstream carries one question to one server; who asks, what is remembered and who may ask is decided above it",
	},
	{
		name: "resolver", in: []string{"resolver/..."},
		deny: []string{
			module + "/cache/...", module + "/transport/...",
			module + "/internal/frontend/...", module + "/internal/daemon/...",
		},
		reason: "the resolver declares what it needs (Exchanger, Memory): it knows no cache, no sockets, and not how answers are packed",
	},
	{
		name: "localroot", in: []string{"resolver/localroot"},
		deny: []string{ours}, allow: []string{module + "/internal/wire", module + "/internal/clock"},
		reason: "the local copy of the root is a source of messages like any server: it does not know who asks it",
	},
	{
		name: "anchor", in: []string{"resolver/anchor"},
		deny: []string{ours, "net/..."},
		allow: []string{
			module + "/dnssec", module + "/internal/clock", module + "/internal/ede", module + "/internal/rrset",
			module + "/internal/wire",
		},
		reason: "trust anchors are told what a zone's keys are, and ask nobody: they know no resolver and no sockets",
	},
	{
		name: "cache", in: []string{"cache/..."},
		deny: []string{
			module + "/transport/...", module + "/policy/...",
			module + "/internal/frontend/...", module + "/internal/daemon/...",
		},
		reason: "a cache keeps what it is given: it neither asks nor answers anybody",
	},
	{
		name: "shared", in: []string{"cache/shared"},
		deny: []string{ours, miekg},
		allow: []string{
			module + "/internal/wire", module + "/internal/ede", module + "/internal/rrset", module + "/internal/clock",
			module + "/internal/hist",
		},
		reason: "the shared cache carries sealed bytes: it knows what they are about, and neither what they say nor who asks",
	},
	{
		name: "policy", in: []string{"policy/..."},
		deny: []string{
			miekg, module + "/cache/...", module + "/resolver/...", module + "/transport/...",
			module + "/internal/frontend/...", module + "/internal/daemon/...",
		},
		reason: "policy is asked on every hit: it works on wire names and addresses, and calls nobody",
	},
	{
		name: "discovery", in: []string{"discovery"},
		deny: []string{ours, miekg}, allow: []string{module + "/internal/wire", module + "/internal/ede"},
		reason: "what a server says of itself is said on the hit path, in bytes: listeners and certificates are shown to it by the daemon",
	},
	{
		name: "hit-path", in: []string{"cache/answer*.go", "internal/frontend"}, not: []string{"internal/frontend/pack*.go"},
		deny:   []string{miekg},
		reason: "a hit is a copy of bytes: nothing is unpacked or allocated on the way from memory to the client",
	},
	{
		name: "convert", in: []string{"internal/convert"}, deny: []string{ours, miekg},
		reason: "convert reads words and writes words: whether they are a configuration is asked by the command",
	},
	{
		name: "verify", in: []string{"internal/verify"}, deny: []string{ours},
		allow:  []string{module + "/internal/verify", module + "/internal/wire", module + "/internal/hist", module + "/internal/topk", module + "/transport/clients", module + "/internal/exposition", module + "/dnstap/..."},
		reason: "what verifies a server knows it from outside only, as clients do",
	},
	{
		name: "dnssec", in: []string{"dnssec/..."}, deny: []string{"net/...", "context"},
		reason: "validation is pure: no I/O, no waiting; time and bytes come in as arguments",
	},
	{
		name: "control", in: []string{"internal/control"},
		deny: []string{ours}, allow: []string{module + "/internal/wire", module + "/internal/localsock"},
		reason: "the control socket is given functions by the daemon: it knows requests and who sends them, not the server",
	},
	{
		name: "announce", in: []string{"announce"}, deny: []string{ours},
		allow:  []string{module + "/internal/exposition", module + "/internal/netlink"},
		reason: "the announcer is a program of its own, which outlives the resolver: it knows questions and routes, and no part of a server",
	},
	{
		name: "announcer", in: []string{"..."}, not: []string{"cmd/shirube-announce/...", "announce/..."}, tests: true,
		deny:   []string{module + "/announce/..."},
		reason: "routes are the business of a program of its own: what speaks BGP has no place in the resolver",
	},
	{
		name: "speaker", in: []string{"announce/bgp"}, deny: []string{ours},
		allow:  []string{module + "/announce", module + "/internal/exposition", module + "/internal/netlink"},
		reason: "the speaker is told routes: it knows nothing of why",
	},
	{
		name: "exposition", in: []string{"internal/exposition"}, deny: []string{ours, miekg},
		reason: "exposition is a leaf: it writes numbers, whatever they count",
	},
	{
		name: "config", in: []string{"..."}, not: []string{"cmd/...", "internal/daemon/...", "internal/config/..."},
		deny:   []string{module + "/internal/config/..."},
		reason: "only cmd and internal/daemon know the file: every other package takes an Options struct",
	},
	{
		name: "cmd", in: []string{"..."}, not: []string{"cmd/..."}, tests: true,
		deny:   []string{module + "/cmd/...", "github.com/spf13/..."},
		reason: "the command line is the outermost shell: nothing may depend on it, and only it needs cobra",
	},
	{
		name: "gomemcache", in: []string{"..."}, not: []string{"cache/shared"}, tests: true,
		deny:   []string{"github.com/bradfitz/gomemcache/..."},
		reason: "one importer per library: memcached is the shared cache's business",
	},
	{
		name: "circl", in: []string{"..."}, not: []string{"dnssec/..."}, tests: true,
		deny:   []string{"github.com/cloudflare/circl/..."},
		reason: "one importer per library: signatures are verified by dnssec",
	},
	{
		name: "golang-dnstap", in: []string{"..."}, not: []string{"dnstap/..."}, tests: true,
		deny:   []string{"github.com/dnstap/golang-dnstap/...", "github.com/farsightsec/golang-framestream/..."},
		reason: "one importer per library: taps are dnstap's business",
	},
	{
		name: "quic-and-http2", in: []string{"..."}, not: []string{"transport/..."}, tests: true,
		deny:   []string{"github.com/quic-go/...", "golang.org/x/net/..."},
		reason: "one importer per library: QUIC and HTTP are transport's business",
	},
	{
		name: "gobgp", in: []string{"..."}, not: []string{"announce/bgp"}, tests: true,
		deny:   []string{"github.com/osrg/gobgp/..."},
		reason: "one importer per library: routes are made by announce/bgp",
	},
	{
		name: "prometheus", in: []string{"..."}, not: []string{"internal/metrics/..."}, tests: true,
		deny:   []string{"github.com/prometheus/..."},
		reason: "one importer per library: packages expose a Stats() snapshot, internal/metrics reads it",
	},
	{
		name: "yaml", in: []string{"..."}, not: []string{"internal/config/...", "deploy/kubernetes/...", "deploy/rollout"}, tests: true,
		deny:   []string{"go.yaml.in/yaml/...", "gopkg.in/yaml.v2", "gopkg.in/yaml.v3", "github.com/goccy/go-yaml/..."},
		reason: "one importer per library: files are read by internal/config, and manifests by their own tests",
	},
	{
		name: "superseded", in: []string{"..."}, tests: true, deny: []string{"log", "math/rand", "io/ioutil"},
		reason: "use log/slog (structured, levelled), math/rand/v2 or crypto/rand, and io or os",
	},
	{
		name: "test-frameworks", in: []string{"..."}, tests: true,
		deny: []string{
			"github.com/stretchr/testify/...", "github.com/onsi/...", "github.com/golang/mock/...", "go.uber.org/mock/...",
		},
		reason: "tests use the standard library: plain comparisons, and fakes written beside the interface",
	},
	{
		name: "laboratory", in: []string{"..."}, not: []string{"cmd/...", "bench/...", "internal/lab/...", "internal/memcached", "internal/simnet/...", "internal/rpl/..."},
		deny: []string{
			module + "/internal/lab/...", module + "/internal/simnet/...", module + "/internal/rpl/...", module + "/internal/memcached/...",
			module + "/internal/porttest", module + "/dnstap/dnstaptest",
		},
		reason: "laboratories are for tests and the demo: the server does not depend on them",
	},
}

// covers reports whether the import pattern ("p" or "p/...") matches path.
func covers(pattern, path string) bool {
	base, tree := strings.CutSuffix(pattern, "/...")
	if path == base {
		return true
	}
	return tree && strings.HasPrefix(path, base+"/")
}

// forbids reports whether r forbids path. An exception is exact or a subtree.
func (r *rule) forbids(path string) bool {
	for _, a := range r.allow {
		if covers(a, path) {
			return false
		}
	}
	for _, d := range r.deny {
		if covers(d, path) {
			return true
		}
	}
	return false
}
