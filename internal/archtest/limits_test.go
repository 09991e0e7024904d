package archtest

import (
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"shirube/internal/config"
)

// TestLimitsPageNamesWhatExists reads docs/limits.md: a page about security
// that is out of date is worse than none.
func TestLimitsPageNamesWhatExists(t *testing.T) {
	page, err := os.ReadFile("../../docs/limits.md")
	if err != nil {
		t.Fatal(err)
	}
	source, tests := sources(t)
	words := make(map[string]bool)
	for _, w := range strings.FieldsFunc(source, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		words[w] = true
	}
	keys := make(map[string]bool)
	addKeys(keys, config.Keys())
	rows := 0
	for _, line := range strings.Split(string(page), "\n") {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| What") || strings.HasPrefix(line, "| Attack") {
			continue
		}
		rows++
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(line, -1) {
			name := m[1]
			switch {
			case strings.HasPrefix(name, "Test"):
				if !strings.Contains(tests, "func "+name+"(") {
					t.Errorf("no test %s:\n%s", name, line)
				}
			case strings.Contains(name, "."):
				if !keys[name] {
					t.Errorf("no key %s:\n%s", name, line)
				}
			case !words[name] && (token.IsIdentifier(name) || !strings.Contains(source, name)):
				t.Errorf("nothing is called %s:\n%s", name, line)
			}
		}
		for _, m := range regexp.MustCompile(`"([a-z][^"]+)"`).FindAllStringSubmatch(line, -1) {
			if !strings.Contains(tests, `name: "`+m[1]+`"`) {
				t.Errorf("no scenario %q:\n%s", m[1], line)
			}
		}
		if !strings.Contains(line, "`Test") && !strings.Contains(line, "scenario") {
			t.Errorf("no test shows it:\n%s", line)
		}
	}
	if rows < 40 {
		t.Errorf("only %d rows were read", rows)
	}
}

// addKeys adds the paths of list and of all keys below, those of lists included.
func addKeys(keys map[string]bool, list []config.Key) {
	for _, k := range list {
		keys[k.Path] = true
		addKeys(keys, k.Keys)
		if k.Element != nil {
			addKeys(keys, k.Element.Keys)
		}
	}
}

// sources returns the text of all Go files of the repository, tests apart.
func sources(t *testing.T) (source, tests string) {
	t.Helper()
	var s, ts strings.Builder
	err := filepath.WalkDir("../..", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" {
			return err
		}
		text, err := os.ReadFile(path)
		if strings.HasSuffix(path, "_test.go") {
			ts.Write(text)
		} else {
			s.Write(text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return s.String(), ts.String()
}
