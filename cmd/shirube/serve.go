package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"shirube/internal/config"
	"shirube/internal/daemon"
)

func newServeCommand() *cobra.Command {
	var file string
	var takeOver bool
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: `Run the server in the foreground until SIGTERM or SIGINT. Then it drains for
drain.delay, finishes what is in flight and ends; a second signal ends the draining,
a third one abandons what is in flight, and a fourth one ends it at once. SIGHUP has it read its configuration file again, as 'shirube ctl reload' does.
SIGUSR1 writes all counters to the log.

With --take-over it begins with the sockets of the server that runs, asked at
control.socket, which goes on until this one serves, then finishes what is in
flight and ends. 'shirube ctl upgrade' has a server start such a process itself.

Without a configuration file it listens on 127.0.0.1 and ::1, port 5353, over UDP
and TCP, and serves this machine only.`,
		Example: `  shirube serve
  shirube serve --config /etc/shirube/shirube.yaml`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if !c.Flags().Changed("config") {
				return serve(c.Context(), serveOptions{cfg: config.Default(), takeOver: takeOver}, c.ErrOrStderr())
			}
			load := func() (config.Config, error) { return loadOwn(file) }
			cfg, err := load()
			if err != nil {
				return err
			}
			opt := serveOptions{cfg: cfg, load: load, takeOver: takeOver, successor: func() (*exec.Cmd, error) { return successor(file) }}
			return serve(c.Context(), opt, c.ErrOrStderr())
		},
	}
	c.Flags().StringVarP(&file, "config", "c", "", "configuration `file` (YAML); default: none")
	c.Flags().BoolVar(&takeOver, "take-over", false, "take the place of the server that has the control socket, if there is one, without a query lost")
	return c
}

// loadOwn reads the configuration that this process is to serve by: what it says of
// itself is filled in.
func loadOwn(file string) (config.Config, error) {
	cfg, err := config.Load(file)
	if err != nil {
		return cfg, err
	}
	return fillOwn(cfg)
}

// fillOwn fills in what this process says of itself.
func fillOwn(cfg config.Config) (config.Config, error) {
	host, err := os.Hostname()
	if err != nil {
		return cfg, fmt.Errorf("the name of this host: %w", err)
	}
	cfg.Identity, err = cfg.Identity.Fill(host, version)
	return cfg, err
}

// serveOptions is what a server is started with.
type serveOptions struct {
	cfg       config.Config
	load      func() (config.Config, error) // reads the configuration anew; nil: there is no file
	takeOver  bool
	successor func() (*exec.Cmd, error) // nil: there is none
}

// successor returns the command of the process that takes over from this one: the
// program that is now where this one was started from.
func successor(file string) (*exec.Cmd, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := exec.CommandContext(context.Background(), program, "serve", "--config", file, "--take-over") // it outlives whatever ends here
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	return c, nil
}

// serve runs a server until a signal, ctx, or another process that takes over ends
// it.
func serve(ctx context.Context, opt serveOptions, stderr io.Writer) error {
	cfg := opt.cfg
	level := new(slog.LevelVar)
	log := newLogger(cfg.Log, level, stderr)
	d, err := daemon.New(cfg, log)
	if err != nil {
		return err
	}
	d.Version, d.Level, d.Load, d.Successor = version, level, opt.load, opt.successor
	defer daemon.PaceGarbage()()
	if err := d.Manage(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(orBackground(ctx))
	defer cancel()
	if opt.takeOver {
		if err := d.TakeOver(ctx); err != nil {
			d.Close()
			return err
		}
	}
	defer onStop(cancel, d.Hasten, d.Hasten)()

	defer onSignal(ctx, syscall.SIGUSR1, d.LogStats)()
	defer onSignal(ctx, syscall.SIGHUP, func() { _, _ = d.Reload(ctx) })() // the log is told
	return d.Run(ctx)
}

// onStop has each of do called once, at the first SIGTERM or SIGINT, the second,
// and so on. After the last, a signal does what it does to any program. What it
// returns ends that.
func onStop(do ...func()) (stop func()) {
	came := make(chan os.Signal, len(do))
	signal.Notify(came, syscall.SIGINT, syscall.SIGTERM)
	ended := make(chan struct{})
	// Owner: who calls. End: with the last signal, or stop. Bound: one.
	go func() {
		defer signal.Stop(came)
		for _, f := range do {
			select {
			case <-came:
				f()
			case <-ended:
				return
			}
		}
	}()
	return func() { close(ended) }
}

// onSignal has do called when sig comes, until ctx ends. Signals that come while
// it is under way are one. What it returns ends that.
func onSignal(ctx context.Context, sig os.Signal, do func()) (stop func()) {
	came := make(chan os.Signal, 1)
	signal.Notify(came, sig)
	ctx, cancel := context.WithCancel(ctx)
	// Owner: who calls. End: with ctx, or stop. Bound: one.
	go func() {
		for {
			select {
			case <-came:
				do()
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() {
		signal.Stop(came)
		cancel()
	}
}

// orBackground returns ctx, or the background where cobra gave none.
func orBackground(ctx context.Context) context.Context {
	if ctx == nil {
		return context.Background()
	}
	return ctx
}

// newLogger returns the log that cfg asks for. It goes by level, which is set to
// what cfg says.
func newLogger(cfg config.Log, level *slog.LevelVar, w io.Writer) *slog.Logger {
	levels := map[config.Level]slog.Level{
		config.LevelDebug: slog.LevelDebug,
		config.LevelInfo:  slog.LevelInfo,
		config.LevelWarn:  slog.LevelWarn,
		config.LevelError: slog.LevelError,
	}
	level.Set(levels[cfg.Level])
	opt := &slog.HandlerOptions{Level: level}
	if cfg.Format == config.FormatJSON {
		return slog.New(slog.NewJSONHandler(w, opt))
	}
	return slog.New(slog.NewTextHandler(w, opt))
}
