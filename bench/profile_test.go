package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// zipped returns text as profiles are kept.
func zipped(t *testing.T, text string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func unzipped(t *testing.T, octets []byte) string {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(octets))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(plain)
}

func TestProfileDoesNotSayWhereTheBinaryWas(t *testing.T) {
	path, err := filepath.Abs("bin/shirube")
	if err != nil {
		t.Fatal(err)
	}
	got, err := withoutPath(zipped(t, "before "+path+" behind"), "bin/shirube")
	if err != nil {
		t.Fatal(err)
	}
	plain := unzipped(t, got)
	if len(plain) != len("before  behind")+len(path) || bytes.Contains([]byte(plain), []byte("/bin/")) || !bytes.Contains([]byte(plain), []byte("/shirube behind")) {
		t.Errorf("%q", plain)
	}
	if _, err := withoutPath([]byte("no profile"), "bin/shirube"); err == nil {
		t.Error("what is no profile was taken")
	}
}

func TestProfileForTheCompilerIsAnonymous(t *testing.T) {
	octets, err := os.ReadFile("../cmd/shirube/default.pgo")
	if err != nil {
		t.Fatal(err)
	}
	if plain := unzipped(t, octets); bytes.Contains([]byte(plain), []byte("/bin/shirube")) {
		t.Error("cmd/shirube/default.pgo says where the binary was")
	}
}
