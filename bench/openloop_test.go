package main

import (
	"bytes"
	"testing"
	"time"
)

func TestOpenLoopAsksAtItsRateAndTimesEveryAnswer(t *testing.T) {
	questions := []string{"a.example A", "b.example AAAA", "c.example MX"}
	got, err := openLoop(t.Context(), loopback(t, 3), questions, 2000, 100*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if got.Asked != 200 || got.NXDomain != 200 || got.Failed != 0 {
		t.Errorf("%+v: %v", *got, got.why)
	}
	if got.P50 <= 0 || got.P50 > got.P999 || got.P999 > got.Max || got.Rate <= 0 {
		t.Errorf("latencies and rate make no sense: %+v", *got)
	}
}

// It goes on asking a server that says nothing to one name, and counts what has
// no answer.
func TestOpenLoopDoesNotWaitForAnswers(t *testing.T) {
	silent := responder(t, func(msg []byte) {
		if bytes.Contains(msg, []byte("lost")) {
			msg[12]++ // no answer to this question
		}
		msg[2] |= 0x80
	})
	got, err := openLoop(t.Context(), silent, []string{"a.example A", "lost.example A"}, 1000, 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if got.Max != milliseconds(openPatience) {
		t.Errorf("what has no answer after %v is said to have taken %v ms", openPatience, got.Max)
	}
	if got.NoError != 25 || got.Failed != 25 || got.why[outcomeNone] != 25 {
		t.Errorf("%+v: %v", *got, got.why)
	}
}

func TestOpenLoopOfNoQueriesIsRefused(t *testing.T) {
	if got, err := openLoop(t.Context(), loopback(t, 0), []string{"a.example A"}, 1000, 0); err == nil {
		t.Errorf("%+v", *got)
	}
}

// IDs repeat after 65,536 queries of a socket: an answer is to the last of them.
func TestAnswersAreToTheLastQueryOfAnID(t *testing.T) {
	o := &openLoopRun{sockets: make([]int, 3), sent: make([]int64, 3*70_000+2)} // the last is of socket 1
	for _, tt := range []struct {
		socket int
		id     uint16
		want   int
	}{
		{1, uint16(70_000 - 65_536), 3*70_000 + 1},
		{1, uint16(70_001 - 65_536), 3*4465 + 1},
		{2, uint16(69_999 - 65_536), 3*69_999 + 2},
		{0, 5000, 3 * 5000},
		{2, 4464, 3*4464 + 2},
	} {
		if got := o.numbered(tt.socket, tt.id); got != tt.want {
			t.Errorf("socket %d, ID %d: query %d, want %d", tt.socket, tt.id, got, tt.want)
		}
	}
	o.sent = o.sent[:2]
	if got := []int{o.numbered(2, 0), o.numbered(0, 1), o.numbered(0, 65_535), o.numbered(1, 0)}; got[0] != -1 || got[1] != -1 || got[2] != -1 || got[3] != 1 {
		t.Errorf("of what nobody asked: %v", got)
	}
}
