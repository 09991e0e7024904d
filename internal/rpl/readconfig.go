package rpl

import (
	"errors"
	"fmt"
	"strings"
)

// clauses are the blocks that a configuration of Unbound's has.
var clauses = map[string]bool{
	"server": true, "stub-zone": true, "forward-zone": true, "auth-zone": true, "rpz": true, "view": true,
	"remote-control": true, "python": true, "dynlib": true, "dnscrypt": true, "cachedb": true, "ipset": true,
	"dnstap": true,
}

// configLine is a line of the configuration that is to be understood later,
// when it is known what it is written in.
type configLine struct {
	text string
	file string // the line is the name of this file
	line int
}

// config reads the configuration block, up to CONFIG_END.
func (r *reader) config() error {
	var lines []configLine
	for r.next() {
		word, rest, _ := strings.Cut(r.text, " ")
		rest = strings.TrimSpace(rest)
		var err error
		switch {
		case strings.HasPrefix(r.text, "CONFIG_END"):
			return r.settings(lines)
		case strings.HasPrefix(r.text, "SCENARIO_BEGIN"):
			return errors.New("CONFIG_END expected")
		case word == "TEMPFILE_NAME":
			lines = append(lines, configLine{file: rest, line: r.line})
		case word == "TEMPFILE_CONTENTS":
			err = r.file(rest, "TEMPFILE_END")
		case word == "AUTOTRUST_FILE":
			lines = append(lines, configLine{text: "server: auto-trust-anchor-file:", line: r.line}, configLine{file: rest, line: r.line})
			err = r.file(rest, "AUTOTRUST_END")
		case word == "COMMANDLINE":
			lines = append(lines, configLine{text: "server: commandline: '" + rest + "'", line: r.line})
		case r.text != "" && r.text[0] != ';' && r.text[0] != '#':
			lines = append(lines, configLine{text: r.text, line: r.line})
		}
		if err != nil {
			return err
		}
	}
	return r.ended("CONFIG_END")
}

// file reads the contents of the named file, up to end.
func (r *reader) file(name, end string) error {
	var b strings.Builder
	for r.next() {
		if r.text == end {
			r.out.Files[name] = b.String()
			return nil
		}
		b.WriteString(r.lines.Text()) // as it is: white space means something in a zone file
		b.WriteByte('\n')
	}
	return r.ended(end)
}

// settings understands the lines of the configuration block. It is in
// Unbound's dialect if it has one of Unbound's clauses.
func (r *reader) settings(lines []configLine) error {
	for _, l := range lines {
		if w := strings.Fields(l.text); len(w) > 0 && clauses[strings.TrimSuffix(w[0], ":")] && strings.HasSuffix(w[0], ":") {
			return r.unboundSettings(lines)
		}
	}
	if len(lines) > 0 {
		r.out.Dialect = Deckard
		return r.deckardSettings(lines)
	}
	return nil
}

// unboundSettings reads words, of which those that end in a colon are keys: in
// unbound.conf, the ends of lines mean nothing.
func (r *reader) unboundSettings(lines []configLine) error {
	var block *Block
	var setting *Setting
	for _, l := range lines {
		if l.file != "" {
			if setting == nil {
				return r.at(l.line, errors.New("TEMPFILE_NAME belongs to no setting"))
			}
			setting.File = l.file
			continue
		}
		for text := l.text; ; {
			word, quoted, rest, err := confWord(text)
			if err != nil {
				return r.at(l.line, err)
			}
			if word == "" && !quoted {
				break
			}
			text = rest
			key, isKey := strings.CutSuffix(word, ":")
			isKey = isKey && !quoted && !strings.Contains(key, ":") // it may be an IPv6 prefix
			switch {
			case isKey && clauses[key] && (setting == nil || setting.complete()):
				r.out.Config = append(r.out.Config, Block{Name: key, Line: l.line})
				block, setting = &r.out.Config[len(r.out.Config)-1], nil
			case isKey && block == nil:
				return r.at(l.line, fmt.Errorf("%.40q is in no clause", word))
			case isKey:
				block.Settings = append(block.Settings, Setting{Key: key, Line: l.line})
				setting = &block.Settings[len(block.Settings)-1]
			case setting == nil:
				return r.at(l.line, fmt.Errorf("the value %.40q has no key", word))
			default:
				setting.Values = append(setting.Values, word)
			}
		}
	}
	return nil
}

// complete reports whether s has a value.
func (s *Setting) complete() bool { return len(s.Values) > 0 || s.File != "" }

// confWord returns the first word of text, which may be quoted, and what
// follows it. A comment ends the line.
func confWord(text string) (word string, quoted bool, rest string, err error) {
	text = strings.TrimLeft(text, " \t")
	if text == "" || text[0] == '#' {
		return "", false, "", nil
	}
	if q := text[0]; q == '"' || q == '\'' {
		word, rest, ok := strings.Cut(text[1:], string(q))
		if !ok {
			return "", true, "", errors.New("a quotation mark is never closed")
		}
		return word, true, rest, nil
	}
	if i := strings.IndexAny(text, " \t"); i >= 0 {
		return text[:i], false, text[i:], nil
	}
	return text, false, "", nil
}

// deckardSettings reads lines of the form key: value.
func (r *reader) deckardSettings(lines []configLine) error {
	b := Block{Line: lines[0].line}
	for _, l := range lines {
		text, _, _ := strings.Cut(l.text, "#")
		key, value, ok := strings.Cut(text, ":")
		if !ok {
			return r.at(l.line, fmt.Errorf("%.40q is no \"key: value\"", l.text))
		}
		if key != "features" { // a list with semicolons in it
			value, _, _ = strings.Cut(value, ";")
		}
		value = strings.Trim(strings.TrimSpace(value), `"'`)
		b.Settings = append(b.Settings, Setting{Key: strings.TrimSpace(key), Values: []string{value}, Line: l.line})
	}
	r.out.Config = append(r.out.Config, b)
	return nil
}

// at makes line the one that err, which was found late, is about.
func (r *reader) at(line int, err error) error {
	r.line = line
	return err
}
