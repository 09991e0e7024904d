// Command shirube is a recursive caching DNS server.
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"shirube/internal/config"
	"shirube/internal/control"
)

// Exit codes. 0 is success.
const (
	exitFailure = 1
	exitConfig  = 2 // the configuration or the command line is wrong
	exitNobody  = 3 // no server could be asked
)

func main() {
	os.Exit(run(os.Args[1:]))
}

// run executes the command line args and returns the exit code.
func run(args []string) int {
	root := newRootCommand()
	root.SetArgs(args)
	err := root.Execute()
	if err == nil {
		return 0
	}
	bad, isConfig := errors.AsType[*config.Error](err)
	switch {
	case errors.Is(err, errReported):
	case isConfig:
		fmt.Fprintln(os.Stderr, bad) // each line begins with file and position
	default:
		fmt.Fprintln(os.Stderr, "shirube:", err)
	}
	if isConfig {
		return exitConfig
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitConfig
	}
	if errors.Is(err, control.ErrUnreachable) {
		return exitNobody
	}
	return exitFailure
}

// usageError is a mistake on the command line.
type usageError struct{ error }

func (e *usageError) Unwrap() error { return e.error }

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "shirube",
		Short: "A recursive caching DNS server",
		Long: `Shirube (標, "signpost") is a recursive caching DNS server: it answers from its
own memory, and asks the authoritative servers of the Internet for the rest.`,
		Example: `  shirube serve                          # on 127.0.0.1 and ::1, port 5353
  shirube serve --config shirube.yaml
  shirube check shirube.yaml
  dig @127.0.0.1 -p 5353 example.com`,
		Version:       version,
		Args:          noArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return c.Help() }, // without it, Args is not looked at
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetVersionTemplate(ownVersion())
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &usageError{fmt.Errorf("%w; see '%s --help'", err, c.CommandPath())}
	})
	root.AddCommand(newServeCommand(), newCheckCommand(), newDemoCommand(), newDiscoveryCommand(), newTraceCommand(), newCtlCommand(),
		newCacheCommand(), newTapCommand(), newVerifyCommand(), newConvertCommand(), newNetprepCommand(), newLBMembersCommand(), newVersionCommand(), newManCommand())
	return root
}

// noArgs is [cobra.NoArgs], but what it finds is a [usageError].
func noArgs(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	what := "takes no arguments"
	if c.HasSubCommands() {
		what = "has no such command"
	}
	return &usageError{fmt.Errorf("%q: %s %s; see '%s --help'", args[0], c.CommandPath(), what, c.CommandPath())}
}
