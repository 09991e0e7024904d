package main

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// self returns what sbom says of this test's own binary.
func self(t *testing.T, args ...string) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := run(&b, append(args, exe)); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestBillNamesTheProgramAndWhatItIsMadeOf(t *testing.T) {
	text := self(t, "-version", "1.2.3", "-epoch", "1700000000")
	var d document
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		t.Fatal(err)
	}
	if d.Format != "CycloneDX" || d.SpecVersion != "1.5" || d.Metadata.Timestamp != "2023-11-14T22:13:20Z" {
		t.Errorf("it says of itself: %+v", d.Metadata)
	}
	if !regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(d.SerialNumber) {
		t.Errorf("its number is %s", d.SerialNumber)
	}
	if p := d.Metadata.Component; p.Name != "shirube" || p.Version != "1.2.3" || len(p.Hashes) != 1 {
		t.Errorf("the program is %+v", p)
	}
	if want := "pkg:golang/std@" + strings.TrimPrefix(runtime.Version(), "go"); d.Components[0].PURL != want {
		t.Errorf("the first component is %s, want %s", d.Components[0].PURL, want)
	}
	if n := len(d.Dependencies[0].DependsOn); n != len(d.Components) {
		t.Errorf("the program depends on %d of %d components", n, len(d.Components))
	}
	if again := self(t, "-version", "1.2.3", "-epoch", "1700000000"); again != text {
		t.Error("it does not say the same twice")
	}
}

func TestModulesAreComponentsAsTheyWereReplaced(t *testing.T) {
	c := module("example.com/a", "v1.0.0", "h1:x=")
	if c.PURL != "pkg:golang/example.com/a@v1.0.0" || c.Properties[0].Value != "h1:x=" {
		t.Errorf("got %+v", c)
	}
}

func TestLicencesBeginWithThatOfGo(t *testing.T) {
	if text := self(t, "-licences"); !strings.Contains(text, "==== The Go programming language, "+runtime.Version()+": LICENSE ====") ||
		!strings.Contains(text, "Redistribution and use in source and binary forms") {
		t.Errorf("got %.300s", text)
	}
	if err := licence(&bytes.Buffer{}, "x", t.TempDir()); err == nil {
		t.Error("a module without a licence goes unnoticed")
	}
}
