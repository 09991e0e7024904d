package dnstap

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	golang "github.com/dnstap/golang-dnstap"
	"google.golang.org/protobuf/encoding/protowire"

	"shirube/internal/wire"
)

// emitToFile returns how golang-dnstap reads what a Tap makes of messages.
func emitToFile(t *testing.T, opt Options, out Output, messages ...*Message) []*golang.Dnstap {
	t.Helper()
	path := filepath.Join(t.TempDir(), "out.fstrm")
	out.File = &File{Path: path}
	opt.Outputs = []Output{out}
	tap := start(t, opt)
	for i, m := range messages {
		tap.Emit(i, m)
	}
	shut(t, tap)
	if s := stats(t, tap); s.Dropped != 0 || s.Queued != 0 {
		t.Fatalf("%+v", s)
	}
	return readFile(t, path)
}

func TestFramesSayWhatTheMessageSays(t *testing.T) {
	type ends struct{ query, response string }
	v4, v6 := ends{"192.0.2.1:4711", "198.51.100.53:53"}, ends{"[2001:db8::1]:65535", "[2001:db8::53]:853"}
	mapped := ends{"[::ffff:192.0.2.1]:4711", "[::ffff:198.51.100.53]:53"}
	for _, tt := range []struct {
		name             string
		typ              Type
		ends             ends
		proto            wire.Proto
		zone             string
		policy           wire.Policy
		want             golang.Message_Type
		socket, http     uint64
		queryIP, otherIP int
	}{
		{"client query over UDP", ClientQuery, v4, wire.UDP, "", 0, golang.Message_CLIENT_QUERY, 1, 0, 4, 4},
		{"client response over TCP", ClientResponse, v6, wire.TCP, "", 0, golang.Message_CLIENT_RESPONSE, 2, 0, 16, 16},
		{"client query over DoT", ClientQuery, v6, wire.DoT, "", 0, golang.Message_CLIENT_QUERY, 3, 0, 16, 16},
		{"client query over DoH", ClientQuery, v4, wire.DoH, "", 0, golang.Message_CLIENT_QUERY, 4, 2, 4, 4},
		{"client response over DoH3", ClientResponse, v4, wire.DoH3, "", 0, golang.Message_CLIENT_RESPONSE, 4, 3, 4, 4},
		{"client query over DoQ", ClientQuery, v4, wire.DoQ, "", 0, golang.Message_CLIENT_QUERY, 7, 0, 4, 4},
		{"IPv4 in IPv6", ClientQuery, mapped, wire.UDP, "", 0, golang.Message_CLIENT_QUERY, 1, 0, 4, 4},
		{"refused", ClientResponse, v4, wire.UDP, "", wire.PolicyRefused, golang.Message_CLIENT_RESPONSE, 1, 0, 4, 4},
		{"resolver query", ResolverQuery, v4, wire.UDP, "example.com.", 0, golang.Message_RESOLVER_QUERY, 1, 0, 4, 4},
		{"resolver response", ResolverResponse, v6, wire.TCP, ".", 0, golang.Message_RESOLVER_RESPONSE, 2, 0, 16, 16},
		{"forwarder query", ForwarderQuery, v4, wire.DoT, ".", 0, golang.Message_FORWARDER_QUERY, 3, 0, 4, 4},
		{"forwarder response", ForwarderResponse, v4, wire.DoT, ".", 0, golang.Message_FORWARDER_RESPONSE, 3, 0, 4, 4},
		{"unknown ends", ResolverQuery, ends{}, wire.UDP, "", 0, golang.Message_RESOLVER_QUERY, 1, 0, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := message(tt.typ, 4242)
			m.Proto, m.Policy = tt.proto, tt.policy
			m.Query, m.Response = netip.AddrPort{}, netip.AddrPort{}
			if tt.ends != (ends{}) {
				m.Query, m.Response = netip.MustParseAddrPort(tt.ends.query), netip.MustParseAddrPort(tt.ends.response)
			}
			if tt.zone != "" {
				m.Zone = wire.MustParseName(tt.zone)
			}
			frames := emitToFile(t, Options{Identity: "tokyo-1", Version: "shirube 1.0"}, Output{Filter: all()}, m)
			if len(frames) != 1 {
				t.Fatalf("%d frames", len(frames))
			}
			d, got := frames[0], frames[0].GetMessage()
			if string(d.GetIdentity()) != "tokyo-1" || string(d.GetVersion()) != "shirube 1.0" || d.GetType() != golang.Dnstap_MESSAGE {
				t.Errorf("found %v", d)
			}
			if got.GetType() != tt.want || len(got.GetQueryAddress()) != tt.queryIP || len(got.GetResponseAddress()) != tt.otherIP {
				t.Errorf("found %v", got)
			}
			if tt.queryIP != 0 && !bytes.Equal(got.GetQueryAddress(), m.Query.Addr().Unmap().AsSlice()) {
				t.Errorf("query address %v", got.GetQueryAddress())
			}
			if got.GetQueryPort() != uint32(m.Query.Port()) || got.GetResponsePort() != uint32(m.Response.Port()) {
				t.Errorf("ports %v", got)
			}
			if family := map[int]golang.SocketFamily{4: golang.SocketFamily_INET, 16: golang.SocketFamily_INET6}[tt.queryIP]; tt.queryIP != 0 && got.GetSocketFamily() != family {
				t.Errorf("family %v", got.GetSocketFamily())
			}
			if string(got.GetQueryZone()) != string(m.Zone) {
				t.Errorf("zone %q", got.GetQueryZone())
			}
			wantTimes(t, m, got)
			later := unknown(t, got)
			socket, ok := later[3]
			if !ok {
				socket = uint64(got.GetSocketProtocol())
			}
			if socket != tt.socket || later[16] != tt.http {
				t.Errorf("socket protocol %d and HTTP protocol %d, want %d and %d", socket, later[16], tt.socket, tt.http)
			}
			if later[15] != uint64(len(policies[tt.policy])) {
				t.Errorf("a policy of %d octets, want %d", later[15], len(policies[tt.policy]))
			}
		})
	}
}

// wantTimes wants the message and its times, of which a query has one.
func wantTimes(t *testing.T, m *Message, got *golang.Message) {
	t.Helper()
	if got.GetQueryTimeSec() != 1_700_000_000 || got.GetQueryTimeNsec() != 123_456_789 {
		t.Errorf("query time %v", got)
	}
	msg, none := got.GetQueryMessage(), got.GetResponseMessage()
	if m.Type.isResponse() {
		msg, none = none, msg
		if got.GetResponseTimeSec() != 1_700_000_001 || got.GetResponseTimeNsec() != 1 {
			t.Errorf("response time %v", got)
		}
	} else if got.ResponseTimeSec != nil {
		t.Error("a query with a response time")
	}
	if !bytes.Equal(msg, m.Msg) || none != nil {
		t.Errorf("message %x, want %x", msg, m.Msg)
	}
}

// unknown returns the values of the fields that golang-dnstap v0.4.0 does not
// know, of a message how long it is.
func unknown(t *testing.T, m *golang.Message) map[protowire.Number]uint64 {
	t.Helper()
	out := make(map[protowire.Number]uint64)
	for b := []byte(m.ProtoReflect().GetUnknown()); len(b) > 0; {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		b = b[n:]
		if typ == protowire.VarintType {
			out[num], n = protowire.ConsumeVarint(b)
		} else {
			n = protowire.ConsumeFieldValue(num, typ, b)
			v, _ := protowire.ConsumeBytes(b)
			out[num] = uint64(len(v))
		}
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		b = b[n:]
	}
	return out
}

func TestSizeIsWhatIsAppended(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	addresses := []netip.Addr{{}, netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("::ffff:192.0.2.1")}
	zones := []wire.Name{"", wire.Root, wire.MustParseName("example.com.")}
	for range 20_000 {
		m := Message{
			Type: ResolverQuery + Type(random.IntN(6)), Proto: wire.Proto(random.IntN(int(wire.NumProtos))),
			HTTP: uint8(random.IntN(5)), Policy: wire.Policy(random.IntN(int(wire.NumPolicies))),
			Query:     netip.AddrPortFrom(addresses[random.IntN(len(addresses))], uint16(random.Uint32())),
			Response:  netip.AddrPortFrom(addresses[random.IntN(len(addresses))], uint16(random.IntN(200))),
			QueryTime: time.Unix(random.Int64N(1<<34), random.Int64N(1e9)), ResponseTime: time.Unix(random.Int64N(1<<34), 0),
			Zone: zones[random.IntN(len(zones))], Msg: make([]byte, random.IntN(1<<random.IntN(17))),
		}
		if got, want := len(m.appendTo(nil, m.Query.Addr())), m.size(); got != want {
			t.Fatalf("%d octets, and %d expected, of %+v", got, want, m)
		}
	}
}

func TestVersionOfHTTPIsSaidOfHTTPOnly(t *testing.T) {
	for _, tt := range []struct {
		proto wire.Proto
		http  uint8
		want  uint64
	}{{wire.DoH, 0, 2}, {wire.DoH, 1, 1}, {wire.DoH, 2, 2}, {wire.DoH3, 0, 3}, {wire.DoH, 9, 2}, {wire.DoT, 1, 0}, {wire.UDP, 3, 0}} {
		m := message(ClientQuery, 1)
		m.Proto, m.HTTP = tt.proto, tt.http
		got := emitToFile(t, Options{}, Output{Filter: all()}, m)[0].GetMessage()
		if v := unknown(t, got)[16]; v != tt.want {
			t.Errorf("%v, version %d: %d, want %d", tt.proto, tt.http, v, tt.want)
		}
	}
}

func TestResponseTimeIsNowUnlessSaid(t *testing.T) {
	m := message(ClientResponse, 1)
	m.ResponseTime = time.Time{}
	before := time.Now()
	got := emitToFile(t, Options{}, Output{Filter: all()}, m)[0].GetMessage()
	at := time.Unix(int64(got.GetResponseTimeSec()), int64(got.GetResponseTimeNsec()))
	if at.Before(before.Round(0)) || at.After(time.Now()) {
		t.Errorf("response time %v", at)
	}
}

func TestLongestMessageFits(t *testing.T) {
	m := message(ClientResponse, 1)
	m.Msg = append(m.Msg, make([]byte, wire.MaxMsgSize-len(m.Msg))...)
	if frames := emitToFile(t, Options{}, Output{Filter: all()}, m, m, m); len(frames) != 3 || len(frames[2].GetMessage().GetResponseMessage()) != wire.MaxMsgSize {
		t.Errorf("%d frames", len(frames))
	}
}

func TestAddressesAreCutAndHashed(t *testing.T) {
	key := bytes.Repeat([]byte{7}, HashKeyLen)
	for _, tt := range []struct {
		name       string
		privacy    Privacy
		from, want string // want "": something else that looks like it
	}{
		{"as it is", Privacy{}, "192.0.2.77", "192.0.2.77"},
		{"cut", Privacy{Bits4: 24}, "192.0.2.77", "192.0.2.0"},
		{"cut IPv6", Privacy{Bits6: 48}, "2001:db8:1:2::3", "2001:db8:1::"},
		{"hashed", Privacy{HashKey: key}, "192.0.2.77", ""},
		{"hashed IPv6", Privacy{HashKey: key}, "2001:db8:1:2::3", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m, answer, upstream := message(ClientQuery, 1), message(ClientResponse, 1), message(ResolverQuery, 1)
			m.Query = netip.AddrPortFrom(netip.MustParseAddr(tt.from), 9)
			answer.Query = m.Query
			frames := emitToFile(t, Options{}, Output{Filter: all(), Privacy: tt.privacy}, m, answer, upstream)
			seen := map[string]int{}
			for _, f := range frames {
				a, ok := netip.AddrFromSlice(f.GetMessage().GetQueryAddress())
				if !ok {
					t.Fatal(f)
				}
				seen[a.String()]++
			}
			if len(frames) != 3 || seen["192.0.2.1"] != 1 {
				t.Errorf("addresses %v; that of this server is nobody's secret", seen)
			}
			if tt.want != "" && seen[tt.want] != 2 {
				t.Errorf("addresses %v, want %s", seen, tt.want)
			}
			if tt.want == "" && (seen[tt.from] != 0 || len(seen) != 2) {
				t.Errorf("addresses %v, want one that is not %s", seen, tt.from)
			}
		})
	}
}

func TestHashJoinsNoPrefixes(t *testing.T) {
	p, err := newPrivacy(&Privacy{Bits4: 24, HashKey: bytes.Repeat([]byte{7}, HashKeyLen)})
	if err != nil {
		t.Fatal(err)
	}
	var room [16]byte
	seen := map[netip.Addr]bool{}
	for i := range 1000 {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 1})
		b := netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 200})
		if p.address(a, &room) != p.address(b, &room) {
			t.Fatal("two addresses of one prefix are told apart")
		}
		seen[p.address(a, &room)] = true
	}
	if len(seen) < 999 { // 1000 of 2^32: a collision is one in 8,600
		t.Errorf("%d hashes of 1000 prefixes", len(seen))
	}
}
