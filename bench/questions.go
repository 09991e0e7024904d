package main

import (
	"fmt"
	"math"
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

// missingTolerance is by how much the share of names that do not exist may be
// another in a run that ends with the time, in the midst of a pass.
const missingTolerance = 0.01

// failuresAllowed is the share of queries that may be answered with a failure:
// the report counts them with those that were lost.
const failuresAllowed = 0.001

// checkRun returns an error if c answered anything else than the zones hold, as
// far as dnsperf tells: it counts response codes. A run is of whole passes
// (once), or ended anywhere. What was lost, or failed, may have been anything.
func (f *queryFile) checkRun(t *tally, c *contestant, once bool) error {
	if failed := t.errors() - t.Lost; float64(failed) > failuresAllowed*float64(t.Completed) || t.Completed == 0 {
		return fmt.Errorf("%s gave wrong answers: %v, %d lost", c.name, t.Rcodes, t.Lost)
	}
	if c.kind.echo {
		return nil
	}
	missing := t.Rcodes["NXDOMAIN"]
	want := float64(f.nxdomain) / float64(len(f.questions))
	switch share := float64(missing) / float64(t.Completed); {
	case once && (missing > f.nxdomain || missing < f.nxdomain-t.errors()),
		math.Abs(share-want) > missingTolerance && t.Completed >= int64(len(f.questions)):
		return fmt.Errorf("%s: %.1f %% of the questions are for names that do not exist, and it said so of %d of %d", c.name, 100*want, missing, t.Completed)
	}
	return nil
}
