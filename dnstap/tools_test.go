package dnstap

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"shirube/internal/porttest"
	"shirube/internal/wire"
)

// program returns where a program is that tests need.
func program(t *testing.T, name, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not installed; on Debian it is in %s, which tools/install-test-deps installs", name, pkg)
	}
	return path
}

// capture runs fstrm_capture, which writes what it is sent to a file, until the
// returned function is called. That returns the number of frames in the file.
func capture(t *testing.T, args ...string) (p *os.Process, end func() int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "captured")
	cmd := exec.CommandContext(context.Background(), program(t, "fstrm_capture", "fstrm-bin"),
		append([]string{"-t", ContentType, "-w", file}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd.Process, func() int {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Logf("fstrm_capture: %v\n%s", err, stderr.String())
		}
		return len(readFile(t, file))
	}
}

// listenAt returns an address of loopback where a program may listen.
func listenAt(t *testing.T) netip.AddrPort {
	t.Helper()
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), porttest.Take(t))
}

func TestFstrmCaptureTakesEveryFrame(t *testing.T) {
	socket, at := socketPath(t), listenAt(t)
	for _, tt := range []struct {
		name   string
		args   []string
		stream Stream
	}{
		{"unix", []string{"-u", socket}, Stream{Network: "unix", Address: socket}},
		{"TCP", []string{"-a", at.Addr().String(), "-p", strconv.Itoa(int(at.Port()))}, Stream{Network: "tcp", Address: at.String()}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, end := capture(t, tt.args...)
			tap := start(t, Options{Outputs: []Output{{Stream: &tt.stream, Filter: all(), QueueSize: 64 << 20}}})
			const n = 100_000
			emitMany(tap, n)
			waitFor(t, tap, "connected", func(s OutputStats) bool { return s.Opened > 0 })
			shut(t, tap)
			if s := stats(t, tap); s.Sent != n {
				t.Errorf("%+v", s)
			}
			if got := end(); got != n {
				t.Errorf("%d frames came", got)
			}
		})
	}
}

// TestStoppedCollectorSlowsNobody stops a real collector for longer than a write
// may take, so that the connection is given up in the middle of a frame.
func TestStoppedCollectorSlowsNobody(t *testing.T) {
	socket := socketPath(t)
	p, end := capture(t, "-u", socket)
	tap := start(t, Options{Outputs: []Output{{Stream: &Stream{Network: "unix", Address: socket}, Filter: all(), QueueSize: 4 << 20}}})
	waitFor(t, tap, "connected", func(s OutputStats) bool { return s.State == Connected })
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	emitted, slowest := uint64(0), time.Duration(0)
	emit := func() {
		begun := time.Now()
		tap.Emit(int(emitted), message(ClientQuery, uint16(emitted)))
		slowest = max(slowest, time.Since(begun))
		emitted++
	}
	noticed := false
	for until := time.Now().Add(writeTimeout + 2*time.Second); time.Now().Before(until); {
		for range 100 {
			emit()
		}
		noticed = noticed || tap.Stats()[0].State == Stalled
		time.Sleep(time.Millisecond)
	}
	if err := p.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if slowest > writeTimeout/10 { // what waits for the collector waits longer; a busy machine does not
		t.Errorf("a message took %v", slowest)
	}
	waitFor(t, tap, "connected again", func(s OutputStats) bool { return s.Opened > 1 })
	emit()
	shut(t, tap)
	s := stats(t, tap)
	if !noticed || s.Emitted != emitted || s.Dropped == 0 || s.Queued != 0 || s.Sent+s.Dropped != emitted {
		t.Errorf("%d emitted, stall noticed: %v: %+v", emitted, noticed, s)
	}
	if got := end(); uint64(got) != s.Sent {
		t.Errorf("%d frames came of %d that were sent", got, s.Sent)
	}
}

func TestDnstapLdnsPrintsWhatWasAsked(t *testing.T) {
	dir := t.TempDir()
	plain := Filter{Sample: all().Sample, Protos: []wire.Proto{wire.UDP}}
	tap := start(t, Options{Identity: "tokyo-1", Version: "shirube 1", Outputs: []Output{
		{File: &File{Path: filepath.Join(dir, "all")}, Filter: all()},
		// Debian's version 0.2.1 ends with -y at a transport that it does not know.
		{File: &File{Path: filepath.Join(dir, "clear")}, Filter: plain},
	}})
	zoned := message(ResolverResponse, 9)
	zoned.Zone, zoned.Proto = wire.MustParseName("example.com."), wire.TCP
	zoned.Query, zoned.Response = netip.MustParseAddrPort("[2001:db8::1]:4000"), netip.MustParseAddrPort("[2001:db8::53]:53")
	secure := message(ClientQuery, 10)
	secure.Proto, secure.Policy = wire.DoQ, wire.PolicyBuiltin
	for _, m := range []*Message{message(ClientQuery, 8), message(ClientResponse, 8), zoned, secure} {
		tap.Emit(0, m)
	}
	shut(t, tap)
	run := func(flag, file string) string {
		out, err := exec.CommandContext(t.Context(), program(t, "dnstap-ldns", "dnstap-ldns"), flag, "-r", filepath.Join(dir, file)).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	var quiet []string
	for line := range strings.Lines(run("-q", "all")) {
		quiet = append(quiet, strings.SplitN(line, " ", 3)[2]) // without date and time, which are local
	}
	for i, want := range []string{
		`CQ 192.0.2.1 UDP 33b "wWw.example.com." IN A`,
		`CR 192.0.2.1 UDP 33b "wWw.example.com." IN A`,
		`RR 2001:db8::53 TCP 33b "wWw.example.com." IN A`,
		`CQ 192.0.2.1 ? 33b "wWw.example.com." IN A`, // it does not know DoQ
	} {
		if i >= len(quiet) || !strings.HasPrefix(quiet[i], want) {
			t.Errorf("line %d of %q; expected %q", i, quiet, want)
		}
	}
	yaml := run("-y", "clear")
	for _, want := range []string{
		`identity: "tokyo-1"`, `version: "shirube 1"`, "type: CLIENT_QUERY", "query_time: !!timestamp 2023-11-14 22:13:20.123456",
		"response_time: !!timestamp 2023-11-14 22:13:21.", "socket_family: INET6", "socket_protocol: TCP",
		`query_address: "2001:db8::1"`, "response_port: 53", `query_zone: "example.com."`,
	} {
		if !strings.Contains(yaml, want) {
			t.Errorf("no %s in\n%s", want, yaml)
		}
	}
}
