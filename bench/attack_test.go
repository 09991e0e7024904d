package main

import (
	"crypto"
	"testing"

	"github.com/miekg/dns"
)

// Of the signatures that the enemy sends, only the last one verifies: who wants
// it has to try them all.
func TestEnemyHidesItsSignature(t *testing.T) {
	key := &dns.DNSKEY{Hdr: dns.RR_Header{Name: trapZone, Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET}, Flags: 257, Protocol: 3, Algorithm: dns.ECDSAP256SHA256}
	private, err := generate(key)
	if err != nil {
		t.Fatal(err)
	}
	a, err := dns.NewRR("x." + trapZone + " 300 IN A 198.18.0.1")
	if err != nil {
		t.Fatal(err)
	}
	sig, err := signature(key, private.(crypto.Signer), []dns.RR{a})
	if err != nil {
		t.Fatal(err)
	}
	out := multiply([]dns.RR{a, sig})
	if len(out) != 2+trapSignatures {
		t.Fatalf("%d records, want %d", len(out), 2+trapSignatures)
	}
	for i, rr := range out[1:] {
		if err := rr.(*dns.RRSIG).Verify(key, []dns.RR{a}); (err == nil) != (i == trapSignatures) {
			t.Errorf("signature %d: %v", i, err)
		}
	}
}
