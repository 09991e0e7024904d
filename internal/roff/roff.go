// Package roff writes manual pages, in the macros of man(7) that groff and
// mandoc both know.
package roff

import (
	"fmt"
	"regexp"
	"strings"
)

// Page is a manual page in the making.
type Page struct{ b strings.Builder }

// New begins the page of what is called name, with what it is in one line. It
// has no date, so that equal sources make equal pages.
func New(name string, section int, summary string) *Page {
	p := new(Page)
	fmt.Fprintf(&p.b, ".\\\" Generated: edit what it is made of.\n.TH %s %d \"\" Shirube\n", quote(strings.ToUpper(name)), section)
	p.Section("Name")
	fmt.Fprintf(&p.b, "%s \\- %s\n", escape(name), escape(summary))
	return p
}

// String returns the page as it is so far.
func (p *Page) String() string { return p.b.String() }

// Section begins a section.
func (p *Page) Section(title string) {
	fmt.Fprintf(&p.b, ".SH %s\n", quote(strings.ToUpper(title)))
}

// Subsection begins a part of a section.
func (p *Page) Subsection(title string) { fmt.Fprintf(&p.b, ".SS %s\n", quote(title)) }

// Paragraph adds a paragraph: text in the Markdown of one, with `code`, **words**
// and [links](there), on any number of lines.
func (p *Page) Paragraph(text string) { p.b.WriteString(".PP\n" + inline(text) + "\n") }

// Lines adds a paragraph of lines, each with the text of a paragraph.
func (p *Page) Lines(lines ...string) {
	macro := ".PP\n"
	for _, line := range lines {
		p.b.WriteString(macro + inline(line) + "\n")
		macro = ".br\n"
	}
}

// Item adds a term and what there is to say of it; both are a paragraph's text.
func (p *Page) Item(term, text string) {
	p.b.WriteString(".TP\n" + inline(term) + "\n" + inline(text) + "\n")
}

// Bullet adds an element of a list.
func (p *Page) Bullet(text string) { p.b.WriteString(".IP \\(bu 2\n" + inline(text) + "\n") }

// Example adds text as it is.
func (p *Page) Example(text string) {
	p.b.WriteString(".PP\n.RS 4\n.EX\n")
	for line := range strings.Lines(strings.Trim(text, "\n")) {
		p.b.WriteString(escape(strings.TrimSuffix(line, "\n")) + "\n")
	}
	p.b.WriteString(".EE\n.RE\n")
}

// Markdown adds a document of which only these are understood: headings of the
// second level, paragraphs, lists of one level, fenced blocks and comments. The
// title is left out.
func (p *Page) Markdown(text string) {
	for block := range strings.SplitSeq(fences(text), "\n\n") {
		block = strings.Trim(block, "\n")
		switch {
		case block == "", strings.HasPrefix(block, "# "), strings.HasPrefix(block, "<!--"):
		case strings.HasPrefix(block, "## "):
			p.Section(block[3:])
		case strings.HasPrefix(block, "```"):
			_, block, _ = strings.Cut(strings.TrimSuffix(block, "```"), "\n")
			p.Example(strings.ReplaceAll(block, blank, "\n\n"))
		case strings.HasPrefix(block, "- "):
			for item := range strings.SplitSeq(block[2:], "\n- ") {
				p.Bullet(item)
			}
		default:
			p.Paragraph(block)
		}
	}
}

// blank stands for an empty line in a fenced block while blocks are told apart.
const blank = "\n\x00\n"

// fences returns text with the empty lines of fenced blocks marked.
func fences(text string) string {
	parts := strings.Split(text, "```")
	for i := 1; i < len(parts); i += 2 {
		parts[i] = strings.ReplaceAll(parts[i], "\n\n", blank)
	}
	return strings.Join(parts, "```")
}

// spans matches what is more than text in a paragraph.
var spans = regexp.MustCompile("`[^`]+`|\\*\\*[^*]+\\*\\*|\\[[^\\]]+\\]\\([^)]+\\)")

// inline returns a paragraph's text as one line of roff.
func inline(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	var b strings.Builder
	end := 0
	for _, at := range spans.FindAllStringIndex(text, -1) {
		b.WriteString(plain(text[end:at[0]]))
		span := text[at[0]:at[1]]
		switch span[0] {
		case '`':
			b.WriteString(bold(span[1 : len(span)-1]))
		case '*':
			b.WriteString(bold(strings.ReplaceAll(span[2:len(span)-2], "`", "")))
		default:
			label, _, _ := strings.Cut(span[1:], "](")
			b.WriteString(bold(strings.ReplaceAll(label, "`", "")))
		}
		end = at[1]
	}
	b.WriteString(plain(text[end:]))
	return guard(b.String())
}

func bold(text string) string { return `\fB` + plain(text) + `\fR` }

// escape returns a line of text as a line of roff.
func escape(text string) string { return guard(plain(text)) }

// guard keeps a line from being read as a request (groff(7): control characters).
func guard(line string) string {
	if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
		return `\&` + line
	}
	return line
}

// plain returns text without what means something to roff. A plain - would be
// a hyphen, and ` ' ^ ~ what typesetters make of them: none can be copied to a
// shell then (man(7), portability).
func plain(text string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`, "`", `\(ga`, "'", `\(aq`, "^", `\(ha`, "~", `\(ti`).Replace(text)
}

// quote returns the argument of a macro.
func quote(text string) string { return `"` + strings.ReplaceAll(plain(text), `"`, `\(dq`) + `"` }
