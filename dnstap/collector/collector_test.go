package collector

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"shirube/dnstap"
	"shirube/dnstap/dnstaptest"
	"shirube/internal/wire"
)

// patience is how long a test waits for what has to happen.
const patience = 20 * time.Second

const query = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03wWw\x07example\x03com\x00\x00\x1c\x00\x01"

// message returns a message from 192.0.2.1, or 2001:db8::1, over proto.
func message(typ dnstap.Type, proto wire.Proto, rcode wire.Rcode) *dnstap.Message {
	m := &dnstap.Message{
		Type: typ, Proto: proto, Msg: []byte(query),
		Query: netip.MustParseAddrPort("192.0.2.1:4711"), Response: netip.MustParseAddrPort("198.51.100.53:53"),
		QueryTime: time.Unix(1_700_000_000, 123_456_789),
	}
	if typ == dnstap.ClientResponse || typ == dnstap.ResolverResponse {
		m.Msg[2] |= 0x80
		m.Msg[3] = 0x80 | byte(rcode)
		m.ResponseTime = m.QueryTime.Add(1500 * time.Microsecond)
	}
	return m
}

// record returns what a reader finds of m.
func record(t *testing.T, m *dnstap.Message) *dnstap.Record {
	t.Helper()
	var got *dnstap.Record
	c := New(Options{Output: io.Discard, Format: func(b []byte, r *dnstap.Record) []byte {
		clone := new(dnstap.Record)
		if err := clone.Decode(frame(t, m)); err != nil {
			t.Fatal(err)
		}
		got = clone
		return b
	}})
	if err := c.ReadFile(t.Context(), bytes.NewReader(stream(frame(t, m)))); err != nil {
		t.Fatal(err)
	}
	return got
}

// frame returns the frame of m, as a server makes it.
func frame(t testing.TB, m *dnstap.Message) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "one")
	tap, err := dnstap.New(dnstap.Options{
		Identity: "tokyo-1", Version: "shirube 1",
		Outputs: []dnstap.Output{{File: &dnstap.File{Path: path}, Filter: dnstaptest.All()}},
	})
	if err != nil {
		t.Fatal(err)
	}
	tap.Start()
	tap.Emit(0, m)
	if err := tap.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	return dnstaptest.Frames(t, path)[0]
}

// stream returns a file with frames.
func stream(frames ...[]byte) []byte {
	b := dnstap.AppendControl(nil, dnstap.ControlStart)
	for _, f := range frames {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(f))), f...)
	}
	return dnstap.AppendControl(b, dnstap.ControlStop)
}

// serve has c serve a unix socket until the test ends, and returns its path.
func serve(t *testing.T, c *Collector) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, c, ln, nil)
	return path
}

func serveOn(t *testing.T, c *Collector, ln net.Listener, conf *tls.Config) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { // ends with ctx
		if err := c.Serve(ctx, ln, conf); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait(); c.Close() })
}

// eventually waits until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for until := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("never %s", what)
		}
	}
}

// sender returns a tap that sends to a stream, and a function that ends it.
func sender(t *testing.T, to dnstap.Stream) (*dnstap.Tap, func()) {
	t.Helper()
	tap, err := dnstap.New(dnstap.Options{Outputs: []dnstap.Output{{Stream: &to, Filter: dnstaptest.All(), QueueSize: 64 << 20}}})
	if err != nil {
		t.Fatal(err)
	}
	tap.Start()
	return tap, func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := tap.Close(ctx); err != nil {
			t.Error(err)
		}
	}
}

// TestCountsAreExact has several senders send many messages at once.
func TestCountsAreExact(t *testing.T) {
	c := New(Options{})
	path := serve(t, c)
	const senders, n = 4, 5000
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() { // ends when it has sent its share
			tap, end := sender(t, dnstap.Stream{Network: "unix", Address: path})
			for i := range n {
				tap.Emit(i, message(dnstap.ClientQuery, wire.Proto(i%int(wire.NumProtos)), 0))
				tap.Emit(i, message(dnstap.ClientResponse, wire.UDP, wire.Rcode(i%4)))
			}
			end()
		})
	}
	wg.Wait()
	s := c.Stats()
	if s.Frames != senders*n*2 || s.Malformed+s.Lost+s.Turned != 0 || s.Accepted != senders || s.QTypes["AAAA"] != senders*n {
		t.Errorf("%+v", s)
	}
	got := map[string]uint64{}
	for _, count := range s.Counts {
		got[count.key()] = count.Frames
	}
	for i, p := range []string{"UDP", "TCP", "DOT", "DOH/HTTP2", "DOH/HTTP3", "DOQ"} {
		want := uint64(senders * (n / 6))
		if i < n%6 {
			want += senders
		}
		if got["CLIENT_QUERY "+p+" INET "] != want {
			t.Errorf("%s: %v", p, got)
		}
	}
	for _, rcode := range []string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN"} {
		if got["CLIENT_RESPONSE UDP INET "+rcode] != senders*n/4 {
			t.Errorf("%s: %v", rcode, got)
		}
	}
}

func TestSendersOverTLSProveWhoTheyAre(t *testing.T) {
	server := httptest.NewUnstartedServer(nil) // for its certificate
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	conf := &tls.Config{Certificates: server.TLS.Certificates, ClientCAs: roots, ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS13}
	c := New(Options{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, c, ln, conf)
	known := &tls.Config{RootCAs: roots, ServerName: "example.com", Certificates: server.TLS.Certificates, MinVersion: tls.VersionTLS13}
	tap, end := sender(t, dnstap.Stream{Network: "tcp", Address: ln.Addr().String(), TLS: known})
	tap.Emit(0, message(dnstap.ClientQuery, wire.UDP, 0))
	end()
	if s := c.Stats(); s.Frames != 1 || s.Lost != 0 {
		t.Errorf("%+v", s)
	}
	unknown := known.Clone()
	unknown.Certificates = nil
	tap, end = sender(t, dnstap.Stream{Network: "tcp", Address: ln.Addr().String(), TLS: unknown})
	tap.Emit(0, message(dnstap.ClientQuery, wire.UDP, 0))
	eventually(t, "turned away", func() bool { return c.Stats().Lost > 0 })
	end()
	if s := c.Stats(); s.Frames != 1 {
		t.Errorf("%+v", s)
	}
}

// TestCollectorSurvivesGarbage has senders send what they should not, and then one
// that does it right.
func TestCollectorSurvivesGarbage(t *testing.T) {
	c := New(Options{})
	path := serve(t, c)
	ready, begin := dnstap.AppendControl(nil, dnstap.ControlReady), dnstap.AppendControl(nil, dnstap.ControlStart)
	hello := append(ready[:len(ready):len(ready)], begin...)
	good := frame(t, message(dnstap.ClientQuery, wire.UDP, 0))
	for name, sent := range map[string]string{
		"text":           "GET / HTTP/1.1\r\nHost: example\r\n\r\n",
		"no start":       string(ready) + string(ready),
		"giant frame":    string(hello) + "\xff\xff\xff\xff" + strings.Repeat("x", 100_000),
		"half a frame":   string(hello) + "\x00\x00\x01\x00xyz",
		"control frames": string(hello) + string(hello),
		"silence":        "",
	} {
		before := c.Stats().Lost
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte(sent)) // it may be cut short
		_ = conn.Close()
		eventually(t, "noticed "+name, func() bool { return c.Stats().Lost > before })
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	all := stream([]byte("garbage"), good, nil, good)
	if _, err := conn.Write(append(hello, all[len(begin):]...)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "read the good frame", func() bool { s := c.Stats(); return s.Malformed == 1 && s.Frames == 1 })
	if s := c.Stats(); s.Frames != 1 { // an empty frame is a control frame's beginning
		t.Errorf("%+v", s)
	}
}

func TestSendersAreBounded(t *testing.T) {
	c := New(Options{MaxSenders: 2})
	path := serve(t, c)
	for range 5 {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	eventually(t, "turned three away", func() bool { return c.Stats().Turned == 3 })
	if s := c.Stats(); s.Senders != 2 || s.Accepted != 2 {
		t.Errorf("%+v", s)
	}
}

// failing is an output that fails as it is told.
type failing struct {
	mu  sync.Mutex
	err error
	got bytes.Buffer
}

func (f *failing) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return 0, f.err
	}
	return f.got.Write(b)
}

func TestFullDiskLosesLinesAndNoMore(t *testing.T) {
	out := &failing{err: syscall.ENOSPC}
	c := New(Options{Format: JSON, Output: out})
	in := stream(frame(t, message(dnstap.ClientQuery, wire.UDP, 0)), frame(t, message(dnstap.ClientQuery, wire.TCP, 0)))
	if err := c.ReadFile(t.Context(), bytes.NewReader(in)); err != nil {
		t.Error(err)
	}
	out.err = nil
	if err := c.ReadFile(t.Context(), bytes.NewReader(in)); err != nil {
		t.Error(err)
	}
	if s := c.Stats(); s.Unwritten != 2 || s.Frames != 4 || strings.Count(out.got.String(), "\n") != 2 {
		t.Errorf("%+v, and %q", s, out.got.String())
	}
}

func TestClosedPipeEndsIt(t *testing.T) {
	c := New(Options{Format: Quiet, Output: &failing{err: syscall.EPIPE}})
	f := frame(t, message(dnstap.ClientQuery, wire.UDP, 0))
	err := c.ReadFile(t.Context(), io.MultiReader(bytes.NewReader(stream(f)[:len(stream(f))-12]), endless(f)))
	if !errors.Is(err, ErrBroken) || !c.Broken() {
		t.Errorf("%v", err)
	}
}

// endless is a file of the same frame over and over.
func endless(frame []byte) io.Reader {
	one := append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...)
	return &repeated{b: one}
}

type repeated struct {
	b  []byte
	at int
}

func (r *repeated) Read(b []byte) (int, error) {
	n := copy(b, r.b[r.at:])
	r.at = (r.at + n) % len(r.b)
	return n, nil
}

// TestFilesAreHandedOnWhole reads a file faster than it can be written again.
func TestFilesAreHandedOnWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "again")
	tap, err := dnstap.New(dnstap.Options{Outputs: []dnstap.Output{{File: &dnstap.File{Path: path}, QueueSize: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	tap.Start()
	c := New(Options{Tap: tap})
	frames := make([][]byte, 50_000)
	for i := range frames {
		frames[i] = frame50(t)
	}
	if err := c.ReadFile(t.Context(), bytes.NewReader(stream(frames...))); err != nil {
		t.Fatal(err)
	}
	if err := tap.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if total := tap.Stats().Total(); total.Sent != uint64(len(frames)) || total.Dropped != 0 {
		t.Errorf("%+v", total)
	}
	again := New(Options{})
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := again.ReadFile(t.Context(), file); err != nil || again.Stats().Frames != uint64(len(frames)) {
		t.Errorf("%v: %+v", err, again.Stats())
	}
}

var frame50 = func() func(t testing.TB) []byte {
	var once sync.Once
	var b []byte
	return func(t testing.TB) []byte {
		once.Do(func() { b = frame(t, message(dnstap.ClientQuery, wire.UDP, 0)) })
		return b
	}
}()

func TestUnfinishedFileIsRead(t *testing.T) {
	var log strings.Builder
	c := New(Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	in := stream(frame50(t))
	if err := c.ReadFile(t.Context(), bytes.NewReader(in[:len(in)-12])); err != nil || c.Stats().Frames != 1 || c.Stats().Lost != 1 {
		t.Errorf("%v: %+v", err, c.Stats())
	}
	if !strings.Contains(log.String(), "a file has no end") {
		t.Errorf("nobody is told that it has no end: %s", log.String())
	}
	for text, want := range map[string]string{
		"not dnstap, and long enough for it":       "data where a control frame has to be",
		"\x28\xb5\x2f\xfd, and long enough for it": "compressed with zstd",
		"\x1f\x8b, and long enough for it":         "compressed with gzip",
	} {
		if err := c.ReadFile(t.Context(), strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; expected %s", text, err, want)
		}
	}
}

func TestStatsAreJSON(t *testing.T) {
	c := New(Options{})
	if err := c.ReadFile(t.Context(), bytes.NewReader(stream(frame50(t)))); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(c.Stats())
	want := `{"frames":1,"malformed":0,"unwritten":0,"senders":0,"accepted":0,"turned":0,"lost":0,` +
		`"counts":[{"type":"CLIENT_QUERY","transport":"UDP","family":"INET","frames":1}],"qtypes":{"AAAA":1},"latency":[],"output":null}`
	if err != nil || string(text) != want {
		t.Errorf("found    %s\nexpected %s", text, want)
	}
}

// BenchmarkCollect is what a frame costs that is read, decoded and counted, and
// printed.
func BenchmarkCollect(b *testing.B) {
	in := make([]byte, 0, 1<<20)
	const n = 1000
	frames := make([][]byte, n)
	for i := range frames {
		frames[i] = frame50(b)
	}
	in = append(in, stream(frames...)...)
	for name, format := range map[string]Format{"counted": nil, "quiet": Quiet, "json": JSON} {
		b.Run(name, func(b *testing.B) {
			c := New(Options{Format: format, Output: io.Discard})
			b.ReportAllocs()
			for b.Loop() {
				if err := c.ReadFile(b.Context(), bytes.NewReader(in)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N*n)/b.Elapsed().Seconds(), "frames/s")
		})
	}
}
