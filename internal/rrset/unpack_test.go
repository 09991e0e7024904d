package rrset

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// message packs a response to "www.example. ANY" with the given answer section,
// without compression.
func message(t testing.TB, answer ...string) []byte {
	t.Helper()
	m := new(dns.Msg).SetQuestion("www.example.", dns.TypeANY)
	m.Response = true
	for _, text := range answer {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// odd returns what message does, with the RDATA of the records of type 65280 as
// that of the given type.
func odd(t testing.TB, typ uint16, answer ...string) []byte {
	t.Helper()
	b := message(t, answer...)
	for i := 12; i+2 <= len(b); i++ {
		if b[i] == 0xFF && b[i+1] == 0 {
			b[i], b[i+1] = byte(typ>>8), byte(typ)
		}
	}
	return b
}

func TestUnpackKeepsWhatIsBesideMalformedRDATA(t *testing.T) {
	const fine = "www.example. 300 IN A 192.0.2.1"
	for name, test := range map[string]struct {
		typ   uint16
		rdata string
	}{
		"A of three octets":             {dns.TypeA, "3 030405"},
		"A of five octets":              {dns.TypeA, "5 0102030405"},
		"AAAA of 48 octets":             {dns.TypeAAAA, "48 " + strings.Repeat("07", 48)},
		"HTTPS with a key twice":        {dns.TypeHTTPS, "17 0001000001000302683200010003026833"},
		"HTTPS with a value cut off":    {dns.TypeHTTPS, "9 000100000100040268"},
		"SVCB with half a priority":     {dns.TypeSVCB, "1 00"},
		"NS whose name does not end":    {dns.TypeNS, "2 0561"},
		"MX with something behind it":   {dns.TypeMX, "4 000a0000"},
		"TXT that is longer than RDATA": {dns.TypeTXT, "2 0561"},
		"CNAME of a dead label type":    {dns.TypeCNAME, "1 41"},
	} {
		rr := "www.example. 300 IN TYPE65280 \\# " + test.rdata
		m, err := Unpack(odd(t, test.typ, fine, rr, fine))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(m.Answer) != 3 || m.Answer[0].String() != m.Answer[2].String() {
			t.Errorf("%s: %v", name, m.Answer)
			continue
		}
		_, want, _ := strings.Cut(test.rdata, " ")
		got, ok := m.Answer[1].(*dns.RFC3597)
		if !ok || got.Hdr.Rrtype != test.typ || got.Hdr.Ttl != 300 || got.Hdr.Name != "www.example." || got.Rdata != want {
			t.Errorf("%s: %v", name, m.Answer[1])
		}
		again, err := (&dns.Msg{Answer: m.Answer}).Pack()
		if err != nil {
			t.Errorf("%s: does not pack: %v", name, err)
		} else if m2, err := Unpack(again); err != nil || !slices.EqualFunc(m.Answer, m2.Answer, dns.IsDuplicate) {
			t.Errorf("%s: comes back as %v, %v", name, m2, err)
		}
	}
}

func TestUnpackRefusesMalformedMessages(t *testing.T) {
	const fine = "www.example. 300 IN A 192.0.2.1"
	question := 12 + len("\x03www\x07example\x00") + 4
	for name, msg := range map[string][]byte{
		"nothing":                 {},
		"half a header":           message(t)[:11],
		"two questions":           func() []byte { b := message(t, fine); b[5] = 2; return b }(),
		"half a question":         message(t)[:question-1],
		"one record too few":      func() []byte { b := message(t, fine); b[7]++; return b }(),
		"RDATA past the end":      func() []byte { b := message(t, fine); return b[:len(b)-1] }(),
		"half a fixed part":       message(t, fine)[:question+20],
		"owner points to itself":  append(func() []byte { b := message(t); b[7] = 1; return b }(), 0xC0, byte(question), 0, 1, 0, 1, 0, 0, 0, 0, 0, 0),
		"OPT that makes no sense": odd(t, dns.TypeOPT, ". 0 IN TYPE65280 \\# 3 000a00"),
	} {
		if m, err := Unpack(msg); err == nil {
			t.Errorf("%s: %v", name, m)
		}
	}
}

// FuzzUnpackReadsWhatTheLibraryReads compares Unpack with [dns.Msg.Unpack]: what
// the library takes comes out the same.
func FuzzUnpackReadsWhatTheLibraryReads(f *testing.F) {
	f.Add(message(f))
	f.Add(message(f, "www.example. 300 IN A 192.0.2.1", "www.example. 300 IN TXT x y", "example. 1 IN SOA . . 1 2 3 4 5"))
	f.Add(message(f, "www.example. 0 IN RRSIG A 13 2 300 20300101000000 20200101000000 65535 example. c2lnbmF0dXJl"))
	f.Add(message(f, "www.example. 300 IN HTTPS 1 . alpn=h2,h3 ipv4hint=192.0.2.1"))
	f.Add(odd(f, dns.TypeA, "www.example. 300 IN TYPE65280 \\# 3 030405"))
	f.Add(odd(f, dns.TypeHTTPS, "www.example. 300 IN TYPE65280 \\# 9 000100000100040268"))
	opt := new(dns.Msg).SetQuestion("www.example.", dns.TypeA)
	opt.SetEdns0(1232, true)
	opt.Rcode, opt.Response = dns.RcodeBadVers, true
	b, err := opt.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, msg []byte) {
		got, err := Unpack(msg)
		want := new(dns.Msg)
		if want.Unpack(msg) != nil {
			return
		}
		if err != nil {
			if !errors.Is(err, errCut) && !errors.Is(err, errQuestions) { // the library takes messages that end too early
				t.Fatalf("%v, but the library takes %v", err, want)
			}
			return
		}
		if g, w := got.String(), want.String(); g != w {
			t.Errorf("got  %s\nwant %s", g, w)
		}
		same := func(a, b dns.RR) bool { return a.String() == b.String() && *a.Header() == *b.Header() }
		for i, rrs := range [][2][]dns.RR{{got.Answer, want.Answer}, {got.Ns, want.Ns}, {got.Extra, want.Extra}} {
			if !slices.EqualFunc(rrs[0], rrs[1], same) {
				t.Errorf("section %d: got  %v\nwant %v", i, rrs[0], rrs[1])
			}
		}
	})
}
