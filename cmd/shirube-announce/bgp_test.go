package main

import (
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// routerEnv names the router of the test inside.
const routerEnv = "SHIRUBE_ANNOUNCE_ROUTER"

// TestFailsOverWithBIRD and the next one: two nodes, an ECMP route over both, and
// what becomes of clients when one of them fails.
func TestFailsOverWithBIRD(t *testing.T) {
	t.Parallel()
	inside(t, "TestFailOverInside", routerEnv+"=bird")
}

func TestFailsOverWithFRR(t *testing.T) {
	t.Parallel()
	inside(t, "TestFailOverInside", routerEnv+"=frr")
}

// What the nodes are configured with. An address is withdrawn within withdrawn.
const (
	interval  = 200 * time.Millisecond
	timeout   = 200 * time.Millisecond
	fall      = 2
	withdrawn = fall*interval + timeout
)

// routers start a router and return what it knows of the routes.
var routers = map[string]func(l *lab) (routes func() string){"bird": bird, "frr": frr}

// TestFailOverInside is the other side. There is nothing to test when nobody asks
// for it.
func TestFailOverInside(t *testing.T) {
	if os.Getenv(insideEnv) == "" {
		return
	}
	l := newLab(t)
	table := routers[os.Getenv(routerEnv)](l)
	var resolvers, announcers [2]*process
	for i, node := range nodes {
		l.hasVIPs(node)
		resolvers[i] = l.resolver(node, vip4+":53", "["+vip6+"]:53", fmt.Sprintf("10.99.%d.2:53", i+1), fmt.Sprintf("[fd99:%d::2]:53", i+1))
		announcers[i] = l.announcer(node, l.announceBGP(i))
	}
	both := func(n int) func() bool {
		return func() bool { return l.paths(vip4) == n && l.paths(vip6) == n }
	}
	l.await("both nodes are announced over IPv4 and IPv6", both(2))

	c := newCustomers(l, vip4, vip6)
	c.await("both nodes answer", 200)

	// The resolver dies. Nobody says so.
	killed := time.Now()
	resolvers[0].end(syscall.SIGKILL)
	l.await("the dead one's routes are gone", both(1))
	gone := time.Since(killed)
	c.quiet("after the route had gone")
	settled := time.Now()
	if gone > withdrawn+slack {
		t.Errorf("it was announced for %v; configured are %v", gone, withdrawn)
	}

	// It comes back.
	resolvers[0] = l.resolver("a", vip4+":53", "["+vip6+"]:53", "10.99.1.2:53", "[fd99:1::2]:53")
	l.await("it is announced again", both(2))
	c.quiet("after it had come back")

	// The announcer ends: its routes are marked, and withdrawn when nobody uses them.
	drained := time.Now()
	announcers[0].signal(syscall.SIGTERM)
	l.await("its routes say GRACEFUL_SHUTDOWN, and others are preferred", func() bool {
		t := table()
		return strings.Count(t, "(65535,0)")+strings.Count(t, "graceful-shutdown") >= 2 && both(1)()
	})
	c.quiet("while the announcer drained")
	announcers[0].end(syscall.SIGTERM) // has it wait no longer
	l.await("its routes are withdrawn", func() bool { return !strings.Contains(table(), "10.99.1.2") && !strings.Contains(table(), "fd99:1::2") })
	c.quiet("after the announcer had ended")
	if lost, last := c.lost(drained, time.Now()); lost > 0 {
		t.Errorf("%d questions were lost in a planned end, the last one sent after %v", lost, last)
	}
	announcers[0] = l.announcer("a", l.announceBGP(0))
	l.await("it is announced again", both(2))

	// The announcer dies: its sessions end, and its routes with them.
	announcerKilled := time.Now()
	announcers[0].end(syscall.SIGKILL)
	l.await("the routes are gone with the announcer", both(1))
	t.Logf("measured: %s: announcer killed: routes gone after %v", os.Getenv(routerEnv), time.Since(announcerKilled).Round(time.Millisecond))
	announcers[0] = l.announcer("a", l.announceBGP(0))
	l.await("it is announced again", both(2))

	// All fail for the same cause: nobody is withdrawn for good.
	rate := c.rate()
	c.stop()
	lost, last := c.lost(killed, settled)
	t.Logf("measured: %s: resolver killed: routes gone after %v (configured: %v), %d of %d questions/s lost, the last one sent after %v",
		os.Getenv(routerEnv), gone.Round(time.Millisecond), withdrawn, lost, rate, last.Round(time.Millisecond))
	for _, r := range resolvers {
		r.signal(syscall.SIGKILL)
	}
	l.await("all are announced as the last resort", func() bool { return strings.Count(table(), "1000") >= 4 && l.paths(vip4) == 2 && l.paths(vip6) == 2 })
}

// slack is what a loaded machine may take longer. It is far less than a hold time:
// sessions that end are not what takes the routes away.
const slack = 10 * time.Second

// announceBGP returns the configuration of the announcer of a node.
func (l *lab) announceBGP(i int) string {
	other := 2 - i
	return fmt.Sprintf(`
vips:
  - {address: %s}
  - {address: "%s"}
resolver: {admin_socket: %s}
probes: {interval: %dms, timeout: %dms, rise: 2, fall: %d}
fleet: {members: ["10.99.%d.2", "fd99:%d::2"]}
drain: {graceful: 5m, settle: 200ms}
bgp:
  asn: 64512
  router_id: 10.99.0.%d
  peers:
    - {address: 10.99.%d.1, asn: 64511, password_file: %s, connect_retry: 1s, hold_time: 1m}
    - {address: "fd99:%d::1", asn: 64511, password_file: %s, connect_retry: 1s, hold_time: 1m}
`, vip4, vip6, l.socket(nodes[i]), interval.Milliseconds(), timeout.Milliseconds(), fall, other, other,
		i+2, i+1, l.password(), i+1, l.password())
}

// password returns a file with the password of the sessions.
func (l *lab) password() string { return l.write("password", "shirube-rfc2385\n") }

// bird starts a BIRD that takes the nodes' routes.
func bird(l *lab) func() string {
	conf := `
log stderr all;
router id 10.99.0.1;
protocol device { scan time 1; }
protocol kernel k4 { merge paths on; ipv4 { import none; export all; }; }
protocol kernel k6 { merge paths on; ipv6 { import none; export all; }; }
filter vips {
	if (65535, 0) ~ bgp_community then bgp_local_pref = 0;
	accept;
}
`
	for i, node := range nodes {
		conf += fmt.Sprintf(`
protocol bgp %[1]s4 { local 10.99.%[2]d.1 as 64511; neighbor 10.99.%[2]d.2 as 64512; passive on; password "shirube-rfc2385"; ipv4 { import filter vips; export none; }; }
protocol bgp %[1]s6 { local fd99:%[2]d::1 as 64511; neighbor fd99:%[2]d::2 as 64512; passive on; password "shirube-rfc2385"; ipv6 { import filter vips; export none; }; }
`, node, i+1)
	}
	socket := l.dir + "/bird.ctl"
	file := l.write("bird.conf", conf)
	l.run("bird", "-p", "-c", file)
	l.start("", "bird", "-f", "-c", file, "-s", socket)
	l.await("BIRD listens", func() bool { _, err := os.Stat(socket); return err == nil })
	return func() string { return l.birdRoutes(socket) }
}

// frr starts an FRR that takes the nodes' routes.
func frr(l *lab) func() string {
	conf := `
frr version 8.4
frr defaults datacenter
hostname router
router bgp 64511
 bgp router-id 10.99.0.1
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
`
	var four, six string
	for i := range nodes {
		for _, peer := range []string{fmt.Sprintf("10.99.%d.2", i+1), fmt.Sprintf("fd99:%d::2", i+1)} {
			conf += fmt.Sprintf(" neighbor %[1]s remote-as 64512\n neighbor %[1]s password shirube-rfc2385\n neighbor %[1]s passive\n", peer)
			to := &four
			if strings.Contains(peer, ":") {
				to = &six
			}
			*to += fmt.Sprintf("  neighbor %[1]s activate\n  neighbor %[1]s route-map VIPS in\n  neighbor %[1]s route-map NOTHING out\n", peer)
		}
	}
	conf += " address-family ipv4 unicast\n  maximum-paths 16\n" + four + " exit-address-family\n"
	conf += " address-family ipv6 unicast\n  maximum-paths 16\n" + six + " exit-address-family\n!\n"
	conf += `bgp community-list standard DRAINING permit graceful-shutdown
route-map VIPS permit 10
 match community DRAINING
 set local-preference 0
route-map VIPS permit 20
route-map NOTHING deny 10
`
	file := l.write("frr.conf", conf)
	l.run("vtysh", "-C", "-f", file)
	// It wants its user in a group for its sockets; nobody else sees this file.
	groups, err := os.ReadFile("/etc/group")
	if err != nil {
		l.t.Fatal(err)
	}
	l.run("mount", "--bind", l.write("group", regexp.MustCompile(`(?m)^(frrvty:.*)$`).ReplaceAllString(string(groups), "$1,root")), "/etc/group")
	zserv := l.dir + "/zserv.sock"
	common := []string{"-u", "root", "-g", "root", "-f", file, "-z", zserv, "--vty_socket", l.dir, "-P", "0"}
	l.start("", "/usr/lib/frr/zebra", append([]string{"-i", l.dir + "/zebra.pid"}, common...)...)
	l.await("zebra listens", func() bool { _, err := os.Stat(zserv); return err == nil })
	l.start("", "/usr/lib/frr/bgpd", append([]string{"-i", l.dir + "/bgpd.pid"}, common...)...)
	l.await("bgpd listens", func() bool { _, err := os.Stat(l.dir + "/bgpd.vty"); return err == nil })
	show := func(what string) string {
		return l.run("vtysh", "--vty_socket", l.dir, "-d", "bgpd", "-c", what)
	}
	return func() string {
		return show("show bgp ipv4 unicast "+vip4) + show("show bgp ipv6 unicast "+vip6)
	}
}

// customers ask for localhost at the addresses by turns, each question from a port of
// its own, so that it goes either way.
type customers struct {
	l         *lab
	addresses []string
	stopped   chan struct{}
	wg        sync.WaitGroup
	sent      atomic.Int64
	began     time.Time

	mu    sync.Mutex
	open  map[int64]time.Time // when those were sent that are under way
	fails []time.Time         // when those were sent that had no answer
}

// How clients ask.
const (
	pace     = 5 * time.Millisecond
	deadline = 10 * time.Second // for an answer: it is lost, or the machine is loaded
)

func newCustomers(l *lab, addresses ...string) *customers {
	c := &customers{l: l, addresses: addresses, stopped: make(chan struct{}), open: map[int64]time.Time{}, began: time.Now()}
	c.wg.Go(func() { // ends with stop
		tick := time.NewTicker(pace)
		defer tick.Stop()
		for i := 0; ; i++ {
			select {
			case <-tick.C:
				to := addresses[i%len(addresses)]
				c.wg.Go(func() { c.ask(to) }) // ends with deadline; deadline/pace of them at most
			case <-c.stopped:
				return
			}
		}
	})
	l.t.Cleanup(c.stop)
	return c
}

func (c *customers) stop() {
	select {
	case <-c.stopped:
	default:
		close(c.stopped)
	}
	c.wg.Wait()
}

// ask asks one question.
func (c *customers) ask(to string) {
	at, id := time.Now(), c.sent.Add(1)
	c.mu.Lock()
	c.open[id] = at
	c.mu.Unlock()
	q := new(dns.Msg).SetQuestion("localhost.", dns.TypeA)
	client := dns.Client{Timeout: deadline}
	r, _, err := client.Exchange(q, net.JoinHostPort(to, "53"))
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, id)
	if err != nil || len(r.Answer) == 0 {
		c.fails = append(c.fails, at)
	}
}

// await waits until so many more questions were asked and their time is over.
func (c *customers) await(what string, n int64) {
	c.l.t.Helper()
	to := c.sent.Load() + n
	c.l.await(what, func() bool { return c.sent.Load() >= to })
}

// quiet fails the test if one of the next questions is lost. It does not wait for those
// of before, of which some are lost, and that takes deadline.
func (c *customers) quiet(when string) {
	c.l.t.Helper()
	from := time.Now()
	c.await(when, 200)
	until := time.Now()
	c.l.await("what was asked is answered or lost", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, at := range c.open {
			if !at.Before(from) && at.Before(until) {
				return false
			}
		}
		return true
	})
	if n, last := c.lost(from, until); n > 0 {
		c.l.t.Errorf("%s %d questions were lost, the last one sent after %v", when, n, last)
	}
}

// lost returns how many questions that were sent between two times had no answer, as
// far as that is known, and how long after the first time the last of them was sent.
func (c *customers) lost(from, until time.Time) (n int, last time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.fails {
		if f.After(from) && f.Before(until) {
			n++
			last = max(last, f.Sub(from))
		}
	}
	return n, last
}

// rate returns how many questions were asked in a second.
func (c *customers) rate() int { return int(float64(c.sent.Load()) / time.Since(c.began).Seconds()) }
