package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// manual is the page of the manual that is about this program.
const manual = "../../docs/anycast.md"

// blocks returns the blocks of code of the page that are in a language.
func blocks(t *testing.T, language string) []string {
	t.Helper()
	text, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		list = append(list, m[1])
	}
	if len(list) < 2 {
		t.Fatalf("%d blocks of %s in %s", len(list), language, manual)
	}
	return list
}

func TestConfigurationsInTheManualAreGood(t *testing.T) {
	for _, text := range blocks(t, "yaml") {
		var out, report bytes.Buffer
		if code := run([]string{"--check", "--config", "-"}, strings.NewReader(text), &out, &report); code != 0 || out.String() != "-: ok\n" {
			t.Errorf("%d %s%s\n%s", code, &out, &report, text)
		}
	}
}

// TestRoutersTakeTheirConfigurationsOfTheManual has the daemons read them, and one
// that is wrong.
func TestRoutersTakeTheirConfigurationsOfTheManual(t *testing.T) {
	for language, check := range map[string][]string{
		"bird": {"bird", "-p", "-c"},
		"frr":  {"vtysh", "-C", "-f"},
	} {
		takes := func(text string) (string, bool) {
			file := filepath.Join(t.TempDir(), "conf")
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), check[0], append(check[1:], file)...)
			cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
			report, err := cmd.CombinedOutput()
			return string(report), err == nil
		}
		for _, text := range blocks(t, language) {
			if report, ok := takes(text); !ok {
				t.Errorf("%s: %s\n%s", language, report, text)
			}
			if _, ok := takes(strings.Replace(text, "router", "rooter", 1)); ok {
				t.Errorf("%s takes a mistake", language)
			}
		}
	}
}

func TestMistakesHaveAnExitStatusOfTheirOwn(t *testing.T) {
	for _, tt := range []struct {
		args  []string
		stdin string
		code  int
		want  string
	}{
		{[]string{"--check", "--config", "-"}, "vips: [{addresss: 192.0.2.1}]\n", 2, "stdin:1:9: vips[0].addresss: unknown key; did you mean address?"},
		{[]string{"--check", "--config", "/does/not/exist"}, "", 2, "/does/not/exist: cannot be read"},
		{[]string{"--chek"}, "", 2, "see 'shirube-announce --help'"},
		{[]string{"here"}, "", 2, "takes no arguments"},
		{[]string{"--config", "-"}, "driver: none\nprobes: {server_name: a.example, ca_file: /does/not/exist}\nvips: [{address: 192.0.2.1}]\n", 1, "probes.ca_file"},
	} {
		var out, report bytes.Buffer
		if code := run(tt.args, strings.NewReader(tt.stdin), &out, &report); code != tt.code || !strings.Contains(report.String(), tt.want) {
			t.Errorf("%q: %d\n%s%s", tt.args, code, &out, &report)
		}
	}
}

func TestManualPageIsFreshAndHasEveryFlag(t *testing.T) {
	root := newRootCommand()
	page := manualPage(root)
	got, err := os.ReadFile("../../docs/man/shirube-announce.1")
	if err != nil || string(got) != page {
		t.Errorf("docs/man/shirube-announce.1 is stale (%v); run go generate ./cmd/shirube-announce", err)
	}
	root.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if !strings.Contains(page, `\-\-`+f.Name) {
			t.Errorf("the manual page has no --%s", f.Name)
		}
	})
}

// TestMetricsOfTheManualExist holds the page to what is served.
func TestMetricsOfTheManualExist(t *testing.T) {
	text, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("../../announce/stats.go")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`shirube_announce_[a-z_]+`)
	in := func(b []byte) map[string]bool {
		m := map[string]bool{}
		for _, n := range names.FindAllString(string(b), -1) {
			m[n] = true
		}
		return m
	}
	page, code := in(text), in(source)
	for n := range code {
		if !page[n] {
			t.Errorf("%s says nothing of %s", manual, n)
		}
	}
	for n := range page {
		if !code[n] {
			t.Errorf("%s has %s, which nothing writes", manual, n)
		}
	}
}
