package manual

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestCommandsAreThoseBelowTheHeading(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	text := "# Page\n\n## One\n\n```sh\nother\n```\n\n## Two\n\ntext\n\n```yaml\na: b\n```\n\n```sh\nfirst --flag    # why\n\nsecond\n```\nand\n```sh\nthird\n```\n\n## Three\n```sh\nother\n```\n"
	if err := os.WriteFile(page, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := Commands(page, "Two"); err != nil || !slices.Equal(got, []string{"first --flag", "second", "third"}) {
		t.Errorf("got %q, %v", got, err)
	}
	for _, heading := range []string{"Four", "Page"} {
		if got, err := Commands(page, heading); err == nil {
			t.Errorf("%s: got %q", heading, got)
		}
	}
}
