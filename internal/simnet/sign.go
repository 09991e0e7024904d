package simnet

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// Denial is the way in which a zone proves that something does not exist.
type Denial uint8

// The ways.
const (
	NSEC    Denial = iota // RFC 4034 §4
	NSEC3                 // RFC 5155
	Compact               // RFC 9824: made up for each question, NXDOMAIN is told by NXNAME
)

// typeNXNAME marks names that do not exist (RFC 9824 §3.1).
const typeNXNAME = 128

// Signing says how a zone is signed.
type Signing struct {
	// Keys sign. If some are secure entry points and others are not, the former
	// sign the DNSKEY set and the latter the rest, else all sign everything.
	// Default: NewKey of the zone, without options.
	Keys      []*Key
	Published []*Key // are in the DNSKEY set beside Keys, and sign nothing

	Denial     Denial
	Iterations uint16 // of NSEC3
	Salt       string // of NSEC3, in hexadecimal
	OptOut     bool   // of NSEC3: unsigned delegations have no record (RFC 5155 §6)

	// Inception and Expiration of all signatures; zero: a day before the zone
	// was signed, and 30 days after.
	Inception, Expiration time.Time
}

// The times of signatures, unless given.
const (
	defaultBefore = 24 * time.Hour
	defaultAfter  = 30 * 24 * time.Hour
)

// signer signs what a zone says, each set when it is first wanted.
type signer struct {
	Signing

	chain []link // NSEC, NSEC3: in their order

	mu   sync.Mutex
	sigs map[wire.Question][]dns.RR // of sets, by their owner and type
}

// Sign returns the zone z, which is not signed, signed. It panics if s makes no
// sense.
func (z *Zone) Sign(s Signing) *Zone {
	if len(s.Keys) == 0 {
		s.Keys = []*Key{NewKey(z.origin.String(), KeyOptions{})}
	}
	if s.Inception.IsZero() {
		s.Inception = time.Now().Add(-defaultBefore)
	}
	if s.Expiration.IsZero() {
		s.Expiration = time.Now().Add(defaultAfter)
	}
	signed := &Zone{origin: z.origin, nodes: maps.Clone(z.nodes), denial: z.denial}
	signed.signer = &signer{Signing: s, sigs: make(map[wire.Question][]dns.RR)}
	apex := maps.Clone(z.nodes[z.origin])
	for _, k := range slices.Concat(s.Keys, s.Published) {
		apex[wire.TypeDNSKEY] = append(apex[wire.TypeDNSKEY], k.rr)
	}
	if s.Denial == NSEC3 { // RFC 5155 §4
		apex[wire.TypeNSEC3PARAM] = []dns.RR{&dns.NSEC3PARAM{
			Hdr:  dns.RR_Header{Name: z.origin.String(), Rrtype: dns.TypeNSEC3PARAM, Class: dns.ClassINET},
			Hash: dns.SHA1, Iterations: s.Iterations, SaltLength: uint8(len(s.Salt) / 2), Salt: s.Salt,
		}}
	}
	signed.nodes[z.origin] = apex
	signed.link()
	return signed
}

// DNSKEYs returns the zone's keys; none if it is not signed.
func (z *Zone) DNSKEYs() []dns.RR { return z.nodes[z.origin][wire.TypeDNSKEY] }

// signatures returns those of the set of typ at owner, which is a name of z, or
// one that was made up for a compact denial; nil if z is not signed.
func (z *Zone) signatures(owner wire.Name, typ wire.Type, set []dns.RR) []dns.RR {
	if z.signer == nil || len(set) == 0 {
		return nil
	}
	s := z.signer
	s.mu.Lock()
	defer s.mu.Unlock()
	at := wire.Question{Name: owner, Type: typ}
	sigs, known := s.sigs[at]
	if !known {
		for _, k := range s.signers(typ) {
			sigs = append(sigs, s.sign(k, z.origin, set))
		}
		s.sigs[at] = sigs
	}
	return sigs
}

// signers returns the keys that sign sets of typ.
func (s *signer) signers(typ wire.Type) []*Key {
	entry := func(k *Key) bool { return k.rr.Flags&dns.SEP != 0 }
	if all := !slices.ContainsFunc(s.Keys, entry); all {
		return s.Keys
	}
	divided := slices.ContainsFunc(s.Keys, func(k *Key) bool { return !entry(k) })
	var keys []*Key
	for _, k := range s.Keys {
		if !divided || entry(k) == (typ == wire.TypeDNSKEY) {
			keys = append(keys, k)
		}
	}
	return keys
}

// sign returns the signature of set by k, a key of zone.
func (s *signer) sign(k *Key, zone wire.Name, set []dns.RR) dns.RR {
	h := set[0].Header()
	owner := wire.MustParseName(h.Name)
	sig := &dns.RRSIG{
		Hdr:         dns.RR_Header{Name: h.Name, Rrtype: dns.TypeRRSIG, Class: dns.ClassINET, Ttl: h.Ttl},
		TypeCovered: h.Rrtype, Algorithm: k.rr.Algorithm, Labels: uint8(owner.Labels()), OrigTtl: h.Ttl,
		Inception: uint32(s.Inception.Unix()), Expiration: uint32(s.Expiration.Unix()), // RFC 4034 §3.1.5: modulo 2³²
		KeyTag: k.rr.KeyTag(), SignerName: zone.String(),
	}
	if owner[:min(2, len(owner))] == asterisk {
		sig.Labels-- // RFC 4034 §3.1.3
	}
	if k.private == nil {
		some := sha256.Sum256([]byte(fmt.Sprint(set)))
		sig.Signature = base64.StdEncoding.EncodeToString(slices.Concat(some[:], some[:]))
		return sig
	}
	if err := sig.Sign(k.private, set); err != nil {
		panic(fmt.Sprintf("simnet: signing %s %s: %v", h.Name, dns.TypeToString[h.Rrtype], err))
	}
	return sig
}

// asterisk is the first label of a wildcard (RFC 4592 §2.1.1).
const asterisk = "\x01*"

// signedSet returns the set of typ at f, with its signatures for who wants them
// (RFC 4035 §3.1.1).
func (z *Zone) signedSet(f found, typ wire.Type, do bool) []dns.RR {
	set := f.node[typ]
	if !do {
		return set
	}
	return slices.Concat(set, z.signatures(f.name, typ, set))
}
