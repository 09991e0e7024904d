package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"shirube/internal/porttest"
)

// upgradable writes the configuration of a server on a port that has a control
// socket, and returns the file and the socket.
func upgradable(t *testing.T, port int) (conf, socket string) {
	t.Helper()
	dir := t.TempDir()
	conf, socket = filepath.Join(dir, "shirube.yaml"), filepath.Join(dir, "control.sock")
	hints := filepath.Join(dir, "root.hints")
	writeFile(t, hints, built.world.hints())
	writeFile(t, conf, settings{
		listen: []string{"127.0.0.1", "::1"}, port: built.world.port, limits: "udp_readers: 2\nudp_discard_timeout: 20s",
		resolver: "timeout: 4s", more: fmt.Sprintf("control:\n  socket: %q\n", socket),
	}.yaml(hints, port))
	return conf, socket
}

// takingOver starts a process that takes the place of the one that there is, if
// there is one, and waits until it serves.
func takingOver(t *testing.T, binary, conf string) *process {
	t.Helper()
	p, err := start("shirube", []string{binary, "serve", "--config", conf, "--take-over"}, []string{raceEnv}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { endOf(t, p) })
	if _, err := p.await(p.out, "msg=ready", startTimeout); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestTakeOverLosesNoQuery has one process follow the other ten times under load.
// Meanwhile there are always questions in flight that no name server answers, for
// which a process that is stopped would wait.
func TestTakeOverLosesNoQuery(t *testing.T) {
	port := int(porttest.Take(t))
	conf, _ := upgradable(t, port)
	p := takingOver(t, built.plain, conf)
	queries, late := filepath.Join(t.TempDir(), "queries"), filepath.Join(t.TempDir(), "late")
	writeFile(t, queries, "localhost A\n")
	var silent strings.Builder
	for i := range 500 {
		fmt.Fprintf(&silent, "n%d.silent.west A\n", i)
	}
	writeFile(t, late, silent.String())
	steady, slow := make(chan load, 1), make(chan load, 1)
	at := &server{port: port}
	go func() { // owner: this test; end: after eight seconds; bound: one
		steady <- dnsperf(t, at, "-d", queries, "-l", "8", "-Q", strconv.Itoa(restartRate), "-q", "20000", "-b", "4096")
	}()
	go func() { // owner: this test; end: when all are answered; bound: one
		slow <- dnsperf(t, at, "-d", late, "-n", "1", "-Q", "60", "-q", "1000", "-t", "15")
	}()
	clients := startPatients(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port)), 8, 2)
	begun := time.Now()
	var before []*process
	for range 10 {
		next := takingOver(t, built.plain, conf)
		before = append(before, p)
		p = next
		time.Sleep(300 * time.Millisecond)
	}
	took := time.Since(begun)
	clients.end(t)
	if l := <-steady; l.sent < restartRate || l.completed != l.sent || l.lost != 0 {
		t.Errorf("dnsperf: %+v", l)
	}
	// Each got its SERVFAIL from the process that it came to.
	if l := <-slow; l.completed != 500 || l.rcodes["SERVFAIL"] != 500 {
		t.Errorf("questions that no name server answers: %+v", l)
	}
	for i, b := range before {
		if !b.wait(stopTimeout) || b.exitCode() != 0 {
			t.Errorf("process %d: %s", i, b.state())
		}
		if strings.Contains(b.out.String(), "abandoned") {
			t.Errorf("process %d has abandoned queries:\n%s", i, b.out)
		}
	}
	t.Logf("%d queries answered in %v over 10 changes; %d connections were made anew", clients.answered.Load(), took, clients.redialled.Load())
	if clients.answered.Load() < 5000 {
		t.Errorf("only %d answers: that is no load", clients.answered.Load())
	}
}

// TestCtlUpgradeStartsTheProgramAnew and ends only when that serves.
func TestCtlUpgradeStartsTheProgramAnew(t *testing.T) {
	t.Parallel()
	port := int(porttest.Take(t))
	conf, socket := upgradable(t, port)
	p := takingOver(t, built.race, conf)
	ctl := func(args ...string) (stdout, stderr string, code int) {
		return runServer(t, "", append([]string{"ctl", "--socket", socket}, args...)...)
	}
	var status struct{ PID int }
	if err := json.Unmarshal([]byte(succeed(t, ctl, "upgrade", "--json")), &status); err != nil || status.PID == p.pid() {
		t.Fatalf("the process before is %d; now it is %+v, %v", p.pid(), status, err)
	}
	next := status.PID
	defer func() { _ = syscall.Kill(next, syscall.SIGKILL) }()
	if _, err := p.await(p.out, "msg=statistics", startTimeout); err != nil { // its last word
		t.Error(err)
	}
	s := &server{port: port, process: p}
	if r := s.ask("dig", "127.0.0.1").one(t, "www.plain.west.", "A"); r.status != "NOERROR" {
		t.Errorf("got %s", r.status)
	}

	// What cannot be started changes nothing, and is told.
	writeFile(t, conf, "listne: []\n")
	if _, stderr, code := ctl("upgrade"); code != 1 || !strings.Contains(stderr, "exit status 2") {
		t.Errorf("with a bad file: exit code %d, %s", code, stderr)
	}
	if got := succeed(t, ctl, "status"); !strings.Contains(got, strconv.Itoa(next)) {
		t.Errorf("the process %d is gone:\n%s", next, got)
	}
	if err := syscall.Kill(next, syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if !p.wait(stopTimeout) || p.exitCode() != 0 { // the other one has its output
		t.Errorf("the process before: %s", p.state())
	}
	if _, _, code := ctl("status"); code != 3 {
		t.Error("the process after it does not stop")
	}
}
