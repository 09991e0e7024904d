package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/porttest"
)

// manager does for a service what systemd does: it listens to what the service
// says of itself, keeps the sockets that it is given, and hands them to the next
// process (sd_notify(3), sd_listen_fds(3)).
type manager struct {
	path string
	conn *net.UnixConn

	mu     sync.Mutex
	told   []string
	stored []storedSocket
}

type storedSocket struct {
	name  string
	file  *os.File
	inode uint64
}

func newManager(t *testing.T) *manager {
	t.Helper()
	m := &manager{path: filepath.Join(t.TempDir(), "notify")}
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	m.conn = c
	go m.listen() // owner: this test; end: its Cleanup; bound: one
	t.Cleanup(func() {
		_ = c.Close()
		for _, s := range m.stored {
			_ = s.file.Close()
		}
	})
	return m
}

func (m *manager) listen() {
	buf, oob := make([]byte, 8192), make([]byte, syscall.CmsgSpace(253*4))
	for {
		n, oobn, _, _, err := m.conn.ReadMsgUnix(buf, oob)
		if err != nil {
			return
		}
		m.take(strings.Split(string(buf[:n]), "\n"), passedIn(oob[:oobn]))
	}
}

// passedIn returns the descriptors in the control message.
func passedIn(oob []byte) (fds []int) {
	msgs, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range msgs {
		if got, err := syscall.ParseUnixRights(&msgs[i]); err == nil {
			fds = append(fds, got...)
		}
	}
	return fds
}

// take takes one message.
func (m *manager) take(lines []string, fds []int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.told = append(m.told, lines...)
	name := ""
	for _, l := range lines {
		if rest, ok := strings.CutPrefix(l, "FDNAME="); ok {
			name = rest
		}
	}
	if slices.Contains(lines, "FDSTOREREMOVE=1") {
		m.stored = slices.DeleteFunc(m.stored, func(s storedSocket) bool {
			if s.name == name {
				_ = s.file.Close()
			}
			return s.name == name
		})
	}
	if slices.Contains(lines, "BARRIER=1") {
		for _, fd := range fds {
			_ = syscall.Close(fd)
		}
		return
	}
	for _, fd := range fds {
		syscall.CloseOnExec(fd)
		var st syscall.Stat_t
		_ = syscall.Fstat(fd, &st)
		if slices.ContainsFunc(m.stored, func(s storedSocket) bool { return s.inode == st.Ino }) {
			_ = syscall.Close(fd) // it is there
			continue
		}
		m.stored = append(m.stored, storedSocket{name, os.NewFile(uintptr(fd), name), st.Ino})
	}
}

// said returns how often a line was said.
func (m *manager) said(line string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.told {
		if l == line {
			n++
		}
	}
	return n
}

// names returns the names of what is stored, sorted.
func (m *manager) names() (names []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.stored {
		names = append(names, s.name)
	}
	slices.Sort(names)
	return names
}

// start starts a process of the service, and waits until it is ready.
func (m *manager) start(t *testing.T, binary string, args ...string) *process {
	t.Helper()
	ready := m.said("READY=1")
	m.mu.Lock()
	var names []string
	// The manager knows the process's ID before the program runs.
	cmd := exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ WATCHDOG_PID=$$ exec "$0" "$@"`, binary}, args...)...)
	for _, s := range m.stored {
		cmd.ExtraFiles = append(cmd.ExtraFiles, s.file)
		names = append(names, s.name)
	}
	m.mu.Unlock()
	cmd.Env = append(os.Environ(), raceEnv, "NOTIFY_SOCKET="+m.path, "WATCHDOG_USEC=600000",
		fmt.Sprintf("LISTEN_FDS=%d", len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	p, err := startCommand("shirube", cmd, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { endOf(t, p) })
	for end := time.Now().Add(startTimeout); m.said("READY=1") == ready; time.Sleep(time.Millisecond) {
		if time.Now().After(end) || !p.running() {
			t.Fatalf("it does not get ready:\n%s", p.out.String())
		}
	}
	return p
}

// patients are clients that ask a server one question after the other, each once.
type patients struct {
	stop                      chan struct{}
	all                       sync.WaitGroup
	answered, lost, redialled atomic.Uint64
	first                     atomic.Pointer[string]
}

// startPatients starts clients over UDP, each with a socket of its own, and over
// TCP.
func startPatients(t *testing.T, at netip.AddrPort, udp, tcp int) *patients {
	t.Helper()
	a := &patients{stop: make(chan struct{})}
	for i := range udp + tcp {
		network := "udp"
		if i >= udp {
			network = "tcp"
		}
		c, err := dns.Dial(network, at.String())
		if err != nil {
			t.Fatal(err)
		}
		a.all.Go(func() { a.run(c, network, at.String()) }) // owner: this test; end: stop; bound: udp+tcp
	}
	return a
}

func (a *patients) run(c *dns.Conn, network, at string) {
	defer func() { _ = c.Close() }()
	for {
		select {
		case <-a.stop:
			return
		default:
		}
		m, err := askOnce(c)
		if err != nil && network == "tcp" {
			// A server may close a connection whenever no answer is due; the client then asks
			// again (RFC 7766 §6.2.4).
			_ = c.Close()
			var again *dns.Conn
			if again, err = dns.Dial(network, at); err == nil {
				a.redialled.Add(1)
				c = again
				m, err = askOnce(c)
			}
		}
		if err == nil && m.Rcode != dns.RcodeSuccess {
			err = fmt.Errorf("%s: %v", network, m)
		}
		if err != nil {
			a.lost.Add(1)
			text := network + ": " + err.Error()
			a.first.CompareAndSwap(nil, &text)
			continue
		}
		a.answered.Add(1)
	}
}

// askOnce asks c something that every server knows.
func askOnce(c *dns.Conn) (*dns.Msg, error) {
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if err := c.WriteMsg(new(dns.Msg).SetQuestion("localhost.", dns.TypeA)); err != nil {
		return nil, err
	}
	return c.ReadMsg()
}

// end ends them, and reports what was lost.
func (a *patients) end(t *testing.T) {
	t.Helper()
	close(a.stop)
	a.all.Wait()
	if n := a.lost.Load(); n > 0 {
		t.Errorf("%d of %d queries were lost; the first: %s", n, n+a.answered.Load(), *a.first.Load())
	}
}

// restartRate is how many queries a second dnsperf sends, whether there are
// answers or not.
const restartRate = 5000

// TestRestartLosesNoQuery restarts the service ten times under load, as
// `systemctl restart` does.
func TestRestartLosesNoQuery(t *testing.T) {
	port := int(porttest.Take(t))
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port))
	conf := filepath.Join(t.TempDir(), "shirube.yaml")
	hints := filepath.Join(t.TempDir(), "root.hints")
	writeFile(t, hints, built.world.hints())
	writeFile(t, conf, settings{listen: []string{"127.0.0.1", "::1"}, port: built.world.port, limits: "udp_readers: 2"}.yaml(hints, port))
	m := newManager(t)
	p := m.start(t, built.plain, "serve", "--config", conf)
	queries := filepath.Join(t.TempDir(), "queries")
	writeFile(t, queries, "localhost A\n")
	steady := make(chan load, 1)
	go func() { // owner: this test; end: after five seconds; bound: one
		steady <- dnsperf(t, &server{port: port}, "-d", queries, "-l", "5", "-Q", strconv.Itoa(restartRate), "-q", "20000", "-b", "4096") // room for the answers that come at once
	}()
	clients := startPatients(t, at, 8, 2)
	begun := time.Now()
	for i := range 10 {
		if got := m.names(); len(got) != 6 { // two addresses, with two sockets for UDP and one for TCP
			t.Fatalf("before restart %d the manager has %q", i, got)
		}
		p.signal(syscall.SIGTERM)
		if !p.wait(stopTimeout) || p.exitCode() != 0 {
			t.Fatalf("restart %d: %s", i, p.state())
		}
		p = m.start(t, built.plain, "serve", "--config", conf)
		time.Sleep(300 * time.Millisecond)
	}
	took := time.Since(begun)
	clients.end(t)
	if l := <-steady; l.sent < restartRate || l.completed != l.sent || l.lost != 0 {
		t.Errorf("dnsperf: %+v", l)
	} else {
		t.Logf("dnsperf: %d queries, %d a second, none lost", l.sent, restartRate)
	}
	t.Logf("%d queries answered in %v over 10 restarts (%.0f a second); %d connections were made anew",
		clients.answered.Load(), took, float64(clients.answered.Load())/took.Seconds(), clients.redialled.Load())
	if clients.answered.Load() < 5000 {
		t.Errorf("only %d answers: that is no load", clients.answered.Load())
	}
	if n := m.said("STOPPING=1"); n != 10 {
		t.Errorf("it said %d times that it stops", n)
	}
	for end := time.Now().Add(startTimeout); m.said("WATCHDOG=1") < 3; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the watchdog hears nothing")
		}
	}
}

// TestRestartMovesToOtherAddresses: what the manager has kept is not in the way of
// what cannot be bound beside it.
func TestRestartMovesToOtherAddresses(t *testing.T) {
	port := int(porttest.TakeWildcard(t))
	dir := t.TempDir()
	conf, hints := filepath.Join(dir, "shirube.yaml"), filepath.Join(dir, "root.hints")
	writeFile(t, hints, built.world.hints())
	m := newManager(t)
	for _, address := range []string{"127.0.0.1", "0.0.0.0", "127.0.0.1"} {
		writeFile(t, conf, settings{listen: []string{address}, port: built.world.port, limits: "udp_readers: 2"}.yaml(hints, port))
		p := m.start(t, built.plain, "serve", "--config", conf)
		c, err := dns.Dial("udp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		if r, err := askOnce(c); err != nil || r.Rcode != dns.RcodeSuccess {
			t.Errorf("%s: %v, %v", address, r, err)
		}
		_ = c.Close()
		for _, name := range m.names() {
			if !strings.HasSuffix(name, fmt.Sprintf("-%s_%d", address, port)) {
				t.Errorf("%s: the manager has %q", address, m.names())
			}
		}
		if !p.stop() {
			t.Errorf("%s: %s", address, p.state())
		}
	}
}

// TestReloadIsToldToTheManager, and what it keeps follows the listeners.
func TestReloadIsToldToTheManager(t *testing.T) {
	port := int(porttest.Take(t))
	dir := t.TempDir()
	conf, hints := filepath.Join(dir, "shirube.yaml"), filepath.Join(dir, "root.hints")
	writeFile(t, hints, built.world.hints())
	write := func(listen ...string) {
		writeFile(t, conf, settings{listen: listen, port: built.world.port, limits: "udp_readers: 1"}.yaml(hints, port))
	}
	write("127.0.0.1", "::1")
	m := newManager(t)
	p := m.start(t, built.race, "serve", "--config", conf)
	name := func(proto, address string) string { return fmt.Sprintf("%s-%s_%d", proto, address, port) }
	for i, want := range [][]string{
		{name("tcp", "127.0.0.1"), name("udp", "127.0.0.1")},
		{name("tcp", "127.0.0.1"), name("tcp", "[__1]"), name("udp", "127.0.0.1"), name("udp", "[__1]")},
	} {
		if i == 0 {
			write("127.0.0.1")
		} else {
			write("127.0.0.1", "::1")
		}
		ready := m.said("READY=1")
		p.signal(syscall.SIGHUP)
		for end := time.Now().Add(startTimeout); m.said("RELOADING=1") != i+1 || m.said("READY=1") == ready; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the manager does not hear of the reload")
			}
		}
		if got := m.names(); !slices.Equal(got, want) {
			t.Errorf("the manager has %q, want %q", got, want)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if !slices.ContainsFunc(m.told, func(l string) bool { return strings.HasPrefix(l, "MONOTONIC_USEC=") && l != "MONOTONIC_USEC=0" }) {
		t.Errorf("it does not say when: %q", m.told)
	}
}
