package dnssec

import (
	"bytes"
	"encoding/base32"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// testZone is a zone as its signer sees it: the names that have records, and the
// types of those.
type testZone struct {
	apex  wire.Name
	nodes map[wire.Name][]wire.Type
}

// parseZone reads lines of an owner, "@" for the apex or relative to it, and
// types.
func parseZone(tb testing.TB, apex, text string) *testZone {
	tb.Helper()
	z := &testZone{apex: wire.MustParseName(apex), nodes: map[wire.Name][]wire.Type{}}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		name := z.apex
		if fields[0] != "@" {
			name = wire.MustParseName(fields[0] + "." + strings.TrimPrefix(apex, "."))
		}
		var types []wire.Type
		for _, f := range fields[1:] {
			t, ok := dns.StringToType[f]
			if !ok {
				tb.Fatalf("%s: no type %s", line, f)
			}
			types = append(types, wire.Type(t))
		}
		z.nodes[name] = types
	}
	return z
}

// kind is how a zone stands to a name, by RFC 1034 §4.3.2 and RFC 4592.
type kind int

const (
	foreign  kind = iota // not in the zone, or below a cut, or below a DNAME
	cut                  // where another zone begins
	node                 // it exists
	instance             // it does not, but a wildcard is its source of synthesis
	missing              // it does not
)

// lookup returns how z stands to name, the types at it, and the wildcard that it
// is an instance of. It is the truth that proofs are measured by, and shares no
// code with them.
func (z *testZone) lookup(name wire.Name) (k kind, types []wire.Type, source wire.Name) {
	if !name.Within(z.apex) {
		return foreign, nil, ""
	}
	ce := z.apex
	for labels := z.apex.Labels(); labels <= name.Labels(); labels++ {
		n := name.Tail(labels)
		if !z.exists(n) {
			break
		}
		ce = n
		if n != z.apex && slices.Contains(z.nodes[n], wire.TypeNS) {
			if n == name {
				return cut, z.nodes[n], ""
			}
			return foreign, nil, ""
		}
		if n != name && slices.Contains(z.nodes[n], wire.TypeDNAME) {
			return foreign, nil, ""
		}
	}
	if ce == name {
		return node, z.nodes[name], ""
	}
	if source = "\x01*" + ce; z.exists(source) {
		return instance, z.nodes[source], source
	}
	return missing, nil, ""
}

// exists reports whether there are records at name or below it.
func (z *testZone) exists(name wire.Name) bool {
	for n := range z.nodes {
		if n.Within(name) {
			return true
		}
	}
	return false
}

// names returns the names that z is to say something about: those that have
// records, and with ents those above them, unless they are below a cut.
func (z *testZone) names(ents bool) []wire.Name {
	var names []wire.Name
	for n := range z.nodes {
		for {
			if k, types, _ := z.lookup(n); k == cut || k == node && (ents || len(types) > 0) {
				names = append(names, n)
			}
			if n == z.apex {
				break
			}
			n, _ = n.Parent()
		}
	}
	slices.SortFunc(names, wire.Compare)
	return slices.Compact(names)
}

// bits returns the type bitmap for name, with more added.
func (z *testZone) bits(name wire.Name, more ...wire.Type) []uint16 {
	var bits []uint16
	for _, t := range append(slices.Clone(z.nodes[name]), more...) {
		bits = append(bits, uint16(t))
	}
	slices.Sort(bits)
	return bits
}

// nsec returns the NSEC records of z, in order (RFC 4034 §4).
func (z *testZone) nsec() []rrset.Set {
	var sets []rrset.Set
	names := z.names(false)
	for i, n := range names {
		sets = append(sets, nsecSet(n, names[(i+1)%len(names)], z.bits(n, wire.TypeRRSIG, wire.TypeNSEC)))
	}
	return sets
}

func nsecSet(owner, next wire.Name, bits []uint16) rrset.Set {
	return rrset.Set{Name: owner, Type: wire.TypeNSEC, RRs: []dns.RR{&dns.NSEC{
		Hdr:        dns.RR_Header{Name: owner.String(), Rrtype: dns.TypeNSEC, Class: dns.ClassINET},
		NextDomain: next.String(), TypeBitMap: bits,
	}}}
}

// nsec3 returns the NSEC3 records of z in the order of their hashes, and the
// names that they match (RFC 5155 §7.1). With optOut, insecure delegations have
// none, nor has what exists by those only.
func (z *testZone) nsec3(optOut bool, salt string, iterations uint16) (sets []rrset.Set, names []wire.Name) {
	signed := z
	var flags uint8
	if optOut {
		flags = flagOptOut
		signed = &testZone{apex: z.apex, nodes: map[wire.Name][]wire.Type{}}
		for n, types := range z.nodes {
			if k, _, _ := z.lookup(n); k == node || k == cut && slices.Contains(types, wire.TypeDS) {
				signed.nodes[n] = types
			}
		}
	}
	type hashed struct {
		hash [HashLen]byte
		name wire.Name
	}
	var all []hashed
	raw, _ := hex.DecodeString(salt)
	for _, n := range signed.names(true) {
		all = append(all, hashed{HashName(n, raw, iterations), n})
	}
	slices.SortFunc(all, func(a, b hashed) int { return bytes.Compare(a.hash[:], b.hash[:]) })
	for i, h := range all {
		var bits []uint16
		if types := z.nodes[h.name]; len(types) > 0 && (!slices.Contains(types, wire.TypeNS) || len(types) > 1) {
			bits = z.bits(h.name, wire.TypeRRSIG)
		} else {
			bits = z.bits(h.name)
		}
		sets = append(sets, nsec3Set(z.apex, h.hash, all[(i+1)%len(all)].hash, flags, salt, iterations, bits))
		names = append(names, h.name)
	}
	return sets, names
}

func nsec3Set(apex wire.Name, hash, next [HashLen]byte, flags uint8, salt string, iterations uint16, bits []uint16) rrset.Set {
	b32 := base32.HexEncoding.WithPadding(base32.NoPadding)
	owner := "\x20" + wire.Name(strings.ToLower(b32.EncodeToString(hash[:]))) + apex
	return rrset.Set{Name: owner, Type: wire.TypeNSEC3, RRs: []dns.RR{&dns.NSEC3{
		Hdr:  dns.RR_Header{Name: owner.String(), Rrtype: dns.TypeNSEC3, Class: dns.ClassINET},
		Hash: dns.SHA1, Flags: flags, Iterations: iterations, SaltLength: uint8(len(salt) / 2), Salt: salt,
		HashLength: HashLen, NextDomain: b32.EncodeToString(next[:]), TypeBitMap: bits,
	}}}
}

// around returns the names in and around z: those that exist, and those beside,
// below and above them that may not.
func (z *testZone) around() []wire.Name {
	names := []wire.Name{wire.Root, wire.MustParseName("examplf"), wire.MustParseName("a.examplf")}
	for _, n := range z.names(true) {
		for _, below := range []string{`a`, `*`, `\000`, `x.y`, `zz.*`} {
			labels := wire.MustParseName(below)
			names = append(names, labels[:len(labels)-1]+n)
		}
		above, ok := n.Parent()
		names = append(names, n)
		if !ok {
			continue
		}
		label := n[1 : 1+int(n[0])]
		names = append(names,
			above, wire.Name(n[0]+1)+label+"\x00"+above, "\x01!"+above, "\x01\xff"+above,
			wire.Name(n[0]+1)+"\x00"+label+above, // just before
		)
	}
	slices.SortFunc(names, wire.Compare)
	return slices.Compact(names)
}

// testZones are small on purpose: all that up to three of their records can be
// made to prove is tried.
var testZones = []struct{ name, apex, text string }{
	{"RFC 4035", "example", `
		@       SOA NS MX DNSKEY
		a       NS DS
		ns1.a   A
		ai      A AAAA
		b       NS
		ns1.b   A
		*.w     MX
		x.y.w   MX
		xx      HINFO`},
	{"RFC 4592", "example", `
		@                      SOA NS DNSKEY
		*                      TXT MX
		sub.*                  TXT
		host1                  A
		_ssh._tcp.host1        SRV
		subdel                 NS`},
	{"one name", "one.example", `
		@       SOA NS DNSKEY`},
	{"root", ".", `
		@       SOA NS DNSKEY
		com     NS DS
		org     NS
		ns.org  A`},
	{"aliases", "example", `
		@       SOA NS DNSKEY
		c       CNAME
		*.c2    CNAME
		d       DNAME A
		x.d     A
		*.e     DNAME`},
	{"empty wildcard", "example", `
		@       SOA NS DNSKEY
		a.*     A
		b.*.w   A
		w       TXT`},
	{"DNAME at the apex", "example", `
		@       SOA NS DNSKEY DNAME
		gone    A`},
	{"insecure delegations below nothing", "example", `
		@       SOA NS DNSKEY
		a.b.ent NS
		s.mix   NS DS
		u.mix   NS
		v       NS`},
	{"odd labels", "example", `
		@               SOA NS DNSKEY
		\000            A
		\000.\000       A
		!               A
		*               A
		\255\255        A
		\.a\\           A`},
}
