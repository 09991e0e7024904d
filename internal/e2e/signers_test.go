package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/porttest"
)

// signer is a program that signs zones, and a server of what it signed.
type signer struct {
	zone string // below the root
	why  string
	by   string // the name of the server's software
	at   string

	policy string                                      // the server's, if it signs the zone itself
	sign   func(w *world, zone string) (string, error) // else: signs the file "zone" in w; returns the signed one's name

	optOut bool // unsigned delegations have no NSEC3 records
}

// Where they are served. BIND takes only addresses that an interface has.
const (
	addrSignersNSD  = "127.54.66.2"
	addrSignersKnot = "127.54.66.3"
	addrSignersBIND = "127.0.0.1"
)

// signers are all that can be installed, and how they sign.
var signers = []signer{
	{zone: "bindnsec.", why: "dnssec-signzone: NSEC, ECDSA P-256", by: "nsd", at: addrSignersNSD, sign: signByBIND("ECDSAP256SHA256")},
	{zone: "bindoptout.", why: "dnssec-signzone: NSEC3 with opt-out, ECDSA P-384", by: "bind", at: addrSignersBIND, sign: signByBIND("ECDSAP384SHA384", "-3", "-", "-A", "-H", "0"), optOut: true},
	{zone: "ldnsrsa.", why: "ldns-signzone: NSEC3 with salt, RSA/SHA-256", by: "nsd", at: addrSignersNSD, sign: signByLDNS("RSASHA256", "-n", "-t", "1", "-s", "5eed")},
	{zone: "knotauto.", why: "Knot: automatic, NSEC3, ECDSA P-256", by: "knot", at: addrSignersKnot, policy: "own"},
	{zone: "bindauto.", why: "BIND: automatic, NSEC, Ed25519", by: "bind", at: addrSignersBIND, policy: "own"},
}

// signByBIND signs by a key for the keys and one for the data.
func signByBIND(algorithm string, how ...string) func(*world, string) (string, error) {
	return func(w *world, zone string) (string, error) {
		for _, kind := range [][]string{{"-f", "KSK"}, nil} {
			if _, err := w.tool("dnssec-keygen", append(kind, "-q", "-a", algorithm, zone)...); err != nil {
				return "", err
			}
		}
		_, err := w.tool("dnssec-signzone", append(slices.Clone(how), "-q", "-S", "-o", zone, "-f", "signed", "zone")...)
		return "signed", err
	}
}

// signByLDNS does as well.
func signByLDNS(algorithm string, how ...string) func(*world, string) (string, error) {
	return func(w *world, zone string) (string, error) {
		args := append(slices.Clone(how), "-o", zone, "-f", "signed", "zone")
		for _, kind := range [][]string{{"-k"}, nil} {
			key, err := w.tool("ldns-keygen", append(kind, "-a", algorithm, "-b", "2048", zone)...)
			if err != nil {
				return "", err
			}
			args = append(args, strings.TrimSpace(key))
		}
		_, err := w.tool("ldns-signzone", args...)
		return "signed", err
	}
}

// signerHosts is how many more names each of their zones has.
const signerHosts = 20

// zones returns the zone of s and those below it: what labRecords says, with
// aliases that lead to another zone, and a child that is signed.
func (s *signer) zones(t *testing.T, other string) []served {
	t.Helper()
	safe := &labZone{name: "safe." + s.zone, keys: []*zoneKey{newKey("safe."+s.zone, dns.ECDSAP256SHA256)}}
	own := strings.NewReplacer(addrLabZones, s.at, "good.lab.", other, "unsigned.lab.", "sub."+other, "expired.lab.", other)
	safe.add(own.Replace(subRecords))
	z := &labZone{name: s.zone}
	z.add(own.Replace(labRecords) + "safe NS ns.safe\nns.safe A " + s.at + "\n")
	for i := range signerHosts {
		z.add(fmt.Sprintf("h%d A 198.51.100.%d\n", 2*i, i))
	}
	for _, ds := range safe.entry(dns.SHA256) {
		z.rrs = append(z.rrs, ds)
	}
	safe.sign()
	sub := &labZone{name: "sub." + s.zone}
	sub.add(own.Replace(subRecords))
	text := z.text()
	if s.sign != nil {
		w := &world{dir: t.TempDir()}
		writeFile(t, filepath.Join(w.dir, "zone"), text)
		name, err := s.sign(w, s.zone)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(w.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		text = string(b)
	}
	return []served{{Name: s.zone, text: text, Policy: s.policy}, {Name: sub.name, text: sub.text()}, {Name: safe.name, text: safe.text()}}
}

// questions returns what is asked of the zone of s.
func (s *signer) questions() (out []question) {
	z := &labZone{name: s.zone}
	more := asks("safe DS NS A\nwww.safe A MX\nnosuch.safe A\n")
	for i := range 2 * signerHosts {
		more = append(more, question{"h" + strconv.Itoa(i), "A"})
	}
	for _, q := range append(slices.Clone(labQuestions), more...) {
		if q.name != "@" || q.typ != "SOA" && q.typ != "DNSKEY" && q.typ != "NSEC" {
			out = append(out, question{z.abs(q.name), q.typ})
		}
	}
	return out
}

// signedDelegation returns records for the root that delegate the zone that a
// server has to it, by what that server says are the zone's keys.
func signedDelegation(t *testing.T, zone string, at netip.AddrPort) (text string, ds []dns.RR) {
	t.Helper()
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(20 * time.Millisecond) {
		keys, err := askAt(at, zone, dns.TypeDNSKEY, true)
		denial, denialErr := askAt(at, "nosuch."+zone, dns.TypeA, true)
		if err == nil && denialErr == nil && hasType(keys.Answer, dns.TypeRRSIG) && hasType(denial.Ns, dns.TypeRRSIG) {
			for _, rr := range keys.Answer {
				if k, ok := rr.(*dns.DNSKEY); ok && k.Flags&dns.SEP != 0 {
					ds = append(ds, k.ToDS(dns.SHA256))
				}
			}
			return fmt.Sprintf("%s NS ns.%s\nns.%s A %s\n", zone, zone, zone, at.Addr()), ds
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s at %v is not signed after %v: %v, %v", zone, at, startTimeout, err, denialErr)
		}
	}
}

// rootOf serves a signed root with the given delegations, and says which to
// trust.
func rootOf(t *testing.T, at netip.AddrPort, delegations string, ds []dns.RR) *laboratory {
	t.Helper()
	root := &labZone{name: ".", keys: []*zoneKey{newKey(".", dns.ECDSAP256SHA256)}}
	root.add("@ SOA ns.root. hostmaster.root. 1 1800 900 604800 300\n@ NS ns.root.\nns.root A " + at.Addr().String() + "\n" + delegations)
	root.rrs = append(root.rrs, ds...)
	root.sign()
	l := &laboratory{
		parents: []served{{Name: ".", text: root.text()}},
		anchor:  strings.Join(strings.Fields(root.keys[0].ToDS(dns.SHA256).String()), " "),
	}
	startAuthority(t, softwares[0], l.parents, at)
	return l
}

// leastOfEach is the least that TestVerdictsOnRealSigners asks of each zone.
const leastOfEach = 100

// TestVerdictsOnRealSigners asks for names in zones that were signed by the
// programs that sign real ones, and compares what the server says with what
// Unbound says; and a part of it with what delv makes of the server's data.
func TestVerdictsOnRealSigners(t *testing.T) {
	t.Parallel()
	port := porttest.Take(t)
	place := func(addr string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(addr), port) }
	byServer := make(map[string]*placed) // by the name of the software
	for i := range signers {
		s := &signers[i]
		p := byServer[s.by]
		if p == nil {
			p = &placed{at: place(s.at)}
			byServer[s.by] = p
		}
		p.zones = append(p.zones, s.zones(t, signers[(i+1)%len(signers)].zone)...)
	}
	var authorities []placed
	for _, sw := range softwares {
		if p := byServer[sw.name]; p != nil {
			startAuthority(t, sw, p.zones, p.at)
			authorities = append(authorities, *p)
		}
	}
	var delegations strings.Builder
	var all []dns.RR
	for i := range signers {
		text, ds := signedDelegation(t, signers[i].zone, place(signers[i].at))
		delegations.WriteString(text)
		all = append(all, ds...)
	}
	l := rootOf(t, place(addrLabParents), delegations.String(), all)
	l.addQuestions(t)
	unbound := l.unbound(t, append(authorities, placed{l.parents, place(addrLabParents)})...)
	server := l.serve(t, int(port), "")
	theirs, own := l.both(t, unbound, server, false)
	l.agree(t, theirs, own)
	l.delvAgrees(t, server, own)
}

// addQuestions adds those about all signers' zones.
func (l *laboratory) addQuestions(t *testing.T) {
	t.Helper()
	for i := range signers {
		s := &signers[i]
		k := &kind{name: s.zone, why: s.why}
		qs := s.questions()
		if len(qs) < leastOfEach {
			t.Errorf("%d questions about %s, want %d", len(qs), s.zone, leastOfEach)
		}
		for _, q := range qs {
			l.questions = append(l.questions, labQuestion{q, k})
		}
	}
}

// agree demands that both say the same, and that it is what good zones give.
func (l *laboratory) agree(t *testing.T, theirs, own []verdict) {
	t.Helper()
	seen := make(map[string]map[int]int) // by zone, by trust
	for i, q := range l.questions {
		a, b := theirs[i], own[i]
		if a.rcode != b.rcode || a.ad != b.ad || !slices.Equal(a.data, b.data) {
			t.Errorf("%v (%s): %v, and Unbound says %v%s", q.question, q.kind.why, b, a, difference(b.data, a.data))
		}
		if seen[q.kind.name] == nil {
			seen[q.kind.name] = make(map[int]int)
		}
		seen[q.kind.name][b.trust()]++
	}
	for i := range signers {
		n := seen[signers[i].zone]
		if n[withheld] > 0 || n[proven] < leastOfEach/3 || n[unproven] == 0 {
			t.Errorf("%s: %d answers are proven, %d not, %d withheld; expected %d, some and none", signers[i].zone, n[proven], n[unproven], n[withheld], leastOfEach/3)
		}
		t.Logf("%s (%s): %d answers are proven, %d are not", signers[i].zone, signers[i].why, n[proven], n[unproven])
	}
}

// delvSample is what delv is asked of each zone: relative names.
var delvSample = asks(`
	@ MX
	www A MX
	nosuch A
	a.nosuch A
	b.c A
	any.wild A
	alias A
	x.old A
	sub DS
	www.sub A
	safe DS
	www.safe A
`)

// delvAgrees has delv judge the server's data itself, from the root's key on.
func (l *laboratory) delvAgrees(t *testing.T, server netip.AddrPort, own []verdict) {
	t.Helper()
	f := strings.Fields(l.anchor) // name TTL class DS tag algorithm digest-type digest
	anchors := filepath.Join(t.TempDir(), "anchors")
	writeFile(t, anchors, fmt.Sprintf("trust-anchors { . static-ds %s %s %s %q; };\n", f[4], f[5], f[6], f[7]))
	c := client{"delv", []string{"@" + server.Addr().String(), "-p", strconv.Itoa(int(server.Port())), "-a", anchors, "+root"}}
	for i, q := range l.questions {
		if !slices.Contains(delvSample, question{relative(q.name, q.kind.name), q.typ}) {
			continue
		}
		out, _ := c.run(t, q.name, q.typ)
		trusted := own[i].ad || optedOut(q.kind.name) && len(own[i].data) == 0 // RFC 5155 §9.2 is about AD, and delv sets none
		validated, plain := strings.Contains(out, "fully validated"), strings.Contains(out, "unsigned answer")
		if validated == plain || validated != trusted {
			t.Errorf("%v (%s): %v, and delv says\n%s", q.question, q.kind.why, own[i], head(out, 10))
		}
	}
}

// optedOut reports whether a signer's zone has no NSEC3 records for delegations
// that are not signed.
func optedOut(zone string) bool {
	return slices.ContainsFunc(signers, func(s signer) bool { return s.zone == zone && s.optOut })
}

// relative returns a name as it stands in the file of a zone.
func relative(name, zone string) string {
	if name == zone {
		return "@"
	}
	return strings.TrimSuffix(name, "."+zone)
}
