package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"shirube/internal/config"
	"shirube/internal/control"
	"shirube/internal/daemon"
	"shirube/internal/wire"
	"shirube/resolver"
)

func newTraceCommand() *cobra.Command {
	var file string
	var asJSON bool
	c := &cobra.Command{
		Use:   "trace NAME [TYPE]",
		Short: "Resolve a name and print every step",
		Long: `Resolve a name from an empty memory and print every step: the zone whose servers
are asked and how many are known, each query with the time it was given, the time
it took and what came back, and what the answer was taken to mean. The exit code
is 1 if the name cannot be resolved. TYPE is A unless given.`,
		Example: `  shirube trace www.example.com
  shirube trace example.com MX --config /etc/shirube/shirube.yaml
  shirube trace example.com TYPE65 --json | jq .`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 1 || len(args) > 2 {
				return &usageError{errors.New("trace takes a name, and a type if it is not A; see 'shirube trace --help'")}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			q, err := traceQuestion(args)
			if err != nil {
				return &usageError{err}
			}
			cfg := config.Default()
			if c.Flags().Changed("config") {
				if cfg, err = config.Load(file); err != nil {
					return err
				}
			}
			return trace(orBackground(c.Context()), cfg, q, asJSON, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	c.Flags().StringVarP(&file, "config", "c", "", "configuration `file` (YAML); default: none")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line, times in nanoseconds")
	return c
}

// traceQuestion reads the arguments of trace.
func traceQuestion(args []string) (wire.Question, error) {
	name, err := wire.ParseName(args[0])
	if err != nil {
		return wire.Question{}, fmt.Errorf("%q is %w", args[0], err)
	}
	q := wire.Question{Name: name, Type: wire.TypeA}
	if len(args) == 2 {
		q.Type, err = control.ParseType(args[1])
	}
	return q, err
}

// trace resolves q in a server of its own, which listens nowhere.
func trace(ctx context.Context, cfg config.Config, q wire.Question, asJSON bool, stdout, stderr io.Writer) error {
	cfg.Log.Level = config.LevelWarn
	d, err := daemon.New(cfg, slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		return err
	}
	defer d.Close()
	ctx, cancel := context.WithTimeout(ctx, cfg.Resolver.Timeout)
	defer cancel()
	var out bytes.Buffer // what tell writes: it must not block
	tell := func(e resolver.Event) { writeEvent(&out, e, asJSON) }
	ans, err := d.Pipeline().Resolver.Trace(ctx, resolver.Query{Question: q}, tell)
	if err == nil && !asJSON {
		writeAnswer(&out, ans.Rcode.String(), ans.Trust.String(), ans.Lines(d.Pipeline().Clock.Now()))
	}
	if _, werr := out.WriteTo(stdout); werr != nil {
		return werr
	}
	if err != nil {
		return fmt.Errorf("%v: %w", q, err)
	}
	return nil
}

// writeEvent writes one step as a line.
func writeEvent(out *bytes.Buffer, e resolver.Event, asJSON bool) {
	if asJSON {
		line, err := json.Marshal(e)
		if err != nil { // a struct of strings and numbers
			panic(err)
		}
		out.Write(append(line, '\n'))
		return
	}
	fmt.Fprintf(out, "%9.3f ms  %s%-9s%s\n", float64(e.At.Microseconds())/1000, strings.Repeat("  ", e.Depth-1), e.Step, e.What())
}

// writeAnswer writes what was found.
func writeAnswer(out *bytes.Buffer, rcode, trust string, records []string) {
	fmt.Fprintf(out, "\n%s, %s\n", rcode, trust)
	for _, rr := range records {
		fmt.Fprintln(out, rr)
	}
}
