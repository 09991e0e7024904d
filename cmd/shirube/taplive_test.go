package main

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/dnstap"
	"shirube/dnstap/dnstaptest"
	"shirube/internal/wire"
)

// aloneEnv holds the arguments that TestTapAlone runs `shirube tap` with.
const aloneEnv = "SHIRUBE_TEST_TAP"

// TestTapAlone is `shirube tap` in a process of its own, for terminals. There is
// nothing to test when nobody asks for it.
func TestTapAlone(*testing.T) {
	if args := os.Getenv(aloneEnv); args != "" {
		os.Exit(run(append([]string{"tap"}, strings.Split(args, "\n")...)))
	}
}

// tmux is a terminal of its own, which tests can look at and type into.
type tmux struct {
	t      *testing.T
	socket string
}

// startTmux runs `shirube tap` with args on a terminal of so many columns and
// lines.
func startTmux(t *testing.T, columns, lines int, args ...string) *tmux {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Fatal("tmux is not installed; tools/install-test-deps installs it")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	m := &tmux{t, filepath.Join(t.TempDir(), "tmux")}
	m.do("-f", "/dev/null", "new-session", "-d", "-x", fmt.Sprint(columns), "-y", fmt.Sprint(lines),
		"-e", aloneEnv+"="+strings.Join(args, "\n"), "-e", "TZ=UTC", self+" -test.run='^TestTapAlone$'; echo ended $?; cat")
	t.Cleanup(func() { _ = exec.Command("tmux", "-S", m.socket, "kill-server").Run() })
	return m
}

// do runs one command of tmux.
func (m *tmux) do(args ...string) string {
	m.t.Helper()
	out, err := exec.CommandContext(m.t.Context(), "tmux", append([]string{"-S", m.socket}, args...)...).CombinedOutput()
	if err != nil {
		m.t.Fatalf("tmux %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// screen returns what the terminal shows.
func (m *tmux) screen() string { return m.do("capture-pane", "-p") }

// wait waits until the terminal shows all of want, and returns all that it shows.
func (m *tmux) wait(want ...string) string {
	m.t.Helper()
	return m.until(fmt.Sprintf("%q", want), func(screen string) bool {
		return !slices.ContainsFunc(want, func(w string) bool { return !strings.Contains(screen, w) })
	})
}

// until waits until ok holds for what the terminal shows, and returns that.
func (m *tmux) until(what string, ok func(screen string) bool) string {
	m.t.Helper()
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		screen := m.screen()
		if ok(screen) {
			return screen
		}
		if time.Now().After(until) {
			m.t.Fatalf("never: %s\n%s", what, screen)
		}
	}
}

// traffic emits n queries and their answers to tap, as of a small household.
func traffic(t *testing.T, tap *dnstap.Tap, n int) {
	t.Helper()
	kinds := []struct {
		name   string
		typ    uint16
		rcode  int
		proto  wire.Proto
		client string
		took   time.Duration
	}{
		{"www.example.com.", dns.TypeA, dns.RcodeSuccess, wire.UDP, "192.0.2.17", 61 * time.Microsecond},
		{"www.example.com.", dns.TypeAAAA, dns.RcodeSuccess, wire.UDP, "192.0.2.17", 58 * time.Microsecond},
		{"www.example.com.", dns.TypeHTTPS, dns.RcodeSuccess, wire.DoH, "2001:db8:7::42", 83 * time.Microsecond},
		{"mail.example.net.", dns.TypeMX, dns.RcodeSuccess, wire.DoT, "2001:db8:7::43", 24 * time.Millisecond},
		{"wpad.home.example.", dns.TypeA, dns.RcodeNameError, wire.UDP, "192.0.2.99", 47 * time.Microsecond},
		{"broken.example.org.", dns.TypeA, dns.RcodeServerFailure, wire.TCP, "192.0.2.17", 1800 * time.Millisecond},
		{"cdn.example.com.", dns.TypeA, dns.RcodeSuccess, wire.DoQ, "198.51.100.7", 70 * time.Microsecond},
	}
	order := []int{0, 1, 2, 0, 3, 4, 0, 1, 5, 6}
	for i := range n {
		k := kinds[order[i%len(order)]]
		q := new(dns.Msg).SetQuestion(k.name, k.typ)
		a := new(dns.Msg).SetRcode(q, k.rcode)
		for j, m := range []*dns.Msg{q, a} {
			raw, err := m.Pack()
			if err != nil {
				t.Fatal(err)
			}
			asked := time.Now().Add(-k.took)
			tap.Emit(i, &dnstap.Message{
				Type: dnstap.ClientQuery + dnstap.Type(j), Proto: k.proto, Msg: raw, QueryTime: asked, ResponseTime: asked.Add(k.took),
				Query: netip.AddrPortFrom(netip.MustParseAddr(k.client), 40000), Response: netip.MustParseAddrPort("192.0.2.1:53"),
			})
		}
	}
}

// sendTo returns a tap that sends to a unix socket, until the test ends.
func sendTo(t *testing.T, socket string) *dnstap.Tap {
	t.Helper()
	tap, err := dnstap.New(dnstap.Options{Outputs: []dnstap.Output{{
		Stream: &dnstap.Stream{Network: "unix", Address: socket}, Filter: dnstaptest.All(),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	tap.Start()
	t.Cleanup(func() { _ = tap.Close(t.Context()) }) // the collector may have gone
	return tap
}

func TestLiveViewOnATerminal(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	m := startTmux(t, 100, 30, "--live", "--unix", socket)
	m.wait("shirube tap", "filter: none", "q quit")
	traffic(t, sendTo(t, socket), 700)
	m.wait("1400 of 1400 messages", "TRANSPORT", "DOH/HTTP2", "NXDOMAIN", "HTTPS", "www.example.com.", "192.0.2.17", " CR UDP ")

	m.do("resize-window", "-x", "50", "-y", "10")
	m.until("the view fits", func(screen string) bool {
		lines := strings.Split(strings.TrimRight(screen, "\n"), "\n")
		return len(lines) == 10 && strings.HasPrefix(lines[0], "shirube tap") && strings.HasPrefix(lines[9], "q quit") && !strings.Contains(screen, "TRANSPORT")
	})
	m.do("resize-window", "-x", "100", "-y", "30")
	m.wait("TRANSPORT", "q quit")

	m.do("send-keys", "-l", "/name:example.org rcode:servfaix")
	m.wait("filter: name:example.org rcode:servfaix_")
	m.do("send-keys", "BSpace")
	m.do("send-keys", "-l", "l")
	m.do("send-keys", "Enter")
	m.wait("filter: name:example.org rcode:servfail", "0 of 0 messages")
	traffic(t, sendTo(t, socket), 70)
	screen := m.wait("7 of 140 messages", "broken.example.org.")
	if strings.Contains(screen, "www.example.com") {
		t.Errorf("the filter is not obeyed:\n%s", screen)
	}
	m.do("send-keys", "-l", "/ nonsense")
	m.do("send-keys", "Enter")
	m.wait(`found "nonsense"; expected name:`, "filter: name:example.org rcode:servfail")
	m.do("send-keys", "-l", "p")
	m.wait("PAUSED")
	m.do("send-keys", "-l", "q")
	m.wait("ended 0")
	if strings.Contains(m.screen(), "TRANSPORT") {
		t.Errorf("the terminal is not given back:\n%s", m.screen())
	}
}

func TestLiveViewNeedsATerminal(t *testing.T) {
	_, _, err := runTap(t.Context(), "--live", tapFile(t, 1))
	if err == nil || !strings.Contains(err.Error(), "needs a terminal") {
		t.Errorf("got %v", err)
	}
}
