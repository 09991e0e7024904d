package anchor

import (
	"crypto"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

var example = wire.MustParseName("example.")

// pair is a key that can sign.
type pair struct {
	*dns.DNSKEY
	private crypto.Signer
}

// newPair returns a new key of example with the given flags.
func newPair(t *testing.T, flags uint16) pair {
	t.Helper()
	k := &dns.DNSKEY{
		Hdr:   dns.RR_Header{Name: "example.", Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 3600},
		Flags: flags, Protocol: 3, Algorithm: dns.ECDSAP256SHA256,
	}
	private, err := k.Generate(256)
	if err != nil {
		t.Fatal(err)
	}
	return pair{k, private.(crypto.Signer)}
}

// revoked returns p with the REVOKE flag.
func (p pair) revoked() pair {
	c := *p.DNSKEY
	c.Flags |= dns.REVOKE
	return pair{&c, p.private}
}

// ds returns the DS record of p.
func (p pair) ds() *dns.DS { return p.ToDS(dns.SHA256) }

// zoneKeys is a DNSKEY set that is signed when it is asked for.
type zoneKeys struct {
	keys    []pair
	signers []pair
	ttl     uint32
	life    time.Duration
}

// set returns the set, signed at now.
func (z zoneKeys) set(t *testing.T, now time.Time) rrset.Set {
	t.Helper()
	s := rrset.Set{Name: example, Type: wire.TypeDNSKEY}
	for _, k := range z.keys {
		c := *k.DNSKEY
		c.Hdr.Ttl = z.ttl
		s.RRs = append(s.RRs, &c)
	}
	for _, k := range z.signers {
		sig := &dns.RRSIG{
			Hdr:       dns.RR_Header{Name: "example.", Rrtype: dns.TypeRRSIG, Class: dns.ClassINET, Ttl: z.ttl},
			Algorithm: k.Algorithm, KeyTag: k.KeyTag(), SignerName: "example.", OrigTtl: z.ttl,
			Inception: uint32(now.Add(-time.Hour).Unix()), Expiration: uint32(now.Add(z.life).Unix()),
		}
		if err := sig.Sign(k.private, s.RRs); err != nil {
			t.Fatal(err)
		}
		s.Sigs = append(s.Sigs, sig)
	}
	return s
}

// states returns the state of each key that is known, by tag.
func states(s State) map[uint16]KeyState {
	out := map[uint16]KeyState{}
	for _, k := range s.Keys {
		out[k.DNSKEY.KeyTag()] = k.State
	}
	return out
}

// trusts reports whether s has p as an anchor, by key or digest.
func trusts(s State, p pair) bool {
	a, _ := s.Anchor()
	is := func(rr dns.RR) bool { return standsFor(rr, p.DNSKEY) }
	return slices.ContainsFunc(a.Keys, func(k *dns.DNSKEY) bool { return is(k) }) ||
		slices.ContainsFunc(a.DS, func(ds *dns.DS) bool { return is(ds) })
}

// buffer is a log that may be read while it is written.
type buffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
