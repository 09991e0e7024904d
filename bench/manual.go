package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

func reportFlags(fs *flag.FlagSet, set *settings) {
	fs.StringVar(&set.out, "out", "bench/results", "`directory` with the results")
	fs.StringVar(&set.manual, "manual", "docs/performance.md", "`file` that tells of the newest ones")
}

// rewrite writes the text and the plots of the newest full comparison once more,
// and what the manual says of it.
func rewrite(ctx context.Context, _ string, set settings) error {
	newest, err := newestReport(set.out)
	if err != nil {
		return err
	}
	if newest != "" {
		r, err := readReport(newest)
		if err != nil {
			return err
		}
		if err := r.publish(ctx, set.out); err != nil {
			return err
		}
	}
	old, err := os.ReadFile(set.manual)
	if err != nil {
		return err
	}
	text, err := withFigures(string(old), set.out)
	if err != nil {
		return fmt.Errorf("%s: %w", set.manual, err)
	}
	return writeFiles(map[string]string{set.manual: text})
}

// What the manual says of results stands between these lines; the rest of it
// holds whatever they are.
const (
	figuresBegin = "<!-- Written by `bench report`: -->\n"
	figuresEnd   = "<!-- The end of what `bench report` writes. -->\n"
)

// withFigures returns the text of a manual with what the newest results in a
// directory say.
func withFigures(manual, dir string) (string, error) {
	before, rest, ok := strings.Cut(manual, figuresBegin)
	_, after, ok2 := strings.Cut(rest, figuresEnd)
	if !ok || !ok2 {
		return "", errors.New("there is no place for figures")
	}
	newest, err := newestReport(dir)
	if err != nil {
		return "", err
	}
	text := "No full comparison has been recorded yet.\n"
	if newest != "" {
		r, err := readReport(newest)
		if err != nil {
			return "", err
		}
		text = r.digest()
	}
	return before + figuresBegin + "\n" + text + "\n" + figuresEnd + after, nil
}

// digest is what the manual says of a comparison.
func (r *fullReport) digest() string {
	var b strings.Builder
	path := "../bench/results/" + r.base()
	met, known := 0, 0
	for _, a := range aims {
		if _, _, reached, ok := r.measured(a); ok {
			known++
			if reached {
				met++
			}
		}
	}
	fmt.Fprintf(&b, "Of %s ([all figures, noise and configurations](%s.md), [for programs](%s.json)), on %s with %d cores and Linux %s;\n"+
		"medians of %d rounds of %g s. **%d of %d aims are met.**\n\n", r.Date.Format(time.DateOnly), path, path, r.CPU, r.Cores, r.Kernel, r.Rounds, r.Seconds, met, known)
	for _, p := range r.plots() {
		if p.slug == "cpu" {
			fmt.Fprintf(&b, "![%s](%s.svg)\n\n", p.title, filepath.ToSlash(filepath.Join("../bench/results", p.file(r))))
		}
	}
	b.WriteString(r.overview(perQuery, "Server CPU, µs per query or name"))
	b.WriteString(r.overview(perSecond, "Answers per second"))
	b.WriteString(r.overview(p99, "99th percentile of latency, ms"))
	b.WriteString(r.overview(residentAll, "MiB in RAM with all names"))
	b.WriteString("### What was aimed at\n\n" + r.aimsTable() + "\n")
	b.WriteString("### Where another server is ahead\n\n" + r.aheadList())
	return b.String()
}

// overview is a table of one measure: a row for each work, a column for each
// server.
func (r *fullReport) overview(key, title string) string {
	var b strings.Builder
	for _, w := range r.Works {
		if !hasMeasure(w, key) {
			continue
		}
		fmt.Fprintf(&b, "| %s |", w.Title)
		for _, s := range r.Servers {
			row := w.row(s.Name)
			if row == nil {
				b.WriteString(" – |")
				continue
			}
			fmt.Fprintf(&b, " %.*f |", findMeasure(key).digits, row.Spread[key].Median)
		}
		b.WriteString("\n")
	}
	if b.Len() == 0 {
		return ""
	}
	head := "| " + title + " |"
	for _, s := range r.Servers {
		head += " " + s.Name + " |"
	}
	return head + "\n|" + strings.Repeat("---|", len(r.Servers)+1) + "\n" + b.String() + "\n"
}

// hasMeasure reports whether a work that was done measures key.
func hasMeasure(w *workResult, key string) bool {
	for _, k := range w.Measures {
		if k == key {
			return len(w.Rows) > 0
		}
	}
	return false
}
