package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
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
	err = convertFile("", path, &stdout, &stderr)
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
	has(t, text,
		`{prefix: "192.0.2.0/24", action: allow_cookie}`, "answers_size: 256MiB", `{address: "192.0.2.53:853", protocols: [dot, doq]}`, "in_flight: 16384",
		`{name: "cloud.example", servers: [{address: "203.0.113.1:853", tls_name: "dns.cloud.example"}], tls: true}`, "for: 7d",
	)
	lines := strings.Join(notes, "\n")
	has(t, lines, "isp.conf:9: interface: NOT", "isp.conf:34: max-udp-size: NOT", "isp.conf:53: made-up-option: NOT", "isp.conf:23: rrset-cache-slabs: not needed")
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

// TestConvertedConfigurationOfBINDIsGood takes one that has most of what a resolver's
// has, and that BIND itself is content with.
func TestConvertedConfigurationOfBINDIsGood(t *testing.T) {
	const file = "../../internal/convert/testdata/rich.conf"
	check := exec.CommandContext(t.Context(), "named-checkconf", file)
	check.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	if out, err := check.CombinedOutput(); err != nil {
		t.Fatalf("named-checkconf: %v\n%s", err, out)
	}
	text, notes, err := converted(t, file)
	if err != errLost { //nolint:errorlint // it is returned as it is
		t.Errorf("%v, want %v", err, errLost)
	}
	has(t, text,
		`{address: "192.0.2.53:443", protocols: [doh]}`, `{prefix: "192.0.2.128/25", action: refuse}`, `{prefix: "198.51.100.7/32", action: deny}`,
		`{name: ".", servers: [{address: "203.0.113.1:5300"}]}`, `{name: "stat.example", servers: [{address: "192.0.2.11"}]}`, "max_age: 43200s", "for: 7d",
		`key_file: "/var/cache/bind/tls.key"`, "4A9184CFC41A5766", "ipv6: false",
	)
	lines := strings.Join(notes, "\n")
	has(t, lines, "rich.conf:17: key rndc-key: NOT", "rich.conf:41: dns64: NOT", "rich.conf:53: query-source: NOT", "rich.conf:10: pid-file: not needed")
}

// TestConfigurationOfBINDInDebianIsConverted takes the one of Debian's package, with
// the files that it includes. Whose networks its machine is in, it does not say.
func TestConfigurationOfBINDInDebianIsConverted(t *testing.T) {
	text, notes, err := converted(t, "/etc/bind/named.conf")
	if err != errLost { //nolint:errorlint // it is returned as it is
		t.Errorf("%v, want %v", err, errLost)
	}
	has(t, text, `{address: "0.0.0.0:53", protocols: [udp, tcp]}`, `{address: "[::]:53", protocols: [udp, tcp]}`, `{prefix: "127.0.0.0/8", action: allow}`, `root_hints: "/usr/share/dns/root.hints"`)
	for _, n := range notes {
		if strings.Contains(n, "NOT CONVERTED") != strings.Contains(n, "localnets") {
			t.Errorf("%s", n)
		}
	}
}

func TestConvertIsToldWhoseConfigurationItIs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "empty.conf")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for from, want := range map[string]string{"": "127.0.0.1:53", "unbound": "127.0.0.1:53", "bind": "0.0.0.0:53", "dnsmasq": ""} {
		var stdout, stderr bytes.Buffer
		err := convertFile(from, path, &stdout, &stderr)
		if want == "" {
			if _, usage := errors.AsType[*usageError](err); !usage || !strings.Contains(err.Error(), `found "dnsmasq"; expected unbound or bind`) {
				t.Errorf("%s: %v", from, err)
			}
			continue
		}
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("%s: %v, %s%s", from, err, &stdout, &stderr)
		}
	}
}

// has looks for each of wanted in text.
func has(t *testing.T, text string, wanted ...string) {
	t.Helper()
	for _, want := range wanted {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}
