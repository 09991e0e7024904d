package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/simnet"
	"shirube/internal/wire"
	"shirube/transport"
)

// scenario is a story told to the whole pipeline, with servers in memory and
// in simulated time: every answer, every query sent and every moment is known.
type scenario struct {
	name  string
	world func(n *simnet.Net)      // on top of baseWorld
	cfg   func(cfg *config.Config) // on top of scenarioConfig
	steps []step
}

// step is one question and all that is expected of it.
type step struct {
	after time.Duration       // to wait before
	do    func(n *simnet.Net) // what changes in the world before

	ask string // "name type [+do] [+cd] [+ad] [+noedns] [+tcp] [+bufsize=n] [+nord] [+from=addr]"

	rcode  wire.Rcode
	answer []string // the answer section without TTLs and class, in order: "name type data"
	noAns  bool     // no answer records are expected
	ttls   []int    // of the answer section
	soa    string   // owner of the SOA record in the authority section
	ede    int      // INFO-CODE+1; 0: do not look
	noEDE  bool
	tc     bool
	ad     bool          // AD is set; otherwise it must not be
	sigs   int           // signatures in the answer section, which answer then leaves out; 0: answer has them too
	proofs int           // NSEC and NSEC3 records in the authority section; 0: do not look
	verify int           // at most so many signatures are verified; 0: do not look
	lost   bool          // no response at all
	sent   []string      // exactly these queries: "192.0.2.1 com. A"; those of one moment in any order
	most   int           // at most so many queries; 0: do not look
	none   bool          // no query at all
	within time.Duration // of simulated time; 0: do not look
	settle time.Duration // after the answer, for queries that nobody waits for
}

// baseWorld is a root, two top-level zones and a plain zone, one server each.
func baseWorld(n *simnet.Net) {
	n.Serve("192.0.2.1", ".", `
. 518400 NS ns.root.
ns.root. 518400 A 192.0.2.1
com. 172800 NS ns.com.
ns.com. 172800 A 192.0.2.2
net. 172800 NS ns.net.
ns.net. 172800 A 192.0.2.3
`)
	n.Serve("192.0.2.2", "com.", `
com. 900 SOA ns.com. host.com. 1 1800 900 604800 900
example.com. 172800 NS ns1.example.com.
ns1.example.com. 172800 A 192.0.2.11
`)
	n.Serve("192.0.2.3", "net.", `
net. 900 SOA ns.net. host.net. 1 1800 900 604800 900
other.net. 172800 NS ns.other.net.
ns.other.net. 172800 A 192.0.2.21
`)
	n.Serve("192.0.2.11", "example.com.", `
example.com. 3600 SOA ns1.example.com. host.example.com. 1 1800 900 604800 300
example.com. 3600 NS ns1.example.com.
example.com. 300 MX 10 mail.example.com.
ns1.example.com. 3600 A 192.0.2.11
www.example.com. 300 A 198.51.100.1
www.example.com. 300 A 198.51.100.2
www.example.com. 60 AAAA 2001:db8::1
alias.example.com. 300 CNAME www.other.net.
a.b.c.d.example.com. 300 A 198.51.100.3
*.wild.example.com. 300 TXT "expanded"
`)
	n.Serve("192.0.2.21", "other.net.", `
other.net. 3600 SOA ns.other.net. host.other.net. 1 1800 900 604800 300
other.net. 3600 NS ns.other.net.
ns.other.net. 3600 A 192.0.2.21
www.other.net. 600 A 198.51.100.9
`)
}

// scenarioConfig is the default configuration with the root of baseWorld, and
// without priming and the rotation of addresses, which scenarios about them
// switch on. Names in test. are resolved like any other.
func scenarioConfig(t *testing.T) config.Config {
	t.Helper()
	cfg := config.Default()
	cfg.Resolver.RootHints = "testdata/root.hints"
	cfg.Resolver.PrimeRoot = false
	cfg.Cache.RotateRRsets = false
	cfg.Cache.AnswersSize = 16 << 20
	cfg.BuiltinZones.Except = []wire.Name{wire.MustParseName("test.")}
	cfg.DNSSEC.Validation = false // these worlds sign nothing
	return cfg
}

// play runs scenarios, each in a bubble of its own time.
func play(t *testing.T, scenarios []scenario) {
	t.Helper()
	for _, sc := range scenarios {
		t.Run(strings.ReplaceAll(sc.name, " ", "-"), func(t *testing.T) {
			if len(sc.steps) == 0 {
				t.Fatal("a scenario without steps shows nothing")
			}
			synctest.Test(t, func(t *testing.T) {
				n := simnet.New()
				baseWorld(n)
				if sc.world != nil {
					sc.world(n)
				}
				cfg := scenarioConfig(t)
				if sc.cfg != nil {
					sc.cfg(&cfg)
				}
				p, err := NewPipeline(cfg, n, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				defer p.Frontend.Close()
				for i, st := range sc.steps {
					playStep(t, p, n, i, st)
				}
			})
		})
	}
}

// playStep asks one question and compares all that the step expects.
func playStep(t *testing.T, p *Pipeline, n *simnet.Net, i int, st step) {
	t.Helper()
	time.Sleep(st.after)
	if st.do != nil {
		st.do(n)
	}
	n.ResetLog()
	begun, verified := time.Now(), p.Resolver.Stats().Verifications
	m := ask(t, p, st.ask)
	took := time.Since(begun)
	time.Sleep(st.settle)
	log := n.Log()
	sent := log.Questions()
	fail := func(format string, args ...any) {
		t.Helper()
		t.Errorf("step %d, %.80s: %s\nresponse: %.2000s\nqueries sent:\n%.5000s", i, st.ask, fmt.Sprintf(format, args...), m.String(), n.Log().String())
	}
	if st.within != 0 && took > st.within {
		fail("took %v, want at most %v", took, st.within)
	}
	if st.sent != nil && !sentAs(log, st.sent) {
		fail("sent\n  %s\nwant\n  %s", strings.Join(sent, "\n  "), strings.Join(st.sent, "\n  "))
	}
	if st.most != 0 && len(sent) > st.most || st.none && len(sent) > 0 {
		fail("sent %d queries, want at most %d", len(sent), st.most)
	}
	if verified = p.Resolver.Stats().Verifications - verified; st.verify != 0 && verified > uint64(st.verify) {
		fail("verified %d signatures, want at most %d", verified, st.verify)
	}
	if st.lost != (m == nil) {
		fail("lost: %v, want %v", m == nil, st.lost)
	}
	if m != nil && !st.lost {
		checkResponse(m, st, fail)
	}
}

// sentAs reports whether log is the queries that are wanted. What several
// goroutines send at the same moment has no order.
func sentAs(log simnet.Log, want []string) bool {
	if len(log) != len(want) {
		return false
	}
	sent, want := log.Questions(), slices.Clone(want)
	for from, to := 0, 0; from < len(log); from = to {
		for to < len(log) && log[to].At == log[from].At {
			to++
		}
		slices.Sort(sent[from:to])
		slices.Sort(want[from:to])
	}
	return slices.Equal(sent, want)
}

// checkResponse compares a response with what the step expects of it.
func checkResponse(m *dns.Msg, st step, fail func(format string, args ...any)) {
	if got := wire.Rcode(m.Rcode); got != st.rcode {
		fail("rcode %v, want %v", got, st.rcode)
	}
	var answer []string
	var ttls []int
	sigs := 0
	for _, rr := range m.Answer {
		h := rr.Header()
		if st.sigs > 0 && h.Rrtype == dns.TypeRRSIG {
			sigs++
			continue
		}
		data := strings.TrimPrefix(rr.String(), h.String())
		answer = append(answer, fmt.Sprintf("%s %s %s", h.Name, dns.TypeToString[h.Rrtype], data))
		ttls = append(ttls, int(h.Ttl))
	}
	if (st.answer != nil || st.noAns) && !slices.Equal(answer, st.answer) {
		fail("answer %q, want %q", answer, st.answer)
	}
	if st.ttls != nil && !slices.Equal(ttls, st.ttls) {
		fail("TTLs %v, want %v", ttls, st.ttls)
	}
	if sigs != st.sigs {
		fail("%d signatures, want %d", sigs, st.sigs)
	}
	if m.AuthenticatedData != st.ad {
		fail("AD %v, want %v", m.AuthenticatedData, st.ad)
	}
	soa, proofs := "", 0
	for _, rr := range m.Ns {
		if typ := rr.Header().Rrtype; typ == dns.TypeNSEC || typ == dns.TypeNSEC3 {
			proofs++
		}
		if rr.Header().Rrtype == dns.TypeSOA {
			soa = rr.Header().Name
		}
	}
	if st.soa != "" && soa != st.soa {
		fail("SOA of %q, want %q", soa, st.soa)
	}
	if st.proofs != 0 && proofs != st.proofs {
		fail("%d NSEC and NSEC3 records, want %d", proofs, st.proofs)
	}
	if m.Truncated != st.tc {
		fail("TC %v, want %v", m.Truncated, st.tc)
	}
	code := -1
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				code = int(e.InfoCode)
			}
		}
		// Every SERVFAIL says why.
		if code < 0 && m.Rcode == dns.RcodeServerFailure {
			fail("SERVFAIL without an Extended DNS Error")
		}
	}
	if st.ede != 0 && code != st.ede-1 || st.noEDE && code >= 0 {
		fail("EDE %d, want %d", code, st.ede-1)
	}
}

// ask sends one question through the pipeline as a transport would, and
// returns the response, or nil if there is none.
func ask(t testing.TB, p *Pipeline, spec string) *dns.Msg {
	t.Helper()
	raw, q := parseAsk(t, spec)
	if status := q.Parse(raw); status != wire.OK {
		t.Fatalf("%s: the query does not parse: %d", spec, status)
	}
	if q.Proto == wire.UDP {
		q.Limit = q.UDPLimit(1232)
	}
	out, outcome := p.Frontend.TryServe(nil, q)
	switch outcome {
	case transport.Dropped:
		return nil
	case transport.Deferred:
		ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
		defer cancel()
		if out = p.Frontend.Serve(ctx, nil, q); out == nil {
			return nil
		}
	}
	if len(out) > q.Limit {
		t.Errorf("%s: a response of %d octets, limit %d", spec, len(out), q.Limit)
	}
	m := new(dns.Msg)
	if err := m.Unpack(out); err != nil {
		t.Fatalf("%s: the response does not unpack: %v\n%x", spec, err, out)
	}
	return m
}

// parseAsk makes the query that spec describes.
func parseAsk(t testing.TB, spec string) ([]byte, *wire.Query) {
	t.Helper()
	words := strings.Fields(spec)
	typ, ok := dns.StringToType[words[1]]
	if _, err := fmt.Sscanf(words[1], "TYPE%d", &typ); err != nil && !ok {
		t.Fatalf("%s: unknown type", spec)
	}
	m := new(dns.Msg)
	m.SetQuestion(words[0], typ)
	m.SetEdns0(1232, false)
	q := &wire.Query{Client: netip.MustParseAddrPort("127.0.0.1:40000"), Received: time.Now(), Limit: wire.MaxMsgSize}
	for _, w := range words[2:] {
		switch w {
		case "+do":
			m.IsEdns0().SetDo()
		case "+cd":
			m.CheckingDisabled = true
		case "+ad":
			m.AuthenticatedData = true
		case "+nord":
			m.RecursionDesired = false
		case "+noedns":
			m.Extra = nil
		case "+tcp":
			q.Proto = wire.TCP
		case "+nsid":
			m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_NSID{Code: dns.EDNS0NSID})
		case "+keepalive":
			m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE})
		case "+cookie":
			m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"})
		case "+soa":
			m.Ns = simnet.RRs(words[0] + " SOA ns.example.com. host.example.com. 7 3600 600 86400 300")
		case "+ch":
			m.Question[0].Qclass = dns.ClassCHAOS
		default:
			if from, ok := strings.CutPrefix(w, "+from="); ok {
				q.Client = netip.AddrPortFrom(netip.MustParseAddr(from), 40000)
				continue
			}
			var size uint16
			if _, err := fmt.Sscanf(w, "+bufsize=%d", &size); err != nil {
				t.Fatalf("%s: unknown word %s", spec, w)
			}
			m.IsEdns0().SetUDPSize(size)
		}
	}
	raw, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return raw, q
}
