package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/quic-go/quic-go"

	"shirube/internal/exchange"
)

// The error codes of DoQ (RFC 9250 §8.4) that are sent.
const (
	doqNoError   = 0
	doqCancelled = 3 // DOQ_REQUEST_CANCELLED
)

// The limits on QUIC that are not for the operator to move.
const (
	quicWindow     = 64 << 10 // octets of one stream that nobody has read: one message, as good as
	quicConnWindow = 512 << 10
)

// quicConn is a connection of QUIC.
type quicConn struct{ conn *quic.Conn }

// dialQUIC makes a connection of DoQ. It has a descriptor and goroutines of its
// own, which end with it.
func (c *Client) dialQUIC(ctx context.Context, to peer) (made link, op string, err error) {
	conn, err := quic.DialAddr(ctx, to.addr.String(), c.tlsConfig(to), &quic.Config{
		HandshakeIdleTimeout:           probeTimeout,
		MaxIdleTimeout:                 tlsIdleFactor * c.pool.idleFor * 2, // it is closed here before that
		InitialStreamReceiveWindow:     quicWindow,
		MaxStreamReceiveWindow:         quicWindow,
		InitialConnectionReceiveWindow: quicConnWindow,
		MaxConnectionReceiveWindow:     quicConnWindow,
		MaxIncomingStreams:             -1, // RFC 9250 §4.2: only clients open streams
		MaxIncomingUniStreams:          -1,
	})
	if err != nil {
		return link{}, "handshake", err
	}
	c.secured(conn.ConnectionState().TLS)
	return link{streams: &quicConn{conn}}, "", nil
}

// ask implements [streams]. Nothing is sent in 0-RTT (RFC 9539 §4.6.3.1).
func (c *quicConn) ask(ctx context.Context, query []byte) (msg []byte, age time.Duration, err error) {
	str, err := c.conn.OpenStreamSync(ctx)
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %w", io.EOF, err)
	}
	stop := context.AfterFunc(ctx, func() {
		str.CancelRead(doqCancelled) // RFC 9250 §4.3.1
		str.CancelWrite(doqCancelled)
	})
	defer stop()
	defer str.CancelRead(doqNoError) // what follows an answer is of no interest
	msg, err = converse(str, query)
	return msg, 0, err
}

// converse sends query on str and reads the answer.
func converse(str *quic.Stream, query []byte) ([]byte, error) {
	framed := append([]byte{byte(len(query) >> 8), byte(len(query))}, query...)
	_, err := str.Write(framed)
	if err == nil {
		err = str.Close() // RFC 9250 §4.2: nothing else follows
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", io.EOF, err)
	}
	msg, err := readFrame(bufio.NewReaderSize(str, firstRead))
	if err != nil && !errors.Is(err, exchange.ErrMalformed) {
		err = fmt.Errorf("%w: %w", io.EOF, err)
	}
	return msg, err
}

func (c *quicConn) ended() <-chan struct{} { return c.conn.Context().Done() }
func (c *quicConn) local() netip.AddrPort  { return addrPortOf(c.conn.LocalAddr()) }
func (c *quicConn) close()                 { _ = c.conn.CloseWithError(doqNoError, "") } // nobody waits for anything on it
