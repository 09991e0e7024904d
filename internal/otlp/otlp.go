// Package otlp tells a collector of OpenTelemetry's what resolutions consisted of:
// traces, over OTLP/HTTP in JSON (opentelemetry-proto, docs/specification.md), which
// is a POST of a document, and needs no library.
//
// Nobody ever waits for the collector. What it does not take is kept in a bounded
// queue, then dropped, and counted.
package otlp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"shirube/internal/wire"
)

// Options configures an [Exporter].
type Options struct {
	Endpoint string      // http://HOST:PORT, https://HOST:PORT, each with a path or without, or unix:PATH
	TLS      *tls.Config // for https; nil: as the system has it
	Headers  string      // a file with headers of requests, read for each; "": none

	Sample int         // one in so many resolutions is told of; 0: none
	Names  []wire.Name // those of names within one of these are, besides

	Timeout  time.Duration // of a request
	Queue    int           // traces that wait at most
	Batch    int           // traces of a request at most
	Interval time.Duration // that the first of them waits for the others

	Service  string // who tells (service.name)
	Instance string // which of them (service.instance.id); "": not said
	Log      *slog.Logger
}

// tracesPath is where collectors take traces (OTLP specification, "OTLP/HTTP
// Request").
const tracesPath = "/v1/traces"

// target splits an endpoint into the URL to post to and, if it is one, the unix
// socket that is behind it.
func target(endpoint string) (to, socket string, err error) {
	if path, ok := strings.CutPrefix(endpoint, "unix:"); ok {
		if path == "" {
			return "", "", errors.New("found unix: without a path")
		}
		return "http://localhost" + tracesPath, path, nil
	}
	u, err := url.Parse(endpoint)
	switch {
	case err != nil:
		return "", "", err
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "", "", fmt.Errorf("found %q; expected http://, https:// and a host, or unix: and a path", endpoint)
	case u.Path == "" || u.Path == "/":
		u.Path = tracesPath
	}
	return u.String(), "", nil
}

// Exporter tells a collector of traces. A nil Exporter is off.
type Exporter struct {
	opt     Options
	to      string
	version string
	post    poster
	queue   chan func() Trace
	seen    atomic.Uint64 // resolutions that no name forces
	*counts

	mu      sync.RWMutex // that nothing comes into the queue when it is closed
	closed  bool
	closing chan struct{}
	ctx     context.Context // of requests
	cancel  context.CancelFunc
	done    chan struct{} // nil: not started
	state   state
}

// counts are what is counted, by all the exporters that follow one another.
type counts struct {
	emitted, sent, dropped, failed, rejected atomic.Uint64
	requests, failures                       atomic.Uint64
	up                                       atomic.Bool
}

// Stats is a snapshot of what an [Exporter] has done. Emitted is the sum of Sent,
// Dropped, Failed and Queued, but for the traces that are on their way.
type Stats struct {
	Emitted  uint64 // traces that were to be told of
	Sent     uint64 // that the collector took
	Dropped  uint64 // that found no room in the queue
	Failed   uint64 // that the collector refused, or did not take in time
	Queued   int    // that wait
	Rejected uint64 // spans, of traces sent, that the collector said it has left out
	Requests uint64 // that were sent
	Failures uint64 // of them, that did not end well
	Up       bool   // the last one did
}

// New returns an Exporter that counts on where before has, if that is not nil. It
// starts nothing.
func New(opt Options, before *Exporter) (*Exporter, error) {
	to, socket, err := target(opt.Endpoint)
	if err != nil {
		return nil, err
	}
	if opt.Timeout <= 0 || opt.Queue <= 0 || opt.Batch <= 0 || opt.Interval <= 0 || opt.Sample < 0 {
		return nil, errors.New("otlp: the time-out, the queue, the batch and the interval have to be more than nothing")
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Headers != "" {
		if _, err := readHeaders(opt.Headers); err != nil {
			return nil, err
		}
	}
	e := &Exporter{
		opt: opt, to: to, post: newPoster(to, socket, &opt), counts: new(counts),
		queue: make(chan func() Trace, opt.Queue), closing: make(chan struct{}),
	}
	if before != nil {
		e.counts = before.counts
	}
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e, nil
}

// Start begins to tell the collector, which is told the version of the server.
func (e *Exporter) Start(version string) {
	if e == nil || e.done != nil {
		return
	}
	e.version, e.done = version, make(chan struct{})
	// Owner: e. End: Close. Bound: one.
	go e.run()
}

// Wants reports whether a trace of the resolution of n is to be made, and names it.
func (e *Exporter) Wants(n wire.Name) (id TraceID, ok bool) {
	if e == nil || !e.draws(n) {
		return id, false
	}
	return newTraceID(), true
}

// draws is Wants without a name for the trace.
func (e *Exporter) draws(n wire.Name) bool {
	for _, s := range e.opt.Names {
		if n.Within(s) {
			return true
		}
	}
	return e.opt.Sample > 0 && e.seen.Add(1)%uint64(e.opt.Sample) == 0
}

// Take has the collector told of what build returns, which is called later, by
// another goroutine, or never. It does not wait.
func (e *Exporter) Take(build func() Trace) {
	e.emitted.Add(1)
	e.mu.RLock()
	defer e.mu.RUnlock()
	if !e.closed {
		select {
		case e.queue <- build:
			return
		default:
		}
	}
	e.dropped.Add(1)
}

// Stats returns what was counted.
func (e *Exporter) Stats() Stats {
	return Stats{
		Emitted: e.emitted.Load(), Sent: e.sent.Load(), Dropped: e.dropped.Load(), Failed: e.failed.Load(),
		Queued: len(e.queue), Rejected: e.rejected.Load(), Requests: e.requests.Load(), Failures: e.failures.Load(), Up: e.up.Load(),
	}
}

// Close tells the collector of what is queued, as far as it takes that before ctx
// ends, and ends e. What comes later is dropped.
func (e *Exporter) Close(ctx context.Context) error {
	if e == nil {
		return nil
	}
	e.mu.Lock()
	again := e.closed
	e.closed = true
	e.mu.Unlock()
	if again {
		return nil
	}
	close(e.closing)
	defer e.cancel()
	if e.done == nil {
		e.dropped.Add(uint64(len(e.queue)))
		return nil
	}
	failed := e.failed.Load()
	stop := context.AfterFunc(ctx, e.cancel)
	<-e.done // requests end with e.ctx
	stop()
	if lost := e.failed.Load() - failed; lost > 0 {
		return fmt.Errorf("the collector did not take %d traces", lost)
	}
	return nil
}

// run gathers and delivers until e is closed, and everything that came before that
// is delivered or given up.
func (e *Exporter) run() {
	defer close(e.done)
	defer e.post.close()
	for {
		batch := e.gather()
		if len(batch) == 0 {
			return
		}
		e.deliver(batch)
	}
}

// gather returns the next traces. There are none when e is closed, and all are
// delivered.
func (e *Exporter) gather() (batch []Trace) {
	var first func() Trace
	select {
	case first = <-e.queue:
	case <-e.closing:
		select {
		case first = <-e.queue:
		default:
			return nil
		}
	}
	batch = append(batch, first())
	wait := time.NewTimer(e.opt.Interval)
	defer wait.Stop()
	late := wait.C
	for len(batch) < e.opt.Batch {
		select {
		case build := <-e.queue:
			batch = append(batch, build())
			continue
		default:
		}
		select {
		case build := <-e.queue:
			batch = append(batch, build())
		case <-late:
			return batch
		case <-e.closing:
			if len(e.queue) == 0 { // nothing comes any more
				return batch
			}
		}
	}
	return batch
}
