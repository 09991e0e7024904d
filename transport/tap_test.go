package transport

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"shirube/dnstap"
	"shirube/dnstap/dnstaptest"
	"shirube/internal/wire"
)

// told returns records as words: what it is, the ID, and the rcode of a response.
func told(records []dnstap.Record) (words []string) {
	for _, r := range records {
		word := map[dnstap.Type]string{dnstap.ClientQuery: "query", dnstap.ClientResponse: "response"}[dnstap.Type(r.Type)]
		word += fmt.Sprint(" ", int(r.Message()[0])<<8|int(r.Message()[1]))
		if r.IsResponse() {
			word += " " + wire.Rcode(r.Message()[3]&15).String()
		}
		words = append(words, word)
	}
	return words
}

// TestTapIsToldOfEveryQueryAndResponse asks for each way that a query can go, one
// after the other, over each transport.
func TestTapIsToldOfEveryQueryAndResponse(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			tap, end := dnstaptest.Record(t)
			h := newScripted()
			slots := NewSlots(1, 0)
			var at netip.AddrPort
			var stop func()
			if network == "udp" {
				u, addr := startUDP(t, UDPOptions{Handler: h, Slots: slots, Tap: tap}, "0.0.0.0:0")
				at, stop = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), addr.Port()), func() { _ = u.Shutdown(t.Context()) }
			} else {
				s, addr := startTCP(t, TCPOptions{Handler: h, Slots: slots, Tap: tap}, "127.0.0.1:0")
				at, stop = addr, func() { _ = s.Shutdown(t.Context()) }
			}
			c := dial(t, network, at)
			opcode, malformed := packQuery(t, 4, "hit"), packQuery(t, 5, "hit")
			opcode[2] |= 0x28
			malformed[5] = 2
			send := func(msg []byte) {
				if network == "tcp" {
					msg = frame(msg)
				}
				write(t, c, msg)
			}
			receive := func() {
				if network == "tcp" {
					receiveTCP(t, c)
				} else {
					receiveUDP(t, c)
				}
			}
			begun := time.Now()
			for _, msg := range [][]byte{packQuery(t, 1, "hit"), packQuery(t, 2, "miss"), packQuery(t, 3, "panic"), opcode, malformed} {
				send(msg)
				receive()
			}
			send(packQuery(t, 6, "drop"))
			send(packQuery(t, 7, "slow"))
			h.waitBegan(t, 1)
			send(packQuery(t, 8, "slow")) // there is one slot
			receive()
			close(h.release)
			receive()
			stop()
			records := end()
			want := "query 1, response 1 NOERROR, query 2, response 2 NOERROR, query 3, response 3 SERVFAIL, query 4, response 4 NOTIMP, " +
				"query 5, response 5 FORMERR, query 6, query 7, query 8, response 8 SERVFAIL, response 7 NOERROR"
			if got := strings.Join(told(records), ", "); got != want {
				t.Errorf("found    %s\nexpected %s", got, want)
			}
			for _, r := range records {
				wantEnds(t, &r, network, addrOf(c.LocalAddr()), at, begun)
			}
		})
	}
}

// wantEnds wants a record to say who talked to whom, when and how.
func wantEnds(t *testing.T, r *dnstap.Record, network string, client, server netip.AddrPort, begun time.Time) {
	t.Helper()
	if r.Query != client || r.Response != server || r.SocketProtocol != map[string]uint32{"udp": 1, "tcp": 2}[network] {
		t.Errorf("%v to %v over %d; expected %v to %v over %s", r.Query, r.Response, r.SocketProtocol, client, server, network)
	}
	if r.QueryTime.Before(begun.Round(0)) || r.QueryTime.After(time.Now()) || r.IsResponse() == r.ResponseTime.IsZero() ||
		r.IsResponse() && r.ResponseTime.Before(r.QueryTime) {
		t.Errorf("asked at %v, answered at %v", r.QueryTime, r.ResponseTime)
	}
}

func addrOf(a net.Addr) netip.AddrPort { return netip.MustParseAddrPort(a.String()) }

func TestTapIsNotToldOfLateAnswers(t *testing.T) {
	tap, end := dnstaptest.Record(t)
	h := newScripted()
	u, at := startUDP(t, UDPOptions{Handler: h, Tap: tap, DiscardTimeout: time.Millisecond}, "127.0.0.1:0")
	c := dial(t, "udp", at)
	write(t, c, packQuery(t, 1, "slow"))
	h.waitBegan(t, 1)
	time.Sleep(2 * time.Millisecond)
	close(h.release)
	_ = u.Shutdown(t.Context())
	if got := told(end()); len(got) != 1 || u.Stats().Late != 1 {
		t.Errorf("%q of %d late answers", got, u.Stats().Late)
	}
}
