package main

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestEchoAnswersWhatIsAsked(t *testing.T) {
	const opt, do = "\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00", "\x00\x00\x29\x10\x00\x00\x00\x80\x00\x00\x00"
	for _, tt := range []struct {
		name    string
		qtype   uint16
		more    string
		answers int
	}{
		{"www.example.com", dns.TypeA, "", 2},
		{"wwx.example.com", dns.TypeA, "", 1},
		{"www.example.com", dns.TypeAAAA, opt, 1},
		{"www.example.com", dns.TypeMX, "", 1},
		{"www.example.com", dns.TypeTXT, do, 2},
	} {
		var m dns.Msg
		if err := m.Unpack(appendEcho(nil, append(newQuery(7, tt.name, tt.qtype), tt.more...))); err != nil {
			t.Fatal(tt.name, tt.qtype, err)
		}
		edns := m.IsEdns0()
		if !m.Response || m.Id != 7 || m.Rcode != dns.RcodeSuccess || len(m.Answer) != tt.answers ||
			m.Answer[0].Header().Name != tt.name+"." || m.Answer[0].Header().Rrtype != tt.qtype || (edns != nil) != (tt.more != "") {
			t.Errorf("%s %d was answered\n%v", tt.name, tt.qtype, &m)
		}
		if _, signed := m.Answer[len(m.Answer)-1].(*dns.RRSIG); signed != (tt.more == do) {
			t.Errorf("%s %d is signed: %v", tt.name, tt.qtype, signed)
		}
	}
	query := newQuery(7, "www.example.com", dns.TypeA)
	response := appendEcho(nil, query)
	for name, msg := range map[string][]byte{"a response": response, "a header": query[:12], "half a question": query[:20], "nothing": nil} {
		if got := appendEcho(nil, msg); len(got) > 0 {
			t.Errorf("%s was answered: %x", name, got)
		}
	}
}

func TestEchoServesUntilItIsStopped(t *testing.T) {
	at := freeAddress(t)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- echo(ctx, "", settings{listen: at.String(), threads: 2}) }()
	var err error
	for range 100 {
		var msg []byte
		if msg, err = exchangeUDP(at, soaQuery("example."), 100*time.Millisecond); err == nil {
			err = checkAnswer(msg)
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		t.Error(err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// freeAddress is one that nobody listens on.
func freeAddress(t *testing.T) netip.AddrPort {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}
