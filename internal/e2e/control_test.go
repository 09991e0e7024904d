package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// counted is an authoritative server in this process that has an address for
// every name, signs nothing, and counts its questions.
type counted struct {
	at netip.AddrPort

	mu    sync.Mutex
	asked map[string]int // by "name type"
}

// startCounted serves until the test ends.
func startCounted(t *testing.T) *counted {
	t.Helper()
	c := &counted{at: freeAt(t, "127.0.0.1"), asked: make(map[string]int)}
	up := make(chan struct{})
	srv := &dns.Server{Addr: c.at.String(), Net: "udp", Handler: dns.HandlerFunc(c.answer), NotifyStartedFunc: func() { close(up) }}
	ended := make(chan error, 1)
	go func() { ended <- srv.ListenAndServe() }() // owner: this test; end: Shutdown; bound: one
	select {
	case <-up:
	case err := <-ended:
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := srv.Shutdown(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// answer counts a question and answers it: there are addresses, and nothing else.
func (c *counted) answer(w dns.ResponseWriter, q *dns.Msg) {
	name := dns.CanonicalName(q.Question[0].Name)
	c.mu.Lock()
	c.asked[name+" "+dns.TypeToString[q.Question[0].Qtype]]++
	c.mu.Unlock()
	m := new(dns.Msg).SetReply(q)
	m.Authoritative = true
	text, section := q.Question[0].Name+" 3600 A 192.0.2.1", &m.Answer
	if q.Question[0].Qtype != dns.TypeA {
		labels := dns.SplitDomainName(name)
		zone := strings.Join(labels[max(len(labels)-2, 0):], ".") + "."
		text, section = zone+" 3600 SOA ns."+zone+" host."+zone+" 1 3600 600 86400 300", &m.Ns
	}
	if rr, err := dns.NewRR(text); err == nil {
		*section = append(*section, rr)
	}
	_ = w.WriteMsg(m) // to a server that may have gone
}

// times returns how often name was asked for with a type.
func (c *counted) times(question string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked[question]
}

// controlled starts a server with a control socket, for two zones of a counted
// server: free.test., and bogus.test., of which a trust anchor says that it is
// signed. ctl runs `shirube ctl` with its socket.
func controlled(t *testing.T) (s *server, c *counted, ctl func(args ...string) (stdout, stderr string, code int)) {
	t.Helper()
	c = startCounted(t)
	socket := filepath.Join(t.TempDir(), "control.sock")
	s = serve(t, settings{
		dnssec: "root_trust_anchor: false\nauto_trust_anchor: false\ntrust_anchors: ['bogus.test. IN DS 12345 13 2 " + strings.Repeat("AB", 32) + "']",
		more: fmt.Sprintf("control:\n  socket: %q\nstub_zones:\n  - {name: free.test, servers: [{address: %q}]}\n  - {name: bogus.test, servers: [{address: %q}]}\n",
			socket, c.at, c.at),
	})
	return s, c, func(args ...string) (stdout, stderr string, code int) {
		t.Helper()
		return runServer(t, "", append([]string{"ctl", "--socket", socket}, args...)...)
	}
}

// succeed runs a command that has to succeed, and returns what it prints.
func succeed(t *testing.T, ctl func(args ...string) (stdout, stderr string, code int), args ...string) string {
	t.Helper()
	stdout, stderr, code := ctl(args...)
	if code != 0 || stderr != "" {
		t.Errorf("shirube ctl %v: exit code %d, %s", args, code, stderr)
	}
	return stdout
}

func TestCtlShowsARunningServer(t *testing.T) {
	t.Parallel()
	s, _, ctl := controlled(t)
	for _, want := range []string{buildVersion, "ready", fmt.Sprintf("127.0.0.1:%d udp", s.port), "validation", "trust anchor"} {
		if out := succeed(t, ctl, "status"); !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	var status struct {
		State string
		PID   int
	}
	if err := json.Unmarshal([]byte(succeed(t, ctl, "status", "--json")), &status); err != nil || status.State != "ready" || status.PID != s.pid() {
		t.Errorf("%v, %+v", err, status)
	}
	out := succeed(t, ctl, "trace", "www.plain.west", "A")
	for _, want := range []string{"question  www.plain.west. A", "zone      . ", addrRoot, addrNSDZones, "referral to ", "verdict", "\nNOERROR, ", "www.plain.west.\t"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in the trace\n%s", want, out)
		}
	}
	if again := succeed(t, ctl, "trace", "www.plain.west", "A"); !strings.Contains(again, "memory") || strings.Contains(again, "query") {
		t.Errorf("the second trace does not use what the first has found:\n%s", again)
	}
	if out := succeed(t, ctl, "lookup", "www.plain.west"); !strings.Contains(out, "plain.west. (learned)") || !strings.Contains(out, addrNSDZones) {
		t.Errorf("the look-up is\n%s", out)
	}
	if out := succeed(t, ctl, "stats", "upstream.udp."); !strings.Contains(out, "upstream.udp.ipv4") || strings.Contains(out, "frontend") {
		t.Errorf("the counters are\n%s", out)
	}
	succeed(t, ctl, "log-level", "debug")
	s.ask("dig", "127.0.0.1").one(t, "nosuchserver.bogus.test", "A")
	if _, err := s.await(s.out, "level=DEBUG", startTimeout); err != nil {
		t.Error(err)
	}
	if _, stderr, code := ctl("trace", "www.bogus.test"); code != 1 || !strings.Contains(stderr, "shirube: www.bogus.test. A: ") {
		t.Errorf("a trace that fails: exit code %d, %s", code, stderr)
	}
}

func TestCtlFlushHasNamesAskedForAgain(t *testing.T) {
	t.Parallel()
	s, c, ctl := controlled(t)
	const name, question = "www.free.test", "www.free.test. A"
	asks := 0
	expect := func(when string, more int) {
		t.Helper()
		if r := s.ask("dig", "127.0.0.1").one(t, name, "A"); r.status != "NOERROR" || len(r.texts("ANSWER")) != 1 {
			t.Errorf("%s:\n%s", when, r.raw)
		}
		if asks += more; c.times(question) != asks {
			t.Errorf("%s: asked %d times so far, want %d", when, c.times(question), asks)
			asks = c.times(question)
		}
	}
	expect("at first", 1)
	expect("from memory", 0)
	for _, step := range []struct {
		args string
		more int
	}{
		{"flush " + name, 1},
		{"flush " + name + " MX", 0},
		{"flush " + name + " A", 1},
		{"flush free.test", 0},
		{"flush --subtree free.test", 1},
		{"flush --subtree bogus.test", 0},
		{"flush --all", 1},
	} {
		if out := succeed(t, ctl, strings.Fields(step.args)...); !strings.HasPrefix(out, "forgotten: ") {
			t.Errorf("%s: %s", step.args, out)
		}
		expect("after "+step.args, step.more)
	}
}

func TestCtlNegativeAnchorLetsABrokenZoneBeAnswered(t *testing.T) {
	t.Parallel()
	s, _, ctl := controlled(t)
	expect := func(when, status, ede string) {
		t.Helper()
		r := s.ask("dig", "127.0.0.1").one(t, "+dnssec", "www.bogus.test", "A")
		if r.status != status || slices.Contains(strings.Fields(r.flags), "ad") || !strings.Contains(r.raw, "EDE: "+ede) {
			t.Errorf("%s: want %s without AD, EDE %q, got\n%s", when, status, ede, r.raw)
		}
	}
	expect("at first", "SERVFAIL", "9 (DNSKEY Missing)")
	if out := succeed(t, ctl, "nta", "add", "bogus.test", "--for", "2h", "--reason", "a test"); !strings.Contains(out, "bogus.test.") {
		t.Errorf("added:\n%s", out)
	}
	expect("with a negative trust anchor", "NOERROR", "33: ")
	for _, args := range []string{"nta list", "status"} {
		if out := succeed(t, ctl, strings.Fields(args)...); !strings.Contains(out, "bogus.test.") || !strings.Contains(out, "a test") {
			t.Errorf("%s:\n%s", args, out)
		}
	}
	succeed(t, ctl, "nta", "remove", "bogus.test")
	expect("without it again", "SERVFAIL", "9 (DNSKEY Missing)")
	if _, stderr, code := ctl("nta", "remove", "bogus.test"); code != 1 || !strings.Contains(stderr, "no negative trust anchor") {
		t.Errorf("what is not there is removed: exit code %d, %s", code, stderr)
	}
	if _, stderr, code := ctl("nta", "add", "bogus.test", "--for", "8d"); code != 1 || !strings.Contains(stderr, "RFC 7646") {
		t.Errorf("for more than a week: exit code %d, %s", code, stderr)
	}
}

// TestCommandsOfTheControlPageWork runs every line of the shell blocks of
// docs/control.md, one after the other, on a running server.
func TestCommandsOfTheControlPageWork(t *testing.T) {
	t.Parallel()
	s, _, ctl := controlled(t)
	if !strings.Contains(succeed(t, ctl, "status"), "ready") {
		t.Fatal("the server is not ready")
	}
	dir := t.TempDir()
	if err := os.Symlink(built.plain, filepath.Join(dir, "shirube")); err != nil {
		t.Fatal(err)
	}
	socket := socketOf(t, s)
	commands := 0
	for _, p := range pages(t) {
		if p.path != "docs/control.md" {
			continue
		}
		blocks, _ := p.split(t)
		for _, b := range blocks {
			if b.language != "sh" {
				continue
			}
			for line := range strings.Lines(b.text) {
				commands++
				ctx, cancel := context.WithTimeout(t.Context(), askTimeout)
				cmd := exec.CommandContext(ctx, "bash", "-c", strings.ReplaceAll(strings.Replace(line, "curl ", "curl --fail-with-body --silent --show-error ", 1), "/run/shirube/control.sock", socket))
				cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "RUNTIME_DIRECTORY="+filepath.Dir(socket))
				if out, err := cmd.CombinedOutput(); err != nil || len(out) == 0 {
					t.Errorf("%s: %s: %v\n%s", b.where, strings.TrimSpace(line), err, out)
				}
				cancel()
			}
		}
	}
	if commands < 15 {
		t.Errorf("only %d commands: this test looks in the wrong place", commands)
	}
}

// socketOf returns the path of the control socket that s was configured with.
func socketOf(t *testing.T, s *server) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, "shirube.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "  socket: \"")
	path, _, ok := strings.Cut(rest, "\"")
	if !ok {
		t.Fatal("no socket in the configuration")
	}
	return path
}
