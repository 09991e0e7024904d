//go:build systemd

// What takes long, and root: `make systemd-test`.

package systemd_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"shirube/internal/manual"
)

const (
	patience = time.Minute // for what takes seconds
	changes  = 10          // of processes under load
	rate     = 20_000      // queries a second meanwhile
	seconds  = 12          // of load
)

// machine is a Debian that was booted with systemd in a directory, with a network
// of its own that has nothing but loopback.
type machine struct {
	root   string
	leader string // the ID of its first process, seen from here
}

// output runs a program, which has to succeed.
func output(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	out, err := run(env, name, args...)
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return out
}

func run(env []string, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

// boot makes a machine, and returns it when its services are there.
func boot(t *testing.T) *machine {
	t.Helper()
	m := &machine{root: t.TempDir()}
	output(t, nil, "debootstrap", "--variant=minbase", "--include=systemd,systemd-sysv,dbus,dnsperf,bind9-dnsutils,procps,man-db,iproute2,bird2", "bookworm", m.root)
	ctx, cancel := context.WithCancel(context.Background())
	// /run is mounted over, for systemd-nspawn wants to keep things there.
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "sh", "-c",
		`mount -t tmpfs tmpfs /run && exec systemd-nspawn --quiet --boot --directory="$0" --register=no --keep-unit --private-network --console=pipe`, m.root)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // which has it power off
	cmd.WaitDelay = patience
	var console bytes.Buffer
	cmd.Stdout, cmd.Stderr = &console, &console
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // its status is what the signal makes of it
	})
	children := fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid)
	m.await(t, "the machine boots", func() bool {
		b, err := os.ReadFile(children)
		if m.leader = strings.TrimSpace(string(b)); err != nil || m.leader == "" {
			return false
		}
		state, _ := m.try("systemctl", "is-system-running")
		return strings.Contains(state, "running") || strings.Contains(state, "degraded")
	})
	return m
}

// try runs a program in the machine.
func (m *machine) try(args ...string) (string, error) {
	return run(nil, "nsenter", append([]string{
		"--target", m.leader, "--mount", "--uts", "--ipc", "--net", "--pid", "--", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
	}, args...)...)
}

// in runs a program in the machine, which has to succeed.
func (m *machine) in(t *testing.T, args ...string) string {
	t.Helper()
	out, err := m.try(args...)
	if err != nil {
		journal, _ := m.try("journalctl", "--unit=shirube", "--no-pager", "--lines=40")
		t.Fatalf("%q: %v\n%s\n%s", args, err, out, journal)
	}
	return strings.TrimSpace(out)
}

func (m *machine) await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

// write writes a file of the machine.
func (m *machine) write(t *testing.T, path, text string) {
	t.Helper()
	path = filepath.Join(m.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// main returns the ID of the service's main process.
func (m *machine) main(t *testing.T) string {
	t.Helper()
	return m.in(t, "systemctl", "show", "--property=MainPID", "--value", "shirube")
}

// answers reports whether the server answers.
func (m *machine) answers() bool {
	out, err := m.try("dig", "@127.0.0.1", "+short", "+time=5", "+tries=1", "localhost.")
	return err == nil && strings.TrimSpace(out) == "127.0.0.1"
}

// debPackage builds the package of a version, and puts it into the machine.
func (m *machine) debPackage(t *testing.T, name, version string) (path string) {
	t.Helper()
	file := strings.TrimSpace(output(t, []string{"VERSION=" + version}, "sh", "-c", `../../tools/deb "$0" "$1" 2>/dev/null`, runtime.GOARCH, name))
	octets, err := os.ReadFile("../../" + file)
	if err == nil {
		err = os.Remove("../../" + file) // it is of no release
	}
	if err != nil {
		t.Fatal(err)
	}
	path = "/" + name + "-" + version + ".deb"
	m.write(t, path, string(octets))
	return path
}

// TestService installs the package on a machine with systemd, and has the service
// do all that its unit says.
func TestService(t *testing.T) {
	m := boot(t)
	first, second := m.debPackage(t, "shirube", "9.0.0"), m.debPackage(t, "shirube", "9.0.1")
	installs(t, m, first)
	m.await(t, "the service answers", m.answers)
	m.write(t, "queries", "localhost A\n")
	for _, step := range []struct {
		name string
		run  func(t *testing.T, m *machine)
	}{
		{"what the manual says can be typed", typed},
		{"it is enabled, and exposed as little as is promised", exposed},
		{"it runs as nobody else, with one capability", confined},
		{"a restart loses no query", func(t *testing.T, m *machine) { changesLoseNothing(t, m, "systemctl", "restart", "shirube") }},
		{"an upgrade loses no query", func(t *testing.T, m *machine) { changesLoseNothing(t, m, "shirube", "ctl", "upgrade") }},
		{"one that has taken over is watched like any other", watched},
		{"a bad file is refused by systemctl reload", reloads},
		{"secrets come as credentials", credentials},
		{"sockets of the socket unit are served", activated},
		{"what the manual ends with is green", verified},
		{"routes follow the service", announced},
	} {
		t.Run(step.name, func(t *testing.T) { step.run(t, m) })
	}
	t.Run("a new package takes over", func(t *testing.T) {
		m.in(t, "dpkg", "--install", second)
		if got := m.in(t, "shirube", "ctl", "status"); !regexp.MustCompile(`(?m)^version +9\.0\.1$`).MatchString(got) {
			t.Errorf("there runs\n%s", got)
		}
	})
	t.Run("nothing is left when it is purged", func(t *testing.T) {
		m.in(t, "dpkg", "--purge", "shirube")
		if out, err := m.try("systemctl", "is-active", "shirube.service", "shirube.socket"); err == nil {
			t.Errorf("there is still %s", out)
		}
		for _, path := range []string{"etc/shirube", "var/lib/private/shirube", "run/shirube"} {
			if _, err := os.Lstat(filepath.Join(m.root, path)); err == nil {
				t.Errorf("%s is left", path)
			}
		}
	})
}

// commands returns what docs/getting-started.md says about the service.
func commands(t *testing.T) []string {
	t.Helper()
	list, err := manual.Commands("../../docs/getting-started.md", "As a service of Debian")
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// installs installs a package as the manual says, from a file that is here.
func installs(t *testing.T, m *machine, file string) {
	t.Helper()
	for _, command := range commands(t) {
		if before, ok := strings.CutSuffix(command, " ./dist/shirube_*_amd64.deb"); ok {
			m.in(t, append(strings.Fields(before), "--yes", file)...)
			return
		}
	}
	t.Fatalf("the manual does not say how to install the package: %q", commands(t))
}

// typed types what follows the installation.
func typed(t *testing.T, m *machine) {
	n := 0
	for _, command := range commands(t) {
		switch words := strings.Fields(command); {
		case words[0] == "make", words[0] == "apt": // done
		case words[0] == "editor", strings.HasPrefix(command, verifies): // nothing is to be changed; see verified
		case words[0] == "dig":
			if got := m.in(t, "sh", "-c", command+" +time=10"); !strings.Contains(got, "status: ") { // there is no Internet
				t.Errorf("%s: %s", command, got)
			}
			n++
		default:
			m.in(t, "sh", "-c", "PAGER=cat SYSTEMD_PAGER=cat "+command)
			n++
		}
	}
	if n < 5 {
		t.Errorf("only %d commands: %q", n, commands(t))
	}
}

func exposed(t *testing.T, m *machine) {
	if got := m.in(t, "systemctl", "is-enabled", "shirube"); got != "enabled" {
		t.Errorf("it is %s", got)
	}
	lines := strings.Split(m.in(t, "systemd-analyze", "security", "--no-pager", "--threshold="+maxExposure, "shirube.service"), "\n")
	t.Log(lines[len(lines)-1])
}

func confined(t *testing.T, m *machine) {
	status := m.in(t, "cat", "/proc/"+m.main(t)+"/status")
	for _, want := range []string{"CapEff:\t0000000000000400", "CapBnd:\t0000000000000400", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(status, want) {
			t.Errorf("it does not run with %q:\n%s", want, status)
		}
	}
	if regexp.MustCompile(`(?m)^Uid:\t0\t`).MatchString(status) {
		t.Error("it runs as root")
	}
	// The server reads and changes what Go's runtime asks of epoll for UDP sockets
	// (internal/netx): what comes, but not that there is room again. It has to be let.
	watched := m.in(t, "sh", "-c", "cat /proc/"+m.main(t)+"/fdinfo/* 2>/dev/null; true") // some are closed meanwhile
	if sockets := strings.Count(watched, " events: 80002019 "); sockets == 0 {
		t.Errorf("no socket is watched for what comes only:\n%s", watched)
	}
}

// changesLoseNothing has a process follow another while dnsperf asks.
func changesLoseNothing(t *testing.T, m *machine, command ...string) {
	done := make(chan string, 1)
	go func() { // owner: this test; end: after the seconds; bound: one
		out, err := m.try("dnsperf", "-s", "127.0.0.1", "-d", "/queries", "-l", strconv.Itoa(seconds), "-Q", strconv.Itoa(rate), "-q", "60000", "-b", "4096", "-c", "8", "-T", "1")
		if err != nil {
			out += err.Error()
		}
		done <- out
	}()
	time.Sleep(time.Second)
	begun, processes := time.Now(), map[string]bool{m.main(t): true}
	for range changes {
		m.in(t, command...)
		processes[m.main(t)] = true
		time.Sleep(300 * time.Millisecond)
	}
	t.Logf("%d changes in %v", changes, time.Since(begun).Round(time.Millisecond))
	out := <-done
	if len(processes) != changes+1 {
		t.Errorf("%d changes were by %d processes", changes, len(processes)-1)
	}
	lost := regexp.MustCompile(`Queries lost: +(\d+)`).FindStringSubmatch(out)
	sent := regexp.MustCompile(`Queries sent: +(\d+)`).FindStringSubmatch(out)
	if lost == nil || sent == nil || lost[1] != "0" || !strings.Contains(out, "NOERROR "+sent[1]+" (100.00%)") {
		t.Errorf("dnsperf:\n%s", out)
	}
	for _, line := range regexp.MustCompile(`(?m)^ +(Queries (sent|lost)|Average Latency).*$`).FindAllString(out, -1) {
		t.Log(strings.TrimSpace(line))
	}
}

// watched stops the process that an upgrade has started, and kills another one.
func watched(t *testing.T, m *machine) {
	for _, signal := range []string{"STOP", "KILL"} {
		m.in(t, "shirube", "ctl", "upgrade")
		before := m.main(t)
		m.in(t, "kill", "-"+signal, before)
		begun := time.Now()
		m.await(t, "another process after SIG"+signal, func() bool { return m.main(t) != before && m.answers() })
		t.Logf("after SIG%s: another process answers %v later", signal, time.Since(begun).Round(100*time.Millisecond))
	}
	if journal := m.in(t, "journalctl", "--unit=shirube", "--no-pager"); !strings.Contains(journal, "Watchdog timeout") {
		t.Error("it was not the watchdog")
	}
}

func reloads(t *testing.T, m *machine) {
	const file = "etc/shirube/shirube.yaml"
	good, err := os.ReadFile(filepath.Join(m.root, file))
	if err != nil {
		t.Fatal(err)
	}
	before := m.main(t)
	for _, r := range []struct {
		more string
		good bool
	}{{"listne: []\n", false}, {"log:\n  level: debug\n", true}, {"", true}} {
		if err := os.WriteFile(filepath.Join(m.root, file), append([]byte(r.more), good...), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := m.try("systemctl", "reload", "shirube"); (err == nil) != r.good {
			t.Errorf("with %q: %v\n%s", r.more, err, out)
		}
		if !m.answers() || m.main(t) != before {
			t.Errorf("with %q it does not go on", r.more)
		}
	}
	// A port below 1024 is bound by a process that has long been there.
	m.in(t, "sh", "-c", `sed -i 's/^listen:$/&\n  - address: 127.0.0.2:53/' /etc/shirube/shirube.yaml && systemctl reload shirube`)
	if got := m.in(t, "dig", "@127.0.0.2", "+short", "localhost."); got != "127.0.0.1" || m.main(t) != before {
		t.Errorf("at an address that is new: %s", got)
	}
}

func credentials(t *testing.T, m *machine) {
	m.write(t, "etc/credstore/shirube.cookie-secrets", strings.Repeat("0123456789abcdef", 2)+"\n")
	m.in(t, "sh", "-c", `printf 'cookies:\n  secret_file: /run/credentials/shirube.service/cookie-secrets\n' >>/etc/shirube/shirube.yaml && systemctl restart shirube`)
	for range 2 { // the process after the first one has them too
		if got := m.in(t, "dig", "@127.0.0.1", "+cookie", "localhost."); !strings.Contains(got, "(good)") {
			t.Errorf("got %s", got)
		}
		m.in(t, "shirube", "ctl", "upgrade")
	}
}

// activated asks while there is no process: the first query starts it.
func activated(t *testing.T, m *machine) {
	m.in(t, "systemctl", "stop", "shirube.service")
	m.in(t, "systemctl", "start", "shirube.socket")
	if state, err := m.try("systemctl", "is-active", "shirube.service"); err == nil {
		t.Fatalf("the service is %s", state)
	}
	if !m.answers() {
		t.Error("nobody answers")
	}
	if got := m.in(t, "systemctl", "is-active", "shirube.service"); got != "active" {
		t.Errorf("the service is %s", got)
	}
}
