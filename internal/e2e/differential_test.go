package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/porttest"
)

// Where the laboratory's servers are.
const (
	addrLabParents = "127.54.65.1" // the root and lab.
	addrLabZones   = "127.54.65.2" // the zones below
)

// labRecords are in every zone of the laboratory.
const labRecords = `@ SOA ns hostmaster 1 1800 900 604800 300
@ NS ns
ns A ` + addrLabZones + `
@ A 198.51.100.1
@ MX 10 mail
@ TXT "apex"
www A 198.51.100.2
www AAAA 2001:db8::2
www TXT "text"
mail A 198.51.100.3
a.b.c A 198.51.100.4
*.wild A 198.51.100.5
*.wild TXT "expanded"
x.names A 198.51.100.6
old DNAME names
alias CNAME www
dangling CNAME nosuch
hanging CNAME nosuch
*.aliases CNAME www
togood CNAME www.good.lab.
toplain CNAME www.unsigned.lab.
toexpired CNAME www.expired.lab.
todname CNAME x.old
away DNAME expired.lab.
sub NS ns.sub
ns.sub A ` + addrLabZones + `
`

// subRecords are in the unsigned zone below every one of them.
const subRecords = "@ SOA ns hostmaster 1 1800 900 604800 300\n@ NS ns\nns A " + addrLabZones + "\nwww A 198.51.100.7\n"

// labQuestions are asked of every zone; the names are relative.
var labQuestions = asks(`
	@ A AAAA MX TXT SOA NS DNSKEY DS CAA NSEC NSEC3PARAM
	www A AAAA TXT MX
	wWw A
	mail A MX
	a.b.c A MX
	b.c A
	c A TXT
	x.b.c A
	nosuch A AAAA TXT
	a.nosuch A
	0 A
	zzz MX
	any.wild A TXT MX
	a.b.wild TXT CAA
	*.wild A MX
	wild A
	alias A AAAA MX CNAME
	dangling A
	hanging CNAME
	any.aliases A MX
	togood A MX
	toplain A MX
	toexpired A MX
	todname A
	x.old A MX
	nosuch.old A
	old A DNAME
	www.away A
	sub DS NS A
	www.sub A MX DS
	nosuch.sub A
`)

// asks reads lines of a name and types.
func asks(text string) (out []question) {
	for line := range strings.Lines(text) {
		for i, f := range strings.Fields(line) {
			if i > 0 {
				out = append(out, question{strings.Fields(line)[0], f})
			}
		}
	}
	return out
}

// laboratory is an Internet of zones that are signed well and not.
type laboratory struct {
	parents, zones []served
	anchor         string // a DS record
	questions      []labQuestion
}

// labQuestion is a question about the zone of a kind.
type labQuestion struct {
	question

	kind *kind
}

// newLaboratory makes the zones of kinds.
func newLaboratory(t *testing.T) *laboratory {
	t.Helper()
	var l laboratory
	lab := &labZone{name: "lab.", keys: []*zoneKey{newKey("lab.", dns.ECDSAP256SHA256)}}
	lab.add("@ SOA ns hostmaster 1 1800 900 604800 300\n@ NS ns\nns A " + addrLabParents + "\n")
	for i := range kinds {
		k := &kinds[i]
		z := k.zone(t)
		lab.add(fmt.Sprintf("%s NS ns.%s\nns.%s A %s\n", k.name, k.name, k.name, addrLabZones))
		ds := z.entry(dns.SHA256)
		if k.ds != nil {
			ds = k.ds(z)
		}
		for _, d := range ds {
			lab.rrs = append(lab.rrs, d)
		}
		sub := &labZone{name: "sub." + z.name}
		sub.add(subRecords)
		l.zones = append(l.zones, served{Name: strings.ToLower(z.name), text: z.text()}, served{Name: strings.ToLower(sub.name), text: sub.text()})
		for _, q := range append(slices.Clone(labQuestions), k.ask...) {
			l.questions = append(l.questions, labQuestion{question{z.abs(q.name), q.typ}, k})
		}
	}
	lab.sign()
	root := &labZone{name: ".", keys: []*zoneKey{newKey(".", dns.ECDSAP256SHA256)}}
	root.add("@ SOA ns.root. hostmaster.root. 1 1800 900 604800 300\n@ NS ns.root.\nns.root A " + addrLabParents + "\nlab NS ns.lab.\nns.lab A " + addrLabParents + "\n")
	for _, d := range lab.entry(dns.SHA256) {
		root.rrs = append(root.rrs, d)
	}
	root.sign()
	l.parents = []served{{Name: ".", text: root.text()}, {Name: "lab.", text: lab.text()}}
	l.anchor = strings.Join(strings.Fields(root.keys[0].ToDS(dns.SHA256).String()), " ")
	return &l
}

// zone makes the zone of k.
func (k *kind) zone(t *testing.T) *labZone {
	t.Helper()
	z := &labZone{name: k.name + ".lab."}
	z.add(labRecords + k.more)
	if k.alg == dns.ED448 {
		z.signByLDNS(t, "ED448")
		return z
	}
	alg := k.alg
	if alg == 0 {
		alg = dns.ECDSAP256SHA256
	}
	z.keys = []*zoneKey{newKey(z.name, alg)}
	if k.hash != nil {
		hash := *k.hash
		hash.Hdr.Name = z.name
		z.hash = &hash
	}
	if k.prepare != nil {
		k.prepare(z)
	}
	z.sign()
	if k.damage != nil {
		k.damage(z)
	}
	return z
}

// signByLDNS signs z by an algorithm that the library does not know.
func (z *labZone) signByLDNS(t *testing.T, algorithm string) {
	t.Helper()
	w := &world{dir: t.TempDir()}
	writeFile(t, filepath.Join(w.dir, "zone"), z.text())
	key, err := w.tool("ldns-keygen", "-k", "-a", algorithm, z.name)
	if err == nil {
		_, err = w.tool("ldns-signzone", "-o", z.name, "-f", "signed", "zone", strings.TrimSpace(key))
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(w.dir, "signed"))
	if err != nil {
		t.Fatal(err)
	}
	z.rrs = nil
	z.add(string(b))
	each(z, func(k *dns.DNSKEY) { z.keys = append(z.keys, &zoneKey{DNSKEY: k, keys: true}) })
}

// placed is zones, and where they are served.
type placed struct {
	zones []served
	at    netip.AddrPort
}

// unbound starts an Unbound that goes the same ways as the server: it has
// no option for the port of name servers, so it is told each zone's. What either
// would conclude from denials of other names is off, for then what is said
// depends on what was asked before. So is its minimisation: it takes what is
// said to A on the way for the answer, and calls an alias of nothing NXDOMAIN
// when the alias itself was asked for.
func (l *laboratory) unbound(t *testing.T, authorities ...placed) netip.AddrPort {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, `
  do-not-query-localhost: no
  trust-anchor: %q
  trust-anchor-signaling: no
  val-log-level: 2
  module-config: "validator iterator"
  aggressive-nsec: no
  harden-below-nxdomain: no
  qname-minimisation: no
`, l.anchor)
	for _, s := range authorities {
		for _, z := range s.zones {
			fmt.Fprintf(&b, "stub-zone:\n  name: %q\n  stub-addr: %s@%d\n", z.Name, s.at.Addr(), s.at.Port())
		}
	}
	at := freeAt(t, "127.0.0.1")
	startUnbound(t, b.String(), at)
	return at
}

// verdict is what a resolver says to a question.
type verdict struct {
	rcode int
	ad    bool
	data  []string // the answer section without signatures
	ede   string
}

// A verdict's trust, from what protects a client most to what does least.
const (
	withheld = iota
	unproven
	proven
)

func (v verdict) trust() int {
	switch {
	case v.rcode == dns.RcodeServerFailure:
		return withheld
	case !v.ad:
		return unproven
	}
	return proven
}

func (v verdict) String() string {
	return fmt.Sprintf("%s ad=%t %d records %s", dns.RcodeToString[v.rcode], v.ad, len(v.data), v.ede)
}

// askers is how many questions are asked at a time.
const askers = 8

// verdicts asks a resolver all questions.
func (l *laboratory) verdicts(at netip.AddrPort, cd bool) ([]verdict, error) {
	out := make([]verdict, len(l.questions))
	errs := make([]error, len(l.questions))
	var wg sync.WaitGroup
	for n := range askers {
		wg.Go(func() {
			for i := n; i < len(out); i += askers {
				if out[i], errs[i] = askVerdict(at, l.questions[i].question, cd); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("%v at %v: %w", l.questions[i].question, at, err)
		}
	}
	return out, nil
}

// askVerdict asks for signatures, over UDP, and over TCP what does not fit.
func askVerdict(at netip.AddrPort, q question, cd bool) (verdict, error) {
	m := new(dns.Msg).SetQuestion(q.name, dns.StringToType[q.typ])
	m.CheckingDisabled = cd
	m.SetEdns0(1232, true)
	c := dns.Client{Timeout: 20 * time.Second}
	rsp, _, err := c.Exchange(m, at.String())
	if err == nil && rsp.Truncated {
		c.Net = "tcp"
		rsp, _, err = c.Exchange(m, at.String())
	}
	if err != nil {
		return verdict{}, err
	}
	v := verdict{rcode: rsp.Rcode, ad: rsp.AuthenticatedData}
	for _, rr := range rsp.Answer {
		if rr.Header().Rrtype == dns.TypeRRSIG {
			continue
		}
		rec, err := canonical(rr)
		if err != nil {
			return v, err
		}
		v.data = append(v.data, strings.ToLower(rec.text))
	}
	slices.Sort(v.data)
	if opt := rsp.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				v.ede += e.String()
			}
		}
	}
	return v, nil
}

// The least that TestVerdictsAreUnbounds compares.
const (
	leastQuestions = 2000
	leastKinds     = 30
)

// TestVerdictsAreUnbounds asks for names in zones that are signed in every way,
// well and badly, and compares what the server says with what Unbound says.
// Where they differ, the server has to trust less, and to have a reason.
func TestVerdictsAreUnbounds(t *testing.T) {
	l := newLaboratory(t)
	if len(l.questions) < leastQuestions || len(kinds) < leastKinds {
		t.Errorf("%d questions about %d kinds of zones, want %d and %d", len(l.questions), len(kinds), leastQuestions, leastKinds)
	}
	port := porttest.Take(t)
	parents := netip.AddrPortFrom(netip.MustParseAddr(addrLabParents), port)
	zones := netip.AddrPortFrom(netip.MustParseAddr(addrLabZones), port)
	startAuthority(t, softwares[0], l.parents, parents)
	startAuthority(t, softwares[0], l.zones, zones)
	unbound := l.unbound(t, placed{l.parents, parents}, placed{l.zones, zones})
	defaults := l.serve(t, int(port), "")
	bare := l.serve(t, int(port), "aggressive_nsec: false\nharden_below_nxdomain: false")

	theirs, own := l.both(t, unbound, bare, false)
	l.judge(t, theirs, own)
	theirsUnchecked, ownUnchecked := l.both(t, unbound, bare, true)
	l.judgeUnchecked(t, theirsUnchecked, ownUnchecked, own)

	// What is concluded from denials of other names is the same.
	concluded, err := l.verdicts(defaults, false)
	if err != nil {
		t.Fatal(err)
	}
	for i, q := range l.questions {
		if a, b := own[i], concluded[i]; !q.kind.contradictory && (a.rcode != b.rcode || a.ad != b.ad || !slices.Equal(a.data, b.data)) {
			t.Errorf("%v (%s): %v, and with what is known from denials %v", q.question, q.kind.why, a, b)
		}
	}
}

// serve starts a server that validates, and returns where it is.
func (l *laboratory) serve(t *testing.T, port int, dnssec string) netip.AddrPort {
	t.Helper()
	s := serve(t, settings{
		binary: built.plain,
		listen: []string{"127.0.0.1"},
		hints:  ". 3600 NS ns.root.\nns.root. 3600 A " + addrLabParents + "\n",
		port:   port,
		dnssec: fmt.Sprintf("trust_anchors: [%q]\nauto_trust_anchor: false\n", l.anchor) + dnssec,
	})
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(s.port))
}

// both asks Unbound and the server everything, at the same time.
func (l *laboratory) both(t *testing.T, unbound, server netip.AddrPort, cd bool) (theirs, own []verdict) {
	t.Helper()
	var theirErr, ownErr error
	var wg sync.WaitGroup
	wg.Go(func() { theirs, theirErr = l.verdicts(unbound, cd) })
	wg.Go(func() { own, ownErr = l.verdicts(server, cd) })
	wg.Wait()
	if err := errors.Join(theirErr, ownErr); err != nil {
		t.Fatal(err)
	}
	return theirs, own
}

// judge compares the verdicts.
func (l *laboratory) judge(t *testing.T, theirs, own []verdict) {
	t.Helper()
	stricter, seen := make(map[*kind]int), make(map[int]int)
	for i, q := range l.questions {
		a, b := theirs[i], own[i]
		seen[a.trust()]++
		switch {
		case a.rcode == b.rcode && a.ad == b.ad && slices.Equal(a.data, b.data):
		case b.trust() < a.trust() && q.kind.stricter != "":
			stricter[q.kind]++
		default:
			t.Errorf("%v (%s): %v, and Unbound says %v%s", q.question, q.kind.why, b, a, difference(b.data, a.data))
		}
	}
	for i := range kinds {
		k := &kinds[i]
		if k.stricter == "" {
			continue
		}
		if stricter[k] == 0 {
			t.Errorf("%s: nothing is stricter here than at Unbound; expected something, since %s", k.name, k.stricter)
		}
		t.Logf("%s: %d answers are trusted less than by Unbound: %s", k.name, stricter[k], k.stricter)
	}
	t.Logf("%d questions about %d kinds of zones; by Unbound %d are proven, %d are not, %d are withheld",
		len(own), len(kinds), seen[proven], seen[unproven], seen[withheld])
}

// judgeUnchecked compares what is said to clients that check themselves. AD may
// be set then, or not, by what memory knows; but on nothing that was not proven.
func (l *laboratory) judgeUnchecked(t *testing.T, theirs, own, checked []verdict) {
	t.Helper()
	for i, q := range l.questions {
		a, b := theirs[i], own[i]
		if a.rcode != b.rcode || !slices.Equal(a.data, b.data) {
			t.Errorf("%v (%s) with CD: %v, and Unbound says %v%s", q.question, q.kind.why, b, a, difference(b.data, a.data))
		}
		if b.ad && checked[i].trust() != proven {
			t.Errorf("%v (%s): AD with CD, and without it %v", q.question, q.kind.why, checked[i])
		}
	}
}
