package upstream

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"shirube/internal/exchange"
	"shirube/internal/porttest"
	"shirube/internal/wire"
)

func TestExchangeReturnsTheAnswerOverBothFamilies(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			queries := make(chan []byte, 1)
			server := serveUDP(t, host, func(d datagram) { queries <- d.query; d.reply(good(d.query)) })
			c := newClient(t, Options{})
			resp := exchangeOK(t, c, request(server))
			if want := len(good(<-queries)); resp.Size != want {
				t.Errorf("Size is %d, want %d", resp.Size, want)
			}
			if resp.TCP || resp.RTT <= 0 || resp.RTT > 5*time.Second {
				t.Errorf("TCP %v, RTT %v", resp.TCP, resp.RTT)
			}
			sent := Sent{IPv4: 1}
			if host == "::1" {
				sent = Sent{IPv6: 1}
			}
			got := c.Stats()
			if rtt := got.RTT.UDP; rtt.Count() != 1 || rtt.Sum() != resp.RTT {
				t.Errorf("RTTs are %v, in all %v; want %v", rtt, rtt.Sum(), resp.RTT)
			}
			want := Stats{UDP: sent, Received: 1, Octets: uint64(resp.Size), Answers: 1, RTT: got.RTT}
			got.Sockets = Sockets{} // as the port drawn has it
			if got != want {
				t.Errorf("Stats are %+v, want %+v", got, want)
			}
		})
	}
}

func TestExchangeAsksIPv4ForAMappedAddress(t *testing.T) {
	server := serveUDP(t, "127.0.0.1", replies(good))
	mapped := netip.AddrPortFrom(netip.AddrFrom16(server.Addr().As16()), server.Port())
	c := newClient(t, Options{})
	exchangeOK(t, c, request(mapped))
	if got := c.Stats().UDP; got != (Sent{IPv4: 1}) {
		t.Errorf("sent %+v", got)
	}
}

// octets sets octets of what good makes.
func octets(pairs ...int) func([]byte) []byte {
	return edited(bad, func(b []byte) []byte {
		for i := 0; i < len(pairs); i += 2 {
			b[pairs[i]] ^= byte(pairs[i+1])
		}
		return b
	})
}

func TestExchangeOutwaitsWhatDoesNotMatch(t *testing.T) {
	const nameAt, typeAt = 13, 12 + 13 // of www.example.
	long := answerWith(badAddr, func(m *dns.Msg) {
		m.Extra = append(m.Extra, &dns.TXT{
			Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeTXT, Class: dns.ClassINET},
			Txt: []string{string(make([]byte, 250)), string(make([]byte, 250)), string(make([]byte, 250)), string(make([]byte, 250)), string(make([]byte, 250))},
		})
	})
	for name, test := range map[string]struct {
		first func([]byte) []byte
		want  Dropped
	}{
		"empty":                           {func([]byte) []byte { return nil }, Dropped{Short: 1}},
		"eleven octets":                   {func(q []byte) []byte { return bad(q)[:11] }, Dropped{Short: 1}},
		"wrong ID":                        {octets(1, 1), Dropped{ID: 1}},
		"ID swapped":                      {octets(0, 0x80), Dropped{ID: 1}},
		"a query":                         {octets(2, 0x80), Dropped{Header: 1}},
		"echo":                            {func(q []byte) []byte { return q }, Dropped{Header: 1}},
		"opcode NOTIFY":                   {octets(2, 0x20), Dropped{Header: 1}},
		"other name":                      {octets(nameAt, 'w'^'x'), Dropped{Question: 1}},
		"other type":                      {octets(typeAt+1, 1^28), Dropped{Question: 1}},
		"type in capital":                 {octets(typeAt, 0x20), Dropped{Question: 1}},
		"other class":                     {octets(typeAt+3, 1^3), Dropped{Question: 1}},
		"no question":                     {octets(5, 1), Dropped{Question: 1}},
		"two questions":                   {octets(5, 3), Dropped{Question: 1}},
		"header alone":                    {func(q []byte) []byte { return bad(q)[:12] }, Dropped{Question: 1}},
		"error with data but no question": {octets(5, 1, 3, 5), Dropped{Question: 1}},
		"garbage":                         {func([]byte) []byte { return []byte("this is not what you were looking for") }, Dropped{}},
		"over the size":                   {long, Dropped{Long: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			length := make(chan int, 1)
			server := serveUDP(t, "127.0.0.1", func(d datagram) {
				first := test.first(d.query)
				length <- len(first)
				d.reply(first)
				d.reply(good(d.query))
			})
			c := newClient(t, Options{})
			resp := exchangeOK(t, c, request(server))
			got := c.Stats()
			if name == "garbage" { // its ID is right once in 65,536 runs
				test.want = Dropped{ID: got.Dropped.ID, Header: got.Dropped.Header}
			}
			if got.Dropped != test.want || got.Received != 2 {
				t.Errorf("dropped %+v of %d, want %+v of 2", got.Dropped, got.Received, test.want)
			}
			if first := <-length; resp.Size <= first || got.Octets != uint64(resp.Size) {
				t.Errorf("Size %d and %d octets, with %d dropped", resp.Size, got.Octets, first)
			}
		})
	}
}

func TestExchangeTakesAnyDatagramUpToTheOfferedSize(t *testing.T) {
	pad := func(to int) func([]byte) []byte {
		return edited(good, func(b []byte) []byte { return append(b, make([]byte, to-len(b))...) })
	}
	for _, test := range []struct {
		bare bool
		size int
		ok   bool
	}{
		{false, 1232, true},
		{false, 1233, false},
		{false, 60_000, false},
		{true, 512, true},
		{true, 513, false},
	} {
		server := serveUDP(t, "127.0.0.1", replies(pad(test.size)))
		c := newClient(t, Options{})
		req := request(server)
		req.Bare = test.bare
		if !test.ok {
			req.Timeout = 50 * time.Millisecond
		}
		resp, err := c.Exchange(context.Background(), req)
		if (err == nil) != test.ok || !test.ok && !errors.Is(err, exchange.ErrTimeout) {
			t.Errorf("%+v: error %v", test, err)
		}
		if resp.Size != test.size {
			t.Errorf("%+v: Size is %d", test, resp.Size)
		}
		if dropped := c.Stats().Dropped.Long == 1; dropped == test.ok {
			t.Errorf("%+v: dropped %v", test, dropped)
		}
	}
}

func TestExchangeHearsNobodyButTheServer(t *testing.T) {
	other, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	server := serveUDP(t, "127.0.0.1", func(d datagram) {
		datagram{conn: other, from: d.from}.reply(bad(d.query)) // everything is right but where it comes from
		time.Sleep(20 * time.Millisecond)
		d.reply(good(d.query))
	})
	c := newClient(t, Options{})
	exchangeOK(t, c, request(server))
	if got := c.Stats(); got.Received != 1 || got.Dropped != (Dropped{}) {
		t.Errorf("Stats are %+v", got)
	}
}

// What arrives between bind and connect is there to be read afterwards.
func TestAwaitDropsWhatCameBeforeTheSocketWasConnected(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		listen := func() *net.UDPConn {
			conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(host)})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			return conn
		}
		server, stranger, ours := listen(), listen(), listen()
		at := func(conn *net.UDPConn) netip.AddrPort { return conn.LocalAddr().(*net.UDPAddr).AddrPort() }
		c := newClient(t, Options{})
		a := attempt{client: c, req: request(at(server)), scratch: newScratch(1232)}
		q := a.scratch.build(draft{req: &a.req, id: 7, ednsSize: 1232})
		datagram{conn: stranger, from: at(ours)}.reply(bad(q.msg))
		datagram{conn: server, from: at(ours)}.reply(good(q.msg))

		s := &a.scratch.socket
		file, err := ours.File()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		s.fd = int(file.Fd())
		if err := unix.SetNonblock(s.fd, true); err != nil { // Fd says otherwise
			t.Fatal(err)
		}
		p, err := c.pollers.get()
		if err != nil {
			t.Fatal(err)
		}
		s.poller = p
		if err := s.watch(); err != nil {
			t.Fatal(err)
		}
		defer p.forget(s)
		s.wakeAfter(t.Context(), time.Now(), 5*time.Second)
		s.remote.set(at(server).Addr(), at(server).Port())
		r, _, err := a.await(s, q)
		if err != nil || string(r.msg) != string(good(q.msg)) {
			t.Errorf("%s: accepted %x, %v", host, r.msg, err)
		}
		if got := c.Stats().Dropped; got != (Dropped{Source: 1}) {
			t.Errorf("%s: dropped %+v", host, got)
		}
	}
}

func TestExchangeGivesUpAfterTooManyStrays(t *testing.T) {
	stray := octets(1, 1)
	flood := func(n int) func(datagram) {
		return func(d datagram) {
			for range n {
				d.reply(stray(d.query))
			}
			d.reply(good(d.query))
		}
	}
	c := newClient(t, Options{})
	exchangeOK(t, c, request(serveUDP(t, "127.0.0.1", flood(maxStrays))))

	c = newClient(t, Options{})
	resp, err := c.Exchange(context.Background(), request(serveUDP(t, "127.0.0.1", flood(maxStrays+1))))
	if !errors.Is(err, exchange.ErrTimeout) {
		t.Fatalf("error is %v", err)
	}
	if got := c.Stats(); got.GaveUp != 1 || got.Dropped.ID != maxStrays+1 || got.Timeouts != 0 || resp.Size != int(got.Octets) {
		t.Errorf("Stats are %+v, Size %d", got, resp.Size)
	}
}

func TestExchangeTakesAnErrorWithoutAQuestion(t *testing.T) {
	for _, rcode := range []wire.Rcode{wire.FormErr, wire.ServFail, wire.NotImp, wire.Refused} {
		server := serveUDP(t, "127.0.0.1", replies(func(q []byte) []byte { return wire.AppendHeader(nil, q, rcode) }))
		resp, err := newClient(t, Options{}).Exchange(context.Background(), request(server))
		if err != nil || resp.Msg.Rcode != int(rcode) || len(resp.Msg.Question) != 0 {
			t.Errorf("%v: %v, %v", rcode, resp.Msg, err)
		}
	}
}

func TestExchangeComparesTheNameWithoutItsCase(t *testing.T) {
	server := serveUDP(t, "127.0.0.1", replies(edited(good, func(b []byte) []byte {
		copy(b[12:], "\x03WwW\x07eXAMPLe")
		return b
	})))
	exchangeOK(t, newClient(t, Options{}), request(server))
}

func TestExchangeReportsAMalformedAnswer(t *testing.T) {
	for name, f := range map[string]func([]byte) []byte{
		"cut in a record":       func(q []byte) []byte { b := good(q); return b[:len(b)-2] },
		"one record too many":   edited(good, func(b []byte) []byte { b[7]++; return b }),
		"record past the end":   edited(good, func(b []byte) []byte { b[len(b)-5] = 5; return b }),
		"65535 records claimed": edited(good, func(b []byte) []byte { b[6], b[7] = 0xFF, 0xFF; return b }),
	} {
		c := newClient(t, Options{})
		resp, err := c.Exchange(context.Background(), request(serveUDP(t, "127.0.0.1", replies(f, good))))
		if !errors.Is(err, exchange.ErrMalformed) || resp.Msg != nil || resp.Size == 0 {
			t.Errorf("%s: %+v, %v", name, resp, err)
		}
		if got := c.Stats(); got.Malformed != 1 || got.Answers != 0 {
			t.Errorf("%s: Stats are %+v", name, got)
		}
	}
}

// What is wrong inside of one record is for the resolver to judge.
func TestExchangeReturnsAnswersWithMalformedRDATA(t *testing.T) {
	for name, test := range map[string]struct {
		f    func([]byte) []byte
		want string
	}{
		"address of 3 octets":  {edited(good, func(b []byte) []byte { b[len(b)-5] = 3; return b[:len(b)-1] }), `\# 3 c00002`},
		"address of no octets": {edited(good, func(b []byte) []byte { b[len(b)-5] = 0; return b[:len(b)-4] }), ""},
	} {
		c := newClient(t, Options{})
		resp, err := c.Exchange(context.Background(), request(serveUDP(t, "127.0.0.1", replies(test.f))))
		if err != nil || len(resp.Msg.Answer) != 1 {
			t.Errorf("%s: %v, %v", name, resp.Msg, err)
			continue
		}
		rr := resp.Msg.Answer[0]
		if got := strings.Split(rr.String(), "\t")[4]; rr.Header().Rrtype != dns.TypeA || got != test.want {
			t.Errorf("%s: %v, data %q, want %q", name, rr, got, test.want)
		}
	}
}

func TestExchangeTimesOut(t *testing.T) {
	c := newClient(t, Options{})
	req := request(serveUDP(t, "127.0.0.1", func(datagram) {}))
	req.Timeout = 60 * time.Millisecond
	start := time.Now()
	resp, err := c.Exchange(context.Background(), req)
	took := time.Since(start)
	if !errors.Is(err, exchange.ErrTimeout) || resp != (exchange.Response{}) {
		t.Errorf("%+v, %v", resp, err)
	}
	if took < req.Timeout || took > patience {
		t.Errorf("took %v", took)
	}
	if e, ok := errors.AsType[*Error](err); !ok || e.Server != req.Server || e.Question != question || e.Over != wire.UDP {
		t.Errorf("error is %#v", err)
	}
	if got := c.Stats(); got.Timeouts != 1 || got.InFlight != 0 {
		t.Errorf("Stats are %+v", got)
	}
}

func TestExchangeReturnsTheContextsError(t *testing.T) {
	silent := serveBoth(t, func(datagram) {}, silentTCP)
	for _, tcp := range []bool{false, true} {
		req := request(silent)
		req.TCP = tcp
		c := newClient(t, Options{})

		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(30*time.Millisecond, cancel)
		start := time.Now()
		if _, err := c.Exchange(ctx, req); !errors.Is(err, context.Canceled) || time.Since(start) > patience/2 {
			t.Errorf("TCP %v, cancelled: %v after %v", tcp, err, time.Since(start))
		}
		if _, err := c.Exchange(ctx, req); !errors.Is(err, context.Canceled) {
			t.Errorf("TCP %v, cancelled before: %v", tcp, err)
		}
		ctx, cancel = context.WithTimeout(context.Background(), 30*time.Millisecond)
		if _, err := c.Exchange(ctx, req); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("TCP %v, deadline: %v", tcp, err)
		}
		cancel()
		if got := c.Stats(); got.Timeouts != 0 || got.InFlight != 0 {
			t.Errorf("TCP %v: Stats are %+v", tcp, got)
		}
	}
}

func TestExchangeFailsFastOnAnICMPError(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		server := netip.AddrPortFrom(netip.MustParseAddr(host), porttest.Take(t)) // where nobody listens
		c := newClient(t, Options{})
		start := time.Now()
		_, err := c.Exchange(context.Background(), request(server))
		if !errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, exchange.ErrTimeout) || time.Since(start) > patience/2 {
			t.Errorf("%s: %v after %v", host, err, time.Since(start))
		}
		if got := c.Stats().Errors; got != (Errors{Refused: 1}) {
			t.Errorf("%s: Errors are %+v", host, got)
		}
	}
}

// receiverFunc receives what it returns.
type receiverFunc func(buf []byte) (int, error)

func (f receiverFunc) receive(buf []byte) (int, bool, error) {
	n, err := f(buf)
	return n, true, err
}

func TestAwaitIgnoresFragmentationNeeded(t *testing.T) {
	c := newClient(t, Options{})
	a := attempt{client: c, req: request(netip.AddrPort{}), scratch: newScratch(1232)}
	q := a.scratch.build(draft{req: &a.req, id: 7, ednsSize: 1232})
	errorsBefore := func(n int) receiverFunc {
		return func(buf []byte) (int, error) {
			if n--; n >= 0 {
				return 0, syscall.EMSGSIZE
			}
			return copy(buf, good(q.msg)), nil
		}
	}
	if r, _, err := a.await(errorsBefore(maxStrays), q); err != nil || len(r.msg) == 0 || c.Stats().Dropped.ICMP != maxStrays {
		t.Errorf("%d octets, %v, %+v", len(r.msg), err, c.Stats())
	}
	if _, _, err := a.await(errorsBefore(maxStrays+1), q); !errors.Is(err, exchange.ErrTimeout) {
		t.Errorf("after %d: %v", maxStrays+1, err)
	}
}

func TestSocketIgnoresPathMTU(t *testing.T) {
	for _, test := range []struct {
		host                string
		level, option, want int
	}{
		{"127.0.0.1", unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT},
		{"::1", unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_OMIT},
	} {
		server := serveUDP(t, test.host, func(datagram) {})
		s := &newScratch(1232).socket
		p, err := newPoller()
		if err != nil {
			t.Fatal(err)
		}
		defer p.close()
		op, err := "bind", error(syscall.EADDRINUSE)
		for errors.Is(err, syscall.EADDRINUSE) {
			port, _ := drawPortAndID()
			op, err = s.open(p, server, port)
		}
		if err != nil {
			t.Fatalf("%s: %v", op, err)
		}
		defer s.discard()
		got, err := unix.GetsockoptInt(s.fd, test.level, test.option)
		if err != nil {
			t.Fatal(err)
		}
		if got != test.want {
			t.Errorf("%s: path MTU discovery is %d, want %d", test.host, got, test.want)
		}
	}
}

func TestExchangeAsksOverTCPWhenTruncated(t *testing.T) {
	tc := answerWith(badAddr, func(m *dns.Msg) { m.Truncated = true })
	for name, f := range map[string]func([]byte) []byte{
		"whole":           tc,
		"cut in a record": func(q []byte) []byte { b := tc(q); return b[:len(b)-3] },
	} {
		c := newClient(t, Options{})
		resp := exchangeOK(t, c, request(serveBoth(t, replies(f), repliesTCP(good))))
		got := c.Stats()
		if !resp.TCP || got.Truncated != 1 || got.TCP != (Sent{IPv4: 1}) || got.Answers != 1 || uint64(resp.Size) != got.Octets {
			t.Errorf("%s: %+v, %+v", name, resp, got)
		}
	}
}

func TestExchangeNeverReturnsATruncatedAnswer(t *testing.T) {
	tc := answerWith(badAddr, func(m *dns.Msg) { m.Truncated = true })
	c := newClient(t, Options{})
	resp, err := c.Exchange(context.Background(), request(serveUDP(t, "127.0.0.1", replies(tc)))) // nobody listens on TCP
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Over != wire.TCP || !errors.Is(err, syscall.ECONNREFUSED) || resp.Msg != nil || resp.Size == 0 {
		t.Errorf("%+v, %v", resp, err)
	}
	if got := c.Stats(); got.Errors != (Errors{Refused: 1}) || got.Answers != 0 {
		t.Errorf("Stats are %+v", got)
	}
}
