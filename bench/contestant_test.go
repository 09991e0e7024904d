package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// stubVersions are programs that say nothing but a version.
func stubProgram(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho '"+text+"'\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestContestantsOfOneKindAreNumbered(t *testing.T) {
	a, b := stubProgram(t, "shirube v1"), stubProgram(t, "shirube v2")
	all, err := newContestants(t.Context(), settings{peers: "shirube,echo,shirube=" + b + ",echo", shirube: a, threads: 3})
	if err != nil {
		t.Fatal(err)
	}
	want := []contestant{
		{name: "shirube", program: a, version: "shirube v1", addr: netip.MustParseAddr("127.0.1.1")},
		{name: "echo", program: a, addr: netip.MustParseAddr("127.0.1.2")},
		{name: "shirube-2", program: b, version: "shirube v2", addr: netip.MustParseAddr("127.0.1.3")},
		{name: "echo-2", program: a, addr: netip.MustParseAddr("127.0.1.4")},
	}
	for i, c := range all {
		if w := want[i]; c.name != w.name || c.addr != w.addr || c.threads != 3 || c.program != w.program || w.version != "" && c.version != w.version {
			t.Errorf("contestant %d: %+v, want %+v", i, *c, w)
		}
	}
	if _, err := newContestants(t.Context(), settings{peers: "unbind"}); err == nil || !strings.Contains(err.Error(), knownKinds()) {
		t.Errorf("an unknown server: %v", err)
	}
}

func TestVersionsAreShort(t *testing.T) {
	for kind, tt := range map[string]struct{ said, want string }{
		"unbound": {"Version 1.17.1", "unbound 1.17.1"},
		"bind":    {"BIND 9.18.49-1~deb12u3-Debian (Extended Support Version) <id:>", "BIND 9.18.49-1~deb12u3-Debian"},
		"knot":    {"Knot Resolver, version 5.6.0", "Knot Resolver 5.6.0"},
		"pdns":    {"Nov 22 12:09:53 PowerDNS Recursor 4.8.8 (C) 2001-2022 PowerDNS.COM BV", "PowerDNS Recursor 4.8.8"},
		"sdns":    {"sdns v1.8.0", "sdns v1.8.0"},
		"shirube": {"shirube v0 (go1.26)", "shirube v0 (go1.26)"},
	} {
		k, err := findKind(kind)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := k.version(t.Context(), stubProgram(t, tt.said)); err != nil || got != tt.want {
			t.Errorf("%s: %q, %v; want %q", kind, got, err, tt.want)
		}
	}
}

// rendered are the files that a kind writes, and its commands.
func rendered(t *testing.T, kind, anchor string) (text string, commands [][]string) {
	t.Helper()
	k, err := findKind(kind)
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{dir: t.TempDir(), hints: "/d/root.hints", anchor: anchor, net: &internet{root: zone{key: ".\t86400\tIN\tDNSKEY\t257 3 13 KEY="}}}
	c := &contestant{name: "x", program: "/p", addr: netip.MustParseAddr("127.0.1.2"), threads: 3}
	if k.name == "bind" { // its prepare changes the interface
		text, err = bindConf(l, c)
	} else {
		commands, err = k.prepare(t.Context(), l, c)
	}
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(c.dir(l), "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		text += string(b)
	}
	return text, commands
}

func TestConfigurationsNameAddressHintsThreadsAndAnchor(t *testing.T) {
	const anchor = ".\t86400\tIN\tDS\t4711 13 2 ABCDEF"
	for kind, tt := range map[string]struct{ always, signed, unsigned []string }{
		"unbound": {
			[]string{"interface: 127.0.1.2@53\n", "root-hints: \"/d/root.hints\"\n", "num-threads: 3\n", "msg-cache-size: 128m\n", "do-not-query-localhost: no\n"},
			[]string{"trust-anchor: \". 86400 IN DS 4711 13 2 ABCDEF\"\n", "\"validator iterator\""},
			[]string{"module-config: \"iterator\"\n"},
		},
		"bind": {
			[]string{"listen-on port 53 { 127.0.1.2; };\n", "file \"/d/root.hints\";", "max-cache-size 384m;\n", "querylog no;\n"},
			[]string{"trust-anchors { . static-ds 4711 13 2 \"ABCDEF\"; };\n", "dnssec-validation yes;\n"},
			[]string{"dnssec-validation no;\n"},
		},
		"knot": {
			[]string{"net.listen('127.0.1.2', 53", "hints.root_file('/d/root.hints')\n", "cache.open(384 * MB"},
			[]string{"trust_anchors.add_file('", "DS\t4711 13 2 ABCDEF\n"},
			[]string{"trust_anchors.remove('.')\n"},
		},
		"pdns": {
			[]string{"local-address=127.0.1.2\n", "hint-file=/d/root.hints\n", "threads=3\n", "dont-query=\n"},
			[]string{"dnssec=validate\n", "addTA('.', \"4711 13 2 ABCDEF\")\n"},
			[]string{"dnssec=off\n"},
		},
		"sdns": {
			[]string{"bind = \"127.0.1.2:53\"\n", "rootservers = [\"198.18.0.1:53\", ", "cachesize = 1000000\n", "blocklists = []\n", "api = \"\"\n", "accesslist = [\"127.0.0.0/8\"]\n"},
			[]string{"dnssec = \"on\"\nrootkeys = [\". 86400 IN DNSKEY 257 3 13 KEY=\"]\n"},
			[]string{"dnssec = \"off\"\nrootkeys = []\n"},
		},
		"shirube": {
			[]string{"- address: 127.0.1.2:53\n", "root_hints: /d/root.hints\n", "udp_readers: 3\n", "answers_size: 128MiB\n", "do_not_query_localhost: false\n"},
			[]string{"trust_anchors: [\". 86400 IN DS 4711 13 2 ABCDEF\"]\n"},
			[]string{"validation: false\n"},
		},
	} {
		signed, commands := rendered(t, kind, anchor)
		unsigned, _ := rendered(t, kind, "")
		for _, want := range append(tt.signed, tt.always...) {
			if !strings.Contains(signed, want) {
				t.Errorf("%s, signed: no %q in\n%s", kind, want, signed)
			}
		}
		for _, want := range append(tt.unsigned, tt.always...) {
			if !strings.Contains(unsigned, want) {
				t.Errorf("%s, unsigned: no %q in\n%s", kind, want, unsigned)
			}
		}
		if kind == "knot" && len(commands) != 3 {
			t.Errorf("%d processes of knot for 3 threads", len(commands))
		}
	}
}

func TestServersThatAreNotInstalledAreLeftOut(t *testing.T) {
	t.Setenv("PATH", filepath.Dir(stubProgram(t, "nothing"))) // "program" is there, and nothing else
	if peers, absent := installed("unbound,shirube,sdns=/tmp/sdns,echo,sdns,unbind"); peers != "shirube,sdns=/tmp/sdns,echo,unbind" || strings.Join(absent, ",") != "unbound,sdns" {
		t.Errorf("%q are there, %q are not", peers, absent)
	}
}

func TestResultsOfATreeWithChangesAreNotKept(t *testing.T) {
	dirty := stubProgram(t, "shirube 0123abc-dirty (go1.26)")
	for out, want := range map[string]bool{resultsDir: false, "./bench/results/": false, "bench/out": true, "": true} {
		_, err := newContestants(t.Context(), settings{peers: "shirube", shirube: dirty, threads: 1, out: out})
		if (err == nil) != want {
			t.Errorf("to %q: %v", out, err)
		}
	}
	if err := recordable("shirube 0123abc (go1.26)", resultsDir); err != nil {
		t.Error(err)
	}
}

func TestServerOfFewThreadsHasCoresToItself(t *testing.T) {
	for _, tt := range []struct {
		threads, cores int
		server, load   string
	}{{2, 2, "", ""}, {3, 2, "", ""}, {1, 2, "1-1", "0-0"}, {2, 8, "6-7", "0-5"}} {
		if server, load := processors(tt.threads, tt.cores); server != tt.server || load != tt.load {
			t.Errorf("%d threads on %d cores: %q and %q, want %q and %q", tt.threads, tt.cores, server, load, tt.server, tt.load)
		}
	}
}

func TestTrustAnchorHasToBeADSRecord(t *testing.T) {
	for _, bad := range []string{"", ". 86400 IN DS 1 13 2", ". 86400 IN DNSKEY 257 3 13 AAAA"} {
		if f, err := anchorFields(bad); err == nil {
			t.Errorf("%q has the fields %q", bad, f)
		}
	}
	if f, err := anchorFields(". 86400 IN DS 1 13 2 AB CD"); err != nil || strings.Join(f, " ") != "1 13 2 ABCD" {
		t.Errorf("%q, %v", f, err)
	}
}
