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
	fs.StringVar(&set.out, "out", resultsDir, "`directory` with the results")
	fs.StringVar(&set.manual, "manual", "docs", "`directory` with the pages that tell of the newest ones")
}

// page is one of the manual that tells of results.
type page struct {
	file   string
	digest func(dir string) (string, error) // of the newest results in a directory
}

var pages = []page{{"performance.md", fullDigest}, {"shared-cache.md", sharedDigest}, {"encrypted-dns.md", encryptedDigest}}

// rewrite writes the text and the plots of the newest results once more, of those
// that the manual tells of, and what it says.
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
	if r, err := newestShared(set.out); err != nil {
		return err
	} else if r != nil {
		if err := r.publish(ctx, set.out); err != nil {
			return err
		}
	}
	if r, err := newestEncrypted(set.out); err != nil {
		return err
	} else if r != nil {
		if err := r.publish(ctx, set.out); err != nil {
			return err
		}
	}
	for _, p := range pages {
		file := filepath.Join(set.manual, p.file)
		old, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		text, err := withFigures(string(old), set.out, p.digest)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		if err := writeFiles(map[string]string{file: text}); err != nil {
			return err
		}
	}
	return nil
}

// What the manual says of results stands between these lines; the rest of it
// holds whatever they are.
const (
	figuresBegin = "<!-- Written by `bench report`: -->\n"
	figuresEnd   = "<!-- The end of what `bench report` writes. -->\n"
)

// withFigures returns the text of a page with what the newest results in a
// directory say.
func withFigures(text, dir string, digest func(dir string) (string, error)) (string, error) {
	before, rest, ok := strings.Cut(text, figuresBegin)
	_, after, ok2 := strings.Cut(rest, figuresEnd)
	if !ok || !ok2 {
		return "", errors.New("there is no place for figures")
	}
	figures, err := digest(dir)
	if err != nil {
		return "", err
	}
	return before + figuresBegin + "\n" + figures + "\n" + figuresEnd + after, nil
}

// fullDigest is what the manual says of the newest full comparison.
func fullDigest(dir string) (string, error) {
	newest, err := newestReport(dir)
	if err != nil || newest == "" {
		return "No full comparison has been recorded yet.\n", err
	}
	r, err := readReport(newest)
	if err != nil {
		return "", err
	}
	return r.digest(), nil
}

// sharedDigest is what the manual says of the newest fleets.
func sharedDigest(dir string) (string, error) {
	r, err := newestShared(dir)
	if err != nil || r == nil {
		return "No fleet has been measured yet.\n", err
	}
	return r.digest(), nil
}

// digest is what the manual says of a comparison.
func (r *fullReport) digest() string {
	var b strings.Builder
	path := "../bench/results/" + r.base()
	met, known, all := r.aimsMet()
	unknown := ""
	if known < all {
		unknown = fmt.Sprintf(" Of %d more it is not known.", all-known)
	}
	fmt.Fprintf(&b, "Of %s ([all figures, noise and configurations](%s.md), [for programs](%s.json)), on %s with %d cores and Linux %s;\n"+
		"medians of %d rounds of %g s. **%d of %d aims are met.**%s\n\n", r.Date.Format(time.DateOnly), path, path, r.CPU, r.Cores, r.Kernel, r.Rounds, r.Seconds, met, known, unknown)
	for _, p := range r.plots() {
		if p.slug == "cpu" {
			fmt.Fprintf(&b, "![%s](%s.svg)\n\n", p.title, filepath.ToSlash(filepath.Join("../bench/results", p.file(r.base()))))
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
