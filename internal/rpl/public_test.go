//go:build replay && linux

package rpl

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// tally counts what became of the scenarios of one group.
type tally struct {
	passed, failed int
	skipped        map[string]int // by reason
}

// publicScenarios returns the files of the public scenarios below the directory
// that SHIRUBE_RPL names, which has one directory for each group.
func publicScenarios(t *testing.T) []string {
	t.Helper()
	dir := os.Getenv("SHIRUBE_RPL")
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.*rpl"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatalf("no public scenarios below SHIRUBE_RPL=%s: they are not part of this repository", dir)
	}
	return files
}

// TestReplayPublic plays the public scenarios in memory.
func TestReplayPublic(t *testing.T) {
	files := publicScenarios(t)
	report(t, files, func(t *testing.T, i int) outcome { t.Helper(); return replay(t, files[i]) })
}

// report tells what became of each scenario, and counts it by group. Of each
// that is not played it prints why.
func report(t *testing.T, files []string, play func(t *testing.T, i int) outcome) {
	t.Helper()
	groups, page := make(map[string]*tally), readListed(t)
	for i, file := range files {
		group := filepath.Base(filepath.Dir(file))
		if groups[group] == nil {
			groups[group] = &tally{skipped: make(map[string]int)}
		}
		t.Run(group+"/"+filepath.Base(file), func(t *testing.T) {
			out := play(t, i)
			groups[group].add(out)
			name := group + "/" + filepath.Base(file)
			switch err := page.judge(name, out); {
			case err != nil:
				t.Error(err)
			case out.err != nil:
				t.Skipf("%s: fails: %s", name, page.failing[name]) //nolint:forbidigo // as docs/replay.md says
			case out.skipped != nil:
				t.Skipf("%s/%s: %s", group, filepath.Base(file), strings.Join(out.skipped, ", ")) //nolint:forbidigo // not played: said, and counted
			}
		})
	}
	t.Log("\n" + table(groups))
}

func (c *tally) add(out outcome) {
	switch {
	case out.err != nil:
		c.failed++
	case out.skipped != nil:
		c.skipped[strings.Join(out.skipped, ", ")]++
	default:
		c.passed++
	}
}

// table returns the counts as text.
func table(groups map[string]*tally) string {
	var b strings.Builder
	line := func(name string, c *tally) {
		n := 0
		for _, k := range c.skipped {
			n += k
		}
		fmt.Fprintf(&b, "%-16s %7d %7d %8d\n", name, c.passed, c.failed, n)
	}
	fmt.Fprintf(&b, "%-16s %7s %7s %8s\n", "group", "passed", "failed", "skipped")
	all := &tally{skipped: make(map[string]int)}
	for _, name := range sortedKeys(groups) {
		c := groups[name]
		line(name, c)
		all.passed, all.failed = all.passed+c.passed, all.failed+c.failed
		for _, why := range sortedKeys(c.skipped) {
			fmt.Fprintf(&b, "%18d skipped: %s\n", c.skipped[why], why)
			all.skipped[why] += c.skipped[why]
		}
	}
	line("all", all)
	return b.String()
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// TestReplayPublicBlackBox plays the same to the built server, over sockets.
func TestReplayPublicBlackBox(t *testing.T) {
	files := publicScenarios(t)
	outcomes := playOutside(t, files)
	report(t, files, func(t *testing.T, i int) outcome { return outcomes[i] })
}
