package daemon

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

// The limits of one client question (DESIGN §6).
const (
	maxVerifications = 32
	maxHashes        = 32
)

// moreSignatures puts n signatures that are wrong before each that is right.
func moreSignatures(n int, types ...uint16) simnet.Fault {
	section := func(rrs []dns.RR) (out []dns.RR) {
		for _, rr := range rrs {
			if sig, ok := rr.(*dns.RRSIG); ok && slices.Contains(types, sig.TypeCovered) {
				for i := range n {
					wrong := *sig
					wrong.Signature = fmt.Sprintf("%04d%s", i, sig.Signature[4:])
					out = append(out, &wrong)
				}
			}
			out = append(out, rr)
		}
		return out
	}
	return simnet.Mutate(func(m *dns.Msg) { m.Answer, m.Ns = section(m.Answer), section(m.Ns) })
}

// TestAttacksOnValidationEndAtTheirLimits: what a zone made to cost much costs
// (KeyTrap, CVE-2023-50387; NSEC3, CVE-2023-50868), for one client question and
// for those that follow.
func TestAttacksOnValidationEndAtTheirLimits(t *testing.T) {
	key := siteKey()
	zsk := simnet.NewKey("site.com.", simnet.KeyOptions{Flags: dns.ZONE, Label: "zone"})
	otherDS := func(n int) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(simnet.NewKey("site.com.", simnet.KeyOptions{Label: fmt.Sprint("other", i)}).DS())
		}
		return b.String()
	}
	// wrongDS returns n DS records with the tag of key, and wrong digests.
	wrongDS := func(n int) string {
		var b strings.Builder
		for i := range n {
			right := strings.TrimSpace(key.DS())
			fmt.Fprintf(&b, "%s%04X\n", right[:len(right)-4], i)
		}
		return b.String()
	}
	nested := strings.Repeat("a.", 60)
	for _, tt := range []struct {
		name   string
		world  func(n *simnet.Net)
		ask    string
		rcodes []wire.Rcode // of the answer
		ad     bool
		most   int // queries
		verify int // 0: the limit
	}{
		{
			name: "a hundred keys of one tag, and wrong signatures", ask: "www.site.com. A +ad",
			world: func(n *simnet.Net) {
				siteWithDS(simnet.Signing{Keys: []*simnet.Key{key}, Published: key.Lookalikes(100)}, key.DS())(n)
				n.Break(siteCom, moreSignatures(10, dns.TypeA, dns.TypeDNSKEY))
			},
			rcodes: []wire.Rcode{wire.ServFail}, most: 12, verify: 24,
		},
		{
			name: "forty keys of one tag, the right one last", ask: "www.site.com. A +ad",
			world: func(n *simnet.Net) {
				siteWithDS(simnet.Signing{Keys: []*simnet.Key{key, zsk}, Published: zsk.Lookalikes(40)}, key.DS())(n)
				n.Break(siteCom, edited(func(rr dns.RR) dns.RR { return rr }), simnet.Mutate(func(m *dns.Msg) { slices.Reverse(m.Answer) }).If(simnet.Type(wire.TypeDNSKEY)))
			},
			rcodes: []wire.Rcode{wire.ServFail}, most: 12, verify: 24,
		},
		{
			name: "a lookalike beside the key", ask: "www.site.com. A +ad",
			world:  siteWithDS(simnet.Signing{Keys: []*simnet.Key{key}, Published: key.Lookalikes(1)}, key.DS()),
			rcodes: []wire.Rcode{wire.NoError}, ad: true, most: 6, verify: 10,
		},
		{
			name: "three wrong signatures before the right one", ask: "www.site.com. A +ad",
			world:  siteWith(moreSignatures(3, dns.TypeA)),
			rcodes: []wire.Rcode{wire.NoError}, ad: true, most: 6, verify: 10,
		},
		{
			name: "a hundred signatures", ask: "www.site.com. A +ad",
			world:  siteWith(moreSignatures(100, dns.TypeA)),
			rcodes: []wire.Rcode{wire.ServFail}, most: 9, verify: 20,
		},
		{
			name: "a hundred signatures over each set of a denial", ask: "x.nosuch.site.com. A +ad",
			world:  siteWith(moreSignatures(100, dns.TypeNSEC, dns.TypeSOA)),
			rcodes: []wire.Rcode{wire.ServFail}, most: 11, verify: 24,
		},
		{
			name: "a DS set of other keys, and the right one last", ask: "www.site.com. A +ad",
			world:  siteWithDS(simnet.Signing{}, otherDS(20)+key.DS()),
			rcodes: []wire.Rcode{wire.NoError}, ad: true, most: 7, verify: 10,
		},
		{
			name: "a DS set of the tag with wrong digests", ask: "www.site.com. A +ad",
			world:  siteWithDS(simnet.Signing{Keys: []*simnet.Key{key}, Published: key.Lookalikes(60)}, wrongDS(60)),
			rcodes: []wire.Rcode{wire.ServFail}, most: 10, verify: 10,
		},
		{
			name: "2500 iterations", ask: nested + "site.com. A +ad",
			world:  site(simnet.Signing{Denial: simnet.NSEC3, Iterations: 2500}),
			rcodes: []wire.Rcode{wire.NXDomain}, most: 16, verify: 16,
		},
		{
			name: "50 iterations and a name of sixty labels", ask: nested + "site.com. A +ad",
			world:  site(simnet.Signing{Denial: simnet.NSEC3, Iterations: 50, Salt: strings.Repeat("ab", 32)}),
			rcodes: []wire.Rcode{wire.NXDomain}, ad: true, most: 16, verify: 16,
		},
		{
			name: "50 iterations and a name of sixty labels that are there", ask: strings.Repeat("a.", 60) + "deep.site.com. A +ad",
			world: func(n *simnet.Net) {
				serveCom(n, delegation("site.com.", key.DS(), siteCom))
				n.ServeSigned(siteCom, "site.com.", siteOf("site.com.")+strings.Repeat("a.", 58)+"deep.site.com. TXT here\n", simnet.Signing{Denial: simnet.NSEC3, Iterations: 50})
			},
			rcodes: []wire.Rcode{wire.NXDomain, wire.ServFail}, most: 30,
		},
		{
			name: "a salt of 255 octets", ask: "nosuch.site.com. A +ad",
			world:  site(simnet.Signing{Denial: simnet.NSEC3, Salt: strings.Repeat("ab", 255)}),
			rcodes: []wire.Rcode{wire.NXDomain}, most: 8, verify: 16,
		},
		{
			name: "aliases through zones that are bogus", ask: "n0.site.com. A +ad", rcodes: []wire.Rcode{wire.ServFail}, most: 12, verify: 16,
			world: func(n *simnet.Net) {
				chainOfZones(n, 12, true)
			},
		},
		{
			name: "aliases through ten zones that are right", ask: "n0.z0.com. A +ad", rcodes: []wire.Rcode{wire.NoError, wire.ServFail}, most: 60,
			world: func(n *simnet.Net) { chainOfZones(n, 10, false) },
		},
		{
			name: "delegations through twenty zones that are signed", ask: "www." + strings.Repeat("d.", 14) + "site.com. A +ad", rcodes: []wire.Rcode{wire.NoError, wire.ServFail}, most: 70,
			world: deepZones(14),
		},
	} {
		t.Run(strings.ReplaceAll(tt.name, " ", "-"), func(t *testing.T) {
			inSignedBubble(t, func(_ *config.Config, n *simnet.Net) { tt.world(n) }, func(t *testing.T, p *Pipeline, n *simnet.Net) {
				m := ask(t, p, tt.ask)
				s := p.Resolver.Stats()
				if m == nil || !slices.Contains(tt.rcodes, wire.Rcode(m.Rcode)) || m.AuthenticatedData != tt.ad && len(tt.rcodes) == 1 {
					t.Errorf("got %v, want %v, AD %v", m, tt.rcodes, tt.ad)
				}
				if m != nil && m.Rcode == dns.RcodeServerFailure {
					failed(t, m, 0)
				}
				most := tt.verify
				if most == 0 {
					most = maxVerifications
				}
				if s.Verifications > uint64(most) || s.Hashes > maxHashes || len(n.Log()) > tt.most {
					t.Errorf("%d verifications, %d hashes, %d queries; want at most %d, %d, %d\n%v", s.Verifications, s.Hashes, len(n.Log()), most, maxHashes, tt.most, n.Log())
				}
				// Who asks again costs nothing, and others are not harmed.
				n.ResetLog()
				again := ask(t, p, tt.ask)
				if len(n.Log()) > 0 || again == nil || again.Rcode != m.Rcode {
					t.Errorf("asked again: got %v and queries\n%v", again, n.Log())
				}
				if other := ask(t, p, "www.example.com. A +ad"); other == nil || !other.AuthenticatedData {
					t.Errorf("another zone: got %v", other)
				}
				t.Logf("%d verifications, %d hashes", s.Verifications, s.Hashes)
			})
		})
	}
}

// chainOfZones makes count zones z0.com. …, at one server, each with an alias to
// the next one, and site.com. with one to the first. With bogus, none is proven.
func chainOfZones(n *simnet.Net, count int, bogus bool) {
	more := delegation("site.com.", siteKey().DS(), siteCom)
	for i := range count {
		zone := fmt.Sprintf("z%d.com.", i)
		more += delegation(zone, simnet.NewKey(zone, simnet.KeyOptions{}).DS(), siteCom2)
		text := fmt.Sprintf("n0 CNAME n0.z%d.com.", i+1)
		if i == count-1 {
			text = "n0 A 198.51.100.77"
		}
		n.ServeSigned(siteCom2, zone, text, simnet.Signing{})
	}
	serveCom(n, more)
	n.ServeSigned(siteCom, "site.com.", "n0 CNAME n0.z0.com.", simnet.Signing{})
	if bogus {
		n.Break(siteCom2, damaged())
	}
}

// deepZones makes zones below site.com., one below the other, each signed and at
// one server.
func deepZones(depth int) func(n *simnet.Net) {
	return func(n *simnet.Net) {
		serveCom(n, delegation("site.com.", siteKey().DS(), siteCom))
		zone := "site.com."
		for range depth {
			child := "d." + zone
			n.ServeSigned(siteCom, zone, siteOf(zone)+delegation(child, simnet.NewKey(child, simnet.KeyOptions{}).DS(), siteCom), simnet.Signing{})
			zone = child
		}
		n.ServeSigned(siteCom, zone, siteOf(zone), simnet.Signing{})
	}
}

// TestBudgetThatIsUsedUpBreaksNothingForOthers: that one question was too much is
// said of that question only. The zone's other names are judged by themselves,
// and the same one again when its failure has been forgotten.
func TestBudgetThatIsUsedUpBreaksNothingForOthers(t *testing.T) {
	inSignedBubble(t, func(_ *config.Config, n *simnet.Net) { chainOfZones(n, 10, false) }, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		first := ask(t, p, "n0.site.com. A +ad")
		if s := p.Resolver.Stats(); s.Verifications > maxVerifications {
			t.Errorf("%d verifications", s.Verifications)
		}
		for i := range 10 {
			if m := ask(t, p, fmt.Sprintf("z%d.com. SOA +ad", i)); m == nil || m.Rcode != 0 || !m.AuthenticatedData {
				t.Errorf("z%d.com.: got %v", i, m)
			}
		}
		time.Sleep(time.Minute + time.Second)
		if m := ask(t, p, "n0.site.com. A +ad"); m == nil || m.Rcode != 0 || !m.AuthenticatedData {
			t.Errorf("first %v, then %v", first, m)
		}
	})
}

// TestForgedAnswersOfSecureZonesAreNeverGiven: a server that forges all that it
// says, in every way that it may try.
func TestForgedAnswersOfSecureZonesAreNeverGiven(t *testing.T) {
	const poison = "203.0.113.66"
	forged := func(rcode int, answer, authority string) simnet.Fault {
		return simnet.Mutate(func(m *dns.Msg) {
			fill := func(text string) []dns.RR { return simnet.RRs(strings.ReplaceAll(text, "@", m.Question[0].Name)) }
			m.Rcode, m.Authoritative, m.Answer, m.Ns = rcode, true, fill(answer), fill(authority)
		})
	}
	wrongKey := simnet.Signing{Keys: []*simnet.Key{simnet.NewKey("site.com.", simnet.KeyOptions{Label: "wrong"})}}
	const soa = "site.com. 9999 SOA ns.site.com. h.site.com. 1 1 1 1 9999\n"
	for name, world := range map[string]func(n *simnet.Net){
		"unsigned data":             siteWith(forged(0, "@ A "+poison, "").If(simnet.Type(wire.TypeA))),
		"unsigned data, no keys":    siteWith(forged(0, "@ A "+poison, "").If(simnet.Type(wire.TypeA)), simnet.Empty().If(simnet.Type(wire.TypeDNSKEY))),
		"unsigned alias":            siteWith(forged(0, "@ CNAME www.plain.org.", "").If(simnet.Type(wire.TypeA))),
		"unsigned DNAME":            siteWith(forged(0, "site.com. DNAME plain.org.\n@ CNAME www.plain.org.", "").If(simnet.Type(wire.TypeA))),
		"unsigned NXDOMAIN":         siteWith(forged(dns.RcodeNameError, "", soa).If(simnet.Type(wire.TypeA))),
		"unsigned NODATA":           siteWith(forged(0, "", soa).If(simnet.Type(wire.TypeA))),
		"NXDOMAIN without SOA":      siteWith(forged(dns.RcodeNameError, "", "").If(simnet.Type(wire.TypeA))),
		"unsigned NSEC":             siteWith(forged(dns.RcodeNameError, "", soa+"site.com. NSEC site.com. SOA RRSIG NSEC").If(simnet.Type(wire.TypeA))),
		"data of another zone":      siteWith(forged(0, "@ A "+poison+"\n@ RRSIG A 13 3 300 20300101000000 19990101000000 1 example.com. AAAA", "").If(simnet.Type(wire.TypeA))),
		"signed by another key":     func(n *simnet.Net) { site(wrongKey)(n) },
		"unsigned referral further": siteWith(simnet.Refer("www.site.com. NS ns.plain.org.").If(simnet.Type(wire.TypeA))),
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			inSignedBubble(t, func(_ *config.Config, n *simnet.Net) { world(n) }, func(t *testing.T, p *Pipeline, n *simnet.Net) {
				for _, q := range []string{"www.site.com. A", "other.site.com. A", "to-site.example.com. A"} {
					m := ask(t, p, q)
					if m == nil || m.Rcode != dns.RcodeServerFailure {
						t.Errorf("%s: got %v", q, m)
						continue
					}
					failed(t, m, 0)
				}
				if got := len(n.Log()); got > 40 {
					t.Errorf("%d queries\n%v", got, n.Log())
				}
			})
		})
	}
}
