package anchor

import (
	"time"

	"github.com/miekg/dns"

	"shirube/dnssec"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// The limits of what a DNSKEY set may cost to check (KeyTrap, CVE-2023-50387).
// They are for the set of an anchor, which no client can ask to have checked.
const (
	maxProbeKeys     = 64 // a set with more is not looked at
	maxVerifications = 16 // of signatures
)

// The intervals of RFC 5011 §2.3.
const (
	minQuery = time.Hour
	maxQuery = 15 * 24 * time.Hour
	minRetry = time.Hour
	maxRetry = 24 * time.Hour
)

// Check returns the facts of a zone's DNSKEY set: which of its keys signed it.
// A key is left out of the signers whose signature is not good at now, and what
// goes beyond the limits.
func Check(zone wire.Name, set rrset.Set, now time.Time) Probe {
	var p Probe
	if len(set.RRs) > maxProbeKeys || set.Name != zone || set.Type != wire.TypeDNSKEY {
		return p
	}
	for _, rr := range set.RRs {
		k, ok := rr.(*dns.DNSKEY)
		if !ok {
			return Probe{}
		}
		p.Keys = append(p.Keys, k)
	}
	budget := &dnssec.Budget{Verifications: maxVerifications}
	for _, k := range p.Keys {
		proof, err := dnssec.VerifySigner(&set, zone, k, now, budget)
		if err != nil {
			continue
		}
		p.Signers = append(p.Signers, k)
		p.TTL = max(p.TTL, originalTTL(set.Sigs, k))
		if p.Expires.IsZero() || proof.Until.Before(p.Expires) {
			p.Expires = proof.Until
		}
	}
	return p
}

// originalTTL returns the longest TTL that k may have signed.
func originalTTL(sigs []*dns.RRSIG, k *dns.DNSKEY) (ttl time.Duration) {
	tag := k.KeyTag()
	for _, sig := range sigs {
		if sig.KeyTag == tag && sig.Algorithm == k.Algorithm {
			ttl = max(ttl, time.Duration(sig.OrigTtl)*time.Second)
		}
	}
	return ttl
}

// query returns how long to wait after a probe that was trusted (RFC 5011 §2.3:
// half of the TTL or of what the signatures have left, within bounds).
func (p Probe) query(now time.Time) time.Duration {
	return min(max(p.Expires.Sub(now)/2, minQuery), maxQuery)
}

// retry returns how long to wait after one that was not, p being the last that
// was (RFC 5011 §2.3: a tenth).
func (p Probe) retry(now time.Time) time.Duration {
	return min(max(p.Expires.Sub(now)/10, minRetry), maxRetry)
}
