package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"shirube/dnstap"
	"shirube/dnstap/collector"
	"shirube/internal/admin"
	"shirube/internal/config"
	"shirube/internal/exposition"
	"shirube/internal/health"
)

// tapFlags are the flags of `shirube tap`.
type tapFlags struct {
	unix, tcp, tls          []string
	cert, key, clientCA     string
	format, output          string
	write                   string
	rotateSize, rotateAge   string
	keep                    int
	forward                 []string
	forwardCA               string
	forwardCert, forwardKey string
	counts                  bool
	senders                 int
	only                    string
	live                    bool
	metrics, token          string
	top                     int

	filter *collector.Filter // only, read
}

// tapFormats are the words for --format.
var tapFormats = map[string]collector.Format{
	"quiet": collector.Quiet, "yaml": collector.YAML, "json": collector.JSON, "none": nil,
}

func newTapCommand() *cobra.Command {
	var f tapFlags
	c := &cobra.Command{
		Use:   "tap [flags] [FILE]...",
		Short: "Collect dnstap from servers and files, and show it",
		Long: `Collect dnstap from servers and files, and show it: as a line for each message, as
YAML, or as JSON lines. Frames can be kept in files that are rotated, and sent on
to other collectors, as they came.

It ends when all FILEs are read (- is standard input), or, with listeners, at
SIGTERM or SIGINT. SIGUSR1 writes the counts to standard error. The exit code is 1
if anything of a FILE could not be printed, kept or sent on.`,
		Example: `  # See what a server is asked
  shirube tap --unix /run/dnstap.sock

  # Search a file
  shirube tap --format json tap.fstrm | jq 'select(.rcode == "SERVFAIL")'

  # Collect from a fleet with mutual TLS, keep a day, and send it on
  shirube tap --tls [::]:6000 --cert c.pem --key k.pem --client-ca ca.pem --format none \
    --write /var/log/tap.fstrm --rotate-age 1h --keep 24 --forward tcp:archive.example:6000

  # Shares of transports and rcodes
  shirube tap --format none --counts tap.fstrm

  # Watch what a name's clients get, as it happens
  shirube tap --live --only name:example.com --unix /run/dnstap.sock

  # Tell Prometheus
  shirube tap --format none --unix /run/dnstap.sock --metrics 127.0.0.1:9154 --metrics-token /etc/shirube/tap-token`,
		Args: func(_ *cobra.Command, args []string) error { return f.check(args) },
		RunE: func(c *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(orBackground(c.Context()), syscall.SIGINT, syscall.SIGTERM)
			defer stop()
			context.AfterFunc(ctx, stop) // a second signal does what it does to any program
			if f.live {
				return f.runLive(ctx, args)
			}
			return f.run(ctx, args, nil, c.InOrStdin(), c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	flags := c.Flags()
	flags.StringArrayVar(&f.unix, "unix", nil, "take senders on the unix socket at `path`")
	flags.StringArrayVar(&f.tcp, "tcp", nil, "take senders over TCP at `address`:port")
	flags.StringArrayVar(&f.tls, "tls", nil, "take senders over TLS at `address`:port; needs --cert and --key")
	flags.StringVar(&f.cert, "cert", "", "certificate to show to senders, a PEM `file`")
	flags.StringVar(&f.key, "key", "", "key of --cert, a PEM `file`")
	flags.StringVar(&f.clientCA, "client-ca", "", "take senders with a certificate of these authorities only, a PEM `file`")
	flags.StringVarP(&f.format, "format", "f", "quiet", "what to print: `quiet`, yaml, json or none")
	flags.StringVarP(&f.output, "output", "o", "", "append what is printed to `file`; default: standard output")
	flags.StringVarP(&f.write, "write", "w", "", "keep frames in `file`, which is rotated")
	flags.StringVar(&f.rotateSize, "rotate-size", "1GiB", "`size` at which the file of --write is complete; 0: never")
	flags.StringVar(&f.rotateAge, "rotate-age", "1h", "`age` at which it is; 0: never")
	flags.IntVar(&f.keep, "keep", 24, "how `many` complete files are kept; 0: all")
	flags.StringArrayVar(&f.forward, "forward", nil, "send frames on to `unix:path`, tcp:host:port or tls:host:port")
	flags.StringVar(&f.forwardCA, "forward-ca", "", "authorities that collectors over TLS are known by, a PEM `file`; default: the system's")
	flags.StringVar(&f.forwardCert, "forward-cert", "", "certificate to show to collectors over TLS, a PEM `file`")
	flags.StringVar(&f.forwardKey, "forward-key", "", "key of --forward-cert, a PEM `file`")
	flags.BoolVar(&f.counts, "counts", false, "write the counts to standard error at the end, as JSON")
	flags.StringVar(&f.only, "only", "", "print what `filter` takes, as in 'name:example.com client:192.0.2.0/24 rcode:servfail type:aaaa,https transport:doh'")
	flags.BoolVar(&f.live, "live", false, "show what is going on on the terminal, in place of printing it")
	flags.StringVar(&f.metrics, "metrics", "", "serve the counts to Prometheus (/metrics) and as JSON (/status.json) at `address`:port; needs --metrics-token")
	flags.StringVar(&f.token, "metrics-token", "", "`file` with the token, of 16 octets or more, that who asks for the counts has to show")
	flags.IntVar(&f.top, "top", 10, "how `many` of the names and clients with the most queries are in the counts; 0: none")
	flags.IntVar(&f.senders, "max-senders", collector.DefaultMaxSenders, "how `many` senders may be connected at once")
	return c
}

// check judges the command line.
func (f *tapFlags) check(files []string) error {
	_, known := tapFormats[f.format]
	var what string
	filter, err := collector.ParseFilter(f.only)
	f.filter = filter
	switch {
	case err != nil:
		what = "--only: " + err.Error()
	case f.live && (f.counts || slices.Contains(files, "-")):
		what = "--live shows the counts, and needs standard input for keys"
	case f.top < 0 || f.top > maxTop:
		what = fmt.Sprintf("--top is 0 to %d", maxTop)
	case len(files)+len(f.unix)+len(f.tcp)+len(f.tls) == 0:
		what = "tap needs a FILE, --unix, --tcp or --tls"
	case !known:
		what = fmt.Sprintf("--format %q; expected quiet, yaml, json or none", f.format)
	case len(f.tls) > 0 && (f.cert == "" || f.key == ""):
		what = "--tls needs --cert and --key"
	case (f.forwardCert == "") != (f.forwardKey == ""):
		what = "--forward-cert and --forward-key need each other"
	case (f.metrics == "") != (f.token == ""):
		what = "--metrics and --metrics-token need each other"
	case f.keep < 0 || f.senders < 1:
		what = "--keep is 0 or more, --max-senders 1 or more"
	default:
		return nil
	}
	return &usageError{errors.New(what + "; see 'shirube tap --help'")}
}

// maxTop is how many names and clients the counts may list.
const maxTop = 1000

// tapGoodbye is how long collectors that frames are sent on to have at the end.
const tapGoodbye = 5 * time.Second

// runLive is run on a terminal, until q is pressed.
func (f *tapFlags) runLive(ctx context.Context, files []string) error {
	live := collector.NewLive(f.filter)
	v, err := newLiveView(live, strings.Join(slices.Concat(f.unix, f.tcp, f.tls, files), " "))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	shown := make(chan error, 1)
	// Owner: runLive. End: with ctx, which it ends. Bound: one.
	go func() {
		defer cancel()
		shown <- v.run(ctx)
	}()
	err = f.run(ctx, files, live, strings.NewReader(""), io.Discard, &v.said)
	cancel()
	return errors.Join(err, <-shown, v.Close())
}

// run collects until all files are read, and ctx has ended if there are listeners
// or somebody looks on.
func (f *tapFlags) run(ctx context.Context, files []string, live *collector.Live, stdin io.Reader, stdout, stderr io.Writer) (err error) {
	log := slog.New(slog.NewTextHandler(stderr, nil))
	opt := collector.Options{
		Format: tapFormats[f.format], Filter: f.filter, Output: stdout, Live: live, Log: log, MaxSenders: f.senders, Top: f.top,
	}
	if f.output != "" {
		out, openErr := os.OpenFile(f.output, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
		if openErr != nil {
			return openErr
		}
		defer func() { err = errors.Join(err, out.Close()) }()
		opt.Output = out
	}
	if opt.Tap, err = f.tap(log); err != nil {
		return err
	}
	opt.Tap.Start()
	c := collector.New(opt)
	told, err := f.serveMetrics(ctx, c, log)
	if err != nil {
		c.Close()
		return errors.Join(err, opt.Tap.Close(ctx))
	}
	defer func() { err = errors.Join(err, told.Close()) }()
	report := func() {
		e := json.NewEncoder(stderr)
		e.SetIndent("", "  ")
		_ = e.Encode(c.Stats()) // nobody is left to be told
	}
	usr1 := make(chan os.Signal, 1)
	signal.Notify(usr1, syscall.SIGUSR1)
	defer signal.Stop(usr1)
	err = f.collect(ctx, c, files, stdin, usr1, report)
	c.Close()
	goodbye, cancel := context.WithTimeout(context.WithoutCancel(ctx), tapGoodbye)
	defer cancel()
	err = errors.Join(err, opt.Tap.Close(goodbye))
	if f.counts {
		report()
	}
	lost := lostFrames(c.Stats())
	if len(f.unix)+len(f.tcp)+len(f.tls) > 0 { // what may be lost was counted and told of when it was
		if lost != nil {
			log.Warn("not all was handed on", "error", lost)
		}
		return err
	}
	return errors.Join(err, lost)
}

// lostFrames returns what of that which was read was not handed on; nil: all was.
func lostFrames(s collector.Stats) error {
	var errs []error
	if s.Unwritten > 0 {
		errs = append(errs, fmt.Errorf("%d messages could not be printed", s.Unwritten))
	}
	for i := range s.Output {
		if o := &s.Output[i]; o.Dropped > 0 {
			errs = append(errs, fmt.Errorf("%s: %d of %d frames were not taken", o.Name, o.Dropped, o.Emitted))
		}
	}
	return errors.Join(errs...)
}

// serveMetrics has Prometheus and others ask for the counts, if they are to. What
// is returned ends it.
func (f *tapFlags) serveMetrics(ctx context.Context, c *collector.Collector, log *slog.Logger) (io.Closer, error) {
	if f.metrics == "" {
		return io.NopCloser(nil), nil
	}
	at, err := netip.ParseAddrPort(f.metrics)
	if err != nil {
		return nil, &usageError{fmt.Errorf("--metrics %q; expected an address and port, such as 127.0.0.1:9154", f.metrics)}
	}
	s, err := admin.New(admin.Options{
		Group: -1, Addresses: []admin.Address{{At: at, Token: f.token}}, NoPage: true, Log: log,
		Backend: admin.Backend{
			Metrics: exposition.Handler(func(w io.Writer) error {
				s := c.Stats()
				return s.WritePrometheus(w)
			}),
			Health: new(health.State),
			Status: func() any { return c.Stats() },
		},
	})
	if err == nil {
		err = s.Listen(ctx, nil)
	}
	if err != nil {
		return nil, err
	}
	s.Start()
	return s, nil
}

// collect reads files, and serves listeners until ctx ends or the output is
// closed.
func (f *tapFlags) collect(ctx context.Context, c *collector.Collector, files []string, stdin io.Reader, usr1 <-chan os.Signal, report func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lns, err := f.listen(ctx)
	if err != nil {
		return err
	}
	errs := make(chan error, len(lns)+1)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for _, l := range lns {
		// Owner: collect. End: with ctx. Bound: one for each listener.
		wg.Go(func() { errs <- c.Serve(ctx, l.Listener, l.conf) })
	}
	read := make(chan error, 1)
	// Owner: collect. End: that of the files; a pipe that nobody writes ends with
	// the process. Bound: one.
	go func() { read <- readTaps(ctx, c, files, stdin) }()
	for {
		select {
		case err := <-read:
			if err != nil || len(lns) == 0 && !f.live {
				return err
			}
		case err := <-errs:
			return err
		case <-usr1:
			report()
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
			if c.Broken() {
				return collector.ErrBroken
			}
		}
	}
}

// readTaps reads files, one after the other.
func readTaps(ctx context.Context, c *collector.Collector, files []string, stdin io.Reader) error {
	for _, name := range files {
		in := io.NopCloser(stdin)
		if name != "-" {
			file, err := os.Open(name)
			if err != nil {
				return err
			}
			in = file
		}
		err := c.ReadFile(ctx, in)
		_ = in.Close() // only read
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// tapListener is a listener and what is spoken there.
type tapListener struct {
	net.Listener

	conf *tls.Config // nil: in the clear
}

// listen binds what senders come to.
func (f *tapFlags) listen(ctx context.Context) (lns []tapListener, err error) {
	defer func() {
		if err != nil {
			for _, l := range lns {
				_ = l.Close()
			}
			lns = nil
		}
	}()
	var conf *tls.Config
	if len(f.tls) > 0 {
		if conf, err = f.serverTLS(); err != nil {
			return nil, err
		}
	}
	var lc net.ListenConfig
	for _, kind := range []struct {
		network string
		at      []string
		conf    *tls.Config
	}{{"unix", f.unix, nil}, {"tcp", f.tcp, nil}, {"tcp", f.tls, conf}} {
		for _, at := range kind.at {
			if kind.network == "unix" {
				removeStale(ctx, at)
			}
			l, err := lc.Listen(ctx, kind.network, at)
			if err != nil {
				return lns, err
			}
			lns = append(lns, tapListener{l, kind.conf})
			if kind.network == "unix" {
				if err := os.Chmod(at, 0o660); err != nil { // what clients ask is not everybody's business
					return lns, err
				}
			}
		}
	}
	return lns, nil
}

// removeStale removes a socket that nobody listens on any more.
func removeStale(ctx context.Context, path string) {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&os.ModeSocket == 0 {
		return
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		_ = conn.Close() // somebody does
		return
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		_ = os.Remove(path) // or listening fails, and says so
	}
}

func (f *tapFlags) serverTLS() (*tls.Config, error) {
	load, err := certificate(f.cert, f.key)
	if err != nil {
		return nil, err
	}
	conf := &tls.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return load() }, MinVersion: tls.VersionTLS13,
	}
	if f.clientCA != "" {
		if conf.ClientCAs, err = readCA(f.clientCA); err != nil {
			return nil, err
		}
		conf.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return conf, nil
}

// certificate returns what reads a certificate and its key, for each connection
// anew: they are renewed while this runs, and connections are few. What is there
// now has to be good.
func certificate(file, key string) (load func() (*tls.Certificate, error), err error) {
	load = func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(file, key)
		return &pair, err
	}
	_, err = load()
	return load, err
}

func readCA(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate", file)
	}
	return pool, nil
}

// tap returns what keeps and sends on frames; nil if nothing does.
func (f *tapFlags) tap(log *slog.Logger) (*dnstap.Tap, error) {
	opt := dnstap.Options{Log: log}
	if f.write != "" {
		size, err := config.ParseSize(f.rotateSize)
		if err != nil {
			return nil, &usageError{fmt.Errorf("--rotate-size %q %w", f.rotateSize, err)}
		}
		age, err := config.ParseDuration(f.rotateAge)
		if err != nil {
			return nil, &usageError{fmt.Errorf("--rotate-age %q %w", f.rotateAge, err)}
		}
		file := &dnstap.File{Path: f.write, MaxSize: int64(size), MaxAge: age, Keep: f.keep}
		opt.Outputs = append(opt.Outputs, dnstap.Output{Name: "file:" + f.write, File: file})
	}
	for _, to := range f.forward {
		stream, err := f.stream(to)
		if err != nil {
			return nil, err
		}
		opt.Outputs = append(opt.Outputs, dnstap.Output{Name: to, Stream: stream})
	}
	if len(opt.Outputs) == 0 {
		return nil, nil
	}
	return dnstap.New(opt)
}

// stream reads a value of --forward.
func (f *tapFlags) stream(to string) (*dnstap.Stream, error) {
	network, address, _ := strings.Cut(to, ":")
	switch network {
	case "unix", "tcp":
		return &dnstap.Stream{Network: network, Address: address}, nil
	case "tls":
	default:
		return nil, &usageError{fmt.Errorf("--forward %q; expected unix:path, tcp:host:port or tls:host:port", to)}
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, &usageError{fmt.Errorf("--forward %q: %w", to, err)}
	}
	conf := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS13}
	if f.forwardCA != "" {
		if conf.RootCAs, err = readCA(f.forwardCA); err != nil {
			return nil, err
		}
	}
	if f.forwardCert != "" {
		load, err := certificate(f.forwardCert, f.forwardKey)
		if err != nil {
			return nil, err
		}
		conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return &dnstap.Stream{Network: "tcp", Address: address, TLS: conf}, nil
}
