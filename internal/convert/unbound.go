package convert

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// option is one line, mostly, of an unbound.conf.
type option struct {
	from    Source
	section string // "server"
	block   int    // counts sections, so that those of one name are told apart
	name    string
	values  []string
}

// reader reads an unbound.conf and what it includes.
type reader struct {
	options []option
	section string
	block   int
	files   files
}

// keyword is what begins an option, or a section.
var keyword = regexp.MustCompile(`^[a-z][a-z0-9-]*:$`)

// sections are the words that begin one.
var sections = map[string]bool{
	"server": true, "stub-zone": true, "forward-zone": true, "auth-zone": true, "view": true, "rpz": true, "remote-control": true,
	"python": true, "dynlib": true, "dnscrypt": true, "dnstap": true, "cachedb": true, "ipset": true,
}

// Unbound translates the unbound.conf at path, with all that it includes. An error
// says what could not be read.
func Unbound(path string) (*Result, error) {
	var r reader
	if err := r.file(path, 0); err != nil {
		return nil, err
	}
	return translate(r.options), nil
}

// file reads one file.
func (r *reader) file(path string, depth int) error {
	text, err := r.files.read(path, depth)
	if err != nil {
		return err
	}
	return r.text(path, text, depth)
}

// word is a piece of a file.
type word struct {
	text   string
	quoted bool
	line   int
}

// words splits a text as Unbound's own reader does: by white space, with quotes of
// both kinds, and comments from # to the end of the line.
func words(path, text string) (list []word, err error) {
	n := 0
	for line := range strings.Lines(text) {
		n++
		for rest := strings.TrimSpace(line); rest != "" && rest[0] != '#'; rest = strings.TrimSpace(rest) {
			if quote := rest[0]; quote == '"' || quote == '\'' {
				end := strings.IndexByte(rest[1:], quote)
				if end < 0 {
					return nil, fmt.Errorf("%s:%d: found a quote without its end", path, n)
				}
				list = append(list, word{rest[1 : 1+end], true, n})
				rest = rest[2+end:]
				continue
			}
			end := strings.IndexAny(rest, " \t\r\n")
			if end < 0 {
				end = len(rest)
			}
			w := rest[:end]
			// `key:"value"`, and `key:value` without a space.
			if i := strings.IndexByte(w, ':'); i > 0 && i < len(w)-1 && keyword.MatchString(w[:i+1]) && (len(list) == 0 || list[len(list)-1].line != n) {
				end = i + 1
				w = rest[:end]
			}
			list = append(list, word{w, false, n})
			rest = rest[end:]
		}
	}
	return list, nil
}

// text reads the options of a text.
func (r *reader) text(path, text string, depth int) error {
	list, err := words(path, text)
	if err != nil {
		return err
	}
	for i := 0; i < len(list); {
		w := list[i]
		i++
		if w.quoted || !keyword.MatchString(w.text) {
			return fmt.Errorf("%s:%d: found %q; expected an option and a colon", path, w.line, w.text)
		}
		o := option{from: Source{path, w.line}, name: strings.TrimSuffix(w.text, ":")}
		for ; i < len(list) && (list[i].quoted || !keyword.MatchString(list[i].text)); i++ {
			o.values = append(o.values, list[i].text)
		}
		if err := r.option(o, depth); err != nil {
			return err
		}
	}
	return nil
}

// option takes an option, a section, or what is to be included.
func (r *reader) option(o option, depth int) error {
	switch {
	case o.name == "include" || o.name == "include-toplevel":
		return r.include(o, depth)
	case sections[o.name] && len(o.values) == 0:
		r.section = o.name
		r.block++
	}
	if len(r.options) >= maxOptions {
		return fmt.Errorf("%s:%d: found more than %d options", o.from.File, o.from.Line, maxOptions)
	}
	o.section, o.block = r.section, r.block
	r.options = append(r.options, o)
	return nil
}

// include reads the files that a pattern names, relative to the file that names it.
func (r *reader) include(o option, depth int) error {
	for _, pattern := range o.values {
		paths, err := matching(o.from, o.name, pattern, filepath.Dir(o.from.File))
		if err != nil {
			return err
		}
		for _, path := range paths {
			if err := r.file(path, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}
