package dnssec

import (
	"crypto"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// TestVerifySignerTakesARevokedKeyThatSigned, and no key for another's
// signature.
func TestVerifySignerTakesARevokedKeyThatSigned(t *testing.T) {
	now := time.Now()
	header := dns.RR_Header{Name: "example.", Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 3600}
	newKey := func(flags uint16) (*dns.DNSKEY, crypto.Signer) {
		k := &dns.DNSKEY{Hdr: header, Flags: flags, Protocol: 3, Algorithm: dns.ECDSAP256SHA256}
		private, err := k.Generate(256)
		if err != nil {
			t.Fatal(err)
		}
		return k, private.(crypto.Signer)
	}
	revoked, private := newKey(dns.ZONE | dns.SEP | dns.REVOKE)
	other, _ := newKey(dns.ZONE | dns.SEP)
	zone := wire.MustParseName("example.")
	set := rrset.Set{Name: zone, Type: wire.TypeDNSKEY, RRs: []dns.RR{revoked, other}}
	sig := &dns.RRSIG{
		Hdr:       dns.RR_Header{Name: "example.", Rrtype: dns.TypeRRSIG, Class: dns.ClassINET, Ttl: 3600},
		Algorithm: revoked.Algorithm, KeyTag: revoked.KeyTag(), SignerName: "example.", OrigTtl: 3600,
		Inception: serial(now.Add(-time.Hour)), Expiration: serial(now.Add(time.Hour)),
	}
	if err := sig.Sign(private, set.RRs); err != nil {
		t.Fatal(err)
	}
	set.Sigs = []*dns.RRSIG{sig}
	if proof, err := VerifySigner(&set, zone, revoked, now, NewBudget()); err != nil || proof.Trust != rrset.Secure {
		t.Errorf("the revoked key: %+v, %v", proof, err)
	}
	if _, err := VerifySigner(&set, zone, other, now, NewBudget()); err == nil {
		t.Error("a key that did not sign was taken")
	}
	if _, err := VerifySet(&set, zone, []*dns.DNSKEY{revoked}, now, NewBudget()); err == nil {
		t.Error("the revoked key vouches for a set")
	}
	bad := *revoked
	bad.Flags &^= dns.ZONE
	sig.KeyTag = bad.KeyTag()
	if _, err := VerifySigner(&set, zone, &bad, now, NewBudget()); err == nil {
		t.Error("a key that is no zone's was taken since it is revoked")
	}
}
