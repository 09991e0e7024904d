//go:build linux && (amd64 || arm64)

package netx

import (
	"errors"
	"io"
	"testing"
)

// TestAttendedStreamIsNotReadInVain: where the system says what it still has, each
// turn asks it once.
func TestAttendedStreamIsNotReadInVain(t *testing.T) {
	mem := &notes{buf: make([]byte, 100)}
	s, _, far := streamPair(t, mem)
	if !s.tells {
		t.Fatal("the system does not say what it still has (TCP_INQ, Linux 4.18)")
	}
	turns, end := make(chan string), make(chan error)
	go func() { end <- attended(s, mem, turns) }()
	<-turns // which was in vain, for nothing had come
	const parts = 100
	for range parts {
		if _, err := far.Write([]byte("abc")); err != nil {
			t.Fatal(err)
		}
		for got := ""; got != "abc"; got += <-turns { // none comes in pieces, but a turn may be for nothing
			if got != "" {
				t.Fatalf("%q came", got)
			}
		}
	}
	if got := mem.spaces.Load(); got > parts+parts/2 {
		t.Errorf("%d reads of %d messages", got, parts)
	}
	if err := far.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := untilEnd(turns, end); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}
