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

func TestOpenLoopRefusesWhatItHasNoIDsFor(t *testing.T) {
	for _, length := range []time.Duration{0, time.Hour} {
		if got, err := openLoop(t.Context(), loopback(t, 0), []string{"a.example A"}, 1000, length); err == nil {
			t.Errorf("a run of %v: %+v", length, *got)
		}
	}
}
