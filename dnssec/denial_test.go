package dnssec

import (
	"encoding/base32"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// prove makes a claim in words about zone: "NX name", "NODATA name type", "CLOSER
// name wildcard", "DS child". The result is in words as well; "" is a refusal.
func prove(tb testing.TB, zone, claim string, proofs []rrset.Set) string {
	tb.Helper()
	apex, f := wire.MustParseName(zone), strings.Fields(claim)
	name, b := wire.MustParseName(f[1]), NewBudget()
	var (
		proof  Proof
		err    error
		result string
	)
	switch f[0] {
	case "NX":
		proof, err = DenyName(name, apex, proofs, b)
	case "NODATA":
		proof, err = DenyType(wire.Question{Name: name, Type: wire.Type(dns.StringToType[f[2]])}, apex, proofs, b)
	case "CLOSER":
		proof, err = DenyCloser(name, wire.MustParseName(f[2]), apex, proofs, b)
	case "DS":
		var d DSDenial
		d, proof, err = DenyDS(name, apex, proofs, b)
		result = d.String() + ", "
	default:
		tb.Fatalf("what is %q?", claim)
	}
	if err != nil {
		e, ok := errors.AsType[*ede.Error](err)
		if !ok || e.Code != ede.NSECMissing || e.Text == "" {
			tb.Errorf("the refusal is %#v", err)
		}
		if proof != (Proof{}) || result != "" && result != "unproven, " {
			tb.Errorf("%s%+v comes with the error %v", result, proof, err)
		}
		return ""
	}
	result += proof.Trust.String()
	if proof.Note != nil {
		result += ", EDE " + strconv.Itoa(int(proof.Note.Code))
	}
	return result
}

// row is a claim, the records that are to prove it, and whether they do.
type row struct{ name, claim, proofs, want string }

func check(t *testing.T, rows []row, parse func(testing.TB, string) []rrset.Set) {
	t.Helper()
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			if got := prove(t, "example", r.claim, parse(t, r.proofs)); got != r.want {
				t.Errorf("%s is %q by\n%s\nwant %q", r.claim, got, r.proofs, r.want)
			}
		})
	}
}

// parseNSEC reads lines of an owner, a next name and types; "sig=N" among those
// is the number of labels that the record was signed with, "/" the beginning of
// another record of the set.
func parseNSEC(tb testing.TB, text string) []rrset.Set {
	tb.Helper()
	var sets []rrset.Set
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		set := nsecSet(wire.MustParseName(f[0]), wire.Root, nil)
		nsec := set.RRs[0].(*dns.NSEC)
		nsec.NextDomain = dns.Fqdn(f[1])
		for _, f := range f[2:] {
			if labels, ok := strings.CutPrefix(f, "sig="); ok {
				n, err := strconv.ParseUint(labels, 10, 8)
				if err != nil {
					tb.Fatal(err)
				}
				set.Sigs = append(set.Sigs, &dns.RRSIG{Labels: uint8(n)})
				continue
			}
			nsec.TypeBitMap = append(nsec.TypeBitMap, mustType(tb, f))
		}
		sets = append(sets, set)
	}
	return sets
}

func mustType(tb testing.TB, s string) uint16 {
	if s == "NXNAME" {
		return uint16(typeNXNAME)
	}
	t, ok := dns.StringToType[s]
	if !ok {
		tb.Fatalf("no type %q", s)
	}
	return t
}

func TestDenialByNSEC(t *testing.T) { check(t, nsecRows, parseNSEC) }

var nsecRows = []row{
	// RFC 4035 §5.4: the name, and the wildcard at its closest encloser.
	{"name and wildcard absent", "NX b.example", "a.example c.example A RRSIG NSEC\nexample a.example SOA NS", "secure"},
	{"one record for both", "NX b.example", "example c.example SOA NS", "secure"},
	{"only record of a zone", "NX b.example", "example example SOA NS", "secure"},
	{"only record of a zone, deep", "NX a.b.c.d.example", "example example SOA NS", "secure"},
	{"after the last name", "NX z.example", "example a.example SOA NS\ny.example example A", "secure"},
	{"wildcard not denied", "NX b.example", "a.example c.example A", ""},
	{"name not denied", "NX b.example", "example a.example SOA NS", ""},
	{"no records", "NX b.example", "", ""},
	{"name is the owner", "NX b.example", "b.example c.example A\nexample a.example SOA NS", ""},
	{"name is the next name", "NX b.example", "a.example b.example A\nexample a.example SOA NS", ""},
	{"name is an empty non-terminal", "NX b.example", "a.example x.b.example A\nexample a.example SOA NS", ""},
	{"wildcard exists", "NX b.example", "a.example c.example A\n*.example a.example A", ""},
	{"wildcard is an empty non-terminal", "NX b.example", "a.example c.example A\nexample x.*.example SOA NS", ""},
	{"wildcard is the next name", "NX b.example", "a.example c.example A\nexample *.example SOA NS", ""},
	{"wildcard of another encloser", "NX x.b.example", "a.b.example y.b.example A\nexample a.example SOA NS", ""},
	{"wildcard of the closest encloser", "NX x.b.example", "a.b.example y.b.example A\nb.example a.b.example A", "secure"},
	{"closest encloser is the owner", "NX x.b.example", "b.example c.example A", "secure"},
	{"closest encloser by the next name", "NX a.b.example", "0.b.example z.b.example A\nexample 0.b.example SOA NS", "secure"},
	{"closest encloser by the next name, wildcard not denied", "NX a.b.example", "0.b.example z.b.example A\nexample b.example SOA NS", ""},
	{"closest encloser by the next name, wildcard denied as well", "NX a.b.example", "a.example z.b.example A", "secure"},
	{"apex exists", "NX example", "example example SOA NS", ""},
	{"apex exists, says no record", "NX example", "z.example example A", ""},
	{"name above the zone", "NX test", "example example SOA NS", ""},
	{"name of another zone", "NX b.examplf", "example example SOA NS", ""},
	{"in canonical order, not that of strings", "NX b.a.example", "a.example c.example A", "secure"},
	{"label before the asterisk", "NX !.example", "example *.example SOA NS", ""},
	{"octets above ASCII", `NX \200.example`, "z.example example A\nexample a.example SOA NS", "secure"},
	{"case of the next name", "NX b.example", "a.example C.EXAMPLE A\nexample A.example SOA NS", "secure"},

	// What reaches too far, or is not the zone's.
	{"next name in another zone", "NX b.example", "example examplf SOA NS", ""},                      // CVE-2026-13321
	{"next name above the zone", "NX b.example", "example . SOA NS", ""},                             // the same
	{"last name's next name is not the apex", "NX z.example", "y.example a.example A", ""},           // backwards
	{"next name is the owner's own", "NX b.example", "a.example a.example A\nexample a.example", ""}, // only an apex can be
	{"owner out of the zone", "NX b.example", "examplf example A\nexample a.example SOA NS", ""},
	{"owner is the zone above", "NX b.example", ". c.example SOA NS\nexample a.example SOA NS", ""},
	{"apex's record is that of the zone above", "NX b.example", "example c.example NS DS", ""},
	{"apex of the zone below", "NX b.a.example", "a.example c.a.example SOA NS", ""},
	{"not a name", "NX b.example", "example a..b.example SOA NS", ""},
	{"expanded from a wildcard", "NX b.example", "example a.example SOA NS sig=1\na.example c.example A sig=1", ""}, // CVE-2017-15105
	{"not expanded", "NX b.example", "example a.example SOA NS sig=1\na.example c.example A sig=2", "secure"},
	{"a wildcard's own record", "NX *.*.example", "*.example c.example A sig=1", "secure"},

	// RFC 6840 §4.1: the zone above does not deny what is below its cut.
	{"below a cut", "NX x.b.example", "b.example c.example NS", ""},
	{"below a signed cut", "NX x.b.example", "b.example c.example NS DS\nexample b.example SOA NS", ""},
	{"behind a cut", "NX bb.example", "b.example c.example NS DS\nexample b.example SOA NS", "secure"},
	{"below a DNAME", "NX x.b.example", "b.example c.example DNAME", ""},
	{"below a DNAME at the apex", "NX b.example", "example example SOA NS DNAME", ""},
	{"behind a DNAME", "NX bb.example", "b.example c.example DNAME\nexample b.example SOA NS", "secure"},

	// RFC 4470: minimally covering records.
	{"white lies", "NX b.example", "a~.example b!.example RRSIG NSEC\n)~.example +.example RRSIG NSEC", "secure"},
	{"white lies, one of them", "NX b.example", "a~.example b!.example RRSIG NSEC", ""},
	{"white lies for a type", "NODATA b.example A", `b.example b\000.example MX RRSIG NSEC`, "secure"},

	// RFC 9824: compact denial.
	{"NXNAME", "NODATA b.example A", `b.example \000.b.example RRSIG NSEC NXNAME`, "secure"},
	{"NXNAME for DS", "NODATA b.example DS", `b.example \000.b.example RRSIG NSEC NXNAME`, "secure"},
	{"NXNAME for ANY", "NODATA b.example ANY", `b.example \000.b.example RRSIG NSEC NXNAME`, "secure"},
	{"NXNAME with NXDOMAIN", "NX b.example", `b.example \000.b.example RRSIG NSEC NXNAME`, "secure"},
	{"NXNAME is not asked for", "NODATA b.example TYPE128", `b.example \000.b.example RRSIG NSEC`, "secure"},
	{"NXNAME beside records", "NODATA b.example A", `b.example \000.b.example MX RRSIG NSEC NXNAME`, "secure"},
	{"NXNAME beside records with NXDOMAIN", "NX b.example", `b.example \000.b.example MX RRSIG NSEC NXNAME`, ""},
	{"NXNAME above", "NX x.b.example", `b.example \000.b.example RRSIG NSEC NXNAME`, ""},
	{"compact denial without NXNAME", "NX b.example", `b.example \000.b.example RRSIG NSEC`, ""},
	{"NXNAME is no cut", "DS b.example", `b.example \000.b.example RRSIG NSEC NXNAME`, "no cut, secure"},

	// NODATA.
	{"type not there", "NODATA b.example A", "b.example c.example MX RRSIG NSEC", "secure"},
	{"type there", "NODATA b.example MX", "b.example c.example MX RRSIG NSEC", ""},
	{"types not in order", "NODATA b.example A", "b.example c.example MX NSEC A", ""},
	{"alias", "NODATA b.example A", "b.example c.example CNAME RRSIG NSEC", ""},               // RFC 6840 §4.3
	{"alias asked for", "NODATA b.example CNAME", "b.example c.example CNAME RRSIG NSEC", ""}, // the same
	{"no alias", "NODATA b.example CNAME", "b.example c.example A RRSIG NSEC", "secure"},
	{"any type", "NODATA b.example ANY", "b.example c.example MX RRSIG NSEC", ""}, // RFC 6840 §4.2
	{"any type of an empty non-terminal", "NODATA b.example ANY", "a.example x.b.example A", "secure"},
	{"empty non-terminal", "NODATA b.example A", "a.example x.b.example A", "secure"},
	{"empty non-terminal two levels up", "NODATA b.example A", "a.example x.y.b.example A", "secure"},
	{"empty non-terminal below a cut", "NODATA b.a.example A", "a.example x.b.a.example NS", ""},
	{"not an empty non-terminal", "NODATA b.example A", "a.example xb.example A", ""},
	{"type at the apex", "NODATA example MX", "example a.example SOA NS", "secure"},
	{"type at the apex, by the zone above", "NODATA example MX", "example a.example NS", ""},
	{"type at a cut", "NODATA b.example A", "b.example c.example NS", ""}, // RFC 6840 §4.1
	{"type at a signed cut", "NODATA b.example A", "b.example c.example NS DS", ""},
	{"type at the apex of the zone below", "NODATA b.example A", "b.example x.b.example SOA NS", ""},
	{"type at a DNAME", "NODATA b.example A", "b.example c.example DNAME", "secure"},
	{"name does not exist", "NODATA b.example A", "a.example c.example A", ""},
	{"another name", "NODATA b.example A", "bb.example c.example MX", ""},
	{"wildcard without the type", "NODATA b.example A", "a.example c.example A\n*.example a.example MX", "secure"},
	{"wildcard with the type", "NODATA b.example MX", "a.example c.example A\n*.example a.example MX", ""},
	{"wildcard that is an alias", "NODATA b.example A", "a.example c.example A\n*.example a.example CNAME", ""},
	{"wildcard alone", "NODATA b.example A", "*.example a.example MX", ""},
	{"wildcard covers the name itself", "NODATA b.example A", "*.example c.example MX", "secure"},
	{"wildcard of another encloser for a type", "NODATA x.b.example A", "a.b.example y.b.example A\n*.example a.example MX", ""},
	{"wildcard that is an empty non-terminal", "NODATA b.example A", "a.example c.example A\nexample x.*.example SOA NS", "secure"},
	{"wildcard that is a cut", "NODATA b.example A", "a.example c.example A\n*.example a.example NS", ""},
	{"wildcard itself", "NODATA *.example A", "*.example a.example MX", "secure"},

	// RFC 4035 §5.3.4.
	{"no closer match", "CLOSER b.example *.example", "a.example c.example A", "secure"},
	{"no closer match, by the wildcard", "CLOSER b.example *.example", "*.example c.example A", "secure"},
	{"no closer match, deep", "CLOSER x.y.b.example *.example", "a.example c.example A", "secure"},
	{"closer match", "CLOSER x.b.example *.example", "a.b.example y.b.example A", ""},
	{"closer match is an empty non-terminal", "CLOSER b.example *.example", "a.example x.b.example A", ""},
	{"name exists", "CLOSER b.example *.example", "b.example c.example A", ""},
	{"encloser does not exist", "CLOSER x.b.example *.b.example", "a.example c.example A", ""},
	{"closer match not denied", "CLOSER b.example *.example", "x.example y.example A", ""},
	{"closer match below a cut", "CLOSER x.b.example *.b.example", "b.example c.example NS", ""},
	{"wildcard asked for", "CLOSER *.example *.example", "", "secure"},
	{"not a wildcard", "CLOSER b.example a.example", "a.example c.example A", ""},
	{"the root as a wildcard", "CLOSER b.example .", "a.example c.example A", ""},
	{"wildcard of another branch", "CLOSER b.example *.w.example", "a.example c.example A", ""},
	{"wildcard above the zone", "CLOSER b.example *.", "example example SOA NS", ""},
	{"wildcard of its own encloser", "CLOSER example *.example", "example example SOA NS", ""},

	// The DS set.
	{"insecure delegation", "DS b.example", "b.example c.example NS RRSIG NSEC", "unsigned, secure"},
	{"secure delegation", "DS b.example", "b.example c.example NS DS RRSIG NSEC", ""},
	{"DS without NS", "DS b.example", "b.example c.example DS RRSIG NSEC", ""},
	{"no delegation", "DS b.example", "b.example c.example A RRSIG NSEC", "no cut, secure"},
	{"no delegation but an alias", "DS b.example", "b.example c.example CNAME RRSIG NSEC", "no cut, secure"},
	{"no delegation but an empty non-terminal", "DS b.example", "a.example x.b.example A", "no cut, secure"},
	{"no such name", "DS b.example", "a.example c.example A", "no cut, secure"},
	{"no such name, next to a wildcard", "DS b.example", "*.example c.example A", "no cut, secure"},
	{"wildcard is not the name", "DS b.example", "*.example a.example A", ""},
	{"wildcard's record in the name's stead", "DS b.example", "b.example c.example A sig=1", ""}, // as in CVE-2017-15105
	{"apex of the child", "DS b.example", "b.example x.b.example SOA NS", ""},                    // RFC 4035 §5.2
	{"apex", "DS example", "example a.example SOA NS", ""},
	{"apex by the zone above", "DS example", "example examplf NS", ""},
	{"below another cut", "DS x.b.example", "b.example c.example NS", ""},
	{"below a DNAME for DS", "DS x.b.example", "b.example c.example DNAME", ""},
	{"out of the zone", "DS b.test", "example example SOA NS", ""},
	{"NODATA of DS at a cut", "NODATA b.example DS", "b.example c.example NS RRSIG NSEC", "secure"},
	{"NODATA of DS at a secure cut", "NODATA b.example DS", "b.example c.example NS DS RRSIG NSEC", ""},
	{"NODATA of DS at the apex", "NODATA example DS", "example a.example SOA NS", ""},
	{"NODATA of DS by the child", "NODATA b.example DS", "b.example x.b.example SOA NS", ""},
}

// parseNSEC3 reads lines that describe a record by a name of the zone example:
//
//	=NAME types     it matches NAME
//	<NAME           it covers NAME, and hardly anything else
//	>NAME           the same, as the last record of the chain
//	@NAME types     the only record of a chain
//
// and, among the types, "opt-out", "flags=N", "alg=N", "iterations=N", "salt=HEX",
// "zone=NAME", "owner=LABEL", "next=TEXT".
func parseNSEC3(tb testing.TB, text string) []rrset.Set {
	tb.Helper()
	var sets []rrset.Set
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		nsec3 := &dns.NSEC3{Hash: dns.SHA1, Iterations: 1, Salt: "aabb", HashLength: HashLen}
		zone, owner := wire.MustParseName("example"), ""
		next := ""
		for _, f := range f[1:] {
			key, value, _ := strings.Cut(f, "=")
			n, _ := strconv.ParseUint(value, 10, 16)
			switch key {
			case "opt-out":
				nsec3.Flags |= flagOptOut
			case "flags":
				nsec3.Flags = uint8(n)
			case "alg":
				nsec3.Hash = uint8(n)
			case "iterations":
				nsec3.Iterations = uint16(n)
			case "salt":
				nsec3.Salt = value
			case "zone":
				zone = wire.MustParseName(value)
			case "owner":
				owner = value
			case "next":
				next = value
			default:
				nsec3.TypeBitMap = append(nsec3.TypeBitMap, mustType(tb, f))
			}
		}
		nsec3.SaltLength = uint8(len(nsec3.Salt) / 2)
		p, ok := parseParams(min(nsec3.Iterations, 2*MaxIterations), nsec3.Salt)
		if !ok && nsec3.Salt != "zz" {
			tb.Fatalf("%s: bad parameters", line)
		}
		at := p.Hash(wire.MustParseName(f[0][1:]))
		from, to := at, at
		switch f[0][0] {
		case '=':
			to = add(at, +1)
		case '<':
			from, to = add(at, -1), add(at, +1)
		case '>':
			from, to = add(at, -1), [HashLen]byte{1}
		case '@':
		default:
			tb.Fatalf("what is %s?", line)
		}
		set := nsec3Set(zone, from, to, 0, "", 0, nil)
		if owner != "" {
			set.Name = wire.MustParseName(owner + "." + strings.TrimPrefix(zone.String(), "."))
		}
		nsec3.NextDomain = set.RRs[0].(*dns.NSEC3).NextDomain
		if next != "" {
			nsec3.NextDomain = next
		}
		set.RRs[0] = nsec3
		sets = append(sets, set)
	}
	return sets
}

// add returns hash and n, which is 1 or −1, modulo 2^160.
func add(hash [HashLen]byte, n int) [HashLen]byte {
	for i := HashLen - 1; i >= 0; i-- {
		hash[i] += byte(n)
		if n > 0 && hash[i] != 0 || n < 0 && hash[i] != 0xFF {
			break
		}
	}
	return hash
}

func TestDenialByNSEC3(t *testing.T) { check(t, nsec3Rows, parseNSEC3) }

const (
	apexAnd  = "=example SOA NS RRSIG\n"
	long     = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
	nxOfB    = apexAnd + "<b.example\n<*.example\n"
	nodataOf = "=b.example MX RRSIG"
)

var nsec3Rows = []row{
	// RFC 5155 §8.4.
	{"closest encloser, next closer, wildcard", "NX b.example", nxOfB, "secure"},
	{"in another order", "NX b.example", "<*.example\n<b.example\n" + apexAnd, "secure"},
	{"next closer above the name", "NX x.y.b.example", nxOfB, "secure"},
	{"closest encloser below the apex", "NX x.b.example", "=b.example A\n<x.b.example\n<*.b.example", "secure"},
	{"no closest encloser", "NX b.example", "<b.example\n<*.example", ""},
	{"no next closer", "NX b.example", apexAnd + "<*.example", ""},
	{"next closer is not the name", "NX x.b.example", apexAnd + "<x.b.example\n<*.example", ""},
	{"no wildcard", "NX b.example", apexAnd + "<b.example", ""},
	{"wildcard of another encloser", "NX x.b.example", "=b.example A\n<x.b.example\n<*.example", ""},
	{"wildcard exists", "NX b.example", apexAnd + "<b.example\n=*.example A", ""},
	{"name exists", "NX b.example", nxOfB + "=b.example A", ""},
	{"name exists without types", "NX b.example", nxOfB + "=b.example", ""},
	{"no records", "NX b.example", "", ""},
	{"only record of a chain", "NX b.example", "@example SOA NS", "secure"},
	{"only record of a chain, deep", "NX a.b.c.d.example", "@example SOA NS", "secure"},
	{"last record of a chain", "NX b.example", apexAnd + ">b.example\n<*.example", "secure"},
	{"apex exists", "NX example", "@example SOA NS", ""},
	{"name above the zone", "NX test", "@example SOA NS", ""},
	{"same record twice", "NX b.example", nxOfB + nxOfB, "secure"},
	{"more records than are looked at", "NX b.example", strings.Repeat("=q.example A\n", MaxProofs-2) + nxOfB, ""},
	{"as many records as are looked at", "NX b.example", strings.Repeat("=q.example A\n", MaxProofs-3) + nxOfB, "secure"},

	// RFC 5155 §8.3: the closest encloser is neither a cut nor a DNAME.
	{"closest encloser is a cut", "NX x.b.example", "=b.example NS\n<x.b.example\n<*.b.example", ""},
	{"closest encloser is a signed cut", "NX x.b.example", "=b.example NS DS RRSIG\n<x.b.example\n<*.b.example", ""},
	{"closest encloser is a DNAME", "NX x.b.example", "=b.example DNAME RRSIG\n<x.b.example\n<*.b.example", ""},
	{"closest encloser is a DNAME at the apex", "NX b.example", "=example SOA NS DNAME\n<b.example\n<*.example", ""},
	{"closest encloser is below a cut", "NX x.y.b.example", "=b.example NS\n=y.b.example A\n<x.y.b.example\n<*.y.b.example", ""},
	{"closest encloser is another zone's apex", "NX x.b.example", "=b.example SOA NS\n<x.b.example\n<*.b.example", ""},
	{"apex's record is that of the zone above", "NX b.example", "=example NS DS\n<b.example\n<*.example", ""},

	// RFC 5155 §8.1, §8.2, RFC 9276 §3.2.
	{"unknown hash algorithm", "NX b.example", "=example alg=2 SOA NS\n<b.example alg=2\n<*.example alg=2", ""},
	{"unknown hash algorithm beside", "NX b.example", nxOfB + "=b.example alg=2 A", "secure"},
	{"unknown flag", "NX b.example", apexAnd + "<b.example flags=2\n<*.example", ""},
	{"unknown flag beside opt-out", "NX b.example", apexAnd + "<b.example flags=3\n<*.example", ""},
	{"different iterations", "NX b.example", apexAnd + "<b.example iterations=2\n<*.example", ""},
	{"different iterations beside", "NX b.example", nxOfB + "=q.example iterations=2", ""},
	{"different salt", "NX b.example", apexAnd + "<b.example salt=aabc\n<*.example", ""},
	{"longer salt", "NX b.example", apexAnd + "<b.example salt=aabb00\n<*.example", ""},
	{"salt in capitals", "NX b.example", apexAnd + "<b.example salt=AABB\n<*.example", "secure"},
	{"no salt", "NX b.example", "=example salt=- SOA NS\n<b.example salt=-\n<*.example salt=", "secure"},
	{"salt as long as may be", "NX b.example", "=example salt=" + long + " SOA NS\n<b.example salt=" + long + "\n<*.example salt=" + long, "secure"},
	{"salt too long", "NX b.example", "=example salt=" + long + "00", "insecure, EDE 27"},
	{"salt is not hexadecimal", "NX b.example", apexAnd + "<b.example salt=zz\n<*.example", ""},
	{"as many iterations as may be", "NX b.example", "=example iterations=50 SOA NS\n<b.example iterations=50\n<*.example iterations=50", "secure"},
	{"too many iterations", "NX b.example", "=q.example iterations=51", "insecure, EDE 27"},
	{"too many iterations for a type", "NODATA b.example A", "=q.example iterations=65535", "insecure, EDE 27"},
	{"too many iterations for a wildcard", "CLOSER b.example *.example", "=q.example iterations=51", "insecure, EDE 27"},
	{"too many iterations for DS", "DS b.example", "=q.example iterations=51", "unsigned, insecure, EDE 27"},
	{"too many iterations of some", "NX b.example", nxOfB + "=q.example iterations=51", ""},
	{"too many iterations and an unknown flag", "NX b.example", "=q.example flags=2 iterations=51", ""},
	{"too many iterations of another zone", "NX b.example", "=q.example zone=test iterations=51", ""},
	{"too many iterations for a name above", "NX test", "=q.example iterations=51", ""},

	// Owners and next names that are no hashes.
	{"owner too short", "NX b.example", apexAnd + "<b.example owner=0123\n<*.example", ""},
	{"owner not in base 32", "NX b.example", apexAnd + "<b.example owner=wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww\n<*.example", ""},
	{"owner too long", "NX b.example", apexAnd + "<b.example owner=00000000000000000000000000000000000000000\n<*.example", ""},
	{"owner a label too deep", "NX b.example", apexAnd + "<b.example owner=" + zeros + ".x\n<*.example", ""},
	{"next name too short", "NX b.example", apexAnd + "<b.example next=0123\n<*.example", ""},
	{"next name not in base 32", "NX b.example", apexAnd + "<b.example next=wwwwwwwwwwwwwwwwwwwwwwwwwwwwwwww\n<*.example", ""},
	{"record of the zone below", "NX b.example", apexAnd + "<b.example zone=sub.example\n<*.example", ""}, // CVE-2026-10723
	{"record of the zone above", "NX b.example", apexAnd + "<b.example zone=.\n<*.example", ""},
	{"record of another zone", "NX b.example", apexAnd + "<b.example zone=examplf\n<*.example", ""},

	// RFC 5155 §6, §9.2: opt-out.
	{"next closer opted out", "NX b.example", apexAnd + "<b.example opt-out\n<*.example", "insecure"},
	{"wildcard opted out", "NX b.example", apexAnd + "<b.example\n<*.example opt-out", "insecure"},
	{"closest encloser has the flag", "NX b.example", "=example opt-out SOA NS\n<b.example\n<*.example", "secure"},
	{"covered with and without opt-out", "NX b.example", nxOfB + ">b.example opt-out", "insecure"},
	{"covered without and with opt-out", "NX b.example", ">b.example opt-out\n" + nxOfB, "insecure"},
	{"opt-out and no closest encloser", "NX b.example", "<b.example opt-out\n<*.example", ""},

	// NODATA.
	{"type not there", "NODATA b.example A", nodataOf, "secure"},
	{"type not there, flag set", "NODATA b.example A", nodataOf + " opt-out", "secure"},
	{"type there", "NODATA b.example MX", nodataOf, ""},
	{"alias", "NODATA b.example A", "=b.example CNAME RRSIG", ""},
	{"alias asked for", "NODATA b.example CNAME", "=b.example CNAME RRSIG", ""},
	{"any type", "NODATA b.example ANY", nodataOf, ""},
	{"any type of an empty non-terminal", "NODATA b.example ANY", "=b.example", "secure"},
	{"empty non-terminal", "NODATA b.example A", "=b.example", "secure"},
	{"type at a cut", "NODATA b.example A", "=b.example NS", ""},
	{"type at the apex", "NODATA example MX", "=example SOA NS", "secure"},
	{"type at the apex, by the zone above", "NODATA example MX", "=example NS", ""},
	{"type at the apex of the zone below", "NODATA b.example A", "=b.example SOA NS", ""},
	{"another name", "NODATA b.example A", "=c.example MX", ""},
	{"name covered", "NODATA b.example A", apexAnd + "<b.example", ""},
	{"name covered, opted out", "NODATA b.example A", apexAnd + "<b.example opt-out", "insecure"}, // erratum 3441
	{"name covered, opted out, no closest encloser", "NODATA b.example A", "<b.example opt-out", ""},
	{"wildcard without the type", "NODATA b.example A", apexAnd + "<b.example\n=*.example MX", "secure"}, // §8.7
	{"wildcard without the type, opted out", "NODATA b.example A", apexAnd + "<b.example opt-out\n=*.example MX", "insecure"},
	{"wildcard with the type", "NODATA b.example MX", apexAnd + "<b.example\n=*.example MX", ""},
	{"wildcard that is an alias", "NODATA b.example A", apexAnd + "<b.example\n=*.example CNAME", ""},
	{"wildcard that is a cut", "NODATA b.example A", apexAnd + "<b.example\n=*.example NS", ""},
	{"wildcard without closest encloser", "NODATA b.example A", "<b.example\n=*.example MX", ""},
	{"wildcard without next closer", "NODATA b.example A", apexAnd + "=*.example MX", ""},
	{"wildcard of another encloser for a type", "NODATA x.b.example A", "=b.example A\n<x.b.example\n=*.example MX", ""},
	{"NXNAME", "NODATA b.example A", "=b.example NXNAME", "secure"},
	{"NXNAME with NXDOMAIN", "NX b.example", "=b.example NXNAME", "secure"},

	// RFC 5155 §8.8.
	{"no closer match", "CLOSER b.example *.example", "<b.example", "secure"},
	{"no closer match, deep", "CLOSER x.y.b.example *.example", "<b.example", "secure"},
	{"no closer match, opted out", "CLOSER b.example *.example", "<b.example opt-out", "insecure"},
	{"closer match", "CLOSER x.b.example *.example", "=b.example\n<x.b.example", ""},
	{"closer match not denied", "CLOSER b.example *.example", "<*.example", ""},
	{"closer name is not the name", "CLOSER x.b.example *.example", "<x.b.example", ""},
	{"not a wildcard", "CLOSER b.example example", "<b.example", ""},

	// RFC 5155 §8.6, §8.9: the DS set.
	{"insecure delegation", "DS b.example", "=b.example NS", "unsigned, secure"},
	{"insecure delegation, flag set", "DS b.example", "=b.example NS opt-out", "unsigned, secure"},
	{"secure delegation", "DS b.example", "=b.example NS DS RRSIG", ""},
	{"no delegation", "DS b.example", "=b.example A RRSIG", "no cut, secure"},
	{"no delegation but an alias", "DS b.example", "=b.example CNAME RRSIG", "no cut, secure"},
	{"no delegation but an empty non-terminal", "DS b.example", "=b.example", "no cut, secure"},
	{"no such name", "DS b.example", apexAnd + "<b.example", "no cut, secure"},
	{"opted out", "DS b.example", apexAnd + "<b.example opt-out", "unsigned, insecure"},
	{"opted out below", "DS x.b.example", apexAnd + "<b.example opt-out", "unsigned, insecure"},
	{"opted out, no closest encloser", "DS b.example", "<b.example opt-out", ""}, // B.3 without it
	{"opted out elsewhere", "DS b.example", apexAnd + "<c.example opt-out", ""},
	{"below a cut", "DS x.b.example", "=b.example NS\n<x.b.example opt-out", ""},
	{"below a secure cut", "DS x.b.example", "=b.example NS DS RRSIG\n<x.b.example opt-out", ""},
	{"apex of the child", "DS b.example", "=b.example SOA NS", ""},
	{"apex of the child in the child", "DS b.example", "=b.example zone=b.example SOA NS", ""},
	{"apex", "DS example", "=example SOA NS", ""},
	{"NODATA of DS at a cut", "NODATA b.example DS", "=b.example NS", "secure"},
	{"NODATA of DS at a secure cut", "NODATA b.example DS", "=b.example NS DS RRSIG", ""},
	{"NODATA of DS opted out", "NODATA b.example DS", apexAnd + "<b.example opt-out", "insecure"},
	{"NODATA of DS not opted out", "NODATA b.example DS", apexAnd + "<b.example", ""},
	{"NODATA of DS at the apex", "NODATA example DS", "=example SOA NS", ""},
}

const zeros = "00000000000000000000000000000000"

func TestTheRootMayDenyItsOwnDS(t *testing.T) {
	if got := prove(t, ".", "NODATA . DS", parseNSEC(t, ". com SOA NS")); got != "secure" {
		t.Errorf("the root's DS set is denied %q", got)
	}
}

func TestNSECIsPreferredToNSEC3(t *testing.T) {
	proofs := append(parseNSEC3(t, "=q.example iterations=51"), parseNSEC(t, "example example SOA NS")...)
	if got := prove(t, "example", "NX b.example", proofs); got != "secure" {
		t.Errorf("the proof is %q", got)
	}
}

// TestExistenceWins: records of different versions of a zone can be mixed by who
// sends them.
func TestExistenceWins(t *testing.T) {
	for _, order := range []string{"a.example c.example A\nb.example c.example A", "b.example c.example A\na.example c.example A"} {
		if got := prove(t, "example", "NX b.example", parseNSEC(t, order+"\nexample a.example SOA NS")); got != "" {
			t.Errorf("%q by\n%s", got, order)
		}
	}
}

// TestProofsMayBeAnything: what is no NSEC or NSEC3 record proves nothing, and
// does no harm.
func TestProofsMayBeAnything(t *testing.T) {
	sets := parseNSEC(t, "example example SOA NS")
	odd := []rrset.Set{
		{},
		{Name: "\x07example\x00", Type: wire.TypeSOA, RRs: []dns.RR{&dns.SOA{}}},
		{Name: "\x07example\x00", Type: wire.TypeNSEC},
		{Name: "\x07example\x00", Type: wire.TypeNSEC, RRs: []dns.RR{&dns.A{}, nil}},
		{Type: wire.TypeNSEC3, RRs: []dns.RR{&dns.NSEC3{Hash: 1}}},
		{Type: wire.TypeNSEC, RRs: []dns.RR{&dns.NSEC{}}},
	}
	if got := prove(t, "example", "NX b.example", append(odd, sets...)); got != "secure" {
		t.Errorf("the proof is %q", got)
	}
	if got := prove(t, "example", "NX b.example", odd); got != "" {
		t.Errorf("the proof is %q", got)
	}
}

// TestAppendixBOfRFC4035 proves what the examples do, by the records they have.
func TestAppendixBOfRFC4035(t *testing.T) {
	chain := parseNSEC(t, `
		example         a.example       NS SOA MX RRSIG NSEC DNSKEY
		a.example       ai.example      NS DS RRSIG NSEC
		ai.example      b.example       A HINFO AAAA RRSIG NSEC
		b.example       ns1.example     NS RRSIG NSEC
		ns1.example     ns2.example     A RRSIG NSEC
		ns2.example     *.w.example     A RRSIG NSEC
		*.w.example     x.w.example     MX RRSIG NSEC
		x.w.example     x.y.w.example   MX RRSIG NSEC
		x.y.w.example   xx.example      MX RRSIG NSEC
		xx.example      example         A HINFO AAAA RRSIG NSEC`)
	pick := func(owners ...string) (sets []rrset.Set) {
		for i := range chain {
			for _, o := range owners {
				if chain[i].Name == wire.MustParseName(o) {
					sets = append(sets, chain[i])
				}
			}
		}
		return sets
	}
	for _, c := range []struct {
		section, claim string
		proofs         []rrset.Set
		want           string
	}{
		{"B.2", "NX ml.example", pick("b.example", "example"), "secure"},
		{"B.3", "NODATA ns1.example MX", pick("ns1.example"), "secure"},
		{"B.5", "DS b.example", pick("b.example"), "unsigned, secure"},
		{"B.6", "CLOSER a.z.w.example *.w.example", pick("x.y.w.example"), "secure"},
		{"B.7", "NODATA a.z.w.example AAAA", pick("x.y.w.example", "*.w.example"), "secure"},
		{"B.8", "NODATA example DS", pick("example"), ""}, // by the child
		{"B.4, denied", "DS a.example", pick("a.example"), ""},
		{"B.5, below", "NX mc.b.example", pick("b.example", "example"), ""},
	} {
		if got := prove(t, "example", c.claim, c.proofs); got != c.want {
			t.Errorf("%s: %s is %q, want %q", c.section, c.claim, got, c.want)
		}
	}
}

// TestAppendixBOfRFC5155 makes the chain of the zone of appendix A, which is to be
// the one printed there, and proves what the examples do.
func TestAppendixBOfRFC5155(t *testing.T) {
	z := parseZone(t, "example", `
		@       SOA NS MX DNSKEY NSEC3PARAM
		2t7b4g4vsa5smi47k61mv5bv1a22bojr A
		a       NS DS
		ns1.a   A
		ai      A HINFO AAAA
		c       NS
		ns1.c   A
		ns1     A
		ns2     A
		*.w     MX
		x.w     MX
		x.y.w   MX
		xx      A HINFO AAAA`)
	sets, names := z.nsec3(true, "aabbccdd", 12)
	printed := [][2]string{
		{"example.", "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom"},
		{"ns1.example.", "2t7b4g4vsa5smi47k61mv5bv1a22bojr"},
		{"x.y.w.example.", "2vptu5timamqttgl4luu9kg21e0aor3s"},
		{"a.example.", "35mthgpgcu1qg68fab165klnsnk3dpvl"},
		{"x.w.example.", "b4um86eghhds6nea196smvmlo4ors995"},
		{"ai.example.", "gjeqe526plbf1g8mklp59enfd789njgi"},
		{"y.w.example.", "ji6neoaepv8b5o6k4ev33abha8ht9fgc"},
		{"w.example.", "k8udemvp1j2f7eg6jebps17vp3n8i58h"},
		{"2t7b4g4vsa5smi47k61mv5bv1a22bojr.example.", "kohar7mbb8dc2ce8a9qvl8hon4k53uhi"},
		{"ns2.example.", "q04jkcevqvmu85r014c7dkba38o0ji5r"},
		{"*.w.example.", "r53bq7cc2uvmubfu5ocmm6pers9tk9en"},
		{"xx.example.", "t644ebqk9bibcna874givr6joj62mlhv"},
	}
	if len(sets) != len(printed) {
		t.Fatalf("the chain has %d records, want %d", len(sets), len(printed))
	}
	at := map[string]rrset.Set{}
	for i, p := range printed {
		if names[i].String() != p[0] || sets[i].Name.String() != p[1]+".example." {
			t.Fatalf("record %d is %s of %s, want %s of %s", i, sets[i].Name, names[i], p[1], p[0])
		}
		at[p[1][:4]] = sets[i]
	}
	for _, c := range []struct{ section, claim, proofs, want string }{
		{"B.1", "NX a.c.x.w.example", "0p9m b4um 35mt", "insecure"}, // all of it is opt-out
		{"B.1, no encloser", "NX a.c.x.w.example", "0p9m 35mt", ""},
		{"B.1, no next closer", "NX a.c.x.w.example", "b4um 35mt", ""},
		{"B.1, no wildcard", "NX a.c.x.w.example", "0p9m b4um", ""},
		{"B.2", "NODATA ns1.example MX", "2t7b", "secure"},
		{"B.2.1", "NODATA y.w.example A", "ji6n", "secure"},
		{"B.2.1, wrong record", "NODATA y.w.example A", "k8ud", ""},
		{"B.3", "DS c.example", "35mt 0p9m", "unsigned, insecure"},
		{"B.3, no encloser", "DS c.example", "35mt", ""},
		{"B.4", "CLOSER a.z.w.example *.w.example", "q04j", "insecure"},
		{"B.4, wrong record", "CLOSER a.z.w.example *.w.example", "k8ud", ""},
		{"B.5", "NODATA a.z.w.example AAAA", "k8ud q04j r53b", "insecure"},
		{"B.5, no encloser", "NODATA a.z.w.example AAAA", "q04j r53b", ""},
		{"B.5, no next closer", "NODATA a.z.w.example AAAA", "k8ud r53b", ""},
		{"B.6", "NODATA example DS", "0p9m", ""}, // by the child
	} {
		var proofs []rrset.Set
		for _, p := range strings.Fields(c.proofs) {
			proofs = append(proofs, at[p])
		}
		if got := prove(t, "example", c.claim, proofs); got != c.want {
			t.Errorf("%s: %s is %q, want %q", c.section, c.claim, got, c.want)
		}
	}
}

func TestParseHashIsBase32Hex(t *testing.T) {
	b32 := base32.HexEncoding
	for _, hash := range [][HashLen]byte{{}, add([HashLen]byte{}, -1), HashName("\x07example\x00", nil, 0)} {
		text := b32.EncodeToString(hash[:])
		for _, s := range []string{text, strings.ToLower(text)} {
			if got, ok := parseHash(s); !ok || got != hash {
				t.Errorf("%s is %x, want %x", s, got, hash)
			}
		}
	}
	for _, bad := range []string{"", zeros[1:], zeros + "0", "w" + zeros[1:], zeros[1:] + "=", zeros[1:] + "\xff"} {
		if _, ok := parseHash(bad); ok {
			t.Errorf("%q is taken for a hash", bad)
		}
	}
}

func TestCoversNSEC(t *testing.T) {
	nsec := parseNSEC(t, "a.example x.c.example NS")[0]
	zone := wire.MustParseName("example")
	for name, want := range map[string]bool{
		"b.example": true, "a.b.example": true, "a.example": false, "x.a.example": false, "c.example": false,
		"a.c.example": true, "x.c.example": false, "z.example": false, "example": false, "b.test": false,
	} {
		if got := CoversNSEC(nsec.RRs[0].(*dns.NSEC), nsec.Name, zone, wire.MustParseName(name)); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}

func TestParseSpanTakesNoRecordThatGoesBackwards(t *testing.T) {
	zone := wire.MustParseName("example")
	for line, want := range map[string]bool{
		"a.example b.example": true, "a.example a.example": false, "b.example a.example": false,
		"b.example example": true, "example example": true, "a.example x.a.example": true, "x.a.example a.example": false,
	} {
		set := parseNSEC(t, line)[0]
		if _, got := ParseSpan(set.RRs[0].(*dns.NSEC), set.Name, zone); got != want {
			t.Errorf("%s: %v, want %v", line, got, want)
		}
	}
}

func TestHashSpanCovers(t *testing.T) {
	at := func(n byte) (hash [HashLen]byte) { hash[0] = n; return hash }
	for _, c := range []struct {
		from, to byte
		covered  string // of the hashes that begin with 0…5
	}{
		{1, 4, "23"},
		{1, 2, ""},
		{0, 5, "1234"},
		{4, 1, "05"}, // the last one of a chain
		{5, 0, ""},
		{3, 3, "01245"}, // the only one
	} {
		s, got := HashSpan{Hash: at(c.from), Next: at(c.to)}, ""
		for n := range byte(6) {
			if s.Covers(at(n)) {
				got += strconv.Itoa(int(n))
			}
		}
		if got != c.covered {
			t.Errorf("%d to %d covers %q, want %q", c.from, c.to, got, c.covered)
		}
	}
}
