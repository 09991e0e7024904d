// Command shirube-announce has the addresses of a resolver follow its health: it
// announces them over BGP while the resolver answers on them.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"shirube/announce"
	"shirube/internal/config"
	"shirube/internal/systemd"
)

// version is set when a release is built.
var version = "devel"

// Exit codes. 0 is success.
const (
	exitFailure = 1
	exitConfig  = 2 // the configuration or the command line is wrong
)

// defaultFile is the configuration of the service.
const defaultFile = "/etc/shirube/announce.yaml"

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run executes the command line args and returns the exit code.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.Execute()
	if err == nil {
		return 0
	}
	if bad, ok := errors.AsType[*config.Error](err); ok {
		fmt.Fprintln(stderr, bad) // each line begins with file and position
		return exitConfig
	}
	fmt.Fprintln(stderr, "shirube-announce:", err)
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitConfig
	}
	return exitFailure
}

// usageError is a mistake on the command line.
type usageError struct{ error }

func newRootCommand() *cobra.Command {
	var file string
	var check bool
	root := &cobra.Command{
		Use:   "shirube-announce",
		Short: "Announce the addresses of a resolver while it is well",
		Long: `Announce the service addresses of a resolver on this machine to routers, as long
as it answers on them. It asks the resolver questions over each transport, and at
its admin socket whether it is ready, and announces each address by itself: over
BGP, by an address on the loopback interface, or by a file for BIRD.

It runs in the foreground until SIGTERM or SIGINT. Then it announces the addresses
with the community GRACEFUL_SHUTDOWN (RFC 8326) for drain.graceful, withdraws them,
and ends; a second signal ends the waiting. If it is killed, its BGP sessions end,
and with them what it announced. A changed configuration needs a restart.`,
		Example: `  shirube-announce --config /etc/shirube/announce.yaml
  shirube-announce --check --config /etc/shirube/announce.yaml
  render-config | shirube-announce --check --config -`,
		Version: version,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return &usageError{fmt.Errorf("%q: shirube-announce takes no arguments; see 'shirube-announce --help'", args[0])}
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := readConfig(file, c.InOrStdin())
			if err != nil {
				return err
			}
			if check {
				_, err := fmt.Fprintf(c.OutOrStdout(), "%s: ok\n", file)
				return err
			}
			return serve(&cfg, c.ErrOrStderr())
		},
		SilenceUsage: true, SilenceErrors: true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true}, // it is for who packs the program
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return &usageError{fmt.Errorf("%w; see 'shirube-announce --help'", err)}
	})
	root.Flags().StringVarP(&file, "config", "c", defaultFile, "configuration `file` (YAML); -: standard input")
	root.Flags().BoolVar(&check, "check", false, "only check the configuration, the files that it names apart: everything that is wrong is reported at once, and the exit status is 2")
	root.AddCommand(newManCommand())
	return root
}

func readConfig(file string, stdin io.Reader) (config.Announcer, error) {
	if file == "-" {
		return config.ReadAnnouncer("stdin", stdin)
	}
	return config.LoadAnnouncer(file)
}

// serve announces until a signal ends it.
func serve(cfg *config.Announcer, stderr io.Writer) (err error) {
	log := newLogger(cfg.Log, stderr)
	notifier := systemd.NewNotifier()
	opt, err := options(cfg, log)
	if err != nil {
		return err
	}
	if systemd.WatchdogInterval() > 0 {
		opt.Beat = func() { _ = notifier.Notify(systemd.Watchdog) } // it would be ended, as it should
	}
	driver, err := newDriver(cfg, log)
	if err != nil {
		return err
	}
	a, err := announce.New(opt, driver)
	if err != nil {
		return errors.Join(err, driver.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	told, err := serveAdmin(ctx, cfg, a, log)
	if err != nil {
		return errors.Join(err, driver.Close())
	}
	defer func() { err = errors.Join(err, told.Close()) }()
	hasten, hastened := context.WithCancel(context.Background())
	defer hastened()
	defer onSignals(func() {
		_ = notifier.Notify(systemd.Stopping) // it is not needed
		log.Info("stopping")
		cancel()
	}, hastened)()
	if err := notifier.Notify(systemd.Ready); err != nil {
		log.Warn("cannot notify the service manager", "err", err)
	}
	log.Info("started", "version", version, "driver", cfg.Driver, "addresses", len(cfg.VIPs))
	return a.Run(ctx, hasten)
}

// onSignals has first called at the first SIGTERM or SIGINT, and second at the
// second one. What it returns ends that.
func onSignals(first, second func()) (stop func()) {
	came := make(chan os.Signal, 2)
	signal.Notify(came, syscall.SIGINT, syscall.SIGTERM)
	ended := make(chan struct{})
	// Owner: who calls. End: with the second signal, or stop. Bound: one.
	go func() {
		for _, do := range []func(){first, second} {
			select {
			case <-came:
				do()
			case <-ended:
				return
			}
		}
	}()
	return func() {
		signal.Stop(came)
		close(ended)
	}
}

// newLogger returns the log that cfg asks for.
func newLogger(cfg config.Log, w io.Writer) *slog.Logger {
	opt := &slog.HandlerOptions{Level: map[config.Level]slog.Level{
		config.LevelDebug: slog.LevelDebug,
		config.LevelInfo:  slog.LevelInfo,
		config.LevelWarn:  slog.LevelWarn,
		config.LevelError: slog.LevelError,
	}[cfg.Level]}
	if cfg.Format == config.FormatJSON {
		return slog.New(slog.NewJSONHandler(w, opt))
	}
	return slog.New(slog.NewTextHandler(w, opt))
}
