package e2e

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/template"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/lab"
	"shirube/internal/lab/ca"
	"shirube/internal/memcached"
	"shirube/internal/porttest"
)

// verifiedConfig is the configuration of one of two instances.
const verifiedConfig = `listen:
{{range .At}}  - {address: "{{.}}:{{$.DNS}}", protocols: [udp, tcp]}
  - {address: "{{.}}:{{$.TLS}}", protocols: [dot, doq]}
  - {address: "{{.}}:{{$.HTTPS}}", protocols: [doh, doh3]}
{{end}}tls:
  certificates: [{cert_file: "{{.Cert}}", key_file: "{{.Key}}"}]
  ticket_secret_file: "{{.Dir}}/tickets"
cookies: {secrets: [` + cookieSecret + `]}
identity: {nsid: "{{.Name}}-1", id: "{{.Name}}.verify.example", version: v1.2.3}
discovery: {name: dns.example}
provisioning:
  hb46pp:
    - {name: east, clients: [0.0.0.0/0, "::/0"], url: "https://prov.example/rule.cgi"}
builtin_zones: {except: [127.in-addr.arpa]}
resolver: {root_hints: "{{.Dir}}/hints", port: {{.Lab}}, do_not_query_localhost: false}
dnssec: {root_trust_anchor: false, auto_trust_anchor: false, trust_anchors: ['{{.Anchor}}']}
shared_cache:
  enabled: true
  servers: [{name: m1, address: "{{.Memcached}}"}]
  secret_file: "{{.Dir}}/shared"
dnstap: {outputs: [{socket: "{{.Dir}}/tap"}]}
control: {socket: "{{.Dir}}/{{.Name}}.sock"}
health: {name: health.example}
`

// verifiedProfile is what they are verified by.
const verifiedProfile = `# verify
ports: {dns: {{.DNS}}, tls: {{.TLS}}, https: {{.HTTPS}}}
server_name: dns.example
ca_file: "{{.Dir}}/ca"
instances: [127.0.0.1, 127.0.0.2]
questions:
  good: {name: www.shirube.lab, type: A}
  bogus: {name: www.expired.lab, type: A}
  unsigned: {name: "{random}.fresh.large.minato", type: TXT}
  denied: {name: "{random}.shirube.lab", type: A}
  empty: {name: www.shirube.lab, type: HINFO}
  big: {name: many.large.minato, type: TXT}
  fresh: {name: "{random}.fresh.large.minato", type: TXT}
  health: {name: health.example, type: A}
expect:
  version: v1.2.3
  nsid: "[ab]-1"
  id: '[ab]\.verify\.example'
  hb46pp: "v=v6mig-1 url=https://prov.example/rule.cgi t=b"
flush_command: ["{{.Binary}}", cache, flush, --fleet, --socket, "{{.Dir}}/a.sock", "{name}"]
dnstap: {status: "http://127.0.0.1:{{.Tap}}/status.json", token_file: "{{.Dir}}/tap-token"}
latency: {samples: 50, median: 1s, worst: 3s}
timeout: 90s
`

// verified is a laboratory with two instances and a collector.
type verified struct {
	Dir, Cert, Key, Binary, Anchor, Memcached string
	Lab                                       uint16
	DNS, TLS, HTTPS, Tap                      int

	At   []string // of the instance that a configuration is made for
	Name string
}

// signedLab starts the name servers.
func signedLab(t *testing.T) *lab.Lab {
	t.Helper()
	l, err := lab.Start(t.Context(), lab.Options{Seed: 1, Signed: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// newVerified makes all but the instances, for which l is the Internet.
func newVerified(t *testing.T, l *lab.Lab) *verified {
	t.Helper()
	v := &verified{
		Dir: t.TempDir(), Binary: built.plain, Anchor: l.Anchor(), Lab: l.Port(), Memcached: memcached.Start(t).Addr.String(),
		DNS: int(porttest.Take(t)), TLS: int(porttest.Take(t)), HTTPS: int(porttest.Take(t)), Tap: int(porttest.Take(t)),
	}
	authority, err := ca.New("Authority of this test")
	if err != nil {
		t.Fatal(err)
	}
	v.issue(t, authority, ca.Leaf{})
	for name, text := range map[string]string{
		"hints": l.Hints(), "ca": string(authority.PEM()), "tickets": strings.Repeat("41", 32) + "\n", "shared": strings.Repeat("42", 32) + "\n",
		"tickets2": strings.Repeat("43", 32) + "\n", "shared2": strings.Repeat("44", 32) + "\n",
	} {
		writeFile(t, filepath.Join(v.Dir, name), text)
	}
	return v
}

// issue writes a certificate for the instances, or what leaf has in its place.
func (v *verified) issue(t *testing.T, authority *ca.Authority, leaf ca.Leaf) {
	t.Helper()
	if leaf.Names == nil {
		leaf.Names = []string{"dns.example"}
	}
	if leaf.Addrs == nil {
		leaf.Addrs = []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2"), netip.IPv6Loopback()}
	}
	issued, err := authority.Issue(leaf)
	if err == nil {
		v.Cert, v.Key, err = issued.Write(v.Dir, "tls")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// fill fills a template.
func (v *verified) fill(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	if err := template.Must(template.New("").Parse(text)).Execute(&b, v); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// start starts the collector, if there is to be one, and the instances.
func (v *verified) start(t *testing.T, configs [2]string, tap bool) {
	t.Helper()
	if tap {
		token := filepath.Join(v.Dir, "tap-token")
		writeFile(t, token, "a-token-that-nobody-guesses")
		launch(t, launched{binary: built.plain}, "tap", "--metrics-token", token, "--unix", filepath.Join(v.Dir, "tap"), "--format", "none",
			"--metrics", fmt.Sprintf("127.0.0.1:%d", v.Tap))
	}
	for i, text := range configs {
		v.Name, v.At = []string{"a", "b"}[i], [][]string{{"127.0.0.1", "[::1]"}, {"127.0.0.2"}}[i]
		conf := filepath.Join(v.Dir, v.Name+".yaml")
		writeFile(t, conf, v.fill(t, text))
		p := launch(t, launched{binary: built.plain}, "serve", "--config", conf)
		ready := "msg=ready"
		if strings.Contains(text, "shared_cache:\n  enabled: true") {
			ready = `msg="warm start"` // until then the health name says that it is not for clients
		}
		if _, err := p.await(p.out, ready, startTimeout); err != nil {
			t.Fatal(err)
		}
	}
}

// verification is what `shirube verify --json` says.
type verification struct {
	OK      bool
	Results []struct{ Check, Target, Outcome, Detail string }
}

// failed returns the checks that failed somewhere.
func (v *verification) failed() (names []string) {
	for _, r := range v.Results {
		if r.Outcome == "failed" && !slices.Contains(names, r.Check) {
			names = append(names, r.Check)
		}
	}
	slices.Sort(names)
	return names
}

// details returns what is said of the checks that did not pass.
func (v *verification) details() string {
	var b strings.Builder
	for _, r := range v.Results {
		if r.Outcome != "passed" {
			fmt.Fprintf(&b, "%s %s %s: %s\n", r.Target, r.Check, r.Outcome, r.Detail)
		}
	}
	return b.String()
}

// verifyTimeout is longer than the profile's.
const verifyTimeout = 2 * time.Minute

// verify runs `shirube verify`.
func (v *verified) verify(t *testing.T, profile string, args ...string) (verification, int) {
	t.Helper()
	stdout, stderr, code := runServerFor(t, verifyTimeout, v.fill(t, profile), append([]string{"verify", "--profile", "-", "--json"}, args...)...)
	var got verification
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatalf("%v\n%s\n%s", err, stdout, stderr)
	}
	return got, code
}

func TestVerifyPassesAServerThatIsWell(t *testing.T) {
	t.Parallel()
	v := newVerified(t, signedLab(t))
	v.start(t, [2]string{verifiedConfig, verifiedConfig}, true)
	junit := filepath.Join(v.Dir, "junit.xml")
	got, code := v.verify(t, verifiedProfile, "--junit", junit, "127.0.0.1", "::1")
	if !got.OK || code != 0 || got.details() != "" {
		t.Errorf("exit code %d:\n%s", code, got.details())
	}
	var listed []string
	out, _, _ := runServer(t, "", "verify", "--list")
	for line := range strings.Lines(out) {
		listed = append(listed, strings.Fields(line)[0])
	}
	seen := map[string]int{}
	for _, r := range got.Results {
		seen[r.Check]++
	}
	for _, name := range listed {
		if seen[name] == 0 {
			t.Errorf("%s was not checked", name)
		}
	}
	var suites struct {
		Suites []struct {
			Name     string `xml:"name,attr"`
			Tests    int    `xml:"tests,attr"`
			Failures int    `xml:"failures,attr"`
		} `xml:"testsuite"`
	}
	text, err := os.ReadFile(junit)
	if err == nil {
		err = xml.Unmarshal(text, &suites)
	}
	if err != nil || len(suites.Suites) != 3 || suites.Suites[2].Name != "fleet" || suites.Suites[0].Failures != 0 ||
		suites.Suites[0].Tests+suites.Suites[1].Tests+suites.Suites[2].Tests != len(got.Results) {
		t.Errorf("%v, %+v of\n%s", err, suites, text)
	}
}

// changed is a change of a text: the first is replaced by the second.
type changed [2]string

// breakage breaks something, and names the checks that see it.
type breakage struct {
	what      string
	both, b   []changed // of the configurations of both instances, of the second
	profile   []changed
	cert      *ca.Leaf                                  // in place of the certificate
	strangers bool                                      // who signed it is not trusted
	tamper    func(q, r *dns.Msg, over string) *dns.Msg // with answers of the first instance, without TLS
	noTap     bool
	red       string // the checks that fail
}

// breakages break whatever a check looks at: each check is red in one of them.
func breakages() []breakage {
	const transports = "dot doh-http1 doh-post doh-get doh3-post doh3-get doq "
	listener := func(of, old, protocols string) changed {
		return changed{"{{$." + of + "}}\", protocols: [" + old + "]}", "{{$." + of + "}}\", protocols: [" + protocols + "]}"}
	}
	good := func(q *dns.Msg) bool {
		return len(q.Question) == 1 && strings.EqualFold(q.Question[0].Name, "www.shirube.lab.")
	}
	return []breakage{
		{what: "no TCP", both: []changed{listener("DNS", "udp, tcp", "udp")}, red: "tcp tcp-pipelining keepalive big-answer"},
		{what: "no DoT", both: []changed{listener("TLS", "dot, doq", "doq")}, red: "dot padding certificate tls-version ddr shared-ticket"},
		{what: "no DoQ", both: []changed{listener("TLS", "dot, doq", "dot")}, red: "doq ddr"},
		{what: "no DoH", both: []changed{listener("HTTPS", "doh, doh3", "doh3")}, red: "doh-http1 doh-post doh-get doh-path ddr"},
		{what: "no DoH3", both: []changed{listener("HTTPS", "doh, doh3", "doh")}, red: "doh3-post doh3-get ddr"},
		{what: "a certificate of strangers", strangers: true, red: transports + "certificate tls-version doh-path padding ddr-verified shared-ticket"},
		{what: "a certificate that is about to end", cert: &ca.Leaf{Life: time.Hour}, red: "certificate"},
		{what: "a certificate for another address", cert: &ca.Leaf{Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}, red: "ddr ddr-verified"},
		{what: "no validation", both: []changed{{"dnssec: {", "dnssec: {validation: false, "}}, red: "dnssec-good dnssec-ad dnssec-bogus dnssec-denial ede"},
		{
			what: "a trust anchor that nothing has", both: []changed{{"trust_anchors: ['{{.Anchor}}']", "trust_anchors: ['. IN DS 1 13 2 " + strings.Repeat("00", 32) + "']"}},
			red: transports + "udp tcp recursion spelling nxdomain nodata truncation big-answer dnssec-good dnssec-ad dnssec-unsigned dnssec-denial same-answer shared-cache flush cookie shared-cookie " +
				"shared-ticket tls-version doh-path ddr-verified dnstap latency",
		},
		{what: "no cookies", both: []changed{{"cookies: {", "cookies: {enabled: false, "}}, red: "cookie cookie-forged shared-cookie"},
		{what: "other cookies", b: []changed{{cookieSecret, nextSecret}}, red: "shared-cookie"},
		{what: "other tickets", b: []changed{{"/tickets\"", "/tickets2\""}}, red: "shared-ticket"},
		{what: "another shared cache", b: []changed{{"/shared\"", "/shared2\""}}, red: "shared-cache flush"},
		{what: "no shared cache", both: []changed{{"  enabled: true", "  enabled: false"}}, red: "shared-cache flush"},
		{what: "a flush of one server only", profile: []changed{{"--fleet, ", ""}}, red: "flush"},
		{what: "a flush that fails", profile: []changed{{"/a.sock", "/nobody.sock"}}, red: "flush"},
		{what: "no NSID", both: []changed{{`nsid: "{{.Name}}-1", `, ""}}, red: "nsid distinct-nsid"},
		{what: "one NSID for all", both: []changed{{`nsid: "{{.Name}}-1"`, "nsid: a-1"}}, red: "distinct-nsid"},
		{what: "another name", both: []changed{{`id: "{{.Name}}.verify.example"`, "id: other"}}, red: "id"},
		{what: "an old version", both: []changed{{"version: v1.2.3", "version: v1.2.2"}}, red: "version"},
		{what: "two versions", b: []changed{{"version: v1.2.3", "version: v1.2.2"}}, red: "same-version"},
		{what: "no DDR", both: []changed{{"discovery: {", "discovery: {ddr: {enabled: false}, "}}, red: "ddr ddr-verified"},
		{what: "no RESINFO", both: []changed{{"discovery: {", "discovery: {resinfo: {enabled: false}, "}}, red: "resinfo"},
		{what: "another provisioning server", both: []changed{{"prov.example/rule", "prov.example/other"}}, red: "hb46pp"},
		{what: "no health name", both: []changed{{"health: {name: health.example}", "health: {}"}}, red: "health-name"},
		{what: "another path of DoH", both: []changed{{"cookies:", "doh: {path: /elsewhere}\ncookies:"}}, red: "doh-http1 doh-post doh-get doh3-post doh3-get doh-path"},
		{what: "no builtin zones", both: []changed{{"builtin_zones: {", "builtin_zones: {enabled: false, "}}, red: "localhost"},
		{what: "no collector", noTap: true, red: "dnstap"},
		{what: "impatience", profile: []changed{{"median: 1s", "median: 1us"}}, red: "latency"},
		{what: "a required check that cannot be made", profile: []changed{{"  hb46pp: \"v=v6mig-1 url=https://prov.example/rule.cgi t=b\"\n", ""}, {"timeout: 90s", "timeout: 90s\nchecks: {skip: [shared-cache, flush], required: [hb46pp]}"}}, red: "hb46pp"},

		{
			what: "silence over UDP", tamper: func(q, r *dns.Msg, over string) *dns.Msg {
				if over == "udp" && q.IsEdns0() != nil && !q.CheckingDisabled && good(q) {
					return nil
				}
				return r
			}, profile: []changed{{"timeout: 90s", "question_timeout: 700ms\ntimeout: 90s"}},
			red: "udp recursion spelling dnssec-good dnssec-ad edns edns-version any no-padding nodata cookie cookie-forged nsid distinct-nsid shared-cookie same-answer dnstap latency",
		},
		{what: "one answer on each connection", tamper: func(q, r *dns.Msg, over string) *dns.Msg {
			if over == "second" {
				return nil
			}
			return r
		}, red: "tcp-pipelining"},
		{what: "no RA", tamper: func(_, r *dns.Msg, _ string) *dns.Msg { r.RecursionAvailable = false; return r }, red: "recursion"},
		{what: "other letters", tamper: func(_, r *dns.Msg, _ string) *dns.Msg {
			if len(r.Question) > 0 {
				r.Question[0].Name = strings.ToLower(r.Question[0].Name)
			}
			return r
		}, red: "spelling"},
		{
			what: "denials without SOA", tamper: func(_, r *dns.Msg, _ string) *dns.Msg { r.Ns = nil; return r },
			red: "nxdomain nodata private-reverse dnssec-denial resolver-arpa",
		},
		{what: "wild answers", tamper: func(q, r *dns.Msg, _ string) *dns.Msg {
			if len(q.Question) == 1 && q.Question[0].Qtype == dns.TypeHINFO {
				r.Answer = []dns.RR{&dns.HINFO{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeHINFO, Class: dns.ClassINET, Ttl: 1}}}
			}
			return r
		}, red: "nodata"},
		{what: "no truncation", tamper: func(q, r *dns.Msg, over string) *dns.Msg {
			if over == "udp" && r.Truncated {
				r.Truncated = false
				for range 20 {
					r.Answer = append(r.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{strings.Repeat("x", 100)}})
				}
			}
			return r
		}, red: "truncation"},
		{what: "truncation everywhere", tamper: func(_, r *dns.Msg, over string) *dns.Msg {
			if over != "udp" && len(r.Answer) > 10 {
				r.Truncated, r.Answer = true, nil
			}
			return r
		}, red: "big-answer"},
		{what: "much for ANY", tamper: func(q, r *dns.Msg, _ string) *dns.Msg {
			if q.Question[0].Qtype == dns.TypeANY {
				r.Answer = append(r.Answer, r.Answer...)
				r.Answer = append(r.Answer, &dns.HINFO{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeHINFO, Class: dns.ClassINET}})
			}
			return r
		}, red: "any"},
		{what: "an operation that is refused", tamper: func(q, r *dns.Msg, _ string) *dns.Msg {
			if q.Opcode == dns.OpcodeStatus {
				r.Rcode = dns.RcodeRefused
			}
			return r
		}, red: "opcode"},
		{what: "CD that is not heard", tamper: func(q, r *dns.Msg, _ string) *dns.Msg {
			if q.CheckingDisabled {
				r.Rcode, r.Answer = dns.RcodeServerFailure, nil
			}
			return r
		}, red: "dnssec-cd"},
		{what: "AD for all", tamper: func(_, r *dns.Msg, _ string) *dns.Msg { r.AuthenticatedData = true; return r }, red: "dnssec-unsigned"},
		{
			what: "no EDNS", tamper: func(_, r *dns.Msg, _ string) *dns.Msg { r.Extra = nil; r.Rcode &= 15; return r },
			red: "ede edns edns-version keepalive cookie cookie-forged nsid distinct-nsid shared-cookie",
		},
		{what: "any version of EDNS", tamper: func(_, r *dns.Msg, _ string) *dns.Msg {
			if r.Rcode == dns.RcodeBadVers {
				r.Rcode = dns.RcodeSuccess
			}
			return r
		}, red: "edns-version"},
		{what: "no error that says why", tamper: func(_, r *dns.Msg, _ string) *dns.Msg { return withoutOption(r, dns.EDNS0EDE) }, red: "ede"},
		{what: "no keepalive", tamper: func(_, r *dns.Msg, _ string) *dns.Msg { return withoutOption(r, dns.EDNS0TCPKEEPALIVE) }, red: "keepalive"},
		{what: "padding over UDP", tamper: func(q, r *dns.Msg, over string) *dns.Msg {
			if opt := r.IsEdns0(); over == "udp" && opt != nil {
				opt.Option = append(opt.Option, &dns.EDNS0_PADDING{Padding: make([]byte, 8)})
			}
			return r
		}, red: "no-padding"},
		{what: "any cookie", tamper: echoCookie, red: "cookie-forged"},
		{what: "another answer", tamper: func(q, r *dns.Msg, _ string) *dns.Msg {
			for _, rr := range r.Answer {
				if a, ok := rr.(*dns.A); ok && good(q) {
					a.A = net.IPv4(192, 0, 2, 66)
				}
			}
			return r
		}, red: "same-answer"},
		{what: "something in resolver.arpa", tamper: func(q, r *dns.Msg, _ string) *dns.Msg {
			if strings.HasSuffix(q.Question[0].Name, ".resolver.arpa.") && q.Question[0].Qtype == dns.TypeA {
				r.Answer = append(r.Answer, &dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET}, A: net.IPv4(192, 0, 2, 1)})
			}
			return r
		}, red: "resolver-arpa"},
		{what: "padding that is expected to be larger", profile: []changed{{"expect:\n", "expect:\n  padding_block: 4096\n"}}, red: "padding"},
	}
}

// withoutOption takes the EDNS options of a code out of r.
func withoutOption(r *dns.Msg, code uint16) *dns.Msg {
	if opt := r.IsEdns0(); opt != nil {
		opt.Option = slices.DeleteFunc(opt.Option, func(o dns.EDNS0) bool { return o.Option() == code })
	}
	return r
}

// echoCookie gives clients the cookie back that they have.
func echoCookie(q, r *dns.Msg, _ string) *dns.Msg {
	asked, answered := q.IsEdns0(), r.IsEdns0()
	if asked == nil || answered == nil {
		return r
	}
	for _, o := range asked.Option {
		c, ok := o.(*dns.EDNS0_COOKIE)
		if !ok || len(c.Cookie) != 48 {
			continue
		}
		for _, o := range answered.Option {
			if got, ok := o.(*dns.EDNS0_COOKIE); ok {
				got.Cookie = c.Cookie
			}
		}
	}
	return r
}

// apply makes changes, each of which has to change something.
func apply(t *testing.T, text string, list []changed) string {
	t.Helper()
	for _, c := range list {
		if !strings.Contains(text, c[0]) {
			t.Fatalf("there is no %q to change", c[0])
		}
		text = strings.ReplaceAll(text, c[0], c[1])
	}
	return text
}

func TestVerifyFailsWhatIsBroken(t *testing.T) {
	t.Parallel()
	red := map[string]bool{}
	list := breakages()
	for _, b := range list {
		for _, name := range strings.Fields(b.red) {
			red[name] = true
		}
	}
	out, _, _ := runServer(t, "", "verify", "--list")
	for line := range strings.Lines(out) {
		if name := strings.Fields(line)[0]; !red[name] {
			t.Errorf("no breakage is for the check %s", name)
		}
	}
	l := signedLab(t)
	for i := range list {
		t.Run(list[i].what, func(t *testing.T) {
			t.Parallel()
			list[i].run(t, l)
		})
	}
}

// run breaks something, and wants the checks to fail that look at it, and no other.
func (b *breakage) run(t *testing.T, l *lab.Lab) {
	v := newVerified(t, l)
	if b.cert != nil || b.strangers {
		authority, err := ca.New("Authority of this test")
		if err != nil {
			t.Fatal(err)
		}
		if b.strangers {
			v.issue(t, authority, ca.Leaf{})
		} else {
			v.issue(t, authority, *b.cert)
			writeFile(t, filepath.Join(v.Dir, "ca"), string(authority.PEM()))
		}
	}
	first := apply(t, verifiedConfig, b.both)
	v.start(t, [2]string{first, apply(t, first, b.b)}, !b.noTap)
	if b.tamper != nil {
		v.DNS = tamperer(t, v.DNS, b.tamper)
	}
	profile := apply(t, verifiedProfile, b.profile)
	if !strings.Contains(profile, "checks:") && !strings.Contains(b.red, "shared-cache") && !strings.Contains(b.red, "flush") { // which wait for answers to age
		profile += "checks: {skip: [shared-cache, flush]}\n"
	}
	got, code := v.verify(t, profile, "127.0.0.1")
	want := strings.Fields(b.red)
	slices.Sort(want)
	if failed := got.failed(); code != 1 || got.OK || !slices.Equal(failed, want) {
		t.Errorf("exit code %d: failed are\n%q, want\n%q\n%s", code, failed, want, got.details())
	}
}

// tamperer stands before the instances at a port of its own, without TLS, and has
// tamper change what the first one answers; nil: it is not sent. It says whether
// that goes over udp, or over tcp as the first or a second on a connection.
func tamperer(t *testing.T, port int, tamper func(q, r *dns.Msg, over string) *dns.Msg) int {
	t.Helper()
	at := int(porttest.Take(t))
	for _, addr := range []string{"127.0.0.1", "127.0.0.2"} {
		for _, network := range []string{"udp", "tcp"} {
			var mu sync.Mutex // connections are served side by side
			seen := map[string]int{}
			handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
				c := dns.Client{Net: network, Timeout: askTimeout, UDPSize: dns.MaxMsgSize - 1}
				r, _, err := c.Exchange(q.Copy(), net.JoinHostPort(addr, strconv.Itoa(port)))
				if err != nil {
					return
				}
				over := network
				if network == "tcp" {
					mu.Lock()
					if seen[w.RemoteAddr().String()]++; seen[w.RemoteAddr().String()] > 1 {
						over = "second"
					}
					mu.Unlock()
				}
				if addr == "127.0.0.1" {
					r = tamper(q, r, over)
				}
				if r != nil {
					_ = w.WriteMsg(r) // who asked may have gone
				}
			})
			s := &dns.Server{Addr: net.JoinHostPort(addr, strconv.Itoa(at)), Net: network, Handler: handler, MsgAcceptFunc: func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept }}
			up := make(chan struct{})
			s.NotifyStartedFunc = func() { close(up) }
			ended := make(chan error, 1)
			// Owner: the test. End: Shutdown, at its end. Bound: four.
			go func() { ended <- s.ListenAndServe() }()
			select {
			case <-up:
			case err := <-ended:
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := errors.Join(s.Shutdown(), <-ended); err != nil {
					t.Error(err)
				}
			})
		}
	}
	return at
}
