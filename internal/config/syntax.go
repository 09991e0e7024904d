package config

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// syntaxProblem says what is wrong with data, which the YAML parser refused
// with err.
func syntaxProblem(data []byte, err error) Problem {
	lines := strings.Split(string(data), "\n")
	line, message := splitYAMLError(err)
	line = brokenLine(lines, min(line, len(lines)))
	if p, ok := explain(lines, line); ok {
		return p
	}
	return Problem{Line: line, Message: "not YAML: " + plainWords(message)}
}

// splitYAMLError takes err apart. The library has nothing but the text, and no
// line in it when it means the first one.
func splitYAMLError(err error) (line int, message string) {
	message = strings.TrimPrefix(err.Error(), "yaml: ")
	if n, err := fmt.Sscanf(message, "line %d:", &line); n == 1 && err == nil {
		_, message, _ = strings.Cut(message, ": ")
	}
	return max(line, 1), message
}

// maxBrokenLines is how many lines are tried to find the broken one. Each try
// parses the file, and the library is seldom off by more.
const maxBrokenLines = 16

// brokenLine returns the line that a syntax error is on. The library names the
// start of what it was reading, which may be far above. The file up to the
// broken line is good YAML, though, and with that line it is not.
func brokenLine(lines []string, named int) int {
	var seen lineReader
	seen.lines = lines
	if decode(yaml.NewDecoder(&seen), new(yaml.Node)) == nil {
		return named // in a second document
	}
	for n := seen.next; n > 0 && n > seen.next-maxBrokenLines; n-- {
		good := strings.Join(lines[:n-1], "\n")
		err := decode(yaml.NewDecoder(strings.NewReader(good)), new(yaml.Node))
		if err == nil || errors.Is(err, io.EOF) {
			return n
		}
	}
	return named
}

// lineReader hands out one line at each Read, so that next tells how far a
// parser that stopped has come.
type lineReader struct {
	lines []string
	next  int    // of lines
	rest  string // of the last line that was taken
}

// Read implements [io.Reader].
func (r *lineReader) Read(p []byte) (int, error) {
	if r.rest == "" {
		if r.next == len(r.lines) {
			return 0, io.EOF
		}
		r.rest = r.lines[r.next] + "\n"
		r.next++
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// plainWords says in plain words what the library means. What it does not
// know stays as it is.
func plainWords(message string) string {
	switch message {
	case "mapping values are not allowed in this context":
		return "found a key where a value has to be; check the lines for a missing quote, colon or indentation"
	case "did not find expected key", "did not find expected '-' indicator":
		return "found a line that does not line up with those before it"
	case "did not find expected node content":
		return "found no value where one has to be"
	case "did not find expected ',' or ']'":
		return "found a list in brackets without its end"
	case "did not find expected ',' or '}'":
		return "found a section in braces without its end"
	case "found unexpected end of stream":
		return "found a quote without its end"
	case "could not find expected ':'":
		return "found a key without a colon"
	}
	return message
}

// explain looks around a broken line for what people get wrong most, and
// returns the place and the message if it finds something.
func explain(lines []string, line int) (Problem, bool) {
	for _, n := range []int{line, line + 1, line - 1} {
		if n < 1 || n > len(lines) {
			continue
		}
		text := strings.TrimRight(lines[n-1], "\r")
		indent := text[:len(text)-len(strings.TrimLeft(text, " \t"))]
		if tab := strings.IndexByte(indent, '\t'); tab >= 0 && len(indent) < len(text) {
			return Problem{Line: n, Column: tab + 1, Message: "found a tab in the indentation; expected spaces"}, true
		}
	}
	text, _, _ := strings.Cut(lines[line-1], " #")
	for i, word := range strings.Fields(text) {
		word = strings.TrimRight(word, ",}")
		if i == 0 || !bareIPv6(word) {
			continue
		}
		return Problem{
			Line:    line,
			Column:  utf8.RuneCountInString(text[:strings.Index(text, word)]) + 1,
			Message: fmt.Sprintf("not YAML: %s needs quotes, as %q", printable(word), shorten(word)),
		}, true
	}
	return Problem{}, false
}

// bareIPv6 tells whether word looks like an IPv6 address that YAML takes for
// something else: for the start of a list or for a key.
func bareIPv6(word string) bool {
	return strings.HasPrefix(word, "[") && (strings.Contains(word, "::") || strings.Contains(word, "]:")) ||
		strings.HasPrefix(word, "::") || strings.HasSuffix(word, "::")
}
