package frontend

import (
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

func keepalive(m *dns.Msg) {
	opt := m.IsEdns0()
	opt.Option = append(opt.Option, &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE})
}

// toldIdle returns the time-out that m's edns-tcp-keepalive options tell, in
// units of 100 ms, and how many there are.
func toldIdle(m *dns.Msg) (timeout uint16, n int) {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if k, ok := o.(*dns.EDNS0_TCP_KEEPALIVE); ok {
				timeout = k.Timeout
				n++
			}
		}
	}
	return timeout, n
}

// RFC 7828 §3.3.
func TestIdleTimeIsToldWhoAsksOnAStream(t *testing.T) {
	f := newFrontend(t, oneAddress(t), withCookies(t))
	for _, tt := range []struct {
		what    string
		proto   wire.Proto
		idle    time.Duration
		change  func(*dns.Msg)
		told    int
		timeout uint16
	}{
		{"TCP", wire.TCP, 10 * time.Second, keepalive, 1, 100},
		{"DoT", wire.DoT, 2300 * time.Millisecond, keepalive, 1, 23},
		{"not even a tenth of a second", wire.TCP, 99 * time.Millisecond, keepalive, 1, 0},
		{"no time left", wire.TCP, 0, keepalive, 1, 0},
		{"more than can be said", wire.TCP, 3 * time.Hour, keepalive, 1, 65535},
		{"with NSID and cookie", wire.TCP, 10 * time.Second, func(m *dns.Msg) { keepalive(m); both(m) }, 1, 100},
		{"asked twice", wire.TCP, 10 * time.Second, func(m *dns.Msg) { keepalive(m); keepalive(m) }, 1, 100},
		{"refused", wire.TCP, 10 * time.Second, func(m *dns.Msg) { keepalive(m); m.RecursionDesired = false }, 1, 100},
		{"not asked", wire.TCP, 10 * time.Second, nil, 0, 0},
		{"without EDNS", wire.TCP, 10 * time.Second, func(m *dns.Msg) { m.Extra = nil }, 0, 0},
		{"UDP", wire.UDP, 0, keepalive, 0, 0},
		{"DoH", wire.DoH, 0, keepalive, 0, 0},
		{"DoQ", wire.DoQ, 0, keepalive, 0, 0},
	} {
		q := query(t, "www.example.com.", dns.TypeA, tt.change)
		q.Proto, q.Idle = tt.proto, tt.idle
		m := answer(t, f, q)
		if timeout, n := toldIdle(m); n != tt.told || timeout != tt.timeout {
			t.Errorf("%s: told %d times, last %d; want %d times %d", tt.what, n, timeout, tt.told, tt.timeout)
		}
	}
}
