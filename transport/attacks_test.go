package transport

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"shirube/internal/wire"
	"shirube/transport/clients"
)

// What an attack may cost.
const (
	attackMemory      = 64 << 20               // octets, of heap and stacks, during it
	attackLeft        = 24 << 20               // … after it
	attackGoroutines  = 6*attackedConns + 300  // during it, besides those of streams
	attackDescriptors = attackedConns + 40     // during it
	attackOthers      = 2                      // times their p99 without it, or:
	attackNoise       = 25 * time.Millisecond  // two turns of another process, and of Go's scheduler: they come anyway
	attackTurns       = 4                      // times what one sleep of a hundred takes too long: a question waits for so many turns on a busy machine
	attackRate        = 500                    // acts in a second: what is measured is the server, not the machine
	attackHandshake   = 10                     // acts that a handshake is worth, which costs who asks for it as much
	attackWindow      = 100 * time.Millisecond // in which others are measured: some hundreds of questions
	attackBuilds      = 400 * time.Millisecond // until it is felt: longer than what the server waits for, and enough for handshakes of all
	attackRounds      = 15                     // at most, for two good windows
)

// attack is what somebody does to a server.
type attack struct {
	name    string
	streams int                           // that a connection of it may have
	workers int                           // that do it; 0: attackedConns
	do      func(a *attacker)             // again and again
	felt    func(s *attackedState) uint64 // the limit that it runs into, as a counter
	network byte                          // third octet of the addresses it comes from: what one attack has used up is not missing in the next
}

// attacker is one of the workers of an attack. It has an address and, at a time, one
// connection.
type attacker struct {
	ctx  context.Context
	at   *attackedPlaces
	tls  *tls.Config
	from netip.Addr
	pace <-chan struct{}
	t    *testing.T
}

// act waits until the next act may be done, and reports false when there is none.
func (a *attacker) act() bool {
	select {
	case <-a.pace:
		return a.ctx.Err() == nil
	case <-a.ctx.Done():
		return false
	}
}

// handshake waits until a handshake may be made.
func (a *attacker) handshake() bool {
	for range attackHandshake {
		if !a.act() {
			return false
		}
	}
	return true
}

// tcp connects; nil: nobody lets it in. The connection ends with the attack.
func (a *attacker) tcp(to netip.AddrPort) net.Conn {
	if !a.act() {
		return nil
	}
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(a.from, 0))}
	c, err := d.DialContext(a.ctx, "tcp", to.String())
	if err != nil {
		return nil
	}
	_ = c.(*net.TCPConn).SetReadBuffer(4 << 10) // what nobody reads is soon too much
	context.AfterFunc(a.ctx, func() { _ = c.Close() })
	return c
}

// secure connects and shakes hands.
func (a *attacker) secure(to netip.AddrPort, protocol string) net.Conn {
	c := a.tcp(to)
	if c == nil {
		return nil
	}
	if !a.handshake() {
		return nil
	}
	config := a.tls.Clone()
	config.NextProtos = []string{protocol}
	s := tls.Client(c, config)
	if s.HandshakeContext(a.ctx) != nil {
		_ = c.Close()
		return nil
	}
	return s
}

// waits reads until the connection ends.
func waits(c io.Reader) { _, _ = io.Copy(io.Discard, c) }

// send writes b again and again, and reads nothing.
func (a *attacker) send(c net.Conn, b []byte) {
	for a.act() {
		if _, err := c.Write(b); err != nil {
			return
		}
	}
}

// dribble writes octet by octet, so that each is read by itself.
func (a *attacker) dribble(c net.Conn) {
	for a.act() {
		for range 5 {
			if _, err := c.Write([]byte{0x0F}); err != nil {
				return
			}
			time.Sleep(200 * time.Microsecond)
		}
	}
}

// h2 connects by HTTP/2. What the server says is thrown away if it is to be read.
func (a *attacker) h2(read bool, settings ...http2.Setting) *h2 {
	c := a.secure(a.at.DoH, "h2")
	if c == nil {
		return nil
	}
	h := &h2{Conn: c, next: 1}
	h.Framer = http2.NewFramer(c, c)
	h.AllowIllegalWrites = true
	h.encoder = hpack.NewEncoder(&h.fields)
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		return nil
	}
	if h.WriteSettings(settings...) != nil {
		return nil
	}
	if read {
		go waits(c) // ends with the connection
	}
	return h
}

// overH2 returns an attack that has a connection of HTTP/2 and does something to it
// until that fails.
func overH2(read bool, do func(a *attacker, c *h2) error, settings ...http2.Setting) func(*attacker) {
	return func(a *attacker) {
		c := a.h2(read, settings...)
		if c == nil {
			return
		}
		defer func() { _ = c.Close() }()
		for a.act() {
			if do(a, c) != nil {
				return
			}
		}
	}
}

// overTCP returns an attack that has a connection, and ends it when do does.
func overTCP(connect func(*attacker) net.Conn, do func(a *attacker, c net.Conn)) func(*attacker) {
	return func(a *attacker) {
		if c := connect(a); c != nil {
			do(a, c)
			_ = c.Close()
		}
	}
}

func toTCP(a *attacker) net.Conn  { return a.tcp(a.at.TCP) }
func toDoT(a *attacker) net.Conn  { return a.secure(a.at.DoT, "dot") }
func toHTTP(a *attacker) net.Conn { return a.secure(a.at.DoH, "http/1.1") }

// overQUIC returns an attack that has a connection of QUIC, and does something to it
// until that fails or has nothing more to do.
func overQUIC(protocol string, config *quic.Config, do func(a *attacker, c *quic.Conn) error) func(*attacker) {
	return func(a *attacker) {
		if !a.handshake() {
			return
		}
		socket, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a.from, 0)))
		if err != nil {
			return
		}
		t := &quic.Transport{Conn: socket}
		defer func() { _, _ = t.Close(), socket.Close() }()
		own, to := a.tls.Clone(), a.at.DoQ
		if own.NextProtos = []string{protocol}; protocol == "h3" {
			to = a.at.DoH3
		}
		c, err := t.Dial(a.ctx, net.UDPAddrFromAddrPort(to), own, config)
		if err != nil {
			return
		}
		defer func() { _ = c.CloseWithError(0, "") }()
		for a.act() {
			if err := do(a, c); err != nil {
				return
			}
		}
	}
}

// onStreams returns an attack that sends the same on as many streams as it may have.
func onStreams(protocol string, sent []byte, ends bool) func(*attacker) {
	return overQUIC(protocol, nil, func(a *attacker, c *quic.Conn) error {
		str, err := c.OpenStreamSync(a.ctx)
		if err != nil {
			return err
		}
		if ends {
			defer func() { _ = str.Close() }()
		}
		_, err = str.Write(sent)
		return err
	})
}

// attacks are those of docs/limits.md.
func attacks(t *testing.T) []attack {
	slow, big := frame(packQuery(t, 0, "slow")), frame(packQuery(t, 0, "big"))
	bad := corpus(t)
	url := getURL(DefaultPath, packQuery(t, 0, "hit"))
	var fields bytes.Buffer
	encoder := hpack.NewEncoder(&fields)
	for i := range 40 {
		_ = encoder.WriteField(hpack.HeaderField{Name: fmt.Sprintf("x-%d", i), Value: "0123456789abcdef", Sensitive: true})
	}
	pieces := fields.Bytes()
	all := []attack{
		{"UDP: headers that are to be unpacked at a cost", 0, 0, func(a *attacker) {
			c, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a.from, 0)), net.UDPAddrFromAddrPort(a.at.UDP))
			if err != nil {
				return
			}
			for i := 0; a.act(); i++ {
				_, _ = c.Write(bad[i%len(bad)].msg)
			}
			_ = c.Close()
		}, func(s *attackedState) uint64 { return s.UDP.Received - s.UDP.Answered }, 0},
		{"UDP: queries that take long", 0, 0, func(a *attacker) {
			c, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a.from, 0)), net.UDPAddrFromAddrPort(a.at.UDP))
			if err != nil {
				return
			}
			a.send(c, slow[prefixLen:])
			_ = c.Close()
		}, func(s *attackedState) uint64 { return s.Slots.ShedNetwork }, 0},

		{"TCP: silence", 0, 0, overTCP(toTCP, func(_ *attacker, c net.Conn) { waits(c) }), closedBy(ClosedFirstByte), 0},
		{"TCP: an octet, and silence", 0, 0, overTCP(toTCP, func(_ *attacker, c net.Conn) { _, _ = c.Write([]byte{0xFF}); waits(c) }), closedBy(ClosedSlowWriter), 0},
		{"TCP: octet by octet", 0, 2, overTCP(toTCP, func(a *attacker, c net.Conn) { a.dribble(c) }), closedBy(ClosedDribble), 0},
		{"TCP: one query, and silence", 0, 0, overTCP(toTCP, func(_ *attacker, c net.Conn) { _, _ = c.Write(frame(packQuery(t, 1, "hit"))); waits(c) }), closedBy(ClosedIdle), 0},
		{"TCP: answers that nobody reads", 0, 4, overTCP(toTCP, func(a *attacker, c net.Conn) { a.send(c, bytes.Repeat(big, 2)) }), closedBy(ClosedSlowReader), 0},
		{"TCP: queries that take long", DefaultMaxInFlight, 0, overTCP(toTCP, func(a *attacker, c net.Conn) { a.send(c, slow) }), func(s *attackedState) uint64 { return s.Slots.ShedNetwork }, 0},
		{"TCP: what is no query", 0, 0, overTCP(toTCP, func(a *attacker, c net.Conn) {
			for i := range bad {
				if !a.act() {
					return
				}
				if _, err := c.Write(frame(bad[i].msg)); err != nil {
					return
				}
			}
		}), closedBy(ClosedNoQuery), 0},
		{"TCP: more connections than one may have", 0, 0, func(a *attacker) {
			for range 3 {
				go waits(orNothing(a.tcp(a.at.TCP)))
			}
			waits(orNothing(a.tcp(a.at.TCP)))
		}, func(s *attackedState) uint64 { return s.TCP.OverClient }, 0},

		{"TLS: half a handshake", 0, 0, func(a *attacker) {
			if c := a.tcp(a.at.DoT); c != nil {
				_, _ = c.Write([]byte{22, 3, 1, 2, 0, 1}) // of a ClientHello
				waits(c)
			}
		}, func(s *attackedState) uint64 { return s.DoT.Closed[ClosedFirstByte] }, 0},
		{"TLS: handshakes", 0, 1, func(a *attacker) {
			if c := toDoT(a); c != nil {
				_ = c.Close()
			}
		}, func(s *attackedState) uint64 { return s.Conns.OverRate }, 0},
		{"DoT: answers that nobody reads", 0, 4, overTCP(toDoT, func(a *attacker, c net.Conn) { a.send(c, bytes.Repeat(big, 20)) }), func(s *attackedState) uint64 { return s.DoT.Closed[ClosedSlowReader] }, 0},
		{"DoT: octet by octet", 0, 2, overTCP(toDoT, func(a *attacker, c net.Conn) { a.dribble(c) }), func(s *attackedState) uint64 { return s.DoT.Closed[ClosedDribble] }, 0},
		{"HTTP/1.1: a header without end", 0, 8, overTCP(toHTTP, func(a *attacker, c net.Conn) {
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\n")
			a.send(c, []byte("x: y\r\n"))
		}), func(s *attackedState) uint64 { return s.Conns.Accepted }, 0},
		{"HTTP/1.1: a body without end", 0, 8, overTCP(toHTTP, func(a *attacker, c net.Conn) {
			_, _ = io.WriteString(c, "POST "+DefaultPath+" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Type: "+mediaType+"\r\n\r\n")
			a.send(c, []byte("400\r\n"+strings.Repeat("x", 0x400)+"\r\n"))
		}), func(s *attackedState) uint64 { return s.DoH.Status[wire.UnsupportedOpcode] }, 0},
		{"HTTP/1.1: a long GET", 0, 8, overTCP(toHTTP, func(a *attacker, c net.Conn) {
			go waits(c)
			a.send(c, []byte("GET "+url+strings.Repeat("A", 8<<10)+" HTTP/1.1\r\nHost: x\r\n\r\n"))
		}), func(s *attackedState) uint64 { return s.DoH.Errors[WebURITooLong] }, 0},

		{"HTTP/2: rapid reset", DefaultStreams, 8, overH2(true, many(10, func(c *h2) error {
			stream, err := c.ask(t, "slow")
			if err != nil {
				return err
			}
			return c.WriteRSTStream(stream, http2.ErrCodeCancel)
		})), endedBy(HTTP2Resets), 0},
		{"HTTP/2: made you reset", DefaultStreams, 8, overH2(true, many(10, func(c *h2) error {
			stream, err := c.ask(t, "slow")
			if err != nil {
				return err
			}
			return c.WriteWindowUpdate(stream, 0)
		})), endedBy(HTTP2Resets), 0},
		{"HTTP/2: CONTINUATION", 0, 8, overH2(true, func(a *attacker, c *h2) error {
			if c.next == 1 {
				c.next = 3
				return c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.header(a.t, "hit"), EndStream: true})
			}
			return c.WriteContinuation(1, false, pieces)
		}), endedBy(HTTP2Header), 0},
		{"HTTP/2: SETTINGS", 0, 8, overH2(true, many(50, func(c *h2) error {
			return c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65535})
		})), endedBy(HTTP2Flood), 0},
		{"HTTP/2: PING", 0, 8, overH2(true, many(50, func(c *h2) error { return c.WritePing(false, [8]byte{}) })), endedBy(HTTP2Flood), 0},
		{"HTTP/2: empty DATA", 0, 8, overH2(true, many(50, func(c *h2) error {
			if c.next == 1 {
				c.next = 3
				fields := bytes.Replace(c.header(t, "hit", "content-type", mediaType), []byte{0x82}, []byte{0x83}, 1) // POST
				return c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: fields, EndHeaders: true})
			}
			return c.WriteData(1, false, nil)
		})), endedBy(HTTP2Flood), 0},
		{"HTTP/2: streams that are not asked on", DefaultStreams, 8, overH2(true, func(a *attacker, c *h2) error {
			fields := bytes.Replace(c.header(a.t, "hit", "content-type", mediaType), []byte{0x82}, []byte{0x83}, 1)
			c.next += 2
			return c.WriteHeaders(http2.HeadersFrameParam{StreamID: c.next, BlockFragment: fields, EndHeaders: true})
		}), func(s *attackedState) uint64 { return s.DoH.HTTP2.TooSlow + s.DoH.HTTP2.Refused }, 0},
		{"HTTP/2: answers without credit", DefaultStreams, 8, overH2(true, func(a *attacker, c *h2) error {
			_, err := c.ask(a.t, "big")
			return err
		}, http2.Setting{ID: http2.SettingInitialWindowSize}), func(s *attackedState) uint64 { return s.DoH.HTTP2.Refused + s.DoH.HTTP2.TooSlow }, 0},
		{"HTTP/2: answers that nobody reads", DefaultStreams, 4, overH2(false, func(a *attacker, c *h2) error {
			if err := c.WriteWindowUpdate(0, 1<<20); err != nil {
				return err
			}
			_, err := c.ask(a.t, "big")
			return err
		}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}), endedBy(HTTP2SlowReader), 0},

		{"DoQ: streams of an octet", DefaultDoQStreams, 8, onStreams("doq", []byte{0xFF}, false), func(s *attackedState) uint64 { return s.DoQ.TooSlow }, 0},
		{"DoQ: lengths without messages", DefaultDoQStreams, 8, onStreams("doq", []byte{0xFF, 0xFF}, false), func(s *attackedState) uint64 { return s.DoQ.TooSlow }, 0},
		{"DoQ: what is no query", DefaultDoQStreams, 4, onStreams("doq", []byte{0, 0}, true), func(s *attackedState) uint64 { return s.DoQ.ProtocolErrors }, 0},
		{"DoQ: queries that take long", DefaultDoQStreams, 8, onStreams("doq", slow, true), func(s *attackedState) uint64 { return s.Slots.ShedNetwork }, 0},
		{"DoQ: rapid reset", DefaultDoQStreams, 8, overQUIC("doq", nil, func(a *attacker, c *quic.Conn) error {
			str, err := c.OpenStreamSync(a.ctx)
			if err != nil {
				return err
			}
			_, err = str.Write(slow)
			_ = str.Close()
			str.CancelRead(doqRequestCancelled)
			return err
		}), func(s *attackedState) uint64 { return s.DoQ.Dropped }, 0},
		{"DoQ: answers without credit", DefaultDoQStreams, 8, overQUIC("doq", &quic.Config{InitialStreamReceiveWindow: 1, MaxStreamReceiveWindow: 1}, func(a *attacker, c *quic.Conn) error {
			str, err := c.OpenStreamSync(a.ctx)
			if err != nil {
				return err
			}
			_, err = str.Write(big)
			_ = str.Close()
			return err
		}), func(s *attackedState) uint64 { return s.DoQ.Untaken }, 0},
		{"DoH3: streams of an octet", DefaultStreams, 8, onStreams("h3", []byte{1}, false), func(s *attackedState) uint64 { return s.DoH3.Accepted }, 0},
		{"QUIC: handshakes", 0, 1, overQUIC("doq", nil, func(*attacker, *quic.Conn) error { return io.EOF }), func(s *attackedState) uint64 { return s.Conns.OverRate + s.DoQ.Retries }, 0},
	}
	for i := range all {
		all[i].network = byte(2 + i)
	}
	return all
}

// many does something so often in one act, until it fails.
func many(n int, do func(c *h2) error) func(*attacker, *h2) error {
	return func(_ *attacker, c *h2) error {
		for range n {
			if err := do(c); err != nil {
				return err
			}
		}
		return nil
	}
}

// orNothing returns c, or what ends at once.
func orNothing(c net.Conn) io.Reader {
	if c == nil {
		return strings.NewReader("")
	}
	return c
}

func closedBy(r CloseReason) func(*attackedState) uint64 {
	return func(s *attackedState) uint64 { return s.TCP.Closed[r] }
}

func endedBy(e HTTP2End) func(*attackedState) uint64 {
	return func(s *attackedState) uint64 { return s.DoH.HTTP2.Ends[e] }
}

// run lets the workers of an attack do so many acts in a second until stop is called,
// which waits for them.
func (k *attack) run(t *testing.T, at *attackedPlaces, workers, rate int) (stop func()) {
	t.Helper()
	config := trusted(t).client()
	config.ServerName = "127.0.0.1"
	ctx, cancel := context.WithCancel(t.Context())
	pace := make(chan struct{})
	var working sync.WaitGroup
	working.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			for range rate / 100 {
				select {
				case pace <- struct{}{}:
				case <-ctx.Done():
					return
				}
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	if k.workers != 0 {
		workers = k.workers
	}
	for i := range workers {
		a := &attacker{ctx: ctx, at: at, tls: config, from: netip.AddrFrom4([4]byte{127, 0, k.network, byte(1 + i%attackers)}), pace: pace, t: t}
		working.Go(func() {
			for ctx.Err() == nil {
				k.do(a)
			}
		})
	}
	return func() {
		cancel()
		working.Wait()
	}
}

// others are clients that behave, one for each transport, and one that connects for
// each query.
type others struct {
	at    *attackedPlaces
	query []byte
	tls   *tls.Config
	ways  []clients.Way
	open  []clients.Asker // of ways
}

func newOthers(t *testing.T, at *attackedPlaces) *others {
	t.Helper()
	o := &others{at: at, query: packQuery(t, 1, "hit"), tls: trusted(t).client()}
	o.tls.ServerName = "127.0.0.1"
	for _, w := range clients.Ways() {
		if !strings.Contains(w.Name, "HTTP/1.1") && !strings.Contains(w.Name, "GET") && !w.Clear {
			o.ways = append(o.ways, w)
		}
	}
	o.open = make([]clients.Asker, len(o.ways))
	t.Cleanup(o.close)
	return o
}

func (o *others) close() {
	for i, a := range o.open {
		if a != nil {
			_ = a.Close()
			o.open[i] = nil
		}
	}
}

// place returns where o.ways[i] goes.
func (o *others) place(i int) netip.AddrPort {
	return map[string]netip.AddrPort{
		"UDP": o.at.UDP, "TCP": o.at.TCP, "DoT": o.at.DoT, "DoH by HTTP/2 POST": o.at.DoH, "DoH3 by POST": o.at.DoH3, "DoQ": o.at.DoQ,
	}[o.ways[i].Name]
}

// otherTime is how long others wait for an answer: whoever gets none has waited
// for so long.
const otherTime = time.Second

// ask asks once by a way, and returns how long it took. If the connection that it has
// is of no use, it makes another one, as clients do.
func (o *others) ask(i int) time.Duration {
	ctx, cancel := context.WithTimeout(context.Background(), otherTime)
	defer cancel()
	begun := time.Now()
	for ctx.Err() == nil {
		if o.open[i] == nil {
			a, err := o.ways[i].Dial(ctx, otherFrom(i), o.place(i), o.tls)
			if err != nil {
				return otherTime
			}
			o.open[i] = a
		}
		if _, err := o.open[i].Ask(ctx, o.query); err == nil {
			return time.Since(begun)
		}
		_ = o.open[i].Close()
		o.open[i] = nil
	}
	return otherTime
}

// otherFrom returns an address of its own for each of them.
func otherFrom(i int) netip.Addr { return netip.AddrFrom4([4]byte{127, 0, 1, byte(1 + i)}) }

// connect asks once over a new connection, and returns how long it took.
func (o *others) connect() time.Duration {
	ctx, cancel := context.WithTimeout(context.Background(), otherTime)
	defer cancel()
	begun := time.Now()
	way := o.ways[slices.IndexFunc(o.ways, func(w clients.Way) bool { return w.Name == "TCP" })]
	a, err := way.Dial(ctx, otherFrom(len(o.ways)), o.at.TCP, o.tls)
	if err != nil {
		return otherTime
	}
	defer func() { _ = a.Close() }()
	if _, err := a.Ask(ctx, o.query); err != nil {
		return otherTime
	}
	return time.Since(begun)
}

// p99 has all of them ask for a while, and returns what one query of a hundred takes
// longer than, and what one sleep of a hundred took too long meanwhile: that is the
// machine's doing.
func (o *others) p99(window time.Duration) (p99, turn time.Duration) {
	const pause = 2 * time.Millisecond
	var mu sync.Mutex
	var took, late []time.Duration
	var asking sync.WaitGroup
	end := time.Now().Add(window)
	for i := range len(o.ways) + 1 {
		asking.Go(func() {
			for again := true; again; again = time.Now().Before(end) { // once, however late
				var d time.Duration
				if i < len(o.ways) {
					d = o.ask(i)
				} else {
					d = o.connect()
				}
				begun := time.Now()
				time.Sleep(pause)
				slept := time.Since(begun)
				mu.Lock()
				took, late = append(took, d), append(late, slept-pause)
				mu.Unlock()
			}
		})
	}
	asking.Wait()
	slices.Sort(took)
	slices.Sort(late)
	return took[len(took)*99/100], late[len(late)*99/100]
}

// bearable reports whether others, whose p99 is before without an attack, can live
// with it, on a machine that lets who waits wait for a turn.
func bearable(before, during, turn time.Duration) bool {
	return during < attackOthers*before || during < max(attackNoise, attackTurns*turn)
}

// verdict lets others ask without the attack and with it, in turn, until two windows
// were good and the attack was felt. It returns what was wrong if that does not come
// true: a machine that has other things to do spoils a window, and a server that
// suffers spoils all.
func (k *attack) verdict(t *testing.T, p *attackedProcess, o *others, base, most *attackedState) (wrong []string) {
	t.Helper()
	good := 0
	for range attackRounds {
		o.p99(attackWindow / 2) // who lost a connection makes another one
		before, _ := o.p99(attackWindow)
		stop := k.run(t, &p.at, attackedConns, attackRate)
		o.p99(attackBuilds) // it builds up
		p.watch(t, most)
		for borne := true; borne && good < 2; {
			during, turn := o.p99(attackWindow)
			p.watch(t, most)
			if borne = bearable(before, during, turn); borne {
				good++
			} else {
				wrong = append(wrong, fmt.Sprintf("p99 of others %v, and %v during the attack, where a turn takes %v", before, during, turn))
			}
		}
		stop()
		switch {
		case good < 2:
		case k.felt(most) == k.felt(base):
			good = 0
			wrong = append(wrong, "nothing is felt of the attack")
		default:
			return nil
		}
	}
	return wrong
}

// watch notes the most that the server has taken.
func (p *attackedProcess) watch(t *testing.T, most *attackedState) {
	t.Helper()
	s := p.state(t, false)
	s.Goroutines, s.Descriptors, s.Memory = max(s.Goroutines, most.Goroutines), max(s.Descriptors, most.Descriptors), max(s.Memory, most.Memory)
	*most = s
}

// TestAttacksAreBorne has others ask while a server is attacked over each transport:
// it takes a bounded amount of memory, goroutines and descriptors, gives them back,
// and answers others in time.
func TestAttacksAreBorne(t *testing.T) {
	p := startAttacked(t, false)
	for _, k := range attacks(t) {
		t.Run(k.name, func(t *testing.T) {
			base := p.state(t, true)
			o := newOthers(t, &p.at)
			o.p99(attackWindow / 2) // they connect
			var most attackedState
			if wrong := k.verdict(t, p, o, &base, &most); wrong != nil {
				t.Error(strings.Join(wrong, "\n"))
			}
			o.close()
			if n := most.Goroutines - base.Goroutines; n > attackGoroutines+attackedConns*k.streams {
				t.Errorf("%d goroutines", n)
			}
			if n := most.Descriptors - base.Descriptors; n > attackDescriptors {
				t.Errorf("%d descriptors", n)
			}
			if n := int64(most.Memory) - int64(base.Memory); n > attackMemory {
				t.Errorf("%d octets", n)
			}
			eventually(t, "it takes no more than before", func() bool {
				s := p.state(t, true)
				return s.Goroutines <= base.Goroutines+2*maxIdleWorkers && s.Descriptors <= base.Descriptors+10 &&
					int64(s.Memory)-int64(base.Memory) < attackLeft && s.Slots.InUse == 0 && s.Conns.Open == 0 && s.TCP.Open == 0
			})
		})
	}
}

// TestAttacksThatNobodyBoundsDoHarm is what shows that TestAttacksAreBorne can fail:
// without limits, goroutines are more than are allowed there, and others are not let
// in.
func TestAttacksThatNobodyBoundsDoHarm(t *testing.T) {
	p := startAttacked(t, true)
	all := attacks(t)
	named := func(name string) *attack {
		i := slices.IndexFunc(all, func(k attack) bool { return k.name == name })
		return &all[i]
	}
	base := p.state(t, true)
	stop := named("DoQ: streams of an octet").run(t, &p.at, attackedConns, 10*attackRate)
	bound := base.Goroutines + attackGoroutines + attackedConns*DefaultDoQStreams
	within(t, 4*patience, "there are too many goroutines", func() bool { return p.state(t, false).Goroutines > bound })
	stop()
	o := newOthers(t, &p.at)
	answered := func() bool { p99, _ := o.p99(attackWindow); return p99 < otherTime }
	eventually(t, "others are answered", answered)
	stop = named("TCP: an octet, and silence").run(t, &p.at, 2*attackedTotal, attackRate)
	defer stop()
	within(t, 4*patience, "others have no room", func() bool { return !answered() })
}
