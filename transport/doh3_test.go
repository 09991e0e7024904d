package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/quic-go/quicvarint"
	"golang.org/x/net/http2/hpack"

	"shirube/internal/wire"
)

// h3 is a client of HTTP/3 that sends what it is told to.
type h3 struct {
	*quic.Conn

	control *h3Reader // what the server says of the connection
}

// dialH3 connects, and reads the server's settings.
func dialH3(t *testing.T, at netip.AddrPort) *h3 {
	t.Helper()
	c, err := dialQUIC(t, at, quicClient(t, "h3"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	str, err := c.AcceptUniStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	p := &h3{c, newH3Reader(h3ReadAhead)}
	p.control.begin(str, math.MaxInt64)
	if typ, err := quicvarint.Read(p.control.in); typ != h3ControlStream || err != nil {
		t.Fatalf("a stream of type %d: %v", typ, err)
	}
	typ, n, err := p.control.next()
	if err != nil || typ != h3Settings || p.control.settings(n) != nil {
		t.Fatalf("a frame %d: %v", typ, err)
	}
	return p
}

// send opens a stream with octets on it, and its end. The server need not take all.
func (c *h3) send(t *testing.T, b ...[]byte) *quic.Stream {
	t.Helper()
	str, err := c.OpenStreamSync(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = str.SetDeadline(time.Now().Add(patience))
	go func() { // ends with the stream
		_, _ = str.Write(bytes.Join(b, nil))
		_ = str.Close()
	}()
	return str
}

// goAway returns what the next frame of the control stream says, which has to be
// GOAWAY.
func (c *h3) goAway(t *testing.T) uint64 {
	t.Helper()
	typ, _, err := c.control.next()
	if err != nil || typ != h3GoAway {
		t.Fatalf("a frame %d: %v", typ, err)
	}
	id, err := quicvarint.Read(c.control.in)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// told returns all that is said by GOAWAY, up to the connection's end.
func (c *h3) told(t *testing.T) <-chan []uint64 {
	told := make(chan []uint64, 1)
	go func() { // ends with the connection
		var ids []uint64
		for {
			typ, _, err := c.control.next()
			if err != nil {
				told <- ids
				return
			}
			id, err := quicvarint.Read(c.control.in)
			if typ != h3GoAway || err != nil {
				t.Errorf("a frame %d: %v", typ, err)
			}
			ids = append(ids, id)
		}
	}()
	return told
}

// h3Frame returns a frame.
func h3Frame(typ uint64, payload ...byte) []byte {
	return append(quicvarint.Append(quicvarint.Append(nil, typ), uint64(len(payload))), payload...)
}

// h3Fields returns a HEADERS frame of names and values.
func h3Fields(fields ...string) []byte {
	var b bytes.Buffer
	enc := qpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		_ = enc.WriteField(qpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return h3Frame(h3Headers, b.Bytes()...)
}

// h3Get and h3Post return the fields of requests, with others after them.
func h3Get(query []byte, more ...string) []byte {
	return h3Fields(append([]string{":method", "GET", ":scheme", "https", ":authority", "dns.example", ":path", getURL(DefaultPath, query)}, more...)...)
}

func h3Post(more ...string) []byte {
	return h3Fields(append([]string{":method", "POST", ":scheme", "https", ":authority", "dns.example", ":path", DefaultPath, "content-type", mediaType}, more...)...)
}

// qpackFields reads fields of HTTP/3, as far as they can be read.
func qpackFields(b []byte) map[string]string {
	fields := make(map[string]string)
	next := qpack.NewDecoder().Decode(b)
	for f, err := next(); err == nil; f, err = next() {
		fields[f.Name] = f.Value
	}
	return fields
}

// receiveH3 returns the response on a stream, which has to be all there is.
func receiveH3(str io.Reader) (fields map[string]string, body []byte, err error) {
	r := newH3Reader(h3ReadAhead)
	r.begin(str, math.MaxInt64)
	for {
		typ, n, err := r.next()
		if errors.Is(err, io.EOF) {
			return fields, body, nil
		}
		if err != nil {
			return fields, body, err
		}
		b, err := r.read(nil, int(n))
		if err != nil {
			return fields, body, err
		}
		switch typ {
		case h3Headers:
			fields = qpackFields(b)
		case h3Data:
			body = append(body, b...)
		default:
			return fields, body, errH3Unexpected
		}
	}
}

// wantH3 is receiveH3 of a message.
func wantH3(t *testing.T, str io.Reader) {
	t.Helper()
	fields, body, err := receiveH3(str)
	if err != nil || fields[":status"] != "200" || wire.RcodeOf(body) != wire.NoError {
		t.Errorf("%v %x: %v", fields, body, err)
	}
}

// wantH3Reset wants a stream to end without a response.
func wantH3Reset(t *testing.T, str io.Reader, code http3.ErrCode) {
	t.Helper()
	var reset *quic.StreamError
	if fields, _, err := receiveH3(str); !errors.As(err, &reset) || reset.ErrorCode != quic.StreamErrorCode(code) || !reset.Remote {
		t.Errorf("%v, and the stream ended with %v", fields, err)
	}
}

// wantClosed wants the connection to end.
func (c *h3) wantClosed(t *testing.T, code http3.ErrCode) {
	t.Helper()
	select {
	case <-c.Context().Done():
	case <-time.After(patience):
		t.Error("the connection is still open")
		return
	}
	var closed *quic.ApplicationError
	if err := context.Cause(c.Context()); !errors.As(err, &closed) || closed.ErrorCode != quic.ApplicationErrorCode(code) {
		t.Errorf("closed with %v", err)
	}
}

func TestDoH3AnswersEachKindOfRequest(t *testing.T) {
	d, at, _ := startDoH3(t, QUICOptions{Handler: newScripted()})
	c := dialH3(t, at)
	hit := packQuery(t, 0, "hit")
	for _, tt := range []struct {
		name   string
		octets [][]byte
		status string
		length string
		body   bool
	}{
		{"GET", [][]byte{h3Get(hit)}, "200", "", true},
		{"HEAD", [][]byte{h3Fields(":method", "HEAD", ":scheme", "https", ":path", getURL(DefaultPath, hit), "host", "dns.example")}, "200", "", false},
		{"POST with frames that nobody knows, and trailers", [][]byte{
			h3Frame(0x21, 1, 2, 3), h3Post("content-length", fmt.Sprint(len(hit))), h3Frame(0x40), h3Frame(h3Data, hit[:5]...), h3Frame(h3Data, hit[5:]...), h3Fields("a", "b"), h3Frame(0x21),
		}, "200", "", true},
		{"POST that is longer than a query", [][]byte{h3Post(), h3Frame(h3Data, append(bytes.Clone(hit), make([]byte, maxQuery)...)...)}, "200", "", true},
		{"elsewhere", [][]byte{h3Fields(":method", "GET", ":scheme", "https", ":authority", "dns.example", ":path", "/")}, "404", "9", true},
		{"PUT", [][]byte{h3Fields(":method", "PUT", ":scheme", "https", ":authority", "dns.example", ":path", DefaultPath)}, "405", "18", true},
		{"a long header", [][]byte{h3Get(hit, "a", strings.Repeat("\x7f~", maxHeader/2))}, "431", "31", true},
		{"many fields that are short as they are sent", [][]byte{h3Get(hit, strings.Split(strings.Repeat("accept,*/*,", 600)+"accept,*/*", ",")...)}, "431", "31", true},
	} {
		fields, body, err := receiveH3(c.send(t, tt.octets...))
		if err != nil || fields[":status"] != tt.status || tt.length != "" && fields["content-length"] != tt.length || (len(body) > 0) != tt.body || fields["date"] == "" {
			t.Errorf("%s: %v %x: %v", tt.name, fields, body, err)
		}
		if tt.status == "200" && (fields["content-type"] != mediaType || fields["cache-control"] != "max-age=0") {
			t.Errorf("%s: %v", tt.name, fields)
		}
		if tt.status == "405" && fields["allow"] != allowed {
			t.Errorf("%s: %v", tt.name, fields)
		}
	}
	if s := d.Stats(); s.Requests != 8 || s.Errors[WebNotFound] != 1 || s.Errors[WebMethod] != 1 {
		t.Errorf("%+v", s)
	}
}

func TestDoH3EndsStreamsAndConnectionsThatBreakItsRules(t *testing.T) {
	_, at, _ := startDoH3(t, QUICOptions{Handler: newScripted()})
	hit := packQuery(t, 0, "hit")
	get, post := h3Get(hit), h3Post("content-length", fmt.Sprint(len(hit)))
	for _, tt := range []struct {
		name   string
		octets [][]byte
		code   http3.ErrCode
		whole  bool
	}{
		{"nothing", nil, http3.ErrCodeRequestIncomplete, false},
		{"no fields", [][]byte{h3Frame(0x21, 1)}, http3.ErrCodeRequestIncomplete, false},
		{"DATA at first", [][]byte{h3Frame(h3Data, hit...)}, http3.ErrCodeFrameUnexpected, true},
		{"SETTINGS", [][]byte{h3Frame(h3Settings)}, http3.ErrCodeFrameUnexpected, true},
		{"a frame of HTTP/2", [][]byte{h3Frame(0x6, make([]byte, 8)...)}, http3.ErrCodeFrameUnexpected, true},
		{"a priority", [][]byte{h3Frame(h3Priority, 0)}, http3.ErrCodeFrameUnexpected, true},
		{"half of a frame's head", [][]byte{{h3Headers, 0x40}}, http3.ErrCodeFrameError, true},
		{"half of the fields", [][]byte{get[:len(get)-1]}, http3.ErrCodeFrameError, true},
		{"fields of a table", [][]byte{h3Frame(h3Headers, 1, 0, 0x80)}, http3.ErrCodeQPACKDecompressionFailed, true},
		{"a field that there is not", [][]byte{h3Frame(h3Headers, 0, 0, 0xff, 0x7f)}, http3.ErrCodeQPACKDecompressionFailed, true},
		{"fields without an end", [][]byte{h3Frame(h3Headers)}, http3.ErrCodeQPACKDecompressionFailed, true},
		{"of nobody", [][]byte{h3Fields(":method", "GET", ":scheme", "https", ":path", getURL(DefaultPath, hit))}, http3.ErrCodeMessageError, false},
		{"a method twice", [][]byte{h3Get(hit, ":method", "GET")}, http3.ErrCodeMessageError, false},
		{"a field of connections", [][]byte{h3Get(hit, "connection", "close")}, http3.ErrCodeMessageError, false},
		{"a name in capitals", [][]byte{h3Get(hit, "Accept-X", "x")}, http3.ErrCodeMessageError, false},
		{"less than was announced", [][]byte{post, h3Frame(h3Data, hit[:5]...)}, http3.ErrCodeMessageError, false},
		{"more than was announced", [][]byte{post, h3Frame(h3Data, append(bytes.Clone(hit), 0)...)}, http3.ErrCodeMessageError, false},
		{"half of DATA", [][]byte{post, {h3Data, byte(len(hit)), 0}}, http3.ErrCodeFrameError, true},
		{"DATA after trailers", [][]byte{post, h3Frame(h3Data, hit...), h3Fields("a", "b"), h3Frame(h3Data)}, http3.ErrCodeFrameUnexpected, true},
		{"trailers twice", [][]byte{post, h3Frame(h3Data, hit...), h3Fields("a", "b"), h3Fields("a", "b")}, http3.ErrCodeFrameUnexpected, true},
		{"trailers that ask", [][]byte{post, h3Frame(h3Data, hit...), h3Fields(":method", "GET")}, http3.ErrCodeMessageError, false},
		{"long trailers", [][]byte{post, h3Frame(h3Data, hit...), h3Frame(h3Headers, make([]byte, maxHeader+1)...)}, http3.ErrCodeExcessiveLoad, false},
		{"GOAWAY in the body", [][]byte{post, h3Frame(h3GoAway, 0)}, http3.ErrCodeFrameUnexpected, true},
		{"nothing but frames that nobody knows", [][]byte{h3Frame(0x21, make([]byte, maxH3Request)...)}, http3.ErrCodeExcessiveLoad, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dialH3(t, at)
			str := c.send(t, tt.octets...)
			if tt.whole {
				c.wantClosed(t, tt.code)
				return
			}
			wantH3Reset(t, str, tt.code)
			wantH3(t, c.send(t, get)) // the others go on
		})
	}
}

func TestDoH3EndsConnectionsWhoseControlStreamBreaksItsRules(t *testing.T) {
	_, at, _ := startDoH3(t, QUICOptions{Handler: newScripted()})
	begin := appendH3Settings(nil)
	for _, tt := range []struct {
		name    string
		streams [][]byte
		code    http3.ErrCode // 0: it goes on
	}{
		{"all that a client may say", [][]byte{bytes.Join([][]byte{
			begin, h3Frame(h3GoAway, 0), h3Frame(h3MaxPushID, 3), h3Frame(h3Priority, 0, 'u', '=', '1'), h3Frame(0x21, 1, 2),
		}, nil), {h3Encoder, 0x20}, {h3Decoder, 0x40}, {0x21, 1}}, 0},
		{"two control streams", [][]byte{begin, begin}, http3.ErrCodeStreamCreationError},
		{"two encoders", [][]byte{{h3Encoder}, {h3Encoder}}, http3.ErrCodeStreamCreationError},
		{"a push", [][]byte{{h3PushStream}}, http3.ErrCodeStreamCreationError},
		{"no settings", [][]byte{append([]byte{h3ControlStream}, h3Frame(h3GoAway, 0)...)}, http3.ErrCodeMissingSettings},
		{"settings twice", [][]byte{append(bytes.Clone(begin), h3Frame(h3Settings)...)}, http3.ErrCodeFrameUnexpected},
		{"half of a setting", [][]byte{append([]byte{h3ControlStream}, h3Frame(h3Settings, 0x21)...)}, http3.ErrCodeFrameError},
		{"a setting of HTTP/2", [][]byte{append([]byte{h3ControlStream}, h3Frame(h3Settings, 4, 1)...)}, http3.ErrCodeSettingsError},
		{"a setting that is no switch", [][]byte{append([]byte{h3ControlStream}, h3Frame(h3Settings, h3Datagrams, 2)...)}, http3.ErrCodeSettingsError},
		{"more settings than there are", [][]byte{append([]byte{h3ControlStream}, h3Frame(h3Settings, make([]byte, maxH3Control+1)...)...)}, http3.ErrCodeExcessiveLoad},
		{"a request", [][]byte{append(bytes.Clone(begin), h3Get(packQuery(t, 0, "hit"))...)}, http3.ErrCodeFrameUnexpected},
		{"a push that is cancelled", [][]byte{append(bytes.Clone(begin), h3Frame(h3CancelPush, 0)...)}, http3.ErrCodeIDError},
		{"nothing but frames that ask for nothing", [][]byte{append(bytes.Clone(begin), bytes.Repeat(h3Frame(0x21), maxIdleFrames+1)...)}, http3.ErrCodeExcessiveLoad},
		{"its end", [][]byte{begin, nil}, http3.ErrCodeClosedCriticalStream},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := dialH3(t, at)
			var first *quic.SendStream
			for _, b := range tt.streams {
				if b == nil {
					_ = first.Close()
					continue
				}
				str, err := c.OpenUniStream()
				if err != nil {
					t.Fatal(err)
				}
				if first == nil {
					first = str
				}
				if _, err := str.Write(b); err != nil {
					t.Fatal(err)
				}
			}
			if tt.code != 0 {
				c.wantClosed(t, tt.code)
				return
			}
			wantH3(t, c.send(t, h3Get(packQuery(t, 0, "hit"))))
		})
	}
}

// TestDoH3ShutdownTellsClientsToGo has a request in flight, one that comes before
// the client can have heard, and one after (RFC 9114 §5.2).
func TestDoH3ShutdownTellsClientsToGo(t *testing.T) {
	h := newScripted()
	d, at, _ := startDoH3(t, QUICOptions{Handler: h})
	c, idle := dialH3(t, at), dialH3(t, at)
	told := idle.told(t)
	slow := c.send(t, h3Get(packQuery(t, 0, "slow")))
	h.waitBegan(t, 1)
	down := make(chan error, 1)
	go func() { down <- d.Shutdown(context.WithoutCancel(t.Context())) }()
	if id := c.goAway(t); id != h3NoStreamYet {
		t.Errorf("GOAWAY with %d", id)
	}
	last := c.goAway(t)
	if last != uint64(slow.StreamID())+4 {
		t.Errorf("GOAWAY with %d", last)
	}
	wantH3Reset(t, c.send(t, h3Get(packQuery(t, 0, "hit"))), http3.ErrCodeRequestRejected)
	h.release <- struct{}{}
	wantH3(t, slow)
	c.wantClosed(t, http3.ErrCodeNoError)
	idle.wantClosed(t, http3.ErrCodeNoError)
	if ids := <-told; len(ids) > 2 || !slices.Equal(ids, []uint64{h3NoStreamYet, 0}[:len(ids)]) { // who reads late finds the connection closed
		t.Errorf("an idle client was told %d", ids)
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
}

// TestDoH3AnswersWhatWasAskedBeforeGoAwayArrived asks as soon as there is no other
// way to know of the end than GOAWAY.
// TestDoH3TellsIdleClientsToGo: RFC 9114 §5.1 wants it said before the connection is
// closed for asking nothing. On a busy machine a client may read it too late.
func TestDoH3TellsIdleClientsToGo(t *testing.T) {
	d, at, _ := startDoH3(t, QUICOptions{Handler: newScripted(), IdleTimeout: 200 * time.Millisecond})
	eventually(t, "an idle client was told", func() bool {
		c := dialH3(t, at)
		told := c.told(t)
		wantH3(t, c.send(t, h3Get(packQuery(t, 0, "hit"))))
		c.wantClosed(t, http3.ErrCodeNoError)
		return slices.Equal(<-told, []uint64{h3NoStreamYet, 4})
	})
	eventually(t, "nothing is left of it", func() bool { return d.Stats().Open == 0 && d.opt.Conns.Stats().Open == 0 })
}

func TestDoH3AnswersWhatWasAskedBeforeGoAwayArrived(t *testing.T) {
	h := newScripted()
	d, at, _ := startDoH3(t, QUICOptions{Handler: h})
	c := dialH3(t, at)
	d.Drain(true)
	wantH3(t, c.send(t, h3Get(packQuery(t, 0, "hit"))))
	if id := c.goAway(t); id != h3NoStreamYet {
		t.Errorf("GOAWAY with %d", id)
	}
	str := c.send(t, h3Get(packQuery(t, 0, "hit")))
	var reset *quic.StreamError
	switch fields, _, err := receiveH3(str); { // a busy machine may be late, and then says so
	case err == nil && fields[":status"] == "200":
	case errors.As(err, &reset) && reset.ErrorCode == quic.StreamErrorCode(http3.ErrCodeRequestRejected):
		t.Log("asked too late")
	default:
		t.Errorf("%v: %v", fields, err)
	}
	c.wantClosed(t, http3.ErrCodeNoError)
}

// TestDoH3DrainSendsClientsToNewConnectionsAndLosesNothing has clients ask all the
// time while the server drains: each goes on over another connection.
func TestDoH3DrainSendsClientsToNewConnectionsAndLosesNothing(t *testing.T) {
	d, _, url := startDoH3(t, QUICOptions{Handler: newScripted()})
	const clients, each = 4, 50
	var asking sync.WaitGroup
	half := make(chan struct{}, clients)
	gone := make(chan struct{})
	for range clients {
		c := http3Client(t)
		asking.Go(func() {
			for i := range each {
				label := []string{"hit", "miss"}[i%2]
				ask := func() (*webResponse, []byte, error) {
					return try(t.Context(), c, http.MethodPost, url, mediaType, bytes.NewReader(packQuery(t, 0, label)))
				}
				rsp, raw, err := ask()
				if closedByClient(err) {
					rsp, raw, err = ask()
				}
				if err != nil || rsp.StatusCode != http.StatusOK || wire.RcodeOf(raw) != wire.NoError {
					t.Errorf("question %d: %v", i, err)
					return
				}
				if i == each/2 {
					half <- struct{}{}
					<-gone
				}
			}
		})
	}
	for range clients {
		<-half
	}
	before := d.Stats().Accepted
	d.Drain(true)
	close(gone)
	asking.Wait()
	if s := d.Stats(); before != clients || s.Accepted < before+clients || s.Answered != clients*each {
		t.Errorf("%d connections before, then %+v", before, s)
	}
	d.Drain(false)
	wantRcode(t, askWeb(t, http3Client(t), url, "hit"), dns.RcodeSuccess)
}

// closedByClient reports whether a request failed because quic-go's client closed its
// connection by itself: when it reads GOAWAY it looks for requests under way, and does
// not see one that it has opened a stream for and not noted yet.
func closedByClient(err error) bool {
	var e *http3.Error
	return errors.As(err, &e) && !e.Remote && e.ErrorCode == http3.ErrCodeNoError
}

// FuzzHTTP3 reads a request, or a control stream, and wants what is kept of it to be
// bounded.
func FuzzHTTP3(f *testing.F) {
	hit := packQuery(f, 0, "hit")
	f.Add(bytes.Join([][]byte{h3Post("content-length", fmt.Sprint(len(hit))), h3Frame(h3Data, hit...), h3Fields("a", "b")}, nil), true)
	f.Add(h3Get(hit, "host", "dns.example"), true)
	f.Add(appendH3GoAway(appendH3Settings(nil)[1:], h3NoStreamYet), false)
	f.Add(bytes.Join([][]byte{h3Frame(h3Settings, 1, 0, h3Datagrams, 1), h3Frame(h3Priority, 0), h3Frame(0x21, 1, 2)}, nil), false)
	f.Fuzz(func(t *testing.T, b []byte, asks bool) {
		r := newH3Reader(h3ControlRead)
		r.begin(bytes.NewReader(b), maxH3Request)
		if !asks {
			if r.control(new(h3Conn)) == nil {
				t.Error("a control stream has no end")
			}
			return
		}
		if r.header() != nil {
			return
		}
		if len(r.block) > maxHeader {
			t.Errorf("%d octets of fields", len(r.block))
		}
		x := new(webExchange)
		d := NewDoH3(QUICOptions{Handler: newScripted()})
		path, query := r.target()
		_ = d.check(x, r.method, path, query, r.media, r.length)
		if msg, cut, err := r.body(nil, r.length); len(msg) > maxQuery || cut && (err != nil || len(msg) != maxQuery) {
			t.Errorf("%d octets, cut: %t, %v", len(msg), cut, err)
		}
	})
}

// TestFieldsOfBothCompressionsAreTheSame reads what HTTP/2 and HTTP/3 are sent.
func TestFieldsOfBothCompressionsAreTheSame(t *testing.T) {
	d := NewDoH3(QUICOptions{Handler: newScripted()})
	d.rule(webRules{altSvc: `h3=":443"`})
	rsp := make([]byte, wire.HeaderLen)
	two := make(map[string]string)
	decoder := hpack.NewDecoder(4096, func(f hpack.HeaderField) { two[f.Name] = f.Value })
	if _, err := decoder.Write(d.appendFields(nil, rsp, &hpackCodes, true)); err != nil {
		t.Fatal(err)
	}
	three := qpackFields(d.appendFields([]byte{0, 0}, rsp, &qpackCodes, true))
	delete(two, "date") // a second may have passed
	delete(three, "date")
	if !maps.Equal(two, three) || len(two) != 5 || three["alt-svc"] != `h3=":443"` || three[":status"] != "200" {
		t.Errorf("%v\n%v", two, three)
	}
}
