package main

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"shirube/internal/config"
	"shirube/internal/daemon"
)

func newServeCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the server",
		Long: `Run the server in the foreground until SIGTERM or SIGINT; a second one ends it at
once. SIGUSR1 writes all counters to the log.

Without a configuration file it listens on 127.0.0.1 and ::1, port 5353, over UDP
and TCP, and serves this machine only.`,
		Example: `  shirube serve
  shirube serve --config /etc/shirube/shirube.yaml`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg := config.Default()
			if c.Flags().Changed("config") {
				var err error
				if cfg, err = config.Load(file); err != nil {
					return err
				}
			}
			return serve(c.Context(), cfg, c.ErrOrStderr())
		},
	}
	c.Flags().StringVarP(&file, "config", "c", "", "configuration `file` (YAML); default: none")
	return c
}

// serve runs a server until a signal or ctx ends it.
func serve(ctx context.Context, cfg config.Config, stderr io.Writer) error {
	level := new(slog.LevelVar)
	log := newLogger(cfg.Log, level, stderr)
	d, err := daemon.New(cfg, log)
	if err != nil {
		return err
	}
	d.Version, d.Level = version, level
	ctx, stop := signal.NotifyContext(orBackground(ctx), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal does what it does to any program

	usr1 := make(chan os.Signal, 1)
	signal.Notify(usr1, syscall.SIGUSR1)
	defer signal.Stop(usr1)
	// Owner: serve. End: with ctx. Bound: one.
	go func() {
		for {
			select {
			case <-usr1:
				d.LogStats()
			case <-ctx.Done():
				return
			}
		}
	}()
	return d.Run(ctx)
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
