package rpl

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"shirube/internal/config"
)

// The other side of a scenario that is played to the built server: this test
// binary again, in a network of its own, told by the environment what to play,
// with what, and where to leave the outcome.
const (
	playEnv    = "SHIRUBE_RPL_PLAY"
	binaryEnv  = "SHIRUBE_RPL_BINARY"
	outcomeEnv = "SHIRUBE_RPL_OUTCOME"
)

// Where the server listens. The scenario's servers have port 53 of every
// address.
var (
	listen4 = netip.MustParseAddrPort("127.0.0.1:5300")
	listen6 = netip.MustParseAddrPort("[::1]:5300")
)

const (
	startTimeout    = 20 * time.Second
	scenarioTimeout = 2 * time.Minute
	// atOnce is how many scenarios are played at once: they spend their time
	// waiting.
	atOnce = 8
)

// TestScenariosBlackBox plays the scenarios of this repository to the built
// server, over sockets.
func TestScenariosBlackBox(t *testing.T) {
	files, err := filepath.Glob("testdata/*.rpl")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	outcomes := playOutside(t, files)
	for i, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".rpl"), func(t *testing.T) {
			switch out := outcomes[i]; {
			case out.err != nil:
				t.Errorf("%v\nqueries sent:\n%s", out.err, out.sent)
			case out.skipped != nil:
				t.Errorf("not played: %s", strings.Join(out.skipped, ", "))
			}
		})
	}
}

// playOutside plays each scenario to a built server of its own, in a network of
// its own.
func playOutside(t *testing.T, files []string) []outcome {
	t.Helper()
	dir := t.TempDir()
	binary := filepath.Join(dir, "shirube")
	if text, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "shirube/cmd/shirube").CombinedOutput(); err != nil {
		t.Fatalf("building the server: %v\n%s", err, text)
	}
	outcomes := make([]outcome, len(files))
	places := make(chan struct{}, atOnce)
	var wg sync.WaitGroup
	for i, file := range files {
		places <- struct{}{}
		wg.Go(func() { // ends with scenarioTimeout; atOnce of them
			outcomes[i] = playAlone(t.Context(), file, binary, filepath.Join(dir, strconv.Itoa(i)))
			<-places
		})
	}
	wg.Wait()
	return outcomes
}

// told is an outcome as the other side tells it.
type told struct {
	Skipped   []string
	Err, Sent string
}

// playAlone has the other side play one scenario.
func playAlone(ctx context.Context, file, binary, result string) outcome {
	ctx, cancel := context.WithTimeout(ctx, scenarioTimeout)
	defer cancel()
	file, err := filepath.Abs(file)
	if err != nil {
		return outcome{err: err}
	}
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestScenarioAlone$", "-test.count=1")
	cmd.Env = append(os.Environ(), playEnv+"="+file, binaryEnv+"="+binary, outcomeEnv+"="+result)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	text, runErr := cmd.CombinedOutput()
	b, err := os.ReadFile(result)
	var out told
	if err == nil {
		err = json.Unmarshal(b, &out)
	}
	if err != nil {
		return outcome{err: fmt.Errorf("the scenario was not played: %w, %w\n%s", runErr, err, text)}
	}
	o := outcome{skipped: out.Skipped, sent: out.Sent}
	if out.Err != "" {
		o.err = errors.New(out.Err)
	}
	return o
}

// TestScenarioAlone is the other side of playAlone. There is nothing to test
// when nobody asks for it.
func TestScenarioAlone(t *testing.T) {
	file := os.Getenv(playEnv)
	if file == "" {
		return
	}
	o := replayOutside(t, file, os.Getenv(binaryEnv))
	out := told{Skipped: o.skipped, Sent: o.sent}
	if o.err != nil {
		out.Err = o.err.Error()
	}
	b, err := json.Marshal(out)
	if err == nil {
		err = os.WriteFile(os.Getenv(outcomeEnv), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// replayOutside plays the scenario in file to the server binary.
func replayOutside(t *testing.T, file, binary string) outcome {
	t.Helper()
	sc, p, out := load(t, file)
	if p == nil {
		return out
	}
	if err := everyAddressIsLocal(t.Context()); err != nil {
		return outcome{err: err}
	}
	world := NewWorld(sc)
	world.Minimised = p.cfg.Resolver.QNameMinimisation != config.MinimisationOff
	sockets, err := Listen(world)
	if err != nil {
		return outcome{err: err}
	}
	defer func() { _ = sockets.Close() }() // the process ends
	server, stop, err := startOutside(t, sc, p, binary)
	if err != nil {
		return outcome{err: err}
	}
	err = PlayServer(t.Context(), sc, sockets, server, p.play)
	log, died := stop()
	if died != nil {
		err = errors.Join(err, died)
	}
	if err == nil {
		return outcome{}
	}
	return outcome{err: err, sent: world.Sent() + "the server's log:\n" + log}
}

// everyAddressIsLocal makes every address one of this machine, which is in a
// network of its own: the scenario's servers are anywhere.
func everyAddressIsLocal(ctx context.Context) error {
	for _, args := range []string{
		"link set lo up", "-4 route add local 0.0.0.0/0 dev lo", "-6 route add local ::/0 dev lo",
	} {
		if text, err := exec.CommandContext(ctx, "ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", args, err, text)
		}
	}
	return nil
}

// startOutside starts the binary with the plan's settings, and returns how to
// reach it and how to stop it, which returns its log and whether it had ended
// before.
func startOutside(t *testing.T, sc *Scenario, p *plan, binary string) (server Server, stop func() (log string, died error), err error) {
	t.Helper()
	now := time.Duration(0)
	if !p.date.IsZero() {
		now = time.Until(p.date)
	}
	offset := filepath.Join(p.dir, "offset")
	move := func(d time.Duration) error {
		now += d
		return os.WriteFile(offset, fmt.Appendf(nil, "%.3f\n", now.Seconds()), 0o600)
	}
	if err := move(0); err != nil {
		return server, nil, err
	}
	both := []config.Protocol{config.ProtocolUDP, config.ProtocolTCP}
	p.cfg.Listen = []config.Listener{{Address: listen4, Protocols: both}, {Address: listen6, Protocols: both}}
	p.cfg.Debug = config.Debug{Enabled: true, ClockOffsetFile: offset}
	// Most of these servers answer in a spelling of their own, and some clients
	// wait for as long as it takes. Who counts queries does not expect those that
	// a server which does not know cookies makes necessary.
	p.cfg.Resolver.UseCapsForID = false
	p.cfg.Limits.UDPDiscardTimeout = time.Minute
	p.cfg.Resolver.UpstreamCookies = !slices.ContainsFunc(sc.Steps, func(st Step) bool { return st.Kind == CheckSent })
	file := filepath.Join(p.dir, "shirube.yaml")
	if err := os.WriteFile(file, []byte(p.cfg.YAML()), 0o600); err != nil {
		return server, nil, err
	}
	log := &logged{ready: make(chan struct{})}
	cmd := exec.Command(binary, "serve", "--config", file)
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		return server, nil, err
	}
	ended := make(chan struct{})
	go func() { // ends with the process, which stop ends
		_ = cmd.Wait() // how it ended is in ProcessState
		close(ended)
	}()
	stop = func() (string, error) {
		var died error
		select {
		case <-ended:
			died = fmt.Errorf("the server ended: %v", cmd.ProcessState)
		default:
			_ = cmd.Process.Kill()
			<-ended
		}
		return log.String(), died
	}
	t.Cleanup(func() { _, _ = stop() })
	select {
	case <-log.ready:
		return Server{IPv4: listen4, IPv6: listen6, Move: move}, stop, nil
	case <-ended:
		err = errors.New("the server did not start")
	case <-time.After(startTimeout):
		err = fmt.Errorf("the server was not ready within %v", startTimeout)
	}
	text, _ := stop()
	return server, nil, fmt.Errorf("%w:\n%s", err, text)
}

// logged is what the server logs. ready is closed when it is.
type logged struct {
	mu    sync.Mutex
	text  bytes.Buffer
	ready chan struct{}
	told  bool
}

// Write implements [io.Writer].
func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	if !l.told && bytes.Contains(l.text.Bytes(), []byte("msg=ready")) {
		l.told = true
		close(l.ready)
	}
	return len(p), nil
}

// String returns what was logged.
func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
