package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
	"github.com/spf13/cobra"

	"shirube/internal/config"
	"shirube/internal/control"
	"shirube/resolver"
)

// ctl is what all commands below `shirube ctl` have in common.
type ctl struct {
	socket string
	json   bool
}

func newCtlCommand() *cobra.Command {
	var c ctl
	cmd := &cobra.Command{
		Use:   "ctl",
		Short: "Ask a running server, and tell it what to do",
		Long: `Ask a running server, and tell it what to do, by its control socket. The socket is
the one of --socket, else control.sock in $RUNTIME_DIRECTORY, else
` + control.DefaultPath + `. Only root, the server's own user and members of its
control.group may use it.

The exit code is 1 if the server refuses or fails, 2 if the command line is wrong,
and 3 if no server could be asked. What it prints without --json is for people, and
may change.`,
		Example: `  shirube ctl status
  shirube ctl trace www.example.com AAAA
  shirube ctl flush --subtree example.com`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.persistentFlags(cmd)
	cmd.AddCommand(c.status(), c.stats(), c.trace(), c.lookup(), c.flights(), c.flush("shirube ctl flush"), c.anchors(), c.nta(), c.reload(), c.upgrade(), c.drain(), c.undrain(), c.logLevel())
	return cmd
}

// persistentFlags adds what all commands below cmd take.
func (c *ctl) persistentFlags(cmd *cobra.Command) {
	cmd.PersistentFlags().StringVarP(&c.socket, "socket", "s", "", "`path` of the server's control socket")
	cmd.PersistentFlags().BoolVar(&c.json, "json", false, "print what the server says, as JSON")
	_ = cmd.MarkPersistentFlagFilename("socket", "sock") // the flag is there
}

// client returns a client of the server that is meant.
func (c *ctl) client() *control.Client {
	if c.socket != "" {
		return control.NewClient(c.socket)
	}
	if list := filepath.SplitList(os.Getenv("RUNTIME_DIRECTORY")); len(list) > 0 && list[0] != "" {
		return control.NewClient(filepath.Join(list[0], "control.sock"))
	}
	return control.NewClient(control.DefaultPath)
}

// request is one question to the server, and how its answer is shown to people.
type request struct {
	method, path string
	query        url.Values
	body         any
	doc          any                     // that the answer is read into
	narrow       func() error            // takes out of doc what is not wanted; nil: all is
	show         func(out *bytes.Buffer) // doc
}

// do sends r and prints the answer.
func (c *ctl) do(cmd *cobra.Command, r request) error {
	raw, err := c.client().Do(orBackground(cmd.Context()), r.method, r.path, r.query, r.body)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber() // counters are larger than what a float64 can tell apart
	err = d.Decode(r.doc)
	if err == nil && r.narrow != nil {
		if err := r.narrow(); err != nil {
			return err
		}
		if raw, err = json.MarshalIndent(r.doc, "", "  "); err != nil {
			return err
		}
		raw = append(raw, '\n')
	}
	switch {
	case c.json:
		out.Write(raw)
	case err != nil:
		return fmt.Errorf("the server's answer makes no sense: %w", err)
	default:
		r.show(&out)
	}
	_, err = out.WriteTo(cmd.OutOrStdout())
	return err
}

// exchange returns what a command does that sends one request and shows the
// document that answers it. The arguments, if any, are the name that it is about.
func exchange[T any](c *ctl, method, path string, show func(*bytes.Buffer, T)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		var doc T
		r := request{method: method, path: path, doc: &doc, show: func(out *bytes.Buffer) { show(out, doc) }}
		if len(args) > 0 {
			r.query = url.Values{"name": args}
		}
		return c.do(cmd, r)
	}
}

// someArgs returns a check for so many arguments, with what they are.
func someArgs(least, most int, what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return &usageError{fmt.Errorf("'%s' takes %s; see '%s --help'", c.CommandPath(), what, c.CommandPath())}
		}
		return nil
	}
}

func (c *ctl) status() *cobra.Command {
	return &cobra.Command{
		Use:     "status",
		Short:   "Say what the server is and how it is doing",
		Example: "  shirube ctl status\n  shirube ctl status --json | jq .state",
		Args:    noArgs,
		RunE:    exchange(c, http.MethodGet, "/v1/status", showStatus),
	}
}

func (c *ctl) stats() *cobra.Command {
	return &cobra.Command{
		Use:   "stats [PREFIX...]",
		Short: "Print all counters, or those whose names begin so",
		Long: `Print all counters, or those whose names begin with one of the prefixes. They only
grow while the server runs, except those of what is so now.`,
		Example: "  shirube ctl stats\n  shirube ctl stats frontend. resolver.infra.",
		RunE: func(cmd *cobra.Command, args []string) error {
			var s map[string]any
			return c.do(cmd, request{
				method: http.MethodGet, path: "/v1/stats", doc: &s,
				narrow: func() error { return narrow(s, args) },
				show:   func(out *bytes.Buffer) { showCounters(out, s) },
			})
		},
	}
}

func (c *ctl) lookup() *cobra.Command {
	return &cobra.Command{
		Use:   "lookup NAME",
		Short: "Say whom a name would be asked of, and what is known of them",
		Long: `Say which zone's servers a name would be asked of now, and what is known of each of
their addresses: the round-trip time, whether it is dead, lame or has to be asked
in a special way. Nobody is asked by this.`,
		Example: "  shirube ctl lookup www.example.com",
		Args:    someArgs(1, 1, "one name"),
		RunE:    exchange(c, http.MethodGet, "/v1/lookup", showLookup),
	}
}

func (c *ctl) flights() *cobra.Command {
	return &cobra.Command{
		Use:     "flights",
		Short:   "List the questions that are being resolved",
		Example: "  shirube ctl flights",
		Args:    noArgs,
		RunE:    exchange(c, http.MethodGet, "/v1/flights", showFlights),
	}
}

func (c *ctl) anchors() *cobra.Command {
	return &cobra.Command{
		Use:     "anchors",
		Short:   "List the trust anchors, and what became of their zones' keys",
		Example: "  shirube ctl anchors",
		Args:    noArgs,
		RunE:    exchange(c, http.MethodGet, "/v1/trust-anchors", showAnchors),
	}
}

const negativePath = "/v1/negative-trust-anchors"

func (c *ctl) nta() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "nta",
		Short: "List, add and remove negative trust anchors",
		Long: `A negative trust anchor is a name at and below which nothing is validated for a while
(RFC 7646), since somebody broke its signatures. Adding or removing one has what is
remembered at and below the name judged anew. Those that are added here are gone
after a restart.`,
		Example: `  shirube ctl nta add example.com --for 2h --reason "expired signatures, told their NOC"
  shirube ctl nta list
  shirube ctl nta remove example.com`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	cmd.AddCommand(c.ntaList(), c.ntaAdd(), c.ntaRemove())
	return cmd
}

func (c *ctl) ntaList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the negative trust anchors",
		Example: "  shirube ctl nta list",
		Args:    noArgs,
		RunE:    exchange(c, http.MethodGet, negativePath, showNegatives),
	}
}

func (c *ctl) ntaAdd() *cobra.Command {
	var lasts, reason string
	cmd := &cobra.Command{
		Use:     "add NAME",
		Short:   "Validate nothing at and below a name for a while",
		Example: `  shirube ctl nta add example.com --for 2h --reason "expired signatures"`,
		Args:    someArgs(1, 1, "one name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := config.ParseDuration(lasts)
			if err != nil || d < time.Second {
				return &usageError{fmt.Errorf("--for %q is no duration such as 30m, 2h or 1d", lasts)}
			}
			var n control.Negative
			return c.do(cmd, request{
				method: http.MethodPost, path: negativePath,
				body: control.NegativeRequest{Name: args[0], ForSeconds: int64(d / time.Second), Reason: reason},
				doc:  &n, show: func(out *bytes.Buffer) { showNegatives(out, []control.Negative{n}) },
			})
		},
	}
	cmd.Flags().StringVar(&lasts, "for", "1h", "how `long`, a week at most (RFC 7646 §2)")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the log and the list")
	return cmd
}

func (c *ctl) ntaRemove() *cobra.Command {
	return &cobra.Command{
		Use:               "remove NAME",
		Short:             "Validate at and below a name again",
		Example:           "  shirube ctl nta remove example.com",
		Args:              someArgs(1, 1, "one name"),
		ValidArgsFunction: c.completeNegative,
		RunE:              exchange(c, http.MethodDelete, negativePath, showNegatives),
	}
}

func (c *ctl) reload() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Have the server read its configuration file again",
		Long: `Have the server read its configuration file again, and print which keys have
changed. When it returns, the new configuration is in force. If anything is wrong
with it, or a key has changed that needs a restart, nothing changes at all, the
problems are printed and the exit code is 1.`,
		Example: "  shirube ctl reload",
		Args:    noArgs,
		RunE:    exchange(c, http.MethodPost, "/v1/reload", showReloaded),
	}
}

// arrivalTime is how long the process that has taken over may take to open its
// control socket.
const arrivalTime = 10 * time.Second

func (c *ctl) upgrade() *cobra.Command {
	return &cobra.Command{
		Use:   "upgrade",
		Short: "Have the program started anew, in the server's place",
		Long: `Have the server start its program anew, which may have been replaced by another
version, with the configuration file as it is now. The new process takes the
server's sockets and serves; the server finishes what is in flight and ends. No query
is lost, and none waits. When the command returns the new process serves. If that
does not start, nothing changes and the exit code is 1: the log has why.

Memory is not handed on. For as long as both run there has to be room for both.`,
		Example: "  shirube ctl upgrade",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var doc control.Upgraded
			raw, err := c.client().Do(orBackground(cmd.Context()), http.MethodPost, "/v1/upgrade", nil, nil)
			if err == nil {
				err = json.Unmarshal(raw, &doc)
			}
			if err != nil {
				return err
			}
			return c.arrival(cmd, doc.PID)
		},
	}
}

// arrival waits until the process pid answers at the control socket, and shows
// its status.
func (c *ctl) arrival(cmd *cobra.Command, pid int) error {
	ctx, cancel := context.WithTimeout(orBackground(cmd.Context()), arrivalTime)
	defer cancel()
	for {
		var s control.Status
		raw, err := c.client().Do(ctx, http.MethodGet, "/v1/status", nil, nil)
		if err == nil {
			err = json.Unmarshal(raw, &s)
		}
		if err == nil && s.PID == pid {
			return exchange(c, http.MethodGet, "/v1/status", showStatus)(cmd, nil)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("process %d has taken over, and does not answer here: %w", pid, errors.Join(err, ctx.Err()))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (c *ctl) drain() *cobra.Command {
	return &cobra.Command{
		Use:   "drain",
		Short: "Have nobody sent to the server any more",
		Long: `Have the server say that it is not ready, so that load balancers and announcers send
nobody to it any more, and have clients with connections told to go elsewhere.
Whoever still comes is served. It lasts until 'shirube ctl undrain', and a server
that is stopped meanwhile need not wait for drain.delay again.`,
		Example: "  shirube ctl drain",
		Args:    noArgs,
		RunE:    exchange(c, http.MethodPost, "/v1/drain", showStatus),
	}
}

func (c *ctl) undrain() *cobra.Command {
	return &cobra.Command{
		Use:     "undrain",
		Short:   "End what drain began",
		Example: "  shirube ctl undrain",
		Args:    noArgs,
		RunE:    exchange(c, http.MethodPost, "/v1/undrain", showStatus),
	}
}

func (c *ctl) logLevel() *cobra.Command {
	levels := []string{"debug", "info", "warn", "error"}
	return &cobra.Command{
		Use:       "log-level [LEVEL]",
		Short:     "Print or change the level of the log",
		Long:      "Print the level of the log, or change it to debug, info, warn or error, until the\nserver ends.",
		Example:   "  shirube ctl log-level debug",
		Args:      someArgs(0, 1, "a level, or nothing"),
		ValidArgs: levels,
		RunE: func(cmd *cobra.Command, args []string) error {
			var l struct{ Level string }
			r := request{method: http.MethodGet, path: "/v1/log", doc: &l, show: func(out *bytes.Buffer) { fmt.Fprintln(out, l.Level) }}
			if len(args) == 1 {
				if !slices.Contains(levels, args[0]) {
					return &usageError{fmt.Errorf("%q is no level of the log; expected one of %s", args[0], strings.Join(levels, ", "))}
				}
				r.method, r.body = http.MethodPut, map[string]string{"level": args[0]}
			}
			return c.do(cmd, r)
		},
	}
}

func (c *ctl) trace() *cobra.Command {
	return &cobra.Command{
		Use:   "trace NAME [TYPE]",
		Short: "Have the server resolve a name, and print every step",
		Long: `Have the server resolve a name with what it remembers of zones, records and servers,
and print every step as 'shirube trace' does, which begins with nothing. Finished
answers are not looked at. The exit code is 1 if the name cannot be resolved. TYPE
is A unless given.`,
		Example:           "  shirube ctl trace www.example.com AAAA",
		Args:              someArgs(1, 2, "a name, and a type if it is not A"),
		ValidArgsFunction: completeType,
		RunE: func(cmd *cobra.Command, args []string) error {
			q, err := traceQuestion(args)
			if err != nil {
				return &usageError{err}
			}
			stdout := cmd.OutOrStdout()
			return c.client().Trace(orBackground(cmd.Context()), q.Name.String(), q.Type.String(),
				func(line []byte) error { return c.traceLine(stdout, line) })
		},
	}
}

// traceLine prints one line of a trace. The last one is an error if the name
// could not be resolved.
func (c *ctl) traceLine(stdout io.Writer, line []byte) error {
	var end control.TraceEnd
	if err := json.Unmarshal(line, &end); err != nil {
		return fmt.Errorf("the server's answer makes no sense: %w", err)
	}
	var out bytes.Buffer
	switch {
	case end.Step == control.StepError && !c.json:
		return errors.New(end.Error)
	case c.json:
		out.Write(append(line, '\n'))
	case end.Step == control.StepAnswer:
		writeAnswer(&out, end.Rcode, end.Trust, end.Records)
	default:
		var e resolver.Event
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("the server's answer makes no sense: %w", err)
		}
		writeEvent(&out, e, false)
	}
	if _, err := out.WriteTo(stdout); err != nil {
		return err
	}
	if end.Step == control.StepError {
		return fmt.Errorf("%w: %s", errReported, end.Error)
	}
	return nil
}

// completeType completes the type that follows a name.
func completeType(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
	if len(args) != 1 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var types []string
	for name, typ := range dns.StringToType {
		if _, err := control.ParseType(name); err == nil && typ != 0 && strings.HasPrefix(name, strings.ToUpper(begun)) {
			types = append(types, name)
		}
	}
	slices.Sort(types)
	return types, cobra.ShellCompDirectiveNoFileComp
}

// completionTime is how long a server may take when somebody presses the tab
// key.
const completionTime = time.Second

// completeNegative completes the name of a negative trust anchor by asking the
// server.
func (c *ctl) completeNegative(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(orBackground(cmd.Context()), completionTime)
	defer cancel()
	var list []control.Negative
	raw, err := c.client().Do(ctx, http.MethodGet, negativePath, nil, nil)
	if len(args) > 0 || err != nil || json.Unmarshal(raw, &list) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, n := range list {
		names = append(names, n.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
