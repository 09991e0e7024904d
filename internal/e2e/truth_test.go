package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// truth is what the name servers themselves say to a question.
type truth struct {
	rcode     string
	answer    []record
	authority []record // of denials; also of names beside a wildcard
	world     *world   // that was asked
}

// ask returns the truth about q: what the server of the name's zone says,
// asked directly, and then, while the last word is an alias, the server of the
// zone that has its target.
func ask(t *testing.T, w *world, q question, dnssec bool) truth {
	t.Helper()
	typ, ok := dns.StringToType[q.typ]
	if !ok {
		if _, err := fmt.Sscanf(q.typ, "TYPE%d", &typ); err != nil {
			t.Fatalf("%v: no such type", q)
		}
	}
	tr := truth{world: w}
	name := dns.Fqdn(q.name)
	for range 20 {
		z := w.zoneOf(name, typ)
		m, err := w.ask(z.server, name, typ, dnssec)
		if err != nil {
			t.Fatalf("%v at its server: %v", q, err)
		}
		tr.rcode = dns.RcodeToString[m.Rcode]
		tr.answer = append(tr.answer, records(t, m.Answer)...)
		tr.authority = append(tr.authority, denial(t, m, z)...)
		next := lastAlias(m, name)
		if typ == dns.TypeCNAME || next == name || hasType(m.Answer, typ) {
			return tr
		}
		name = next
	}
	t.Fatalf("%v: the aliases do not end", q)
	return tr
}

// lastAlias returns where the aliases in the answer lead from name; name itself
// if there are none, or if the answer has what is there.
func lastAlias(m *dns.Msg, name string) string {
	for range m.Answer {
		for _, rr := range m.Answer {
			if c, ok := rr.(*dns.CNAME); ok && dns.CanonicalName(c.Hdr.Name) == dns.CanonicalName(name) {
				name = c.Target
			}
		}
	}
	for _, rr := range m.Ns { // the alias's target has been denied already
		if _, ok := rr.(*dns.SOA); ok && len(m.Answer) > 0 {
			return m.Question[0].Name
		}
	}
	return name
}

// denial returns what m, from z's server, says of what does not exist: its
// authority section without the name servers that some servers add to every
// answer, and without a referral to where an alias leads.
func denial(t *testing.T, m *dns.Msg, z zone) []record {
	t.Helper()
	for _, rr := range m.Ns {
		if rr.Header().Rrtype == dns.TypeNS && dns.CanonicalName(rr.Header().Name) != z.name {
			return nil
		}
	}
	return slices.DeleteFunc(records(t, m.Ns), func(rr record) bool {
		return rr.typ == dns.TypeNS || strings.Contains(rr.text, "\tRRSIG\tNS ")
	})
}

func hasType(rrs []dns.RR, typ uint16) bool {
	for _, rr := range rrs {
		if rr.Header().Rrtype == typ {
			return true
		}
	}
	return false
}

func records(t *testing.T, rrs []dns.RR) []record {
	t.Helper()
	var out []record
	for _, rr := range rrs {
		rec, err := canonical(rr)
		if err != nil {
			t.Fatalf("%v: %v", rr, err)
		}
		out = append(out, rec)
	}
	return out
}
