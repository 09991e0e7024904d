package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The tests against routers are played in a network of their own, with processes
// and mounts of their own: whatever they leave behind ends with it. There is this
// test binary again, on the router, and one network more for each node.

// insideEnv names the directory of the programs, in the network of its own.
const insideEnv = "SHIRUBE_ANNOUNCE_INSIDE"

// patience is for what has to happen some time.
const patience = 30 * time.Second

// built is where the programs are; empty: nobody needed them.
var built string

// programs builds the resolver and the announcer, once.
var programs = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "shirube-announce-test-"); err != nil {
		return "", err
	}
	built = dir
	if text, err := exec.Command("go", "build", "-o", dir, "shirube/cmd/shirube", "shirube/cmd/shirube-announce").CombinedOutput(); err != nil {
		return dir, fmt.Errorf("building the programs: %w\n%s", err, text)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if built != "" {
		_ = os.RemoveAll(built) // what cannot be removed is in the directory for such things
	}
	os.Exit(code)
}

// inside plays the test of a name in a network of its own.
func inside(t *testing.T, name string, env ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+name+"$", "-test.v", "-test.count=1")
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(append(os.Environ(), insideEnv+"="+dir), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	text, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(text, []byte("--- PASS: "+name)) {
		t.Fatalf("%v\n%s", err, text)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "measured:") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// lab is the network: a router, which is this process's, and two nodes behind a
// link each.
type lab struct {
	t        *testing.T
	dir      string
	programs string
}

// newLab makes the network. It is nil in the process that is not inside.
func newLab(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, dir: t.TempDir(), programs: os.Getenv(insideEnv)}
	// Nothing that is mounted or named here is seen outside.
	l.run("mount", "--make-rprivate", "/")
	l.run("mount", "-t", "tmpfs", "tmpfs", "/run")
	l.run("mount", "-t", "tmpfs", "tmpfs", "/var/tmp") // FRR writes there
	l.run("ip", "link", "set", "lo", "up")
	for _, path := range []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/fib_multipath_hash_policy", "net/ipv6/fib_multipath_hash_policy"} {
		l.set(path, "1")
	}
	for i, node := range nodes {
		l.run("ip", "netns", "add", node)
		l.run("ip", "link", "add", "to-"+node, "type", "veth", "peer", "name", "up0", "netns", node)
		l.run("ip", "addr", "add", fmt.Sprintf("10.99.%d.1/24", i+1), "dev", "to-"+node)
		l.run("ip", "addr", "add", fmt.Sprintf("fd99:%d::1/64", i+1), "dev", "to-"+node, "nodad")
		l.run("ip", "link", "set", "to-"+node, "up")
		for _, args := range []string{
			"link set lo up", "link set up0 up",
			fmt.Sprintf("addr add 10.99.%d.2/24 dev up0", i+1), fmt.Sprintf("addr add fd99:%d::2/64 dev up0 nodad", i+1),
			fmt.Sprintf("route add default via 10.99.%d.1", i+1), fmt.Sprintf("-6 route add default via fd99:%d::1", i+1),
		} {
			l.run("ip", append([]string{"-n", node}, strings.Fields(args)...)...)
		}
	}
	return l
}

// nodes are the networks of the resolvers.
var nodes = []string{"a", "b"}

// The service addresses.
const (
	vip4 = "192.0.2.53"
	vip6 = "2001:db8::53"
)

// hasVIPs gives a node the service addresses.
func (l *lab) hasVIPs(node string) {
	l.t.Helper()
	l.run("ip", "-n", node, "addr", "add", vip4+"/32", "dev", "lo")
	l.run("ip", "-n", node, "addr", "add", vip6+"/128", "dev", "lo", "nodad")
}

// set writes a sysctl of this network.
func (l *lab) set(path, value string) {
	l.t.Helper()
	if err := os.WriteFile(filepath.Join("/proc/sys", path), []byte(value), 0o644); err != nil {
		l.t.Fatal(err)
	}
}

// run runs a program to its end.
func (l *lab) run(name string, args ...string) string {
	l.t.Helper()
	text, err := exec.CommandContext(l.t.Context(), name, args...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, text)
	}
	return string(text)
}

// birdRoutes returns what BIRD behind socket says of its routes. It breaks off
// when it is configured anew meanwhile, which happens at every announcement.
func (l *lab) birdRoutes(socket string) string {
	l.t.Helper()
	for try := 1; ; try++ {
		text, err := exec.CommandContext(l.t.Context(), "birdc", "-s", socket, "show", "route", "all").CombinedOutput()
		switch {
		case err == nil:
			return string(text)
		case try == 10 || !strings.Contains(string(text), "reconfiguration"):
			l.t.Fatalf("birdc: %v\n%s", err, text)
		}
	}
}

// write writes a file below the lab's directory, and returns its path.
func (l *lab) write(name, text string) string {
	l.t.Helper()
	path := filepath.Join(l.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		l.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		l.t.Fatal(err)
	}
	return path
}

// process is a program that runs until it is ended, at the latest with the test.
type process struct {
	cmd  *exec.Cmd
	log  *output
	done chan struct{}
}

// output is what a program writes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// start starts a program: of a node, or of the router if there is no node of the
// name.
func (l *lab) start(node, name string, args ...string) *process {
	l.t.Helper()
	if slices.Contains(nodes, node) {
		args = append([]string{"netns", "exec", node, name}, args...)
		name = "ip" // it becomes the program
	}
	p := &process{cmd: exec.Command(name, args...), log: new(output), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	go func() { // ends with the process, which Cleanup ends
		_ = p.cmd.Wait() // how it ended is in ProcessState
		close(p.done)
	}()
	l.t.Cleanup(func() {
		p.end(syscall.SIGKILL)
		if l.t.Failed() {
			l.t.Logf("%s %s:\n%s", name, strings.Join(args, " "), p.log)
		}
	})
	return p
}

// signal sends a signal.
func (p *process) signal(s syscall.Signal) { _ = p.cmd.Process.Signal(s) } // it may have ended

// end sends a signal, and waits for the end.
func (p *process) end(s syscall.Signal) {
	p.signal(s)
	<-p.done
}

// told returns what sends a signal and reports whether the program has ended.
// Two signals at once may arrive as one: who wants two sends more.
func (p *process) told(s syscall.Signal) func() bool {
	return func() bool {
		p.signal(s)
		select {
		case <-p.done:
			return true
		default:
			return false
		}
	}
}

// await waits until a condition holds.
func (l *lab) await(what string, holds func() bool) {
	l.t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			l.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// paths returns by how many paths the router's kernel reaches an address.
func (l *lab) paths(vip string) int {
	l.t.Helper()
	family := "-4"
	if strings.Contains(vip, ":") {
		family = "-6"
	}
	out, err := exec.Command("ip", "-j", family, "route", "show", vip).Output()
	if err != nil {
		l.t.Fatal(err)
	}
	var routes []struct {
		Gateway  string
		Via      any
		Nexthops []any
	}
	if err := json.Unmarshal(bytes.TrimSpace(out), &routes); err != nil && len(bytes.TrimSpace(out)) > 0 {
		l.t.Fatalf("%v: %s", err, out)
	}
	n := 0
	for _, r := range routes {
		n += max(1, len(r.Nexthops))
	}
	return n
}

// resolver starts a resolver that answers on addresses, and for localhost alone.
func (l *lab) resolver(node string, addresses ...string) *process {
	l.t.Helper()
	var listen strings.Builder
	for _, a := range addresses {
		fmt.Fprintf(&listen, "  - {address: %q, protocols: [udp, tcp]}\n", a)
	}
	return l.resolverWith(node, listen.String())
}

// resolverWith starts one that listens as the YAML says, and what follows it.
func (l *lab) resolverWith(node, listen string) *process {
	l.t.Helper()
	file := l.write(node+"/shirube.yaml", fmt.Sprintf(`
listen:
%s
access_control:
  - {prefix: 0.0.0.0/0, action: allow}
  - {prefix: "::/0", action: allow}
limits: {udp_readers: 1}
cache: {answers_size: 16MiB}
control: {enabled: false}
admin: {socket: %s}
drain: {delay: 2s}
`, listen, l.socket(node)))
	p := l.start(node, filepath.Join(l.programs, "shirube"), "serve", "--config", file)
	l.await("the resolver is ready", func() bool { return strings.Contains(p.log.String(), "msg=ready") })
	return p
}

func (l *lab) socket(node string) string { return filepath.Join(l.dir, node, "admin.sock") }

// announcer starts an announcer.
func (l *lab) announcer(node, yaml string) *process {
	l.t.Helper()
	file := l.write(node+"/announce.yaml", yaml)
	p := l.start(node, filepath.Join(l.programs, "shirube-announce"), "--config", file)
	l.await("the announcer has started", func() bool { return strings.Contains(p.log.String(), "msg=started") })
	return p
}
