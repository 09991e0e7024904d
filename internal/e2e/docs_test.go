package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unicode"
)

// root is the module's root, seen from this package.
const root = "../.."

// page is a page of the manual.
type page struct {
	path  string // from the module's root
	lines []string
}

// pages returns README.md and docs/*.md.
func pages(t *testing.T) []page {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(paths) < 4 {
		t.Fatalf("%d pages in docs: %v", len(paths), err)
	}
	var out []page
	for _, path := range append(paths, filepath.Join(root, "README.md")) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, page{rel, strings.Split(string(b), "\n")})
	}
	return out
}

// block is a fenced block of code.
type block struct {
	where    string // of its first line: "docs/page.md:12"
	language string
	text     string
}

var fence = regexp.MustCompile("^( *)```(\\w*)$")

// split returns the blocks of code of p, and its prose: all lines, those of
// blocks empty.
func (p page) split(t *testing.T) (blocks []block, prose []string) {
	t.Helper()
	var in *block
	indent := ""
	for i, line := range p.lines {
		m := fence.FindStringSubmatch(line)
		switch {
		case in == nil && m == nil:
			prose = append(prose, line)
			continue
		case in == nil:
			in, indent = &block{fmt.Sprintf("%s:%d", p.path, i+2), m[2], ""}, m[1]
		case m != nil && m[1] == indent && m[2] == "":
			blocks, in = append(blocks, *in), nil
		default:
			in.text += strings.TrimPrefix(line, indent) + "\n"
		}
		prose = append(prose, "")
	}
	if in != nil {
		t.Errorf("%s: the block does not end", in.where)
	}
	return blocks, prose
}

// TestConfigurationsInTheManualAreGood runs every YAML block through
// `shirube check`.
func TestConfigurationsInTheManualAreGood(t *testing.T) {
	t.Parallel()
	n := 0
	for _, p := range pages(t) {
		blocks, _ := p.split(t)
		for _, b := range blocks {
			other := strings.HasPrefix(b.text, "apiVersion:") || strings.HasPrefix(b.text, "# /etc/shirube/announce.yaml")
			if b.language != "yaml" || other { // deploy/kubernetes and cmd/shirube-announce have tests of their own for these
				continue
			}
			n++
			args := []string{"check", "-"}
			if strings.HasPrefix(b.text, "# verify\n") { // a profile, not a configuration
				args = []string{"verify", "--list", "--profile", "-"}
			}
			if _, stderr, code := runServer(t, b.text, args...); code != 0 {
				t.Errorf("%s: shirube check finds (lines are counted from there):\n%s", b.where, stderr)
			}
		}
	}
	if n < 3 {
		t.Errorf("only %d configurations in the manual: this test looks in the wrong place", n)
	}
}

// TestCommandsInTheManualExist looks up every target of make and every command
// of shirube that a shell block or a piece of code in the prose names.
func TestCommandsInTheManualExist(t *testing.T) {
	t.Parallel()
	targets := makeTargets(t)
	code := regexp.MustCompile("`([^`]+)`")
	found := 0
	for _, p := range pages(t) {
		blocks, prose := p.split(t)
		type command struct{ where, line string }
		var commands []command
		for i, line := range prose {
			for _, m := range code.FindAllStringSubmatch(line, -1) {
				commands = append(commands, command{fmt.Sprintf("%s:%d", p.path, i+1), m[1]})
			}
		}
		for _, b := range blocks {
			if b.language == "sh" {
				for line := range strings.Lines(b.text) {
					commands = append(commands, command{b.where, strings.TrimSpace(line)})
				}
			}
		}
		for _, c := range commands {
			words := strings.Fields(strings.SplitN(c.line, " #", 2)[0])
			if len(words) == 0 {
				continue
			}
			switch strings.TrimPrefix(words[0], "bin/") {
			case "make":
				for _, target := range words[1:] {
					if strings.Contains(target, "=") { // a variable, and in quotes perhaps more words
						break
					}
					found++
					if !slices.Contains(targets, target) {
						t.Errorf("%s: %q: the Makefile has no target %s, only %v", c.where, c.line, target, targets)
					}
				}
			case "shirube":
				found++
				if err := commandExists(t, words[1:]); err != nil {
					t.Errorf("%s: %q: %v", c.where, c.line, err)
				}
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d commands in the manual: this test looks in the wrong place", found)
	}
}

// makeTargets returns the targets of the Makefile that are commands. All of
// them are in `make help`.
func makeTargets(t *testing.T) []string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	_, phony, ok := strings.Cut(string(b), "\n.PHONY:")
	phony, _, _ = strings.Cut(phony, "\n")
	targets := strings.Fields(phony)
	if !ok || len(targets) == 0 {
		t.Fatal("the Makefile has no .PHONY targets")
	}
	cmd := exec.CommandContext(t.Context(), "make", "--no-print-directory", "help")
	cmd.Dir = root
	help, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("make help: %v\n%s", err, help)
	}
	for _, target := range targets {
		if !regexp.MustCompile(`(?m)^` + target + `\b.*:`).Match(b) {
			t.Errorf("the Makefile's .PHONY target %s is not there", target)
		}
		if !strings.Contains(string(help), "make "+target+" ") {
			t.Errorf("make help does not list %s", target)
		}
	}
	return targets
}

// commandExists returns an error if the server has no such subcommand, or that
// has no such flag.
func commandExists(t *testing.T, args []string) error {
	t.Helper()
	help, stderr, code := runServer(t, "", append(commandOf(args), "--help")...)
	if code != 0 {
		return fmt.Errorf("no such command: %s", stderr)
	}
	for _, arg := range args {
		flag, _, _ := strings.Cut(arg, "=")
		if strings.HasPrefix(flag, "-") && flag != "-" && !regexp.MustCompile(`(?m)^ +(-\w, )?(.*, )?`+regexp.QuoteMeta(flag)+`\b`).MatchString(help) {
			return fmt.Errorf("no flag %s", flag)
		}
	}
	return nil
}

// commandOf returns the words of args that are a command: the first one, of
// which the server has to know whether it is one, and those of commands that have
// more below them.
func commandOf(args []string) []string {
	words := 0
	for words < len(args) && !strings.HasPrefix(args[words], "-") {
		words++
	}
	switch {
	case words > 1 && args[0] == "ctl" && args[1] == "nta":
		return slices.Clone(args[:min(words, 3)])
	case words > 0 && slices.Contains([]string{"cache", "ctl", "discovery"}, args[0]):
		return slices.Clone(args[:min(words, 2)])
	}
	return slices.Clone(args[:min(words, 1)])
}

// TestLinksInTheManualLeadSomewhere checks that every relative link leads to a
// file, and every fragment to a heading.
func TestLinksInTheManualLeadSomewhere(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	anchors := make(map[string][]string)
	all := pages(t)
	for _, p := range all {
		anchors[p.path] = p.anchors(t)
	}
	found := 0
	for _, p := range all {
		_, prose := p.split(t)
		for i, line := range prose {
			for _, m := range link.FindAllStringSubmatch(line, -1) {
				if strings.Contains(m[1], "://") {
					continue
				}
				found++
				file, fragment, hasFragment := strings.Cut(m[1], "#")
				target := p.path
				if file != "" {
					target = filepath.Join(filepath.Dir(p.path), file)
				}
				if _, err := os.Stat(filepath.Join(root, target)); err != nil {
					t.Errorf("%s:%d: link to %s: %v", p.path, i+1, m[1], err)
				} else if hasFragment && !slices.Contains(anchors[target], fragment) {
					t.Errorf("%s:%d: link to %s: no such heading there, only %v", p.path, i+1, m[1], anchors[target])
				}
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d links in the manual: this test looks in the wrong place", found)
	}
}

// anchors returns the fragments that lead to the headings of p, as GitHub makes
// them: lower case, spaces as hyphens, no punctuation, numbered if repeated.
func (p page) anchors(t *testing.T) []string {
	t.Helper()
	_, prose := p.split(t)
	seen := make(map[string]int)
	var out []string
	for _, line := range prose {
		text := strings.TrimLeft(line, "#")
		if level := len(line) - len(text); level == 0 || level > 6 || !strings.HasPrefix(text, " ") {
			continue
		}
		anchor := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, strings.TrimSpace(text))
		if n := seen[anchor]; n > 0 {
			out = append(out, fmt.Sprintf("%s-%d", anchor, n))
		} else {
			out = append(out, anchor)
		}
		seen[anchor]++
	}
	return out
}

// table returns the first column of the table below a heading of
// docs/operations.md, and the last.
func table(t *testing.T, heading string) map[string]string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(b), "\n## "+heading+"\n")
	if !ok {
		t.Fatalf("docs/operations.md has no section %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	rows := make(map[string]string)
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|--") {
			continue
		}
		for key := range strings.SplitSeq(cells[0], ",") {
			rows[strings.Trim(strings.TrimSpace(key), "`")] = strings.TrimSpace(cells[len(cells)-1])
		}
	}
	return rows
}

// TestSignalsAreThoseOfTheManual sends every signal that docs/operations.md
// has; the tests of each go further.
func TestSignalsAreThoseOfTheManual(t *testing.T) {
	t.Parallel()
	rows := table(t, "Signals")
	delete(rows, "Signal")
	signals := map[string]struct {
		signal syscall.Signal
		says   string // in the log
		ends   bool
	}{
		"SIGTERM": {syscall.SIGTERM, "msg=stopping", true},
		"SIGINT":  {syscall.SIGINT, "msg=stopping", true},
		"SIGUSR1": {syscall.SIGUSR1, "msg=statistics", false},
		"SIGHUP":  {syscall.SIGHUP, "msg=reloaded", false},
	}
	if len(rows) != len(signals) {
		t.Errorf("docs/operations.md has the signals %v; tested are %d", rows, len(signals))
	}
	for name := range rows {
		want, ok := signals[name]
		if !ok {
			t.Errorf("docs/operations.md has %s, which no test sends", name)
			continue
		}
		s := serve(t, settings{})
		s.signal(want.signal)
		if _, err := s.await(s.out, want.says, startTimeout); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if want.ends && (!s.wait(stopTimeout) || s.exitCode() != 0) {
			t.Errorf("after %s: %s, want exit status 0", name, s.state())
		}
		if want.ends && !strings.Contains(s.out.String(), "msg=statistics") {
			t.Errorf("%s: the counters are not written", name)
		}
		if !want.ends && !s.running() {
			t.Errorf("%s ends the server: %s", name, s.state())
		}
	}
}

// TestExitCodesAreThoseOfTheManual makes the server exit with each code that
// docs/operations.md has.
func TestExitCodesAreThoseOfTheManual(t *testing.T) {
	t.Parallel()
	rows := table(t, "Exit codes")
	delete(rows, "Code")
	hints := filepath.Join(t.TempDir(), "no.hints")
	ways := map[string]struct{ stdin, args string }{
		"0": {"log:\n  level: debug\n", "check -"},
		"1": {"", "serve --config " + hints + ".yaml"}, // it cannot start: no such hints
		"2": {"log:\n  level: loud\n", "check -"},
		"3": {"", "ctl status --socket " + hints},
	}
	writeFile(t, hints+".yaml", fmt.Sprintf("resolver:\n  root_hints: %q\n", hints))
	if len(rows) != len(ways) {
		t.Errorf("docs/operations.md has the exit codes %v; tested are %d", rows, len(ways))
	}
	for want := range rows {
		way, ok := ways[want]
		if !ok {
			t.Errorf("docs/operations.md has exit code %s, which no test makes", want)
			continue
		}
		if _, stderr, code := runServer(t, way.stdin, strings.Fields(way.args)...); fmt.Sprint(code) != want {
			t.Errorf("shirube %s: exit code %d, want %s: %s", way.args, code, want, stderr)
		}
	}
}

// TestCountersAreThoseOfTheManual compares the groups that docs/operations.md
// has with those of the log line.
func TestCountersAreThoseOfTheManual(t *testing.T) {
	t.Parallel()
	rows := table(t, "Counters")
	delete(rows, "Group")
	s := serve(t, settings{})
	_, line, _ := cutLast(statistics(t, s), "msg=statistics")
	var groups []string
	for _, m := range regexp.MustCompile(`(?:^| )(\w+)=`).FindAllStringSubmatch(line, -1) {
		groups = append(groups, m[1])
		if _, ok := rows[m[1]]; !ok {
			t.Errorf("docs/operations.md does not have the group %s", m[1])
		}
	}
	for group := range rows {
		if !slices.Contains(groups, group) {
			t.Errorf("docs/operations.md has the group %s, which the log line does not: %v", group, groups)
		}
	}
}

// TestBinaryIsOfThisTree makes sure that the binary is not older than what it
// is built from. Looking at the sources also tells `go test` that they matter:
// without it, it would take the last run's success for one of a changed server.
func TestBinaryIsOfThisTree(t *testing.T) {
	t.Parallel()
	binary, err := os.Stat(built.race)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && strings.HasPrefix(d.Name(), ".") && path != root {
				return filepath.SkipDir
			}
			return err
		}
		if strings.HasSuffix(path, "_test.go") || (filepath.Ext(path) != ".go" && d.Name() != "go.mod") {
			return nil
		}
		n++
		source, err := os.Stat(path)
		if err == nil && source.ModTime().After(binary.ModTime()) {
			t.Errorf("%s was changed after the binary was built: run the tests again", path)
		}
		return err
	})
	if err != nil || n < 50 {
		t.Errorf("looked at %d files: %v", n, err)
	}
}
