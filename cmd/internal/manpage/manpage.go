// Package manpage writes in a manual page what commands say of themselves.
package manpage

import (
	"strings"

	"github.com/spf13/pflag"

	"shirube/internal/roff"
)

// Paragraphs adds a text of several.
func Paragraphs(p *roff.Page, text string) {
	for paragraph := range strings.SplitSeq(text, "\n\n") {
		p.Paragraph(paragraph)
	}
}

// Flag adds what there is to say of a flag.
func Flag(p *roff.Page, f *pflag.Flag) {
	if f.Hidden {
		return
	}
	value, usage := pflag.UnquoteUsage(f)
	term := "`--" + f.Name + "`"
	if f.Shorthand != "" {
		term = "`-" + f.Shorthand + "`, " + term
	}
	if value != "" {
		term += " " + value
	}
	p.Item(term, usage)
}
