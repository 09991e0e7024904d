package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
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
