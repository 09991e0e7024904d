package lab

import (
	"fmt"
	"io"
	"text/tabwriter"

	"shirube/internal/wire"
)

// Sample is a question to try by hand.
type Sample struct {
	Question wire.Question
	Shows    string
}

// Samples returns a few questions that show what a resolver has to cope with.
// They are in every world.
func (*World) Samples() []Sample {
	sample := func(name string, typ wire.Type, shows string) Sample {
		return Sample{wire.Question{Name: wire.MustParseName(name), Type: typ}, shows}
	}
	return []Sample{
		sample("www."+flagship, wire.TypeA, "a normal answer"),
		sample("n8.hop1.lab.", wire.TypeA, "a chain of 8 aliases across 4 zones"),
		sample("www.glueless2.mura.", wire.TypeA, "a delegation without glue, to servers in a zone that has none either"),
		sample("www.lame.lab.", wire.TypeA, "a lame and a silent server survived"),
		sample("many.large.minato.", wire.TypeTXT, "64 records, too large for UDP: fetched over TCP"),
	}
}

// Describe writes the samples to out, one a line.
func (w *World) Describe(out io.Writer) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, s := range w.Samples() {
		if _, err := fmt.Fprintf(table, "%s\t%s\t%s\n", s.Question.Name, s.Question.Type, s.Shows); err != nil {
			return err
		}
	}
	return table.Flush()
}
