package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"shirube/cmd/internal/manpage"
	"shirube/internal/control"
	"shirube/internal/roff"
)

//go:generate sh -c "go run . man >../../docs/man/shirube.1"

// newManCommand returns `shirube man`, which is for who packs the program: it is
// not in the help.
func newManCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "man",
		Short:   "Print the manual page shirube(1)",
		Example: "  shirube man | man -l -",
		Args:    noArgs,
		Hidden:  true,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := io.WriteString(c.OutOrStdout(), manualPage(newRootCommand()))
			return err
		},
	}
}

// manualPage returns shirube(1), made of what the commands below root say of
// themselves.
func manualPage(root *cobra.Command) string {
	p := roff.New(root.Name(), 1, "recursive caching DNS server")
	p.Section("Synopsis")
	var calls []string
	for _, c := range commands(root) {
		calls = append(calls, "`"+c.CommandPath()+"`"+strings.TrimPrefix(synopsis(c), c.CommandPath()))
	}
	p.Lines(calls...)
	p.Section("Description")
	manpage.Paragraphs(p, root.Long)
	p.Example(root.Example)
	p.Section("Commands")
	for _, c := range commands(root) {
		p.Subsection(synopsis(c))
		manualCommand(p, c)
	}
	p.Section("Exit status")
	for code, means := range []string{
		0:           "success",
		exitFailure: "it could not do what it is for; the last line of standard error says why",
		exitConfig:  "the configuration file or the command line is wrong",
		exitNobody:  "no server could be asked",
	} {
		p.Item(fmt.Sprintf("`%d`", code), means)
	}
	p.Section("Files")
	p.Item("`/etc/shirube/shirube.yaml`", "the configuration of the service, see shirube.yaml(5)")
	p.Item("`"+control.DefaultPath+"`", "the control socket of the service")
	p.Section("See also")
	p.Paragraph("shirube.yaml(5), dig(1), systemctl(1)")
	return p.String()
}

// commands returns those below c that do something themselves and are in the
// help, in the order of the help. cobra's own are not among them: they describe
// themselves.
func commands(c *cobra.Command) []*cobra.Command {
	var list []*cobra.Command
	for _, sub := range c.Commands() {
		switch {
		case !sub.IsAvailableCommand():
		case sub.HasSubCommands():
			list = append(list, commands(sub)...)
		default:
			list = append(list, sub)
		}
	}
	return list
}

// synopsis returns the line that shows how c is called.
func synopsis(c *cobra.Command) string { return strings.ReplaceAll(c.UseLine(), " [flags]", "") }

// manualCommand adds what there is to say of a command.
func manualCommand(p *roff.Page, c *cobra.Command) {
	text := c.Long
	if text == "" {
		text = c.Short + "."
	}
	manpage.Paragraphs(p, text)
	c.InheritedFlags().VisitAll(func(f *pflag.Flag) { manpage.Flag(p, f) })
	c.LocalFlags().VisitAll(func(f *pflag.Flag) { manpage.Flag(p, f) })
	if c.Example != "" {
		p.Example(c.Example)
	}
}
