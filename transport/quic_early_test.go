//go:build !race

package transport

import (
	"crypto/tls"
	"net"
	"net/netip"
	"testing"

	"github.com/quic-go/quic-go"

	"shirube/internal/wire"
)

// TestDoQTakesQueriesEarly resumes a session, and asks before the handshake is
// over (RFC 9250 §4.5).
// The race detector finds the library's client, which nothing but tests uses,
// opening a stream while it reads what the server allows (quic-go 0.65).
func TestDoQTakesQueriesEarly(t *testing.T) {
	d, at := startDoQ(t, QUICOptions{Handler: newScripted()})
	config := clientWithTicket(t, at)

	update := packQuery(t, 0, "hit")
	update[2] |= 5 << 3
	ask := func(msg []byte, rcode wire.Rcode) {
		c, err := quic.DialAddrEarly(t.Context(), at.String(), config, nil)
		if err != nil {
			t.Fatal(err)
		}
		str := sendDoQ(t, c, frame(msg))
		raw, err := receiveDoQ(str)
		if err != nil || wire.RcodeOf(raw) != rcode {
			t.Errorf("%x, %v, want %v", raw, err, rcode)
		}
		<-c.HandshakeComplete()
		if !c.ConnectionState().Used0RTT {
			t.Error("0-RTT was not used")
		}
		_ = c.CloseWithError(0, "")
	}
	ask(update, wire.NotImp)
	asked := 1
	for ; asked < 50 && d.Stats().Early == 0 || asked < 2; asked++ { // on a busy machine the handshake may be over before a query is read
		ask(packQuery(t, 0, "hit"), wire.NoError)
	}
	eventually(t, "queries have come early", func() bool { return d.Stats().Early > 0 && d.opt.Conns.Stats().Resumed == uint64(asked) })
}

// TestDoQAnswersEarlyNothingButQueries: what may be replayed is looked at before the
// handshake is over, and all else waits for its end (RFC 9250 §4.5). Nothing of the
// server's arrives until then, so that the client cannot end it.
func TestDoQAnswersEarlyNothingButQueries(t *testing.T) {
	d, at := startDoQ(t, QUICOptions{Handler: newScripted()})
	config := clientWithTicket(t, at)
	eventually(t, "the first connection is gone", func() bool { return d.Stats().Open == 0 })

	front, arrive := relay(t, at)
	c, err := quic.DialAddrEarly(t.Context(), front.String(), config, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseWithError(0, "") }()
	notify := packQuery(t, 0, "hit")
	notify[2] |= 4 << 3
	const others = 8
	var waiting []*quic.Stream
	for range others {
		waiting = append(waiting, sendDoQ(t, c, frame(notify)))
	}
	query := sendDoQ(t, c, frame(packQuery(t, 0, "hit")))
	eventually(t, "the query was answered", func() bool { return d.Stats().Answered == 2 })
	if n := d.Stats().Status[wire.UnsupportedOpcode]; n != 0 {
		t.Errorf("%d of %d other messages were answered early", n, others)
	}
	close(arrive)
	raw, err := receiveDoQ(query)
	if err != nil || wire.RcodeOf(raw) != wire.NoError {
		t.Errorf("the query: %x, %v", raw, err)
	}
	for _, str := range waiting {
		if raw, err := receiveDoQ(str); err != nil || wire.RcodeOf(raw) != wire.NotImp {
			t.Errorf("after the handshake: %x, %v", raw, err)
		}
	}
	if !c.ConnectionState().Used0RTT {
		t.Error("0-RTT was not used")
	}
}

// clientWithTicket returns what a client of DoQ is configured with that was answered
// before, on a connection that it has closed, and can resume that session.
func clientWithTicket(t *testing.T, at netip.AddrPort) *tls.Config {
	t.Helper()
	config := quicClient(t, "doq")
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	first, err := dialQUIC(t, at, config)
	if err != nil {
		t.Fatal(err)
	}
	askDoQ(t, first, "hit") // the ticket has come by now
	_ = first.CloseWithError(0, "")
	return config
}

// relay passes datagrams on between one client and server. What the server sends
// arrives when arrive is closed.
func relay(t *testing.T, server netip.AddrPort) (netip.AddrPort, chan struct{}) {
	t.Helper()
	in := listenUDP(t, "127.0.0.1:0")
	out, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server))
	if err != nil {
		t.Fatal(err)
	}
	arrive, client := make(chan struct{}), make(chan netip.AddrPort, 1)
	t.Cleanup(func() { _, _ = in.Close(), out.Close() })
	go func() { // ends with in
		b := make([]byte, 1<<16)
		for {
			n, from, err := in.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			select {
			case client <- from:
			default:
			}
			_, _ = out.Write(b[:n])
		}
	}()
	go func() { // ends with out
		to := <-client
		<-arrive
		b := make([]byte, 1<<16)
		for {
			n, err := out.Read(b)
			if err != nil {
				return
			}
			_, _ = in.WriteToUDPAddrPort(b[:n], to)
		}
	}()
	return in.LocalAddr().(*net.UDPAddr).AddrPort(), arrive
}
