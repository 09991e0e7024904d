package rpl

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"shirube/internal/exchange"
	"shirube/internal/netx"
	"shirube/internal/wire"
)

const (
	// A server from which nothing comes for so many moments is taken to wait for
	// the clock or for a step, and one that never rests is not waited for after
	// maxMoments. They are counted, because on a busy machine all take longer.
	moment       = 3 * time.Millisecond
	quietMoments = 10
	maxMoments   = 300
	// holdFor is how long a query is held: longer than a resolver waits.
	holdFor = 15 * time.Second
	// maxBusy is the longest TIME_PASSES that is waited for when queries are
	// under way, who have timers that no file moves.
	maxBusy = 10 * time.Second
)

// Sockets is a [World] behind real sockets: port 53, over UDP and TCP, of every
// address there is. It needs a network of its own, in which every address is
// local.
type Sockets struct {
	world *World
	udp   []*net.UDPConn
	tcp   []*net.TCPListener
	wg    sync.WaitGroup
	ctx   context.Context // ends with Close
	end   context.CancelFunc
	moves atomic.Uint64 // messages in either direction
}

// Listen opens the sockets of world. Close has to be called at the end.
func Listen(world *World) (*Sockets, error) {
	s := &Sockets{world: world}
	s.ctx, s.end = context.WithCancel(context.Background())
	for _, any := range [...]netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()} {
		at := netip.AddrPortFrom(any, 53)
		udp, err := netx.ListenUDP(s.ctx, at, 1)
		s.udp = append(s.udp, udp...)
		if err == nil && any.Is6() { // or no reply could leave from what is no interface's own
			err = freely(udp[0])
		}
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		tcp, err := netx.ListenTCP(s.ctx, at)
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		s.tcp = append(s.tcp, tcp)
	}
	// Owner: s. End: Close, which closes what they read from. Bound: two for
	// each family.
	for _, c := range s.udp {
		s.wg.Go(func() { s.readUDP(c) })
	}
	for _, l := range s.tcp {
		s.wg.Go(func() { s.acceptTCP(l) })
	}
	return s, nil
}

// Close ends all that Listen began.
func (s *Sockets) Close() (err error) {
	s.end()
	for _, c := range s.udp {
		err = errors.Join(err, c.Close())
	}
	for _, l := range s.tcp {
		err = errors.Join(err, l.Close())
	}
	s.wg.Wait()
	return err
}

// freely lets a socket use addresses that no interface has.
func freely(c syscall.Conn) error {
	rc, err := c.SyscallConn()
	if err != nil {
		return err
	}
	return freelyRaw("", "", rc)
}

// freelyRaw is freely as [net.Dialer] calls it.
func freelyRaw(_, _ string, rc syscall.RawConn) (err error) {
	ctlErr := rc.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1) })
	return errors.Join(ctlErr, err)
}

// readUDP serves the queries that come to c until it is closed.
func (s *Sockets) readUDP(c *net.UDPConn) {
	buf, control := make([]byte, wire.MaxMsgSize), make([]byte, netx.ControlSize)
	for {
		n, nc, _, from, err := c.ReadMsgUDPAddrPort(buf, control)
		if err != nil {
			return
		}
		info := netx.ParsePacketInfo(control[:nc])
		query := new(dns.Msg)
		if query.Unpack(buf[:n]) != nil {
			continue
		}
		// Owner: s. End: serve's. Bound: MaxQueries.
		s.wg.Go(func() {
			if out := s.serve(s.ctx, info.Local, query, false); out != nil {
				_, _, _ = c.WriteMsgUDPAddrPort(out, info.AppendControl(nil), from) // a datagram may be lost
			}
		})
	}
}

// acceptTCP serves the connections that come to l until it is closed.
func (s *Sockets) acceptTCP(l *net.TCPListener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		// Owner: s. End: its peer's, or Close. Bound: what the resolver opens.
		s.wg.Go(func() { s.serveTCP(c) })
	}
}

// serveTCP serves the queries of one connection.
func (s *Sockets) serveTCP(c net.Conn) {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = c.Close() })()
	var write sync.Mutex
	for {
		query, err := readTCP(c)
		if err != nil {
			_ = c.Close()
			return
		}
		m := new(dns.Msg)
		if m.Unpack(query) != nil {
			continue
		}
		// Owner: s. End: serve's. Bound: MaxQueries.
		s.wg.Go(func() {
			out := s.serve(ctx, c.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap(), m, true)
			write.Lock()
			defer write.Unlock()
			if out == nil || writeTCP(c, out) != nil {
				_ = c.Close()
			}
		})
	}
}

// readTCP reads one message (RFC 1035 §4.2.2).
func readTCP(r io.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	msg := make([]byte, binary.BigEndian.Uint16(length[:]))
	_, err := io.ReadFull(r, msg)
	return msg, err
}

func writeTCP(w io.Writer, msg []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...))
	return err
}

// serve returns what the server at addr answers; nil for nothing.
func (s *Sockets) serve(ctx context.Context, addr netip.Addr, query *dns.Msg, tcp bool) []byte {
	s.moves.Add(1)
	defer s.moves.Add(1)
	name, err := wire.ParseName(first(query).Name)
	if err != nil {
		return nil
	}
	h, err := s.world.accept(exchange.Request{
		Server:   netip.AddrPortFrom(addr, 53),
		Question: wire.Question{Name: name, Type: wire.Type(first(query).Qtype)},
		TCP:      tcp, Bare: query.IsEdns0() == nil, RD: query.RecursionDesired, CD: query.CheckingDisabled,
	}, query)
	if err != nil {
		return nil
	}
	defer s.world.release(h)
	held := time.NewTimer(holdFor)
	defer held.Stop()
	var f fate
	select {
	case f = <-h.answer:
	case <-held.C:
		return nil
	case <-ctx.Done():
		return nil
	}
	if f.err != nil || f.entry.Adjust.Silent || sleep(ctx, f.entry.Adjust.Sleep+f.entry.Packets[0].Sleep) != nil {
		return nil
	}
	out, err := s.world.wireForm(h, f)
	if err != nil {
		return nil
	}
	return out
}

// Server is a server that runs by itself, and asks a [World] behind [Sockets].
type Server struct {
	IPv4, IPv6 netip.AddrPort // where its clients ask it
	// Move moves the clock that it keeps data by ahead. Its timeouts go by the
	// real one.
	Move func(d time.Duration) error
}

// PlayServer plays sc to a server, whose resolver asks world, in real time. Its
// error names the step that does not hold, and why. What takes no time in
// [Play] takes some here. So CHECK_TIME allows for some; and CHECK_SENT for
// what a question that takes longer than expected is asked again, or of another
// server. It does not look at queries for the root's servers, which may be sent
// at the start or when they are needed.
func PlayServer(ctx context.Context, sc *Scenario, world *Sockets, server Server, opt Options) error {
	opt.setDefaults()
	opt.outside = true
	st := &outside{world: world, server: server, opt: opt}
	st.settle() // it may ask the root when it starts
	return play(ctx, sc, world.world, st, opt)
}

// outside is the stage for a server that runs by itself.
type outside struct {
	world  *Sockets
	server Server
	opt    Options
}

// settle waits until no message has come or gone for a while.
func (o *outside) settle() {
	moves, quiet := o.world.moves.Load(), 0
	for range maxMoments {
		time.Sleep(moment)
		quiet++
		if now := o.world.moves.Load(); now != moves {
			moves, quiet = now, 0
		}
		if quiet == quietMoments {
			return
		}
	}
}

// pass moves the server's clock. Queries under way are not moved by it: for
// them a short time really passes.
func (o *outside) pass(ctx context.Context, d time.Duration, under int) error {
	if under > 0 && d <= maxBusy {
		return sleep(ctx, d)
	}
	return o.server.Move(d)
}

// ask sends a query to the server over a socket.
func (o *outside) ask(ctx context.Context, msg []byte, from netip.AddrPort, tcp bool) ([]byte, error) {
	to, local := o.server.IPv4, netip.AddrPortFrom(from.Addr(), 0)
	if from.Addr().Is6() {
		to = o.server.IPv6
	}
	network, d := "udp", net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(local), Control: freelyRaw}
	if tcp {
		network, d.LocalAddr = "tcp", net.TCPAddrFromAddrPort(local)
	}
	c, err := d.DialContext(ctx, network, to.String())
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()                         // nothing is left in it
	defer context.AfterFunc(ctx, func() { _ = c.Close() })() // which ends the read
	if err := c.SetDeadline(time.Now().Add(o.opt.Timeout + answerSlack)); err != nil {
		return nil, err
	}
	o.world.moves.Add(1)
	defer o.world.moves.Add(1)
	out, err := transact(c, msg, tcp)
	if netErr, ok := errors.AsType[net.Error](err); ok && netErr.Timeout() || errors.Is(err, io.EOF) {
		return nil, errNoAnswer
	}
	return out, err
}

// transact sends a query and reads one answer.
func transact(c net.Conn, msg []byte, tcp bool) ([]byte, error) {
	if tcp {
		if err := writeTCP(c, msg); err != nil {
			return nil, err
		}
		return readTCP(c)
	}
	if _, err := c.Write(msg); err != nil {
		return nil, err
	}
	buf := make([]byte, wire.MaxMsgSize)
	n, err := c.Read(buf)
	return buf[:n], err
}
