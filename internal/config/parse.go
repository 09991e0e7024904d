package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"reflect"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// MaxFileSize is how large a configuration file may be, in bytes. The YAML
// parser keeps a multiple of it in memory; a long list of access rules has a
// tenth of it.
const MaxFileSize = 1 << 20

// Load reads and checks the configuration file at path. Its error is an
// [*Error], also when the file cannot be read.
func Load(path string) (Config, error) { return load(path, Read) }

// load opens the file at path for read.
func load[T any](path string, read func(file string, r io.Reader) (T, error)) (T, error) {
	f, err := os.Open(path)
	if err != nil {
		var none T
		return none, unreadable(path, err)
	}
	defer f.Close()
	return read(path, f)
}

// Read reads and checks a configuration file from r; file is its name in
// reports. Its error is an [*Error].
func Read(file string, r io.Reader) (Config, error) { return read(file, r, Parse) }

// read hands what r has to parse.
func read[T any](file string, r io.Reader, parse func(string, []byte) (T, error)) (T, error) {
	// One more than allowed, so that parse sees that it is too much.
	data, err := io.ReadAll(io.LimitReader(r, MaxFileSize+1))
	if err != nil {
		var none T
		return none, unreadable(file, err)
	}
	return parse(file, data)
}

// unreadable returns the report on a file that cannot be read.
func unreadable(file string, err error) error {
	cause := err
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		cause = e.Err // without the path, which the report has already
	}
	return &Error{
		File:     file,
		Problems: []Problem{{Message: "cannot be read: " + cause.Error()}},
		Err:      err,
	}
}

// Parse checks data, the content of a configuration file; file is its name in
// reports. Keys that it does not have keep the values of [Default]. Its error
// is an [*Error] with everything that is wrong.
func Parse(file string, data []byte) (Config, error) {
	return parse(file, data, Default(), (*decoder).contradictions)
}

// parse lays the file data over the defaults, and has check look at what comes of
// that.
func parse[T any](file string, data []byte, defaults T, check func(*decoder, *T)) (T, error) {
	var none T
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // YAML 1.2.2 §5.2 allows it at the start
	if p, ok := checkText(data); !ok {
		return none, &Error{File: file, Problems: []Problem{p}}
	}
	root, p, ok := parseYAML(data)
	if !ok {
		return none, &Error{File: file, Problems: []Problem{p}}
	}
	d := newDecoder(sectionKeys(reflect.ValueOf(defaults), "", false))
	if root != nil && d.plain(root, "") { // nil is an empty file
		d.section(root, d.keys, reflect.ValueOf(&defaults).Elem(), "")
	}
	check(d, &defaults)
	if err := d.err(file); err != nil {
		return none, err
	}
	return defaults, nil
}

// checkText looks for what is not text, which the YAML parser reports without
// a place, or not at all.
func checkText(data []byte) (Problem, bool) {
	switch {
	case len(data) > MaxFileSize:
		return Problem{Message: fmt.Sprintf("larger than %s", Size(MaxFileSize))}, false
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")):
		return Problem{Line: 1, Column: 1, Message: "found UTF-16; expected UTF-8"}, false
	}
	line, column := 1, 1
	for rest := data; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		message := ""
		switch {
		case r == utf8.RuneError && size == 1:
			message = fmt.Sprintf("found the octet 0x%02x, which is not UTF-8", rest[0])
		case r == 0:
			message = "found a NUL character; expected text"
		case r < ' ' && r != '\t' && r != '\n' && r != '\r', r >= 0x7f && r < 0xa0:
			message = fmt.Sprintf("found the control character U+%04X; expected text", r)
		case r == '\ufeff':
			message = "found a byte order mark, which may only be the first character"
		case r == '\u2028', r == '\u2029', r == '\r' && !bytes.HasPrefix(rest, []byte("\r\n")):
			// The YAML parser breaks lines here, and little else does: what a
			// person reads would not be what the server does.
			message = fmt.Sprintf("found the line separator U+%04X; expected an ordinary line break", r)
		}
		if message != "" {
			return Problem{Line: line, Column: column, Message: message}, false
		}
		column++
		if r == '\n' {
			line, column = line+1, 1
		}
		rest = rest[size:]
	}
	return Problem{}, true
}

// parseYAML returns the root of the only document in data, or nil if there is
// none. Aliases are not expanded here, and nowhere else; nesting is bounded by
// the library (10,000 levels), and by the types for everything after it.
func parseYAML(data []byte) (*yaml.Node, Problem, bool) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var document, second yaml.Node
	switch err := decode(decoder, &document); {
	case errors.Is(err, io.EOF):
		return nil, Problem{}, true
	case err != nil:
		return nil, syntaxProblem(data, err), false
	}
	switch err := decode(decoder, &second); {
	case errors.Is(err, io.EOF):
		return document.Content[0], Problem{}, true
	case err != nil:
		return nil, syntaxProblem(data, err), false
	}
	return nil, Problem{
		Line:    second.Line,
		Column:  second.Column,
		Message: "found a second YAML document; expected one document in the file",
	}, false
}

// decode calls decoder.Decode, and returns a panic of the library as an error.
// Its code for comments has had several on odd input (go-yaml issues 560, 665
// and 666, all mended); nothing of ours runs in here but the reader.
func decode(decoder *yaml.Decoder, n *yaml.Node) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("yaml: the parser gave up: %v", r)
		}
	}()
	return decoder.Decode(n)
}
