package upstream

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"shirube/internal/exchange"
	"shirube/internal/wire"
)

// tcp asks over TCP. When the server fails on what can only be an option of ours,
// it asks once more without.
func (a *attempt) tcp(ctx context.Context) (exchange.Response, error) {
	a.overTCP = true
	cookied := a.cookied()
	resp, again, err := a.stream(ctx)
	if !again {
		return resp, err
	}
	a.client.count.withoutCookie.Add(1)
	a.plain = true
	resp, _, err = a.stream(ctx)
	if cookied && err == nil && wire.Rcode(resp.Msg.Rcode) != formErr {
		a.learnShuns()
	}
	return resp, err
}

// stream asks on a connection of its own (RFC 7766 §5, §8). It reports whether to
// do so again without options.
//
// Nobody but the server can put a message into the connection, so the first one
// has to match: there is nobody to outwait.
func (a *attempt) stream(ctx context.Context) (resp exchange.Response, again bool, err error) {
	deadline := time.Now().Add(a.client.tcpTimeout)
	dialer := net.Dialer{Timeout: min(a.req.Timeout, a.client.tcpTimeout), KeepAlive: -1}
	conn, err := dialer.DialTCP(ctx, "tcp", netip.AddrPort{}, a.req.Server)
	if err != nil {
		return resp, false, a.fail(ctx, "connect", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(deadline); err != nil {
		return resp, false, a.fail(ctx, "send", err)
	}
	// One goroutine at most, of context's, that ends at once: it only moves the
	// deadline.
	defer context.AfterFunc(ctx, func() {
		conn.SetDeadline(longAgo) //nolint:errcheck // fails when closed, and is not needed then
	})()

	a.localTCP = conn.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	_, id := a.client.draw()
	q := a.scratch.build(a.draft(id, a.local))
	sent := time.Now()
	// Length and message in one segment (RFC 7766 §8).
	if _, err := conn.Write(a.scratch.out[:2+len(q.msg)]); err != nil {
		return resp, false, a.fail(ctx, "send", err)
	}
	a.sends++
	a.client.count.tcp[a.family()].Add(1)
	msg, err := readFrame(bufio.NewReaderSize(counting{conn, a}, firstRead))
	rtt := time.Since(sent)
	if errors.Is(err, exchange.ErrMalformed) {
		return resp, false, a.malformed(err)
	}
	if err != nil {
		return resp, false, a.fail(ctx, "receive", err)
	}
	return a.acceptTCP(q, msg, rtt)
}

// acceptTCP returns the response in msg, that came rtt after q was sent, or says
// that the server failed on an option of q's.
func (a *attempt) acceptTCP(q query, msg []byte, rtt time.Duration) (resp exchange.Response, again bool, err error) {
	a.client.count.received.Add(1)
	if v := q.judge(msg); v != matches {
		a.client.count.dropped[v].Add(1)
		return resp, false, a.malformed(errOtherAnswer)
	}
	if truncated(msg) {
		return resp, false, a.malformed(errTCPTruncated)
	}
	r := q.read(msg)
	if q.cookie != nil && r.malformed == nil && (r.proof == disproven || r.rcode() == badCookie || r.rcode() == formErr) {
		return resp, true, nil
	}
	a.learn(&q, &r)
	a.learnFromTCP(&q, &r)
	resp, err = a.answer(&r, rtt)
	return resp, false, err
}

// What makes a message over TCP no answer.
var (
	errOtherAnswer  = fmt.Errorf("%w: it answers something else", exchange.ErrMalformed)
	errTCPTruncated = fmt.Errorf("%w: truncated over TCP", exchange.ErrMalformed)
	errCutShort     = fmt.Errorf("%w: the connection ended within the message", exchange.ErrMalformed)
)

// firstRead is how many octets are read from a connection at once, and how much
// memory its length field alone can claim.
const firstRead = 2048

// readFrame reads a message and the length before it (RFC 1035 §4.2.2). Memory
// is claimed as octets arrive, never because of the length. The error is
// [io.EOF] when the connection ended before the message, and wraps
// [exchange.ErrMalformed] when it is shorter than its length or a header.
func readFrame(r *bufio.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, midFrame(err)
	}
	n := int(binary.BigEndian.Uint16(length[:]))
	if n < wire.HeaderLen {
		return nil, fmt.Errorf("%w: %d octets long", exchange.ErrMalformed, n)
	}
	msg := make([]byte, 0, min(n, firstRead))
	for len(msg) < n {
		msg = slices.Grow(msg, min(n-len(msg), max(len(msg), firstRead)))
		m, err := io.ReadFull(r, msg[len(msg):min(n, cap(msg))])
		msg = msg[:len(msg)+m]
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, midFrame(err)
		}
	}
	return msg, nil
}

// midFrame names the error of a connection that ended within a message.
func midFrame(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errCutShort
	}
	return err
}

// counting counts what is read from a connection for an exchange.
type counting struct {
	conn net.Conn
	a    *attempt
}

// Read implements [io.Reader].
func (c counting) Read(p []byte) (int, error) {
	n, err := c.conn.Read(p)
	c.a.took(n)
	return n, err
}
