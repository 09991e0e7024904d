//go:build image

// What takes long, root, and the image: `make image-test`.

package kubernetes_test

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/deploy/image/imagetest"
	"shirube/internal/lab"
	"shirube/internal/lab/ca"
	"shirube/internal/memcached"
)

// insideEnv is set in the process that is in a network of its own.
const insideEnv = "SHIRUBE_PODS_INSIDE"

// patience is how long anything here is waited for.
const patience = time.Minute

// clusterDNS is where the configuration says that it is.
const clusterDNS = "10.96.0.10"

// TestPodsOfTheManifestsAreVerified goes the way of docs/kubernetes.md without a
// cluster: the containers of the manifests, with what is mounted and allowed there,
// in a network of the test's own, up to the Job that verifies them.
func TestPodsOfTheManifestsAreVerified(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPodsInside$", "-test.v", "-test.count=1")
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	text, err := cmd.CombinedOutput()
	t.Logf("%s", text)
	if err != nil || !bytes.Contains(text, []byte("--- PASS: TestPodsInside")) {
		t.Fatal(err)
	}
}

// TestPodsInside is played by the test above.
func TestPodsInside(t *testing.T) {
	if os.Getenv(insideEnv) == "" {
		return
	}
	p := newPods(t)
	p.prepareNetwork()
	p.collect()
	for _, name := range []string{"a", "b"} {
		p.serve(name)
	}
	for _, name := range []string{"a", "b"} {
		p.await(name)
	}
	p.verify()
}

// pods is where the containers are, and what they are given.
type pods struct {
	*testing.T
	podman  func(args ...string) string
	image   string
	version string
	dir     string
	list    []object // the manifests
	lab     *lab.Lab
	cache   *memcached.Process
}

// addresses are those of a pod in the VLAN.
func addresses(name string) (four, six string) {
	last := map[string]int{"a": 17, "b": 18}[name]
	return fmt.Sprintf("192.0.2.%d", last), fmt.Sprintf("2001:db8:100::%d", last)
}

// newPods makes the network, and what is in it besides pods: name servers of a small
// Internet, memcached, and the DNS of the cluster.
func newPods(t *testing.T) *pods {
	t.Helper()
	p := &pods{T: t, podman: imagetest.Podman(t), dir: t.TempDir(), list: build(t, "overlays/openshift-multus")}
	for _, line := range []string{
		"link set lo up", "address add " + clusterDNS + "/32 dev lo",
		"link add net1 type veth peer name vlan", "link add eth0 type veth peer name cluster",
		"link set net1 up", "link set vlan up", "link set eth0 up", "link set cluster up",
		"address add 10.128.0.5/24 dev eth0", "address add fd01::5/64 dev eth0 nodad",
		"route add default via 10.128.0.1 dev eth0", "-6 route add default via fd01::1 dev eth0",
	} {
		p.ip(line)
	}
	for _, name := range []string{"a", "b"} {
		four, six := addresses(name)
		p.ip("address add " + four + "/24 dev net1")
		p.ip("address add " + six + "/64 dev net1")
	}
	var err error
	if p.lab, err = lab.Start(t.Context(), lab.Options{Seed: 1, Signed: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.lab.Close)
	p.cache = memcached.Start(t)
	p.answerForTheCluster()
	loaded := p.podman("load", "--quiet", "-i", "../../dist/shirube-image.tar")
	_, p.image, _ = strings.Cut(loaded, ": ")
	_, p.version, _ = strings.Cut(p.image, "shirube:")
	p.files()
	return p
}

// ip runs ip(8).
func (p *pods) ip(line string) {
	p.Helper()
	if out, err := exec.CommandContext(p.Context(), "ip", strings.Fields(line)...).CombinedOutput(); err != nil {
		p.Fatalf("ip %s: %v\n%s", line, err, out)
	}
}

// answerForTheCluster answers for names of services.
func (p *pods) answerForTheCluster() {
	p.Helper()
	_, port, err := net.SplitHostPort(p.cache.Addr.String())
	if err != nil {
		p.Fatal(err)
	}
	a4, _ := addresses("a") // the Service is of one family
	b4, _ := addresses("b")
	records := map[string][]dns.RR{}
	for _, line := range []string{
		"_memcache._tcp.memcached.dns.svc.cluster.local. 5 IN SRV 0 100 " + port + " memcached-0.memcached.dns.svc.cluster.local.",
		"memcached-0.memcached.dns.svc.cluster.local. 5 IN A 127.0.0.1",
		"dnstap-collector.dns.svc.cluster.local. 5 IN A 127.0.0.1",
		"shirube-pods.dns.svc.cluster.local. 5 IN A " + a4, "shirube-pods.dns.svc.cluster.local. 5 IN A " + b4,
	} {
		rr, err := dns.NewRR(line)
		if err != nil {
			p.Fatal(err)
		}
		key := fmt.Sprint(rr.Header().Name, rr.Header().Rrtype)
		records[key] = append(records[key], rr)
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.Authoritative = true
		m.Answer = records[fmt.Sprint(strings.ToLower(q.Question[0].Name), q.Question[0].Qtype)]
		_ = w.WriteMsg(m) // who asks asks again
	})
	for _, network := range []string{"udp", "tcp"} {
		ready := make(chan struct{})
		s := &dns.Server{Addr: clusterDNS + ":53", Net: network, Handler: handler, NotifyStartedFunc: func() { close(ready) }}
		failed := make(chan error, 1)
		go func() { failed <- s.ListenAndServe() }() // ends with Shutdown
		select {
		case <-ready:
		case err := <-failed:
			p.Fatal(err)
		}
		p.Cleanup(func() { _ = s.Shutdown() }) // nobody asks any more
	}
}

// file writes a file that the containers read.
func (p *pods) file(name, text string) {
	p.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		p.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		p.Fatal(err)
	}
}

// files writes what ConfigMaps and secrets hold.
func (p *pods) files() {
	p.Helper()
	authority, err := ca.New("Authority of this test")
	if err != nil {
		p.Fatal(err)
	}
	leaf := ca.Leaf{Names: []string{"dns.isp.example"}, Life: 30 * 24 * time.Hour}
	for _, name := range []string{"a", "b"} {
		four, six := addresses(name)
		leaf.Addrs = append(leaf.Addrs, netip.MustParseAddr(four), netip.MustParseAddr(six))
	}
	issued, err := authority.Issue(leaf)
	if err != nil {
		p.Fatal(err)
	}
	p.file("tls/tls.crt", string(issued.Certificate))
	p.file("tls/tls.key", string(issued.Key))
	p.file("authorities/ca.crt", string(authority.PEM()))
	for name, octets := range map[string]int{"cookies": 16, "tickets": 32, "shared-cache": 32, "admin-token": 32} {
		p.file("secrets/"+name, strings.Repeat("5a", octets))
	}
	p.file("resolv.conf", "nameserver "+clusterDNS+"\n")
	for _, name := range []string{"a", "b"} {
		p.file("config-"+name+"/shirube.yaml", p.configuration(name))
		p.file("config-"+name+"/hints", p.lab.Hints())
	}
	profile, _ := at(find(p.T, build(p.T, "verify"), "ConfigMap", "shirube-verify"), "data", "profile.yaml").(string)
	p.file("verify/profile.yaml", p.profile(profile))
	if err := os.Chmod(p.dir, 0o755); err != nil {
		p.Fatal(err)
	}
}

// replaced replaces each of some pieces of text, which have to be there.
func (p *pods) replaced(text string, pairs ...string) string {
	p.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			p.Fatalf("there is no %q in\n%s", pairs[i], text)
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

// configuration is that of the manifests, but for the Internet, and for the addresses:
// the pods here are in one network.
func (p *pods) configuration(name string) string {
	p.Helper()
	text, _ := at(find(p.T, p.list, "ConfigMap", "shirube"), "data", "shirube.yaml").(string)
	four, six := addresses(name)
	return p.replaced(text, "0.0.0.0:", four+":", "[::]:", "["+six+"]:",
		"dnssec:\n", fmt.Sprintf("dnssec:\n  root_trust_anchor: false\n  auto_trust_anchor: false\n  trust_anchors: ['%s']\n", p.lab.Anchor())) +
		fmt.Sprintf("resolver: {root_hints: /etc/shirube/hints, port: %d, do_not_query_localhost: false}\n", p.lab.Port())
}

// profile is that of the Job, but for names of the Internet.
func (p *pods) profile(text string) string {
	p.Helper()
	return p.replaced(text, "{random}.verify.isp.example", "{random}.fresh.large.minato", "questions:\n", `questions:
  good: {name: www.shirube.lab, type: A}
  bogus: {name: www.expired.lab, type: A}
  unsigned: {name: "{random}.fresh.large.minato", type: TXT}
  denied: {name: "{random}.shirube.lab", type: A}
  empty: {name: www.shirube.lab, type: HINFO}
  big: {name: many.large.minato, type: TXT}
`, "samples: 500, median: 20ms, worst: 200ms", "samples: 50, median: 1s, worst: 3s")
}

// start starts a container as a kubelet does: with what its security context says,
// and volumes.
func (p *pods) start(name string, c any, args []string, more ...string) string {
	p.Helper()
	all := []string{
		"run", "--name", name, "--hostname", name, "--network", "host", "--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges",
		"--ulimit", "nofile=16384:16384", "--ulimit", "nproc=4096:4096", "--memory", "512m", "--volume", p.dir + "/resolv.conf:/etc/resolv.conf:ro",
	}
	for _, capability := range texts(at(c, "securityContext", "capabilities", "add")) {
		all = append(all, "--cap-add", capability)
	}
	if user := at(c, "securityContext", "runAsUser"); user != nil {
		all = append(all, "--user", fmt.Sprint(user))
	}
	return p.podman(append(append(append(all, more...), p.image), args...)...)
}

// volume returns the arguments for one that is read.
func (p *pods) volume(from, to string) []string {
	return []string{"--volume", filepath.Join(p.dir, from) + ":" + to + ":ro"}
}

// directory returns those for one that the server writes to.
func (p *pods) directory(from, to string) []string {
	p.Helper()
	path := filepath.Join(p.dir, from)
	if err := os.MkdirAll(path, 0o755); err != nil {
		p.Fatal(err)
	}
	if err := os.Chown(path, 65532, 65532); err != nil {
		p.Fatal(err)
	}
	return []string{"--volume", path + ":" + to}
}

// prepareNetwork runs the init container, and then its check with the rights of the
// server.
func (p *pods) prepareNetwork() {
	p.Helper()
	c, args := netprep(p.T, p.list)
	p.Logf("netprep:\n%s", p.start("netprep", c, args, "--rm"))
	server := at(find(p.T, p.list, "Deployment", "shirube"), "spec", "template", "spec", "containers", 0)
	if out := p.start("netprep-check", server, append(args, "--check"), "--rm"); !strings.HasPrefix(out, "not seen without the capability NET_ADMIN") {
		p.Errorf("the check says\n%s", out)
	}
}

// collect starts the collector.
func (p *pods) collect() {
	p.Helper()
	c := at(find(p.T, p.list, "StatefulSet", "dnstap-collector"), "spec", "template", "spec", "containers", 0)
	p.start("collector", c, texts(at(c, "args")), append([]string{"--detach"}, p.directory("taps", "/var/lib/dnstap")...)...)
	p.Cleanup(func() { p.podman("rm", "--force", "collector") })
}

// serve starts a resolver.
func (p *pods) serve(name string) {
	p.Helper()
	c := at(find(p.T, p.list, "Deployment", "shirube"), "spec", "template", "spec", "containers", 0)
	more := []string{"--detach"}
	for _, v := range [][]string{
		p.volume("config-"+name, "/etc/shirube"), p.volume("tls", "/etc/shirube-tls"), p.volume("secrets", "/etc/shirube-secrets"),
		p.directory("state-"+name, "/var/lib/shirube"), p.directory("run-"+name, "/run/shirube"),
	} {
		more = append(more, v...)
	}
	p.start("shirube-"+name, c, texts(at(c, "args")), more...)
	p.Cleanup(func() {
		if p.Failed() {
			p.Logf("shirube-%s:\n%s", name, p.podman("logs", "shirube-"+name))
		}
		p.podman("rm", "--force", "shirube-"+name)
	})
}

// await waits until a resolver answers for its health name.
func (p *pods) await(name string) {
	p.Helper()
	four, _ := addresses(name)
	for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		out, _ := exec.CommandContext(p.Context(), "dig", "@"+four, "health.isp.example", "+short", "+time=1", "+tries=1").CombinedOutput()
		if ip := net.ParseIP(strings.TrimSpace(string(out))); ip != nil {
			return
		}
		if time.Now().After(end) {
			p.Fatalf("shirube-%s is not ready: %s", name, out)
		}
	}
}

// verify runs the container of the Job, and has it say that all is well.
func (p *pods) verify() {
	p.Helper()
	c := at(find(p.T, build(p.T, "verify"), "Job", "shirube-verify"), "spec", "template", "spec", "containers", 0)
	var args []string
	for _, a := range texts(at(c, "args")) {
		switch {
		case a == "--expect-version=unset": // as the roll-out replaces it
			args = append(args, "--expect-version="+p.version)
		case strings.HasPrefix(a, "-") || !strings.ContainsAny(a, ".:"):
			args = append(args, a)
		} // else a VIP, which there is none of here
	}
	for _, name := range []string{"a", "b"} {
		four, six := addresses(name)
		args = append(args, four, six)
	}
	more := append(p.volume("verify", "/etc/shirube-verify"), p.volume("authorities", "/etc/shirube-authorities")...)
	p.Logf("verify:\n%s", p.start("verify", c, args, append(more, "--rm")...))
}
