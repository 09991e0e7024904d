package transport

import (
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// TestResponsesAreCountedByTypeAndCode asks for one thing of each kind, and sums
// up.
func TestResponsesAreCountedByTypeAndCode(t *testing.T) {
	s := newService(newScripted(), NewSlots(1, 1), 0, 0, nil)
	var n counters
	ask := func(label string, typ uint16, change func(m *dns.Msg)) {
		t.Helper()
		m := new(dns.Msg).SetQuestion(label+".example.org.", typ)
		m.SetEdns0(1232, false)
		if change != nil {
			change(m)
		}
		msg := pack(t, m)
		q := wire.Query{Client: netip.MustParseAddrPort("192.0.2.1:5353"), Limit: 1232, Received: time.Now().Add(-time.Second)}
		rsp, outcome := s.answer(&n, nil, msg, &q, parse(&q, msg, false))
		if outcome == Deferred {
			if _, ok := s.take(&n, rsp, &q); ok {
				s.serve(t.Context(), &n, nil, &q)
			}
		}
	}
	ask("hit", dns.TypeAAAA, nil)
	ask("hit", dns.TypeCAA, nil)
	ask("hit", dns.TypeNULL, nil)
	ask("hit", 65280, nil)
	ask("drop", dns.TypeA, nil)  // no response
	ask("none", dns.TypeA, nil)  // nor here
	ask("miss", dns.TypeA, nil)  // from Serve
	ask("over", dns.TypeMX, nil) // SERVFAIL in its place
	ask("panic", dns.TypeMX, nil)
	ask("crash", dns.TypeTXT, nil)
	ask("hit", dns.TypeA, func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate })
	ask("hit", dns.TypeSRV, func(m *dns.Msg) { m.IsEdns0().SetVersion(1) })
	s.slots.take(wire.Network(1)) // the last one
	ask("miss", dns.TypeHTTPS, nil)

	var got Counts
	n.addTo(&got)
	types, rcodes := map[string]uint64{}, map[string]uint64{}
	for i, c := range got.Types {
		types[TypeClass(i).String()] = c
	}
	for i, c := range got.Rcodes {
		rcodes[RcodeClass(i).String()] = c
	}
	for name, want := range map[string]uint64{
		"AAAA": 1, "CAA": 1, "other": 2, "A": 1, "MX": 2, "TXT": 1, "none": 1, "SRV": 1, "HTTPS": 1, "NS": 0,
	} {
		if types[name] != want {
			t.Errorf("%d responses of type %s; want %d", types[name], name, want)
		}
	}
	for name, want := range map[string]uint64{"NOERROR": 5, "SERVFAIL": 4, "NOTIMP": 1, "BADVERS": 1, "FORMERR": 0, "other": 0} {
		if rcodes[name] != want {
			t.Errorf("%d responses with %s; want %d", rcodes[name], name, want)
		}
	}
	if later := got.Later; later.Count() != 1 || later.Sum() < time.Second {
		t.Errorf("deferred queries took %v, in all %v", later, later.Sum())
	}
}

func TestRcodesOfHeadersHaveTheirClass(t *testing.T) {
	for bits, want := range map[byte]string{0: "NOERROR", 3: "NXDOMAIN", 5: "REFUSED", 6: "YXDOMAIN", 7: "BADCOOKIE", 8: "other", 15: "other"} {
		if got := rcodeClass([]byte{0, 0, 0x80, 0xF0 | bits}).String(); got != want {
			t.Errorf("%d is %s; want %s", bits, got, want)
		}
	}
}

func TestEverySixtyFourthAnswerIsTimed(t *testing.T) {
	s := newService(newScripted(), nil, 0, 0, nil)
	msg := packQuery(t, 1, "hit")
	q := wire.Query{Client: netip.MustParseAddrPort("192.0.2.1:5353"), Limit: 1232, Received: time.Now().Add(-time.Second)}
	var n counters
	for range 10 * sampled {
		s.answer(&n, nil, msg, &q, parse(&q, msg, false))
	}
	var got Counts
	n.addTo(&got)
	if got.AtOnce.Count() != 10 || got.AtOnce.Sum() < 10*time.Second {
		t.Errorf("timed %v, in all %v; want ten seconds", got.AtOnce, got.AtOnce.Sum())
	}
}
