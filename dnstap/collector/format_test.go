package collector

import (
	"net/netip"
	"strings"
	"testing"

	golang "github.com/dnstap/golang-dnstap"
	"google.golang.org/protobuf/proto"

	"shirube/dnstap"
	"shirube/internal/wire"
)

// TestTextIsThatOfGolangDnstap compares, octet for octet, what both print of
// frames that both know.
func TestTextIsThatOfGolangDnstap(t *testing.T) {
	zoned := message(dnstap.ResolverResponse, wire.TCP, wire.NXDomain)
	zoned.Zone, zoned.Query = wire.MustParseName("example.com."), netip.MustParseAddrPort("[2001:db8::1]:4000")
	zoned.Response = netip.MustParseAddrPort("[2001:db8::53]:53")
	garbage := message(dnstap.ClientQuery, wire.UDP, 0)
	garbage.Msg = []byte("garbage")
	empty := message(dnstap.ClientQuery, wire.UDP, 0)
	empty.Msg = []byte(query[:4] + "\x00\x00\x00\x00\x00\x00\x00\x00")
	unknown := message(dnstap.ResolverQuery, wire.DoT, 0)
	unknown.Query, unknown.Response = netip.AddrPort{}, netip.AddrPort{}
	odd := message(dnstap.ClientQuery, wire.UDP, 0)
	odd.Msg = []byte(query[:12] + "\x05a\"\\.\x00\x03c;m\x00\xff\x01\x00\x03")
	for name, m := range map[string]*dnstap.Message{
		"query":          message(dnstap.ClientQuery, wire.UDP, 0),
		"response":       message(dnstap.ClientResponse, wire.DoT, wire.ServFail),
		"DoH":            message(dnstap.ClientResponse, wire.DoT, wire.Refused),
		"from a server":  zoned,
		"garbage":        garbage,
		"no question":    empty,
		"unknown peer":   unknown,
		"odd characters": odd,
	} {
		t.Run(name, func(t *testing.T) {
			raw := frame(t, m)
			var r dnstap.Record
			if err := r.Decode(raw); err != nil {
				t.Fatal(err)
			}
			d := new(golang.Dnstap)
			if err := proto.Unmarshal(raw, d); err != nil {
				t.Fatal(err)
			}
			want, ok := golang.TextFormat(d)
			if got := Quiet(nil, &r); !ok || string(got) != string(want) {
				t.Errorf("found    %sexpected %s", got, want)
			}
			want, ok = golang.YamlFormat(d)
			if got := YAML(nil, &r); !ok || string(got) != string(want) {
				t.Errorf("found\n%sexpected\n%s", got, want)
			}
		})
	}
}

func TestTextKnowsWhatIsNew(t *testing.T) {
	m := message(dnstap.ClientQuery, wire.DoH3, 0)
	m.Policy = wire.PolicyDenied
	r := record(t, m)
	if got := string(Quiet(nil, r)); !strings.Contains(got, " CQ 192.0.2.1 DOH 33b ") {
		t.Error(got)
	}
	for _, want := range []string{"  http_protocol: HTTP3\n", "  policy:\n    type: \"ACL\"\n    action: DROP\n    match: CLIENT_IP\n"} {
		if got := string(YAML(nil, r)); !strings.Contains(got, want) {
			t.Errorf("no %q in %s", want, got)
		}
	}
}

// TestJSONKeepsItsSchema is the promise of docs/dnstap.md.
func TestJSONKeepsItsSchema(t *testing.T) {
	m := message(dnstap.ClientResponse, wire.DoH3, wire.NXDomain)
	m.Policy, m.Zone = wire.PolicyBuiltin, wire.MustParseName("com.")
	for _, tt := range []struct {
		m    *dnstap.Message
		want string
	}{
		{m, `{"time":"2023-11-14T22:13:20.124956789Z","type":"CLIENT_RESPONSE","identity":"tokyo-1","version":"shirube 1","protocol":"DOH","http":"HTTP3","family":"INET",` +
			`"query_address":"192.0.2.1","query_port":4711,"response_address":"198.51.100.53","response_port":53,` +
			`"query_time":"2023-11-14T22:13:20.123456789Z","response_time":"2023-11-14T22:13:20.124956789Z","latency_us":1500,"zone":"com.",` +
			`"policy":{"type":"BUILTIN","action":"LOCAL_DATA","match":"QNAME"},"size":33,"id":4660,"flags":"qr rd ra","rcode":"NXDOMAIN",` +
			`"qname":"www.example.com.","qtype":"AAAA","qclass":1}`},
		{message(dnstap.ResolverQuery, wire.TCP, 0), `{"time":"2023-11-14T22:13:20.123456789Z","type":"RESOLVER_QUERY","identity":"tokyo-1","version":"shirube 1","protocol":"TCP","family":"INET",` +
			`"query_address":"192.0.2.1","query_port":4711,"response_address":"198.51.100.53","response_port":53,` +
			`"query_time":"2023-11-14T22:13:20.123456789Z","size":33,"id":4660,"flags":"rd","qname":"www.example.com.","qtype":"AAAA","qclass":1}`},
	} {
		if got := strings.TrimSuffix(string(JSON(nil, record(t, tt.m))), "\n"); got != tt.want {
			t.Errorf("found    %s\nexpected %s", got, tt.want)
		}
	}
}

// FuzzFormats holds the formats to not panicking, and to whole lines.
func FuzzFormats(f *testing.F) {
	f.Add([]byte("\x72\x02\x08\x05\x78\x01"))
	f.Add(frame(f, message(dnstap.ClientResponse, wire.DoQ, wire.ServFail)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var r dnstap.Record
		if r.Decode(raw) != nil {
			return
		}
		new(counts).add(&r)
		if got := string(JSON(nil, &r)); strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, "}\n") {
			t.Errorf("%q", got)
		}
		if got := string(Quiet(nil, &r)); !strings.HasSuffix(got, "\n") {
			t.Errorf("%q", got)
		}
		if got := string(YAML(nil, &r)); !strings.HasSuffix(got, "---\n") {
			t.Errorf("%q", got)
		}
	})
}
