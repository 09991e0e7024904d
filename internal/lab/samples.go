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
func (w *World) Samples() []Sample {
	sample := func(name string, typ wire.Type, shows string) Sample {
		return Sample{wire.Question{Name: wire.MustParseName(name), Type: typ}, shows}
	}
	samples := []Sample{
		sample("www."+flagship, wire.TypeA, "a normal answer; where the zones are signed it is proven, which the flag ad says"),
		sample("n8.hop1.lab.", wire.TypeA, "a chain of 8 aliases across 4 zones"),
		sample("www.glueless2.mura.", wire.TypeA, "a delegation without glue, to servers in a zone that has none either"),
		sample("www.lame.lab.", wire.TypeA, "a lame and a silent server survived"),
		sample("many.large.minato.", wire.TypeTXT, "64 records, too large for UDP: fetched over TCP"),
	}
	if w.signed {
		samples = append(samples,
			sample("www.expired.lab.", wire.TypeA, "a zone whose signatures have expired: refused, with the reason"),
			sample("www.unknown-algorithm.lab.", wire.TypeA, "signed in a way that nobody knows: as good as not signed"))
	}
	return samples
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
