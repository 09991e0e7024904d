package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"shirube/internal/config"
	"shirube/internal/lab"
	"shirube/internal/lab/ca"
	"shirube/internal/wire"
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
The same is served encrypted: DoT and DoQ on port 8853, DoH and DoH3 on port 8443,
with a certificate of an authority of the demo's own, which is made anew each time.
Nothing leaves this machine. SIGINT or SIGTERM ends both.`,
		Example: `  shirube demo
  dig @127.0.0.1 -p 5353 www.shirube.lab
  kdig @127.0.0.1 -p 8853 +tls www.shirube.lab`,
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

	dir, err := os.MkdirTemp("", "shirube-demo-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	files, err := writeDemo(dir, l.Hints())
	if err != nil {
		return err
	}
	cfg := demoConfig(files.hints, l.Anchor(), l.Port())
	files.encrypt(&cfg)
	if err := describe(stdout, l, cfg.Listen[0].Address, files.authority); err != nil {
		return err
	}
	return serve(ctx, serveOptions{cfg: cfg}, stderr)
}

// demoFiles are the names of the files that a demo needs.
type demoFiles struct {
	hints            string
	certificate, key string
	authority        string // the certificate that clients have to trust
}

// writeDemo writes the files of a demo to dir: root hints, and what an authority of
// its own has issued.
func writeDemo(dir, hints string) (f demoFiles, err error) {
	f.hints, f.authority = filepath.Join(dir, "root.hints"), filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(f.hints, []byte(hints), 0o600); err != nil {
		return f, err
	}
	authority, err := ca.New("Authority of a demo of Shirube")
	if err != nil {
		return f, err
	}
	issued, err := authority.Issue(ca.Leaf{Names: []string{demoName}, Addrs: demoAddrs()})
	if err != nil {
		return f, err
	}
	if f.certificate, f.key, err = issued.Write(dir, "tls"); err != nil {
		return f, err
	}
	return f, os.WriteFile(f.authority, authority.PEM(), 0o600)
}

// What clients know a demo by. The ports are those of the protocols, as far as
// everybody may use them.
const (
	demoName    = "dns.shirube.lab"
	demoTLSPort = 8853
	demoWebPort = 8443
)

// demoAddrs returns where a demo listens.
func demoAddrs() []netip.Addr {
	return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
}

// encrypt has cfg serve encrypted transports too.
func (f *demoFiles) encrypt(cfg *config.Config) {
	for _, a := range demoAddrs() {
		cfg.Listen = append(cfg.Listen,
			config.Listener{Address: netip.AddrPortFrom(a, demoTLSPort), Protocols: []config.Protocol{config.ProtocolDoT, config.ProtocolDoQ}},
			config.Listener{Address: netip.AddrPortFrom(a, demoWebPort), Protocols: []config.Protocol{config.ProtocolDoH, config.ProtocolDoH3}})
	}
	cfg.TLS.Certificates = []config.Certificate{{CertFile: f.certificate, KeyFile: f.key}}
	cfg.Discovery.Name = wire.MustParseName(demoName + ".")
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
func describe(w io.Writer, l *lab.Lab, server netip.AddrPort, authority string) error {
	out := fmt.Appendf(nil, "A small Internet is up, on port %d of 127.53.0.0/16. Try, in another terminal:\n\n", l.Port())
	for _, s := range l.Samples() {
		out = fmt.Appendf(out, "  # %s\n  dig @%s -p %d %v %v\n\n", s.Shows, server.Addr(), server.Port(), s.Question.Name, s.Question.Type)
	}
	at, trust := server.Addr(), fmt.Sprintf("+tls-ca=%s +tls-hostname=%s", authority, demoName)
	for _, e := range []struct{ shows, command string }{
		{"DoT, to who trusts the authority of this demo", fmt.Sprintf("kdig @%s -p %d %s www.shirube.lab", at, demoTLSPort, trust)},
		{"DoQ (kdig 3.2 cannot check certificates there)", fmt.Sprintf("kdig @%s -p %d +quic www.shirube.lab", at, demoTLSPort)},
		{"DoH", fmt.Sprintf("kdig @%s -p %d +https=/dns-query %s www.shirube.lab", at, demoWebPort, trust)},
		{"DoH by the address, which the certificate has too", fmt.Sprintf("curl -s --cacert %s 'https://%s:%d/dns-query?dns=%s' | od -t x1z", authority, at, demoWebPort, demoQuery)},
		{"where a client that knows the address finds all these (DDR)", fmt.Sprintf("kdig @%s -p %d _dns.resolver.arpa TYPE64", at, server.Port())},
	} {
		out = fmt.Appendf(out, "  # %s\n  %s\n\n", e.shows, e.command)
	}
	out = append(out, "End it with Ctrl-C.\n\n"...)
	_, err := w.Write(out)
	return err
}

// demoQuery is a query for the addresses of www.shirube.lab as RFC 8484 has it in
// URLs.
const demoQuery = "AAABAAABAAAAAAAAA3d3dwdzaGlydWJlA2xhYgAAAQAB"
