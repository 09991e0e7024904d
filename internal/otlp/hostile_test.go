package otlp

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"shirube/internal/otlp/otlptest"
)

// tripper stands for a collector.
type tripper func(n int, r *http.Request) (*http.Response, error)

// asked is a collector that was asked at these times.
type asked struct {
	t     tripper
	since time.Time
	at    []time.Duration
}

func (a *asked) RoundTrip(r *http.Request) (*http.Response, error) {
	a.at = append(a.at, time.Since(a.since))
	return a.t(len(a.at), r)
}

func answer(status int, body string, header ...string) (*http.Response, error) {
	rec := httptest.NewRecorder()
	for i := 0; i < len(header); i += 2 {
		rec.Header().Set(header[i], header[i+1])
	}
	rec.WriteHeader(status)
	_, _ = rec.WriteString(body)
	return rec.Result(), nil
}

// silence is what a collector says that never answers.
func silence(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

// facing starts an exporter whose collector is t.
func facing(t *testing.T, collector tripper, change func(*Options)) (*Exporter, *asked) {
	t.Helper()
	opt := options("http://collector.example:4318")
	if change != nil {
		change(&opt)
	}
	e, err := New(opt, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := &asked{t: collector, since: time.Now()}
	e.post.client.Transport = a
	e.Start("v9")
	return e, a
}

// TestCollectorSaysWhenItIsAskedAgain looks at when a batch is sent again, if at
// all.
func TestCollectorSaysWhenItIsAskedAgain(t *testing.T) {
	then := func(n int, resp func() (*http.Response, error)) tripper {
		return func(i int, _ *http.Request) (*http.Response, error) {
			if i <= n {
				return resp()
			}
			return answer(200, "{}")
		}
	}
	date := func(in time.Duration) string { return time.Now().Add(in).UTC().Format(http.TimeFormat) }
	for what, tt := range map[string]struct {
		collector      func() tripper
		requests       int
		least, most    time.Duration // between the first two
		sent, rejected uint64
	}{
		"takes it": {func() tripper { return then(0, nil) }, 1, 0, 0, 1, 0},
		"503, and when": {func() tripper {
			return then(1, func() (*http.Response, error) { return answer(503, "busy", "Retry-After", "20") })
		}, 2, 20 * time.Second, 21 * time.Second, 1, 0},
		"429, and a date": {func() tripper {
			return then(1, func() (*http.Response, error) { return answer(429, "", "Retry-After", date(30*time.Second)) })
		}, 2, 28 * time.Second, 31 * time.Second, 1, 0},
		"502, and nonsense": {func() tripper {
			return then(1, func() (*http.Response, error) { return answer(502, "", "Retry-After", "soon") })
		}, 2, minPause / 2, 2 * minPause, 1, 0},
		"504, and the past": {func() tripper {
			return then(1, func() (*http.Response, error) { return answer(504, "", "Retry-After", date(-time.Hour)) })
		}, 2, minPause / 2, 2 * minPause, 1, 0},
		"hangs up": {func() tripper { return then(1, func() (*http.Response, error) { return nil, io.ErrUnexpectedEOF }) }, 2, minPause / 2, 2 * minPause, 1, 0},
		"400": {func() tripper {
			return then(9, func() (*http.Response, error) { return answer(400, `{"message":"bad"}`) })
		}, 1, 0, 0, 0, 0},
		"413": {func() tripper { return then(9, func() (*http.Response, error) { return answer(413, "") }) }, 1, 0, 0, 0, 0},
		"500": {func() tripper { return then(9, func() (*http.Response, error) { return answer(500, "") }) }, 1, 0, 0, 0, 0},
		"elsewhere": {func() tripper {
			return then(9, func() (*http.Response, error) { return answer(307, "", "Location", "http://evil.example/") })
		}, 1, 0, 0, 0, 0},
		"204": {func() tripper { return then(9, func() (*http.Response, error) { return answer(204, "") }) }, 1, 0, 0, 0, 0},
		"too much": {func() tripper {
			return then(9, func() (*http.Response, error) { return answer(200, strings.Repeat(" ", maxReply+1)) })
		}, 1, 0, 0, 0, 0},
		"garbage": {func() tripper { return then(9, func() (*http.Response, error) { return answer(200, "\x00<html>") }) }, 1, 0, 0, 1, 0},
		"a part": {func() tripper {
			return then(9, func() (*http.Response, error) {
				return answer(200, `{"partialSuccess":{"rejectedSpans":"2","errorMessage":"why"}}`)
			})
		}, 1, 0, 0, 1, 2},
		"a part, as a number": {func() tripper {
			return then(9, func() (*http.Response, error) { return answer(200, `{"partialSuccess":{"rejectedSpans":1}}`) })
		}, 1, 0, 0, 1, 1},
		"a warning": {func() tripper {
			return then(9, func() (*http.Response, error) {
				return answer(200, `{"partialSuccess":{"rejectedSpans":0,"errorMessage":"old"}}`)
			})
		}, 1, 0, 0, 1, 0},
		"less than none rejected": {func() tripper {
			return then(9, func() (*http.Response, error) { return answer(200, `{"partialSuccess":{"rejectedSpans":"-5"}}`) })
		}, 1, 0, 0, 1, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			e, a := facing(t, tt.collector(), nil)
			e.Take(trace(t, e))
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			s := e.Stats()
			if len(a.at) != tt.requests || s.Requests != uint64(tt.requests) || s.Sent != tt.sent || s.Sent+s.Failed != 1 || s.Rejected != tt.rejected || s.Up != (tt.sent == 1) {
				t.Errorf("%s: asked %v; %+v", what, a.at, s)
			}
			if len(a.at) > 1 && (a.at[1]-a.at[0] < tt.least || a.at[1]-a.at[0] > tt.most) {
				t.Errorf("%s: asked again after %v; want %v to %v", what, a.at[1]-a.at[0], tt.least, tt.most)
			}
			closed(t, e)
		})
	}
}

// TestCollectorThatNeverAnswersIsGivenUp has nobody wait, each pause be longer than
// the one before, and a batch given up after a minute, while the others are dropped
// for want of room.
func TestCollectorThatNeverAnswersIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, a := facing(t, func(_ int, r *http.Request) (*http.Response, error) { return silence(r) }, func(o *Options) { o.Queue, o.Batch = 20, 10 })
		for range 1000 {
			begun := time.Now()
			e.Take(trace(t, e))
			if took := time.Since(begun); took > 0 {
				t.Fatalf("somebody waited %v", took)
			}
			time.Sleep(time.Second)
		}
		synctest.Wait()
		s := e.Stats()
		if s.Sent > 0 || s.Up || s.Dropped < 500 || s.Queued != 20 || s.Failed == 0 {
			t.Errorf("%+v", s)
		}
		if s.Requests < 10 || s.Requests > 60 || s.Failures+1 < s.Requests { // in a thousand seconds
			t.Errorf("asked %d times: %v", s.Requests, a.at)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		begun := time.Now()
		err := e.Close(ctx)
		if took := time.Since(begun); err == nil || took > 2*time.Second {
			t.Errorf("closed after %v: %v", took, err)
		}
		if s := e.Stats(); s.Emitted != 1000 || s.Dropped+s.Failed != 1000 || s.Queued > 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestEndTellsWhatIsQueued closes while the collector is not well, and well again.
func TestEndTellsWhatIsQueued(t *testing.T) {
	for what, tt := range map[string]struct {
		header []string
		sent   uint64
	}{
		"it may be well again": {nil, 25},
		"it has said when":     {[]string{"Retry-After", "30"}, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			var well atomic.Bool
			e, _ := facing(t, func(int, *http.Request) (*http.Response, error) {
				if well.Load() {
					return answer(200, "{}")
				}
				return answer(503, "", tt.header...)
			}, nil)
			for range 25 {
				e.Take(trace(t, e))
			}
			time.Sleep(100 * time.Millisecond)
			well.Store(true)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			begun := time.Now()
			if err := e.Close(ctx); (err == nil) != (tt.sent == 25) || time.Since(begun) > 0 {
				t.Errorf("%s: %v after %v", what, err, time.Since(begun))
			}
			if s := e.Stats(); s.Sent != tt.sent || s.Sent+s.Failed != 25 {
				t.Errorf("%s: %+v", what, s)
			}
		})
	}
}

// TestBatchesAreBounded looks at how many traces go together, and how long the first
// of them waits.
func TestBatchesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sizes []int
		e, a := facing(t, func(_ int, r *http.Request) (*http.Response, error) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return nil, err
			}
			sizes = append(sizes, len(otlptest.Spans(t, body))/2)
			return answer(200, "{}")
		}, func(o *Options) { o.Interval = time.Second })
		for range 25 {
			e.Take(trace(t, e))
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !slices.Equal(sizes, []int{10, 10, 5}) || !slices.Equal(a.at, []time.Duration{0, 0, time.Second}) {
			t.Errorf("%v at %v", sizes, a.at)
		}
		closed(t, e)
	})
}

// TestTroubleIsLoggedOnceAMinute has the log told of what lasts.
func TestTroubleIsLoggedOnceAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		var well atomic.Bool
		e, _ := facing(t, func(int, *http.Request) (*http.Response, error) {
			if !well.Load() {
				return nil, errors.New("no route")
			}
			return answer(200, "{}")
		}, func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
		for range 300 {
			e.Take(trace(t, e))
			time.Sleep(time.Second)
		}
		well.Store(true)
		time.Sleep(2 * time.Minute)
		closed(t, e)
		told := strings.Count(log.String(), "the collector does not take traces")
		if told < 3 || told > 6 || !strings.Contains(log.String(), "others=") || strings.Count(log.String(), "takes traces again") != 1 {
			t.Errorf("%d times:\n%s", told, log.String())
		}
	})
}

// TestEndlessAnswerIsCutShort is of a collector that writes for as long as somebody
// reads, in its header or in its body.
func TestEndlessAnswerIsCutShort(t *testing.T) {
	for what, write := range map[string]func(http.ResponseWriter){
		"body": func(w http.ResponseWriter) {
			for {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		},
		"header": func(w http.ResponseWriter) { w.Header().Set("X", strings.Repeat("x", 1<<20)) },
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // all of it
			write(w)
		}))
		e := start(t, options(srv.URL))
		e.Take(trace(t, e))
		for until := time.Now().Add(patience); e.Stats().Failures == 0; time.Sleep(time.Millisecond) {
			if time.Now().After(until) {
				t.Fatalf("%s: %+v", what, e.Stats())
			}
		}
		_ = e.Close(t.Context()) // some are lost
		srv.Close()
		if s := e.Stats(); s.Sent > 0 || s.Failed != 1 {
			t.Errorf("%s: %+v", what, s)
		}
	}
}
