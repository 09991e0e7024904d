package lab

import (
	"strings"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

// NewSignedWorld returns the world that seed makes, signed in many ways: by
// different algorithms, denying by NSEC and NSEC3, with opt-out, and not at all,
// and with zones that are signed wrongly. The zones of [NewWorld] hold the same.
func NewSignedWorld(seed uint64) *World { return newWorld(seed, true) }

// Anchor returns the trust anchor of a signed world: the root's DS record, in
// the form of a zone file.
func (w *World) Anchor() string {
	return strings.TrimSpace(simnet.NewKey(".", simnet.KeyOptions{}).DS())
}

// security is how a zone is signed.
type security struct {
	signing *simnet.Signing // nil: not at all
	ds      string          // what the zone above says of its keys, in the form of a zone file
	bogus   bool            // the two do not agree
}

// signed returns the security of a zone that is signed by a key of the given
// algorithm, and denies by d.
func signed(origin string, algorithm uint8, d simnet.Denial) security {
	k := simnet.NewKey(origin, simnet.KeyOptions{Algorithm: algorithm})
	return security{signing: &simnet.Signing{Keys: []*simnet.Key{k}, Denial: d}, ds: k.DS()}
}

// secure returns how the zone of the given origin is signed. One is not, in
// each of the ways that a zone can be insecure: below a zone that says so by
// NSEC, by NSEC3, by opt-out, and below one that is not signed itself.
func (b *builder) secure(origin string) security {
	if !b.signed {
		return security{}
	}
	switch origin {
	case "minato.", "in-addr.arpa.":
		return security{}
	case ".", "lab.", flagship:
		return signed(origin, dns.ECDSAP256SHA256, simnet.NSEC)
	case "mura.":
		s := signed(origin, dns.ECDSAP256SHA256, simnet.NSEC3)
		s.signing.OptOut = true
		return s
	case "machi.", "wild.machi.":
		return signed(origin, dns.ED25519, simnet.NSEC3)
	case "shima.":
		return signed(origin, dns.RSASHA256, simnet.NSEC)
	}
	b.secured++
	switch b.secured % 8 {
	case 0:
		return signed(origin, dns.ED25519, simnet.NSEC)
	case 1:
		return signed(origin, dns.RSASHA512, simnet.NSEC3)
	case 2:
		s := signed(origin, dns.ECDSAP256SHA256, simnet.NSEC3)
		s.signing.Iterations, s.signing.Salt = 10, "5348"
		return s
	case 3:
		return signed(origin, dns.ECDSAP256SHA256, simnet.Compact)
	case 4, 5:
		return security{}
	}
	return signed(origin, dns.ECDSAP256SHA256, simnet.NSEC)
}

// The times of signatures that are never valid: before any clock that this runs
// by, and after.
var (
	longAgo = time.Date(1998, 1, 1, 0, 0, 0, 0, time.UTC)
	farOff  = time.Date(2036, 1, 1, 0, 0, 0, 0, time.UTC)
)

const month = 30 * 24 * time.Hour

// bogus makes zones that are signed wrongly, each in its own way.
func (b *builder) bogus() {
	if !b.signed {
		return
	}
	key := func(origin string, o simnet.KeyOptions) *simnet.Key { return simnet.NewKey(origin, o) }
	for _, way := range []struct {
		label, why string
		make       func(origin string, s *security)
	}{
		{"expired", "the signatures have expired", func(_ string, s *security) {
			s.signing.Inception, s.signing.Expiration = longAgo, longAgo.Add(month)
		}},
		{"future", "the signatures are not valid yet", func(_ string, s *security) {
			s.signing.Inception, s.signing.Expiration = farOff, farOff.Add(month)
		}},
		{"reversed", "the signatures expire before they begin", func(_ string, s *security) {
			s.signing.Inception, s.signing.Expiration = farOff, longAgo
		}},
		{"stripped", "the zone above has keys for it, and nothing is signed", func(_ string, s *security) { s.signing = nil }},
		{"wrong-ds", "the zone above has another key for it", func(origin string, s *security) {
			s.ds = key(origin, simnet.KeyOptions{Label: "another"}).DS()
		}},
		{"wrong-digest", "the digest above is not that of the key", func(_ string, s *security) {
			s.ds = s.ds[:len(s.ds)-9] + "00000000\n"
		}},
		{"no-zone-key", "the key is not one that zones are signed with", func(origin string, s *security) {
			k := key(origin, simnet.KeyOptions{Flags: dns.SEP})
			s.signing.Keys, s.ds = []*simnet.Key{k}, k.DS()
		}},
		{"revoked", "the key has been revoked", func(origin string, s *security) {
			k := key(origin, simnet.KeyOptions{Flags: dns.ZONE | dns.SEP | dns.REVOKE})
			s.signing.Keys, s.ds = []*simnet.Key{k}, k.DS()
		}},
		{"foreign", "signed by another key than the one that is trusted", func(origin string, s *security) {
			s.signing.Published = s.signing.Keys
			s.signing.Keys = []*simnet.Key{key(origin, simnet.KeyOptions{Label: "another"})}
		}},
		{"garbage", "the signatures are of no key", func(origin string, s *security) {
			k := key(origin, simnet.KeyOptions{Algorithm: dns.ECDSAP384SHA384})
			s.signing.Keys, s.ds = []*simnet.Key{k}, k.DS()
		}},
	} {
		origin := way.label + ".lab."
		s := signed(origin, dns.ECDSAP256SHA256, simnet.NSEC)
		s.bogus = true
		way.make(origin, &s)
		z := b.securedZone(origin, 300, s, b.providers[0].hosts...)
		b.web(z, "www")
		b.askFailing("www."+origin, wire.TypeA, "bogus: "+way.why)
		b.askFailing("nosuch."+origin, wire.TypeA, "bogus: "+way.why)
	}
	b.unsupported()
}

// unsupported makes zones that are as good as not signed for everybody who does
// not know how they are.
func (b *builder) unsupported() {
	origin := "unknown-algorithm.lab."
	k := simnet.NewKey(origin, simnet.KeyOptions{Algorithm: dns.PRIVATEDNS})
	z := b.securedZone(origin, 300, security{signing: &simnet.Signing{Keys: []*simnet.Key{k}}, ds: k.DS()}, b.providers[0].hosts...)
	z.insecure = true
	b.web(z, "www")
	b.askSpecial("www."+origin, wire.TypeA, "insecure: signed by an algorithm that nobody knows")

	origin = "unknown-digest.lab."
	s := signed(origin, dns.ECDSAP256SHA256, simnet.NSEC)
	s.ds = s.signing.Keys[0].DS(200)
	z = b.securedZone(origin, 300, s, b.providers[0].hosts...)
	z.insecure = true
	b.web(z, "www")
	b.askSpecial("www."+origin, wire.TypeA, "insecure: the zone above has a digest that nobody knows")
}

// compact reports whether the zone that n is in says of names that do not exist
// that they have no records (RFC 9824 §3.1).
func (w *World) compact(n wire.Name) bool {
	for ok := true; ok; n, ok = n.Parent() {
		if z := w.origins[n]; z != nil {
			return z.signing != nil && z.signing.Denial == simnet.Compact
		}
	}
	return false
}

// trust returns the trust in what the zone of the given names say, the least of
// all.
func (w *World) trust(names []wire.Name) rrset.Trust {
	least := rrset.Secure
	for _, n := range names {
		least = min(least, w.trustOf(n))
	}
	return least
}

// trustOf returns the trust in the zone that n is in: that of the first zone on
// the way down to it that is not secure.
func (w *World) trustOf(n wire.Name) rrset.Trust {
	for labels := range n.Labels() + 1 {
		z := w.origins[n.Tail(labels)]
		switch {
		case z == nil:
		case z.bogus:
			return rrset.Bogus
		case z.signing == nil, z.insecure:
			return rrset.Insecure
		}
	}
	return rrset.Secure
}
