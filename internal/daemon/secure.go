package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"reflect"
	"slices"
	"syscall"

	"shirube/internal/certs"
	"shirube/internal/config"
	"shirube/internal/localsock"
	"shirube/internal/wire"
	"shirube/transport"
)

// secure is what serves clients that come encrypted, and by HTTP.
type secure struct {
	certs *certs.Store // without certificates only cleartext is served
	conns *transport.Conns
	dot   *transport.TCP
	doh   *transport.DoH
	doh3  *transport.DoH3
	doq   *transport.DoQ
}

// newSecure returns the transports of cfg, without listeners. It reads the
// certificates.
func (d *Daemon) newSecure(cfg *config.Config) error {
	s := &d.secure
	var err error
	if s.certs, err = certs.New(certsOptions(cfg.TLS, d.log)); err != nil {
		return fmt.Errorf("tls: %w", err)
	}
	d.current.reach.certs.Store(s.certs)
	s.conns = transport.NewConns(connsOptions(cfg))
	s.dot = transport.NewTCP(d.dotOptions(cfg))
	doh, doq, doh3 := d.dohOptions(cfg), d.doqOptions(cfg), d.doh3Options(cfg)
	// The names are IANA's.
	doh.TLS, doq.TLS, doh3.TLS = s.certs.Config("h2", "http/1.1"), s.certs.Config("doq"), s.certs.Config("h3")
	s.doh, s.doh3, s.doq = transport.NewDoH(doh), transport.NewDoH3(doh3), transport.NewDoQ(doq)
	return nil
}

// connsOptions translates the bounds of encrypted connections.
func connsOptions(cfg *config.Config) transport.ConnsOptions {
	l := cfg.Limits
	opt := transport.ConnsOptions{Total: l.TLSConnections, PerClient: l.TLSConnectionsPerClient, Handshakes: l.TLSHandshakesPerClient}
	if opt.Handshakes == 0 {
		opt.Handshakes = -1
	}
	return opt
}

// dohOptions translates all but TLS, which is given once.
func (d *Daemon) dohOptions(cfg *config.Config) transport.DoHOptions {
	l := cfg.Limits
	return transport.DoHOptions{
		Handler: d.current, Slots: d.slots, Conns: d.secure.conns, UDPSize: int(l.UDPSize),
		Path: cfg.DoH.Path, Proxies: cfg.DoH.TrustedProxies,
		Timeout: cfg.Resolver.Timeout + answerGrace, MessageTimeout: l.TCPMessageTimeout, IdleTimeout: l.DoHIdleTimeout,
		MaxStreams: l.DoHStreams, HTTP3Port: http3Port(cfg.Listen), Tap: d.tap, Log: d.log,
	}
}

// doqOptions is dohOptions for DoQ.
func (d *Daemon) doqOptions(cfg *config.Config) transport.QUICOptions {
	l := cfg.Limits
	return transport.QUICOptions{
		Handler: d.current, Slots: d.slots, Conns: d.secure.conns, UDPSize: int(l.UDPSize), Keys: d.secure.quicKeys,
		Timeout: cfg.Resolver.Timeout + answerGrace, MessageTimeout: l.TCPMessageTimeout, IdleTimeout: l.DoQIdleTimeout,
		StreamTime: l.DoQStreamTimeout, MaxStreams: l.DoQStreams, Tap: d.tap, Log: d.log,
	}
}

// doh3Options is dohOptions for DoH3.
func (d *Daemon) doh3Options(cfg *config.Config) transport.QUICOptions {
	opt, l := d.doqOptions(cfg), cfg.Limits
	opt.Path, opt.IdleTimeout, opt.MaxStreams = cfg.DoH.Path, l.DoHIdleTimeout, l.DoHStreams
	return opt
}

// quicKeys returns what all of the fleet have the same of: zero without a secret.
func (s *secure) quicKeys() (reset, token [32]byte) {
	key, ok := s.certs.Derive("QUIC stateless reset")
	if !ok {
		return reset, token
	}
	token, _ = s.certs.Derive("QUIC token")
	return key, token
}

// http3Port returns the port of all listeners of DoH, if each of them serves DoH3
// too; 0: there is none that all clients of DoH could be told.
func http3Port(listeners []config.Listener) (port uint16) {
	for _, l := range listeners {
		if !slices.Contains(l.Protocols, config.ProtocolDoH) {
			continue
		}
		at := l.Address.Port()
		if !slices.Contains(l.Protocols, config.ProtocolDoH3) || port != 0 && port != at {
			return 0
		}
		port = at
	}
	return port
}

func (d *Daemon) dotOptions(cfg *config.Config) transport.TCPOptions {
	opt := d.tcpOptions(cfg)
	opt.Proto = wire.DoT
	return opt
}

// configure changes what can be changed of it without a restart.
func (s *secure) configure(d *Daemon, cfg *config.Config) {
	s.conns.Configure(connsOptions(cfg))
	s.dot.Configure(d.dotOptions(cfg))
	s.doh.Configure(d.dohOptions(cfg))
	s.doh3.Configure(d.doh3Options(cfg))
	s.doq.Configure(d.doqOptions(cfg))
}

// certsOptions translates what is shown to clients.
func certsOptions(cfg config.TLS, log *slog.Logger) certs.Options {
	opt := certs.Options{SecretFile: cfg.TicketSecretFile, Log: log}
	for _, c := range cfg.Certificates {
		opt.Pairs = append(opt.Pairs, certs.Pair{Certificate: c.CertFile, Key: c.KeyFile})
	}
	return opt
}

// reloadCertificates has clients shown others. Connections that are open, and
// sessions, are not touched: unless it is the secret that changes.
func (d *Daemon) reloadCertificates(r *reload) error {
	if reflect.DeepEqual(r.from.Config.TLS, r.to.Config.TLS) {
		return nil
	}
	take, err := d.secure.certs.Prepare(certsOptions(r.to.Config.TLS, d.log))
	if err != nil {
		return err
	}
	r.commit(take)
	return nil
}

// bindStream binds an endpoint of DoT or DoH.
func (d *Daemon) bindStream(ctx context.Context, e endpoint, proxies *transport.Proxies, cfg *config.Config) (listening, error) {
	s := &d.secure
	tcp, err := d.passed.ListenTCP(ctx, e.binding(cfg), e.at)
	if err != nil {
		return listening{}, err
	}
	ln := proxies.Listener(tcp)
	l := listening{endpoint: e, proxies: proxies, sockets: []syscall.Conn{tcp}, close: ln.Close}
	if e.proto == config.ProtocolDoT {
		secured := transport.Secure(ln, s.conns, s.certs.Config("dot")) // RFC 7858; IANA's name
		l.serve = func() { s.dot.Add(secured) }
		l.stop = func(context.Context) error { return s.dot.Remove(secured) }
		return l, nil
	}
	l.serve = func() { s.doh.Add(ln, e.proto == config.ProtocolDoH) }
	l.stop = func(context.Context) error { return s.doh.Remove(ln) }
	return l, nil
}

// socketConns is how many connections there may be on the socket of DoH: a proxy
// has one or a few, each for a hundred clients' requests at once. More are closed.
const socketConns = 1024

// bindSocket binds the unix socket of DoH. One in have with the same path is for
// another group: both are served until that one has ended.
func (d *Daemon) bindSocket(ctx context.Context, e endpoint, have []listening) (listening, error) {
	gid, err := groupID(e.group)
	if err != nil {
		return listening{}, fmt.Errorf("doh.group: %w", err)
	}
	opt := localsock.Options{Path: e.socket, UID: os.Geteuid(), Group: gid, Section: "doh", Friends: socketConns, Strangers: 1, Log: d.log}
	var ln *localsock.Listener
	if i := slices.IndexFunc(have, func(l listening) bool { return l.socket == e.socket }); i >= 0 {
		ln, err = have[i].local.Again(opt)
	} else {
		ln, err = localsock.Listen(ctx, opt)
	}
	if err != nil {
		return listening{}, err
	}
	proxies := friends{ln}
	return listening{
		endpoint: e, local: ln, close: ln.Close,
		serve: func() {
			if err := ln.Restrict(); err != nil {
				d.log.Warn("the socket of DoH stays as it was", "path", e.socket, "error", err)
			}
			d.secure.doh.Add(proxies, false)
		},
		stop: func(context.Context) error { return d.secure.doh.Remove(proxies) },
	}, nil
}

// friends is a socket on which nobody is heard who may not use it, should he have
// come to it all the same.
type friends struct{ *localsock.Listener }

// Accept implements [net.Listener].
func (f friends) Accept() (net.Conn, error) {
	for {
		c, err := f.Listener.Accept()
		if err != nil || localsock.Admitted(localsock.WithPeer(context.Background(), c)) {
			return c, err
		}
		_ = c.Close() // nothing was said on it
	}
}

// bindQUIC binds an endpoint of DoQ or DoH3: one socket, for clients may move, and
// the kernel would take them to another one.
func (d *Daemon) bindQUIC(ctx context.Context, e endpoint, proxies *transport.Proxies, cfg *config.Config) (listening, error) {
	s := &d.secure
	conns, err := d.passed.ListenUDP(ctx, e.binding(cfg), e.at, 1)
	if err != nil {
		return listening{}, err
	}
	socket := conns[0]
	if err := closeAll(conns[1:]); err != nil { // those of an endpoint for UDP that was there before
		return listening{}, errors.Join(err, socket.Close())
	}
	conns = conns[:1]
	if err := d.tune(conns, cfg.UDP); err != nil {
		return listening{}, errors.Join(err, socket.Close())
	}
	l := listening{
		endpoint: e, proxies: proxies, sockets: rawConns(conns), close: socket.Close,
		tune:  func(cfg config.UDP) error { return d.tune(conns, cfg) },
		serve: func() { s.doq.Add(socket) },
		stop:  func(ctx context.Context) error { return s.doq.Remove(ctx, socket) },
	}
	if e.proto == config.ProtocolDoH3 {
		l.serve = func() { s.doh3.Add(socket) }
		l.stop = func(ctx context.Context) error { return s.doh3.Remove(ctx, socket) }
	}
	return l, nil
}
