package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxProblems is how many problems are reported of one file. Someone who reads
// a report stops earlier; a file of garbage has one for each of its lines.
const maxProblems = 1000

// Problem is one thing that is wrong with a configuration file.
type Problem struct {
	Line    int    `json:"line,omitempty"`    // from 1; 0 if it is about the whole file
	Column  int    `json:"column,omitempty"`  // from 1, in characters; 0 if only the line is known
	Path    string `json:"path,omitempty"`    // the key, as `limits.in_flight` or `listen[1].address`
	Message string `json:"message"`           // what was found and what was expected
	Nearest string `json:"nearest,omitempty"` // the key or value that was probably meant
}

// Error is everything that is wrong with a configuration file.
type Error struct {
	File     string    `json:"file"`
	Problems []Problem `json:"problems"`          // in the order of the file, at least one
	Omitted  int       `json:"omitted,omitempty"` // problems found past the first 1,000

	Err error `json:"-"` // the cause, if the file could not be read
}

// Error returns the report: one line for each problem, without a newline at
// the end, in the form `file:line:column: key: message` that editors know.
func (e *Error) Error() string {
	var b strings.Builder
	for i, p := range e.Problems {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(e.File)
		if p.Line > 0 {
			fmt.Fprintf(&b, ":%d", p.Line)
		}
		if p.Column > 0 {
			fmt.Fprintf(&b, ":%d", p.Column)
		}
		if p.Path != "" {
			fmt.Fprintf(&b, ": %s", p.Path)
		}
		fmt.Fprintf(&b, ": %s", p.Message)
		if p.Nearest != "" {
			fmt.Fprintf(&b, "; did you mean %s?", p.Nearest)
		}
	}
	if e.Omitted > 0 {
		fmt.Fprintf(&b, "\n%s: and %d more problems", e.File, e.Omitted)
	}
	return b.String()
}

// Unwrap returns why the file could not be read, or nil.
func (e *Error) Unwrap() error { return e.Err }

// report collects the problems of a file.
type report struct {
	problems []Problem
	omitted  int
}

// add notes a problem.
func (r *report) add(p Problem) {
	if r.full() {
		r.omitted++
		return
	}
	r.problems = append(r.problems, p)
}

// full tells whether further problems are only counted.
func (r *report) full() bool { return len(r.problems) >= maxProblems }

// err returns the report in the order of the file, or nil if nothing is wrong.
func (r *report) err(file string) error {
	if len(r.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(r.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return &Error{File: file, Problems: r.problems, Omitted: r.omitted}
}

// maxQuote is how many characters of a value a report shows.
const maxQuote = 60

// shorten cuts text that is too long for a report.
func shorten(text string) string {
	if utf8.RuneCountInString(text) <= maxQuote {
		return text
	}
	return string([]rune(text)[:maxQuote]) + "…"
}

// printable returns text as it is where that cannot garble a line of a report,
// else quoted.
func printable(text string) string {
	text = shorten(text)
	odd := func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }
	if text == "" || strings.ContainsFunc(text, odd) {
		return fmt.Sprintf("%q", text)
	}
	return text
}
