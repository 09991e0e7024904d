package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"shirube/internal/deadline"
	"shirube/internal/wire"
)

// raw sends a frame, whatever is wrong with it.
func (c *h2) raw(typ http2.FrameType, flags http2.Flags, stream uint32, payload []byte) {
	_, _ = c.Write(append(appendFrame(nil, typ, flags, stream, len(payload)), payload...)) // it may be refused already
}

// request sends the header of a request, which is POST if a body follows.
func (c *h2) request(t *testing.T, stream uint32, last bool, fields ...string) {
	t.Helper()
	all := []string{":method", "POST", ":scheme", "https", ":path", DefaultPath, "content-type", mediaType}
	if last {
		all = []string{":method", "GET", ":scheme", "https", ":path", getURL(DefaultPath, packQuery(t, 0, "hit"))}
	}
	c.fieldsOf(t, stream, last, append(all, fields...)...)
}

// fieldsOf sends a header of just these fields.
func (c *h2) fieldsOf(t *testing.T, stream uint32, last bool, fields ...string) {
	t.Helper()
	c.fields.Reset()
	for i := 0; i < len(fields); i += 2 {
		if err := c.encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
			t.Fatal(err)
		}
	}
	_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: c.fields.Bytes(), EndStream: last, EndHeaders: true})
}

// await returns the next frame that says what becomes of a stream, or of all.
func (c *h2) await(t *testing.T) http2.Frame {
	t.Helper()
	for {
		f, err := c.ReadFrame()
		if err != nil {
			t.Fatalf("the connection has ended: %v", err)
		}
		switch f.(type) {
		case *http2.SettingsFrame, *http2.WindowUpdateFrame:
		default:
			return f // or its end, a reset included
		}
	}
}

// ends wants GOAWAY with that code, and the end of the connection.
func (c *h2) ends(t *testing.T, code http2.ErrCode) {
	t.Helper()
	for {
		f, err := c.ReadFrame()
		if err != nil {
			t.Fatalf("no GOAWAY: %v", err)
		}
		if g, ok := f.(*http2.GoAwayFrame); ok {
			if g.ErrCode != code {
				t.Errorf("%v, want %v", g.ErrCode, code)
			}
			break
		}
	}
	for {
		if _, err := c.ReadFrame(); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection is still open")
			}
			return
		}
	}
}

// TestHTTP2EndsConnectionsThatBreakItsRules does what RFC 9113 wants a connection
// error for.
func TestHTTP2EndsConnectionsThatBreakItsRules(t *testing.T) {
	hit := packQuery(t, 0, "hit")
	for _, c := range []struct {
		what string
		code http2.ErrCode
		end  HTTP2End
		do   func(t *testing.T, c *h2)
	}{
		{"§4.2, a frame longer than allowed", http2.ErrCodeFrameSize, HTTP2FrameSize, func(t *testing.T, c *h2) {
			c.raw(http2.FrameData, 0, 1, make([]byte, maxFrame+1))
		}},
		{"§4.3, a header that cannot be read", http2.ErrCodeCompression, HTTP2Compression, func(t *testing.T, c *h2) {
			c.raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, 1, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
		}},
		{"§4.3, a header that ends within a field", http2.ErrCodeCompression, HTTP2Compression, func(t *testing.T, c *h2) {
			c.raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, 1, []byte{0x40, 0x05, 'x'})
		}},
		{"§5.1, DATA on a stream that was never opened", http2.ErrCodeProtocol, HTTP2Protocol, func(t *testing.T, c *h2) {
			c.raw(http2.FrameData, 0, 1, hit)
		}},
		{"§5.1, RST_STREAM likewise", http2.ErrCodeProtocol, HTTP2Protocol, func(t *testing.T, c *h2) {
			c.raw(http2.FrameRSTStream, 0, 1, make([]byte, 4))
		}},
		{"§5.1, WINDOW_UPDATE likewise", http2.ErrCodeProtocol, HTTP2Protocol, func(t *testing.T, c *h2) {
			c.raw(http2.FrameWindowUpdate, 0, 1, []byte{0, 0, 0, 1})
		}},
		{"§5.1.1, an even stream", http2.ErrCodeProtocol, HTTP2Protocol, func(t *testing.T, c *h2) { c.request(t, 2, true) }},
		{"§5.1.1, stream 0", http2.ErrCodeProtocol, HTTP2Protocol, func(t *testing.T, c *h2) { c.request(t, 0, true) }},
		{"§5.1.1, a stream below the last", http2.ErrCodeProtocol, HTTP2Protocol, func(t *testing.T, c *h2) {
			c.request(t, 5, true)
			c.request(t, 3, true)
		}},
		{"§6.1, DATA on stream 0", http2.ErrCodeProtocol, HTTP2Protocol, func(t *testing.T, c *h2) { c.raw(http2.FrameData, 0, 0, hit) }},
		{"§6.1, more padding than payload", http2.ErrCodeProtocol, HTTP2Protocol, func(t *testing.T, c *h2) {
			c.request(t, 1, false)
			c.raw(http2.FrameData, http2.FlagDataPadded, 1, []byte{9, 'a', 'b'})
		}},
		{"§6.2, more padding than header", http2.ErrCodeProtocol, HTTP2Protocol, func(t *testing.T, c *h2) {
			c.raw(http2.FrameHeaders, http2.FlagHeadersPadded|http2.FlagHeadersEndHeaders, 1, []byte{9, 0x82})
		}},
		{"§6.2, a header with a priority cut off", http2.ErrCodeFrameSize, HTTP2FrameSize, func(t *testing.T, c *h2) {
			c.raw(http2.FrameHeaders, http2.FlagHeadersPriority|http2.FlagHeadersEndHeaders, 1, []byte{0, 0, 0})
		}},
		{"§6.2, PING within a header", http2.ErrCodeProtocol, HTTP2Protocol, func(t *testing.T, c *h2) {
			c.raw(http2.FrameHeaders, http2.FlagHeadersEndStream, 1, []byte{0x82})
			c.raw(http2.FramePing, 0, 0, make([]byte, 8))
		}},
		{"§6.10, CONTINUATION of another stream", http2.ErrCodeProtocol, HTTP2Protocol, func(t *testing.T, c *h2) {
			c.raw(http2.FrameHeaders, http2.FlagHeadersEndStream, 1, []byte{0x82})
			c.raw(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 3, nil)
		}},
		{"§6.10, CONTINUATION of nothing", http2.ErrCodeProtocol, HTTP2Protocol, func(t *testing.T, c *h2) {
			c.raw(http2.FrameContinuation, http2.FlagContinuationEndHeaders, 1, nil)
		}},
		{"§6.3, PRIORITY of stream 0", http2.ErrCodeProtocol, HTTP2Protocol, func(t *testing.T, c *h2) {
			c.raw(http2.FramePriority, 0, 0, make([]byte, 5))
		}},
		{"§6.3, PRIORITY of another length", http2.ErrCodeFrameSize, HTTP2FrameSize, func(t *testing.T, c *h2) {
			c.raw(http2.FramePriority, 0, 1, make([]byte, 4))
		}},
		{"§6.4, RST_STREAM of stream 0", http2.ErrCodeProtocol, HTTP2Protocol, func(t *testing.T, c *h2) {
			c.raw(http2.FrameRSTStream, 0, 0, make([]byte, 4))
		}},
		{"§6.4, RST_STREAM of another length", http2.ErrCodeFrameSize, HTTP2FrameSize, func(t *testing.T, c *h2) {
			c.request(t, 1, false)
			c.raw(http2.FrameRSTStream, 0, 1, make([]byte, 3))
		}},
		{"§6.5, SETTINGS of a stream", http2.ErrCodeProtocol, HTTP2Protocol, func(t *testing.T, c *h2) { c.raw(http2.FrameSettings, 0, 1, nil) }},
		{"§6.5, SETTINGS of another length", http2.ErrCodeFrameSize, HTTP2FrameSize, func(t *testing.T, c *h2) {
			c.raw(http2.FrameSettings, 0, 0, make([]byte, 5))
		}},
		{"§6.5, an acknowledgement that says something", http2.ErrCodeFrameSize, HTTP2FrameSize, func(t *testing.T, c *h2) {
			c.raw(http2.FrameSettings, http2.FlagSettingsAck, 0, make([]byte, 6))
		}},
		{"§6.5.2, ENABLE_PUSH of 2", http2.ErrCodeProtocol, HTTP2Protocol, func(t *testing.T, c *h2) {
			_ = c.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 2})
		}},
		{"§6.5.2, INITIAL_WINDOW_SIZE beyond all bounds", http2.ErrCodeFlowControl, HTTP2FlowControl, func(t *testing.T, c *h2) {
			_ = c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31})
		}},
		{"§6.5.2, MAX_FRAME_SIZE too small", http2.ErrCodeProtocol, HTTP2Protocol, func(t *testing.T, c *h2) {
			_ = c.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: maxFrame - 1})
		}},
		{"§6.5.2, MAX_FRAME_SIZE too large", http2.ErrCodeProtocol, HTTP2Protocol, func(t *testing.T, c *h2) {
			_ = c.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 24})
		}},
		{"§6.7, PING of a stream", http2.ErrCodeProtocol, HTTP2Protocol, func(t *testing.T, c *h2) {
			c.raw(http2.FramePing, 0, 1, make([]byte, 8))
		}},
		{"§6.7, PING of another length", http2.ErrCodeFrameSize, HTTP2FrameSize, func(t *testing.T, c *h2) {
			c.raw(http2.FramePing, 0, 0, make([]byte, 7))
		}},
		{"§6.8, GOAWAY of a stream", http2.ErrCodeProtocol, HTTP2Protocol, func(t *testing.T, c *h2) {
			c.raw(http2.FrameGoAway, 0, 1, make([]byte, 8))
		}},
		{"§6.8, GOAWAY cut off", http2.ErrCodeFrameSize, HTTP2FrameSize, func(t *testing.T, c *h2) {
			c.raw(http2.FrameGoAway, 0, 0, make([]byte, 7))
		}},
		{"§6.9, WINDOW_UPDATE of nothing", http2.ErrCodeProtocol, HTTP2Protocol, func(t *testing.T, c *h2) {
			c.raw(http2.FrameWindowUpdate, 0, 0, make([]byte, 4))
		}},
		{"§6.9, WINDOW_UPDATE of another length", http2.ErrCodeFrameSize, HTTP2FrameSize, func(t *testing.T, c *h2) {
			c.raw(http2.FrameWindowUpdate, 0, 0, make([]byte, 3))
		}},
		{"§6.9.1, a window beyond all bounds", http2.ErrCodeFlowControl, HTTP2FlowControl, func(t *testing.T, c *h2) {
			c.raw(http2.FrameWindowUpdate, 0, 0, []byte{0x7f, 0xff, 0xff, 0xff})
		}},
		{"§6.9.2, a stream's window likewise, by SETTINGS", http2.ErrCodeFlowControl, HTTP2FlowControl, func(t *testing.T, c *h2) {
			c.request(t, 1, false)
			c.raw(http2.FrameWindowUpdate, 0, 1, []byte{0x7f, 0xff, 0, 0})
			_ = c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
		}},
		{"§8.4, PUSH_PROMISE", http2.ErrCodeProtocol, HTTP2Protocol, func(t *testing.T, c *h2) {
			c.raw(http2.FramePushPromise, 0, 1, make([]byte, 8))
		}},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel() // each takes lingerTime
			d, to, _ := startDoH(t, DoHOptions{Handler: newScripted()})
			client := dialH2(t, to)
			c.do(t, client)
			client.ends(t, c.code)
			eventually(t, "it is counted", func() bool { return d.Stats().HTTP2.Ends[c.end] == 1 && d.Stats().HTTP2.Open == 0 })
		})
	}
}

// TestHTTP2WantsPrefaceAndSettingsFirst begins in other ways (RFC 9113 §3.4).
func TestHTTP2WantsPrefaceAndSettingsFirst(t *testing.T) {
	for _, begin := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		http2.ClientPreface + string(appendFrame(nil, http2.FramePing, 0, 0, 8)) + "12345678",
		http2.ClientPreface + string(appendFrame(nil, http2.FrameSettings, http2.FlagSettingsAck, 0, 0)),
	} {
		d, to, _ := startDoH(t, DoHOptions{Handler: newScripted()})
		c := dialTLS(t, to, "h2")
		write(t, c, []byte(begin))
		client := &h2{Conn: c, Framer: http2.NewFramer(c, c)}
		client.ends(t, http2.ErrCodeProtocol)
		eventually(t, "it is counted", func() bool { return d.Stats().HTTP2.Ends[HTTP2Protocol] == 1 })
	}
}

// TestHTTP2ResetsRequestsThatAreMalformed sends what RFC 9113 §8 wants a stream
// error for, and something else on the same connection afterwards.
func TestHTTP2ResetsRequestsThatAreMalformed(t *testing.T) {
	path := getURL(DefaultPath, packQuery(t, 0, "hit"))
	get := []string{":method", "GET", ":scheme", "https", ":path", path}
	post := []string{":method", "POST", ":scheme", "https", ":path", DefaultPath, "content-type", mediaType}
	with := func(fields []string, more ...string) []string { return append(slices.Clone(fields), more...) }
	type send struct {
		what   string
		fields []string
		data   []byte
		code   http2.ErrCode
	}
	for _, c := range []send{
		{"no path", []string{":method", "GET", ":scheme", "https"}, nil, http2.ErrCodeProtocol},
		{"an empty path", []string{":method", "GET", ":scheme", "https", ":path", ""}, nil, http2.ErrCodeProtocol},
		{"no scheme", []string{":method", "GET", ":path", path}, nil, http2.ErrCodeProtocol},
		{"no method", []string{":scheme", "https", ":path", path}, nil, http2.ErrCodeProtocol},
		{"two paths", with(get, ":path", path), nil, http2.ErrCodeProtocol},
		{"a pseudo-header of responses", with(get, ":status", "200"), nil, http2.ErrCodeProtocol},
		{"a pseudo-header behind a field", []string{":method", "GET", "accept", "*/*", ":scheme", "https", ":path", path}, nil, http2.ErrCodeProtocol},
		{"capitals", with(get, "Accept", "*/*"), nil, http2.ErrCodeProtocol},
		{"a name that is none", with(get, "a b", "c"), nil, http2.ErrCodeProtocol},
		{"no name", with(get, "", "c"), nil, http2.ErrCodeProtocol},
		{"a line break", with(get, "a", "b\r\nc: d"), nil, http2.ErrCodeProtocol},
		{"space around a value", with(get, "a", " b"), nil, http2.ErrCodeProtocol},
		{"connection", with(get, "connection", "close"), nil, http2.ErrCodeProtocol},
		{"transfer-encoding", with(get, "transfer-encoding", "chunked"), nil, http2.ErrCodeProtocol},
		{"te", with(get, "te", "gzip"), nil, http2.ErrCodeProtocol},
		{"a length that is none", with(post, "content-length", "x"), nil, http2.ErrCodeProtocol},
		{"two lengths", with(post, "content-length", "1", "content-length", "2"), nil, http2.ErrCodeProtocol},
		{"a body longer than said", with(post, "content-length", "1"), []byte("ab"), http2.ErrCodeProtocol},
		{"a body shorter than said", with(post, "content-length", "3"), []byte("ab"), http2.ErrCodeProtocol},
	} {
		t.Run(c.what, func(t *testing.T) {
			d, to, _ := startDoH(t, DoHOptions{Handler: newScripted()})
			client := dialH2(t, to)
			client.fieldsOf(t, 1, c.data == nil, c.fields...)
			if c.data != nil {
				client.raw(http2.FrameData, http2.FlagDataEndStream, 1, c.data)
			}
			if r, ok := client.await(t).(*http2.RSTStreamFrame); !ok || r.ErrCode != c.code || r.StreamID != 1 {
				t.Fatalf("%v, want a reset with %v", r, c.code)
			}
			client.request(t, 3, true)
			if f, ok := client.await(t).(*http2.HeadersFrame); !ok || f.StreamID != 3 {
				t.Errorf("%v", f)
			}
			if s := d.Stats(); s.Answered != 1 || s.HTTP2.Open != 1 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// response reads the response on a stream to its end, and returns its fields and body.
func (c *h2) response(t *testing.T, stream uint32) (fields map[string]string, body []byte) {
	t.Helper()
	fields = make(map[string]string)
	decoder := hpack.NewDecoder(4096, func(f hpack.HeaderField) { fields[f.Name] = f.Value })
	for {
		f := c.await(t)
		if f.Header().StreamID != stream {
			t.Fatalf("%v, want stream %d", f, stream)
		}
		switch f := f.(type) {
		case *http2.HeadersFrame:
			if _, err := decoder.Write(f.HeaderBlockFragment()); err != nil {
				t.Fatal(err)
			}
		case *http2.DataFrame:
			body = append(body, f.Data()...)
		default:
			t.Fatalf("%v", f)
		}
		if f.Header().Flags&http2.FlagDataEndStream != 0 {
			return fields, body
		}
	}
}

// TestHTTP2SendsNoMoreThanAllowed takes a long response in pieces (RFC 9113 §6.9).
func TestHTTP2SendsNoMoreThanAllowed(t *testing.T) {
	d, to, _ := startDoH(t, DoHOptions{Handler: newScripted()})
	c := dialH2(t, to, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	if _, err := c.ask(t, "big"); err != nil {
		t.Fatal(err)
	}
	if f, ok := c.await(t).(*http2.HeadersFrame); !ok || f.StreamEnded() {
		t.Fatalf("%v", f)
	}
	got := 0
	read := func(want int) {
		t.Helper()
		for n := 0; n < want; {
			f, ok := c.await(t).(*http2.DataFrame)
			if !ok || len(f.Data()) > want-n {
				t.Fatalf("%v, want %d octets", f, want-n)
			}
			n += len(f.Data())
			got += len(f.Data())
		}
	}
	_ = c.WriteWindowUpdate(1, 10)
	read(10)
	_ = c.WriteWindowUpdate(1, 100_000) // all of it, as far as the stream goes
	read(59_990)
	if got != 60_000 {
		t.Errorf("%d octets", got)
	}
	// 5,535 are left to the connection, all of which another response takes.
	_ = c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100_000})
	if _, err := c.ask(t, "big"); err != nil {
		t.Fatal(err)
	}
	if f := c.await(t); f.Header().Type != http2.FrameHeaders {
		t.Fatalf("%v", f)
	}
	read(5535)
	_ = c.WriteWindowUpdate(0, 1<<20)
	read(60_000 - 5535)
	if s := d.Stats(); s.Answered != 2 || s.HTTP2.TooSlow != 0 {
		t.Errorf("%+v", s)
	}
}

// TestHTTP2GoesOnAfterAllowanceIsTakenBack lowers the window below what was sent
// (RFC 9113 §6.9.2).
func TestHTTP2GoesOnAfterAllowanceIsTakenBack(t *testing.T) {
	_, to, _ := startDoH(t, DoHOptions{Handler: newScripted()})
	c := dialH2(t, to, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000})
	_, _ = c.ask(t, "big")
	c.await(t)
	if f := c.await(t).(*http2.DataFrame); len(f.Data()) != 1000 {
		t.Fatalf("%v", f)
	}
	_ = c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}) // −1000
	_ = c.WriteWindowUpdate(1, 1005)
	if f := c.await(t).(*http2.DataFrame); len(f.Data()) != 5 {
		t.Fatalf("%v", f)
	}
}

// TestHTTP2TakesBodiesAsTheyCome sends a query in every way that HTTP/2 has.
func TestHTTP2TakesBodiesAsTheyCome(t *testing.T) {
	d, to, _ := startDoH(t, DoHOptions{Handler: newScripted()})
	c := dialH2(t, to)
	msg := packQuery(t, 0, "hit")
	stream := uint32(1)
	for _, way := range []struct {
		what string
		send func(stream uint32)
	}{
		{"at once", func(s uint32) { c.request(t, s, false); _ = c.WriteData(s, true, msg) }},
		{"an octet at a time, and its length", func(s uint32) {
			c.request(t, s, false, "content-length", fmt.Sprint(len(msg)))
			for i := range msg {
				_ = c.WriteData(s, i == len(msg)-1, msg[i:i+1])
			}
		}},
		{"with its end alone", func(s uint32) {
			c.request(t, s, false)
			_ = c.WriteData(s, false, msg)
			_ = c.WriteData(s, true, nil)
		}},
		{"padded", func(s uint32) {
			c.request(t, s, false, "content-length", fmt.Sprint(len(msg)))
			_ = c.WriteDataPadded(s, true, msg, make([]byte, 200))
		}},
		{"with trailers", func(s uint32) {
			c.request(t, s, false)
			_ = c.WriteData(s, false, msg)
			c.fieldsOf(t, s, true, "x-trailer", "1")
		}},
		{"the header in pieces, with padding and priority", func(s uint32) {
			block := c.header(t, "hit")
			_ = c.WriteHeaders(http2.HeadersFrameParam{
				StreamID: s, BlockFragment: block[:7], EndStream: true, PadLength: 9, Priority: http2.PriorityParam{StreamDep: 0, Weight: 3},
			})
			_ = c.WriteContinuation(s, false, block[7:20])
			_ = c.WriteContinuation(s, true, block[20:])
		}},
		{"a path that is escaped", func(s uint32) {
			c.fieldsOf(t, s, true, ":method", "GET", ":scheme", "https", ":path", strings.Replace(getURL(DefaultPath, msg), "dns-query", "dns%2dquery", 1))
		}},
	} {
		way.send(stream)
		fields, body := c.response(t, stream)
		if fields[":status"] != "200" || fields["content-type"] != mediaType || fields["content-length"] != fmt.Sprint(len(body)) || fields["date"] == "" {
			t.Errorf("%s: %v", way.what, fields)
		}
		wantRcode(t, unpack(t, body), 0)
		stream += 2
	}
	if s := d.Stats(); s.Answered != 7 || s.Requests != 7 {
		t.Errorf("%+v", s)
	}
}

// TestHTTP2AnswersBeforeABodyThatItDoesNotWant refuses a request by its header, and
// lets the client stop (RFC 9113 §8.1).
func TestHTTP2AnswersBeforeABodyThatItDoesNotWant(t *testing.T) {
	_, to, _ := startDoH(t, DoHOptions{Handler: newScripted()})
	c := dialH2(t, to)
	c.request(t, 1, false, "content-length", fmt.Sprint(maxPost+1))
	if fields, _ := c.response(t, 1); fields[":status"] != "413" {
		t.Errorf("%v", fields)
	}
	if r, ok := c.await(t).(*http2.RSTStreamFrame); !ok || r.ErrCode != http2.ErrCodeNo {
		t.Errorf("%v", r)
	}
	_ = c.WriteData(1, false, make([]byte, 1000)) // what was on its way
	if r, ok := c.await(t).(*http2.RSTStreamFrame); !ok || r.ErrCode != http2.ErrCodeStreamClosed {
		t.Errorf("%v", r)
	}
	c.request(t, 3, true)
	if fields, _ := c.response(t, 3); fields[":status"] != "200" {
		t.Errorf("%v", fields)
	}
}

// TestHTTP2HoldsABoundedAmount leaves bodies open, in the most that a connection may
// have of them.
func TestHTTP2HoldsABoundedAmount(t *testing.T) {
	d, to, _ := startDoH(t, DoHOptions{Handler: newScripted(), MaxStreams: 1000})
	c := dialH2(t, to)
	go func() { _, _ = io.Copy(io.Discard, c.Conn) }()
	for i := range uint32(200) {
		c.request(t, 2*i+1, false)
		if c.WriteData(2*i+1, false, make([]byte, maxQuery)) != nil {
			break
		}
	}
	eventually(t, "streams are refused", func() bool { return d.Stats().HTTP2.Refused > 0 })
	if s := d.Stats(); s.Requests > maxHeld/maxQuery+1 {
		t.Errorf("%d requests are kept", s.Requests)
	}
}

// TestHTTP2EndsWhatAsksForNothing sends frames that are allowed, and of no use.
func TestHTTP2EndsWhatAsksForNothing(t *testing.T) {
	for _, flood := range []struct {
		name string
		send func(c *h2) error
	}{
		{"empty DATA", func(c *h2) error { return c.WriteData(1, false, nil) }},
		{"PRIORITY", func(c *h2) error { return c.WritePriority(1, http2.PriorityParam{}) }},
		{"unknown frames", func(c *h2) error { return c.WriteRawFrame(0x77, 0, 0, nil) }},
		{"SETTINGS acknowledgements", func(c *h2) error { return c.WriteSettingsAck() }},
		{"an octet of window at a time", func(c *h2) error { return c.WriteWindowUpdate(0, 1) }},
		{"GOAWAY", func(c *h2) error { return c.WriteGoAway(0, 0, nil) }},
	} {
		t.Run(flood.name, func(t *testing.T) {
			d, to, _ := startDoH(t, DoHOptions{Handler: newScripted()})
			c := dialH2(t, to)
			c.request(t, 1, false)
			for range 2 * maxIdleFrames {
				if flood.send(c) != nil {
					break
				}
			}
			c.ends(t, http2.ErrCodeEnhanceYourCalm)
			eventually(t, "it is counted", func() bool { return d.Stats().HTTP2.Ends[HTTP2Flood] == 1 })
		})
	}
}

// TestHTTP2DecodesABoundedHeader has a header say far more than it has octets
// (an HPACK bomb).
func TestHTTP2DecodesABoundedHeader(t *testing.T) {
	_, to, _ := startDoH(t, DoHOptions{Handler: newScripted()})
	c := dialH2(t, to)
	c.fields.Reset()
	for _, f := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":path", "/"}, {"x", strings.Repeat("y", 4000)}} {
		if err := c.encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			t.Fatal(err)
		}
	}
	block := append(bytes.Clone(c.fields.Bytes()), bytes.Repeat([]byte{0x80 | 62}, 10_000)...) // the same 10,000 times
	_ = c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block, EndStream: true, EndHeaders: true})
	if fields, _ := c.response(t, 1); fields[":status"] != fmt.Sprint(http.StatusRequestHeaderFieldsTooLarge) {
		t.Errorf("%v", fields)
	}
}

// TestHTTP2EndsSlowStreamsAlone leaves a request incomplete, on a connection that
// others ask on, as behind a proxy.
func TestHTTP2EndsSlowStreamsAlone(t *testing.T) {
	t.Parallel()
	d, to, _ := startDoH(t, DoHOptions{Handler: newScripted(), MessageTimeout: 2 * time.Second, IdleTimeout: patience}) // enough for a handshake on a busy machine
	c := dialH2(t, to)
	c.request(t, 1, false)
	if r, ok := c.await(t).(*http2.RSTStreamFrame); !ok || r.StreamID != 1 || r.ErrCode != http2.ErrCodeCancel {
		t.Fatalf("%v", r)
	}
	c.request(t, 3, true)
	if fields, _ := c.response(t, 3); fields[":status"] != "200" {
		t.Errorf("%v", fields)
	}
	if s := d.Stats().HTTP2; s.TooSlow != 1 || s.Open != 1 {
		t.Errorf("%+v", s)
	}
}

// TestHTTP2ShutdownWaitsForWhatWasAsked says that it goes, hears that the client
// knows, and answers what was asked before (RFC 9113 §6.8).
func TestHTTP2ShutdownWaitsForWhatWasAsked(t *testing.T) {
	d, to, _ := startDoH(t, DoHOptions{Handler: newScripted()})
	c := dialH2(t, to)
	c.request(t, 1, true)
	c.response(t, 1)
	down := make(chan error, 1)
	go func() { down <- d.Shutdown(context.WithoutCancel(t.Context())) }()
	g, ok := c.await(t).(*http2.GoAwayFrame)
	if !ok || g.ErrCode != http2.ErrCodeNo || g.LastStreamID != maxStreamID {
		t.Fatalf("%v", g)
	}
	ping, ok := c.await(t).(*http2.PingFrame)
	if !ok {
		t.Fatalf("%v", ping)
	}
	data := ping.Data
	c.request(t, 3, true) // sent before GOAWAY was read
	if fields, _ := c.response(t, 3); fields[":status"] != "200" {
		t.Errorf("%v", fields)
	}
	_ = c.WritePing(true, data)
	if g, ok = c.await(t).(*http2.GoAwayFrame); !ok || g.LastStreamID != 3 {
		t.Fatalf("%v", g)
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
	if s := d.Stats().HTTP2; s.Ends[HTTP2Shutdown] != 1 || s.Open != 0 {
		t.Errorf("%+v", s)
	}
}

// TestHTTP2CancelsWhatIsReset resets a query in flight.
func TestHTTP2CancelsWhatIsReset(t *testing.T) {
	h := newScripted()
	d, to, _ := startDoH(t, DoHOptions{Handler: h})
	c := dialH2(t, to)
	stream, err := c.ask(t, "slow")
	if err != nil {
		t.Fatal(err)
	}
	h.waitBegan(t, 1)
	_ = c.WriteRSTStream(stream, http2.ErrCodeCancel)
	eventually(t, "its slot is free", func() bool { return d.slots.Stats().InUse == 0 })
	c.request(t, 3, true)
	if fields, _ := c.response(t, 3); fields[":status"] != "200" {
		t.Errorf("%v", fields)
	}
	if s := d.Stats(); s.Resets != 1 || s.Dropped != 1 {
		t.Errorf("%+v", s)
	}
}

// TestHTTP2AnswersOutOfOrder has a hit overtake a query in flight.
func TestHTTP2AnswersOutOfOrder(t *testing.T) {
	h := newScripted()
	_, to, _ := startDoH(t, DoHOptions{Handler: h})
	c := dialH2(t, to)
	_, _ = c.ask(t, "slow")
	h.waitBegan(t, 1)
	_, _ = c.ask(t, "hit")
	c.response(t, 3)
	close(h.release)
	c.response(t, 1)
}

// discarding is a connection that takes everything, and says nothing.
type discarding struct{ net.Conn }

func (discarding) Write(b []byte) (int, error)     { return len(b), nil }
func (discarding) SetReadDeadline(time.Time) error { return nil }
func (discarding) Close() error                    { return nil }
func (discarding) RemoteAddr() net.Addr            { return nil }
func (discarding) LocalAddr() net.Addr             { return nil }

// FuzzHTTP2 gives frames to a connection, in pieces, and wants what it says to be
// frames, and what it keeps to be bounded.
func FuzzHTTP2(f *testing.F) {
	seed := func(do func(c *http2.Framer, fields func(...string) []byte)) {
		var b, block bytes.Buffer
		enc := hpack.NewEncoder(&block)
		framer := http2.NewFramer(&b, nil)
		framer.AllowIllegalWrites = true
		do(framer, func(fields ...string) []byte {
			block.Reset()
			for i := 0; i < len(fields); i += 2 {
				_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
			}
			return bytes.Clone(block.Bytes())
		})
		f.Add(b.Bytes(), uint16(13))
	}
	hit, slow := packQuery(f, 0, "hit"), packQuery(f, 0, "miss")
	seed(func(c *http2.Framer, fields func(...string) []byte) {
		_ = c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 50})
		_ = c.WriteHeaders(http2.HeadersFrameParam{
			StreamID: 1, EndStream: true, EndHeaders: true,
			BlockFragment: fields(":method", "GET", ":scheme", "https", ":path", getURL(DefaultPath, hit)),
		})
		_ = c.WriteWindowUpdate(1, 100)
		_ = c.WritePing(false, [8]byte{})
	})
	seed(func(c *http2.Framer, fields func(...string) []byte) {
		_ = c.WriteSettings()
		_ = c.WriteHeaders(http2.HeadersFrameParam{
			StreamID: 1, EndHeaders: true,
			BlockFragment: fields(":method", "POST", ":scheme", "https", ":path", DefaultPath, "content-type", mediaType, "content-length", "50"),
		})
		_ = c.WriteDataPadded(1, false, slow[:5], make([]byte, 3))
		_ = c.WriteData(1, true, slow[5:])
		_ = c.WriteRSTStream(1, http2.ErrCodeCancel)
		_ = c.WriteGoAway(0, http2.ErrCodeNo, nil)
	})
	f.Fuzz(func(t *testing.T, b []byte, piece uint16) {
		d := NewDoH(DoHOptions{Handler: newScripted()})
		about := &webConn{ends: func() webEnds { return webEnds{believed: true, client: netip.MustParseAddrPort("192.0.2.1:1")} }, cut: func() {}}
		c := newH2Conn(d, discarding{}, about, true)
		var said bytes.Buffer
		check := http2.NewFramer(nil, &said)
		c.ctx = deadline.New(t.Context(), time.Time{})
		for len(b) > 0 {
			n := copy(c.frames.space(), b[:min(len(b), int(piece)+1)])
			c.frames.added(n)
			b = b[n:]
			end := c.take()
			c.mu.Lock()
			for c.writing {
				c.wrote.Wait()
			}
			said.Write(c.out)
			c.out, c.ends = c.out[:0], c.ends[:0]
			held, streams := c.held, len(c.streams)+c.orphans
			c.mu.Unlock()
			if held < 0 || held > maxHeld+wire.MaxMsgSize || streams > DefaultStreams {
				t.Fatalf("%d octets of %d streams are held", held, streams)
			}
			if end != h2GoesOn {
				break
			}
		}
		c.close(HTTP2ByClient)
		c.serving.Wait()
		for said.Len() > 0 {
			if _, err := check.ReadFrame(); err != nil && !errors.As(err, new(http2.StreamError)) {
				t.Fatalf("it said no frame: %v", err)
			}
		}
		if c.held != 0 || len(c.streams) != 0 || c.orphans != 0 || c.waiting != 0 {
			t.Errorf("%d octets, %d streams, %d orphans, %d waiting are left", c.held, len(c.streams), c.orphans, c.waiting)
		}
	})
}
