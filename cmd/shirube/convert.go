package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"shirube/internal/config"
	"shirube/internal/convert"
)

// errLost is the error of a conversion that left something out which will be missed.
var errLost = errors.New("not everything was converted")

// maxConvertPasses bounds how often what the configuration refuses is taken out.
const maxConvertPasses = 20

func newConvertCommand() *cobra.Command {
	var from string
	c := &cobra.Command{
		Use:   "convert FILE",
		Short: "Translate an unbound.conf or a named.conf",
		Long: `Translate the configuration of Unbound or of BIND, with all files that it includes,
and print it. Which of them it is shows at its first word; --from says it. What has no counterpart is listed on standard error by file and line: what is not
needed here, and what is NOT CONVERTED and will be missed. What is printed passes
'shirube check'. The exit code is 1 if something will be missed, and 2 if the file, or
one that it includes, cannot be read.`,
		Example: `  shirube convert /etc/unbound/unbound.conf > shirube.yaml
  shirube convert --from bind /etc/bind/named.conf > shirube.yaml`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &usageError{fmt.Errorf("convert takes one file; see '%s --help'", c.CommandPath())}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			return convertFile(from, args[0], c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	c.Flags().StringVar(&from, "from", "", "the `resolver` whose configuration it is: unbound or bind; without it, the file shows it")
	return c
}

// readers read the configurations of other resolvers.
var readers = map[string]func(path string) (*convert.Result, error){"unbound": convert.Unbound, "bind": convert.Named}

// read translates the file at path, which is from a resolver; "": it shows.
func read(from, path string) (*convert.Result, error) {
	if from == "" {
		named, err := convert.IsNamed(path)
		if err != nil {
			return nil, err
		}
		from = map[bool]string{true: "bind", false: "unbound"}[named]
	}
	reader, ok := readers[from]
	if !ok {
		return nil, fmt.Errorf("--from: found %q; expected unbound or bind", from)
	}
	return reader(path)
}

// convertFile translates the file at path. What the configuration refuses, which
// may be a value out of range, is taken out again, and listed.
func convertFile(from, path string, stdout, stderr io.Writer) error {
	r, err := read(from, path)
	if err != nil {
		return &usageError{err}
	}
	for range maxConvertPasses {
		text, _ := r.Text()
		_, err = config.Parse("shirube.yaml", []byte(text))
		bad, refused := errors.AsType[*config.Error](err)
		if !refused {
			break
		}
		why := map[int]string{}
		for _, p := range bad.Problems {
			why[p.Line] = p.Path + " of shirube: " + p.Message
		}
		if !r.Drop(why) {
			break
		}
	}
	if err != nil {
		return err
	}
	for _, n := range r.Notes() {
		if _, err := fmt.Fprintln(stderr, n); err != nil {
			return err
		}
	}
	text, _ := r.Text()
	if _, err := fmt.Fprintf(stdout, "# Converted from %s by shirube convert.\n%s", path, text); err != nil {
		return err
	}
	if r.Lost() > 0 {
		return errLost
	}
	return nil
}
