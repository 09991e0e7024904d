//go:build replay

package rpl

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// listed is what docs/replay.md says of the public scenarios.
type listed struct {
	failing  map[string]string // why, by group and file
	features map[string]bool   // that scenarios need which are not played
}

// readListed reads docs/replay.md.
func readListed(t *testing.T) listed {
	t.Helper()
	text, err := os.ReadFile("../../docs/replay.md")
	if err != nil {
		t.Fatal(err)
	}
	l := listed{make(map[string]string), make(map[string]bool)}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		first := strings.TrimSpace(cells[0])
		switch {
		case !strings.HasPrefix(line, "| "), first == "Scenario", first == "Feature":
		case len(cells) == 2:
			l.failing[strings.Trim(first, "`")] = strings.TrimSpace(cells[1])
		default:
			l.features[first] = true
		}
	}
	if len(l.failing) == 0 || len(l.features) == 0 {
		t.Fatalf("docs/replay.md lists %d scenarios and %d features", len(l.failing), len(l.features))
	}
	return l
}

// judge returns why what became of a scenario is an error: it is not what the
// page says.
func (l listed) judge(name string, out outcome) error {
	why, known := l.failing[name]
	for _, reason := range out.skipped {
		if feature, ok := strings.CutPrefix(reason, "needs "); !ok || !l.features[feature] {
			return fmt.Errorf("not played: %s, which docs/replay.md does not have as a feature", reason)
		}
	}
	switch {
	case known && out.err == nil && out.skipped == nil:
		return fmt.Errorf("passes; docs/replay.md says that it fails: %s", why)
	case known && out.skipped != nil:
		return fmt.Errorf("is not played; docs/replay.md says that it fails: %s", why)
	case out.err != nil && !known:
		return fmt.Errorf("%w\nqueries sent:\n%.6000s", out.err, out.sent)
	}
	return nil
}

func TestListedIsHeldToTheResults(t *testing.T) {
	l := listed{map[string]string{"a/x.rpl": "reason"}, map[string]bool{"DNS64": true}}
	failed := outcome{err: os.ErrInvalid}
	for name, tt := range map[string]struct {
		file string
		out  outcome
		ok   bool
	}{
		"passes":                   {"a/y.rpl", outcome{}, true},
		"fails, as listed":         {"a/x.rpl", failed, true},
		"fails":                    {"a/y.rpl", failed, false},
		"passes, against the list": {"a/x.rpl", outcome{}, false},
		"lacks a feature":          {"a/y.rpl", outcome{skipped: []string{"needs DNS64"}}, true},
		"lacks one not listed":     {"a/y.rpl", outcome{skipped: []string{"needs DNS64", "needs views"}}, false},
		"has an unknown setting":   {"a/y.rpl", outcome{skipped: []string{"unknown setting x"}}, false},
		"fails on paper only":      {"a/x.rpl", outcome{skipped: []string{"needs DNS64"}}, false},
	} {
		if err := l.judge(tt.file, tt.out); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
