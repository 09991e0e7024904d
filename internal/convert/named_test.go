package convert

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// bind converts a text.
func bind(t *testing.T, text string) (*Result, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "named.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Named(path)
}

// quiet are statements without which there are notes, and listeners, of what named
// does by default.
const quiet = "options { listen-on { 127.0.0.1; }; listen-on-v6 { none; }; allow-recursion { any; }; };\n"

// quietly is what comes of that.
const quietly = `listen:
  - {address: "127.0.0.1:53", protocols: [udp, tcp]}
access_control:
  - {prefix: "0.0.0.0/0", action: allow}
  - {prefix: "::/0", action: allow}
`

func TestStatementsOfBINDAreTranslated(t *testing.T) {
	for _, c := range []struct{ conf, want string }{
		{"options { max-cache-ttl 1d2h; };", "cache:\n  max_ttl: 93600s\n"},
		{"options { max-cache-ttl P1DT1S; };", "cache:\n  max_ttl: 86401s\n"},
		{"options { max-ncache-ttl 60; }; # 60", "cache:\n  max_negative_ttl: 60s\n"},
		{"options{prefetch 0;};", "cache:\n  prefetch: false\n"},
		{"options { max-cache-size 10M; };", "cache:\n  answers_size: 8192KiB\n  rrsets_size: 2048KiB\n"},
		{"options { stale-answer-enable YES; max-stale-ttl 1h; };", "cache:\n  serve_stale:\n    enabled: true\n    max_age: 3600s\n"},
		{"options { tcp-idle-timeout 50; };", "limits:\n  tcp_idle_timeout: 5000ms\n"},
		{"options { resolver-query-timeout 10; };", "resolver:\n  timeout: 10s\n"},
		{"options { resolver-query-timeout 8000; };", "resolver:\n  timeout: 8000ms\n"},
		{"options { qname-minimization off; };", "resolver:\n  qname_minimisation: \"off\"\n"},
		{"options { minimal-responses no-auth; };", "cache:\n  minimal_responses: true\n"},
		{"options { dnssec-validation no; };", "dnssec:\n  validation: false\n"},
		{"options { disable-algorithms . { rsasha1; }; };", "dnssec:\n  disabled_algorithms:\n    - \"RSASHA1\"\n"},
		{"options { server-id \"a\"; hostname none; };", "identity:\n  id: \"a\"\n  nsid: \"a\"\n"},
		{"options { directory \"/d\"; dnstap-output file \"t\"; };", "dnstap:\n  outputs:\n    - {file: \"/d/t\"}\n"},
		{"options { forwarders { 192.0.2.1; ::1 port 54; }; };", "forward_zones:\n  - {name: \".\", servers: [{address: \"192.0.2.1\"}, {address: \"[::1]:54\"}], first: true}\n"},
		{
			"tls up { remote-hostname \"a.example\"; }; zone b { type forward; forward only; forwarders tls up { 192.0.2.1 port 853; }; };",
			"forward_zones:\n  - {name: \"b\", servers: [{address: \"192.0.2.1:853\", tls_name: \"a.example\"}], tls: true}\n",
		},
		{"primaries p { 192.0.2.2; }; zone a { type stub; primaries { p; 192.0.2.1; }; };", "stub_zones:\n  - {name: \"a\", servers: [{address: \"192.0.2.2\"}, {address: \"192.0.2.1\"}]}\n"},
		{"zone \".\" { type mirror; primaries { 192.0.2.1; }; };", "local_root:\n  enabled: true\n  servers:\n    - \"192.0.2.1\"\n"},
		{"zone \".\" { type hint; file \"h\"; };", "resolver:\n  root_hints: \"h\"\n"},
		{"server 0.0.0.0/0 { bogus yes; };", "resolver:\n  ipv4: false\n"},
		{"trusted-keys { a. 257 3 13 \"AA BB\"; };", "dnssec:\n  trust_anchors:\n    - \"a. IN DNSKEY 257 3 13 AABB\"\n  auto_trust_anchor: false\n"},
		{"managed-keys { a initial-key 257 3 13 \"AA\n\tBB\"; };", "dnssec:\n  trust_anchors:\n    - \"a. IN DNSKEY 257 3 13 AABB\"\n"},
		{"view all { max-cache-ttl 5; zone \".\" { type hint; file h; }; };", "cache:\n  max_ttl: 5s\nresolver:\n  root_hints: \"h\"\n"},
		{"options { max-cache-ttl 9; }; view all { max-cache-ttl 5; };", "cache:\n  max_ttl: 5s\n"},
	} {
		r, err := bind(t, quiet+c.conf)
		if err != nil {
			t.Errorf("%q: %v", c.conf, err)
			continue
		}
		text, of := r.Text()
		if got := strings.Replace(text, quietly, "", 1); got != c.want {
			t.Errorf("%q:\n%s\nwant\n%s", c.conf, got, c.want)
		}
		if len(of) != strings.Count(text, "\n") || r.Lost() > 0 {
			t.Errorf("%q: %d lines are said to be of entries; %v", c.conf, len(of), r.Notes())
		}
	}
}

func TestNothingOfBINDIsLostInSilence(t *testing.T) {
	for _, c := range []struct {
		conf, want string
		lost       bool
	}{
		{"options {\n frobnicate 7;\n};", ":3: frobnicate: NOT CONVERTED: there is nothing like it", true},
		{"\nfrobnicate { a; };", ":3: frobnicate: NOT CONVERTED", true},
		{"options { dns64 64:ff9b::/96 { }; };", "there is no DNS64", true},
		{"options { max-cache-ttl soon; };", `found "soon"; expected a duration`, true},
		{"options { max-cache-size 5x; };", `found "5x"; expected a size`, true},
		{"options { max-cache-size \"\"; };", `found ""; expected a size`, true},
		{"options { querylog yes; };", "dnstap tells of every query", true},
		{"options { querylog no; };", "querylog: not needed: it is so", false},
		{"options { recursion no; };", "a resolver is all that it is", true},
		{"options { allow-query { localnets; }; };", "localnets: NOT CONVERTED: name the networks", true},
		{"options { allow-query { ! key k; any; }; };", "!key k: NOT CONVERTED: only addresses can be told apart: neither keys nor countries; who is meant may not ask, nor does what follows it count", true},
		{"options { allow-query { nowhere; }; };", "there is no acl nowhere", true},
		{"acl a { b; }; acl b { a; }; options { allow-query { a; }; };", "it refers to itself", true},
		{"options { listen-on port 853 tls ephemeral { any; }; };", `tls "ephemeral" has no certificate and key`, true},
		{"options { listen-on { 192.0.2.0/24; }; };", "it is not an address: name those of the machine", true},
		{"options { forwarders tls nobody { 192.0.2.1; }; };", "has no name that its certificate is for", true},
		{"zone a { type primary; file f; };", "zone a: NOT CONVERTED: zones of your own", true},
		{"zone a { type forward; forwarders { }; };", "zone a: not needed", false},
		{"zone a { type static-stub; };", "zone a: NOT CONVERTED: it has no server", true},
		{"view a { max-cache-ttl 1; }; view b { };", "view a: NOT CONVERTED: all clients are served alike, and there are 2 views: a server for each; nothing of its 1 statements", true},
		{"view _bind ch { };", "view _bind: not needed", false},
		{"server 192.0.2.1 {\n bogus yes; };", ":3: server 192.0.2.1: bogus: NOT CONVERTED", true},
		{"logging { category queries { q; }; };", "category queries: NOT CONVERTED: dnstap tells", true},
		{"logging { category queries { null; }; };", "logging: not needed", false},
		{"trust-anchors { a static-key 257 3 13; };", "it is not a name, three numbers and a key", true},
		{"trust-anchors { a static-key 257 3 13 AA; b initial-key 257 3 13 AA; };", "for all zones or for none", true},
		{"controls { };", "controls: not needed: shirube ctl", false},
	} {
		r, err := bind(t, quiet+c.conf)
		if err != nil {
			t.Errorf("%q: %v", c.conf, err)
			continue
		}
		says(t, c.conf, r, c.want, c.lost)
	}
}

// TestEveryOptionOfBINDIsKnown holds the tables to the options that named.conf(5) of
// BIND 9.18 lists: of each it was decided what becomes of it.
func TestEveryOptionOfBINDIsKnown(t *testing.T) {
	names, err := os.ReadFile("testdata/named-options.txt")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for name := range strings.FieldsSeq(string(names)) {
		n++
		places := 0
		for _, table := range []map[string]string{namedNeedless, namedLost, namedTogether} {
			if table[name] != "" {
				places++
			}
		}
		if _, ok := namedPlain[name]; ok {
			places++
		}
		if _, ok := namedSpecial[name]; ok {
			places++
		}
		if places != 1 {
			t.Errorf("%s is in %d tables; want one", name, places)
		}
	}
	if n < 200 {
		t.Errorf("only %d options", n)
	}
}

func TestClientsAreThoseThatBINDAnswers(t *testing.T) {
	for _, c := range []struct{ options, want string }{
		{"allow-query { none; };", "[]"},
		{"allow-recursion { 10/8; };", "10.0.0.0/8 allow"},
		{"allow-query-cache { 10/8; };", "10.0.0.0/8 allow"},
		{"allow-query { 10/8; };", "10.0.0.0/8 allow"},
		{"allow-query { 10/8; }; allow-recursion { 10.1/16; 192.0.2.1; };", "10.1.0.0/16 allow"},
		{"allow-recursion { !10.1/16; 10/8; };", "10.0.0.0/8 allow 10.1.0.0/16 refuse"},
		{"allow-recursion { 10/8; !10.1/16; };", "10.0.0.0/8 allow"},
		{"allow-recursion { !{ !10.1/16; 10/8; }; any; };", "0.0.0.0/0 allow 10.0.0.0/8 refuse 10.1.0.0/16 allow ::/0 allow"},
		{"allow-recursion { !!10/8; };", "10.0.0.0/8 allow"},
		{"allow-recursion { { !any; }; 10/8; };", "10.0.0.0/8 allow"},
		{"allow-recursion { key a; 10/8; };", "10.0.0.0/8 allow"},
		{"allow-recursion { !key a; 10/8; };", "[]"},
		{"allow-recursion { !{ key a; }; 10/8; };", "[]"},
		{"allow-recursion { 10/8; }; blackhole { 10.9/16; 192.0.2.1; };", "10.0.0.0/8 allow 10.9.0.0/16 deny 192.0.2.1/32 deny"},
		{"allow-recursion { 10/8; }; require-server-cookie yes;", "10.0.0.0/8 allow_cookie"},
		{"", "127.0.0.0/8 allow ::1/128 allow"},
	} {
		r, err := bind(t, "options { "+c.options+" };")
		if err != nil {
			t.Fatal(err)
		}
		text, _ := r.Text()
		var got []string
		for _, m := range regexp.MustCompile(`prefix: "(.*?)", action: (\w+)|access_control: (\[\])`).FindAllStringSubmatch(text, -1) {
			got = append(got, strings.TrimSpace(m[1]+" "+m[2]+m[3]))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%q: %q, want %s", c.options, got, c.want)
		}
	}
}

// TestMostSpecificPrefixSaysWhatTheFirstOneDid compares random lists, of which the
// first element that holds an address decides, with what they become, of which the
// most specific one does.
func TestMostSpecificPrefixSaysWhatTheFirstOneDid(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	addr := func() netip.Addr { // close together, so that prefixes hold one another
		return netip.AddrFrom4([4]byte{10, byte(random.IntN(2)), byte(random.IntN(4) * 64), byte(random.IntN(4))})
	}
	for range 500 {
		m, u := new(matchList), ""
		for range random.IntN(8) {
			p := netip.PrefixFrom(addr(), 4+random.IntN(29)).Masked()
			e := matchElement{not: random.IntN(2) == 0, prefix: p}
			m.elements = append(m.elements, e)
			u += fmt.Sprint(e.not, p, " ")
		}
		a := asking{all: []*matchList{m}, action: "allow"}
		rules, err := a.rules()
		if err != nil {
			t.Fatal(err)
		}
		for range 50 {
			who := addr()
			first, longest, best := "refuse", "refuse", -1
			for _, e := range m.elements {
				if e.prefix.Contains(who) {
					first = map[bool]string{true: "refuse", false: "allow"}[e.not]
					break
				}
			}
			for _, r := range rules {
				var text, action string
				if _, err := fmt.Sscanf(strings.NewReplacer("{prefix: ", "", ",", "", "}", "").Replace(r), "%q action: %s", &text, &action); err != nil {
					t.Fatalf("%s: %v", r, err)
				}
				if p := netip.MustParsePrefix(text); p.Contains(who) && p.Bits() > best {
					longest, best = action, p.Bits()
				}
			}
			if first != longest {
				t.Fatalf("%s: %s for %s, and as %q %s", u, first, who, rules, longest)
			}
		}
	}
}

func TestIncludesOfBINDAreFollowed(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"named.conf": "include \"d/*.conf\";\noptions { directory \"" + dir + "/d\"; include \"o.inc\"; };\n",
		"d/a.conf":   "acl x { include \"" + dir + "/d/list\"; };\n\nfrobnicate;\n", "d/list": "192.0.2.0/24;", "d/o.inc": "allow-query { x; };",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Named(filepath.Join(dir, "named.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := r.Text(); !strings.Contains(text, `{prefix: "192.0.2.0/24", action: allow}`) {
		t.Error(text)
	}
	if n := r.Notes(); len(n) == 0 || n[0].File != filepath.Join(dir, "d/a.conf") || n[0].Line != 3 {
		t.Errorf("%v", n)
	}
}

func TestWhatIsReadOfBINDIsBounded(t *testing.T) {
	loop := filepath.Join(t.TempDir(), "loop.conf")
	if err := os.WriteFile(loop, []byte("include \""+loop+"\";\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Named(loop); err == nil || !strings.Contains(err.Error(), "includes in includes 16 deep") {
		t.Errorf("%v", err)
	}
	for _, c := range []struct{ conf, want string }{
		{"options {\n version \"a", ":2: found a quote without its end"},
		{"/* a\n", ":1: found a comment without its end"},
		{"options {\n", "expected }"},
		{"};", ":1: found } where nothing is open"},
		{"options { a }", `:1: found "a" without a semicolon`},
		{"options { }", `:1: found "options" without a semicolon`},
		{strings.Repeat("a {", maxNesting+2), "braces in braces, more than 32 deep"},
		{strings.Repeat("a;", maxOptions+1), "more than 500000 options"},
		{"include \"nowhere.conf\";", "there is no such file"},
	} {
		if _, err := bind(t, c.conf); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.40q: %v, want %s", c.conf, err, c.want)
		}
	}
	var many strings.Builder
	for i := range maxPrefixes {
		fmt.Fprintf(&many, "10.%d.%d.0/24;", i/256, i%256)
	}
	r, err := bind(t, "options { allow-query { "+many.String()+" }; };")
	if err != nil || !strings.Contains(fmt.Sprint(r.Notes()), "more than 10000 prefixes") {
		t.Errorf("%v", err)
	}
}

func TestSignsAndCommentsAreReadAsBINDDoes(t *testing.T) {
	tokens, err := namedTokens("f", "a//b\nc/**/d /e/f#g\n\"h\\\"#\n\" !i{};")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, k := range tokens {
		got = append(got, fmt.Sprintf("%d %q", k.line, k.text))
	}
	if want := `1 "a" 2 "c" 2 "d" 2 "/e/f#g" 3 "h\"#\n" 4 "!" 4 "i" 4 "{" 4 "}" 4 ";"`; strings.Join(got, " ") != want {
		t.Errorf("%s", got)
	}
}

func TestWhoseConfigurationItIsShows(t *testing.T) {
	for text, want := range map[string]bool{
		"# a: b\nserver:\n": false, "server: port: 53": false, "include-toplevel: \"x\"": false, "": false,
		"options { };": true, "// a: b\n": true, "/* server: */ acl x { ::1; };": true, "\n  zone \"a:b\" { };": true, "options{": true,
	} {
		path := filepath.Join(t.TempDir(), "conf")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := IsNamed(path); got != want || err != nil {
			t.Errorf("%q: %t, %v", text, got, err)
		}
	}
}

func FuzzNamed(f *testing.F) {
	// Short ones: of a long one the fuzzer spends its time on making it short.
	f.Add("zone . { type hint; file h; };\nzone a { type stub; primaries { 192.0.2.1 port 5; }; };")
	f.Add("options { max-cache-size 1g; forwarders port 1 { ::1; }; blackhole { 10/8; }; };")
	f.Add("managed-keys { a initial-key 257 3 13 \"AA\"; };")
	f.Add("acl a { !b; { c; }; }; options { allow-query { a; }; listen-on port 1 tls x { any; }; };")
	f.Fuzz(func(t *testing.T, conf string) {
		var r namedReader
		list, err := r.text("f", strings.ReplaceAll(conf, "include", "x"), 0)
		if err != nil {
			return
		}
		res := translateNamed("f", list)
		if text, of := res.Text(); len(of) != strings.Count(text, "\n") {
			t.Errorf("%d lines, %d of them known:\n%s", strings.Count(text, "\n"), len(of), text)
		}
	})
}
