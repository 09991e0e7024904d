package shared

import (
	"bufio"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The second key is not needed for an answer that is there.
func TestLoneLookUpAsksForWhatItNeeds(t *testing.T) {
	var got record[string]
	k := keyOf("www.example.com.")
	e := fresh(t, k)
	e.Stored = e.Stored.Truncate(time.Millisecond)
	writer := newTestRing(t, Secrets{Values: [][]byte{secret(1)}})
	name := keyName(forAnswer, 0, writer.digest(k))
	value := writer.seal(name, e.appendBody(nil))
	f := startFake(t, func(conn net.Conn, line string, _ *bufio.Reader) bool {
		got.add(line)
		reply := "END\r\n"
		if strings.Contains(line, name) {
			reply = fmt.Sprintf("VALUE %s 0 %d 1\r\n%s\r\nEND\r\n", name, len(value), value)
		}
		_, err := conn.Write([]byte(reply))
		return err == nil
	})
	c := newTestCache(t, nil, f.Server)
	other := keyOf("other.example.com.")
	d := c.ring.digest(other)
	answer, failure := keyName(forAnswer, 0, d), keyName(forFailure, 0, d)
	if _, ok := get(t, c, other); ok { // there was no connection: it was made elsewhere, for both keys
		t.Fatal("what is not there was found")
	}
	eventually(t, "its slot is idle", func() bool { return idle(c) == c.opt.Batches })
	if back, ok := get(t, c, k); !ok || !same(&back, &e) {
		t.Errorf("found %v, %+v", ok, back)
	}
	if _, ok := get(t, c, other); ok {
		t.Error("what is not there was found")
	}
	want := []string{"gets " + answer + " " + failure, "gets " + name, "gets " + answer, "gets " + failure}
	if !slices.Equal(got.all(), want) {
		t.Errorf("asked for\n%q, expected\n%q", got.all(), want)
	}
	if s := one(c.Stats()); s.Gets != 3 || s.Batches != 4 || s.Dials != 1 || s.Took.Count() != 3 {
		t.Errorf("%+v", s)
	}
}

// idle returns how many look-ups could begin at once.
func idle(c *Cache) int {
	s := only(c)
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.idle)
}

// Who asked has gone on, and what comes later is nobody's: it is neither lost time
// for the next, nor taken for his answer.
func TestLateAnswersLeaveTheirConnectionsInUse(t *testing.T) {
	for _, tt := range []struct {
		name          string
		first, second string // parts of the answer to the look-up that is late, of which it comes before and after the time is over
		kept          bool   // the connection
	}{
		{"nothing yet", "", "END\r\n", true},
		{"a part of a line", "VAL", "UE KEY 0 3 1\r\nabc\r\nEND\r\n", true},
		{"a part of a value", "VALUE KEY 0 3 1\r\na", "bc\r\nEND\r\n", true},
		{"all but the end", "VALUE KEY 0 3 1\r\nabc\r\n", "END\r\n", true},
		{"another key", "", "VALUE other 0 3 1\r\nabc\r\nEND\r\n", false},
		{"more than there is to say", "", "END\r\nEND\r\n", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			late, more := make(chan struct{}), make(chan struct{})
			var once sync.Once
			f := startFake(t, func(conn net.Conn, line string, _ *bufio.Reader) bool {
				reply := "END\r\n"
				if strings.Count(line, " ") == 1 { // on the caller's goroutine
					once.Do(func() {
						text := func(s string) []byte { return []byte(strings.ReplaceAll(s, "KEY", line[len("gets "):])) }
						_, _ = conn.Write(text(tt.first)) // if it is broken, so is the next one
						close(late)
						<-more
						reply = string(text(tt.second))
					})
				}
				_, err := conn.Write([]byte(reply))
				return err == nil
			})
			c := newTestCache(t, func(o *Options) { o.Timeout, o.Budget = time.Minute, 30*time.Second }, f.Server)
			k := keyOf("www.example.com.")
			get(t, c, k) // makes the connection
			eventually(t, "its slot is idle", func() bool { return idle(c) == c.opt.Batches })
			c.opt.Budget = 20 * time.Millisecond
			if _, ok := get(t, c, k); ok {
				t.Error("an answer")
			}
			<-late
			if n := idle(c); n != c.opt.Batches-1 || f.open.Load() != 1 {
				t.Errorf("%d slots are idle, on %d connections", n, f.open.Load())
			}
			close(more)
			eventually(t, "its slot is idle again", func() bool { return idle(c) == c.opt.Batches })
			if open, _ := only(c).dialer.stats(); (open == 1) != tt.kept || one(c.Stats()).Late != 1 {
				t.Errorf("%d connections; %+v", open, one(c.Stats()))
			}
			if !tt.kept {
				return
			}
			c.opt.Budget = 30 * time.Second
			if _, ok := get(t, c, k); ok {
				t.Error("an answer")
			}
			if s := one(c.Stats()); s.Dials != 1 || s.Errors > 0 || s.Took.Count() != 2 { // the first, and the last
				t.Errorf("%+v", s)
			}
		})
	}
}

// A server that never says what it was asked for has its connections for no
// longer than one operation may take, and who comes meanwhile waits for no more
// than the budget.
func TestAnswersThatNeverComeEndWithTheTimeout(t *testing.T) {
	silent := make(chan struct{})
	f := startFake(t, func(conn net.Conn, line string, _ *bufio.Reader) bool {
		if strings.Count(line, " ") == 1 {
			<-silent
			return false
		}
		_, err := conn.Write([]byte("END\r\n"))
		return err == nil
	})
	defer close(silent)
	c := newTestCache(t, func(o *Options) { o.Timeout, o.Budget = 100*time.Millisecond, 30*time.Second }, f.Server)
	k := keyOf("www.example.com.")
	get(t, c, k)
	eventually(t, "its slot is idle", func() bool { return idle(c) == c.opt.Batches })
	c.opt.Budget = 20 * time.Millisecond
	if _, ok := get(t, c, k); ok {
		t.Error("an answer")
	}
	eventually(t, "the connection was given up", func() bool {
		open, _ := only(c).dialer.stats()
		return open == 0 && idle(c) == c.opt.Batches
	})
}
