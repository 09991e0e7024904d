package rrset

import (
	"bytes"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// packed returns rr as the library packs it.
func packed(t testing.TB, rr dns.RR) []byte {
	t.Helper()
	b := make([]byte, 65535)
	n, err := dns.PackRR(rr, b, 0, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

func TestAppendRecordIsWhatTheLibraryPacks(t *testing.T) {
	for _, text := range []string{
		"www.example. 300 IN A 192.0.2.1",
		"www.example. 2147483647 IN AAAA 2001:db8::1",
		"www.example. 0 IN RRSIG A 13 2 300 20300101000000 20200101000000 65535 Example. c2lnbmF0dXJl",
		"www.example. 0 IN RRSIG TYPE65280 15 2 300 20300101000000 20200101000000 0 . c2lnbmF0dQ==",
		"www.example. 0 IN RRSIG MX 8 2 300 20300101000000 20200101000000 0 a-b._c0.example. c2lnbmF0dXI=",
	} {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		want := packed(t, rr)
		got, ok := AppendRecord([]byte("before"), "\x03www\x07example\x00", rr, rr.Header().Ttl)
		if !ok || !bytes.Equal(got, append([]byte("before"), want...)) {
			t.Errorf("%s: %v, %x, want %x", text, ok, got, want)
		}
	}
}

func TestAppendRDATAKnowsNothingOfOtherRecords(t *testing.T) {
	const sig = "www.example. 0 IN RRSIG A 13 2 300 20300101000000 20200101000000 1 example. c2lnbmF0dXJl"
	for name, change := range map[string]func(*dns.RRSIG) dns.RR{
		"text":       func(s *dns.RRSIG) dns.RR { return &dns.TXT{Hdr: s.Hdr} },
		"no address": func(s *dns.RRSIG) dns.RR { return &dns.A{Hdr: dns.RR_Header{Rrtype: dns.TypeA}} },
		"half an address": func(s *dns.RRSIG) dns.RR {
			return &dns.AAAA{Hdr: dns.RR_Header{Rrtype: dns.TypeAAAA}, AAAA: make([]byte, 8)}
		},
		"an address of no type":   func(s *dns.RRSIG) dns.RR { return &dns.A{A: []byte{192, 0, 2, 1}} },
		"another type":            func(s *dns.RRSIG) dns.RR { s.Hdr.Rrtype = dns.TypeA; return s },
		"no signature":            func(s *dns.RRSIG) dns.RR { s.Signature = ""; return s },
		"no padding":              func(s *dns.RRSIG) dns.RR { s.Signature = "c2ln="; return s },
		"bits that mean nothing":  func(s *dns.RRSIG) dns.RR { s.Signature = "c2lnbmF0dR=="; return s },
		"a line break":            func(s *dns.RRSIG) dns.RR { s.Signature = "c2ln\nbmF0dXJl"; return s },
		"a signature of nonsense": func(s *dns.RRSIG) dns.RR { s.Signature = "c2l*"; return s },
		"no signer":               func(s *dns.RRSIG) dns.RR { s.SignerName = ""; return s },
		"a signer with an escape": func(s *dns.RRSIG) dns.RR { s.SignerName = `ex\.ample.`; return s },
		"a signer without a dot":  func(s *dns.RRSIG) dns.RR { s.SignerName = "example"; return s },
		"an empty label":          func(s *dns.RRSIG) dns.RR { s.SignerName = "a..example."; return s },
		"a label too long":        func(s *dns.RRSIG) dns.RR { s.SignerName = strings.Repeat("a", 64) + "."; return s },
		"a name too long":         func(s *dns.RRSIG) dns.RR { s.SignerName = strings.Repeat("a.", 128); return s },
	} {
		rr, err := dns.NewRR(sig)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := AppendRDATA(nil, change(rr.(*dns.RRSIG))); ok {
			t.Errorf("%s: %x", name, got)
		}
	}
}
