package lab

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

// Name is a question with the answer that is right.
type Name struct {
	Question wire.Question
	Rcode    wire.Rcode  // SERVFAIL where resolution has to fail
	Answers  []string    // the answer section as [Lines] writes it; nil with SERVFAIL
	Trust    rrset.Trust // what validation says of it, in a world that is signed
	Why      string      // what the question is there for
}

// asked is a Name whose answer has not been looked up.
type asked struct {
	question wire.Question
	why      string
	kind     kind
}

// kind says what a question is good for.
type kind uint8

const (
	ordinary kind = iota // for load: it is cheap to answer, and the answer can be kept
	special              // for tests
	failing              // for tests: it cannot be resolved
)

func (b *builder) ask(name string, typ wire.Type, why string) {
	b.askOf(ordinary, name, typ, why)
}

func (b *builder) askSpecial(name string, typ wire.Type, why string) {
	b.askOf(special, name, typ, why)
}

func (b *builder) askFailing(name string, typ wire.Type, why string) {
	b.askOf(failing, name, typ, why)
}

func (b *builder) askOf(k kind, name string, typ wire.Type, why string) {
	q := wire.Question{Name: wire.MustParseName(name), Type: typ}
	b.asked = append(b.asked, asked{q, why, k})
}

// Lines returns an answer section as text to compare: a line "owner type data"
// for each record, without TTL, names in lower case, sorted.
func Lines(rrs []dns.RR) []string {
	lines := make([]string, len(rrs))
	for i, rr := range rrs {
		rr = dns.Copy(rr)
		rr.Header().Name = strings.ToLower(rr.Header().Name)
		data := strings.TrimPrefix(rr.String(), rr.Header().String())
		lines[i] = rr.Header().Name + " " + dns.TypeToString[rr.Header().Rrtype] + " " + data
	}
	slices.Sort(lines)
	return lines
}

// Names returns every question that the world has an answer for, and that
// answer. The error is a zone that does not parse.
func (w *World) Names() ([]Name, error) {
	var zones []*simnet.Zone
	for _, z := range w.zones {
		parsed, err := simnet.ParseZone(z.origin, z.text.String())
		if err != nil {
			return nil, fmt.Errorf("lab: %w", err)
		}
		zones = append(zones, parsed)
	}
	everything := simnet.NewServer(zones...)
	names := make([]Name, len(w.asked))
	for i, a := range w.asked {
		names[i] = Name{Question: a.question, Rcode: wire.ServFail, Why: a.why}
		if a.kind != failing {
			var passed []wire.Name
			names[i].Rcode, names[i].Answers, passed = follow(everything, a.question)
			names[i].Trust = w.trust(passed)
			if last := passed[len(passed)-1]; names[i].Rcode == wire.NXDomain && w.compact(last) {
				names[i].Rcode = wire.NoError
			}
			if names[i].Rcode == wire.YXDomain { // nothing signed says so
				names[i].Trust = min(names[i].Trust, rrset.Insecure)
			}
		}
	}
	return names, nil
}

// follow answers q from a server that has all zones, across all aliases. It
// returns the names that it passed, too.
func follow(s *simnet.Server, q wire.Question) (rcode wire.Rcode, lines []string, passed []wire.Name) {
	var rrs []dns.RR
	passed = []wire.Name{q.Name}
	name := q.Name.String()
	for range maxAliases + 1 {
		m := s.Answer(new(dns.Msg).SetQuestion(name, uint16(q.Type)))
		rrs = append(rrs, m.Answer...)
		for _, rr := range m.Answer {
			if cname, ok := rr.(*dns.CNAME); ok && q.Type != wire.TypeCNAME {
				passed = append(passed, wire.MustParseName(cname.Target))
			}
		}
		if len(m.Answer) == 0 || q.Type == wire.TypeCNAME || m.Rcode != dns.RcodeSuccess {
			return wire.Rcode(m.Rcode), Lines(rrs), passed
		}
		cname, ok := m.Answer[len(m.Answer)-1].(*dns.CNAME)
		if !ok || len(m.Ns) > 0 { // an answer, or a denial behind an alias
			return wire.Rcode(m.Rcode), Lines(rrs), passed
		}
		name = cname.Target
	}
	return wire.ServFail, nil, passed
}

// Questions returns the questions that make a fair load, in an order that the
// seed shuffles: of ordinary zones, with answers that can be kept for five
// minutes. One String a line is a file for dnsperf.
func (w *World) Questions() []wire.Question {
	var qs []wire.Question
	for _, a := range w.asked {
		if a.kind == ordinary {
			qs = append(qs, a.question)
		}
	}
	random := rand.New(rand.NewPCG(w.seed, 0x4C4F_4144))
	random.Shuffle(len(qs), func(i, j int) { qs[i], qs[j] = qs[j], qs[i] })
	return qs
}
