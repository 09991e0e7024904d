package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// apart are the directories whose messages no operator sees.
var apart = []string{"bench", "internal/lab", "internal/simnet", "internal/rpl", "internal/e2e", "internal/archtest", "tools", ".git"}

// logged returns the messages of levels warn and error that the server can log,
// each with the places where it does.
func logged(t *testing.T) map[string][]string {
	t.Helper()
	out := make(map[string][]string)
	eachFile(t, apart, func(rel string, fset *token.FileSet, f *ast.File) {
		ast.Inspect(f, func(n ast.Node) bool {
			if msg, ok := message(n, wrappers[filepath.Dir(rel)]); ok {
				out[msg] = append(out[msg], rel+":"+strconv.Itoa(fset.Position(n.Pos()).Line))
			}
			return true
		})
	})
	return out
}

// eachFile calls do with each Go file of the repository, tests apart, and with its
// path there, but not with those below the directories apart.
func eachFile(t *testing.T, apart []string, do func(rel string, fset *token.FileSet, f *ast.File)) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		rel, _ := filepath.Rel(root, path)
		switch {
		case err != nil:
			return err
		case d.IsDir() && slices.Contains(apart, rel):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err == nil {
			do(rel, fset, f)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// wrappers are methods that log what they are given as a warning, by the packages
// that have one.
var wrappers = map[string]string{"resolver/localroot": "fail"}

// message returns the text of a call that logs at warn or error: of the method
// wrapper, of one called Warn or Error, or of the transports' error, of something
// that is called a log.
func message(n ast.Node, wrapper string) (string, bool) {
	call, ok := n.(*ast.CallExpr)
	if !ok || len(call.Args) == 0 {
		return "", false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return "", false
	}
	wrapped := wrapper != "" && sel.Sel.Name == wrapper
	logs := slices.Contains([]string{"Warn", "Error", "error"}, sel.Sel.Name) && strings.HasSuffix(strings.ToLower(lastName(sel.X)), "log")
	if !wrapped && !logs {
		return "", false
	}
	text, ok := literal(call.Args[0])
	switch {
	case !ok && wrapper != "": // the wrapper itself
		return "", false
	case !ok:
		return "not a literal: " + sel.Sel.Name, true
	}
	return text, true
}

// literal returns the text that x is, of one literal or of several.
func literal(x ast.Expr) (string, bool) {
	switch x := x.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(x.Value)
		return text, err == nil
	case *ast.BinaryExpr:
		a, ok := literal(x.X)
		b, ok2 := literal(x.Y)
		return a + b, ok && ok2
	}
	return "", false
}

// lastName returns the last name in x: of d.opt.Log it is Log.
func lastName(x ast.Expr) string {
	switch x := x.(type) {
	case *ast.Ident:
		return x.Name
	case *ast.SelectorExpr:
		return x.Sel.Name
	}
	return ""
}

// TestManualSaysWhatToDoAboutEveryWarning compares the messages in the code with
// the tables in docs/operations.md.
func TestManualSaysWhatToDoAboutEveryWarning(t *testing.T) {
	_, text, ok := strings.Cut(readFile(t, "docs/operations.md"), "\n## Log\n")
	text, _, ok2 := strings.Cut(text, "\n## ")
	if !ok || !ok2 {
		t.Fatal("docs/operations.md has no section about the log")
	}
	listed := make(map[string]bool)
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| (.+) \\|$").FindAllStringSubmatch(text, -1) {
		if listed[m[1]] {
			t.Errorf("%q is listed twice", m[1])
		}
		listed[m[1]] = true
	}
	messages := logged(t)
	if len(messages) < 30 {
		t.Fatalf("only %d messages were found: this test looks in the wrong place", len(messages))
	}
	for msg, places := range messages {
		if !listed[msg] {
			t.Errorf("%v: docs/operations.md does not say what to do about %q", places, msg)
		}
	}
	for msg := range listed {
		if messages[msg] == nil {
			t.Errorf("docs/operations.md lists %q, which is logged nowhere", msg)
		}
	}
}
