package manual

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

const page = "# Page\n\n## One\n\n```sh\nother\n```\n\n## Two\n\ntext\n\n```yaml\n# One\na: b\n```\n\n```sh\nfirst --flag    # why\n\nsecond\n```\nand\n```sh\nthird\n```\n\n" +
	"### Within\n\n- item:\n  ```yaml\n  c:\n    d: e\n  ```\n\n## Three\n```sh\nother\n```\n```yaml\nf: g\n```\n"

func TestWhatIsBelowAHeading(t *testing.T) {
	file := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Commands(file, "Two"); err != nil || !slices.Equal(got, []string{"first --flag", "second", "third"}) {
		t.Errorf("got %q, %v", got, err)
	}
	for heading, want := range map[string][]string{
		"Two":    {"# One\na: b\n", "c:\n  d: e\n"},
		"Within": {"c:\n  d: e\n"},
		"Three":  {"f: g\n"},
		"":       {"# One\na: b\n", "c:\n  d: e\n", "f: g\n"},
		"Page":   {"# One\na: b\n", "c:\n  d: e\n", "f: g\n"},
	} {
		if got, err := Blocks(file, heading, "yaml"); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %q, %v", heading, got, err)
		}
	}
	for _, heading := range []string{"Four", "Within", "One"} {
		if got, err := Blocks(file, heading, "text"); err == nil {
			t.Errorf("%s: got %q", heading, got)
		}
	}
	if got, err := Commands(file, "Within"); err == nil {
		t.Errorf("got %q", got)
	}
}
