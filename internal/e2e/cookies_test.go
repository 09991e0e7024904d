package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The secrets that these tests share among servers.
const (
	cookieSecret = "e5e973e5a6b2a43f48e7dc849e37bfcf"
	nextSecret   = "445536bcd2513298075a5d379663c962"
)

// clientCookie is what the clients here call their own.
const clientCookie = "0102030405060708"

// cookieClients are programs that know cookies, at both addresses, over both
// transports.
var cookieClients = []struct{ program, at, transport string }{
	{"dig", "127.0.0.1", "+notcp"}, {"dig", "::1", "+tcp"}, {"kdig", "::1", "+notcp"}, {"kdig", "127.0.0.1", "+tcp"},
}

func TestServersOfAFleetTakeEachOthersCookiesAndSayWhoTheyAre(t *testing.T) {
	t.Parallel()
	const shared = "cookies: {secrets: [\"" + cookieSecret + "\"]}\n"
	tokyo := serve(t, settings{more: shared + "identity: {nsid: tokyo-1}\n"})
	osaka := serve(t, settings{more: shared + "identity: {nsid_hex: 6f73616b612d31}\n"})
	other := serve(t, settings{})
	for _, c := range cookieClients {
		args := []string{"www.plain.west.", "A", c.transport, "+nsid", "+cookie=" + clientCookie}
		first := tokyo.ask(c.program, c.at).one(t, args...)
		if first.status != "NOERROR" || len(first.cookie) != 48 || !strings.HasPrefix(first.cookie, clientCookie) || first.nsid != "tokyo-1" || len(first.other) > 0 {
			t.Fatalf("%v: cookie %q, NSID %q:\n%s", c, first.cookie, first.nsid, first.raw)
		}
		args[len(args)-1] = "+cookie=" + first.cookie
		again := osaka.ask(c.program, c.at).one(t, args...)
		if again.status != "NOERROR" || again.cookie != first.cookie || again.nsid != "osaka-1" {
			t.Errorf("%v: the fleet's other server gives %q for %q, NSID %q:\n%s", c, again.cookie, first.cookie, again.nsid, again.raw)
		}
		alone := other.ask(c.program, c.at).one(t, args...)
		if alone.status != "NOERROR" || len(alone.cookie) != 48 || alone.cookie == first.cookie || alone.nsid != "" || len(alone.other) > 0 {
			t.Errorf("%v: a server with a secret of its own says:\n%s", c, alone.raw)
		}
	}
}

func TestAllowCookieAnswersClientsThatAreWhereTheySay(t *testing.T) {
	t.Parallel()
	s := serve(t, settings{access: "- {prefix: 127.0.0.0/8, action: allow_cookie}\n- {prefix: \"::1\", action: allow_cookie}"})
	for _, tt := range []struct{ program, args, status string }{
		{"dig", "+cookie=" + clientCookie + " +nobadcookie", "BADCOOKIE"},
		{"dig", "+cookie=" + clientCookie + "010000006b029c5d0000000000000000 +nobadcookie", "BADCOOKIE"},
		{"dig", "+nocookie +ignore", "REFUSED"},
		{"dig", "+noedns +nocookie +ignore", "REFUSED"},
		{"dig", "+ednsopt=10:01020304 +nocookie", "FORMERR"},
		{"dig", "", "NOERROR"}, // asks again by itself, with what it was given
		{"dig", "+nocookie", "NOERROR"},
		{"dig", "+noedns +nocookie", "NOERROR"}, // both over TCP
		{"dig", "+nocookie +tcp", "NOERROR"},
		{"kdig", "", "NOERROR"}, // over TCP
		{"kdig", "+noedns", "NOERROR"},
	} {
		for _, at := range []string{"127.0.0.1", "::1"} {
			r := s.ask(tt.program, at).one(t, append([]string{"www.plain.west.", "A"}, strings.Fields(tt.args)...)...)
			if truncated := strings.Contains(r.flags, "tc"); r.status != tt.status || truncated != (tt.status == "REFUSED") {
				t.Errorf("%s %s at %s: %s, flags %q, want %s:\n%s", tt.program, tt.args, at, r.status, r.flags, tt.status, r.raw)
			}
			if tt.status == "BADCOOKIE" && len(r.cookie) != 48 {
				t.Errorf("%s %s at %s: cookie %q:\n%s", tt.program, tt.args, at, r.cookie, r.raw)
			}
		}
	}
}

func TestCookieIsGivenToWhoAsksForNothingElse(t *testing.T) {
	t.Parallel()
	s := serve(t, settings{})
	for _, transport := range []string{"+notcp", "+tcp"} { // RFC 7873 §5.4
		r := s.ask("dig", "127.0.0.1", transport).one(t, "+header-only", "+cookie="+clientCookie)
		if r.status != "NOERROR" || r.question != "" || len(r.cookie) != 48 {
			t.Errorf("%s: %s, cookie %q:\n%s", transport, r.status, r.cookie, r.raw)
		}
		r = s.ask("dig", "127.0.0.1", transport).one(t, "+header-only", "+nobadcookie", "+cookie="+r.cookie[:40]+"00000000")
		if r.status != "BADCOOKIE" || len(r.cookie) != 48 {
			t.Errorf("%s with a forged cookie: %s, cookie %q:\n%s", transport, r.status, r.cookie, r.raw)
		}
	}
	off := serve(t, settings{more: "cookies: {enabled: false}\n"})
	if r := off.ask("dig", "127.0.0.1").one(t, "+header-only", "+cookie="+clientCookie); r.status != "FORMERR" || r.cookie != "" {
		t.Errorf("a server without cookies says:\n%s", r.raw)
	}
	if r := off.ask("dig", "127.0.0.1").one(t, "www.plain.west.", "A", "+cookie="+clientCookie); r.status != "NOERROR" || r.cookie != "" || len(r.other) > 0 {
		t.Errorf("a server without cookies says:\n%s", r.raw)
	}
}

// TestCookiesAreThoseOfOtherSoftware holds each cookie to the one that another
// server with the same secret makes for the same client in the same second.
func TestCookiesAreThoseOfOtherSoftware(t *testing.T) {
	t.Parallel()
	ours := serve(t, settings{more: "cookies: {secrets: [\"" + cookieSecret + "\"]}\n"})
	zone := served{Name: "cookie.test.", text: "$ORIGIN cookie.test.\n$TTL 300\n@ SOA ns.nic.west. host 1 3600 600 86400 300\n@ NS ns.nic.west.\n"}
	for _, sw := range softwares {
		if sw.name == "pdns" { // has no cookies
			continue
		}
		t.Run(sw.name, func(t *testing.T) {
			t.Parallel()
			at := []netip.AddrPort{freeAt(t, "127.0.0.1"), freeAt(t, "::1")}
			startAuthority(t, sw, []served{zone}, at...)
			for _, at := range at {
				theirs := client{"dig", []string{"-r", "@" + at.Addr().String(), "-p", fmt.Sprint(at.Port())}}
				question := []string{zone.Name, "SOA", "+cookie=" + clientCookie}
				var a, b *response
				for range 20 { // until both fall into one second
					a, b = theirs.one(t, question...), ours.ask("dig", at.Addr().String()).one(t, question...)
					if len(a.cookie) != 48 || len(b.cookie) != 48 {
						t.Fatalf("no server cookie:\n%s\n%s", a.raw, b.raw)
					}
					if a.cookie[24:32] == b.cookie[24:32] {
						break
					}
				}
				if a.cookie != b.cookie {
					t.Errorf("to %v, %s gives %s, and this server %s", at.Addr(), sw.name, a.cookie, b.cookie)
				}
			}
		})
	}
}

// TestSecretFileIsReadAtTheStart is of a fleet in the middle of a roll-over.
func TestSecretFileIsReadAtTheStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name string, lines ...string) settings {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return settings{more: "cookies: {secret_file: " + path + "}\n"}
	}
	ahead := serve(t, file("ahead", "# since today", nextSecret, cookieSecret))
	behind := serve(t, file("behind", cookieSecret, nextSecret))
	ask := func(s *server, cookie string) string {
		return s.ask("kdig", "127.0.0.1").one(t, "www.plain.west.", "A", "+cookie="+cookie).cookie
	}
	// Each takes the other's for good, and gives its own for it: what it says
	// is seen at a server that requires one.
	required := serve(t, settings{
		access: "- {prefix: 127.0.0.0/8, action: allow_cookie}",
		more:   "cookies: {secrets: [\"" + nextSecret + "\"]}\n",
	})
	for _, c := range []struct {
		first, then *server
		want        string
	}{{behind, ahead, "NOERROR"}, {ahead, behind, "BADCOOKIE"}} {
		got := ask(c.then, ask(c.first, clientCookie))
		r := required.ask("dig", "127.0.0.1", "+nobadcookie").one(t, "www.plain.west.", "A", "+cookie="+got)
		if r.status != c.want {
			t.Errorf("%s for %q, want %s:\n%s", r.status, got, c.want, r.raw)
		}
	}
}
