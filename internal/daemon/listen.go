package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"syscall"

	"shirube/internal/config"
	"shirube/internal/localsock"
	"shirube/internal/netx"
	"shirube/transport"
)

// endpoint is where clients are listened to: at an address, or on a unix socket.
type endpoint struct {
	at    netip.AddrPort
	proto config.Protocol

	socket, group string // path, and who may use it; "": it is an address
}

// where returns the address, or the path.
func (e endpoint) where() string {
	if e.socket != "" {
		return e.socket
	}
	return e.at.String()
}

// String returns e as the control socket and the log have it.
func (e endpoint) String() string { return fmt.Sprintf("%s/%s", e.where(), e.proto) }

// MarshalText is for the log as JSON, which knows no String.
func (e endpoint) MarshalText() ([]byte, error) { return []byte(e.String()), nil }

// endpoints lists where cfg has clients listened to.
func endpoints(cfg *config.Config) []endpoint {
	var list []endpoint
	for _, l := range cfg.Listen {
		for _, proto := range l.Protocols {
			list = append(list, endpoint{at: l.Address, proto: proto})
		}
	}
	if cfg.DoH.Socket != "" {
		list = append(list, endpoint{proto: config.ProtocolDoHCleartext, socket: cfg.DoH.Socket, group: cfg.DoH.Group})
	}
	return list
}

// behind returns the proxies that clients come to e by; none: they come themselves.
func (e endpoint) behind(cfg *config.Config) (from []netip.Prefix, insideTLS bool) {
	for _, l := range cfg.Listen {
		if l.Address == e.at && slices.Contains(l.Protocols, e.proto) {
			return l.ProxyProtocol.From, l.ProxyProtocol.InsideTLS
		}
	}
	return nil, false
}

// binding returns how the address of e is bound.
func (e endpoint) binding(cfg *config.Config) netx.Binding {
	return netx.Binding{Free: slices.ContainsFunc(cfg.Listen, func(l config.Listener) bool {
		return l.Freebind && l.Address == e.at && slices.Contains(l.Protocols, e.proto)
	})}
}

// listening is an endpoint that was bound. Until serve is called nobody has its
// sockets but who opened it: then close closes them. After serve a transport has
// them, and stop has it serve there no more, as far as ctx allows.
type listening struct {
	endpoint
	proxies *transport.Proxies
	sockets []syscall.Conn             // for the process after this one
	local   *localsock.Listener        // nil: it is at an address
	tune    func(cfg config.UDP) error // nil: it is not of UDP
	serve   func()
	stop    func(ctx context.Context) error
	close   func() error
}

// opened are endpoints that were bound, and are not served yet.
type opened []listening

// close closes all of them.
func (o opened) close() {
	for _, l := range o {
		_ = l.close() // nobody was served there
	}
}

// open binds the endpoints of cfg that are not in have. After an error nothing
// of that stays bound.
func (d *Daemon) open(ctx context.Context, cfg *config.Config, have []listening) (opened, error) {
	var o opened
	for _, e := range endpoints(cfg) {
		if slices.ContainsFunc(have, func(l listening) bool { return l.endpoint == e }) {
			continue
		}
		if e.socket != "" && d.next.heir != nil {
			continue // the server before has it: see succeed
		}
		l, err := d.bind(ctx, e, cfg, have)
		if err != nil {
			o.close()
			return nil, inTheWay(err, e, have)
		}
		o = append(o, l)
	}
	return o, nil
}

// inTheWay adds to err, from binding e, that it is this server itself that has the
// port, on all addresses where e is for one or the other way round.
func inTheWay(err error, e endpoint, have []listening) error {
	if !errors.Is(err, syscall.EADDRINUSE) || e.socket != "" {
		return err
	}
	for _, l := range have {
		if l.socket == "" && l.at.Port() == e.at.Port() && l.at.Addr().Is4() == e.at.Addr().Is4() && l.at.Addr().IsUnspecified() != e.at.Addr().IsUnspecified() {
			return fmt.Errorf("%w; this server itself listens on %s: a change between one address and all of them needs a restart", err, l.endpoint)
		}
	}
	return err
}

// bind binds one endpoint, besides those in have.
func (d *Daemon) bind(ctx context.Context, e endpoint, cfg *config.Config, have []listening) (listening, error) {
	if e.socket != "" {
		return d.bindSocket(ctx, e, have)
	}
	proxies, err := transport.NewProxies(e.behind(cfg))
	if err != nil {
		return listening{}, fmt.Errorf("listen on %s: %w", e, err)
	}
	switch e.proto {
	case config.ProtocolUDP:
		return d.bindUDP(ctx, e, proxies, cfg)
	case config.ProtocolTCP:
		return d.bindTCP(ctx, e, proxies, cfg)
	case config.ProtocolDoT, config.ProtocolDoH, config.ProtocolDoHCleartext:
		return d.bindStream(ctx, e, proxies, cfg)
	case config.ProtocolDoQ, config.ProtocolDoH3:
		return d.bindQUIC(ctx, e, proxies, cfg)
	}
	return listening{}, fmt.Errorf("listen on %s: no such protocol", e)
}

func (d *Daemon) bindUDP(ctx context.Context, e endpoint, proxies *transport.Proxies, cfg *config.Config) (listening, error) {
	conns, err := d.passed.ListenUDP(ctx, e.binding(cfg), e.at, readers(cfg))
	if err != nil {
		return listening{}, err
	}
	l := listening{
		endpoint: e,
		proxies:  proxies,
		sockets:  rawConns(conns),
		tune:     func(cfg config.UDP) error { return d.tune(conns, cfg) },
		serve:    func() { d.udp.AddBehind(proxies, conns...) },
		stop:     func(ctx context.Context) error { return d.udp.Remove(ctx, conns...) },
		close:    func() error { return closeAll(conns) },
	}
	if err := l.tune(cfg.UDP); err != nil {
		return listening{}, errors.Join(err, l.close())
	}
	return l, nil
}

func (d *Daemon) bindTCP(ctx context.Context, e endpoint, proxies *transport.Proxies, cfg *config.Config) (listening, error) {
	tcp, err := d.passed.ListenTCP(ctx, e.binding(cfg), e.at)
	if err != nil {
		return listening{}, err
	}
	ln := proxies.Listener(tcp)
	return listening{
		endpoint: e,
		proxies:  proxies,
		sockets:  []syscall.Conn{tcp},
		serve:    func() { d.tcp.Add(ln) },
		stop:     func(context.Context) error { return d.tcp.Remove(ln) },
		close:    ln.Close,
	}, nil
}

func rawConns(conns []*net.UDPConn) []syscall.Conn {
	raw := make([]syscall.Conn, len(conns))
	for i, c := range conns {
		raw[i] = c
	}
	return raw
}

func closeAll(conns []*net.UDPConn) (err error) {
	for _, c := range conns {
		err = errors.Join(err, c.Close())
	}
	return err
}

// readers returns how many sockets each UDP address gets.
func readers(cfg *config.Config) int {
	if n := cfg.Limits.UDPReaders; n > 0 {
		return n
	}
	return runtime.GOMAXPROCS(0)
}

// listen serves what was opened. The caller holds reloading.
func (d *Daemon) listen(o opened) {
	d.store(o)
	for _, l := range o {
		l.serve()
	}
	d.listening = append(d.listening, o...)
	d.setWhere()
}

// setWhere tells who wants to know where clients are listened to. The caller holds
// reloading.
func (d *Daemon) setWhere() {
	d.control.setWhere(d.listening)
	d.current.reach.listen(d.where())
}

// rebehind has the endpoints that cfg has too go by its proxies. The caller holds
// reloading.
func (d *Daemon) rebehind(cfg *config.Config) {
	wanted := endpoints(cfg)
	for _, l := range d.listening {
		if l.proxies == nil || !slices.Contains(wanted, l.endpoint) {
			continue // it hears nobody else in what is left of its time
		}
		if err := l.proxies.Replace(l.behind(cfg)); err != nil {
			d.log.Warn("the proxies of a listener stay as they were", "listen", l.endpoint, "error", err) // the configuration has no such
		}
	}
}

// unlisten serves no more on what cfg does not have. The caller holds reloading.
func (d *Daemon) unlisten(ctx context.Context, cfg *config.Config) {
	wanted := endpoints(cfg)
	d.listening = slices.DeleteFunc(d.listening, func(l listening) bool {
		if slices.Contains(wanted, l.endpoint) {
			return false
		}
		d.unstore(l)
		if err := l.stop(ctx); err != nil {
			d.log.Warn("a listener did not end in order", "listen", l.endpoint, "error", err)
		}
		return true
	})
	d.setWhere()
}
