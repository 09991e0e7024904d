package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"shirube/internal/config"
)

// check runs `shirube check` with args and stdin.
func check(stdin string, args ...string) (stdout, stderr string, err error) {
	cmd := newCheckCommand()
	cmd.SilenceErrors, cmd.SilenceUsage = true, true // as the root command has it
	var out, errs bytes.Buffer
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	cmd.SetArgs(args)
	err = cmd.Execute()
	return out.String(), errs.String(), err
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "shirube.yaml")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestCheckSaysThatAGoodFileIsGood(t *testing.T) {
	path := write(t, "log:\n  level: debug\n")
	stdout, stderr, err := check("", path)
	if stdout != path+": ok\n" || stderr != "" || err != nil {
		t.Errorf("got %q, %q, %v", stdout, stderr, err)
	}
}

func TestCheckReportsEveryProblemToStandardError(t *testing.T) {
	path := write(t, "log:\n  levl: debug\n  format: xml\n")
	stdout, stderr, err := check("", path)
	want := path + ":2:3: log.levl: unknown key; did you mean level?\n" +
		path + ":3:11: log.format: found \"xml\"; expected text or json\n"
	if stdout != "" || stderr != want {
		t.Errorf("got %q, %q, want %q", stdout, stderr, want)
	}
	if report, ok := errors.AsType[*config.Error](err); !ok || len(report.Problems) != 2 {
		t.Errorf("error %v has no report of two problems", err)
	}
	if !errors.Is(err, errReported) {
		t.Errorf("error %v would be printed again", err)
	}
}

func TestCheckReportsAMissingFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.yaml")
	_, stderr, err := check("", path)
	if want := path + ": cannot be read: no such file or directory\n"; stderr != want {
		t.Errorf("got %q, want %q", stderr, want)
	}
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v does not say that the file is missing", err)
	}
}

func TestCheckReadsStandardInput(t *testing.T) {
	stdout, _, err := check("cache:\n  max_ttl: 1h\n", "-")
	if stdout != "stdin: ok\n" || err != nil {
		t.Errorf("got %q, %v", stdout, err)
	}
	_, stderr, err := check("cache: [", "-")
	if !strings.HasPrefix(stderr, "stdin:1: ") || err == nil {
		t.Errorf("got %q, %v", stderr, err)
	}
}

// TestCheckReadsFilesWhenItIsToldTo: each is one that a server does not start without.
func TestCheckReadsFilesWhenItIsToldTo(t *testing.T) {
	t.Setenv("RUNTIME_DIRECTORY", "") // there is no control socket, and no admin socket
	tests := map[string]string{
		"": "",
		"tls: {certificates: [{cert_file: /none/cert.pem, key_file: /none/key.pem}]}":                                    "tls: open /none/cert.pem: no such file or directory",
		"cookies: {secret_file: /none/cookies}":                                                                          "/none/cookies",
		"resolver: {root_hints: /none/hints}":                                                                            "/none/hints",
		"dnssec: {trust_anchor_files: [/none/anchors]}":                                                                  "/none/anchors",
		"shared_cache: {enabled: true, servers: [{name: one, address: \"127.0.0.1:11211\"}], secret_file: /none/secret}": "/none/secret",
		"admin: {listen: [{address: 127.0.0.1:9153, token_file: /none/token}]}":                                          "/none/token",
		"control: {group: no-such-group}":                                                                                "control.group",
		"doh: {socket: /none/doh.sock, group: no-such-group}":                                                            "doh.group",
	}
	for text, want := range tests {
		path := write(t, text+"\n")
		if _, stderr, err := check("", path); err != nil {
			t.Errorf("%s: without --files: %v, %s", text, err, stderr)
		}
		stdout, stderr, err := check("", "--files", path)
		if want == "" {
			if stdout != path+": ok\n" || stderr != "" || err != nil {
				t.Errorf("nothing is named: %q, %q, %v", stdout, stderr, err)
			}
			continue
		}
		if _, bad := errors.AsType[*config.Error](err); !bad || stdout != "" || !strings.HasPrefix(stderr, path+": ") || !strings.Contains(stderr, want) {
			t.Errorf("%s: %q, %q, %v; want %q", text, stdout, stderr, err, want)
		}
		if stdout, _, err := check("", "--files", "--json", path); err == nil || !strings.Contains(stdout, want) {
			t.Errorf("%s: as JSON: %v, %s", text, err, stdout)
		}
	}
}

func TestCheckReportsAsJSON(t *testing.T) {
	tests := []struct {
		input string
		want  config.Error
	}{
		{"", config.Error{File: "stdin", Problems: []config.Problem{}}},
		{"limits:\n  tcp_inflight: 1\n", config.Error{File: "stdin", Problems: []config.Problem{
			{Line: 2, Column: 3, Path: "limits.tcp_inflight", Message: "unknown key", Nearest: "tcp_in_flight"},
		}}},
	}
	for _, test := range tests {
		stdout, stderr, err := check(test.input, "--json", "-")
		var got config.Error
		d := json.NewDecoder(strings.NewReader(stdout))
		d.DisallowUnknownFields()
		if err := d.Decode(&got); err != nil {
			t.Fatalf("%v in %q", err, stdout)
		}
		if got.Problems == nil || got.Error() != test.want.Error() || got.File != "stdin" || stderr != "" {
			t.Errorf("%q: got %q, %q", test.input, stdout, stderr)
		}
		if bad := len(test.want.Problems) > 0; bad != errors.Is(err, errReported) {
			t.Errorf("%q: error %v", test.input, err)
		}
	}
}

func TestCheckPrintsTheSchema(t *testing.T) {
	stdout, _, err := check("", "--schema")
	if err != nil || stdout != config.Schema() || !json.Valid([]byte(stdout)) {
		t.Errorf("got %q, %v", stdout, err)
	}
}

func TestCheckRefusesOtherArguments(t *testing.T) {
	for _, args := range [][]string{{}, {"a", "b"}, {"--schema", "a"}} {
		stdout, _, err := check("", args...)
		if _, ok := errors.AsType[*usageError](err); !ok || stdout != "" {
			t.Errorf("%q: got %q, %v", args, stdout, err)
		}
	}
}
