package dnstap

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	golang "github.com/dnstap/golang-dnstap"
	framestream "github.com/farsightsec/golang-framestream"
	"google.golang.org/protobuf/proto"

	"shirube/internal/wire"
)

// patience is how long a test waits for what has to happen. It is never waited
// out by a test that passes.
const patience = 20 * time.Second

// all is a filter that takes everything.
func all() Filter {
	var f Filter
	for t := ResolverQuery; t < NumTypes; t++ {
		f.Sample[t] = 1
	}
	return f
}

// query is a query for the A records of www.example.com. with an ID.
func query(id uint16) []byte {
	return []byte("" + string([]byte{byte(id >> 8), byte(id)}) +
		"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03wWw\x07example\x03com\x00\x00\x01\x00\x01")
}

// response is a response to it.
func response(id uint16, rcode wire.Rcode) []byte {
	b := query(id)
	b[2] |= 0x80
	b[3] |= byte(rcode)
	return b
}

// message is a message of a type from 192.0.2.1.
func message(typ Type, id uint16) *Message {
	m := &Message{
		Type: typ, Proto: wire.UDP,
		Query:     netip.MustParseAddrPort("192.0.2.1:4711"),
		Response:  netip.MustParseAddrPort("198.51.100.53:53"),
		QueryTime: time.Unix(1_700_000_000, 123_456_789),
		Msg:       query(id),
	}
	if typ.isResponse() {
		m.ResponseTime, m.Msg = time.Unix(1_700_000_001, 1), response(id, wire.NoError)
	}
	return m
}

// filled returns an output of everything, with n frames that are about to be sent,
// and their length.
func filled(t *testing.T, conf Output, n int) (o *output, length int) {
	t.Helper()
	conf.Filter = all()
	o, err := newOutput(&Options{Log: quiet()}, &conf, 1)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		m := message(ClientQuery, uint16(i))
		o.emit(0, m, m.size())
	}
	o.lanes[0].flush(o.queue)
	if !o.next() {
		t.Fatal("nothing to send")
	}
	return o, len(o.pending.b) / n
}

// start returns a Tap that runs until the test ends.
func start(t *testing.T, opt Options) *Tap {
	t.Helper()
	tap, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	tap.Start()
	t.Cleanup(func() { shut(t, tap) })
	return tap
}

// shut closes tap, giving its collectors a moment.
func shut(t *testing.T, tap *Tap) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := tap.Close(ctx); err != nil {
		t.Error(err)
	}
}

// stats returns the numbers of a Tap with one output, which has to have lost
// count of nothing. It is to be called when nothing is emitted.
func stats(t *testing.T, tap *Tap) OutputStats {
	t.Helper()
	for until := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		s := tap.Stats()[0]
		if s.Emitted == s.Sent+s.Dropped+s.Queued {
			return s
		}
		if time.Now().After(until) { // the writer moves frames from one to the other meanwhile
			t.Fatalf("emitted is not what was sent, dropped and queued: %+v", s)
		}
	}
}

// waitFor waits until ok holds for the numbers of tap's only output.
func waitFor(t *testing.T, tap *Tap, what string, ok func(OutputStats) bool) {
	t.Helper()
	for until := time.Now().Add(patience); !ok(tap.Stats()[0]); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("never %s: %+v", what, tap.Stats()[0])
		}
	}
}

// readFile returns the frames of a file, with golang-dnstap's decoder.
func readFile(t *testing.T, path string) []*golang.Dnstap {
	t.Helper()
	frames, err := readSoFar(t, path)
	if !errors.Is(err, io.EOF) {
		t.Fatalf("%s ends with %v after %d frames", path, err, len(frames))
	}
	return frames
}

// readSoFar returns the frames of a file that may not be whole, and how it ends.
func readSoFar(t *testing.T, path string) ([]*golang.Dnstap, error) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := framestream.NewReader(f, &framestream.ReaderOptions{ContentTypes: [][]byte{[]byte(ContentType)}})
	if err != nil {
		return nil, err
	}
	return readFrames(r)
}

// readFrames reads frames until there is an error; [io.EOF] is the proper end.
func readFrames(r *framestream.Reader) (frames []*golang.Dnstap, err error) {
	buf := make([]byte, chunkSize)
	for {
		n, err := r.ReadFrame(buf)
		if err != nil {
			return frames, err
		}
		d := new(golang.Dnstap)
		if err := proto.Unmarshal(buf[:n], d); err != nil {
			return frames, err
		}
		frames = append(frames, d)
	}
}

// collector is golang-framestream's reader behind a listener.
type collector struct {
	ln net.Listener
	wg sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]bool
	frames int
	clean  int // connections that ended with STOP
}

// collect serves ln until close.
func collect(ln net.Listener) *collector {
	c := &collector{ln: ln, conns: make(map[net.Conn]bool)}
	c.wg.Go(func() { // ends with ln
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			c.mu.Lock()
			c.conns[conn] = true
			c.mu.Unlock()
			c.wg.Go(func() { c.serve(conn) }) // ends with conn
		}
	})
	return c
}

func (c *collector) serve(conn net.Conn) {
	defer conn.Close()
	r, err := framestream.NewReader(conn, &framestream.ReaderOptions{
		ContentTypes: [][]byte{[]byte(ContentType)}, Bidirectional: true, Timeout: patience,
	})
	if err != nil {
		return
	}
	buf := make([]byte, chunkSize)
	for {
		_, err := r.ReadFrame(buf)
		c.mu.Lock()
		switch {
		case err == nil:
			c.frames++
		case errors.Is(err, io.EOF):
			c.clean++
		}
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// kill ends the collector and its connections at once.
func (c *collector) kill() {
	_ = c.ln.Close()
	c.mu.Lock()
	for conn := range c.conns {
		_ = conn.Close()
	}
	c.mu.Unlock()
	c.wg.Wait()
}

// wait ends the collector when its connections have ended by themselves.
func (c *collector) wait() (frames, clean int) {
	_ = c.ln.Close()
	c.wg.Wait()
	return c.frames, c.clean
}

// listenUnix listens on a socket in the test's directory.
func listenUnix(t *testing.T, path string) net.Listener {
	t.Helper()
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func socketPath(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "s")
}
