package policy

import (
	"testing"

	"shirube/internal/wire"
)

func TestBuiltinsFindTheClosestZone(t *testing.T) {
	b := NewBuiltins([]wire.Name{wire.MustParseName("20.10.in-addr.arpa."), wire.MustParseName("corp.test."), wire.MustParseName("onion."), wire.MustParseName("example.com.")})
	for name, want := range map[string]string{
		".": "", "com.": "", "www.example.com.": "", "arpa.": "", "in-addr.arpa.": "", "ip6.arpa.": "", "1.in-addr.arpa.": "", "resolver.arpa.": "",
		"localhost.example.com.": "", "local.": "", "nolocalhost.": "", "40.30.20.11.in-addr.arpa.": "",
		"localhost.": "localhost.", "a.b.localhost.": "localhost.", "test.": "test.", "x.invalid.": "invalid.", "printer.home.arpa.": "home.arpa.", "x.service.arpa.": "service.arpa.",
		"10.in-addr.arpa.": "10.in-addr.arpa.", "40.30.21.10.in-addr.arpa.": "10.in-addr.arpa.",
		"1.15.172.in-addr.arpa.": "", "1.16.172.in-addr.arpa.": "16.172.in-addr.arpa.", "31.172.in-addr.arpa.": "31.172.in-addr.arpa.", "1.32.172.in-addr.arpa.": "",
		"63.100.in-addr.arpa.": "", "64.100.in-addr.arpa.": "64.100.in-addr.arpa.", "127.100.in-addr.arpa.": "127.100.in-addr.arpa.", "128.100.in-addr.arpa.": "",
		"1.1.168.192.in-addr.arpa.": "168.192.in-addr.arpa.", "1.0.0.127.in-addr.arpa.": "127.in-addr.arpa.", "255.255.255.255.in-addr.arpa.": "255.255.255.255.in-addr.arpa.",
		"1.d.f.ip6.arpa.": "d.f.ip6.arpa.", "c.e.f.ip6.arpa.": "", "b.e.f.ip6.arpa.": "b.e.f.ip6.arpa.", "1.8.b.d.0.1.0.0.2.ip6.arpa.": "8.b.d.0.1.0.0.2.ip6.arpa.",
		"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa.": "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa.",
		"2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.ip6.arpa.": "",
		// What was excepted, and what is below it.
		"20.10.in-addr.arpa.": "", "40.30.20.10.in-addr.arpa.": "", "corp.test.": "", "www.corp.test.": "", "corp2.test.": "test.", "onion.": "", "x.onion.": "",
	} {
		n := wire.MustParseName(name)
		zone, at := b.Find([]byte(n))
		switch {
		case zone == nil && want != "":
			t.Errorf("%s is in no zone, want %s", name, want)
		case zone != nil && (zone.Name.String() != want || n[at:] != zone.Name):
			t.Errorf("%s is in %v at %d, want %q", name, zone.Name, at, want)
		}
	}
}

func TestNoBuiltinsHaveNoZone(t *testing.T) {
	var none *Builtins
	if zone, _ := none.Find([]byte("\x09localhost\x00")); zone != nil {
		t.Errorf("found %v", zone.Name)
	}
}

func TestFindAllocatesNothing(t *testing.T) {
	b := NewBuiltins(nil)
	for _, name := range []string{"www.example.com.", "40.30.20.10.in-addr.arpa.", "."} {
		n := []byte(wire.MustParseName(name))
		if avg := testing.AllocsPerRun(100, func() { b.Find(n) }); avg != 0 {
			t.Errorf("%s: %v allocations", name, avg)
		}
	}
}

func BenchmarkFindBuiltin(b *testing.B) {
	zones, n := NewBuiltins(nil), []byte(wire.MustParseName("www.example.com."))
	for b.Loop() {
		if zone, _ := zones.Find(n); zone != nil {
			b.Fatal(zone.Name)
		}
	}
}
