package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// asked is a question that a client gets the truth about.
type asked struct {
	question

	rcode   string
	records int    // in the answer section, without signatures
	why     string // what the question is there for
}

// answered are the questions of TestClientsGetWhatTheNameServersSay.
var answered = []asked{
	{question{"www.plain.west.", "A"}, "NOERROR", 2, "NSD"},
	{question{"www.plain.west.", "AAAA"}, "NOERROR", 1, "NSD"},
	{question{"plain.west.", "MX"}, "NOERROR", 2, "NSD"},
	{question{"plain.west.", "NS"}, "NOERROR", 1, "NSD"},
	{question{"plain.west.", "SOA"}, "NOERROR", 1, "NSD"},
	{question{"plain.west.", "TXT"}, "NOERROR", 1, "NSD"},
	{question{"plain.west.", "CAA"}, "NOERROR", 1, "NSD"},
	{question{"plain.west.", "HTTPS"}, "NOERROR", 1, "NSD"},
	{question{"text.plain.west.", "TXT"}, "NOERROR", 3, "strings with quotes, octets above 127, and none"},
	{question{"odd.plain.west.", "TYPE65280"}, "NOERROR", 1, "type that nobody knows"},
	{question{"odd.plain.west.", "TYPE65281"}, "NOERROR", 1, "type that nobody knows, without data"},
	{question{"host.plain.west.", "SSHFP"}, "NOERROR", 1, "NSD"},
	{question{"host.plain.west.", "LOC"}, "NOERROR", 1, "NSD"},
	{question{`a\.dot.plain.west.`, "A"}, "NOERROR", 1, "dot in a label"},
	{question{`sp\032ace.plain.west.`, "A"}, "NOERROR", 1, "space in a label"},
	{question{"_imaps._tcp.plain.west.", "SRV"}, "NOERROR", 1, "NSD"},
	{question{"_8443._foo.api.plain.west.", "SVCB"}, "NOERROR", 1, "NSD"},
	{question{"_8443._foo.app.plain.west.", "SVCB"}, "NOERROR", 1, "alias mode, not followed (RFC 9460 §2.4.2)"},
	{question{"_foo.api.plain.west.", "SVCB"}, "NOERROR", 0, "empty non-terminal"},
	{question{"b.c.plain.west.", "A"}, "NOERROR", 0, "empty non-terminal"},
	{question{"a.b.c.plain.west.", "A"}, "NOERROR", 1, "below empty non-terminals"},
	{question{"zero.plain.west.", "A"}, "NOERROR", 1, "TTL 0"},
	{question{"long.plain.west.", "A"}, "NOERROR", 1, "TTL of 23 days"},
	{question{"www.plain.west.", "MX"}, "NOERROR", 0, "no such type"},
	{question{"nosuch.plain.west.", "A"}, "NXDOMAIN", 0, "no such name"},
	{question{"a.b.nosuch.plain.west.", "A"}, "NXDOMAIN", 0, "nothing there at all"},
	{question{"nosuch.west.", "A"}, "NXDOMAIN", 0, "no such zone"},
	{question{"nosuch.", "A"}, "NXDOMAIN", 0, "no such top-level domain"},
	{question{"any.wild.plain.west.", "A"}, "NOERROR", 1, "wildcard"},
	{question{"a.b.c.wild.plain.west.", "TXT"}, "NOERROR", 1, "wildcard, labels deep"},
	{question{"any.wild.plain.west.", "MX"}, "NOERROR", 0, "wildcard, no such type"},
	{question{"*.wild.plain.west.", "A"}, "NOERROR", 1, "the wildcard itself"},
	{question{"x.exists.wild.plain.west.", "A"}, "NXDOMAIN", 0, "below a name beside a wildcard"},
	{question{"x.alias.wild.plain.west.", "A"}, "NOERROR", 2, "alias from a wildcard"},
	{question{"here.plain.west.", "A"}, "NOERROR", 3, "alias in its zone"},
	{question{"here.plain.west.", "CNAME"}, "NOERROR", 1, "the alias itself"},
	{question{"n0.plain.west.", "A"}, "NOERROR", 6, "aliases through every server there is"},
	{question{"dangling.plain.west.", "A"}, "NXDOMAIN", 1, "alias of no name, at another server"},
	{question{"nodata.plain.west.", "MX"}, "NOERROR", 1, "alias of a name without the type, at another server"},
	{question{"x.old.plain.west.", "A"}, "NOERROR", 3, "DNAME to a wildcard of the zone"},
	{question{"x.moved.plain.west.", "A"}, "NOERROR", 3, "DNAME to another server"},
	{question{"x.moved.plain.west.", "AAAA"}, "NOERROR", 2, "the same, no such type"},
	{question{"y.moved.plain.west.", "A"}, "NOERROR", 4, "DNAME to an alias at another server"},
	{question{"nosuch.moved.plain.west.", "A"}, "NXDOMAIN", 2, "DNAME to no name"},
	{question{"old.plain.west.", "DNAME"}, "NOERROR", 1, "the DNAME itself"},
	{question{"old.plain.west.", "A"}, "NOERROR", 0, "a DNAME's owner is not redirected"},

	{question{"www.plain.east.", "A"}, "NOERROR", 1, "Knot"},
	{question{"www.plain.east.", "AAAA"}, "NOERROR", 1, "Knot"},
	{question{"plain.east.", "SOA"}, "NOERROR", 1, "Knot"},
	{question{"plain.east.", "HTTPS"}, "NOERROR", 1, "alias mode"},
	{question{"odd.plain.east.", "TYPE65280"}, "NOERROR", 1, "type that nobody knows"},
	{question{"_sip._udp.plain.east.", "SRV"}, "NOERROR", 1, "Knot"},
	{question{"_8443._foo.api.plain.east.", "SVCB"}, "NOERROR", 1, "Knot"},
	{question{"zero.plain.east.", "TXT"}, "NOERROR", 1, "TTL 0"},
	{question{"any.wild.plain.east.", "MX"}, "NOERROR", 1, "wildcard"},
	{question{"www.plain.east.", "MX"}, "NOERROR", 0, "no such type"},
	{question{"nosuch.plain.east.", "A"}, "NXDOMAIN", 0, "no such name"},
	{question{"y.old.plain.east.", "A"}, "NOERROR", 4, "DNAME and alias in one zone, to a third"},

	{question{"many.big.west.", "TXT"}, "NOERROR", 64, "7 kB from NSD: over TCP"},
	{question{"many.big.east.", "TXT"}, "NOERROR", 64, "7 kB from Knot: over TCP"},
	{question{"huge.big.west.", "TXT"}, "NOERROR", 100, "20 kB from NSD: over TCP"},
	{question{"wide.big.east.", "A"}, "NOERROR", 100, "100 records, more than fit a datagram"},
	{question{"half.big.east.", "TXT"}, "NOERROR", 7, "fits a datagram, but not one of 512 octets"},
	{question{"www.six.east.", "A"}, "NOERROR", 1, "a server that has only IPv6"},
	{question{"nosuch.six.east.", "A"}, "NXDOMAIN", 0, "a server that has only IPv6"},
	{question{"www.glueless.west.", "A"}, "NOERROR", 1, "no glue"},
	{question{"www.half.west.", "A"}, "NOERROR", 1, "one server of two is down"},

	{question{".", "NS"}, "NOERROR", 1, "the root"},
	{question{".", "DNSKEY"}, "NOERROR", 1, "the root, signed by ldns-signzone"},
	{question{"west.", "NS"}, "NOERROR", 1, "a top-level domain at Knot"},
	{question{"east.", "SOA"}, "NOERROR", 1, "a top-level domain at NSD"},
	{question{"west.", "DS"}, "NOERROR", 1, "the parent's data: the root"},
	{question{"signed.west.", "DS"}, "NOERROR", 1, "the parent's data: a zone that Knot signs"},
	{question{"signed.east.", "DS"}, "NOERROR", 1, "the parent's data: a zone that ldns-signzone signed"},
	{question{"plain.west.", "DS"}, "NOERROR", 0, "unsigned delegation"},
	{question{"signed.west.", "DNSKEY"}, "NOERROR", 1, "ldns-signzone"},
	{question{"signed.east.", "DNSKEY"}, "NOERROR", 1, "Knot"},
	{question{"signed.east.", "NSEC3PARAM"}, "NOERROR", 1, "Knot"},
	{question{"signed.east.", "CDS"}, "NOERROR", 0, "Knot"},
	{question{"www.signed.west.", "A"}, "NOERROR", 1, "ldns-signzone, NSEC"},
	{question{"signed.west.", "MX"}, "NOERROR", 1, "ldns-signzone, NSEC"},
	{question{"www.signed.west.", "MX"}, "NOERROR", 0, "denial by NSEC"},
	{question{"nosuch.signed.west.", "A"}, "NXDOMAIN", 0, "denial by NSEC"},
	{question{"any.wild.signed.west.", "TXT"}, "NOERROR", 1, "wildcard, with NSEC"},
	{question{"www.old.signed.west.", "A"}, "NOERROR", 3, "signed DNAME, to an unsigned zone"},
	{question{"www.old.signed.west.", "AAAA"}, "NOERROR", 3, "the same, another type"},
	{question{"www.signed.east.", "A"}, "NOERROR", 1, "Knot, NSEC3"},
	{question{"www.signed.east.", "MX"}, "NOERROR", 0, "denial by NSEC3"},
	{question{"nosuch.signed.east.", "A"}, "NXDOMAIN", 0, "denial by NSEC3"},
	{question{"b.c.signed.east.", "A"}, "NOERROR", 0, "empty non-terminal, NSEC3"},
	{question{"any.wild.signed.east.", "TXT"}, "NOERROR", 1, "wildcard, with NSEC3"},
}

// way is one of the ways that clients ask in.
type way struct {
	program, at string
	tcp, dnssec bool
}

func (w way) String() string {
	name := w.program + map[bool]string{true: "/tcp", false: "/udp"}[w.tcp] + "/" + w.at
	if w.dnssec {
		name += "/dnssec"
	}
	return name
}

// ways returns every combination of client, transport, address family and
// interest in signatures.
func ways() []way {
	var out []way
	for _, dnssec := range []bool{false, true} {
		for _, program := range []string{"dig", "kdig"} {
			for _, tcp := range []bool{false, true} {
				for _, at := range []string{"127.0.0.1", "::1"} {
					out = append(out, way{program, at, tcp, dnssec})
				}
			}
		}
	}
	return out
}

func (w way) client(s *server) client {
	var args []string
	if w.tcp {
		args = append(args, "+tcp")
	}
	if w.dnssec {
		args = append(args, "+dnssec")
	}
	return s.ask(w.program, w.at, args...)
}

// truths asks the name servers everything, and makes sure that they say what
// the table expects.
func truths(t *testing.T) (qs []question, without, with []truth) {
	t.Helper()
	for _, a := range answered {
		tr := ask(t, built.world, a.question, false)
		if tr.rcode != a.rcode || len(tr.answer) != a.records {
			t.Fatalf("the name servers themselves say %s and %d records to %v, want %s and %d: the zones are not what the table expects",
				tr.rcode, len(tr.answer), a.question, a.rcode, a.records)
		}
		qs = append(qs, a.question)
		without, with = append(without, tr), append(with, ask(t, built.world, a.question, true))
	}
	return qs, without, with
}

// TestClientsGetWhatTheNameServersSay asks everything in every way, all at
// once, and compares with what the name servers say when asked directly.
func TestClientsGetWhatTheNameServersSay(t *testing.T) {
	t.Parallel()
	s := serve(t, settings{})
	qs, without, with := truths(t)
	t.Run("ways", func(t *testing.T) {
		for _, w := range ways() {
			t.Run(w.String(), func(t *testing.T) {
				t.Parallel()
				compare(t, s, w, qs, map[bool][]truth{false: without, true: with}[w.dnssec])
			})
		}
	})
}

// TestMemoryDoesNotChangeAnswers asks everything once with signatures and once
// without, in both orders: what the second time is made of what was learned the
// first time is the same.
func TestMemoryDoesNotChangeAnswers(t *testing.T) {
	t.Parallel()
	qs, without, with := truths(t)
	plain, signed := way{"dig", "127.0.0.1", false, false}, way{"dig", "127.0.0.1", false, true}
	t.Run("signed second", func(t *testing.T) {
		s := serve(t, settings{})
		compare(t, s, plain, qs, without)
		compare(t, s, signed, qs, with)
	})
	t.Run("signed first", func(t *testing.T) {
		s := serve(t, settings{})
		compare(t, s, signed, qs, with)
		compare(t, s, plain, qs, without)
	})
}

// compare asks s the questions qs of the table in one way, and reports each
// response that is not the truth.
func compare(t *testing.T, s *server, w way, qs []question, want []truth) {
	t.Helper()
	c := w.client(s)
	for i, r := range c.all(t, qs) {
		if bad := judge(w, answered[i], r, want[i], s.age()); bad != "" {
			t.Errorf("%s %s %v (%s):%s\n%s", c.program, strings.Join(c.args, " "), qs[i], answered[i].why, bad, head(r.raw, 30))
		}
	}
}

// judge says what is wrong with the response r to a, from a server that has run
// for age at most; "" if nothing is.
func judge(w way, a asked, r *response, tr truth, age time.Duration) string {
	var bad strings.Builder
	expect := func(what, got, want string) {
		if got != want {
			fmt.Fprintf(&bad, "\n  %s: %q, want %q", what, got, want)
		}
	}
	expect("status", r.status, a.rcode)
	expect("flags", r.flags, "qr rd ra") // not aa: this is no authority; not ad: nothing was validated
	expect("question", strings.ToLower(r.question), question{a.name, "IN " + a.typ}.lower())
	switch {
	case w.dnssec:
		expect("EDNS", r.edns, "version 0, flags do, size 1232")
	case w.program == "dig":
		expect("EDNS", r.edns, "version 0, flags , size 1232")
	default: // kdig does not speak EDNS unless told to; RFC 6891 §7
		expect("EDNS", r.edns, "")
	}
	bad.WriteString(difference(r.texts("ANSWER"), texts(tr.answer)))
	bad.WriteString(difference(r.texts("AUTHORITY"), texts(tr.authority)))
	bad.WriteString(ttls(r.sections["ANSWER"], tr.answer, age))
	bad.WriteString(beside(a, r.sections["ADDITIONAL"], tr.world))
	return bad.String()
}

// beside says what is wrong with additional records: there are some beside NS,
// SVCB and HTTPS records only, and each is what its own servers say.
func beside(a asked, additional []record, w *world) string {
	if len(additional) > 0 && a.typ != "NS" && a.typ != "SVCB" && a.typ != "HTTPS" {
		return fmt.Sprintf("\n  %d additional records", len(additional))
	}
	var bad strings.Builder
	for _, rr := range additional {
		owner, _, _ := strings.Cut(rr.text, "\t")
		m, err := w.ask(w.zoneOf(owner, rr.typ).server, owner, rr.typ, false)
		if err != nil || !slices.ContainsFunc(m.Answer, func(own dns.RR) bool {
			is, err := canonical(own)
			return err == nil && is.text == rr.text
		}) {
			fmt.Fprintf(&bad, "\n  additional record that its server does not have (%v): %s", err, rr.text)
		}
	}
	return bad.String()
}

func (q question) lower() string { return strings.ToLower(q.name + " " + q.typ) }

// maxTTL is the default of cache.max_ttl.
const maxTTL = 86400

// ttls says which records have a TTL that is more than their server gave them,
// more than a day, or less than what is left of either after age: nothing was
// asked before the server began.
func ttls(got, want []record, age time.Duration) string {
	given := make(map[string]uint32, len(want))
	for _, rr := range want {
		given[rr.text] = min(rr.ttl, maxTTL)
	}
	var bad strings.Builder
	for _, rr := range got {
		most, ok := given[rr.text]
		least := leastTTL(most, age)
		if ok && (rr.ttl > most || rr.ttl < least) {
			fmt.Fprintf(&bad, "\n  TTL %d, want %d to %d: %s", rr.ttl, least, most, rr.text)
		}
	}
	return bad.String()
}

// leastTTL is what is left of a TTL, in seconds, after age at most. A second is
// one that both ends round away.
func leastTTL(ttl uint32, age time.Duration) uint32 {
	return ttl - min(ttl, uint32(age/time.Second)+1)
}

// TestSignaturesAreInTheTruth makes sure of what the comparison above rests on:
// with DO the signed zones' answers have signatures, and without it none.
func TestSignaturesAreInTheTruth(t *testing.T) {
	t.Parallel()
	signatures := func(rrs []record) (n int) {
		for _, rr := range rrs {
			if rr.typ == dns.TypeRRSIG {
				n++
			}
		}
		return n
	}
	for _, a := range answered {
		z := zoneOf(a.name, dns.StringToType[a.typ])
		with, without := ask(t, built.world, a.question, true), ask(t, built.world, a.question, false)
		if n := signatures(slices.Concat(without.answer, without.authority)); n > 0 {
			t.Errorf("%v: %d signatures without DO", a.question, n)
		}
		if n := signatures(slices.Concat(with.answer, with.authority)); z.sign != unsigned && n == 0 {
			t.Errorf("%v: no signatures with DO from a signed zone", a.question)
		}
	}
}
