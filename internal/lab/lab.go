// Package lab is a small Internet on loopback: a root, five top-level domains,
// two hundred zones below them, and the servers of all that, good and bad. It
// is for tests, the demo and benchmarks.
//
// The servers have addresses in 127.53.0.0/16, by the third octet: 0 the root,
// 1 the TLDs, 2 the providers that serve the zones, 3 a server that refuses
// everything (127.53.3.1) and one that never answers (127.53.3.2). One server
// of the root, of shima. and of a provider is at ::1 as well, the only IPv6
// address that loopback has. They all listen on one port, over UDP and TCP. A
// loopback interface that takes the whole of 127.0.0.0/8 is needed, as Linux
// has.
//
// What the zones hold is decided by a seed, and always the same for the same.
package lab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"

	"shirube/internal/simnet"
)

// DefaultPort is the port that is tried first.
const DefaultPort = 5300

// maxPorts is how many ports are tried, from [DefaultPort] upwards.
const maxPorts = 100

// Options says what lab to start.
type Options struct {
	Seed   uint64       // what the zones hold follows from it
	Port   uint16       // 0: the first from DefaultPort on that is free at every address
	Signed bool         // as NewSignedWorld makes it
	Log    *slog.Logger // nil: none. Queries are logged at the level debug
}

// Lab is a running lab.
type Lab struct {
	*World

	port    uint16
	log     *slog.Logger
	servers []*server
	stop    func() bool    // lets go of the context
	running sync.WaitGroup // every goroutine of the servers
}

// Start starts a lab, which runs until Close is called or ctx is done. The
// errors are the context's and those of listening. Where there is no IPv6 it goes without, and
// says so in the log.
func Start(ctx context.Context, o Options) (*Lab, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l := &Lab{World: newWorld(o.Seed, o.Signed), log: o.Log}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	authorities, err := l.World.servers()
	if err != nil {
		return nil, err
	}
	authorities[silentAddr()] = nil
	if err := l.listen(ctx, o.Port, authorities); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	for _, s := range l.servers {
		s.start(&l.running)
	}
	l.stop = context.AfterFunc(ctx, l.closeServers)
	l.log.Info("lab listens", "port", l.port, "addresses", len(l.servers), "zones", len(l.zones))
	return l, nil
}

// Port returns the port that the servers listen on.
func (l *Lab) Port() uint16 { return l.port }

// Close stops the servers, and waits until they have. It may be called more
// than once.
func (l *Lab) Close() {
	l.stop()
	l.closeServers()
	l.running.Wait()
}

func (l *Lab) closeServers() {
	for _, s := range l.servers {
		s.close()
	}
}

// listen opens the sockets of all servers on one port. The test whether a port
// is free is to take it: labs that start at the same time get different ones.
func (l *Lab) listen(ctx context.Context, port uint16, authorities map[netip.Addr]*simnet.Server) error {
	first, tries := port, 1
	if port == 0 {
		first, tries = DefaultPort, maxPorts
	}
	var err error
	for i := range tries {
		l.port = first + uint16(i)
		if err = l.listenOn(ctx, authorities); !errors.Is(err, syscall.EADDRINUSE) {
			return err
		}
	}
	return err
}

// listenOn opens the sockets of all servers on l.port, or none.
func (l *Lab) listenOn(ctx context.Context, authorities map[netip.Addr]*simnet.Server) error {
	for _, addr := range slices.SortedFunc(maps.Keys(authorities), netip.Addr.Compare) {
		s, err := listen(ctx, netip.AddrPortFrom(addr, l.port), authorities[addr], l.log)
		if addr.Is6() && noIPv6(err) {
			l.log.Warn("no IPv6 on loopback: the lab goes without", "error", err)
			continue
		}
		if err != nil {
			l.closeServers()
			l.servers = nil
			return err
		}
		l.servers = append(l.servers, s)
	}
	return nil
}

// noIPv6 reports whether err says that the host has no IPv6, or not at ::1.
func noIPv6(err error) bool {
	return errors.Is(err, syscall.EAFNOSUPPORT) || errors.Is(err, syscall.EADDRNOTAVAIL)
}

// listen opens the sockets of one server.
func listen(ctx context.Context, at netip.AddrPort, a *simnet.Server, log *slog.Logger) (*server, error) {
	var lc net.ListenConfig
	pc, err := lc.ListenPacket(ctx, "udp", at.String())
	if err != nil {
		return nil, err
	}
	udp, ok := pc.(*net.UDPConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("UDP socket of type %T", pc), pc.Close())
	}
	tcp, err := lc.Listen(ctx, "tcp", at.String())
	if err != nil {
		return nil, errors.Join(err, udp.Close())
	}
	return &server{
		at: at, authority: a, log: log, udp: udp, tcp: tcp, conns: make(map[net.Conn]struct{}),
	}, nil
}
