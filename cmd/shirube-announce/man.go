package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"shirube/cmd/internal/manpage"
	"shirube/internal/roff"
)

//go:generate sh -c "go run . man >../../docs/man/shirube-announce.1"

// newManCommand returns `shirube-announce man`, which is for who packs the program:
// it is not in the help.
func newManCommand() *cobra.Command {
	return &cobra.Command{
		Use: "man", Short: "Print the manual page shirube-announce(1)", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := io.WriteString(c.OutOrStdout(), manualPage(c.Root()))
			return err
		},
	}
}

// manualPage returns shirube-announce(1), made of what root says of itself.
func manualPage(root *cobra.Command) string {
	p := roff.New(root.Name(), 1, "announce the addresses of a resolver while it is well")
	p.Section("Synopsis")
	p.Paragraph("`shirube-announce` [--config FILE] [--check]")
	p.Section("Description")
	manpage.Paragraphs(p, root.Long)
	p.Section("Options")
	root.LocalFlags().VisitAll(func(f *pflag.Flag) { manpage.Flag(p, f) })
	p.Section("Examples")
	p.Example(root.Example)
	p.Section("Exit status")
	for code, means := range []string{
		0:           "success",
		exitFailure: "it could not do what it is for; the last line of standard error says why",
		exitConfig:  "the configuration file or the command line is wrong",
	} {
		p.Item(fmt.Sprintf("`%d`", code), means)
	}
	p.Section("Files")
	p.Item("`"+defaultFile+"`", "the configuration of the service, see shirube-announce.yaml(5)")
	p.Section("See also")
	p.Paragraph("shirube-announce.yaml(5), shirube(1), bird(8), bgpd(8)")
	return p.String()
}
