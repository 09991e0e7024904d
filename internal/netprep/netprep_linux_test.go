package netprep

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long anything here is waited for. AdvIntervalOpt below allows radvd
// less than three seconds between advertisements (RFC 6275 §7.5).
const patience = 20 * time.Second

// insideEnv is set in the process with mounts and a network of its own, in which the
// tests are.
const insideEnv = "SHIRUBE_NETPREP_INSIDE"

func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) != "" {
		os.Exit(m.Run()) //nolint:forbidigo // TestMain is main here
	}
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	runtime.LockOSThread() // Pdeathsig is about the thread
	err := cmd.Run()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		fmt.Fprintln(os.Stderr, "a network namespace takes root:", err)
	}
	os.Exit(cmd.ProcessState.ExitCode()) //nolint:forbidigo // TestMain is main here: returning would be success
}

// vlan is the network of a pod, which the test is in, with eth0 in the cluster and
// net1 in a VLAN. Behind each is a router, in a network of its own.
type vlan struct {
	*testing.T
	router string // the process that holds its network
}

// newVLAN makes one. The thread of the test is in it, and ends with the test. Tests
// mostly wait for what the kernel and the router do at times of their own, and each
// has networks of its own: they are parallel.
func newVLAN(t *testing.T) *vlan {
	t.Helper()
	runtime.LockOSThread() // and never unlocked
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	holder := exec.Command("sleep", "600")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = holder.Process.Kill() // it may have ended with the thread
		_ = holder.Wait()         // it was killed
	})
	v := &vlan{t, strconv.Itoa(holder.Process.Pid)}
	for _, line := range []string{
		"ip link set lo up",
		"ip link add net1 type veth peer name r1 netns " + v.router, "ip link add eth0 type veth peer name r0 netns " + v.router,
		"R ip link set r1 up", "R ip link set r0 up", "R sh -c 'echo 1 > /proc/sys/net/ipv6/conf/all/forwarding'",
		"R ip address add 2001:db8:5::1/64 dev r1 nodad", "R ip address add 192.0.2.1/24 dev r1",
		"ip link set net1 up", "ip link set eth0 up", "ip address add 2001:db8:5::11/64 dev net1", "ip address add 192.0.2.11/24 dev net1",
		"ip address add 10.128.0.5/24 dev eth0", "ip address add fd01::5/64 dev eth0 nodad",
		"ip route add default via 10.128.0.1 dev eth0", "ip -6 route add default via fd01::1 dev eth0",
	} {
		v.sh(line)
	}
	return v
}

// advertise has the router of the VLAN send advertisements: of a network of their
// own, which is for addresses, of the one that net1 has an address in, and of a
// route.
func (v *vlan) advertise() {
	v.Helper()
	conf := filepath.Join(v.TempDir(), "radvd.conf")
	const text = `interface r1 {
  AdvSendAdvert on; AdvIntervalOpt on; MinDelayBetweenRAs 0.05; MinRtrAdvInterval 0.3; MaxRtrAdvInterval 0.5; AdvDefaultLifetime 600; AdvDefaultPreference high;
  prefix 2001:db8:bad::/64 { AdvOnLink on; AdvAutonomous on; };
  prefix 2001:db8:bad:1::/64 { AdvOnLink on; AdvAutonomous on; AdvValidLifetime infinity; AdvPreferredLifetime infinity; };
  prefix 2001:db8:5::/64 { AdvOnLink on; AdvAutonomous on; };
  route 2001:db8:bad:2::/64 { AdvRouteLifetime 600; };
};
`
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		v.Fatal(err)
	}
	radvd := exec.Command("nsenter", "-t", v.router, "-n", "radvd", "-n", "-C", conf, "-p", filepath.Join(v.TempDir(), "pid"), "-m", "stderr", "-u", "root")
	var log bytes.Buffer
	radvd.Stdout, radvd.Stderr = &log, &log
	radvd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := radvd.Start(); err != nil {
		v.Fatalf("%v (tools/install-test-deps installs radvd)", err)
	}
	v.Cleanup(func() {
		_ = radvd.Process.Kill() // it may have ended with the thread
		_ = radvd.Wait()         // it was killed
		if v.Failed() {
			v.Logf("radvd:\n%s", log.Bytes())
		}
	})
}

// sh runs a command; R is: at the router.
func (v *vlan) sh(line string) string {
	v.Helper()
	if rest, ok := strings.CutPrefix(line, "R "); ok {
		line = "nsenter -t " + v.router + " -n " + rest
	}
	out, err := exec.Command("sh", "-c", line).CombinedOutput()
	if err != nil {
		v.Fatalf("%s: %v: %s", line, err, out)
	}
	return string(out)
}

// until waits for something.
func (v *vlan) until(what string, is func() bool) {
	v.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			v.Fatalf("not within %v: %s\n%s", patience, what, v.network())
		}
	}
}

// network is all there is to see of net1.
func (v *vlan) network() string {
	return v.sh("ip address show dev net1; ip -6 route; ip -4 route")
}

// advertised returns what net1 has by advertisements: lines of ip(8).
func (v *vlan) advertised() (lines []string) {
	for line := range strings.Lines(v.network()) {
		if strings.Contains(line, "2001:db8:bad") || strings.Contains(line, "proto ra") || strings.Contains(line, "dynamic") || strings.Contains(line, "expires") {
			lines = append(lines, line)
		}
	}
	return lines
}

// sent returns how many advertisements the router has sent.
func (v *vlan) sent() int {
	for line := range strings.Lines(v.sh("R cat /proc/" + v.router + "/net/dev_snmp6/r1")) {
		// Type 134 (RFC 4861 §4.2).
		if f := strings.Fields(line); len(f) == 2 && f[0] == "Icmp6OutType134" {
			n, _ := strconv.Atoi(f[1]) // the kernel writes numbers
			return n
		}
	}
	return 0
}

// stayAway waits until the router has sent some more advertisements, and holds net1
// to have taken nothing of them.
func (v *vlan) stayAway() {
	v.Helper()
	before := v.sent()
	v.until("five more advertisements", func() bool { return v.sent() >= before+5 })
	if lines := v.advertised(); lines != nil {
		v.Errorf("what was advertised is there again: %q", lines)
	}
}

// options is what the overlay asks for.
func options() Options {
	return Options{
		Interface: "net1", RejectRA: WayAuto,
		Gateways:      []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8:5::1")},
		ClusterRoutes: []netip.Prefix{netip.MustParsePrefix("10.128.0.0/14"), netip.MustParsePrefix("172.30.0.0/16"), netip.MustParsePrefix("fd01::/48")},
	}
}

// run runs netprep, and returns what it says that it does.
func (v *vlan) run(o Options) (said []string, err error) {
	ctx, cancel := context.WithTimeout(v.Context(), patience)
	defer cancel()
	err = Run(ctx, o, func(s Step) { said = append(said, s.String()) })
	return said, err
}

// prepare runs it, and has it succeed.
func (v *vlan) prepare(o Options) []string {
	v.Helper()
	said, err := v.run(o)
	if err != nil {
		v.Fatalf("%v\n%s", err, v.network())
	}
	return said
}

// plan returns what is missing.
func (v *vlan) plan(o Options) []string {
	v.Helper()
	steps, err := Plan(o)
	if err != nil {
		v.Fatal(err)
	}
	var said []string
	for _, s := range steps {
		said = append(said, s.String())
	}
	return said
}

// TestDeletingOnceIsNotEnough shows what the rule is for: without it, what was
// deleted comes back.
func TestDeletingOnceIsNotEnough(t *testing.T) {
	t.Parallel()
	v := newVLAN(t)
	v.advertise()
	v.until("an address comes by advertisement", func() bool { return v.advertised() != nil })
	v.sh("ip -6 address flush dev net1 scope global dynamic")
	v.until("the address is back", func() bool { return strings.Contains(v.sh("ip address show dev net1"), "2001:db8:bad:") })
}

func TestAdvertisementsAreKeptOutForGood(t *testing.T) {
	t.Parallel()
	v := newVLAN(t)
	v.advertise()
	v.until("addresses and routes come by advertisement", func() bool {
		return strings.Count(v.sh("ip address show dev net1"), "2001:db8:bad:") == 2 && strings.Contains(v.sh("ip -6 route"), "proto ra")
	})
	said := v.prepare(options())
	if lines := v.advertised(); lines != nil {
		t.Errorf("what was advertised is still there: %q", lines)
	}
	v.stayAway()
	v.holdRoutes()
	if got := v.sh("ip -6 address show dev net1"); strings.Contains(got, "tentative") || !strings.Contains(got, "2001:db8:5::11/64") {
		t.Errorf("the address is not usable:\n%s", got)
	}
	if !slices.Contains(said, "have router advertisements on net1 dropped (nftables)") || !slices.Contains(said, "add the route IPv4 default via 192.0.2.1 dev net1 src 192.0.2.11") {
		t.Errorf("it says that it does %q", said)
	}
	if again := v.prepare(options()); again != nil {
		t.Errorf("a second time it does %q", again)
	}
}

// holdRoutes compares the routes with those that options() wants.
func (v *vlan) holdRoutes() {
	v.Helper()
	for _, c := range []struct{ command, want string }{
		{"ip -6 route show default", "default via 2001:db8:5::1 dev net1 proto static src 2001:db8:5::11 metric 1024 pref medium\n"},
		{"ip -4 route show default", "default via 192.0.2.1 dev net1 proto static src 192.0.2.11 \n"},
		{"ip -4 route show 10.128.0.0/14", "10.128.0.0/14 via 10.128.0.1 dev eth0 proto static \n"},
		{"ip -4 route show 172.30.0.0/16", "172.30.0.0/16 via 10.128.0.1 dev eth0 proto static \n"},
		{"ip -6 route show fd01::/48", "fd01::/48 via fd01::1 dev eth0 proto static metric 1024 pref medium\n"},
		{"ip -6 route show 2001:db8:5::/64", "2001:db8:5::/64 dev net1 proto kernel metric 256 pref medium\n"},
	} {
		if got := v.sh(c.command); got != c.want {
			v.Errorf("%s:\n%s\nwant\n%s", c.command, got, c.want)
		}
	}
}

func TestAdvertisementsThatBeginLaterAreKeptOut(t *testing.T) {
	t.Parallel()
	for _, way := range []Way{WayNFTables, WaySysctl} {
		t.Run(string(way), func(t *testing.T) {
			t.Parallel()
			v := newVLAN(t)
			o := options()
			o.RejectRA = way
			v.prepare(o)
			v.advertise()
			v.stayAway()
			v.holdRoutes()
			if missing := v.plan(o); missing != nil {
				t.Errorf("missing is %q", missing)
			}
		})
	}
}

func TestAdvertisementsAreTakenWhereTheyAreWanted(t *testing.T) {
	t.Parallel()
	v := newVLAN(t)
	o := options()
	o.RejectRA, o.Gateways, o.ClusterRoutes = WayNone, nil, nil
	v.prepare(o)
	v.advertise()
	v.until("an address comes by advertisement", func() bool { return v.advertised() != nil })
	if missing := v.plan(o); missing != nil && !strings.HasPrefix(missing[0], "wait ") {
		t.Errorf("missing is %q", missing)
	}
}

// TestReadOnlySysctlsAreAnErrorThatSaysSo mounts what all see: it is over before those
// run that are parallel.
func TestReadOnlySysctlsAreAnErrorThatSaysSo(t *testing.T) {
	v := newVLAN(t)
	v.sh("mount --make-rprivate / && mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys")
	t.Cleanup(func() { _ = exec.Command("umount", "/proc/sys").Run() }) // the mounts end with the tests
	o := options()
	o.RejectRA = WaySysctl
	_, err := v.run(o)
	for _, want := range []string{"net.ipv6.conf.net1.accept_ra", "/proc/sys is read-only", "read-only file system", "the way nftables"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("found %v; expected it to say %s", err, want)
		}
	}
	// The rule does without.
	v.advertise()
	v.until("an address comes by advertisement", func() bool { return v.advertised() != nil })
	v.prepare(options())
	v.stayAway()
}

func TestPlanSaysWhatSomebodyHasUndone(t *testing.T) {
	t.Parallel()
	v := newVLAN(t)
	v.prepare(options())
	for _, c := range []struct{ undo, want string }{
		{"nft flush chain ip6 shirube-netprep net1", "have router advertisements on net1 dropped (nftables)"},
		{"nft delete table ip6 shirube-netprep", "have router advertisements on net1 dropped (nftables)"},
		{"nft flush chain ip6 shirube-netprep net1 && nft add rule ip6 shirube-netprep net1 iifname net2 icmpv6 type nd-router-advert drop", "have router advertisements on net1 dropped (nftables)"},
		{"ip route del default", "add the route IPv4 default via 192.0.2.1 dev net1 src 192.0.2.11"},
		{"ip -6 route del default", "add the route IPv6 default via 2001:db8:5::1 dev net1 src 2001:db8:5::11"},
		{"ip -6 route add default via fd01::1 dev eth0 metric 1", "delete the route IPv6 default via fd01::1 dev eth0"},
	} {
		v.sh(c.undo)
		before := v.network()
		if missing := v.plan(options()); !slices.Equal(missing, []string{c.want}) {
			t.Errorf("after %s missing is %q; expected %q", c.undo, missing, c.want)
		}
		if after := v.network(); after != before {
			t.Errorf("looking has changed the network from\n%s\nto\n%s", before, after)
		}
		v.prepare(options())
		if missing := v.plan(options()); missing != nil {
			t.Errorf("after %s and again it, missing is %q", c.undo, missing)
		}
	}
}

func TestInterfacesHaveRulesOfTheirOwn(t *testing.T) {
	t.Parallel()
	v := newVLAN(t)
	v.prepare(options())
	other := Options{Interface: "eth0", RejectRA: WayNFTables}
	v.prepare(other)
	for _, o := range []Options{options(), other} {
		if missing := v.plan(o); missing != nil {
			t.Errorf("%s: missing is %q", o.Interface, missing)
		}
	}
	v.advertise()
	v.stayAway()
}

func TestAddressesAreAddedAndUsableAtOnce(t *testing.T) {
	t.Parallel()
	v := newVLAN(t)
	o := options()
	o.Addresses = []netip.Prefix{netip.MustParsePrefix("2001:db8:6::53/64"), netip.MustParsePrefix("198.51.100.53/24")}
	o.Gateways = []netip.Addr{netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("2001:db8:6::1")}
	v.prepare(o)
	for _, a := range o.Addresses {
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a.Addr(), 0)))
		if err != nil {
			t.Errorf("%v\n%s", err, v.network())
			continue
		}
		_ = c.Close() // nothing was sent
	}
	if got := v.sh("ip -6 route show default"); !strings.Contains(got, "via 2001:db8:6::1 dev net1 proto static src 2001:db8:6::53") {
		t.Errorf("the route is %s", got)
	}
	if again := v.prepare(o); again != nil {
		t.Errorf("a second time it does %q", again)
	}
}

func TestAddressOfSomebodyElseIsAnError(t *testing.T) {
	t.Parallel()
	v := newVLAN(t)
	o := options()
	o.Addresses = []netip.Prefix{netip.MustParsePrefix("2001:db8:5::1/64")} // the router's
	if _, err := v.run(o); err == nil || !strings.Contains(err.Error(), "the address 2001:db8:5::1/64 is somebody else's, too") {
		t.Errorf("found %v", err)
	}
}

func TestLinkLocalGatewayHasTheOneAddressAsSource(t *testing.T) {
	t.Parallel()
	v := newVLAN(t)
	v.sh("R ip address add fe80::1/64 dev r1 nodad")
	o := options()
	o.Gateways = []netip.Addr{netip.MustParseAddr("fe80::1")}
	o.ClusterRoutes = nil
	v.prepare(o)
	if got := v.sh("ip -6 route show default"); !strings.Contains(got, "via fe80::1 dev net1 proto static src 2001:db8:5::11") {
		t.Errorf("the route is %s", got)
	}
}

func TestInterfaceThatComesLaterIsWaitedFor(t *testing.T) {
	t.Parallel()
	v := newVLAN(t)
	v.sh("ip link set net1 name net7")
	renamed := false
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	o := options()
	o.Addresses = []netip.Prefix{netip.MustParsePrefix("2001:db8:5::11/64")} // which has gone with the name
	// Nothing is reported while it is not there: the renaming is done by another
	// process in the same network.
	cmd := exec.Command("sh", "-c", "sleep 0.3; ip link set net7 down; ip link set net7 name net1; ip link set net1 up")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := Run(ctx, o, func(Step) { renamed = true }); err != nil || !renamed {
		t.Errorf("found %v\n%s", err, v.network())
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestWhatCannotBePreparedIsAnError(t *testing.T) {
	newVLAN(t)
	with := func(change func(*Options)) Options {
		o := options()
		change(&o)
		return o
	}
	for _, c := range []struct {
		o    Options
		want string
	}{
		{with(func(o *Options) { o.Interface = "nosuch0" }), "interface nosuch0: not done in time"},
		{with(func(o *Options) { o.Interface = "" }), `found the interface ""`},
		{with(func(o *Options) { o.Interface = "../all" }), `found the interface "../all"`},
		{with(func(o *Options) { o.Interface = "a-name-of-16-oct" }), "a name of 1 to 15 octets"},
		{with(func(o *Options) { o.RejectRA = "perhaps" }), `found the way "perhaps"; expected one of [auto nftables sysctl no]`},
		{with(func(o *Options) { o.ClusterRoutes = make([]netip.Prefix, MaxRoutes+1) }), "found 65 addresses or networks; expected 64 at most"},
		{with(func(o *Options) { o.Gateways = append(o.Gateways, netip.MustParseAddr("192.0.2.2")) }), "found a second gateway of a family: 192.0.2.2"},
		{with(func(o *Options) { o.Gateways = []netip.Addr{netip.MustParseAddr("ff02::2")} }), "found the gateway ff02::2"},
		{with(func(o *Options) { o.Gateways = o.Gateways[:1] }), "found the network fd01::/48; expected a gateway of its family"},
		{with(func(o *Options) { o.ClusterRoutes[0] = netip.MustParsePrefix("10.128.0.1/14") }), "found the network 10.128.0.1/14"},
		{with(func(o *Options) { o.Gateways[0] = netip.MustParseAddr("203.0.113.1") }), "found the gateway 203.0.113.1; expected one in a network of its addresses [192.0.2.11]"},
		{with(func(o *Options) {
			o.Interface = "eth0"
			o.Gateways[0] = netip.MustParseAddr("10.128.0.1")
			o.Gateways[1] = netip.MustParseAddr("fd01::1")
		}), "the network 10.128.0.0/14 has no route by another interface"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		if err := Run(ctx, c.o, func(Step) {}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("found %v; expected %s", err, c.want)
		}
		cancel()
	}
}

// without runs f with a thread that lacks the capability NET_ADMIN.
func without(t *testing.T, f func()) {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var had, less [2]unix.CapUserData
	if err := unix.Capget(&header, &had[0]); err != nil {
		t.Fatal(err)
	}
	less = had
	less[0].Effective &^= 1 << unix.CAP_NET_ADMIN
	if err := unix.Capset(&header, &less[0]); err != nil {
		t.Fatal(err)
	}
	f()
	if err := unix.Capset(&header, &had[0]); err != nil {
		t.Fatal(err)
	}
}

func TestWithoutTheCapabilityOnlyTheRuleIsNotSeen(t *testing.T) {
	t.Parallel()
	v := newVLAN(t)
	v.prepare(options())
	without(t, func() {
		steps, err := Plan(options())
		if err != nil || len(steps) != 1 || !steps[0].Unseen() {
			t.Errorf("found %v, %v", steps, err)
		}
		o := options()
		o.RejectRA = WayNone
		o.Gateways[0] = netip.MustParseAddr("192.0.2.7")
		if _, err := v.run(o); err == nil || !strings.Contains(err.Error(), "delete the route IPv4 default via 192.0.2.1 dev net1 src 192.0.2.11: operation not permitted: the capability NET_ADMIN is needed") {
			t.Errorf("found %v", err)
		}
		if _, err := v.run(options()); err == nil || !strings.Contains(err.Error(), "have router advertisements on net1 dropped (nftables): operation not permitted: the capability NET_ADMIN is needed") {
			t.Errorf("found %v", err)
		}
	})
}
