package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/simnet"
	"shirube/internal/wire"
)

// The limits of one server.
const (
	maxConns    = 64               // TCP connections at once; one more is closed on arrival
	maxQueryLen = 4096             // octets; over TCP a longer one ends the connection
	idleTimeout = 10 * time.Second // of a TCP connection (RFC 7766 §6.2.3)
)

// server is one address of the lab.
type server struct {
	at        netip.AddrPort
	authority *simnet.Server // nil: silent
	log       *slog.Logger
	udp       *net.UDPConn
	tcp       net.Listener

	mu     sync.Mutex
	conns  map[net.Conn]struct{} // at most maxConns
	closed bool
}

// start serves UDP and TCP until close, on goroutines that running counts: one
// for each, and one for each of at most maxConns connections.
func (s *server) start(running *sync.WaitGroup) {
	running.Go(s.serveUDP)                     // ends when close closes s.udp
	running.Go(func() { s.serveTCP(running) }) // ends when close closes s.tcp
}

// close closes all sockets, which ends every goroutine of s.
func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	s.udp.Close()
	s.tcp.Close()
	for c := range s.conns {
		c.Close()
	}
}

// serveUDP answers one datagram after the other.
func (s *server) serveUDP() {
	in, out := make([]byte, maxQueryLen), make([]byte, wire.MaxMsgSize)
	for {
		n, client, err := s.udp.ReadFromUDPAddrPort(in)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // an ICMP error for an earlier response
			continue
		}
		if resp := s.respond(out, in[:n], wire.UDP); resp != nil {
			if _, err := s.udp.WriteToUDPAddrPort(resp, client); err != nil {
				s.log.Debug("response not sent", "server", s.at, "client", client, "error", err)
			}
		}
	}
}

// serveTCP accepts connections.
func (s *server) serveTCP(running *sync.WaitGroup) {
	for {
		c, err := s.tcp.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // the client has gone, or descriptors have run out
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if s.admit(c) {
			running.Go(func() { // one of at most maxConns; ends when the client or close ends c, or it idles
				defer s.forget(c)
				s.serveConn(c)
			})
		}
	}
}

// admit takes c into the connections that close closes, or closes it.
func (s *server) admit(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.conns) == maxConns {
		c.Close()
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *server) forget(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	c.Close()
}

// serveConn answers the queries of one connection in their order, until it
// ends, idles, or brings what is no query.
func (s *server) serveConn(c net.Conn) {
	in, out := make([]byte, maxQueryLen), make([]byte, 2+wire.MaxMsgSize)
	for {
		if c.SetDeadline(time.Now().Add(idleTimeout)) != nil {
			return
		}
		if _, err := io.ReadFull(c, in[:2]); err != nil { // RFC 1035 §4.2.2: two octets of length
			return
		}
		n := int(binary.BigEndian.Uint16(in))
		if n > len(in) {
			return
		}
		if _, err := io.ReadFull(c, in[:n]); err != nil {
			return
		}
		resp := s.respond(out[2:], in[:n], wire.TCP)
		if resp == nil {
			continue
		}
		binary.BigEndian.PutUint16(out, uint16(len(resp)))
		if _, err := c.Write(out[:2+len(resp)]); err != nil {
			return
		}
	}
}

// respond returns the response to msg, made in buf, or nil for none.
func (s *server) respond(buf, msg []byte, proto wire.Proto) []byte {
	const qr = 0x80 // in octet 2
	if s.authority == nil || len(msg) < wire.HeaderLen || msg[2]&qr != 0 {
		return nil
	}
	query := new(dns.Msg)
	if query.Unpack(msg) != nil {
		return failure(buf, msg, wire.FormErr)
	}
	if ctx := context.Background(); s.log.Enabled(ctx, slog.LevelDebug) && len(query.Question) > 0 {
		s.log.Debug("query", "server", s.at, "transport", proto.String(), "question", query.Question[0].String())
	}
	m := s.authority.Answer(query)
	if proto == wire.UDP {
		size := wire.MinUDPSize
		if opt := query.IsEdns0(); opt != nil {
			size = min(int(opt.UDPSize()), simnet.UDPSize)
		}
		m.Truncate(size) // which takes less than 512 for 512 (RFC 6891 §6.2.5)
	}
	resp, err := m.PackBuffer(buf)
	if err != nil {
		s.log.Error("response cannot be packed", "server", s.at, "error", err)
		return failure(buf, msg, wire.ServFail)
	}
	return resp
}

// failure returns a bare header with rcode, without RA: nobody recurses here.
func failure(buf, msg []byte, rcode wire.Rcode) []byte {
	const ra = 0x80 // in octet 3
	resp := wire.AppendHeader(buf[:0], msg, rcode)
	resp[3] &^= ra
	return resp
}
