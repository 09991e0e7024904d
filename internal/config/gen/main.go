// Command gen writes what is made of the types of package config: the
// reference docs/configuration.md, the manual page of the file, and the JSON
// schema in docs and in the package itself; and the same without a schema of the
// announcer's file. Run it with `go generate ./internal/config`.
package main

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"shirube/internal/config"
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

	announcerReferenceFile = "../../docs/anycast-configuration.md"
	announcerManualFile    = "../../docs/man/shirube-announce.yaml.5"
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
	out := map[string][]byte{schemaFile: schema, embeddedFile: schema}
	for _, m := range manuals() {
		if out[m.referenceFile], err = m.reference(docs); err != nil {
			return nil, err
		}
		if out[m.manualFile], err = m.manual(docs); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// subject is a file that a manual is written of.
type subject struct {
	referenceFile, manualFile string

	name    string // of the manual page
	summary string
	intro   string // Markdown, before the keys
	keys    []config.Key
	file    string // that the service reads
	seeAlso string
	example string // what is said of the file with all defaults; "": there is none
}

// The texts before the keys.
var (
	//go:embed intro.md
	intro string
	//go:embed announcer.md
	announcerIntro string
)

// manuals returns the files that there are.
func manuals() []subject {
	return []subject{
		{
			referenceFile, manualFile, "shirube.yaml", "configuration of the recursive DNS server Shirube", intro, config.Keys(),
			"/etc/shirube/shirube.yaml", "shirube(1)", "A server without a file does the same as one with this.",
		},
		{
			announcerReferenceFile, announcerManualFile, "shirube-announce.yaml", "configuration of the announcer of Shirube's addresses",
			announcerIntro, config.AnnouncerKeys(), "/etc/shirube/announce.yaml", "shirube-announce(1), shirube.yaml(5)", "",
		},
	}
}
