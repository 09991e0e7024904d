// Command gen writes what is made of the types of package config: the
// reference docs/configuration.md, the manual page of the file, and the JSON
// schema in docs and in the package itself. Run it with `go generate ./internal/config`.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	err := errors.New("usage: gen DIRECTORY-OF-PACKAGE-CONFIG")
	if len(os.Args) == 2 {
		err = write(os.Args[1])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

// write brings the generated files up to date; dir is where package config is.
func write(dir string) error {
	files, err := generate(dir)
	if err != nil {
		return err
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Where the generated files are, from the directory of package config.
const (
	referenceFile = "../../docs/configuration.md"
	schemaFile    = "../../docs/shirube.schema.json"
	embeddedFile  = "schema.json"
	manualFile    = "../../docs/man/shirube.yaml.5"
)

// generate returns the content of the generated files.
func generate(dir string) (map[string][]byte, error) {
	docs, err := readTexts(dir)
	if err != nil {
		return nil, err
	}
	schema, err := schema(docs)
	if err != nil {
		return nil, err
	}
	reference, err := reference(docs)
	if err != nil {
		return nil, err
	}
	manual, err := manual(docs)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		referenceFile: reference,
		schemaFile:    schema,
		embeddedFile:  schema,
		manualFile:    manual,
	}, nil
}
