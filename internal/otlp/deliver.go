package otlp

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// How a collector is treated that does not take what it is sent.
const (
	minPause      = time.Second      // before the next try; twice as long each time
	maxPause      = 30 * time.Second // at most
	maxRetryAfter = 5 * time.Minute  // that a collector can ask for
	retryFor      = time.Minute      // that one batch is tried for
	logPause      = time.Minute      // between two messages of the same trouble
)

// state is what the goroutine that delivers knows of its collector.
type state struct {
	pause  time.Duration // before the next try; 0: it takes what it is sent
	until  time.Time     // that it wants to be left alone
	told   time.Time     // when the log was told of trouble
	untold int           // how often it was not, since then
}

// deliver has the collector take batch, or gives it up.
func (e *Exporter) deliver(batch []Trace) {
	n := uint64(len(batch))
	body, err := encode(e.about(), e.version, batch)
	if err != nil { // there is nothing in it that could not be
		e.failed.Add(n)
		e.opt.Log.Error("cannot encode traces", "error", err)
		return
	}
	for end := time.Now().Add(retryFor); ; {
		if !e.await(end) {
			break
		}
		verdict := e.try(body)
		if verdict.taken {
			e.sent.Add(n)
			return
		}
		if !verdict.again || e.isClosing() {
			break
		}
	}
	e.failed.Add(n)
}

// try sends body once, and draws the conclusions.
func (e *Exporter) try(body []byte) verdict {
	e.requests.Add(1)
	v := e.post.send(e.ctx, body)
	e.up.Store(v.taken)
	s, now := &e.state, time.Now()
	if v.taken {
		if s.pause > 0 {
			e.opt.Log.Info("the collector takes traces again", "endpoint", e.opt.Endpoint)
		}
		*s = state{told: s.told}
		if v.rejected > 0 {
			e.rejected.Add(v.rejected)
			e.complain(now, fmt.Errorf("it left out %d spans: %q", v.rejected, v.text))
		}
		return v
	}
	e.failures.Add(1)
	s.pause = min(max(2*s.pause, minPause), maxPause)
	if v.after > 0 {
		s.until = now.Add(min(v.after, maxRetryAfter))
	}
	e.complain(now, v.err)
	return v
}

// complain tells the log of trouble, if it was not told lately.
func (e *Exporter) complain(now time.Time, err error) {
	s := &e.state
	if !s.told.IsZero() && now.Sub(s.told) < logPause || e.isClosing() {
		s.untold++
		return
	}
	attrs := []any{"endpoint", e.opt.Endpoint, "error", err}
	if s.untold > 0 {
		attrs = append(attrs, "others", s.untold)
	}
	s.told, s.untold = now, 0
	e.opt.Log.Warn("the collector does not take traces", attrs...)
}

// await waits until the collector may be asked again. It reports false when that
// is not before end, which it waits for all the same: those behind are to wait in
// the queue, where there is a bound. Who closes does not wait: the collector is
// asked once more, unless it has said when.
func (e *Exporter) await(end time.Time) bool {
	s := &e.state
	if s.pause == 0 {
		return e.ctx.Err() == nil
	}
	pause := s.pause/2 + rand.N(s.pause) // OTLP specification, "OTLP/HTTP Connection": with jitter
	said := time.Until(s.until)          // OTLP specification, "OTLP/HTTP Throttling"
	if said > 0 {
		pause = said
	}
	left := time.Until(end)
	if e.sleep(min(pause, left)) {
		return said <= 0 && e.ctx.Err() == nil
	}
	return pause <= left
}

// sleep reports whether e was closed meanwhile.
func (e *Exporter) sleep(d time.Duration) (closing bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return false
	case <-e.closing:
		return true
	}
}

func (e *Exporter) isClosing() bool {
	select {
	case <-e.closing:
		return true
	default:
		return false
	}
}

// about returns what is said of the server (OpenTelemetry semantic conventions,
// "Service").
func (e *Exporter) about() []Attr {
	list := []Attr{Text("service.name", e.opt.Service)}
	if e.opt.Instance != "" {
		list = append(list, Text("service.instance.id", e.opt.Instance))
	}
	if e.version != "" {
		list = append(list, Text("service.version", e.version))
	}
	return list
}
