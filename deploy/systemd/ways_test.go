//go:build systemd

package systemd_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"shirube/internal/lab"
	"shirube/internal/manual"
)

// verifies is how the command begins that each of the ways ends with.
const verifies = "shirube verify"

// world are questions of the small Internet that is all there is on the machine, in
// the place of those that a profile has by default.
const world = `
questions:
  good: {name: www.shirube.lab, type: A}
  bogus: {name: www.expired.lab, type: A}
  unsigned: {name: "{random}.fresh.large.minato", type: TXT}
  denied: {name: "{random}.shirube.lab", type: A}
  empty: {name: www.shirube.lab, type: HINFO}
`

// verified has the service resolve in a small Internet, and types what the manual
// ends with, with the profile that it gives.
func verified(t *testing.T, m *machine) {
	profiles, err := manual.Blocks("../../docs/getting-started.md", "As a service of Debian", "yaml")
	if err != nil {
		t.Fatal(err)
	}
	all := commands(t)
	last := all[len(all)-1]
	if !strings.HasPrefix(last, verifies) {
		t.Fatalf("the manual ends with %q", last)
	}
	m.write(t, "etc/shirube/verify.yaml", profiles[0]+world)
	before := m.inside(t)
	if got := m.in(t, "sh", "-c", last); !strings.Contains(got, " 0 failed, 0 warned") || strings.Count(got, "\n  dnssec-bogus     passed") != 2 {
		t.Errorf("%s:\n%s", last, got)
	} else {
		t.Log(got[strings.LastIndexByte(got, '\n')+1:])
	}
	m.outside(t, before)
}

// file is the configuration of the service.
const file = "/etc/shirube/shirube.yaml"

// inside starts a small Internet, and has the service resolve there. It returns the
// configuration that it had.
func (m *machine) inside(t *testing.T) (before string) {
	t.Helper()
	m.in(t, "systemd-run", "--quiet", "--unit=internet", "--setenv=TMPDIR=/srv", "shirube", "demo")
	var journal string
	m.await(t, "the Internet is up", func() bool {
		journal, _ = m.try("journalctl", "--unit=internet", "--no-pager")
		return strings.Contains(journal, "msg=ready")
	})
	port := regexp.MustCompile(`on port (\d+) of`).FindStringSubmatch(journal)
	if port == nil {
		t.Fatalf("at no port: %s", journal)
	}
	m.in(t, "sh", "-c", "install -m 644 /srv/shirube-demo-*/root.hints /etc/shirube/root.hints")
	before = m.in(t, "cat", file)
	m.configure(t, fmt.Sprintf(`listen:
  - address: 127.0.0.1:53
  - address: "[::1]:53"
  - {address: "192.0.2.53:53", freebind: true}
resolver: {root_hints: /etc/shirube/root.hints, port: %s, do_not_query_localhost: false}
builtin_zones: {except: [127.in-addr.arpa]}
access_control:
  - {prefix: 0.0.0.0/0, action: allow}
  - {prefix: "::1/128", action: allow}
dnssec: {root_trust_anchor: false, auto_trust_anchor: false, trust_anchors: ['%s']}
`, port[1], lab.NewSignedWorld(1).Anchor()))
	return before
}

// outside ends the small Internet.
func (m *machine) outside(t *testing.T, before string) {
	t.Helper()
	m.in(t, "systemctl", "stop", "internet")
	m.configure(t, before+"\n")
	m.in(t, "rm", "/etc/shirube/verify.yaml", "/etc/shirube/root.hints") // the package knows nothing of them
}

// configure gives the service another configuration.
func (m *machine) configure(t *testing.T, text string) {
	t.Helper()
	m.write(t, file, text)
	m.in(t, "chmod", "644", file)
	m.in(t, "systemctl", "restart", "shirube")
	m.await(t, "the service answers", m.answers)
}

// announced installs the announcer as its page says, with BIRD as the router, and
// looks at the router's routes while services come and go.
func announced(t *testing.T, m *machine) {
	for _, address := range []string{"192.0.2.53/32", "198.51.100.1/32", "198.51.100.254/32"} {
		m.in(t, "ip", "address", "add", address, "dev", "lo")
	}
	m.configure(t, "listen:\n  - address: 127.0.0.1:53\n  - address: 192.0.2.53:53\naccess_control:\n  - {prefix: 0.0.0.0/0, action: allow}\n")
	m.write(t, "etc/bird/bird.conf", `router id 198.51.100.254;
protocol device { }
protocol bgp node { local 198.51.100.254 as 64511; neighbor 198.51.100.1 as 64512; multihop; passive on; password "secret"; ipv4 { import all; export none; }; }
`)
	m.in(t, "chmod", "644", "/etc/bird/bird.conf")
	m.in(t, "systemctl", "restart", "bird")
	m.write(t, "etc/credstore/shirube-announce.bgp-password", "secret\n")
	m.in(t, "dpkg", "--install", m.debPackage(t, "shirube-announce", "9.0.0"))
	m.write(t, "etc/shirube/announce.yaml", `vips:
  - {address: 192.0.2.53}
probes: {interval: 200ms, timeout: 200ms, rise: 2, fall: 2}
resolver: {admin_socket: /run/shirube/admin.sock}
drain: {graceful: 5m}
bgp:
  asn: 64512
  router_id: 198.51.100.1
  peers:
    - {address: 198.51.100.254, asn: 64511, local_address: 198.51.100.1, multihop: 2, connect_retry: 1s, password_file: /run/credentials/shirube-announce.service/bgp-password}
`)
	m.in(t, "chmod", "644", "/etc/shirube/announce.yaml")
	m.in(t, "shirube-announce", "--check")
	m.in(t, "systemctl", "enable", "--now", "shirube-announce")
	routes := func() string { out, _ := m.try("birdc", "show", "route", "all"); return out }
	there := func() bool { return strings.Contains(routes(), "192.0.2.53/32") }
	m.await(t, "the route has come", there)

	lines := strings.Split(m.in(t, "systemd-analyze", "security", "--no-pager", "--threshold="+maxExposure, "shirube-announce.service"), "\n")
	t.Log(lines[len(lines)-1])
	status := m.in(t, "cat", "/proc/"+m.in(t, "systemctl", "show", "--property=MainPID", "--value", "shirube-announce")+"/status")
	for _, want := range []string{"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(status, want) {
			t.Errorf("it does not run with %q:\n%s", want, status)
		}
	}

	m.in(t, "systemctl", "stop", "shirube")
	m.await(t, "the route of a service that is stopped is gone", func() bool { return !there() })
	m.in(t, "systemctl", "start", "shirube")
	m.await(t, "the route is back", there)

	m.in(t, "systemctl", "stop", "--no-block", "shirube-announce")
	m.await(t, "the route says GRACEFUL_SHUTDOWN", func() bool { return strings.Contains(routes(), "(65535,0)") })
	m.in(t, "systemctl", "kill", "shirube-announce") // the second SIGTERM hastens
	m.await(t, "the route is gone", func() bool { return !there() })
	m.await(t, "the announcer has ended", func() bool {
		out, _ := m.try("systemctl", "show", "--property=ActiveState,Result", "shirube-announce")
		return strings.Contains(out, "ActiveState=inactive") && strings.Contains(out, "Result=success")
	})
	m.in(t, "dpkg", "--purge", "shirube-announce")
}
