package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"

	"shirube/announce"
	"shirube/announce/bgp"
	"shirube/internal/admin"
	"shirube/internal/config"
	"shirube/internal/exposition"
	"shirube/internal/health"
	"shirube/transport/clients"
)

// options returns what cfg says of asking and deciding.
func options(cfg *config.Announcer, log *slog.Logger) (announce.Options, error) {
	p := &cfg.Probes
	exchange, err := newExchange(p)
	if err != nil {
		return announce.Options{}, err
	}
	opt := announce.Options{
		Probes: announce.Probes{
			Interval: p.Interval, Timeout: p.Timeout, Rise: p.Rise, Fall: p.Fall,
			Name: p.Name.String(), Needed: p.CanariesNeeded,
		},
		Fleet: announce.Fleet{Needed: cfg.Fleet.Needed, Keep: cfg.Fleet.SharedCauses == config.SharedKeep},
		Drain: announce.Drain{
			Graceful: cfg.Drain.Graceful, Settle: cfg.Drain.Settle, DisableFile: cfg.Drain.DisableFile,
		},
		Exchange: exchange,
		Log:      log,
	}
	for _, name := range p.Canaries {
		opt.Probes.Canaries = append(opt.Probes.Canaries, name.String())
	}
	for _, m := range cfg.Fleet.Members {
		opt.Fleet.Members = append(opt.Fleet.Members, announce.Target{Transport: announce.UDP, At: m.Or(dnsPort)})
	}
	if cfg.Fleet.Name != "" {
		opt.Fleet.Name = cfg.Fleet.Name.String()
	}
	if cfg.Resolver.AdminSocket != "" {
		opt.Ready = announce.ReadyAt(cfg.Resolver.AdminSocket)
	}
	for i := range cfg.VIPs {
		opt.VIPs = append(opt.VIPs, vip(&cfg.VIPs[i], p))
	}
	return opt, nil
}

// The ports of others that a configuration names without one.
const (
	dnsPort = 53
	bgpPort = 179
)

// vip returns what is to be known of an address.
func vip(v *config.VIP, p *config.Probes) announce.VIP {
	addr := v.Address.Addr()
	out := announce.VIP{Addr: addr, Prefixes: v.Prefixes}
	if len(out.Prefixes) == 0 {
		out.Prefixes = []netip.Prefix{netip.PrefixFrom(addr, addr.BitLen())}
	}
	at := v.Address
	if len(v.AskAt) > 0 {
		at = v.AskAt[0]
	}
	ports := map[config.ProbeTransport]uint16{
		config.ProbeUDP: p.DNSPort, config.ProbeTCP: p.DNSPort,
		config.ProbeDoT: p.TLSPort, config.ProbeDoQ: p.TLSPort,
		config.ProbeDoH: p.HTTPSPort, config.ProbeDoH3: p.HTTPSPort,
	}
	for _, t := range v.Transports {
		out.Targets = append(out.Targets, announce.Target{Transport: announce.Transport(t), At: at.Or(ports[t])})
	}
	return out
}

// ways are the names of the ways in which the transports are asked.
var ways = map[announce.Transport]string{
	announce.UDP: "UDP", announce.TCP: "TCP", announce.DoT: "DoT", announce.DoQ: "DoQ",
	announce.DoH: "DoH by HTTP/2 POST", announce.DoH3: "DoH3 by POST",
}

// newExchange returns what asks over all transports.
func newExchange(p *config.Probes) (announce.Exchange, error) {
	trust, err := newTrust(p)
	if err != nil {
		return nil, err
	}
	byName := map[string]clients.Way{}
	for _, w := range clients.Ways() {
		byName[w.Name] = w
	}
	return func(ctx context.Context, to announce.Target, query []byte) (_ []byte, err error) {
		a, err := byName[ways[to.Transport]].Dial(ctx, netip.Addr{}, to.At, trust)
		if err != nil {
			return nil, err
		}
		defer func() { _ = a.Close() }() // the answer is there, or why not
		return a.Ask(ctx, query)
	}, nil
}

// newTrust returns how certificates are checked. The clients name the address that
// they ask as the server, so it is done here.
func newTrust(p *config.Probes) (*tls.Config, error) {
	c := &tls.Config{ServerName: p.ServerName, InsecureSkipVerify: true} //nolint:gosec // see VerifyConnection
	if p.ServerName == "" {
		return c, nil
	}
	var roots *x509.CertPool
	if p.CAFile != "" {
		pem, err := os.ReadFile(p.CAFile)
		if err != nil {
			return nil, fmt.Errorf("probes.ca_file: %w", err)
		}
		if roots = x509.NewCertPool(); !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("probes.ca_file: %s has no certificate in PEM", p.CAFile)
		}
	}
	c.VerifyConnection = func(s tls.ConnectionState) error {
		opt := x509.VerifyOptions{DNSName: p.ServerName, Roots: roots, Intermediates: x509.NewCertPool()}
		for _, cert := range s.PeerCertificates[1:] {
			opt.Intermediates.AddCert(cert)
		}
		_, err := s.PeerCertificates[0].Verify(opt)
		return err
	}
	return c, nil
}

// newDriver returns what makes routes. The caller has to close it.
func newDriver(cfg *config.Announcer, log *slog.Logger) (announce.Driver, error) {
	attributes, err := newAttributes(&cfg.BGP)
	if err != nil {
		return nil, err
	}
	switch cfg.Driver {
	case config.DriverLoopback:
		return announce.NewLoopback(cfg.Loopback.Interface)
	case config.DriverBIRD:
		return announce.NewBIRD(announce.BIRDOptions{
			File: cfg.BIRD.File, Socket: cfg.BIRD.ControlSocket, Protocol: cfg.BIRD.Protocol, Attributes: attributes,
		}), nil
	case config.DriverNone:
		return watcher{}, nil
	}
	opt := bgp.Options{
		ASN: uint32(cfg.BGP.ASN), RouterID: optional(cfg.BGP.RouterID),
		NextHop4: optional(cfg.BGP.NextHopIPv4), NextHop6: optional(cfg.BGP.NextHopIPv6),
		Attributes: attributes, Log: log,
	}
	for i := range cfg.BGP.Peers {
		p, err := peer(&cfg.BGP.Peers[i])
		if err != nil {
			return nil, fmt.Errorf("bgp.peers[%d]: %w", i, err)
		}
		opt.Peers = append(opt.Peers, p)
	}
	return bgp.Start(opt)
}

func newAttributes(b *config.BGP) (announce.Attributes, error) {
	a := announce.Attributes{MED: uint32(b.MED), LastResortMED: uint32(b.LastResortMED)}
	for from, to := range map[*[]string]*[]uint32{&b.Communities: &a.Communities, &b.LastResortCommunities: &a.LastResortCommunities} {
		for _, text := range *from {
			c, err := config.ParseCommunity(text)
			if err != nil {
				return a, err
			}
			*to = append(*to, c)
		}
	}
	return a, nil
}

// optional returns the address in text, which was checked; the zero Addr for none.
func optional(text string) netip.Addr {
	addr, _ := netip.ParseAddr(text)
	return addr
}

// maxPassword is how long a password of TCP MD5 may be (Linux:
// TCP_MD5SIG_MAXKEYLEN).
const maxPassword = 80

func peer(p *config.BGPPeer) (bgp.Peer, error) {
	out := bgp.Peer{
		At: p.Address.Or(bgpPort), ASN: uint32(p.ASN), LocalAddr: optional(p.LocalAddress),
		HoldTime: p.HoldTime, ConnectRetry: p.ConnectRetry, Multihop: uint8(p.Multihop), TTLSecurity: p.TTLSecurity,
	}
	if p.PasswordFile == "" {
		return out, nil
	}
	text, err := os.ReadFile(p.PasswordFile)
	if err != nil {
		return out, fmt.Errorf("password_file: %w", err)
	}
	text = bytes.TrimRight(text, " \t\r\n")
	if len(text) == 0 || len(text) > maxPassword {
		return out, fmt.Errorf("password_file: %s has %d octets; expected 1 to %d", p.PasswordFile, len(text), maxPassword)
	}
	out.Password = string(text)
	return out, nil
}

// watcher is the driver that does nothing.
type watcher struct{}

func (watcher) Apply(context.Context, []announce.Route) error { return nil }
func (watcher) Peers() []announce.Peer                        { return nil }
func (watcher) Close() error                                  { return nil }

// serveAdmin has Prometheus and people ask for what a knows, if they are to. What
// is returned ends it.
func serveAdmin(ctx context.Context, cfg *config.Announcer, a *announce.Announcer, log *slog.Logger) (io.Closer, error) {
	if cfg.Admin.Socket == "" && len(cfg.Admin.Listen) == 0 {
		return io.NopCloser(nil), nil
	}
	opt := admin.Options{
		Socket: cfg.Admin.Socket, Group: -1, UID: os.Geteuid(), NoPage: true, Log: log,
		Backend: admin.Backend{
			Metrics: exposition.Handler(func(w io.Writer) error {
				s := a.Stats()
				return s.WritePrometheus(w)
			}),
			Health: new(health.State),
			Status: func() any { return a.Stats() },
		},
	}
	for _, l := range cfg.Admin.Listen {
		opt.Addresses = append(opt.Addresses, admin.Address{At: l.Address, Cert: l.Certificate, Key: l.Key, ClientCA: l.ClientCA, Token: l.TokenFile})
	}
	s, err := admin.New(opt)
	if err == nil {
		err = s.Listen(ctx, nil)
	}
	if err != nil {
		return nil, err
	}
	s.Start()
	return s, nil
}
