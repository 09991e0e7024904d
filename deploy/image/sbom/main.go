// Command sbom says what a binary of Go is made of: as a software bill of
// materials (CycloneDX 1.5, JSON), or as the licences that have to go with it.
// All of it comes from the binary itself (`go version -m`) and the module cache.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

func main() {
	if err := run(os.Stdout, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

// run writes what args ask for.
func run(w io.Writer, args []string) error {
	flags := flag.NewFlagSet("sbom", flag.ContinueOnError)
	version := flags.String("version", "devel", "`version` of the program")
	epoch := flags.Int64("epoch", 0, "time of the document, in `seconds` since 1970; 0: none")
	notices := flags.Bool("licences", false, "write the licences of the modules instead")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("usage: sbom [flags] BINARY")
	}
	info, err := buildinfo.ReadFile(flags.Arg(0))
	if err != nil {
		return err
	}
	if *notices {
		return licences(w, info)
	}
	binary, err := os.ReadFile(flags.Arg(0))
	if err != nil {
		return err
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(bill(info, binary, *version, *epoch))
}

// The parts of CycloneDX 1.5 that say something of a program in Go.
type (
	document struct {
		Format       string       `json:"bomFormat"`
		SpecVersion  string       `json:"specVersion"`
		SerialNumber string       `json:"serialNumber"`
		Version      int          `json:"version"`
		Metadata     metadata     `json:"metadata"`
		Components   []component  `json:"components"`
		Dependencies []dependency `json:"dependencies"`
	}
	metadata struct {
		Timestamp string    `json:"timestamp,omitempty"`
		Component component `json:"component"`
	}
	component struct {
		Type       string     `json:"type"`
		Ref        string     `json:"bom-ref"`
		Name       string     `json:"name"`
		Version    string     `json:"version"`
		PURL       string     `json:"purl,omitempty"`
		Hashes     []hash     `json:"hashes,omitempty"`
		Properties []property `json:"properties,omitempty"`
	}
	hash struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	}
	property struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
	dependency struct {
		Ref       string   `json:"ref"`
		DependsOn []string `json:"dependsOn"`
	}
)

// bill returns the bill of materials of a binary.
func bill(info *debug.BuildInfo, binary []byte, version string, epoch int64) document {
	sum := sha256.Sum256(binary)
	program := component{
		Type: "application", Ref: info.Main.Path, Name: info.Main.Path, Version: version,
		Hashes: []hash{{"SHA-256", fmt.Sprintf("%x", sum)}},
	}
	for _, s := range info.Settings {
		program.Properties = append(program.Properties, property{"go:build:" + s.Key, s.Value})
	}
	d := document{
		Format: "CycloneDX", SpecVersion: "1.5", Version: 1,
		SerialNumber: uuid(sum),
		Metadata:     metadata{Component: program},
		Components:   components(info),
	}
	if epoch != 0 {
		d.Metadata.Timestamp = time.Unix(epoch, 0).UTC().Format(time.RFC3339)
	}
	needs := dependency{Ref: program.Ref}
	for _, c := range d.Components {
		needs.DependsOn = append(needs.DependsOn, c.Ref)
	}
	d.Dependencies = []dependency{needs}
	return d
}

// uuid returns the name of what has a hash, so that equal binaries have equal
// bills (RFC 9562 §5.8: version 8).
func uuid(sum [sha256.Size]byte) string {
	u := sum[:16]
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
}

// components returns what a binary is made of besides its own module.
func components(info *debug.BuildInfo) []component {
	list := []component{module("std", strings.TrimPrefix(info.GoVersion, "go"), "")}
	for _, m := range modules(info) {
		list = append(list, module(m.Path, m.Version, m.Sum))
	}
	return list
}

// modules returns the modules of a binary, each as the one that stands for it.
func modules(info *debug.BuildInfo) []*debug.Module {
	var list []*debug.Module
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		list = append(list, m)
	}
	return list
}

// module returns the component that is a module of Go. Its sum is that of go.sum,
// a hash of all its files.
func module(path, version, sum string) component {
	purl := "pkg:golang/" + path + "@" + version
	c := component{Type: "library", Ref: purl, Name: path, Version: version, PURL: purl}
	if sum != "" {
		c.Properties = []property{{"go:sum", sum}}
	}
	return c
}

// licences writes the licences and notices of all modules of a binary, and that
// of Go itself.
func licences(w io.Writer, info *debug.BuildInfo) error {
	root, err := goOutput("env", "GOROOT")
	if err != nil {
		return err
	}
	if err := licence(w, "The Go programming language, "+info.GoVersion, root); err != nil {
		return err
	}
	for _, m := range modules(info) {
		dir, err := goOutput("list", "-m", "-f", "{{.Dir}}", m.Path)
		if err != nil {
			return err
		}
		if err := licence(w, m.Path+" "+m.Version, dir); err != nil {
			return err
		}
	}
	return nil
}

// licence writes the licences in a directory.
func licence(w io.Writer, of, dir string) error {
	var files []string
	for _, pattern := range []string{"LICEN[CS]E*", "COPYING*", "NOTICE*"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return err
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		return fmt.Errorf("%s: found no licence in %s", of, dir)
	}
	slices.Sort(files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "\n==== %s: %s ====\n\n%s\n", of, filepath.Base(file), bytes.TrimSpace(text)); err != nil {
			return err
		}
	}
	return nil
}

// goOutput returns what the go command prints.
func goOutput(args ...string) (string, error) {
	out, err := exec.CommandContext(context.Background(), "go", args...).Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w", strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), nil
}
