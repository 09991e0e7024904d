package resolver

import (
	"errors"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"shirube/internal/wire"
)

// TestRootHintsAreIANAs compares the built-in list with testdata/named.root,
// typed from what IANA publishes.
func TestRootHintsAreIANAs(t *testing.T) {
	f, err := os.Open("testdata/named.root")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	published, err := ParseHints(f, "named.root")
	if err != nil {
		t.Fatal(err)
	}
	if got := RootHints(); !reflect.DeepEqual(got, published) {
		t.Errorf("built-in hints:\n%v\npublished:\n%v", got, published)
	}
}

func TestRootHintsHaveThirteenServersOfBothFamilies(t *testing.T) {
	hints := RootHints()
	seen := make(map[netip.Addr]bool)
	for _, s := range hints {
		if len(s.Addrs) != 2 || !s.Addrs[0].Is4() || !s.Addrs[1].Is6() || s.Addrs[1].Is4In6() {
			t.Errorf("%v has addresses %v, want one of each family", s.Host, s.Addrs)
		}
		for _, a := range s.Addrs {
			if seen[a] || !a.IsGlobalUnicast() || a.IsPrivate() {
				t.Errorf("%v of %v", a, s.Host)
			}
			seen[a] = true
		}
	}
	if len(hints) != 13 || len(seen) != 26 {
		t.Errorf("%d servers with %d addresses, want 13 with 26", len(hints), len(seen))
	}
}

func TestParseHintsReadsWhatZoneFilesMaySay(t *testing.T) {
	const text = `
; comment
$TTL 3600
$ORIGIN example.
.       IN NS ns1      ; relative name
.          NS NS1.Example.
           NS ns2.example.
ns1     A 192.0.2.1
        A 192.0.2.1
        AAAA 2001:db8::1
ns2.example. 60 IN A 192.0.2.2
other   A 192.0.2.3
sub     NS ns1
.       TXT "not of interest"
`
	got, err := ParseHints(strings.NewReader(text), "hints")
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Host != wire.MustParseName("ns1.example.") || got[1].Host != wire.MustParseName("ns2.example.") {
		t.Fatalf("servers %v", got)
	}
	if len(got[0].Addrs) != 2 || got[0].Addrs[0] != netip.MustParseAddr("192.0.2.1") || got[0].Addrs[1] != netip.MustParseAddr("2001:db8::1") {
		t.Errorf("addresses of ns1: %v", got[0].Addrs)
	}
	if len(got[1].Addrs) != 1 || got[1].Addrs[0] != netip.MustParseAddr("192.0.2.2") {
		t.Errorf("addresses of ns2: %v", got[1].Addrs)
	}
}

func TestParseHintsSaysWhatIsWrong(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"empty", "", "no NS record of the root"},
		{"comments only", "; nothing\n", "no NS record of the root"},
		{"addresses only", "a.example. A 192.0.2.1\n", "no NS record of the root"},
		{"NS of another zone", "example. NS a.example.\na.example. A 192.0.2.1\n", "no NS record of the root"},
		{"server without an address", ". NS a.example.\n. NS b.example.\na.example. A 192.0.2.1\n", "no address of b.example."},
		{"bad address", ". NS a.example.\na.example. A 192.0.2.300\n", "line: 2"},
		{"bad type", ". NS a.example.\na.example. 60 AAAAA 2001:db8::1\n", "line: 2"},
		{"prose", "this is no zone file\n", "line: 1"},
		{"other class", ". 60 CH NS a.example.\n", "no record of class IN"},
		{"include", "$INCLUDE /etc/passwd\n", "$INCLUDE directive not allowed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseHints(strings.NewReader(tt.text), "my.hints")
			if err == nil {
				t.Fatalf("no error, servers %v", got)
			}
			if msg := err.Error(); !strings.Contains(msg, tt.want) || !strings.HasPrefix(msg, "reading root hints: my.hints: ") {
				t.Errorf("error %q, want one that begins with the file and says %q", msg, tt.want)
			}
		})
	}
}

func TestParseHintsReportsAReaderThatFails(t *testing.T) {
	broken := errors.New("disk on fire")
	_, err := ParseHints(iotest.ErrReader(broken), "my.hints")
	if err == nil || !strings.Contains(err.Error(), "my.hints") || !errors.Is(err, broken) {
		t.Errorf("error %v, want one that names the file and wraps %v", err, broken)
	}
}
