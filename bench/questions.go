package main

import (
	"fmt"
	"path/filepath"
	"strings"
)

// queryFile are questions in a file, as dnsperf reads them.
type queryFile struct {
	path      string
	questions []string // "name type"
	nxdomain  int64    // how many are for names that do not exist
}

// write makes a queryFile of the laboratory.
func (l *lab) write(name string, questions []string) (*queryFile, error) {
	f := &queryFile{path: filepath.Join(l.dir, name), questions: questions}
	for _, q := range questions {
		if l.net.missing[q] {
			f.nxdomain++
		}
	}
	return f, writeFiles(map[string]string{f.path: strings.Join(questions, "\n") + "\n"})
}

// check compares a pass over all questions with what the zones hold.
func (f *queryFile) check(t *tally) error {
	want := int64(len(f.questions))
	if t.Sent != want || t.Completed != want || t.errors() != 0 || t.Rcodes["NXDOMAIN"] != f.nxdomain {
		return fmt.Errorf("%d questions, %d of them for names that do not exist, got %d answers: %v", want, f.nxdomain, t.Completed, t.Rcodes)
	}
	return nil
}
