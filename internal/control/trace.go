package control

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"shirube/internal/wire"
)

// trace serves a trace: one JSON object a line as the steps come, and at the
// end one that is a [TraceEnd].
func (s *Server) trace(w http.ResponseWriter, r *http.Request) {
	q, err := traceQuestion(r)
	if err != nil {
		answer(w, nil, err)
		return
	}
	select {
	case s.traces <- struct{}{}:
		defer func() { <-s.traces }()
	default:
		answer(w, nil, refusef(http.StatusTooManyRequests, "%d traces are under way, which is the most there may be", maxTraces))
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	lines := newLines()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	var end TraceEnd
	var resolving sync.WaitGroup
	// Owner: this request. End: the resolution's, by its own timeout or when
	// the client goes. Bound: maxTraces.
	resolving.Go(func() {
		defer lines.end()
		var err error
		if end, err = s.opt.Backend.Trace(ctx, q, lines.add); err != nil {
			end = TraceEnd{Step: StepError, Error: err.Error()}
		}
	})
	write := func(doc any) error { return writeLine(w, doc, s.patience) }
	gone := lines.writeTo(write, cancel)
	resolving.Wait()
	if gone == nil {
		_ = write(end) // to a client that has gone
	}
}

// traceQuestion reads what is to be traced.
func traceQuestion(r *http.Request) (wire.Question, error) {
	v, err := params(r, "name", "type")
	if err != nil {
		return wire.Question{}, err
	}
	n, err := parseName("name", v.Get("name"))
	if err != nil {
		return wire.Question{}, err
	}
	typ, err := parseType(v.Get("type"), wire.TypeA)
	return wire.Question{Name: n, Type: typ}, err
}

// lines hands the steps of a trace to who writes them, so that a slow client
// does not hold up the resolution. There are no more of them than what one
// question may cost allows.
type lines struct {
	mu      sync.Mutex
	waiting []any
	some    chan struct{} // has room for one: something has come
	done    chan struct{} // closed when nothing more will
}

func newLines() *lines {
	return &lines{some: make(chan struct{}, 1), done: make(chan struct{})}
}

// add takes a step. It does not block.
func (l *lines) add(step any) {
	l.mu.Lock()
	l.waiting = append(l.waiting, step)
	l.mu.Unlock()
	select {
	case l.some <- struct{}{}:
	default:
	}
}

// end says that nothing more comes.
func (l *lines) end() { close(l.done) }

// writeTo writes the steps as they come. When that fails it calls stop, and waits
// for their end.
func (l *lines) writeTo(write func(any) error, stop func()) (failed error) {
	for ended := false; !ended; {
		select {
		case <-l.some:
		case <-l.done:
			ended = true
		}
		l.mu.Lock()
		steps := l.waiting
		l.waiting = nil
		l.mu.Unlock()
		for _, step := range steps {
			if failed != nil {
				break
			}
			if failed = write(step); failed != nil {
				stop()
			}
		}
	}
	return failed
}

// writeLine writes one object and sees that it is on its way, within patience.
func writeLine(w http.ResponseWriter, doc any, patience time.Duration) error {
	line, err := json.Marshal(doc)
	if err != nil {
		return err
	}
	c := http.NewResponseController(w)
	if err := c.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := w.Write(append(line, '\n')); err != nil {
		return err
	}
	return c.Flush()
}
