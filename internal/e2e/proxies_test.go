package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"shirube/internal/porttest"
)

// balancer is a program that takes queries for a server and tells it on whose
// behalf.
type balancer struct {
	name  string
	ways  []string // options of dig by which it can be asked
	argv  func(conf string) []string
	write func(port int, server netip.AddrPort) string // its configuration: on 127.0.0.1 and ::1, at port
}

var balancers = []balancer{
	{
		"dnsdist",
		[]string{"+notcp", "+tcp"},
		func(conf string) []string { return []string{"dnsdist", "--supervised", "--disable-syslog", "-C", conf} },
		func(port int, server netip.AddrPort) string {
			return fmt.Sprintf("setLocal('127.0.0.1:%d')\naddLocal('[::1]:%d')\nsetSecurityPollSuffix('')\nsetACL({'0.0.0.0/0', '::/0'})\n"+
				"newServer({address='%s', useProxyProtocol=true}):setUp()\n", port, port, server)
		},
	},
	{
		"haproxy",
		[]string{"+tcp"},
		func(conf string) []string { return []string{"haproxy", "-db", "-f", conf} },
		func(port int, server netip.AddrPort) string {
			return fmt.Sprintf("defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n"+
				"listen dns\n  bind 127.0.0.1:%d\n  bind [::1]:%d\n  server shirube %s send-proxy-v2\n", port, port, server)
		},
	},
}

// startBalancer starts b in front of a server, and returns the port of it.
func startBalancer(t *testing.T, b balancer, server netip.AddrPort) int {
	t.Helper()
	port := int(porttest.Take(t))
	b.start(t, b.write(port, server), netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port)), netip.AddrPortFrom(netip.IPv6Loopback(), uint16(port)))
	return port
}

// start starts b with a configuration, and waits until it listens at all addresses.
func (b *balancer) start(t *testing.T, text string, listens ...netip.AddrPort) {
	t.Helper()
	conf := filepath.Join(t.TempDir(), b.name+".conf")
	writeFile(t, conf, text)
	p, err := start(b.name, b.argv(conf), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("--- %s\n%s", b.name, tail(p.out.String(), 30))
		}
	})
	for _, at := range listens {
		for until := time.Now().Add(startTimeout); ; time.Sleep(20 * time.Millisecond) {
			c, err := net.DialTimeout("tcp", at.String(), startTimeout)
			if err == nil {
				_ = c.Close()
				break
			}
			if !p.running() || time.Now().After(until) {
				t.Fatalf("%s does not listen: %v\n%s", b.name, err, tail(p.out.String(), 30))
			}
		}
	}
}

// behindBalancer are the settings of a server that only proxies may use. Of the
// clients in 127.0.0.0/8 these two may ask; the proxies' own address is not one
// of them.
var behindBalancer = settings{
	behind: `127.0.0.1, "::1"`,
	access: "- {prefix: 127.0.0.5, action: allow}\n- {prefix: 127.0.0.7, action: allow}\n- {prefix: \"::1\", action: allow}",

	resolver: "timeout: 15s", limits: unhurriedLimits,
}

// unhurriedLimits give a chain of programs time on a machine that is busy: what is to
// be seen is not how fast they are.
const unhurriedLimits = "udp_discard_timeout: 20s\ntcp_first_byte_timeout: 20s\ntcp_message_timeout: 20s"

func TestClientsBehindARealProxyAreKnown(t *testing.T) {
	t.Parallel()
	s := serve(t, behindBalancer)
	for _, b := range balancers {
		for _, server := range []string{"127.0.0.1", "::1"} {
			t.Run(fmt.Sprintf("%s to %s", b.name, server), func(t *testing.T) {
				t.Parallel()
				port := startBalancer(t, b, netip.AddrPortFrom(netip.MustParseAddr(server), uint16(s.port)))
				ask := func(from, way string, more ...string) *response {
					at := "127.0.0.1"
					if strings.Contains(from, ":") {
						at = from
					}
					c := client{"dig", append([]string{"-r", "@" + at, "-p", fmt.Sprint(port), "-b", from, way}, more...)}
					return c.one(t, "www.plain.west.", "A")
				}
				for _, way := range b.ways {
					for from, want := range map[string]string{
						"127.0.0.5": "NOERROR", "127.0.0.7": "NOERROR", "127.0.0.6": "REFUSED", "127.0.0.1": "REFUSED", "::1": "NOERROR",
					} {
						if r := ask(from, way); r.status != want || (want == "NOERROR") != (len(r.sections["ANSWER"]) > 0) {
							t.Errorf("%s %s: %s, want %s:\n%s", from, way, r.status, want, r.raw)
						}
					}
					// A cookie is for the address that it was given to.
					given := ask("127.0.0.5", way, "+cookie="+clientCookie).cookie
					again := ask("127.0.0.5", way, "+cookie="+given).cookie
					other := ask("127.0.0.7", way, "+cookie="+given).cookie
					if len(given) != 48 || again != given || other == given {
						t.Errorf("%s: the cookie %q is %q again, and %q for another client", way, given, again, other)
					}
				}
			})
		}
	}
}

// TestNobodyButProxiesIsHeard asks directly, where a proxy's header is expected.
func TestNobodyButProxiesIsHeard(t *testing.T) {
	t.Parallel()
	proxies, strangers := serve(t, behindBalancer), serve(t, settings{behind: "192.0.2.0/24", access: "- {prefix: 127.0.0.0/8, action: allow}"})
	for name, s := range map[string]*server{"a proxy without a header": proxies, "who is no proxy": strangers} {
		for _, way := range []string{"+notcp", "+tcp"} {
			out, _ := s.ask("dig", "127.0.0.1", way, "+tries=1", "+timeout=1").run(t, "www.plain.west.", "A")
			if strings.Contains(out, "status:") {
				t.Errorf("%s, %s, is answered:\n%s", name, way, out)
			}
		}
	}
	port := startBalancer(t, balancers[1], netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(strangers.port)))
	c := client{"dig", []string{"-r", "@127.0.0.1", "-p", fmt.Sprint(port), "+tcp", "+tries=1", "+timeout=2"}}
	if out, _ := c.run(t, "www.plain.west.", "A"); strings.Contains(out, "status:") {
		t.Errorf("a proxy that is not listed is answered:\n%s", out)
	}
}
