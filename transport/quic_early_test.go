//go:build !race

package transport

import (
	"crypto/tls"
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
	config := quicClient(t, "doq")
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	first, err := dialQUIC(t, at, config)
	if err != nil {
		t.Fatal(err)
	}
	askDoQ(t, first, "hit") // the ticket has come by now
	_ = first.CloseWithError(0, "")

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
