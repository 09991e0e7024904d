package upstream

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/exchange"
	"shirube/internal/wire"
)

// patience is how long a test waits for what has to happen: it is never waited out by
// a test that passes.
const patience = 30 * time.Second

// datagram is one query as a test's server got it, and the way back.
type datagram struct {
	query []byte
	from  netip.AddrPort
	conn  *net.UDPConn
}

// reply sends b to who asked, who notices when it does not arrive.
func (d datagram) reply(b []byte) { _, _ = d.conn.WriteToUDPAddrPort(b, d.from) }

// write sends b, also to who has gone.
func write(conn net.Conn, b []byte) { _, _ = conn.Write(b) }

// replies makes a server that sends what each function makes of the query, in
// order.
func replies(made ...func(query []byte) []byte) func(datagram) {
	return func(d datagram) {
		for _, f := range made {
			d.reply(f(d.query))
		}
	}
}

// serveUDP serves datagrams on a loopback address until the test ends.
func serveUDP(t testing.TB, host string, handle func(datagram)) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(host), 0)))
	if err != nil {
		t.Fatal(err)
	}
	return serveConn(t, conn, handle)
}

func serveConn(t testing.TB, conn *net.UDPConn, handle func(datagram)) netip.AddrPort {
	var done sync.WaitGroup
	done.Go(func() { // ends when the test closes the socket
		buf := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			handle(datagram{query: append([]byte(nil), buf[:n]...), from: from, conn: conn})
		}
	})
	t.Cleanup(func() { conn.Close(); done.Wait() })
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// serveTCP serves connections on a loopback address until the test ends. Each is
// closed when handle returns, and by the end of the test.
func serveTCP(t testing.TB, host string, handle func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(host), 0)))
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var conns []net.Conn
	var done sync.WaitGroup
	done.Go(func() { // ends when the test closes the listener
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			done.Go(func() { // ends when the test closes the connection
				defer conn.Close()
				handle(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		done.Wait()
	})
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// serveBoth serves both on one port.
func serveBoth(t testing.TB, udp func(datagram), tcp func(net.Conn)) netip.AddrPort {
	t.Helper()
	for range 20 {
		addr := serveTCP(t, "127.0.0.1", tcp)
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
		if err == nil {
			return serveConn(t, conn, udp)
		}
	}
	t.Fatal("no port is free for UDP and TCP")
	return netip.AddrPort{}
}

// readQuery reads one framed message.
func readQuery(conn net.Conn) []byte {
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil
	}
	msg := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, msg); err != nil {
		return nil
	}
	return msg
}

// frame puts msg behind its length.
func frame(msg []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...)
}

// repliesTCP makes a server that answers one query with what f makes of it.
func repliesTCP(f func(query []byte) []byte) func(net.Conn) {
	return func(conn net.Conn) {
		if q := readQuery(conn); q != nil {
			write(conn, frame(f(q)))
		}
	}
}

// silentTCP accepts, and says nothing until the client goes away.
func silentTCP(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }

const goodAddr, badAddr = "192.0.2.1", "203.0.113.66"

// answerWith makes a function that answers a query with an A record.
func answerWith(addr string, edits ...func(*dns.Msg)) func(query []byte) []byte {
	return func(query []byte) []byte {
		var q, m dns.Msg
		if err := q.Unpack(query); err != nil {
			panic(err)
		}
		m.SetReply(&q)
		m.Answer = []dns.RR{&dns.A{
			Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 300},
			A:   net.ParseIP(addr),
		}}
		for _, edit := range edits {
			edit(&m)
		}
		b, err := m.Pack()
		if err != nil {
			panic(err)
		}
		return b
	}
}

// good is the answer that tests wait for, bad the one that must not win.
var (
	good = answerWith(goodAddr)
	bad  = answerWith(badAddr)
)

// edited makes a function that changes the bytes that f made.
func edited(f func([]byte) []byte, edit func(b []byte) []byte) func([]byte) []byte {
	return func(query []byte) []byte { return edit(f(query)) }
}

func newClient(t testing.TB, o Options) *Client {
	t.Helper()
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

var question = wire.Question{Name: wire.MustParseName("www.example."), Type: wire.TypeA}

// request returns a request to server that waits long enough for a loaded
// machine.
func request(server netip.AddrPort) exchange.Request {
	return exchange.Request{Server: server, Question: question, Timeout: patience}
}

// exchangeOK asks, and fails the test unless the good answer comes back.
func exchangeOK(t testing.TB, c *Client, req exchange.Request) exchange.Response {
	t.Helper()
	resp, err := c.Exchange(context.Background(), req)
	if err != nil {
		t.Fatalf("Exchange: %v; %+v", err, c.Stats())
	}
	if len(resp.Msg.Answer) != 1 {
		t.Fatalf("answer is\n%v", resp.Msg)
	}
	if a, ok := resp.Msg.Answer[0].(*dns.A); !ok || a.A.String() != goodAddr {
		t.Fatalf("accepted %v", resp.Msg.Answer[0])
	}
	if n := c.Stats().InFlight; n != 0 {
		t.Fatalf("%d exchanges under way after the only one", n)
	}
	return resp
}
