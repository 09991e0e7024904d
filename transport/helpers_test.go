package transport

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/netx"
	"shirube/internal/wire"
)

// patience is how long a test waits for what has to happen. It is never waited
// out by a test that passes.
const patience = 30 * time.Second

// unhurried has the times that a test does not set be as long as its patience: a
// machine that is busy for seconds does not make a client slow.
func unhurried(opt TCPOptions) TCPOptions {
	opt.Timeout = cmp.Or(opt.Timeout, patience)
	opt.FirstByteTimeout = cmp.Or(opt.FirstByteTimeout, patience)
	opt.MessageTimeout = cmp.Or(opt.MessageTimeout, patience)
	return opt
}

// unhurriedUDP is unhurried for datagrams.
func unhurriedUDP(opt UDPOptions) UDPOptions {
	opt.Timeout = cmp.Or(opt.Timeout, patience)
	opt.DiscardTimeout = cmp.Or(opt.DiscardTimeout, patience)
	return opt
}

// unhurriedQUIC is unhurried for QUIC.
func unhurriedQUIC(opt QUICOptions) QUICOptions {
	opt.Timeout = cmp.Or(opt.Timeout, patience)
	opt.StreamTime = cmp.Or(opt.StreamTime, patience)
	opt.MessageTimeout = cmp.Or(opt.MessageTimeout, patience)
	return opt
}

// scripted is a Handler that does what the first label of the name says.
//
//	hit      answered by TryServe
//	big      answered by TryServe, with q.Limit or 60,000 octets, what is less
//	over     answered by TryServe, one octet beyond q.Limit
//	drop     dropped by TryServe
//	panic    TryServe panics
//	miss     answered by Serve
//	bigmiss  answered by Serve, with 60,000 octets
//	slow     answered by Serve after a receive from release; nothing when ctx is done
//	none     dropped by Serve
//	crash    Serve panics
type scripted struct {
	began   chan string   // gets the first label of each slow query, if there is room
	release chan struct{} // lets one slow query go on; closed: all
}

func newScripted() *scripted {
	return &scripted{began: make(chan string, 4096), release: make(chan struct{})}
}

// firstLabel is the first label of the query name up to the first digit.
func firstLabel(q *wire.Query) []byte {
	name := q.RawName()
	label := name[1 : 1+int(name[0])]
	if i := bytes.IndexAny(label, "0123456789"); i >= 0 {
		return label[:i]
	}
	return label
}

func (h *scripted) TryServe(buf []byte, q *wire.Query) ([]byte, Outcome) {
	start := len(buf)
	switch string(firstLabel(q)) {
	case "hit":
		return wire.AppendOPT(wire.AppendReply(buf, q, wire.NoError), start, q, 1232, wire.NoError), Answered
	case "big":
		return appendBig(buf, q, min(q.Limit, 60_000)), Answered
	case "over":
		buf = wire.AppendReply(buf, q, wire.NoError)
		return append(buf, make([]byte, start+q.Limit+1-len(buf))...), Answered
	case "drop":
		return append(buf, "this must not be sent"...), Dropped
	case "panic":
		panic("scripted in TryServe")
	default:
		return append(buf, "this must not be sent"...), Deferred
	}
}

func (h *scripted) Serve(ctx context.Context, buf []byte, q *wire.Query) []byte {
	start := len(buf)
	label := string(firstLabel(q))
	switch label {
	case "none":
		return nil
	case "bigmiss":
		return appendBig(buf, q, 60_000)
	case "crash":
		panic("scripted in Serve")
	case "slow":
		select {
		case h.began <- label:
		default:
		}
		select {
		case <-h.release:
		case <-ctx.Done():
			return nil
		}
	}
	return wire.AppendOPT(wire.AppendReply(buf, q, wire.NoError), start, q, 1232, wire.NoError)
}

func (h *scripted) Shed(buf []byte, q *wire.Query, why string) []byte {
	if string(firstLabel(q)) == "fall" {
		panic("scripted in Shed")
	}
	start := len(buf)
	return wire.AppendOPT(wire.AppendReply(buf, q, wire.ServFail), start, q, 1232, wire.ServFail,
		wire.Option{Code: dns.EDNS0EDE, Data: []byte{0, 0}, Text: why})
}

func (h *scripted) Reject(_ netip.AddrPort, rcode wire.Rcode) (wire.Rcode, bool) { return rcode, true }

// appendBig appends a response of size octets. It is well formed: an OPT record
// that is mostly padding.
func appendBig(buf []byte, q *wire.Query, size int) []byte {
	start := len(buf)
	buf = wire.AppendReply(buf, q, wire.NoError)
	n := size - (len(buf) - start) - wire.OPTLen - 4
	own := *q
	own.Limit = wire.MaxMsgSize
	return wire.AppendOPT(buf, start, &own, 1232, wire.NoError, wire.Option{Code: dns.EDNS0PADDING, Data: make([]byte, n)})
}

// waitBegan waits until n slow queries have got to Serve.
func (h *scripted) waitBegan(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		select {
		case <-h.began:
		case <-time.After(patience):
			t.Fatalf("%d of %d queries got to Serve", i, n)
		}
	}
}

// packQuery returns a query with EDNS for the A record of label.example.org.
func packQuery(tb testing.TB, id uint16, label string) []byte {
	tb.Helper()
	m := new(dns.Msg)
	m.SetQuestion(label+".example.org.", dns.TypeA)
	m.Id = id
	m.SetEdns0(wire.MaxMsgSize, false)
	return pack(tb, m)
}

func pack(tb testing.TB, m *dns.Msg) []byte {
	tb.Helper()
	raw, err := m.Pack()
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

func unpack(t *testing.T, raw []byte) *dns.Msg {
	t.Helper()
	m := new(dns.Msg)
	if err := m.Unpack(raw); err != nil {
		t.Fatalf("a response of %d octets: %v", len(raw), err)
	}
	if !m.Response {
		t.Fatal("a response without QR")
	}
	return m
}

// edeOf returns the EXTRA-TEXT of m's Extended DNS Error, with code Other.
func edeOf(t *testing.T, m *dns.Msg) string {
	t.Helper()
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok && e.InfoCode == dns.ExtendedErrorCodeOther {
				return e.ExtraText
			}
		}
	}
	t.Errorf("no Extended DNS Error in %v", m)
	return ""
}

// shutDown shuts a server down when the test ends, and wants it to succeed.
func shutDown(tb testing.TB, s interface{ Shutdown(context.Context) error }) {
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			tb.Errorf("shut down: %v", err)
		}
	})
}

// startUDP starts a server with one socket on addr, and returns its address.
func startUDP(tb testing.TB, opt UDPOptions, addr string) (*UDP, netip.AddrPort) {
	tb.Helper()
	conns, err := netx.ListenUDP(tb.Context(), netip.MustParseAddrPort(addr), 1)
	if err != nil {
		tb.Fatal(err)
	}
	u := NewUDP(unhurriedUDP(opt), conns...)
	u.Start(context.Background())
	shutDown(tb, u)
	return u, conns[0].LocalAddr().(*net.UDPAddr).AddrPort()
}

// startTCP starts a server on addr, and returns its address.
func startTCP(tb testing.TB, opt TCPOptions, addr string) (*TCP, netip.AddrPort) {
	tb.Helper()
	l, err := netx.ListenTCP(tb.Context(), netip.MustParseAddrPort(addr))
	if err != nil {
		tb.Fatal(err)
	}
	s := NewTCP(unhurried(opt), l)
	s.Start(context.Background())
	shutDown(tb, s)
	return s, l.Addr().(*net.TCPAddr).AddrPort()
}

// dial connects to a server; its patience ends with the package's.
func dial(tb testing.TB, network string, to netip.AddrPort) net.Conn {
	tb.Helper()
	c, err := net.DialTimeout(network, to.String(), patience)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		tb.Fatal(err)
	}
	return c
}

func write(tb testing.TB, c net.Conn, b []byte) {
	tb.Helper()
	if _, err := c.Write(b); err != nil {
		tb.Fatal(err)
	}
}

// receiveUDP returns the next datagram.
func receiveUDP(tb testing.TB, c net.Conn) []byte {
	tb.Helper()
	b := make([]byte, wire.MaxMsgSize)
	n, err := c.Read(b)
	if err != nil {
		tb.Fatal(err)
	}
	return b[:n]
}

// askUDP sends a query and returns the next datagram's message.
func askUDP(t *testing.T, c net.Conn, id uint16, label string) *dns.Msg {
	t.Helper()
	write(t, c, packQuery(t, id, label))
	m := unpack(t, receiveUDP(t, c))
	if m.Id != id {
		t.Fatalf("ID %d, not %d", m.Id, id)
	}
	return m
}

// frame returns messages as they are sent on a stream.
func frame(msgs ...[]byte) (b []byte) {
	for _, m := range msgs {
		b = binary.BigEndian.AppendUint16(b, uint16(len(m)))
		b = append(b, m...)
	}
	return b
}

// receiveTCP returns the next message of a stream.
func receiveTCP(t *testing.T, c io.Reader) []byte {
	t.Helper()
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		t.Fatalf("length: %v", err)
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatalf("message: %v", err)
	}
	return b
}

// askTCP sends a query and returns the next message.
func askTCP(t *testing.T, c net.Conn, id uint16, label string) *dns.Msg {
	t.Helper()
	write(t, c, frame(packQuery(t, id, label)))
	m := unpack(t, receiveTCP(t, c))
	if m.Id != id {
		t.Fatalf("ID %d, not %d", m.Id, id)
	}
	return m
}

// wantClosed wants the stream to end without another octet.
func wantClosed(t *testing.T, c net.Conn) {
	t.Helper()
	var b [1]byte
	if n, err := c.Read(b[:]); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the connection is open: %d octets, %v", n, err)
	}
}

// eventually waits for what happens in another goroutine.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	within(t, patience, what, f)
}

// within is eventually with another patience.
func within(t *testing.T, patience time.Duration, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came true that %s", what)
		}
	}
}

// wantBalance wants every query to be accounted for once.
func wantBalance(t *testing.T, n Counts, late uint64) {
	t.Helper()
	if n.Status[wire.OK] != n.Answered+n.Dropped+n.Shed+late {
		t.Errorf("queries do not add up: %+v, late %d", n, late)
	}
}

func wantRcode(t *testing.T, m *dns.Msg, rcode int) {
	t.Helper()
	if m.Rcode != rcode {
		t.Errorf("%s, not %s", dns.RcodeToString[m.Rcode], dns.RcodeToString[rcode])
	}
}
