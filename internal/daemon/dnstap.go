package daemon

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"shirube/dnstap"
	"shirube/dnstap/collector"
	"shirube/internal/config"
)

// tapGrace is how long collectors have at the end to take what is queued for
// them, whatever the drain's time was.
const tapGrace = 2 * time.Second

// tapped is what finds out who asks most.
type tapped struct {
	conf config.DnstapTop
	*collector.Lately
}

// topOutput is the name of the output that leads to it.
const topOutput = "top"

// nextTapped returns what is to find out who asks most; nil: nothing does. What is
// there already, before, goes on if it is to do the same.
func nextTapped(cfg *config.DnstapTop, before *tapped) *tapped {
	switch {
	case !cfg.Enabled:
		return nil
	case before != nil && before.conf == *cfg:
		return before
	}
	return &tapped{*cfg, collector.NewLately(time.Now())}
}

// output returns the output that leads to t.
func (t *tapped) output() dnstap.Output {
	out := dnstap.Output{Name: topOutput, Take: t.Take, Settings: t.conf}
	out.Filter.Sample[dnstap.ClientQuery] = uint32(t.conf.Sample) // the configuration has no larger ones
	out.Privacy = tapPrivacy(&t.conf.Privacy)
	return out
}

// newTap returns what collectors are told by. Without any it is off, until a
// reload brings some. What is said of the version comes with startTap.
func newTap(cfg *config.Config, top *tapped, log *slog.Logger) (*dnstap.Tap, error) {
	opt, err := tapOptions(cfg, top)
	if err != nil {
		return nil, err
	}
	opt.Log = log
	t, err := dnstap.New(opt)
	if err != nil {
		return nil, fmt.Errorf("dnstap: %w", err)
	}
	return t, nil
}

// tapOptions translates the configuration of what collectors are told. The
// version comes later.
func tapOptions(cfg *config.Config, top *tapped) (dnstap.Options, error) {
	opt := dnstap.Options{Identity: tapIdentity(cfg)}
	named := map[string]int{}
	for i := range cfg.Dnstap.Outputs {
		out, err := tapOutput(&cfg.Dnstap.Outputs[i])
		if err != nil {
			return dnstap.Options{}, fmt.Errorf("dnstap.outputs[%d]: %w", i, err)
		}
		out.Settings = cfg.Dnstap.Outputs[i]
		if named[out.Name]++; named[out.Name] > 1 { // the same collector is told something else
			out.Name = fmt.Sprintf("%s#%d", out.Name, named[out.Name])
		}
		opt.Outputs = append(opt.Outputs, out)
	}
	if top != nil {
		opt.Outputs = append(opt.Outputs, top.output())
	}
	return opt, nil
}

// reloadTap has the collectors be those of the next configuration.
func (d *Daemon) reloadTap(r *reload) error {
	top := nextTapped(&r.to.Config.Dnstap.Top, d.tapped.Load())
	opt, err := tapOptions(&r.to.Config, top)
	if err != nil {
		return err
	}
	opt.Version = d.tapVersion(&r.to.Config)
	c, err := d.tap.Prepare(opt)
	if err != nil {
		return err
	}
	r.commit(func() {
		c.Commit()
		d.tapped.Store(top)
	})
	return nil
}

// tapVersion returns what collectors are told that this is.
func (d *Daemon) tapVersion(cfg *config.Config) string {
	if !cfg.Dnstap.Version {
		return ""
	}
	version := "shirube " + d.Version
	return version[:min(len(version), dnstap.MaxIdentity)]
}

// tapIdentity returns who collectors are told that this is.
func tapIdentity(cfg *config.Config) string {
	if cfg.Dnstap.Identity != "" {
		return cfg.Dnstap.Identity
	}
	if nsid := cfg.Identity.Octets(); len(nsid) > 0 {
		return string(nsid)
	}
	name, err := os.Hostname()
	if err != nil {
		return "" // it can be configured
	}
	return name
}

// tapOutput translates the configuration of one output.
func tapOutput(cfg *config.DnstapOutput) (dnstap.Output, error) {
	out := dnstap.Output{Filter: tapFilter(cfg), QueueSize: int(cfg.QueueSize)}
	switch {
	case cfg.File != "":
		out.Name = "file:" + cfg.File
		out.File = &dnstap.File{Path: cfg.File, MaxSize: int64(cfg.Rotate.Size), MaxAge: cfg.Rotate.Age, Keep: cfg.Rotate.Keep}
	case cfg.Socket != "":
		out.Name = "unix:" + cfg.Socket
		out.Stream = &dnstap.Stream{Network: "unix", Address: cfg.Socket}
	default:
		out.Name = "tcp:" + cfg.Address
		out.Stream = &dnstap.Stream{Network: "tcp", Address: cfg.Address}
	}
	var err error
	if cfg.TLS.Enabled {
		out.Name = "tls:" + cfg.Address
		if out.Stream.TLS, err = tapTLS(cfg); err != nil {
			return dnstap.Output{}, fmt.Errorf("tls: %w", err)
		}
	}
	out.Privacy = tapPrivacy(&cfg.Privacy)
	return out, nil
}

// tapPrivacy translates how much of clients' addresses is shown.
func tapPrivacy(cfg *config.DnstapPrivacy) dnstap.Privacy {
	p := dnstap.Privacy{Bits4: cfg.IPv4Bits, Bits6: cfg.IPv6Bits}
	if cfg.Hash {
		p.HashKey = cfg.HashKey.Octets()
		if len(p.HashKey) == 0 {
			p.HashKey = make([]byte, dnstap.HashKeyLen)
			rand.Read(p.HashKey) // never fails
		}
	}
	return p
}

func tapFilter(cfg *config.DnstapOutput) dnstap.Filter {
	s := &cfg.Sample
	f := dnstap.Filter{Suffixes: cfg.Only.Suffixes, ServFail: s.AllServFail}
	for typ, n := range map[dnstap.Type]int{
		dnstap.ClientQuery: s.ClientQuery, dnstap.ClientResponse: s.ClientResponse,
		dnstap.ResolverQuery: s.ResolverQuery, dnstap.ResolverResponse: s.ResolverResponse,
		dnstap.ForwarderQuery: s.ForwarderQuery, dnstap.ForwarderResponse: s.ForwarderResponse,
	} {
		f.Sample[typ] = uint32(n) // the configuration has no larger ones
	}
	for _, r := range cfg.Only.Rcodes {
		f.Rcodes = append(f.Rcodes, r.Number())
	}
	for _, t := range cfg.Only.Transports {
		f.Protos = append(f.Protos, t.Proto())
	}
	return f
}

// tapTLS reads the files that the configuration names.
func tapTLS(cfg *config.DnstapOutput) (*tls.Config, error) {
	name := cfg.TLS.Name
	if name == "" {
		host, _, err := net.SplitHostPort(cfg.Address)
		if err != nil {
			return nil, err
		}
		name = host
	}
	return clientTLS(name, cfg.TLS.CAFile, cfg.TLS.CertFile, cfg.TLS.KeyFile)
}

// clientTLS reads the files for TLS to a collector. A certificate of this server's
// is read anew for each connection, so that it can be renewed.
func clientTLS(name, ca, certFile, key string) (*tls.Config, error) {
	out := &tls.Config{ServerName: name, MinVersion: tls.VersionTLS13}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file: %s has no certificate", ca)
		}
	}
	if certFile == "" {
		return out, nil
	}
	load := func() (*tls.Certificate, error) {
		cert, err := tls.LoadX509KeyPair(certFile, key)
		return &cert, err
	}
	if _, err := load(); err != nil { // better now than later
		return nil, err
	}
	out.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	return out, nil
}

// startTap begins to tell the collectors.
func (d *Daemon) startTap() {
	d.tap.SetVersion(d.tapVersion(d.cfg()))
	d.tap.Start()
}

// closeTap tells the collectors what is queued, and that this was all.
func (d *Daemon) closeTap(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tapGrace)
	defer cancel()
	if err := d.tap.Close(ctx); err != nil {
		d.log.Warn("collectors were not told all", "error", err, "dropped", d.tap.Stats().Total().Dropped)
	}
}
