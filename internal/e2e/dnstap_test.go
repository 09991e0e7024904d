package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestDnstapTellsRealTools has a built server tell fstrm_capture of a cold
// question over UDP and TCP, and dnstap-ldns print what came.
func TestDnstapTellsRealTools(t *testing.T) {
	dir := t.TempDir()
	socket, captured, file := filepath.Join(dir, "sock"), filepath.Join(dir, "captured"), filepath.Join(dir, "own.fstrm")
	collector := exec.CommandContext(t.Context(), "fstrm_capture", "-t", "protobuf:dnstap.Dnstap", "-u", socket, "-w", captured)
	if err := collector.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = collector.Process.Kill() })
	s := serve(t, settings{more: fmt.Sprintf("identity: {nsid: tokyo-1}\ndnstap:\n  outputs: [{socket: %q}, {file: %q}]\n", socket, file)})
	name := "www.plain.west"
	for _, how := range [][]string{{"+notcp"}, {"+tcp"}} {
		s.ask("dig", "127.0.0.1", how...).run(t, name, "A")
	}
	endOf(t, s.process) // it says goodbye to the collector
	if err := collector.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = collector.Wait() // it says how it ended, not whether it wrote
	for _, f := range []string{captured, file} {
		out, err := exec.CommandContext(t.Context(), "dnstap-ldns", "-q", "-r", f).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		lines := string(out)
		for _, want := range []string{
			" CQ 127.0.0.1 UDP ", " CR 127.0.0.1 UDP ", " CQ 127.0.0.1 TCP ", " CR 127.0.0.1 TCP ", " RQ 127.54.", " RR 127.54.",
		} {
			if !strings.Contains(lines, want) {
				t.Errorf("%s: no %q in\n%s", filepath.Base(f), want, lines)
			}
		}
		yaml, err := exec.CommandContext(t.Context(), "dnstap-ldns", "-y", "-r", f).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, yaml)
		}
		for _, want := range []string{`identity: "tokyo-1"`, `version: "shirube ` + buildVersion + `"`, `query_zone: "plain.west."`, `query_zone: "."`} {
			if !strings.Contains(string(yaml), want) {
				t.Errorf("%s: no %s in\n%s", filepath.Base(f), want, yaml)
			}
		}
	}
}

// TestTapCountsWhatDnsperfSent holds the shares of transports that the collector
// counts to what was sent, to the query.
func TestTapCountsWhatDnsperfSent(t *testing.T) {
	dir := t.TempDir()
	socket, queries := filepath.Join(dir, "sock"), filepath.Join(dir, "queries")
	writeFile(t, queries, strings.Repeat("www.plain.west A\nnowhere.plain.west AAAA\n", 50))
	tap := launch(t, launched{}, "tap", "--unix", socket, "--format", "none", "--counts")
	for until := time.Now().Add(startTimeout); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(socket); err == nil {
			break
		}
		if time.Now().After(until) {
			t.Fatal("the collector does not listen")
		}
	}
	s := serve(t, settings{more: fmt.Sprintf("dnstap:\n  outputs: [{socket: %q, queue_size: 64MiB}]\n", socket)})
	udp := dnsperf(t, s, "-d", queries, "-n", "30")
	tcp := dnsperf(t, s, "-d", queries, "-n", "20", "-m", "tcp")
	endOf(t, s.process)
	endOf(t, tap)
	_, report, ok := strings.Cut(tap.out.String(), "\n{\n")
	if !ok {
		report = strings.TrimPrefix(tap.out.String(), "{\n")
	}
	var stats struct {
		Counts []struct {
			Type, Transport, Rcode string
			Frames                 int
		}
		Malformed, Lost int
		QTypes          map[string]int
	}
	if err := json.Unmarshal([]byte("{\n"+report), &stats); err != nil {
		t.Fatalf("%v in\n%s", err, tap.out.String())
	}
	got := map[string]int{}
	for _, c := range stats.Counts {
		if strings.HasPrefix(c.Type, "CLIENT_") {
			got[c.Type+" "+c.Transport] += c.Frames
			got[c.Type+" "+c.Rcode] += c.Frames
		}
	}
	if udp.sent != 3000 || tcp.sent != 2000 {
		t.Errorf("sent %d and %d", udp.sent, tcp.sent)
	}
	for what, want := range map[string]int{
		"CLIENT_QUERY UDP": 3000, "CLIENT_QUERY TCP": 2000, "CLIENT_RESPONSE UDP": 3000, "CLIENT_RESPONSE TCP": 2000,
		"CLIENT_RESPONSE NOERROR": 2500, "CLIENT_RESPONSE NXDOMAIN": 2500,
	} {
		if got[what] != want {
			t.Errorf("%d times %s; expected %d", got[what], what, want)
		}
	}
	if stats.QTypes["A"] != 2500 || stats.QTypes["AAAA"] != 2500 || stats.Malformed+stats.Lost != 0 {
		t.Errorf("%+v", stats)
	}
}
