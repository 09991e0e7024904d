package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/exchange"
	"shirube/internal/porttest"
)

func TestExchangeOverTCPReturnsTheAnswerOverBothFamilies(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		c := newClient(t, Options{})
		req := request(serveTCP(t, host, repliesTCP(good)))
		req.TCP = true
		resp := exchangeOK(t, c, req)
		if got := c.Stats(); !resp.TCP || resp.RTT <= 0 || got.UDP != (Sent{}) || got.TCP.IPv4+got.TCP.IPv6 != 1 || got.Received != 1 {
			t.Errorf("%s: %+v, %+v", host, resp, got)
		}
	}
}

func TestExchangeOverTCPReadsTheLongestMessage(t *testing.T) {
	long := answerWith(goodAddr, func(m *dns.Msg) {
		for range 250 {
			m.Extra = append(m.Extra, &dns.TXT{
				Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeTXT, Class: dns.ClassINET},
				Txt: []string{string(bytes.Repeat([]byte("x"), 240))},
			})
		}
	})
	c := newClient(t, Options{})
	req := request(serveTCP(t, "127.0.0.1", repliesTCP(edited(long, func(b []byte) []byte {
		return append(b, make([]byte, 65535-len(b))...)
	}))))
	req.TCP = true
	resp := exchangeOK(t, c, req)
	if resp.Size != 2+65535 || len(resp.Msg.Extra) != 250 {
		t.Errorf("Size %d, %d records", resp.Size, len(resp.Msg.Extra))
	}
}

// rawTCP makes a server that sends b behind a query and closes.
func rawTCP(f func(query []byte) []byte) func(net.Conn) {
	return func(conn net.Conn) {
		if q := readQuery(conn); q != nil {
			write(conn, f(q))
		}
	}
}

func TestExchangeOverTCPRefusesBadFrames(t *testing.T) {
	for name, f := range map[string]func([]byte) []byte{
		"no octets long":   func([]byte) []byte { return []byte{0, 0} },
		"eleven long":      func(q []byte) []byte { return frame(good(q)[:11]) },
		"half a length":    func([]byte) []byte { return []byte{0} },
		"length alone":     func([]byte) []byte { return []byte{0, 60} },
		"half a message":   func(q []byte) []byte { b := frame(good(q)); return b[:len(b)/2] },
		"less one octet":   func(q []byte) []byte { b := frame(good(q)); return b[:len(b)-1] },
		"wrong ID":         func(q []byte) []byte { return frame(octets(1, 1)(q)) },
		"other question":   func(q []byte) []byte { return frame(octets(13, 1)(q)) },
		"a query":          func(q []byte) []byte { return frame(q) },
		"truncated":        func(q []byte) []byte { return frame(octets(2, 2)(q)) },
		"cut in a record":  func(q []byte) []byte { b := good(q); return frame(b[:len(b)-2]) },
		"64 KiB of zeroes": func(q []byte) []byte { return frame(append(q[:2:2], make([]byte, 65533)...)) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newClient(t, Options{})
			req := request(serveTCP(t, "127.0.0.1", rawTCP(f)))
			req.TCP = true
			resp, err := c.Exchange(context.Background(), req)
			if !errors.Is(err, exchange.ErrMalformed) || resp.Msg != nil || resp.Size == 0 {
				t.Errorf("%+v, %v", resp, err)
			}
			if got := c.Stats(); got.Malformed != 1 || got.Octets != uint64(resp.Size) {
				t.Errorf("Stats are %+v, Size %d", got, resp.Size)
			}
		})
	}
}

func TestExchangeOverTCPReportsAConnectionClosedWithoutAnAnswer(t *testing.T) {
	c := newClient(t, Options{})
	req := request(serveTCP(t, "127.0.0.1", func(conn net.Conn) { readQuery(conn) }))
	req.TCP = true
	if _, err := c.Exchange(context.Background(), req); !errors.Is(err, io.EOF) || errors.Is(err, exchange.ErrMalformed) {
		t.Errorf("error is %v", err)
	}
	if got := c.Stats().Errors; got != (Errors{Closed: 1}) {
		t.Errorf("Errors are %+v", got)
	}
}

func TestExchangeOverTCPReportsARefusedConnection(t *testing.T) {
	req := request(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), porttest.Take(t))) // where nobody listens
	req.TCP = true
	c := newClient(t, Options{})
	if _, err := c.Exchange(context.Background(), req); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("error is %v", err)
	}
	if got := c.Stats(); got.Errors != (Errors{Refused: 1}) || got.TCP != (Sent{}) {
		t.Errorf("Stats are %+v", got)
	}
}

func TestExchangeOverTCPTimesOutToConnect(t *testing.T) {
	// A listener that never accepts, and whose queue is full, answers no SYN.
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	server := (&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: sa.(*syscall.SockaddrInet4).Port}).AddrPort()
	queued, err := net.DialTimeout("tcp", server.String(), patience)
	if err != nil {
		t.Fatal(err)
	}
	defer queued.Close()

	c := newClient(t, Options{})
	req := request(server)
	req.TCP, req.Timeout = true, 60*time.Millisecond
	start := time.Now()
	_, err = c.Exchange(context.Background(), req)
	e, _ := errors.AsType[*Error](err)
	if !errors.Is(err, exchange.ErrTimeout) || e.Op != "connect" || time.Since(start) > patience/2 {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	if got := c.Stats(); got.Timeouts != 1 || got.TCP != (Sent{}) {
		t.Errorf("Stats are %+v", got)
	}
}

func TestExchangeOverTCPIsBoundedInTime(t *testing.T) {
	dribble := func(conn net.Conn) {
		q := readQuery(conn)
		for _, b := range frame(good(q)) {
			if _, err := conn.Write([]byte{b}); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	for name, handle := range map[string]func(net.Conn){
		"silent":    silentTCP,
		"dribbling": dribble,
		"half":      func(conn net.Conn) { b := frame(good(readQuery(conn))); write(conn, b[:20]); silentTCP(conn) },
	} {
		c := newClient(t, Options{TCPTimeout: 100 * time.Millisecond})
		req := request(serveTCP(t, "127.0.0.1", handle))
		req.TCP = true
		start := time.Now()
		_, err := c.Exchange(context.Background(), req)
		if took := time.Since(start); !errors.Is(err, exchange.ErrTimeout) || took < 90*time.Millisecond || took > patience {
			t.Errorf("%s: %v after %v", name, err, took)
		}
		if got := c.Stats(); got.Timeouts != 1 {
			t.Errorf("%s: Stats are %+v", name, got)
		}
	}
}

func TestExchangeOverTCPWritesOnce(t *testing.T) {
	first := make(chan []byte, 1)
	req := request(serveTCP(t, "127.0.0.1", func(conn net.Conn) {
		b := make([]byte, 4096)
		n, _ := conn.Read(b)
		first <- b[:n]
		write(conn, frame(good(b[2:n])))
	}))
	req.TCP = true
	exchangeOK(t, newClient(t, Options{}), req)
	if b := <-first; len(b) < 2 || int(b[0])<<8|int(b[1]) != len(b)-2 {
		t.Errorf("the first read got %x", b)
	}
}

func TestReadFrameTakesItInAnyPieces(t *testing.T) {
	msg := bytes.Repeat([]byte("0123456789abcdef"), 4000)
	for name, r := range map[string]io.Reader{
		"whole": bytes.NewReader(frame(msg)),
		"bytes": iotest.OneByteReader(bytes.NewReader(frame(msg))),
		"EOF":   iotest.DataErrReader(bytes.NewReader(frame(msg))),
	} {
		got, err := readFrame(bufio.NewReaderSize(r, firstRead))
		if err != nil || !bytes.Equal(got, msg) {
			t.Errorf("%s: %d octets, %v", name, len(got), err)
		}
	}
}

func TestReadFrameClaimsMemoryAsOctetsArrive(t *testing.T) {
	in := append([]byte{0xFF, 0xFF}, make([]byte, 100)...) // 65,535 announced
	r := bufio.NewReaderSize(nil, firstRead)
	var before, after runtime.MemStats
	const rounds = 100
	runtime.ReadMemStats(&before)
	for range rounds {
		r.Reset(bytes.NewReader(in))
		if _, err := readFrame(r); !errors.Is(err, exchange.ErrMalformed) {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if got := (after.TotalAlloc - before.TotalAlloc) / rounds; got > 2*firstRead {
		t.Errorf("%d octets of memory for 102 received", got)
	}
}
