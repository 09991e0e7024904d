package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// lbMembers runs the command on the pods of a test of internal/members.
func lbMembers(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	pods, err := os.ReadFile("../../internal/members/testdata/pods.json")
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	root := newRootCommand()
	root.SetArgs(append([]string{"lb-members"}, args...))
	root.SetIn(bytes.NewReader(pods))
	root.SetOut(&out)
	root.SetErr(&errs)
	err = root.Execute()
	return out.String(), errs.String(), err
}

func TestMembersArePrintedInTheFormThatIsWanted(t *testing.T) {
	tmpl := filepath.Join(t.TempDir(), "pool.tmpl")
	if err := os.WriteFile(tmpl, []byte("{{range .Addresses}}<{{.}}>{{end}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--interface", "net1", "--family", "4"}, "192.0.2.10\n192.0.2.11\n"},
		{[]string{"--network", "vlan200", "--output", "json"}, `"addresses": [` + "\n        \"198.51.100.11\""},
		{[]string{"--network", "vlan200", "--output", "yaml"}, "      - \"198.51.100.11\"\n"},
		{[]string{"--family", "6", "--template", tmpl}, "<2001:db8:100::10><2001:db8:100::11>"},
	} {
		out, stderr, err := lbMembers(t, append(c.args, "--file", "-")...)
		if err != nil || !strings.Contains(out, c.want) {
			t.Errorf("%q: %v, %q", c.args, err, out)
		}
		if !strings.Contains(stderr, "shirube: the pod dns/no-annotation is ready, and left out") {
			t.Errorf("%q: on standard error is %q", c.args, stderr)
		}
	}
	file := filepath.Join(t.TempDir(), "members")
	if out, _, err := lbMembers(t, "--file", "../../internal/members/testdata/pods.json", "--network", "vlan200", "--write", file); err != nil || out != "" {
		t.Errorf("%v, %q", err, out)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "198.51.100.11\n" {
		t.Errorf("%v, %q", err, text)
	}
}

func TestTooFewMembersAreAnErrorAndNotPrinted(t *testing.T) {
	file := filepath.Join(t.TempDir(), "members")
	out, _, err := lbMembers(t, "--file", "-", "--interface", "net1", "--min", "3", "--write", file)
	if err == nil || !strings.Contains(err.Error(), "found 2 members among 9 pods; expected 3 at least: nothing is printed") || out != "" {
		t.Errorf("%v, %q", err, out)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the file is there")
	}
	if _, _, err := lbMembers(t, "--file", "-", "--interface", "net9"); err == nil {
		t.Error("no members are fine by default")
	}
	if _, _, err := lbMembers(t, "--file", "-", "--interface", "net9", "--min", "0"); err != nil {
		t.Error(err)
	}
}

func TestLBMembersTellsMistakesOnItsCommandLine(t *testing.T) {
	for _, args := range [][]string{
		{"--output", "xml"}, {"--family", "5"}, {"--min", "-1"}, {"--file", "-", "--selector", "a=b"}, {"surplus"},
	} {
		if code := run(append([]string{"lb-members"}, args...)); code != exitConfig {
			t.Errorf("lb-members %q: exit code %d", args, code)
		}
	}
}
