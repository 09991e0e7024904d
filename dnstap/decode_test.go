package dnstap

import (
	"net/netip"
	"testing"
	"time"

	golang "github.com/dnstap/golang-dnstap"
	"google.golang.org/protobuf/proto"

	"shirube/internal/wire"
)

// frameOf returns the frame that an output makes of m.
func frameOf(t testing.TB, m *Message) []byte {
	t.Helper()
	o, err := newOutput(&Options{Identity: "tokyo-1", Version: "1", Log: quiet()},
		&Output{File: &File{Path: "unused"}, Filter: all()}, 1)
	if err != nil {
		t.Fatal(err)
	}
	o.emit(0, m, m.size())
	return o.lanes[0].cur.b[lengthLen:]
}

func TestDecodeReadsWhatIsEmitted(t *testing.T) {
	m := message(ResolverResponse, 77)
	m.Proto, m.Policy, m.Zone = wire.DoH3, wire.PolicyDenied, wire.MustParseName("example.com.")
	m.Response = netip.MustParseAddrPort("[2001:db8::53]:53")
	var r Record
	if err := r.Decode(frameOf(t, m)); err != nil {
		t.Fatal(err)
	}
	if r.Type != uint32(ResolverResponse) || r.Query != m.Query || r.Response != m.Response || r.SocketProtocol != 4 || r.HTTPProtocol != 3 ||
		!r.QueryTime.Equal(m.QueryTime) || !r.ResponseTime.Equal(m.ResponseTime) || string(r.ResponseMessage) != string(m.Msg) ||
		string(r.QueryZone) != string(m.Zone) || string(r.Identity) != "tokyo-1" || string(r.Version) != "1" ||
		string(r.Policy.Type) != "ACL" || r.Policy.Action != actionDrop || r.Policy.Match != matchClientIP {
		t.Errorf("%+v", r)
	}
	if string(r.Message()) != string(m.Msg) || !r.Time().Equal(m.ResponseTime) {
		t.Error("the message is not the response")
	}
}

// Somebody else's encoder has another order of fields.
func TestDecodeReadsGolangDnstap(t *testing.T) {
	at := time.Unix(1_700_000_000, 5)
	d := &golang.Dnstap{
		Type: golang.Dnstap_MESSAGE.Enum(), Extra: []byte("more"),
		Message: &golang.Message{
			Type: golang.Message_AUTH_QUERY.Enum(), SocketFamily: golang.SocketFamily_INET.Enum(), SocketProtocol: golang.SocketProtocol_TCP.Enum(),
			QueryAddress: []byte{192, 0, 2, 1}, QueryPort: proto.Uint32(5), QueryMessage: query(1),
			QueryTimeSec: proto.Uint64(uint64(at.Unix())), QueryTimeNsec: proto.Uint32(5),
		},
	}
	frame, err := proto.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var r Record
	if err := r.Decode(frame); err != nil {
		t.Fatal(err)
	}
	if r.Type != 1 || r.Query != netip.MustParseAddrPort("192.0.2.1:5") || r.Response.IsValid() || !r.QueryTime.Equal(at) ||
		!r.ResponseTime.IsZero() || string(r.QueryMessage) != string(query(1)) || string(r.Extra) != "more" {
		t.Errorf("%+v", r)
	}
}

func TestDecodeRefusesGarbage(t *testing.T) {
	for name, frame := range map[string]string{
		"nothing":              "",
		"text":                 "GET / HTTP/1.1\r\n\r\n",
		"no message":           "\x78\x01",
		"two messages":         "\x72\x02\x08\x05\x72\x02\x08\x05\x78\x01",
		"another kind":         "\x72\x02\x08\x05\x78\x02",
		"no type":              "\x72\x02\x10\x01\x78\x01",
		"cut off":              "\x72\x7f\x08\x05",
		"length beyond 64 bit": "\x72\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
		"negative length":      "\x72\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
		"group":                "\x73\x78\x01",
		"address of 5 octets":  "\x72\x09\x08\x05\x22\x05\x01\x02\x03\x04\x05\x78\x01",
		"policy cut off":       "\x72\x06\x08\x05\x7a\x02\x0a\x09\x78\x01",
	} {
		t.Run(name, func(t *testing.T) {
			var r Record
			if err := r.Decode([]byte(frame)); err == nil {
				t.Errorf("no error: %+v", r)
			}
		})
	}
}

// FuzzDecode holds the decoder to golang-dnstap's: what that takes, this takes,
// and reads alike.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("\x72\x02\x08\x05\x78\x01"))
	for _, typ := range []Type{ClientQuery, ResolverResponse} {
		m := message(typ, 1)
		m.Zone, m.Policy = wire.Root, wire.PolicyCookie
		f.Add(frameOf(f, m))
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		var r Record
		ours := r.Decode(frame)
		d := new(golang.Dnstap)
		if theirs := proto.Unmarshal(frame, d); theirs != nil || ours != nil {
			return // an address of five octets is good protobuf, and other encodings of one value are a matter of taste
		}
		m := d.GetMessage()
		if string(m.GetQueryMessage()) != string(r.QueryMessage) || string(m.GetResponseMessage()) != string(r.ResponseMessage) ||
			string(d.GetIdentity()) != string(r.Identity) {
			t.Errorf("%+v\n%v", r, d)
		}
	})
}
