package convert

import (
	"fmt"
	"path/filepath"
	"strings"
)

// maxNesting bounds how deep braces are in braces, and lists of addresses in lists.
const maxNesting = 32

// statement is what ends with a semicolon in a named.conf.
type statement struct {
	from  Source
	items []item
}

// item is a word of a statement, or what is between braces.
type item struct {
	text   string
	quoted bool
	block  []statement
	braces bool
}

// name returns the first word.
func (s *statement) name() string { return s.word(0) }

// word returns the word at i; "": there is none.
func (s *statement) word(i int) string {
	if i >= len(s.items) || s.items[i].braces {
		return ""
	}
	return s.items[i].text
}

// block returns what is between the first braces, and whether there are any.
func (s *statement) block() ([]statement, bool) {
	for i := range s.items {
		if s.items[i].braces {
			return s.items[i].block, true
		}
	}
	return nil, false
}

// after returns the word that follows one, before the first braces: 53 for "port" in
// `listen-on port 53 { any; }`.
func (s *statement) after(word string) string {
	for i := range s.items {
		if s.items[i].braces {
			return ""
		}
		if s.items[i].text == word && !s.items[i].quoted && i > 0 {
			return s.word(i + 1)
		}
	}
	return ""
}

// option returns s as an option whose values are its words.
func (s *statement) option() option {
	o := option{from: s.from, name: s.name()}
	for i := range s.items {
		if i > 0 && !s.items[i].braces {
			o.values = append(o.values, s.items[i].text)
		}
	}
	return o
}

// find returns the last statement of a name.
func find(list []statement, name string) (*statement, bool) {
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].name() == name {
			return &list[i], true
		}
	}
	return nil, false
}

// token is a piece of a named.conf: one of the signs in it, or a word.
type token struct {
	text string
	sign bool // one of { } ; !
	word
}

// namedReader reads a named.conf and what it includes.
type namedReader struct {
	files     files
	directory string // that of the options, as named has changed to it; "": not yet
	count     int    // of statements
}

// file reads one file.
func (r *namedReader) file(path string, depth int) ([]statement, error) {
	text, err := r.files.read(path, depth)
	if err != nil {
		return nil, err
	}
	return r.text(path, text, depth)
}

// text reads the statements of a text.
func (r *namedReader) text(path, text string, depth int) ([]statement, error) {
	tokens, err := namedTokens(path, text)
	if err != nil {
		return nil, err
	}
	p := namedParser{r: r, path: path, depth: depth, rest: tokens}
	return p.statements(0)
}

// namedParser makes statements of the tokens of a file.
type namedParser struct {
	r     *namedReader
	path  string
	depth int // of includes
	rest  []token
}

// statements reads to the end of the file, or to the brace that closes what nesting
// braces are open of.
func (p *namedParser) statements(nesting int) (list []statement, err error) {
	if nesting > maxNesting {
		return nil, fmt.Errorf("%s:%d: found braces in braces, more than %d deep", p.path, p.rest[0].line, maxNesting)
	}
	for len(p.rest) > 0 {
		t := p.rest[0]
		switch {
		case t.sign && t.text == ";": // an empty one
			p.rest = p.rest[1:]
			continue
		case t.sign && t.text == "}":
			if nesting == 0 {
				return nil, fmt.Errorf("%s:%d: found } where nothing is open", p.path, t.line)
			}
			return list, nil
		}
		s, err := p.statement(nesting)
		if err != nil {
			return nil, err
		}
		if list, err = p.r.take(list, s, p.depth); err != nil {
			return nil, err
		}
	}
	if nesting > 0 {
		return nil, fmt.Errorf("%s: found the end of the file; expected }", p.path)
	}
	return list, nil
}

// statement reads one, to its semicolon.
func (p *namedParser) statement(nesting int) (statement, error) {
	s := statement{from: Source{p.path, p.rest[0].line}}
	for len(p.rest) > 0 {
		t := p.rest[0]
		if t.sign && t.text == "}" {
			break
		}
		p.rest = p.rest[1:]
		switch {
		case !t.sign || t.text == "!":
			s.items = append(s.items, item{text: t.text, quoted: t.quoted})
		case t.text == ";":
			return s, nil
		default: // {
			block, err := p.statements(nesting + 1)
			if err != nil {
				return s, err
			}
			p.rest = p.rest[1:] // }
			s.items = append(s.items, item{block: block, braces: true})
		}
	}
	return s, fmt.Errorf("%s:%d: found %q without a semicolon at its end", s.from.File, s.from.Line, s.name())
}

// take appends a statement, or what it includes.
func (r *namedReader) take(list []statement, s statement, depth int) ([]statement, error) {
	if r.count++; r.count > maxOptions {
		return nil, fmt.Errorf("%s:%d: found more than %d options", s.from.File, s.from.Line, maxOptions)
	}
	switch {
	case s.name() == "directory" && len(s.items) == 2:
		r.directory = s.word(1)
	case s.name() == "include" && len(s.items) == 2:
		return r.include(list, s, depth)
	}
	return append(list, s), nil
}

// include appends the statements of other files. named looks for them in the
// directory of the options, and before it has read that where it was started, which
// nobody knows here: that of the file has to do.
func (r *namedReader) include(list []statement, s statement, depth int) ([]statement, error) {
	dir := filepath.Dir(s.from.File)
	if filepath.IsAbs(r.directory) {
		dir = r.directory
	}
	paths, err := matching(s.from, "include", s.word(1), dir)
	if err != nil {
		return nil, err
	}
	for _, path := range paths {
		more, err := r.file(path, depth+1)
		if err != nil {
			return nil, err
		}
		list = append(list, more...)
	}
	return list, nil
}

// namedTokens splits a text as named does: comments as in C, C++ and the shell,
// strings in quotes, which may be of many lines, signs, and words.
func namedTokens(path, text string) (list []token, err error) {
	line := 1
	for text != "" {
		n := 1
		switch c := text[0]; {
		case strings.IndexByte(" \t\r\n\v\f", c) >= 0:
		case c == '#', strings.HasPrefix(text, "//"):
			if n = strings.IndexByte(text, '\n'); n < 0 {
				n = len(text)
			}
		case strings.HasPrefix(text, "/*"):
			end := strings.Index(text[2:], "*/")
			if end < 0 {
				return nil, fmt.Errorf("%s:%d: found a comment without its end", path, line)
			}
			n = end + 4
		case strings.IndexByte("{};!", c) >= 0:
			list = append(list, token{text[:1], true, word{line: line}})
		case c == '"':
			var s string
			if s, n = unquote(text); n < 0 {
				return nil, fmt.Errorf("%s:%d: found a quote without its end", path, line)
			}
			list = append(list, token{s, false, word{s, true, line}})
		default:
			n = wordLength(text)
			list = append(list, token{text[:n], false, word{text[:n], false, line}})
		}
		line += strings.Count(text[:n], "\n")
		text = text[n:]
	}
	return list, nil
}

// unquote returns the string in quotes that text begins with, and how long it is
// there; -1: it has no end.
func unquote(text string) (string, int) {
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return b.String(), i + 1
		case c == '\\' && i+1 < len(text) && (text[i+1] == '"' || text[i+1] == '\\'):
			i++
			b.WriteByte(text[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", -1
}

// wordLength returns how long the word is that text begins with. Comments end it.
func wordLength(text string) int {
	for i := range len(text) {
		if strings.IndexByte(" \t\r\n\v\f{};!\"", text[i]) >= 0 || i > 0 && (strings.HasPrefix(text[i:], "//") || strings.HasPrefix(text[i:], "/*")) {
			return i
		}
	}
	return len(text)
}

// IsNamed reports whether the file at path is a named.conf. The first word of an
// unbound.conf, of which only # begins comments, ends with a colon; no statement of
// named begins with one.
func IsNamed(path string) (bool, error) {
	var r files
	text, err := r.read(path, 0)
	if err != nil {
		return false, err
	}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			first, rest, _ := strings.Cut(line, ":")
			return rest == "" && !strings.HasSuffix(line, ":") || !keyword.MatchString(first+":"), nil
		}
	}
	return false, nil
}
