package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"shirube/internal/config"
	"shirube/internal/manual"
)

// packageDir is where package config is, seen from this one.
const packageDir = ".."

// fresh returns what a generated file should be now.
func fresh(t *testing.T, name string) string {
	t.Helper()
	files, err := generate(packageDir)
	if err != nil {
		t.Fatal(err)
	}
	return string(files[name])
}

func checkFresh(t *testing.T, name string) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(packageDir, name))
	if err != nil {
		t.Fatalf("%v; run go generate ./internal/config", err)
	}
	if want := fresh(t, name); string(got) != want {
		t.Errorf("%s is stale; run go generate ./internal/config", filepath.Base(name))
	}
}

func TestReferenceIsFresh(t *testing.T) {
	checkFresh(t, referenceFile)
	checkFresh(t, announcerReferenceFile)
}

func TestManualPageIsFresh(t *testing.T) {
	checkFresh(t, manualFile)
	checkFresh(t, announcerManualFile)
}

func TestManualPageHasEveryKey(t *testing.T) {
	page := fresh(t, manualFile)
	var look func([]config.Key)
	look = func(keys []config.Key) {
		for _, k := range keys {
			if !strings.Contains(page, "\n.SS \""+k.Path+"\"\n") {
				t.Errorf("the manual page has no %s", k.Path)
			}
			look(k.Keys)
			if k.Element != nil {
				look(k.Element.Keys)
			}
		}
	}
	look(config.Keys())
}

func TestSchemaIsFresh(t *testing.T) {
	checkFresh(t, schemaFile)
	checkFresh(t, embeddedFile)
	if config.Schema() != fresh(t, schemaFile) {
		t.Error("the schema in the package is not the one in docs; run go generate ./internal/config")
	}
}

func TestWriteBringsFilesUpToDate(t *testing.T) {
	files, err := generate(packageDir)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	dir := filepath.Join(root, "internal", "config")
	if err := os.CopyFS(dir, os.DirFS(packageDir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, embeddedFile)); err != nil {
		t.Fatal(err)
	}
	if err := write(dir); err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || string(got) != string(want) {
			t.Errorf("%s was not written as generated: %v", name, err)
		}
	}
}

func TestGenerateRefusesAFieldWithoutText(t *testing.T) {
	dir := t.TempDir()
	source := "package config\n\ntype Config struct {\n\tListen []Listener\n}\n"
	if err := os.WriteFile(filepath.Join(dir, "config.go"), []byte(source), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := generate(dir)
	if err == nil || !strings.HasSuffix(err.Error(), "the field Listener.Address has no doc comment") {
		t.Errorf("got %v", err)
	}
}

func TestExampleIsTheDefault(t *testing.T) {
	docs, err := readTexts(packageDir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := example(config.Keys(), docs)
	if err != nil {
		t.Fatal(err)
	}
	got, err := config.Parse("example", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if want := config.Default(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for _, section := range config.Keys() {
		inExample(t, text, "\n  ", section.Keys)
	}
}

// inExample checks that text has keys, and those of the sections among them,
// after indent.
func inExample(t *testing.T, text, indent string, keys []config.Key) {
	t.Helper()
	for _, k := range keys {
		if k.Kind == config.KindSection {
			inExample(t, text, indent+"  ", k.Keys)
		} else if !strings.Contains(text, indent+k.Name+": "+k.Default+"\n") {
			t.Errorf("the example has no %s: %s", k.Path, k.Default)
		}
	}
}

func TestEveryExampleInTheReferenceIsGood(t *testing.T) {
	blocks, err := manual.Blocks(filepath.Join(packageDir, referenceFile), "", "yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(blocks) < 5 {
		t.Errorf("found %d examples", len(blocks))
	}
	for _, block := range blocks {
		if _, err := config.Parse("example", []byte(block)); err != nil {
			t.Errorf("%v in\n%s", err, block)
		}
		if faults := validate(t, block); len(faults) > 0 {
			t.Errorf("the schema refuses %q in\n%s", faults, block)
		}
	}
}

func TestReportInTheReferenceIsReal(t *testing.T) {
	file := "\n\n\n\n\ncache:\n  answer_size: 1GiB\nresolver:\n  timeout: 6\n"
	_, err := config.Parse("shirube.yaml", []byte(file))
	if err == nil || !strings.Contains(intro, "```text\n"+err.Error()+"\n```\n") {
		t.Errorf("the reference does not show\n%v", err)
	}
}
