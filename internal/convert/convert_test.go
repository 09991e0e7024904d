package convert

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// unbound converts a text.
func unbound(t *testing.T, text string) (*Result, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "unbound.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Unbound(path)
}

func TestOptionsAreTranslated(t *testing.T) {
	for _, c := range []struct{ conf, want string }{
		{"server:\n prefetch: yes", "cache:\n  prefetch: true\n"},
		{"server: prefetch: yes cache-max-ttl: 60", "cache:\n  prefetch: true\n  max_ttl: 60s\n"},
		{"server:\n prefetch:\n  yes # on a line of its own", "cache:\n  prefetch: true\n"},
		{"server:\n prefetch: yes\nserver:\n prefetch: no", "cache:\n  prefetch: false\n"},
		{"server:\n msg-cache-size: 4096k", "cache:\n  answers_size: 4096KiB\n"},
		{"server:\n msg-cache-size: 1G", "cache:\n  answers_size: 1GiB\n"},
		{"server:\n msg-cache-size: 5000000", "cache:\n  answers_size: 5000000B\n"},
		{"server:\n module-config: \"iterator\"", "dnssec:\n  validation: false\n"},
		{"server:\n access-control: 192.0.2.9/24 allow", "access_control:\n  - {prefix: \"192.0.2.0/24\", action: allow}\n"},
		{"server:\n nsid: 'ascii_a b'", "identity:\n  nsid: \"a b\"\n"},
		{"server:\n nsid: 6162", "identity:\n  nsid_hex: \"6162\"\n"},
		{"server:\n identity: x\n hide-identity: yes", ""},
		{"forward-zone:\n name: \".\"\n forward-addr: 192.0.2.1@54\n forward-no-cache: yes", "forward_zones:\n  - {name: \".\", servers: [{address: \"192.0.2.1:54\"}], no_cache: true}\n"},
		{"stub-zone:\n name: a.example\n stub-host: ns.a.example\nstub-zone:\n name: b.example\n stub-addr: ::1", "stub_zones:\n  - {name: \"a.example\", hosts: [\"ns.a.example\"]}\n  - {name: \"b.example\", servers: [{address: \"::1\"}]}\n"},
	} {
		r, err := unbound(t, c.conf)
		if err != nil {
			t.Errorf("%q: %v", c.conf, err)
			continue
		}
		text, of := r.Text()
		if want := listens + c.want; !same(text, want) {
			t.Errorf("%q:\n%s\nwant\n%s", c.conf, text, want)
		}
		if len(of) != strings.Count(text, "\n") || r.Lost() > 0 {
			t.Errorf("%q: %d lines are said to be of entries; %v", c.conf, len(of), r.Notes())
		}
	}
}

// listens is Unbound's default.
const listens = "listen:\n  - {address: \"127.0.0.1:53\", protocols: [udp, tcp]}\n  - {address: \"[::1]:53\", protocols: [udp, tcp]}\n"

// same compares texts by what they have of each section.
func same(a, b string) bool {
	sort := func(s string) string {
		if i := strings.Index(s, listens); i >= 0 {
			return listens + s[:i] + s[i+len(listens):]
		}
		return s
	}
	return sort(a) == sort(b)
}

func TestWhatIsListenedToFollowsFromPorts(t *testing.T) {
	r, err := unbound(t, "server:\n interface: 192.0.2.1\n interface: 192.0.2.1@853\n interface: 192.0.2.1@443\n interface: ::1@8853\n quic-port: 8853\n tls-service-pem: c\n tls-service-key: k\n do-tcp: no\n ip-freebind: yes")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := r.Text()
	for _, want := range []string{
		`{address: "192.0.2.1:53", protocols: [udp], freebind: true}`, `{address: "192.0.2.1:853", protocols: [dot], freebind: true}`, `{address: "192.0.2.1:443", protocols: [doh], freebind: true}`,
		`{address: "[::1]:8853", protocols: [doq], freebind: true}`, `{cert_file: "c", key_file: "k"}`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

func TestNothingIsLostInSilence(t *testing.T) {
	for _, c := range []struct {
		conf, want string
		lost       bool
	}{
		{"server:\n\n frobnicate: 7", ":3: frobnicate: NOT CONVERTED: there is nothing like it", true},
		{"server:\n local-data: \"a. A 192.0.2.1\"", ":2: local-data: NOT CONVERTED: records of your own", true},
		{"server:\n access-control: 192.0.2.0/24 allow_setrd", "there is no action allow_setrd; nobody of 192.0.2.0/24 may ask", true},
		{"server:\n prefetch: maybe", `found "maybe"; expected yes or no`, true},
		{"server:\n interface: eth0", "name the addresses of eth0", true},
		{"server:\n tls-service-pem: c", "there is no tls-service-key", true},
		{"server:\n module-config: \"dns64 validator iterator\"", "there is no module dns64", true},
		{"forward-zone:\n name: a.example", "it has no name, or no server", true},
		{"forward-zone:\n name: a.example\n forward-tls-upstream: yes\n forward-addr: 192.0.2.1", "has no name that its certificate is for", true},
		{"rpz:\n name: x", ":2: rpz: name: NOT CONVERTED", true},
		{"prefetch: yes", "it is in no section", true},
		{"server:\n so-reuseport: yes", ":2: so-reuseport: not needed: it is so", false},
	} {
		r, err := unbound(t, c.conf)
		if err != nil {
			t.Errorf("%q: %v", c.conf, err)
			continue
		}
		says(t, c.conf, r, c.want, c.lost)
	}
}

// says holds the notes on conf to one that has to be among them, and to whether
// anything was lost.
func says(t *testing.T, conf string, r *Result, want string, lost bool) {
	t.Helper()
	var all []string
	for _, n := range r.Notes() {
		all = append(all, n.String())
	}
	if !strings.Contains(strings.Join(all, "\n"), want) || r.Lost() > 0 != lost {
		t.Errorf("%q: %q, %d lost, want %s", conf, all, r.Lost(), want)
	}
}

func TestIncludesAreFollowed(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"unbound.conf": "include: \"conf.d/*.conf\"\nserver:\n prefetch: yes\n", "conf.d/a.conf": "server:\n frobnicate: 1\n include: b.inc\n", "conf.d/b.inc": " serve-expired: yes\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Unbound(filepath.Join(dir, "unbound.conf"))
	if err != nil {
		t.Fatal(err)
	}
	text, _ := r.Text()
	if !strings.Contains(text, "prefetch: true") || !strings.Contains(text, "enabled: true") {
		t.Error(text)
	}
	if n := r.Notes(); len(n) != 1 || n[0].File != filepath.Join(dir, "conf.d/a.conf") || n[0].Line != 2 {
		t.Errorf("%v", n)
	}
}

func TestWhatIsReadIsBounded(t *testing.T) {
	loop := filepath.Join(t.TempDir(), "loop.conf")
	if err := os.WriteFile(loop, []byte("include: "+loop+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Unbound(loop); err == nil || !strings.Contains(err.Error(), "includes in includes 16 deep") {
		t.Errorf("%v", err)
	}
	for _, c := range []struct{ conf, want string }{
		{strings.Repeat("#\n", maxFile), "more than 4194304 octets"},
		{"server:\n prefetch: \"yes", ":2: found a quote without its end"},
		{"yes", `:1: found "yes"; expected an option and a colon`},
		{"include: nowhere.conf", "there is no such file"},
		{"server:\n" + strings.Repeat("a:", 0) + strings.Repeat("x: 1\n", maxOptions+1), "more than 500000 options"},
	} {
		if _, err := unbound(t, c.conf); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

func TestWhatIsRefusedIsTakenOutAndListed(t *testing.T) {
	r, err := unbound(t, "server:\n max-udp-size: 9000\n prefetch: yes\n")
	if err != nil {
		t.Fatal(err)
	}
	text, _ := r.Text()
	line := 0
	for i, l := range strings.Split(text, "\n") {
		if strings.Contains(l, "udp_size") {
			line = i + 1
		}
	}
	if !r.Drop(map[int]string{line: "too large", 10_000: "not there"}) {
		t.Error("nothing was taken out")
	}
	if text, _ = r.Text(); strings.Contains(text, "limits") || !strings.Contains(text, "prefetch: true") {
		t.Error(text)
	}
	if got := fmt.Sprint(r.Notes()); !strings.Contains(got, ":2: max-udp-size: NOT CONVERTED: too large") {
		t.Error(got)
	}
	if r.Drop(map[int]string{1: "a section"}) {
		t.Error("a section was taken out")
	}
}

func FuzzUnbound(f *testing.F) {
	f.Add("server:\n prefetch: yes\nforward-zone:\n name: .\n forward-addr: 192.0.2.1@53#x\n")
	f.Fuzz(func(t *testing.T, conf string) {
		var r reader
		if r.text("f", strings.ReplaceAll(conf, "include", "x"), 0) != nil {
			return
		}
		res := translate(r.options)
		if text, of := res.Text(); len(of) != strings.Count(text, "\n") {
			t.Errorf("%d lines, %d of them known:\n%s", strings.Count(text, "\n"), len(of), text)
		}
	})
}
