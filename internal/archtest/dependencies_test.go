package archtest

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// manual is the document that accounts for every dependency.
const manual = "docs/dependencies.md"

// goMod is what the tests need of `go mod edit -json`.
type goMod struct {
	Require []struct {
		Path     string
		Indirect bool
	}
	Tool []struct{ Path string }
}

func readGoMod(t *testing.T, file string) goMod {
	t.Helper()
	out, err := exec.Command("go", "mod", "edit", "-json", filepath.Join(root, file)).Output()
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	var mod goMod
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return mod
}

func readFile(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestEveryRequirementIsAccountedFor(t *testing.T) {
	text := readFile(t, manual)
	direct := 0
	for _, r := range readGoMod(t, "go.mod").Require {
		if r.Indirect {
			continue
		}
		direct++
		if !strings.Contains(text, "["+r.Path+"]") {
			t.Errorf("go.mod requires %s, of which %s says nothing", r.Path, manual)
		}
	}
	if direct == 0 {
		t.Error("go.mod requires nothing directly: is it read right?")
	}
}

// A tool is a package: the document names a module that it may lie in.
func TestEveryToolIsAccountedFor(t *testing.T) {
	text := readFile(t, manual)
	tools := readGoMod(t, "tools/go.mod").Tool
	if len(tools) == 0 {
		t.Error("tools/go.mod names no tool: is it read right?")
	}
	for _, tool := range tools {
		module, _, _ := strings.Cut(tool.Path, "/cmd/")
		if !strings.Contains(text, "["+module+"]") {
			t.Errorf("tools/go.mod has the tool %s, of which %s says nothing", tool.Path, manual)
		}
	}
}

func TestEveryTestPackageIsAccountedFor(t *testing.T) {
	text := readFile(t, manual)
	for _, script := range []string{"tools/install-test-deps", "tools/install-bench-deps", "tools/install-package-deps"} {
		_, list, _ := strings.Cut(readFile(t, script), "\nneeds=(\n")
		list, _, ok := strings.Cut(list, "\n)\n")
		packages := regexp.MustCompile(`(?m)^\t\S+:(\S+)`).FindAllStringSubmatch(list, -1)
		if !ok || len(packages) == 0 {
			t.Fatalf("%s names no package: is it read right?", script)
		}
		for _, p := range packages {
			if !strings.Contains(text, "`"+p[1]+"`") {
				t.Errorf("%s installs %s, of which %s says nothing", script, p[1], manual)
			}
		}
	}
}
