package main

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// Every signature verifies, every parent has its children's DS records, and the
// chain of NSEC records is closed.
func TestSignedInternetVerifies(t *testing.T) {
	net := buildInternet(10, 60, zoneAddrs)
	anchor, err := net.sign()
	if err != nil {
		t.Fatal(err)
	}
	if rr, err := dns.NewRR(anchor); err != nil || rr.Header().Rrtype != dns.TypeDS || rr.Header().Name != "." {
		t.Errorf("the anchor is %q: %v", anchor, err)
	}
	digests := anchor
	for _, z := range append(append([]zone{net.root}, net.tlds...), net.zones...) {
		sets, err := z.sets()
		if err != nil {
			t.Fatal(err)
		}
		key := sets.at[z.name][dns.TypeDNSKEY][0].(*dns.DNSKEY)
		if ds := key.ToDS(dns.SHA256).String(); !strings.Contains(digests, ds) {
			t.Errorf("%s: its parent does not have %s", z.name, ds)
		}
		chained := map[string]bool{}
		for name, types := range sets.at {
			for _, rr := range types[dns.TypeNSEC] {
				chained[rr.(*dns.NSEC).NextDomain] = true
			}
			for _, rr := range types[dns.TypeRRSIG] {
				sig := rr.(*dns.RRSIG)
				if err := sig.Verify(key, types[sig.TypeCovered]); err != nil || sig.Hdr.Ttl != types[sig.TypeCovered][0].Header().Ttl {
					t.Errorf("%v: %v", sig, err)
				}
			}
			if signed := types[dns.TypeRRSIG] != nil; signed == sets.glue(z.name, name) {
				t.Errorf("%s %s: signed %v", z.name, name, signed)
			}
		}
		for name := range sets.at {
			if chained[name] == sets.glue(z.name, name) {
				t.Errorf("%s: the chain of NSEC records has %s: %v", z.name, name, chained[name])
			}
		}
		digests += z.text
	}
}
