package roff_test

import (
	"os/exec"
	"strings"
	"testing"

	"shirube/internal/roff"
)

// page is what becomes of the Markdown in a section.
func page(markdown string) string {
	p := roff.New("x.yaml", 5, "a file")
	p.Markdown(markdown)
	_, text, _ := strings.Cut(p.String(), "x.yaml \\- a file\n")
	return text
}

func TestMarkdownBecomesMacros(t *testing.T) {
	for _, c := range []struct{ name, markdown, want string }{
		{"title and comment", "# X\n\n<!-- y\nz -->\n", ""},
		{"heading", "## How \"it\" is\n", ".SH \"HOW \\(dqIT\\(dq IS\"\n"},
		{"paragraph", "A `b-c` of\n**d** and [e](f.md#g).\n", ".PP\nA \\fBb\\-c\\fR of \\fBd\\fR and \\fBe\\fR.\n"},
		{"request", ".so /etc/passwd\n", ".PP\n\\&.so /etc/passwd\n"},
		{"backslash", "a\\fBb\n", ".PP\na\\efBb\n"},
		{"quote in front", "'a' ^~\n", ".PP\n\\(aqa\\(aq \\(ha\\(ti\n"},
		{"list", "- a\n  b\n- c\n", ".IP \\(bu 2\na b\n.IP \\(bu 2\nc\n"},
		{"fence", "```yaml\na: b\n\n  .c\n```\n", ".PP\n.RS 4\n.EX\na: b\n\n  .c\n.EE\n.RE\n"},
	} {
		if got := page(c.markdown); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, c.want)
		}
	}
}

func TestGroffShowsWhatWasWritten(t *testing.T) {
	p := roff.New("x", 1, "y")
	p.Paragraph("It is `--all` of C:\\n, isn't it?")
	p.Item("`-s`, `--socket` path", "the socket")
	p.Lines("`one`", "`two`")
	p.Example(".dotted\n  \\(bu --flag 'q' `z`")
	cmd := exec.Command("groff", "-man", "-Tascii", "-ww", "-P-c", "-P-b", "-P-u")
	cmd.Stdin = strings.NewReader(p.String())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"It is --all of C:\\n, isn't it?", "-s, --socket path\n", "one\n", "two\n",
		"           .dotted\n", "             \\(bu --flag 'q' `z`\n",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("there is no %q in\n%s", want, out)
		}
	}
	if strings.Contains(string(out), "warning") {
		t.Errorf("groff is not content:\n%s", out)
	}
}
