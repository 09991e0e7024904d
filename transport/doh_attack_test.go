package transport

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2 is a client of HTTP/2 that does what it likes.
type h2 struct {
	net.Conn
	*http2.Framer

	fields  bytes.Buffer
	encoder *hpack.Encoder
	next    uint32 // stream
}

// dialH2 connects and sends the preface and settings.
func dialH2(t *testing.T, to netip.AddrPort, settings ...http2.Setting) *h2 {
	t.Helper()
	c := &h2{Conn: dialTLS(t, to, "h2"), next: 1}
	c.Framer = http2.NewFramer(c.Conn, c.Conn)
	c.AllowIllegalWrites = true
	c.encoder = hpack.NewEncoder(&c.fields)
	write(t, c.Conn, []byte(http2.ClientPreface))
	if err := c.WriteSettings(settings...); err != nil {
		t.Fatal(err)
	}
	return c
}

// header returns the header of a request by GET.
func (c *h2) header(t *testing.T, label string, more ...string) []byte {
	t.Helper()
	c.fields.Reset()
	fields := append([]string{":method", "GET", ":scheme", "https", ":authority", "dns.example", ":path", getURL(DefaultPath, packQuery(t, 0, label))}, more...)
	for i := 0; i < len(fields); i += 2 {
		if err := c.encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
			t.Fatal(err)
		}
	}
	return c.fields.Bytes()
}

// ask sends a request, and returns its stream.
func (c *h2) ask(t *testing.T, label string) (stream uint32, err error) {
	t.Helper()
	stream = c.next
	c.next += 2
	return stream, c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: c.header(t, label), EndStream: true, EndHeaders: true})
}

// drain reads what the server says until it ends the connection, and returns the
// frames by their type, and the code of GOAWAY.
func (c *h2) drain(t *testing.T) (frames map[http2.FrameType]int, code http2.ErrCode) {
	t.Helper()
	frames = make(map[http2.FrameType]int)
	for {
		f, err := c.ReadFrame()
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the connection is still open: %v", frames)
			}
			return frames, code
		}
		frames[f.Header().Type]++
		if g, ok := f.(*http2.GoAwayFrame); ok {
			code = g.ErrCode
		}
	}
}

// attackable is a server with so much patience, whose queries in flight wait for
// somebody to end them.
func attackable(t *testing.T, message time.Duration) (*DoH, netip.AddrPort) {
	t.Helper()
	d, secure, _ := startDoH(t, DoHOptions{Handler: newScripted(), Timeout: patience, MessageTimeout: message, IdleTimeout: patience})
	return d, secure
}

// unharmed wants nothing of an attack to be left, and others to be served.
func unharmed(t *testing.T, d *DoH, to netip.AddrPort, goroutines int) {
	t.Helper()
	eventually(t, "the connection of the attacker is closed", func() bool { return d.opt.Conns.Stats().Open == 0 })
	eventually(t, "its goroutines have ended", func() bool { return runtime.NumGoroutine() <= goroutines+5 })
	wantRcode(t, askWeb(t, webWays[0].client(t), webWays[0].url(to, to), "hit"), 0)
}

// TestDoHEndsRapidReset resets each request at once (CVE-2023-44487), and has the
// server reset each (MadeYouReset, CVE-2025-8671).
func TestDoHEndsRapidReset(t *testing.T) {
	for _, attack := range []struct {
		name  string
		reset func(c *h2, stream uint32) error
	}{
		{"rapid reset", func(c *h2, stream uint32) error { return c.WriteRSTStream(stream, http2.ErrCodeCancel) }},
		{"made you reset", func(c *h2, stream uint32) error { return c.WriteWindowUpdate(stream, 0) }},
	} {
		t.Run(attack.name, func(t *testing.T) {
			d, to := attackable(t, patience)
			goroutines := runtime.NumGoroutine()
			c := dialH2(t, to)
			most := 0
			go func() { _, _ = io.Copy(io.Discard, c.Conn) }() // what the server says
			var err error
			for range 100_000 {
				var stream uint32
				if stream, err = c.ask(t, "slow"); err != nil {
					break
				}
				if err = attack.reset(c, stream); err != nil {
					break
				}
				most = max(most, runtime.NumGoroutine())
			}
			if err == nil {
				t.Fatal("the server took it all")
			}
			s := d.Stats()
			if most > goroutines+DefaultStreams+20 || s.Requests > maxResets+5*DefaultStreams {
				t.Errorf("%d goroutines, %d requests", most-goroutines, s.Requests)
			}
			unharmed(t, d, to, goroutines)
		})
	}
}

// TestDoHEndsHeadersWithoutEnd sends CONTINUATION frames for ever (CVE-2023-45288).
func TestDoHEndsHeadersWithoutEnd(t *testing.T) {
	d, to := attackable(t, patience)
	goroutines := runtime.NumGoroutine()
	c := dialH2(t, to)
	if err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.header(t, "hit"), EndStream: true}); err != nil {
		t.Fatal(err)
	}
	c.fields.Reset()
	for i := range 100 {
		if err := c.encoder.WriteField(hpack.HeaderField{Name: fmt.Sprintf("x-%d", i), Value: "0123456789abcdef", Sensitive: true}); err != nil {
			t.Fatal(err)
		}
	}
	fragment, sent := bytes.Clone(c.fields.Bytes()), 0
	for ; sent < 64<<20; sent += len(fragment) {
		if c.WriteContinuation(1, false, fragment) != nil {
			break
		}
	}
	if sent > 16<<20 { // what is on its way counts
		t.Errorf("the server took %d octets", sent)
	}
	if d.Stats().Requests != 0 {
		t.Error("it was taken for a request")
	}
	_ = c.Close()
	unharmed(t, d, to, goroutines)
}

// TestDoHEndsFloodsOfControl sends what has to be acknowledged, and takes no
// acknowledgement (CVE-2019-9512, CVE-2019-9515).
func TestDoHEndsFloodsOfControl(t *testing.T) {
	for _, flood := range []struct {
		name string
		send func(c *h2) error
	}{
		{"SETTINGS", func(c *h2) error {
			return c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65535})
		}},
		{"PING", func(c *h2) error { return c.WritePing(false, [8]byte{}) }},
	} {
		t.Run(flood.name, func(t *testing.T) {
			d, to := attackable(t, patience)
			goroutines := runtime.NumGoroutine()
			c := dialH2(t, to)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			n := 0
			for ; n < 2_000_000 && flood.send(c) == nil; n++ {
			}
			runtime.ReadMemStats(&after)
			if n == 2_000_000 {
				t.Error("the server took it all")
			}
			if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 32<<20 {
				t.Errorf("%d octets were kept", grown)
			}
			_ = c.Close()
			unharmed(t, d, to, goroutines)
		})
	}
}

// TestDoHEndsRequestsNobodyReads asks for long answers, and gives no credit for
// them.
func TestDoHEndsRequestsNobodyReads(t *testing.T) {
	d, to := attackable(t, 2*time.Second)
	goroutines := runtime.NumGoroutine()
	c := dialH2(t, to, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	for range DefaultStreams {
		if _, err := c.ask(t, "big"); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the requests have come", func() bool {
		s := d.Stats()
		return s.Requests+s.HTTP2.Refused == DefaultStreams && s.Requests*60_000 <= maxHeld+60_000
	})
	if n := runtime.NumGoroutine(); n > goroutines+DefaultStreams+20 {
		t.Errorf("%d goroutines", n-goroutines)
	}
	_ = c.WriteSettings() // others than these streams are nothing to it
	eventually(t, "they are given up", func() bool {
		s := d.Stats().HTTP2
		return s.TooSlow+s.Refused == DefaultStreams
	})
	_ = c.Close()
	unharmed(t, d, to, goroutines)
}

// TestDoHRefusesStreamsBeyondItsLimit opens more streams than it was told it may,
// and leaves their bodies open.
func TestDoHRefusesStreamsBeyondItsLimit(t *testing.T) {
	d, to := attackable(t, patience)
	goroutines := runtime.NumGoroutine()
	c := dialH2(t, to)
	most := 0
	for i := range 10 * DefaultStreams {
		fields := c.header(t, "hit", "content-type", mediaType)
		fields = bytes.Replace(fields, []byte{0x82}, []byte{0x83}, 1) // POST in place of GET (RFC 7541 appendix A)
		err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: fields, EndHeaders: true})
		if err != nil {
			break // told to go
		}
		most = max(most, runtime.NumGoroutine())
	}
	if most > goroutines+DefaultStreams+20 {
		t.Errorf("%d goroutines", most-goroutines)
	}
	frames, _ := c.drain(t)
	if frames[http2.FrameRSTStream]+frames[http2.FrameGoAway] == 0 {
		t.Errorf("%v", frames)
	}
	unharmed(t, d, to, goroutines)
}
