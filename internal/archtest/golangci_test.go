package archtest

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the depguard rules of .golangci.yml from the table")

// The lines of .golangci.yml between which the rules are written.
const (
	beginRules = "        # Written by `go test ./internal/archtest -update` from rules_test.go: do not edit."
	endRules   = "        # End of what is written."
)

// TestLinterKnowsTheSameRules keeps the linter's rules, which an editor shows
// while one types, equal to the table.
func TestLinterKnowsTheSameRules(t *testing.T) {
	file := filepath.Join(root, ".golangci.yml")
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(old), beginRules+"\n")
	have, tail, ok2 := strings.Cut(rest, endRules+"\n")
	if !ok || !ok2 {
		t.Fatalf("%s has lost the lines between which the rules are written", file)
	}
	var want strings.Builder
	for i := range rules {
		rules[i].appendDepguard(&want)
	}
	if have == want.String() {
		return
	}
	if !*update {
		t.Fatalf("%s is behind the table: run go test ./internal/archtest -update", file)
	}
	content := head + beginRules + "\n" + want.String() + endRules + "\n" + tail
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// appendDepguard writes the rule as an entry of depguard's rules.
func (r *rule) appendDepguard(b *strings.Builder) {
	fmt.Fprintf(b, "        %s:\n          list-mode: lax\n          files:\n", r.name)
	for _, in := range r.in {
		fmt.Fprintf(b, "            - %q\n", depguardFiles(in))
	}
	for _, not := range r.not {
		fmt.Fprintf(b, "            - %q\n", "!"+depguardFiles(not))
	}
	if !r.tests {
		b.WriteString("            - \"!$test\"\n")
	}
	if len(r.allow) > 0 {
		b.WriteString("          allow:\n")
		for _, a := range r.allow {
			fmt.Fprintf(b, "            - %q\n", depguardImport(a))
		}
	}
	b.WriteString("          deny:\n")
	for _, d := range r.deny {
		fmt.Fprintf(b, "            - pkg: %q\n              desc: %q\n", depguardImport(d), r.reason)
	}
}

// depguardFiles turns a place of the table into depguard's glob, in which "*"
// stops at a slash and "**" does not.
func depguardFiles(pattern string) string {
	switch {
	case pattern == "...":
		return "${config-path}/**"
	case strings.HasSuffix(pattern, ".go"):
		return "${config-path}/" + pattern
	case strings.HasSuffix(pattern, "/..."):
		return "${config-path}/" + strings.TrimSuffix(pattern, "...") + "**"
	default:
		return "${config-path}/" + pattern + "/*.go"
	}
}

// depguardImport turns an import of the table into depguard's, in which "$"
// ends an exact path and everything else is a prefix.
func depguardImport(pattern string) string {
	if base, tree := strings.CutSuffix(pattern, "/..."); tree {
		return base
	}
	return pattern + "$"
}
