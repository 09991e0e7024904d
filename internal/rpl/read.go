package rpl

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// The limits on a file. What is read is proportional to it: nothing in a
// scenario stands for more than itself.
const (
	maxFile = 4 << 20   // octets
	maxLine = 128 << 10 // octets; a message in hexadecimal on one line fits
)

// errTooLong reports that a file is longer than is read.
var errTooLong = fmt.Errorf("more than %d octets", maxFile)

// reader reads one file.
type reader struct {
	name  string
	lines *bufio.Scanner
	input *io.LimitedReader
	line  int    // number of text, from 1
	text  string // the line, without white space at its ends

	origin string // of relative names
	ttl    uint32 // of records without one, in seconds
	out    *Scenario
}

// Read reads a scenario from in; name is what errors call it. They are name,
// the number of the line, and what is wrong there.
func Read(name string, in io.Reader) (*Scenario, error) {
	r := &reader{
		name: name, origin: ".", ttl: 3600,
		input: &io.LimitedReader{R: in, N: maxFile + 1},
		out:   &Scenario{Name: name, Files: make(map[string]string)},
	}
	r.lines = bufio.NewScanner(r.input)
	r.lines.Buffer(nil, maxLine)
	if err := r.scenario(); err != nil {
		if r.input.N == 0 {
			err = errTooLong
		}
		return nil, fmt.Errorf("%s:%d: %w", name, r.line, err)
	}
	return r.out, nil
}

// next goes to the next line, whatever it is.
func (r *reader) next() bool {
	if !r.lines.Scan() {
		return false
	}
	r.line++
	r.text = strings.TrimSpace(r.lines.Text())
	return true
}

// nextFull goes to the next line that is neither empty nor a comment.
func (r *reader) nextFull() bool {
	for r.next() {
		if r.text != "" && r.text[0] != ';' && r.text[0] != '#' {
			return true
		}
	}
	return false
}

// ended is the error for a file that ends before want.
func (r *reader) ended(want string) error {
	if err := r.lines.Err(); err != nil {
		return err
	}
	return fmt.Errorf("the file ends before %s", want)
}

// words returns the words of a line, without the comment that may follow them.
func words(text string) []string {
	if i := strings.IndexAny(text, ";#"); i >= 0 {
		text = text[:i]
	}
	return strings.Fields(text)
}

// scenario reads the whole file.
func (r *reader) scenario() error {
	if err := r.config(); err != nil {
		return err
	}
	begun := false
	for r.nextFull() {
		w := words(r.text)
		var err error
		switch {
		case w[0] == "SCENARIO_BEGIN" && !begun:
			begun = true
			r.out.Title = strings.TrimSpace(strings.TrimPrefix(r.text, w[0]))
		case !begun:
			err = errors.New("SCENARIO_BEGIN expected")
		case w[0] == "RANGE_BEGIN":
			err = r.readRange(w[1:])
		case w[0] == "STEP":
			err = r.step(w[1:])
		case w[0] == "SCENARIO_END":
			return r.finish()
		default:
			err = fmt.Errorf("RANGE_BEGIN, STEP or SCENARIO_END expected, not %.40q", w[0])
		}
		if err != nil {
			return err
		}
	}
	if begun && r.out.Dialect == Deckard && r.lines.Err() == nil {
		return r.finish() // some of Deckard's own files end like this
	}
	return r.ended("SCENARIO_END")
}

// finish checks the scenario as a whole, and puts it in order.
func (r *reader) finish() error {
	if len(r.out.Steps) == 0 {
		return errors.New("a scenario without steps shows nothing")
	}
	if r.out.Dialect == Unbound {
		slices.Reverse(r.out.Ranges)
	}
	return nil
}
