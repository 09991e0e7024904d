package e2e

import (
	"bytes"
	"encoding/json"
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

	"shirube/internal/porttest"
)

// readyWithin is how soon after it was started the server has to be ready.
const readyWithin = 200 * time.Millisecond

// TestReadyWithinAFifthOfASecond measures the release's binary, from starting
// the process to its log line. It does not run beside other tests of this
// package.
func TestReadyWithinAFifthOfASecond(t *testing.T) {
	var took, cpu []time.Duration
	for range 5 {
		s := serve(t, settings{binary: built.plain})
		took = append(took, s.readyAt.Sub(s.begun))
		s.stop()
		cpu = append(cpu, s.cmd.ProcessState.UserTime()+s.cmd.ProcessState.SystemTime())
	}
	sorted := slices.Sorted(slices.Values(took))
	t.Logf("ready after %v; CPU time of the whole runs %v", took, cpu)
	if median := sorted[len(sorted)/2]; median > readyWithin {
		load, _ := os.ReadFile("/proc/loadavg")
		t.Errorf("ready after %v (median of %v), want %v. This is wall time on %d CPUs that may have had other things to do "+
			"(load averages %s); the runs used %v of CPU time. If that is little, it is the machine that was slow.",
			median, took, readyWithin, runtime.NumCPU(), bytes.TrimSpace(load), cpu)
	}
}

// defaultPort is the port of a server without a configuration file.
const defaultPort = 5353

// awaitDefaultPort waits until nobody has the default port of this machine,
// which a test of its own or somebody's server may have for a while.
func awaitDefaultPort(t *testing.T, in *network) {
	t.Helper()
	if in != nil {
		return // nobody else is there
	}
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if err = errors.Join(
			free(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), defaultPort)),
			free(netip.AddrPortFrom(netip.IPv6Loopback(), defaultPort)),
		); err == nil {
			return
		}
	}
	t.Fatalf("somebody else has port %d of this machine, which the server uses by default; see ss -lnup: %v", defaultPort, err)
}

// TestNoConfigurationIsNeeded starts the server as `make run` does.
func TestNoConfigurationIsNeeded(t *testing.T) {
	in := ownNetwork(t)
	awaitDefaultPort(t, in)
	s := &server{process: launch(t, launched{in: in}, "serve"), port: defaultPort}
	if _, err := s.await(s.out, "msg=ready", startTimeout); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{"127.0.0.1", "::1"} {
		for _, transport := range []string{"+notcp", "+tcp"} {
			// What it answers without asking anybody: there is no Internet here.
			r := s.ask("dig", at, transport).within(in).one(t, "example.com.", "ANY")
			if r.status != "NOERROR" || len(r.sections["ANSWER"]) != 1 {
				t.Errorf("%s %s: %s, want the HINFO record of RFC 8482:\n%s", at, transport, r.status, r.raw)
			}
		}
	}
	if listen := strings.Count(s.out.String(), ":5353/"); listen != 4 {
		t.Errorf("it says that it listens on %d addresses and transports, want 4", listen)
	}
}

// within returns the client that asks from within a network.
func (c client) within(n *network) client {
	argv := n.enter(c.program)
	return client{argv[0], append(argv[1:], c.args...)}
}

// runServer runs the server's binary to its end, with stdin, and returns what
// it printed and its exit code.
func runServer(t *testing.T, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return runServerFor(t, askTimeout, stdin, args...)
}

// runServerFor is runServer of a command that takes longer.
func runServerFor(t *testing.T, limit time.Duration, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), built.plain, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	timer := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	err := cmd.Run()
	timer.Stop()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func TestBadConfigurationIsReportedWhole(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "bad.yaml")
	writeFile(t, path, "listen:\n  - address: 127.0.0.1\nresolvr: {}\nlimits:\n  tcp_idle_timeout: 10\nlog:\n  level: loud\n")
	problems := []string{":2:14: listen[0].address: ", ":3:1: resolvr: ", ":5:21: limits.tcp_idle_timeout: ", ":7:10: log.level: "}
	for _, args := range [][]string{{"serve", "--config", path}, {"serve", "-c", path}, {"check", path}} {
		stdout, stderr, code := runServer(t, "", args...)
		if code != 2 || stdout != "" {
			t.Errorf("%v: exit code %d, standard output %q, want 2 and nothing", args[:1], code, stdout)
		}
		lines := strings.Split(strings.TrimSpace(stderr), "\n")
		if len(lines) != len(problems) {
			t.Fatalf("%v: %d lines for %d problems:\n%s", args[:1], len(lines), len(problems), stderr)
		}
		for i, problem := range problems {
			if !strings.HasPrefix(lines[i], path+problem) {
				t.Errorf("%v: got %q, want %q", args[:1], lines[i], path+problem+"…")
			}
		}
	}
	stdout, stderr, code := runServer(t, "", "check", "--json", path)
	var report struct{ Problems []json.RawMessage }
	if err := json.Unmarshal([]byte(stdout), &report); err != nil || len(report.Problems) != len(problems) || code != 2 || stderr != "" {
		t.Errorf("check --json: %v, %d problems, exit code %d, standard error %q", err, len(report.Problems), code, stderr)
	}
}

// TestCommandLine runs every subcommand, and what is none.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing")
	tests := []struct {
		stdin  string
		args   string
		code   int
		stdout string // contained in it; "" for nothing at all
		stderr string // likewise
	}{
		{"", "version", 0, "shirube " + buildVersion + " (" + runtime.Version() + ", linux/" + runtime.GOARCH + ")\n", ""},
		{"log:\n  level: debug\n", "check -", 0, "stdin: ok\n", ""},
		{"", "check --json -", 0, `"problems": []`, ""},
		{"", "check --schema", 0, `"$schema"`, ""},
		{"", "--help", 0, "shirube serve", ""},
		{"", "", 0, "shirube serve", ""},
		{"", "help check", 0, "shirube check", ""},
		{"", "completion bash", 0, "shirube", ""},
		{"", "completion zsh", 0, "shirube", ""},
		{"", "completion fish", 0, "shirube", ""},
		{"", "completion powershell", 0, "shirube", ""},

		{"", "check", 2, "", "takes one file"},
		{"", "check a b", 2, "", "takes one file"},
		{"", "check " + missing, 2, "", missing},
		{"", "serve --config " + missing, 2, "", missing},
		{"", "serve --no-such-flag", 2, "", "--no-such-flag"},
		{"", "serve surplus", 2, "", "surplus"},
		{"", "version surplus", 2, "", "surplus"},
		{"", "demo surplus", 2, "", "surplus"},
		{"", "demo --seed x", 2, "", "--seed"},
		{"", "sreve", 2, "", "sreve"},
		{"", "--no-such-flag", 2, "", "--no-such-flag"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, code := runServer(t, tt.stdin, strings.Fields(tt.args)...)
			if code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			for _, out := range []struct{ what, got, want string }{{"standard output", stdout, tt.stdout}, {"standard error", stderr, tt.stderr}} {
				if !strings.Contains(out.got, out.want) || (out.want == "" && out.got != "") {
					t.Errorf("%s %q, want %q in it", out.what, head(out.got, 5), out.want)
				}
			}
		})
	}
}

func TestHelpHasExamples(t *testing.T) {
	t.Parallel()
	for _, sub := range []string{"", "serve", "check", "demo", "version"} {
		stdout, _, code := runServer(t, "", append(strings.Fields(sub), "--help")...)
		_, examples, ok := strings.Cut(stdout, "\nExamples:\n")
		if code != 0 || !ok || !strings.Contains(examples, "shirube "+sub) {
			t.Errorf("%s --help: exit code %d and no example:\n%s", sub, code, stdout)
		}
	}
}

// TestBashCompletes loads the completion script into bash and presses Tab.
func TestBashCompletes(t *testing.T) {
	t.Parallel()
	script, _, _ := runServer(t, "", "completion", "bash")
	path := filepath.Join(t.TempDir(), "completion")
	writeFile(t, path, script)
	tests := []struct{ words, want string }{
		{"shirube se", "serve"},
		{"shirube serve --conf", "--config"},
		{"shirube check --js", "--json"},
	}
	for _, tt := range tests {
		words := strings.Fields(tt.words)
		cmd := exec.CommandContext(t.Context(), "bash", "--norc", "-c", `
			source "$1"
			# Of a package that need not be installed:
			_get_comp_words_by_ref() { cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=("${COMP_WORDS[@]}") cword=$COMP_CWORD; }
			__ltrim_colon_completions() { :; }
			shift; COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9; shift
			COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
			__start_shirube
			printf '%s\n' "${COMPREPLY[@]}"`, "bash", path, tt.words)
		cmd.Args = append(cmd.Args, words...)
		cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(built.plain)+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), tt.want) {
			t.Errorf("%q and Tab: %v, %q, want %q", tt.words, err, out, tt.want)
		}
	}
}

// TestTakenAddressIsReported starts the server where somebody listens already.
func TestTakenAddressIsReported(t *testing.T) {
	t.Parallel()
	port := int(porttest.Take(t))
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port))
	conf := filepath.Join(t.TempDir(), "shirube.yaml")
	writeFile(t, conf, settings{listen: []string{"127.0.0.1"}, port: built.world.port}.yaml("", port))
	occupants := []struct {
		name string
		take func() (interface{ Close() error }, error)
	}{
		{"UDP", func() (interface{ Close() error }, error) { return net.ListenUDP("udp", net.UDPAddrFromAddrPort(at)) }},
		{"TCP", func() (interface{ Close() error }, error) { return net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at)) }},
	}
	for _, o := range occupants {
		c, err := o.take()
		if err != nil {
			t.Fatal(err)
		}
		wantTaken(t, o.name+" socket", conf, at)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	first := launch(t, launched{}, "serve", "--config", conf)
	if _, err := first.await(first.out, "msg=ready", startTimeout); err != nil {
		t.Fatal(err)
	}
	wantTaken(t, "another server", conf, at)
	udpOnly := strings.Replace(settings{listen: []string{"127.0.0.1"}, port: built.world.port}.yaml("", port),
		`:`+strconv.Itoa(port)+`"`, `:`+strconv.Itoa(port)+"\"\n    protocols: [udp]", 1)
	writeFile(t, conf, udpOnly) // SO_REUSEPORT would let two servers share it
	wantTaken(t, "another server, over UDP alone", conf, at)
}

// wantTaken runs a server that cannot have its address, for what is there.
func wantTaken(t *testing.T, what, conf string, at netip.AddrPort) {
	t.Helper()
	_, stderr, code := runServer(t, "", "serve", "--config", conf)
	last := stderr[strings.LastIndexByte(strings.TrimSpace(stderr), '\n')+1:]
	if code != 1 || !strings.Contains(last, at.String()) || !strings.Contains(last, "in use") {
		t.Errorf("%s has %v: exit code %d, last line %q, want 1 and the address", what, at, code, last)
	}
}

// inFlight starts clients that ask for names of a zone whose server is silent,
// over UDP and TCP by turns, and waits until the server waits for it. The
// result is what they print when they are told something.
func inFlight(t *testing.T, s *server, names ...string) <-chan string {
	t.Helper()
	printed := make(chan string, len(names))
	for i, name := range names {
		transport := []string{"+notcp", "+tcp"}[i%2]
		c := s.ask("dig", "127.0.0.1", transport, "+tries=1", "+time=20")
		cmd := exec.CommandContext(t.Context(), c.program, append(c.args, name, "A")...)
		// Owner: the test. End: the client's, at the latest with the test.
		// Bound: one for each name.
		go func() {
			out, _ := cmd.CombinedOutput() // what went wrong is in out
			printed <- string(out)
		}()
	}
	for _, name := range names {
		built.world.awaitSilent(t, name)
	}
	return printed
}

func TestSIGTERMLetsQueriesInFlightFinish(t *testing.T) {
	t.Parallel()
	s := serve(t, settings{resolver: "timeout: 2s", limits: "drain_timeout: 30s\nudp_discard_timeout: 20s"})
	printed := inFlight(t, s, "drain1.silent.west.", "drain2.silent.west.")
	s.signal(syscall.SIGTERM)
	if _, err := s.await(s.out, "msg=stopping", startTimeout); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		out := <-printed
		rs := parseResponses(t, out)
		if len(rs) != 1 {
			t.Fatalf("a client in flight got no answer:\n%s", out)
		}
		if r := rs[0]; r.status != "SERVFAIL" || len(r.ede) != 1 || !strings.HasPrefix(r.ede[0], "22 ") {
			t.Errorf("a client in flight was told %s, EDE %q, want SERVFAIL and EDE 22", r.status, r.ede)
		}
	}
	if !s.wait(10*time.Second) || s.exitCode() != 0 {
		t.Errorf("after the last answer: %s, want exit status 0 at once", s.state())
	}
}

// TestStoppingServerTakesNoConnections holds a query so that stopping takes
// long enough to see it.
func TestStoppingServerTakesNoConnections(t *testing.T) {
	t.Parallel()
	s := serve(t, settings{resolver: "timeout: 3s", limits: "drain_timeout: 30s"})
	inFlight(t, s, "refuse.silent.west.")
	s.signal(syscall.SIGTERM)
	if _, err := s.await(s.out, "msg=stopping", startTimeout); err != nil {
		t.Fatal(err)
	}
	var err error
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline) && s.running(); time.Sleep(10 * time.Millisecond) {
		var c net.Conn
		if c, err = net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port)); err == nil {
			_ = c.Close()
		} else if !errors.Is(err, syscall.ECONNRESET) { // which is for one that was still to be accepted: the next is refused
			break
		}
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a second after SIGTERM, connecting says %v, want that it is refused", err)
	}
	if !s.running() {
		t.Errorf("the server did not wait for the query in flight: %s", s.state())
	}
	if !s.wait(stopTimeout) || s.exitCode() != 0 {
		t.Errorf("after the query in flight: %s, want exit status 0", s.state())
	}
}

// TestDrainEndsInTime gives queries in flight less time than they want.
func TestDrainEndsInTime(t *testing.T) {
	t.Parallel()
	for _, drain := range []string{"300ms", "0"} {
		s := serve(t, settings{resolver: "timeout: 30s", limits: "drain_timeout: " + drain})
		inFlight(t, s, "late"+drain+".silent.west.")
		begun := time.Now()
		s.signal(syscall.SIGTERM)
		if !s.wait(5 * time.Second) {
			t.Errorf("drain_timeout %s: the server still runs %v after SIGTERM", drain, time.Since(begun))
		}
		if s.exitCode() != 0 { // it stopped when it was told to
			t.Errorf("drain_timeout %s: %s, want exit status 0", drain, s.state())
		}
		if !strings.Contains(s.out.String(), "queries were abandoned") {
			t.Errorf("drain_timeout %s: the log does not say that a query was abandoned", drain)
		}
	}
}

// TestIdleServerStopsCleanly: without queries in flight none can be lost,
// however short the time to drain.
func TestIdleServerStopsCleanly(t *testing.T) {
	t.Parallel()
	s := serve(t, settings{limits: "drain_timeout: 0"})
	if r := s.ask("dig", "127.0.0.1", "+tcp").one(t, "www.plain.west.", "A"); r.status != "NOERROR" {
		t.Errorf("got %s", r.status)
	}
	s.signal(syscall.SIGTERM)
	if !s.wait(stopTimeout) || s.exitCode() != 0 {
		t.Errorf("an idle server with drain_timeout 0 after SIGTERM: %s, want exit status 0", s.state())
	}
	if strings.Contains(s.out.String(), "abandoned") {
		t.Error("the log says that queries were abandoned, but there were none")
	}
}

func TestThirdSIGTERMAbandonsWhatIsInFlight(t *testing.T) {
	t.Parallel()
	s := serve(t, settings{resolver: "timeout: 30s", limits: "drain_timeout: 1m"})
	inFlight(t, s, "second.silent.west.")
	s.signal(syscall.SIGTERM)
	if _, err := s.await(s.out, "msg=stopping", startTimeout); err != nil {
		t.Fatal(err)
	}
	if s.wait(300 * time.Millisecond) {
		t.Fatalf("the server did not wait for the query in flight: %s", s.state())
	}
	s.signal(syscall.SIGTERM) // ends the time of draining, which is over
	if s.wait(100 * time.Millisecond) {
		t.Fatalf("the server did not wait for the query in flight after the second SIGTERM: %s", s.state())
	}
	s.signal(syscall.SIGTERM)
	if !s.wait(2 * time.Second) {
		t.Fatal("the server still runs 2 s after the third SIGTERM")
	}
	if s.exitCode() != 0 || !strings.Contains(s.out.String(), "queries were abandoned") {
		t.Errorf("after the third SIGTERM: %s, want exit status 0, and a word on what was abandoned", s.state())
	}
}

func TestSIGINTStops(t *testing.T) {
	t.Parallel()
	s := serve(t, settings{})
	s.signal(os.Interrupt)
	if !s.wait(stopTimeout) || s.exitCode() != 0 {
		t.Errorf("after SIGINT: %s, want exit status 0", s.state())
	}
}

func TestSIGUSR1WritesStatistics(t *testing.T) {
	t.Parallel()
	s := serve(t, settings{})
	for i := range 3 {
		if r := s.ask("dig", "127.0.0.1").one(t, "www.plain.west.", "A"); r.status != "NOERROR" {
			t.Fatalf("got %s", r.status)
		}
		log := statistics(t, s)
		if got := counter(t, log, "udp", "Received"); got != i+1 {
			t.Errorf("%d datagrams received, want %d", got, i+1)
		}
		if hits := counter(t, log, "frontend", "Hits"); hits != i {
			t.Errorf("%d answers from memory, want %d", hits, i)
		}
	}
}
