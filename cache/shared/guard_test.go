package shared

import (
	"bufio"
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

// lines that a hostile server answers a look-up of two keys with.
func TestServerGivesNothingThatWasNotAskedFor(t *testing.T) {
	value := func(key, octets string) string {
		return fmt.Sprintf("VALUE %s 0 %d 1\r\n%s\r\n", key, len(octets), octets)
	}
	tests := []struct {
		name   string
		answer func(first, second string) string
		want   int // values
		ends   bool
	}{
		{"both", func(a, b string) string { return value(a, "x") + value(b, "y") + "END\r\n" }, 2, false},
		{"one", func(_, b string) string { return value(b, "y") + "END\r\n" }, 1, false},
		{"nothing", func(_, _ string) string { return "END\r\n" }, 0, false},
		{"another key", func(_, _ string) string { return value("other", "x") + "END\r\n" }, 0, true},
		{"a key twice", func(a, _ string) string { return value(a, "x") + value(a, "y") + "END\r\n" }, 0, true},
		{"in another order", func(a, b string) string { return value(b, "x") + value(a, "y") + "END\r\n" }, 0, true},
		{"a part of a key", func(a, _ string) string { return value(a[:len(a)-1], "x") + "END\r\n" }, 0, true},
		{"a giant", func(a, _ string) string { return "VALUE " + a + " 0 1000000000 1\r\n" }, 0, true},
		{"one octet too many", func(a, _ string) string { return value(a, strings.Repeat("x", MaxValue+1)) + "END\r\n" }, 0, true},
		{"as much as there may be", func(a, _ string) string { return value(a, strings.Repeat("x", MaxValue)) + "END\r\n" }, 1, false},
		{"less than nothing", func(a, _ string) string { return "VALUE " + a + " 0 -1 1\r\n\r\nEND\r\n" }, 0, true},
		{"no size", func(a, _ string) string { return "VALUE " + a + "\r\nEND\r\n" }, 0, true},
		{"a line without an end", func(_, _ string) string { return strings.Repeat("x", 2*maxLine) }, 0, true},
		{"more than asked for", func(_, _ string) string { return "END\r\nEND\r\n" }, 0, true},
		{"an error", func(_, _ string) string { return "SERVER_ERROR out of order\r\n" }, 0, true},
		{"nonsense", func(_, _ string) string { return "HTTP/1.1 400 Bad Request\r\n\r\n" }, 0, true},
	}
	for _, tt := range tests {
		f := startFake(t, func(conn net.Conn, line string, _ *bufio.Reader) bool {
			keys := strings.Fields(line)
			_, err := conn.Write([]byte(tt.answer(keys[1], keys[2])))
			return err == nil
		})
		c := newTestCache(t, nil, f.Server)
		s := (*c.servers.Load())[0]
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		l := s.ask(time.Now(), "first", "second")
		<-l.done
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
			t.Errorf("%s: %d octets of memory were taken", tt.name, took)
		}
		values := 0
		if l.err == nil {
			values = len(l.items)
		}
		if values != tt.want {
			t.Errorf("%s: %d values, %v; expected %d", tt.name, values, l.err, tt.want)
		}
		if open, _ := s.dialer.stats(); (open == 0) != tt.ends && tt.name != "more than asked for" {
			t.Errorf("%s: %d connections", tt.name, open)
		}
	}
}

// What comes after an answer is not taken for the next one.
func TestServerCannotAnswerInAdvance(t *testing.T) {
	f := startFake(t, func(conn net.Conn, line string, _ *bufio.Reader) bool {
		_, err := conn.Write([]byte("END\r\nVALUE second 0 1 1\r\nx\r\nEND\r\n"))
		return err == nil && line != ""
	})
	c := newTestCache(t, nil, f.Server)
	s := (*c.servers.Load())[0]
	for _, key := range []string{"first", "second"} {
		l := s.ask(time.Now(), key)
		<-l.done
		if len(l.items) > 0 {
			t.Errorf("%s: %v", key, l.items)
		}
		s.dialer.worked() // no pause
	}
}

// A server that sends an octet now and then would have the client library
// wait for ever: its time begins anew with each value.
func TestDribblingServerHasOneTimeout(t *testing.T) {
	stop := make(chan struct{})
	f := startFake(t, func(conn net.Conn, line string, _ *bufio.Reader) bool {
		for _, key := range strings.Fields(line)[1:] {
			for _, octet := range "VALUE " + key + " 0 1 1\r\nx\r\n" {
				if _, err := conn.Write([]byte(string(octet))); err != nil {
					return false
				}
				select {
				case <-time.After(20 * time.Millisecond):
				case <-stop:
					return false
				}
			}
		}
		return true
	})
	defer close(stop)
	c := newTestCache(t, func(o *Options) { o.Timeout = 100 * time.Millisecond }, f.Server)
	s := (*c.servers.Load())[0]
	var keys []string
	for i := range 64 {
		keys = append(keys, fmt.Sprintf("key%d", i))
	}
	begun := time.Now()
	l := s.ask(begun, keys...)
	<-l.done
	if took := time.Since(begun); l.err == nil || took > patience {
		t.Errorf("it took %v, %v", took, l.err)
	}
}

func TestServerWithoutRoomKeepsItsConnection(t *testing.T) {
	f := startFake(t, func(conn net.Conn, line string, lines *bufio.Reader) bool {
		reply := "END\r\n"
		if !strings.HasPrefix(line, "gets ") {
			if _, err := lines.ReadString('\n'); err != nil { // a value without line ends
				return false
			}
			reply = "SERVER_ERROR out of memory storing object\r\n"
		}
		_, err := conn.Write([]byte(reply))
		return err == nil
	})
	c := newTestCache(t, nil, f.Server)
	s := (*c.servers.Load())[0]
	for i := range 20 {
		s.put(store{
			name: fmt.Sprintf("key%d", i), fresher: func([]byte) bool { return true },
			value: func() ([]byte, int32) { return []byte("value"), 10 },
		})
	}
	eventually(t, "all were refused", func() bool { return s.stats().Refused == 20 })
	if n := f.all.Load(); n > setters {
		t.Errorf("%d connections for 20 values", n)
	}
}
