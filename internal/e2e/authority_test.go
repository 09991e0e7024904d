package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/porttest"
)

// software is an authoritative server that can be installed.
type software struct {
	name    string
	configs map[string]string // file in testdata: the name it is given
	argv    []string          // DIR stands for its directory
	prepare func(a *authority) error
}

// softwares are all of them, by different people.
var softwares = []software{
	{"nsd", map[string]string{"authority.nsd.conf": "nsd.conf"}, []string{"nsd", "-d", "-c", "DIR/nsd.conf"}, nil},
	{"knot", map[string]string{"authority.knot.conf": "knot.conf"}, []string{"knotd", "-c", "DIR/knot.conf"}, nil},
	{"bind", map[string]string{"authority.bind.conf": "named.conf"}, []string{"named", "-g", "-n", "1", "-c", "DIR/named.conf"}, nil},
	{
		"pdns",
		map[string]string{"authority.pdns.conf": "pdns.conf", "authority.pdns-zones.conf": "zones.conf"},
		[]string{"pdns_server", "--config-dir=DIR"},
		tellSigned,
	},
}

// served is a zone that an authority has, and the text of its file.
type served struct {
	Name, text string
	File       string // set by startAuthority
	Policy     string // the authority's, in its file in testdata, for it to sign the zone itself; "": it does not
	signed     bool
}

// authority is a running authoritative server.
type authority struct {
	*process

	software
	Dir    string
	Listen []netip.AddrPort
	Zones  []served
}

// startAuthority serves zones by sw at the addresses until the test ends.
func startAuthority(t *testing.T, sw software, zones []served, at ...netip.AddrPort) *authority {
	t.Helper()
	a := &authority{software: sw, Dir: t.TempDir(), Listen: at}
	for _, z := range zones {
		z.File = filepath.Join(a.Dir, strings.ReplaceAll(z.Name, ".", "_")+"zone")
		writeFile(t, z.File, z.text)
		a.Zones = append(a.Zones, z)
	}
	for from, to := range sw.configs {
		writeFile(t, filepath.Join(a.Dir, to), fill(t, from, a))
	}
	if sw.prepare != nil {
		if err := sw.prepare(a); err != nil {
			t.Fatal(err)
		}
	}
	argv := strings.Split(strings.ReplaceAll(strings.Join(sw.argv, "\n"), "DIR", a.Dir), "\n")
	var err error
	if a.process, err = start(sw.name, argv, nil, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.stop()
		if t.Failed() {
			t.Logf("--- %s (%s)\n%s", a.name(), a.state(), tail(a.out.String(), 30))
		}
	})
	for _, at := range at {
		for _, z := range a.Zones {
			if err := a.await(at, z.Name); err != nil {
				t.Fatalf("%s at %v does not serve %s: %v\n%s", a.name(), at, z.Name, err, tail(a.out.String(), 30))
			}
		}
	}
	return a
}

func (a *authority) name() string { return a.software.name }

// await waits until a serves a zone at an address.
func (a *authority) await(at netip.AddrPort, zone string) error {
	deadline := time.Now().Add(startTimeout)
	for {
		m, err := askAt(at, zone, dns.TypeSOA, false)
		if err == nil && (m.Rcode != dns.RcodeSuccess || !m.Authoritative || len(m.Answer) == 0) {
			err = fmt.Errorf("it says %s", dns.RcodeToString[m.Rcode])
		}
		if err == nil || !a.running() || time.Now().After(deadline) {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// fill fills a template of testdata.
func fill(t *testing.T, from string, data any) string {
	t.Helper()
	tmpl, err := template.ParseFS(testdata, "testdata/"+from)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := tmpl.Execute(&b, data); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// tellSigned tells PowerDNS which zones are signed already: without that it
// leaves the signatures out.
func tellSigned(a *authority) error {
	run := func(args ...string) error {
		cmd := exec.Command("pdnsutil", append([]string{"--config-dir=" + a.Dir}, args...)...)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, out)
		}
		return nil
	}
	errs := []error{run("create-bind-db", filepath.Join(a.Dir, "dnssec.db"))}
	for _, z := range a.Zones {
		if z.signed {
			errs = append(errs, run("set-presigned", z.Name))
		}
	}
	return errors.Join(errs...)
}

// askAt asks the server at an address itself, over TCP so that nothing is cut.
func askAt(at netip.AddrPort, name string, typ uint16, dnssec bool) (*dns.Msg, error) {
	m := new(dns.Msg).SetQuestion(name, typ)
	m.RecursionDesired = false
	if dnssec {
		m.SetEdns0(4096, true)
	}
	c := dns.Client{Net: "tcp", Timeout: 5 * time.Second}
	rsp, _, err := c.Exchange(m, at.String())
	return rsp, err
}

// hashedZone is served signed with NSEC3, beside the world's zones.
const hashedZone = "hashed.west."

// sameZones returns what every software is given: a parent of zones that the
// world's servers have, and zones of every kind. A zone that ldns-signzone
// signed for the world is taken as it is.
func sameZones(t *testing.T) []served {
	t.Helper()
	var out []served
	for _, z := range zones {
		switch z.name {
		case "west.", "plain.east.", "big.east.": // Knot's in the world, unsigned here
			text, err := zoneText(z)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, served{Name: z.name, text: text})
		case "plain.west.", "signed.west.":
			b, err := os.ReadFile(filepath.Join(built.world.dir, z.file()))
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, served{Name: z.name, text: string(b), signed: z.sign != unsigned})
		}
	}
	return append(out, served{Name: hashedZone, text: hashed(t), signed: true})
}

// hashed returns the zone of that name.
func hashed(t *testing.T) string {
	t.Helper()
	text, err := testdata.ReadFile("testdata/zones/signed.east.zone")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "zone")
	writeFile(t, path, strings.ReplaceAll(string(text), "signed.east.", hashedZone))
	w := &world{dir: dir}
	key, err := w.tool("ldns-keygen", "-a", "ECDSAP256SHA256", hashedZone)
	if err == nil {
		_, err = w.tool("ldns-signzone", "-n", "-t", "3", "-s", "5eed", "-o", hashedZone, "-f", path+".signed", path, strings.TrimSpace(key))
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path + ".signed")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// askedOfAll are the questions of TestEveryAuthorityIsUnderstood: those of the
// table above about the zones that all of them have, and about zones further
// down, which take a referral of theirs.
func askedOfAll() []question {
	var out []question
	for _, a := range answered {
		z := zoneOf(a.name, dns.StringToType[a.typ])
		if z.name != "." && z.name != "east." && z.name != "signed.east." && z.name != "six.east." {
			out = append(out, a.question)
		}
	}
	for _, q := range []question{
		{"www", "A"},
		{"www", "MX"},
		{"nosuch", "A"},
		{"b.c", "A"},
		{"any.wild", "TXT"},
		{"any.wild", "A"},
		{"a.b.wild", "TXT"},
		{"", "SOA"},
		{"", "DNSKEY"},
		{"", "NSEC3PARAM"},
		{"", "NS"},
		{"", "AAAA"},
	} {
		out = append(out, question{strings.TrimPrefix(q.name+"."+hashedZone, "."), q.typ})
	}
	return out
}

// TestEveryAuthorityIsUnderstood has the same zones served by one software
// after the other, asks the server for everything in them, by way of UDP and
// TCP, IPv4 and IPv6, and compares with what that software says itself.
func TestEveryAuthorityIsUnderstood(t *testing.T) {
	zones := sameZones(t)
	for _, sw := range softwares {
		t.Run(sw.name, func(t *testing.T) {
			t.Parallel()
			four, six := freeAt(t, "127.0.0.1"), freeAt(t, "::1")
			startAuthority(t, sw, zones, four, six)
			w := built.world.with(zones, four)
			qs := askedOfAll()
			truths := make(map[bool][]truth)
			for _, dnssec := range []bool{false, true} {
				for _, q := range qs {
					truths[dnssec] = append(truths[dnssec], ask(t, w, q, dnssec))
				}
			}
			for _, server := range []netip.AddrPort{four, six} {
				for _, tcp := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s/tcp=%t", map[bool]string{true: "ipv4", false: "ipv6"}[server.Addr().Is4()], tcp), func(t *testing.T) {
						s := serve(t, settings{binary: built.plain, more: stubs(zones, server, tcp)})
						for _, dnssec := range []bool{false, true} {
							compareTruth(t, way{"kdig", "127.0.0.1", false, dnssec}, s, qs, truths[dnssec])
						}
					})
				}
			}
		})
	}
}

// stubs is the part of the configuration that has zones asked of a server.
func stubs(zones []served, server netip.AddrPort, tcp bool) string {
	var b strings.Builder
	b.WriteString("stub_zones:\n")
	for _, z := range zones {
		fmt.Fprintf(&b, "  - {name: %q, servers: [{address: %q}], tcp: %t}\n", z.Name, server, tcp)
	}
	return b.String()
}

// compareTruth asks s the questions in one way, and reports each response that
// is not the truth.
func compareTruth(t *testing.T, w way, s *server, qs []question, want []truth) {
	t.Helper()
	for i, r := range w.client(s).all(t, qs) {
		a := asked{question: qs[i], rcode: want[i].rcode}
		if bad := judge(w, a, r, want[i], s.age()); bad != "" {
			t.Errorf("%v %v:%s\n%s", w, qs[i], bad, head(r.raw, 30))
		}
	}
}

// with returns w with some zones served elsewhere.
func (w *world) with(zones []served, at netip.AddrPort) *world {
	out := &world{dir: w.dir, port: w.port, elsewhere: make(map[string]string)}
	for _, z := range zones {
		out.elsewhere[z.Name] = at.String()
	}
	return out
}

// zoneOf is [zoneOf] in this world.
func (w *world) zoneOf(name string, typ uint16) zone {
	z := zoneOf(name, typ)
	for n, at := range w.elsewhere {
		if dns.IsSubDomain(n, name) && len(n) >= len(z.name) && (typ != dns.TypeDS || n != name) {
			z = zone{name: n, server: at, sign: z.sign}
		}
	}
	return z
}

// freeAt returns an address with a port that nobody listens on. BIND takes only
// addresses that an interface has: of those of loopback, 127.0.0.1 and ::1.
func freeAt(t *testing.T, addr string) netip.AddrPort {
	t.Helper()
	return netip.AddrPortFrom(netip.MustParseAddr(addr), porttest.Take(t))
}
