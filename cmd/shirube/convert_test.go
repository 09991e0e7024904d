package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"shirube/internal/config"
)

// example is Unbound's own, as Debian has it: every option, most as comments.
const example = "/usr/share/doc/unbound/examples/unbound.conf"

// converted converts a file, and holds what comes of it to being a configuration.
func converted(t *testing.T, path string) (text string, notes []string, err error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	err = convertUnbound(path, &stdout, &stderr)
	if _, bad := config.Parse("converted", stdout.Bytes()); bad != nil || stdout.Len() == 0 {
		t.Errorf("%s makes what is no configuration: %v, %v\n%s", path, err, bad, stdout.String())
	}
	return stdout.String(), strings.Split(strings.TrimSpace(stderr.String()), "\n"), err
}

func TestConvertedConfigurationOfAnISPIsGood(t *testing.T) {
	text, notes, err := converted(t, "../../internal/convert/testdata/isp.conf")
	if err != errLost { //nolint:errorlint // it is returned as it is
		t.Errorf("%v, want %v", err, errLost)
	}
	for _, want := range []string{
		`{prefix: "192.0.2.0/24", action: allow_cookie}`, "answers_size: 256MiB", `{address: "192.0.2.53:853", protocols: [dot, doq]}`, "in_flight: 16384",
		`{name: "cloud.example", servers: [{address: "203.0.113.1:853", tls_name: "dns.cloud.example"}], tls: true}`, "for: 7d",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
	lines := strings.Join(notes, "\n")
	for _, want := range []string{"isp.conf:9: interface: NOT", "isp.conf:34: max-udp-size: NOT", "isp.conf:53: made-up-option: NOT", "isp.conf:23: rrset-cache-slabs: not needed"} {
		if !strings.Contains(lines, want) {
			t.Errorf("no %s in\n%s", want, lines)
		}
	}
}

// TestEveryOptionOfUnboundIsConvertedOrListed takes Unbound's example as it is, and
// once more with all that is a comment in it.
func TestEveryOptionOfUnboundIsConvertedOrListed(t *testing.T) {
	if _, notes, err := converted(t, example); err != nil || notes[0] != "" {
		t.Errorf("%v, %q", err, notes)
	}
	raw, err := os.ReadFile(example)
	if err != nil {
		t.Fatalf("%v: tools/install-test-deps installs Unbound", err)
	}
	given := regexp.MustCompile(`(?m)^(\s*)# ?(\t? ?[a-z0-9-]+:( |$).*)$`)
	all := given.ReplaceAllString(string(raw), "$1$2")
	all = regexp.MustCompile(`(?m)^\s*include.*$`).ReplaceAllString(all, "")
	path := filepath.Join(t.TempDir(), "all.conf")
	if err := os.WriteFile(path, []byte(all), 0o600); err != nil {
		t.Fatal(err)
	}
	text, notes, err := converted(t, path)
	if err != errLost || len(notes) < 150 || strings.Count(text, "\n") < 60 { //nolint:errorlint // it is returned as it is
		t.Errorf("%v: %d notes, and\n%s", err, len(notes), text)
	}
}
