package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"shirube/internal/config"
	"shirube/internal/lab"
)

func newDemoCommand() *cobra.Command {
	var seed uint64
	c := &cobra.Command{
		Use:   "demo",
		Short: "Run the server in a small Internet of its own",
		Long: `Start a small Internet on loopback addresses - a root, top-level domains, two
hundred zones, most of them signed, some of them wrongly, some of their servers
broken on purpose - and a validating server on
127.0.0.1 and ::1, port 5353, that resolves in it; and print questions to try.
Nothing leaves this machine. SIGINT or SIGTERM ends both.`,
		Example: `  shirube demo
  dig @127.0.0.1 -p 5353 www.shirube.lab`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return demo(c.Context(), seed, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	c.Flags().Uint64Var(&seed, "seed", 1, "what the zones hold follows from this `number`")
	return c
}

// demo runs a lab and a server in it until a signal or ctx ends it.
func demo(ctx context.Context, seed uint64, stdout, stderr io.Writer) (err error) {
	ctx, stop := signal.NotifyContext(orBackground(ctx), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	l, err := lab.Start(ctx, lab.Options{Seed: seed, Signed: true})
	if err != nil {
		return err
	}
	defer l.Close()

	hints, err := writeTemp("shirube-demo-*.hints", l.Hints())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(hints)) }()
	cfg := demoConfig(hints, l.Anchor(), l.Port())
	if err := describe(stdout, l, cfg.Listen[0].Address); err != nil {
		return err
	}
	return serve(ctx, cfg, nil, stderr)
}

// demoConfig is the embedded default, in the lab.
func demoConfig(hints, anchor string, port uint16) config.Config {
	cfg := config.Default()
	cfg.Resolver.RootHints = hints
	cfg.Resolver.Port = port
	cfg.Resolver.DoNotQueryLocalhost = false
	cfg.BuiltinZones.Except = lab.Reverse()
	cfg.DNSSEC.RootTrustAnchor, cfg.DNSSEC.AutoTrustAnchor = false, false
	cfg.DNSSEC.TrustAnchors = []config.TrustAnchor{config.TrustAnchor(anchor)}
	return cfg
}

// describe prints the questions to try as commands.
func describe(w io.Writer, l *lab.Lab, server netip.AddrPort) error {
	out := fmt.Appendf(nil, "A small Internet is up, on port %d of 127.53.0.0/16. Try, in another terminal:\n\n", l.Port())
	for _, s := range l.Samples() {
		out = fmt.Appendf(out, "  # %s\n  dig @%s -p %d %v %v\n\n", s.Shows, server.Addr(), server.Port(), s.Question.Name, s.Question.Type)
	}
	out = append(out, "End it with Ctrl-C.\n\n"...)
	_, err := w.Write(out)
	return err
}

// writeTemp writes text to a new file and returns its name.
func writeTemp(pattern, text string) (name string, err error) {
	f, err := os.CreateTemp("", pattern)
	if err != nil {
		return "", err
	}
	if _, err = f.WriteString(text); err != nil {
		return "", errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return f.Name(), f.Close()
}
