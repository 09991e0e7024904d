package upstream

import (
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/dnstap"
	"shirube/dnstap/dnstaptest"
	"shirube/internal/exchange"
	"shirube/internal/wire"
)

func TestTapIsToldOfQueriesAndReplies(t *testing.T) {
	udp := serveUDP(t, "127.0.0.1", replies(good))
	v6 := serveUDP(t, "::1", replies(good))
	tcp := serveTCP(t, "127.0.0.1", repliesTCP(good))
	both := serveBoth(t, replies(answerWith(badAddr, func(m *dns.Msg) { m.Truncated = true })), repliesTCP(good))
	ca := newAuthority(t)
	secure := serveTLS(t, answering, []identity{ca.server(t, "ns.example.")})
	over := func(server netip.AddrPort, edit func(*exchange.Request)) exchange.Request {
		req := request(server)
		req.Zone = wire.MustParseName("example.com.")
		edit(&req)
		return req
	}
	for _, tt := range []struct {
		name  string
		req   exchange.Request
		types []dnstap.Type
		socks []uint32
	}{
		{"UDP", over(udp, func(*exchange.Request) {}), []dnstap.Type{3, 4}, []uint32{1, 1}},
		{"IPv6", over(v6, func(*exchange.Request) {}), []dnstap.Type{3, 4}, []uint32{1, 1}},
		{"TCP", over(tcp, func(r *exchange.Request) { r.TCP = true }), []dnstap.Type{3, 4}, []uint32{2, 2}},
		{"truncated", over(both, func(*exchange.Request) {}), []dnstap.Type{3, 4, 3, 4}, []uint32{1, 1, 2, 2}},
		{"forwarder", over(udp, func(r *exchange.Request) { r.RD = true }), []dnstap.Type{7, 8}, []uint32{1, 1}},
		{"forwarder over TLS", overTLS(secure, "ns.example."), []dnstap.Type{3, 4}, []uint32{3, 3}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tap, end := dnstaptest.Record(t)
			c := newClient(t, Options{Tap: tap, RootCAs: roots(ca), Cookies: true, CaseRandomisation: true})
			begun := time.Now()
			resp := exchangeOK(t, c, tt.req)
			records := end()
			if len(records) != len(tt.types) {
				t.Fatalf("%d records: %+v", len(records), records)
			}
			for i, r := range records {
				if r.Type != uint32(tt.types[i]) || r.SocketProtocol != tt.socks[i] || r.Response != tt.req.Server || string(r.QueryZone) != string(tt.req.Zone) {
					t.Errorf("record %d: %+v", i, r)
				}
				if r.Query.Addr() != tt.req.Server.Addr() || r.Query.Port() == 0 || r.Query != records[i&^1].Query {
					t.Errorf("asked by %v", r.Query)
				}
				if r.QueryTime.Before(begun.Round(0)) || r.QueryTime != records[i&^1].QueryTime || r.IsResponse() && !r.ResponseTime.After(r.QueryTime) {
					t.Errorf("asked at %v, answered at %v", r.QueryTime, r.ResponseTime)
				}
			}
			last := records[len(records)-1]
			if rtt := last.ResponseTime.Sub(last.QueryTime); rtt < resp.RTT-time.Millisecond || rtt > resp.RTT+10*time.Millisecond {
				t.Errorf("%v between them, and the RTT is %v", rtt, resp.RTT)
			}
			// What went over the wire, and not what was made of it.
			if q, r := records[0].QueryMessage, records[1].ResponseMessage; string(q[wire.HeaderLen:wire.HeaderLen+13]) != string(r[wire.HeaderLen:wire.HeaderLen+13]) {
				t.Errorf("the reply has another spelling: %q, %q", q, r)
			}
		})
	}
}

// A reload makes another client of the one that there is.
func TestTapIsToldOfTheNextClientsQueries(t *testing.T) {
	tap, end := dnstaptest.Record(t)
	next, err := newClient(t, Options{Tap: tap}).With(Options{EDNSSize: 4096})
	if err != nil {
		t.Fatal(err)
	}
	exchangeOK(t, next, request(serveUDP(t, "127.0.0.1", replies(good))))
	if records := end(); len(records) != 2 {
		t.Errorf("%d records: %+v", len(records), records)
	}
}

func TestTapIsNotToldOfForgeries(t *testing.T) {
	tap, end := dnstaptest.Record(t)
	server := serveUDP(t, "127.0.0.1", replies(octets(0, 0xff, 1, 0xff), good))
	c := newClient(t, Options{Tap: tap})
	exchangeOK(t, c, request(server))
	if records := end(); len(records) != 2 {
		t.Errorf("%d records: %+v", len(records), records)
	}
}
