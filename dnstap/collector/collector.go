// Package collector takes dnstap from any number of senders and files, counts it,
// and hands it on as text, as JSON lines, or as it came.
//
// A sender has a connection, a goroutine and two buffers, whatever it sends. What
// goes out in order is written by the goroutine that read it, so that a slow
// output slows the senders, and those drop and count by their own rules; what is
// sent on or kept as frames has a queue, as in a server.
package collector

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"shirube/dnstap"
)

// The limits of a [Collector].
const (
	DefaultMaxSenders = 256             // connections at once
	handshakeTimeout  = 5 * time.Second // for a sender to say what it will send, TLS included
	outBuffer         = 32 << 10        // octets of text that a sender gathers before they are written
	logInterval       = 10 * time.Second
	topCounters       = 10_000 // names, and as many clients, that are counted to find the first ones
)

// Format appends what is printed of a record to b. It returns b as it was to
// print nothing.
type Format func(b []byte, r *dnstap.Record) []byte

// Options configures a [Collector]. Its zero value counts and prints nothing.
type Options struct {
	Format Format    // nil: nothing is printed
	Filter *Filter   // of what is printed; nil: everything
	Live   *Live     // shows everything, by a filter of its own; nil: nothing is shown
	Output io.Writer // where to
	Tap    *dnstap.Tap
	Log    *slog.Logger // nil: nowhere

	MaxSenders int // 0: DefaultMaxSenders
	Top        int // how many of the names and clients with the most queries are told; 0: none
}

// Collector reads frames and hands them on. Its methods may be called
// concurrently.
type Collector struct {
	opt    Options
	counts counts

	writing sync.Mutex // held across a write to Output
	broken  atomic.Bool
	logged  atomic.Int64 // when something was last logged, in Unix nanoseconds

	senders  sync.WaitGroup
	mu       sync.Mutex
	conns    map[net.Conn]struct{}
	closed   bool
	accepted uint64
	turned   uint64
}

// New returns a Collector.
func New(opt Options) *Collector {
	if opt.MaxSenders <= 0 {
		opt.MaxSenders = DefaultMaxSenders
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	c := &Collector{opt: opt, conns: make(map[net.Conn]struct{})}
	if opt.Top > 0 {
		c.counts.top = NewTop(topCounters)
	}
	return c
}

// ErrBroken says that nobody reads the output any more.
var ErrBroken = errors.New("the output is closed")

// Serve takes senders on ln, which it owns, until ctx ends or nobody reads the
// output any more, and then hears those out who are about to say goodbye. conf
// is nil for senders in the clear.
func (c *Collector) Serve(ctx context.Context, ln net.Listener, conf *tls.Config) error {
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()
	defer ln.Close()
	for {
		conn, err := ln.Accept()
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept on %s: %w", ln.Addr(), err)
		case err != nil: // out of descriptors, mostly
			c.trouble("cannot take a sender", "error", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if !c.add(conn) {
			_ = conn.Close()
			c.trouble("too many senders: one was turned away", "limit", c.opt.MaxSenders)
			continue
		}
		// Owner: c. End: the sender's, or Close. Bound: MaxSenders. Excess: closed,
		// above.
		c.senders.Go(func() {
			defer c.remove(conn)
			c.serve(conn, conf)
		})
	}
}

// add takes conn in, and reports false when there are too many.
func (c *Collector) add(conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.conns) >= c.opt.MaxSenders {
		c.turned++
		return false
	}
	c.accepted++
	c.conns[conn] = struct{}{}
	return true
}

func (c *Collector) remove(conn net.Conn) {
	_ = conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.conns, conn)
}

// Close ends all senders, and waits until what they sent is handed on.
func (c *Collector) Close() {
	c.mu.Lock()
	c.closed = true
	for conn := range c.conns {
		_ = conn.SetReadDeadline(time.Unix(1, 0)) // what was read is still counted
	}
	c.mu.Unlock()
	c.senders.Wait()
}

// serve reads what one sender sends.
func (c *Collector) serve(conn net.Conn, conf *tls.Config) {
	_ = conn.SetDeadline(time.Now().Add(handshakeTimeout)) // fails on what is closed, and so does the rest
	from := conn.RemoteAddr().String()
	if conf != nil {
		conn = tls.Server(conn, conf)
	}
	r, err := dnstap.Accept(conn)
	if err == nil {
		c.mu.Lock()
		if !c.closed {
			_ = conn.SetDeadline(time.Time{})
		}
		c.mu.Unlock()
		c.opt.Log.Debug("a sender came", "from", from)
		err = c.drain(r, nil)
	}
	switch {
	case errors.Is(err, io.EOF):
		c.opt.Log.Debug("a sender said goodbye", "from", from)
	case errors.Is(err, os.ErrDeadlineExceeded) && c.isClosed():
	default:
		c.counts.lost.Add(1)
		c.trouble("a sender was lost", "from", from, "error", err)
	}
}

func (c *Collector) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

// waitForRoom is how long a file waits for room to hand frames on.
const waitForRoom = time.Millisecond

// ReadFile hands on the frames of a file, which may be without an end: another
// process may still write it. Nothing of it is dropped: it waits for who is slow,
// until ctx ends.
func (c *Collector) ReadFile(ctx context.Context, in io.Reader) error {
	r, err := dnstap.NewReader(in)
	if err != nil {
		return err
	}
	err = c.drain(r, func() bool {
		for !c.opt.Tap.HasRoom() && ctx.Err() == nil {
			time.Sleep(waitForRoom)
		}
		return ctx.Err() == nil
	})
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, errInterrupted):
		return nil
	case errors.Is(err, io.ErrUnexpectedEOF):
		c.counts.lost.Add(1)
		name := "-"
		if named, ok := in.(interface{ Name() string }); ok {
			name = named.Name()
		}
		c.opt.Log.Info("a file has no end: it is still being written, or was cut off", "file", name)
		return nil
	}
	return err
}

// errInterrupted says that a file was not read to its end.
var errInterrupted = errors.New("not read to its end")

// drain hands on the frames of r until there is an error; [io.EOF] is the proper
// end. If wait is not nil it is called before each, and ends it all with false.
func (c *Collector) drain(r *dnstap.Reader, wait func() bool) error {
	out := make([]byte, 0, outBuffer)
	lines := 0
	flush := func() {
		c.write(out, lines)
		out, lines = out[:0], 0
		if cap(out) > 8*outBuffer { // one long message is no reason to keep it
			out = make([]byte, 0, outBuffer)
		}
	}
	defer func() { flush() }()
	var rec dnstap.Record
	for !c.broken.Load() {
		if wait != nil && !wait() {
			return errInterrupted
		}
		frame, err := r.Next()
		if err != nil {
			return err
		}
		if err := rec.Decode(frame); err != nil {
			c.counts.malformed.Add(1)
			c.trouble("a frame is malformed", "octets", len(frame), "error", err)
			continue
		}
		c.counts.add(&rec)
		if c.opt.Tap != nil {
			c.opt.Tap.Forward(int(rec.Query.Port()), frame)
		}
		if c.opt.Live != nil {
			c.opt.Live.Add(&rec)
		}
		if c.opt.Format != nil && (c.opt.Filter == nil || c.opt.Filter.Takes(&rec)) {
			out = c.opt.Format(out, &rec)
			lines++
		}
		if len(out) >= outBuffer || len(out) > 0 && !r.Buffered() {
			flush()
		}
	}
	return ErrBroken
}

// write writes whole lines. When there is no room on a disk they are lost, and
// counted; when nobody reads a pipe any more, all ends.
func (c *Collector) write(b []byte, lines int) {
	if len(b) == 0 {
		return
	}
	c.writing.Lock()
	defer c.writing.Unlock()
	_, err := c.opt.Output.Write(b)
	switch {
	case err == nil:
	case errors.Is(err, syscall.EPIPE), errors.Is(err, io.ErrClosedPipe), errors.Is(err, os.ErrClosed):
		c.broken.Store(true)
	default:
		c.counts.unwritten.Add(uint64(lines))
		c.trouble("cannot write", "error", err, "lost", lines)
	}
}

// Broken reports whether nobody reads the output any more.
func (c *Collector) Broken() bool { return c.broken.Load() }

// trouble logs, now and then, what senders can make happen again and again.
func (c *Collector) trouble(msg string, args ...any) {
	now, last := time.Now().UnixNano(), c.logged.Load()
	if now-last < int64(logInterval) || !c.logged.CompareAndSwap(last, now) {
		return
	}
	c.opt.Log.Log(context.Background(), slog.LevelWarn, msg, args...)
}
