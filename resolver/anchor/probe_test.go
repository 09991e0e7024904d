package anchor

import (
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/dnssec"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

func TestCheckNamesTheKeysThatSigned(t *testing.T) {
	a, b := newPair(t, 257), newPair(t, 257)
	ra := a.revoked()
	z := zoneKeys{keys: []pair{ra, b}, signers: []pair{ra}, ttl: 7200, life: 10 * day}
	now := time.Now()
	p := Check(example, z.set(t, now), now)
	if len(p.Keys) != 2 || len(p.Signers) != 1 || p.Signers[0].KeyTag() != ra.KeyTag() {
		t.Fatalf("got %+v", p)
	}
	if left := p.Expires.Sub(now).Round(time.Second); p.TTL != 2*time.Hour || left != 2*time.Hour {
		t.Errorf("TTL %v, expires in %v", p.TTL, left)
	}
	z.ttl = 30 * 86400
	p = Check(example, z.set(t, now), now)
	if left := p.Expires.Sub(now).Round(time.Second); p.TTL != 30*day || left != 10*day {
		t.Errorf("TTL %v, expires in %v", p.TTL, left)
	}
}

func TestCheckTakesNoBadSignature(t *testing.T) {
	a := newPair(t, 257)
	now := time.Now()
	z := zoneKeys{keys: []pair{a}, signers: []pair{a}, ttl: 7200, life: day}
	for name, change := range map[string]func(s *rrset.Set){
		"expired":           func(s *rrset.Set) { *s = z.set(t, now.Add(-3*day)) },
		"not yet valid":     func(s *rrset.Set) { *s = z.set(t, now.Add(3*day)) },
		"of another type":   func(s *rrset.Set) { s.Sigs[0].TypeCovered = dns.TypeA },
		"of another signer": func(s *rrset.Set) { s.Sigs[0].SignerName = "." },
		"of another set":    func(s *rrset.Set) { s.RRs = append(s.RRs, newPair(t, 257).DNSKEY) },
		"changed":           func(s *rrset.Set) { s.Sigs[0].OrigTtl++ },
		"not of a key":      func(s *rrset.Set) { s.RRs[0].(*dns.DNSKEY).PublicKey = "AAAA" },
		"of another zone":   func(s *rrset.Set) { s.RRs[0].Header().Name = "other." },
		"of another name":   func(s *rrset.Set) { s.Name = wire.Root },
		"of no keys":        func(s *rrset.Set) { s.RRs = []dns.RR{a.ds()} },
	} {
		set := z.set(t, now)
		if p := Check(example, set, now); len(p.Signers) != 1 {
			t.Fatalf("the good set: %+v", p)
		}
		change(&set)
		if p := Check(example, set, now); len(p.Signers) != 0 {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if p := Check(wire.Root, z.set(t, now), now); len(p.Signers) != 0 {
		t.Errorf("asked for another zone: %+v", p)
	}
}

// TestCheckIsBounded gives it what KeyTrap would: signatures and keys without
// end, of which the good ones are the last.
func TestCheckIsBounded(t *testing.T) {
	a := newPair(t, 257)
	now := time.Now()
	z := zoneKeys{keys: []pair{a}, signers: []pair{a}, ttl: 7200, life: day}
	set := z.set(t, now)
	good := set.Sigs[0]
	set.Sigs = nil
	for range dnssec.MaxSignatures {
		bad := *good
		bad.OrigTtl++
		set.Sigs = append(set.Sigs, &bad)
	}
	set.Sigs = append(set.Sigs, good)
	if p := Check(example, set, now); len(p.Signers) != 0 {
		t.Error("it looked at more signatures than it may")
	}
	set = z.set(t, now)
	for range maxProbeKeys {
		set.RRs = append(set.RRs, a.DNSKEY)
	}
	if p := Check(example, set, now); len(p.Keys) != 0 {
		t.Errorf("it looked at %d keys", len(p.Keys))
	}
}
