package upstream

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"shirube/internal/exchange"
)

// benchServer answers every query with the reply to the first.
func benchServer(b *testing.B) netip.AddrPort {
	var reply []byte
	return serveUDP(b, "127.0.0.1", func(d datagram) {
		if reply == nil {
			reply = good(d.query)
		}
		copy(reply, d.query[:2])
		d.reply(reply)
	})
}

// BenchmarkExchange is one exchange over loopback, the server's part included.
func BenchmarkExchange(b *testing.B) {
	req := request(benchServer(b))
	c := newClient(b, Options{})
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	parallel(b, func() error {
		_, err := c.Exchange(ctx, req)
		return err
	})
}

// parallel runs ask from eight goroutines per core, and reports the CPU time it
// takes, which other programs disturb less than the time on the clock.
func parallel(b *testing.B, ask func() error) {
	cpu := func() int64 {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			b.Fatal(err)
		}
		return u.Utime.Nano() + u.Stime.Nano()
	}
	b.ReportAllocs()
	b.SetParallelism(8)
	before := cpu()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := ask(); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(cpu()-before)/float64(b.N), "cpu-ns/op")
}

// BenchmarkDialUDP is BenchmarkExchange with a socket of package net's: what
// the choice to make sockets by hand is measured against.
func BenchmarkDialUDP(b *testing.B) {
	req := request(benchServer(b))
	c := newClient(b, Options{})
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	parallel(b, func() error { return exchangeWithNet(ctx, c, req) })
}

func exchangeWithNet(ctx context.Context, c *Client, req exchange.Request) error {
	s := c.scratch.Get().(*scratch)
	defer c.scratch.Put(s)
	a := attempt{client: c, req: req, scratch: s}
	var conn *net.UDPConn
	var q query
	err := error(syscall.EADDRINUSE)
	for errors.Is(err, syscall.EADDRINUSE) {
		port, id := c.draw()
		q = s.build(draft{req: &req, id: id, ednsSize: c.opt.EDNSSize})
		conn, err = net.DialUDP("udp4", &net.UDPAddr{Port: int(port)}, net.UDPAddrFromAddrPort(req.Server))
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var setErr error
	if err := raw.Control(func(fd uintptr) {
		setErr = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT)
	}); err != nil || setErr != nil {
		return errors.Join(err, setErr)
	}
	if err := conn.SetDeadline(time.Now().Add(req.Timeout)); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(longAgo) })()
	if _, err := conn.Write(q.msg); err != nil {
		return err
	}
	r, _, err := a.await(receiverFunc(conn.Read), q)
	if err != nil {
		return err
	}
	_, err = parse(r.msg)
	return err
}

// BenchmarkParse is what an answer costs after it came.
func BenchmarkParse(b *testing.B) {
	req := exchange.Request{Question: question}
	msg := good(new(scratch).build(draft{req: &req, id: 1, ednsSize: 1232}).msg)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parse(msg); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkExchangeHardened is BenchmarkExchange with random case, and with a
// cookie each way.
func BenchmarkExchangeHardened(b *testing.B) {
	server := serveUDP(b, "127.0.0.1", func(d datagram) { d.reply(echoWithCookie(d.query)) })
	c := newClient(b, Options{CaseRandomisation: true, Cookies: true, TCPOnMismatch: true})
	req := request(server)
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	parallel(b, func() error {
		_, err := c.Exchange(ctx, req)
		return err
	})
	if got := c.Stats(); got.Cookies.Proven != got.Answers || got.TCP != (Sent{}) {
		b.Errorf("%+v", got)
	}
}

// echoWithCookie answers query with itself, without an answer and with a
// server cookie.
func echoWithCookie(query []byte) []byte {
	opt := 12 + len(question.Name) + 4
	client := query[opt+15 : opt+23]
	reply := append(make([]byte, 0, 128), query[:opt+9]...)
	reply[2] |= 0x80
	reply = append(reply, 0, 28, 0, 10, 0, 24)
	return append(append(reply, client...), theirs...)
}

// BenchmarkExchangeTCP is one exchange on a connection that eight goroutines per
// core share.
func BenchmarkExchangeTCP(b *testing.B) {
	s := serveTCPScript(b, func(_ int, conn net.Conn) {
		r := bufio.NewReader(conn)
		for {
			q, err := readFrame(r)
			if err != nil {
				return
			}
			write(conn, frame(good(q)))
		}
	})
	req := request(s.addr)
	req.TCP = true
	c := newClient(b, Options{})
	parallel(b, func() error {
		_, err := c.Exchange(b.Context(), req)
		return err
	})
}
