package daemon

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

// ways are those in which zones deny.
var ways = []struct {
	name string
	simnet.Signing
	optOut bool
}{
	{name: "NSEC"},
	{name: "NSEC3", Signing: simnet.Signing{Denial: simnet.NSEC3}},
	{name: "NSEC3 with salt", Signing: simnet.Signing{Denial: simnet.NSEC3, Iterations: 5, Salt: "beef"}},
	{name: "NSEC3 with opt-out", Signing: simnet.Signing{Denial: simnet.NSEC3, OptOut: true}, optOut: true},
	{name: "compact", Signing: simnet.Signing{Denial: simnet.Compact}},
}

// TestRandomNamesBelowASignedZoneCostItsServersAFewQueries is what the aggressive
// use of NSEC is for (RFC 8198 §1).
func TestRandomNamesBelowASignedZoneCostItsServersAFewQueries(t *testing.T) {
	for _, tt := range []struct {
		zone string // as signedWorld has it
		most int    // queries
	}{
		{"example.com.", 30}, // NSEC
		{"other.net.", 40},   // NSEC3: two proofs have to be found for each
	} {
		t.Run(tt.zone, func(t *testing.T) {
			inSignedBubble(t, func(*config.Config, *simnet.Net) {}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
				rng := rand.New(rand.NewPCG(1, 2))
				for range 2000 {
					m := ask(t, p, fmt.Sprintf("r%x.%s A +do", rng.Uint64(), tt.zone))
					if m == nil || m.Rcode != dns.RcodeNameError || !m.AuthenticatedData || len(m.Ns) < 4 {
						t.Fatalf("a name that is not there: %v", m)
					}
				}
				if got := len(n.Log()); got > tt.most {
					t.Errorf("%d queries, want at most %d\n%v", got, tt.most, n.Log())
				}
				st := p.Resolver.Stats()
				if kept := p.Answers.Stats().Answers.Entries; st.DeducedNames < 1960 || kept > 2*tt.most {
					t.Errorf("%d names denied by deduction, %d answers kept", st.DeducedNames, kept)
				}
			})
		})
	}
}

// TestNameAskedForAgainAndAgainIsKept: it would be made anew each time otherwise.
func TestNameAskedForAgainAndAgainIsKept(t *testing.T) {
	inSignedBubble(t, func(*config.Config, *simnet.Net) {}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		ask(t, p, "nosuch.example.com. A")
		n.ResetLog()
		for range 5 {
			ask(t, p, "nosuch2.example.com. A")
		}
		if st := p.Resolver.Stats(); st.DeducedNames != 2 || len(n.Log()) != 0 {
			t.Errorf("deduced %d times, want 2; queries:\n%v", st.DeducedNames, n.Log())
		}
	})
}

// oddText is a zone with something of everything.
const oddText = `
@ 3600 SOA ns.@ host.@ 1 1800 900 604800 300
@ 3600 NS ns.@
@ 300 MX 10 www.@
ns.@ 3600 A 192.0.2.31
www.@ 300 A 198.51.100.1
m.www.@ 300 A 198.51.100.1
a.ent.ent2.@ 300 A 198.51.100.3
*.wild.@ 300 TXT "expanded"
*.wild.@ 300 A 198.51.100.4
here.wild.@ 300 TXT "here"
deep.below.wild.@ 300 TXT "here"
*.walias.@ 300 CNAME www.@
x.*.went.@ 300 TXT "an empty wildcard"
alias.@ 300 CNAME www.@
old.@ 300 DNAME new.@
www.new.@ 300 A 198.51.100.4
zz.@ 300 TXT "the last one"
signed.@ 300 NS ns.signed.@
ns.signed.@ 300 A 192.0.2.31
plain.@ 300 NS ns.plain.@
ns.plain.@ 300 A 192.0.2.31
p.entplain.@ 300 NS ns.plain.@
`

// oddWorld serves oddText as site.com., and the zones below it.
func oddWorld(n *simnet.Net, s simnet.Signing) {
	serveCom(n, delegation("site.com.", siteKey().DS(), siteCom))
	child := "@ 3600 SOA ns.@ host.@ 1 1800 900 604800 300\n@ 3600 NS ns.@\nwww.@ 300 A 198.51.100.7\n"
	n.ServeSigned(siteCom, "site.com.", strings.ReplaceAll(oddText, "@", "site.com.")+
		simnet.NewKey("signed.site.com.", simnet.KeyOptions{}).DS(), s)
	n.ServeSigned(siteCom, "signed.site.com.", strings.ReplaceAll(child, "@", "signed.site.com."), s)
	n.Serve(siteCom, "plain.site.com.", strings.ReplaceAll(child, "@", "plain.site.com."))
	n.Serve(siteCom, "p.entplain.site.com.", strings.ReplaceAll(child, "@", "p.entplain.site.com."))
}

// oddQuestions is names in and around oddText, each with types, in any order.
func oddQuestions(rng *rand.Rand) []string {
	var names []string
	for line := range strings.Lines(oddText) {
		owner, _, found := strings.Cut(line, " ")
		if !found {
			continue
		}
		owner = strings.ReplaceAll(owner, "@", "site.com.")
		for labels := wire.MustParseName(owner); labels.Labels() >= 2; labels, _ = labels.Parent() {
			n := labels.String()
			names = append(names, n, "a."+n, "*."+n, `\000.`+n, "x.y."+n, "zz."+n)
			if labels.Labels() > 2 {
				label, above, _ := strings.Cut(n, ".")
				names = append(names, label+`\000.`+above, "a"+label+"."+above)
			}
		}
	}
	slices.Sort(names)
	var asks []string
	for _, n := range slices.Compact(names) {
		for _, typ := range []string{"A", "TXT", "DS", "NS", "CNAME", "MX"} {
			asks = append(asks, n+" "+typ+" +do")
		}
	}
	rng.Shuffle(len(asks), func(i, j int) { asks[i], asks[j] = asks[j], asks[i] })
	return asks
}

// said is what a response says, in one text: all but TTLs.
func said(m *dns.Msg) string {
	if m == nil {
		return "nothing"
	}
	section := func(rrs []dns.RR) (out []string) {
		for _, rr := range rrs {
			rr = dns.Copy(rr)
			rr.Header().Ttl = 0
			out = append(out, rr.String())
		}
		slices.Sort(out)
		return slices.Compact(out) // a server may have said it twice
	}
	return fmt.Sprintf("%s AD=%v\nanswer\n%s\nauthority\n%s", dns.RcodeToString[m.Rcode], m.AuthenticatedData,
		strings.Join(section(m.Answer), "\n"), strings.Join(section(m.Ns), "\n"))
}

// TestWhatIsDeducedIsWhatTheZoneSays: who asks all that can be asked about a
// zone in any order is told the same as who asks its servers each time, with the
// same proofs.
func TestWhatIsDeducedIsWhatTheZoneSays(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			for seed := range uint64(ordersAsked) {
				var truth *Pipeline
				inSignedBubble(t, func(cfg *config.Config, n *simnet.Net) {
					oddWorld(n, way.Signing)
					plain := *cfg
					plain.DNSSEC.AggressiveNSEC = false
					var err error
					if truth, err = NewPipeline(plain, n, slog.New(slog.DiscardHandler)); err != nil {
						t.Fatal(err)
					}
				}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
					defer truth.Frontend.Close()
					for _, q := range oddQuestions(rand.New(rand.NewPCG(seed, 7))) {
						got, want := said(ask(t, p, q)), said(ask(t, truth, q))
						if got != want {
							t.Fatalf("seed %d, %s: it is said\n%s\nwant\n%s", seed, q, got, want)
						}
					}
					st := p.Resolver.Stats()
					t.Logf("%d queries instead of %d; deduced: %d names, %d types, %d instances of wildcards, %d DS", st.Queries,
						truth.Resolver.Stats().Queries, st.DeducedNames, st.DeducedTypes, st.DeducedWildcards, st.DeducedDS)
					all := st.DeducedNames > 0 && st.DeducedTypes > 0 && st.DeducedWildcards > 0
					if way.Denial != simnet.Compact && !way.optOut && !all || st.Queries > truth.Resolver.Stats().Queries {
						t.Errorf("the statistics are %+v", st)
					}
				})
			}
		})
	}
}

// TestDeducedAnswersEndWithWhatTheyRestOn: an answer has what is left of the
// least of its proofs, and no more than the zone gives denials (RFC 8198 §5.4).
func TestDeducedAnswersEndWithWhatTheyRestOn(t *testing.T) {
	playSigned(t, []scenario{
		{
			name: "ends with the proof", world: site(simnet.Signing{}),
			steps: []step{
				{ask: "zz.site.com. A +do", rcode: wire.NXDomain, ad: true, soa: "site.com.", proofs: 2},
				{after: 200 * time.Second, ask: "zzz.site.com. A", rcode: wire.NXDomain, soa: "site.com.", none: true},
				{after: 99 * time.Second, ask: "zzzz.site.com. A +do", rcode: wire.NXDomain, ad: true, soa: "site.com.", proofs: 2, none: true},
				{after: 2 * time.Second, ask: "zzzzz.site.com. A", rcode: wire.NXDomain, sent: []string{siteCom + " zzzzz.site.com. A"}},
			},
		},
		{
			name: "asks for what has been added when the proof ends", world: site(simnet.Signing{}),
			steps: []step{
				{ask: "zz.site.com. A", rcode: wire.NXDomain},
				{do: func(n *simnet.Net) {
					n.ServeSigned(siteCom, "site.com.", strings.ReplaceAll(siteText+"zzz.@ A 198.51.100.8\n", "@", "site.com."), simnet.Signing{})
				}, ask: "zzz.site.com. A", rcode: wire.NXDomain, none: true},
				{after: 301 * time.Second, ask: "zzz.site.com. A", answer: []string{"zzz.site.com. A 198.51.100.8"}},
				{ask: "zzzz.site.com. A", rcode: wire.NXDomain, sent: []string{siteCom + " zzzz.site.com. A"}},
				{ask: "zzy.site.com. A", rcode: wire.NXDomain, sent: []string{siteCom + " zzy.site.com. A"}},
				{ask: "zzyy.site.com. A", rcode: wire.NXDomain, none: true},
			},
		},
	})
}

// TestDeductionIsForWhoAsksForValidatedAnswers and nobody else.
func TestDeductionIsForWhoAsksForValidatedAnswers(t *testing.T) {
	warm := step{ask: "zz.site.com. A", rcode: wire.NXDomain}
	asked := []string{siteCom + " zzz.site.com. A"}
	playSigned(t, []scenario{
		{
			name: "asks for those who check themselves", world: site(simnet.Signing{}),
			steps: []step{warm, {ask: "zzz.site.com. A +cd", rcode: wire.NXDomain, sent: asked}},
		},
		{
			name: "asks when it is switched off", world: site(simnet.Signing{}),
			cfg:   func(cfg *config.Config) { cfg.DNSSEC.AggressiveNSEC = false },
			steps: []step{warm, {ask: "zzz.site.com. A", rcode: wire.NXDomain, sent: asked}},
		},
		{
			name: "asks a server that is configured for a name below",
			world: func(n *simnet.Net) {
				site(simnet.Signing{})(n)
				n.Serve(bareNet, "zzz.site.com.", "zzz.site.com. SOA a.zzz.site.com. a.zzz.site.com. 1 2 3 4 5\na.zzz.site.com. A 198.51.100.9\n")
			},
			cfg: func(cfg *config.Config) {
				zone := wire.MustParseName("zzz.site.com.")
				cfg.StubZones = []config.Zone{{Name: zone, Servers: at(bareNet)}}
				cfg.DNSSEC.NegativeTrustAnchors = []config.NegativeTrustAnchor{{Name: zone, For: time.Hour}}
			},
			steps: []step{warm, {ask: "a.zzz.site.com. A", answer: []string{"a.zzz.site.com. A 198.51.100.9"}, sent: []string{bareNet + " a.zzz.site.com. A"}}},
		},
		{
			name: "denies nothing by opt-out", steps: []step{
				{ask: "nosuch.com. A", rcode: wire.NXDomain},
				{ask: "nosuch2.com. A", rcode: wire.NXDomain, sent: []string{comServer + " nosuch2.com. A"}},
			},
		},
		{
			name: "denies nothing by compact denials", world: site(simnet.Signing{Denial: simnet.Compact}),
			steps: []step{
				{ask: "zz.site.com. A"},
				{ask: "zzz.site.com. A", sent: asked},
			},
		},
	})
}

// TestChainThatChangesTakesThePlaceOfTheOldOne: proofs of two chains prove
// nothing together.
func TestChainThatChangesTakesThePlaceOfTheOldOne(t *testing.T) {
	for _, from := range ways[:3] {
		for _, to := range ways[:3] {
			if from.name == to.name {
				continue
			}
			t.Run(from.name+" to "+to.name, func(t *testing.T) {
				inSignedBubble(t, func(_ *config.Config, n *simnet.Net) { oddWorld(n, from.Signing) },
					func(t *testing.T, p *Pipeline, n *simnet.Net) {
						flood := func(some string) (queries int) {
							n.ResetLog()
							for i := range 300 {
								m := ask(t, p, fmt.Sprintf("%s%d.site.com. A +do", some, i))
								if m.Rcode != dns.RcodeNameError || !m.AuthenticatedData {
									t.Fatalf("a name that is not there: %v", m)
								}
							}
							return len(n.Log())
						}
						flood("r")
						oddWorld(n, to.Signing)
						time.Sleep(301 * time.Second)
						again := flood("s")
						if more := flood("t"); again > 60 || more > 5 {
							t.Errorf("%d queries after the change, then %d", again, more)
						}
						if c, _, ok := p.Memory.Chain(wire.MustParseName("site.com.")); !ok || c.Hashed != (to.Denial == simnet.NSEC3) || c.Iterations != to.Iterations {
							t.Errorf("the chain in memory is %+v", c)
						}
					})
			})
		}
	}
}

// TestWhatWasAddedToADenialIsNotKept: a record that anybody may have put beside
// those that prove something is not taken for one of them, now or when what is
// remembered is looked at again.
func TestWhatWasAddedToADenialIsNotKept(t *testing.T) {
	forged := simnet.RRs(`
wild.site.com. 300 NSEC zz.site.com. NS
wild.site.com. 300 RRSIG NSEC 13 3 300 20361231000000 20201101000000 1 site.com. FORGEDFORGED
`)
	add := simnet.Mutate(func(m *dns.Msg) {
		if len(m.Answer) == 0 {
			m.Ns = append(m.Ns, forged...)
		}
	})
	for _, fault := range []simnet.Fault{add, add.If(simnet.Type(wire.TypeDS))} {
		inSignedBubble(t, func(cfg *config.Config, n *simnet.Net) {
			cfg.DNSSEC.AggressiveNSEC = false
			siteWith(fault)(n)
		}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
			for _, q := range []string{"wild.site.com. DS +do", "other.site.com. MX +do", "zz.site.com. A +do", "wild.site.com. DS +do", "x.other.site.com. A +do"} {
				m := ask(t, p, q)
				if !m.AuthenticatedData || strings.Contains(said(m), "FORGED") {
					t.Errorf("%s: %v", q, m)
				}
			}
			n.Break(siteCom, stripped(dns.TypeRRSIG)) // now it could pass for the server of an insecure zone
			if m := ask(t, p, "wild.site.com. A"); m.Rcode != dns.RcodeServerFailure {
				t.Errorf("a name without signature in a signed zone: %v", m)
			}
		})
	}
}

// TestWildcardsProofDoesNotProveWhatItsAliasLeadsTo: what came with it has to be
// looked at for itself.
func TestWildcardsProofDoesNotProveWhatItsAliasLeadsTo(t *testing.T) {
	var soa []dns.RR // with its signature
	deny := simnet.Mutate(func(m *dns.Msg) {
		if m.Question[0].Qtype == dns.TypeDNSKEY {
			return // it is asked for at the same time
		}
		if soa == nil && m.Rcode == dns.RcodeNameError {
			soa = slices.DeleteFunc(slices.Clone(m.Ns), func(rr dns.RR) bool {
				sig, ok := rr.(*dns.RRSIG)
				return rr.Header().Rrtype != dns.TypeSOA && (!ok || sig.TypeCovered != dns.TypeSOA)
			})
		}
		if m.Question[0].Name != "x.walias.site.com." || len(m.Answer) < 3 {
			return
		}
		m.Answer, m.Rcode = m.Answer[:2], dns.RcodeNameError // the alias, and that www.site.com. does not exist
		m.Ns = append(append(m.Ns, soa...), simnet.RRs(`
site.com. 300 NSEC zz.site.com. NS SOA
site.com. 300 RRSIG NSEC 13 2 300 20361231000000 20201101000000 1 site.com. FORGEDFORGED
`)...)
	})
	inSignedBubble(t, func(_ *config.Config, n *simnet.Net) { siteWith(deny)(n) }, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		ask(t, p, "0.site.com. A +do")
		m := ask(t, p, "x.walias.site.com. A +do")
		if len(soa) != 2 || m.Rcode != dns.RcodeSuccess || !m.AuthenticatedData || len(m.Answer) != 4 {
			t.Errorf("the target of an alias that somebody else denies: %v", m)
		}
	})
}
