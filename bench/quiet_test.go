package main

import (
	"errors"
	"testing"
)

func TestQuietestOfSomeRunsIsKept(t *testing.T) {
	for _, tt := range []struct {
		strangers []float64
		want      float64
		runs      int
	}{
		{[]float64{0.01}, 0.01, 1},
		{[]float64{0.3, 0.04}, 0.04, 2},
		{[]float64{0.3, 0.2, 0.4}, 0.2, attempts},
	} {
		runs := 0
		got, err := quietest(nil, func() (*sample, error) {
			runs++
			return &sample{Strangers: tt.strangers[runs-1]}, nil
		})
		if err != nil || got.Strangers != tt.want || runs != tt.runs {
			t.Errorf("of %v: %v after %d runs, %v; want %v after %d", tt.strangers, got.Strangers, runs, err, tt.want, tt.runs)
		}
	}
	spare, runs := 1, 0
	for range 2 {
		_, _ = quietest(&spare, func() (*sample, error) { runs++; return &sample{Strangers: 1}, nil })
	}
	if spare != 0 || runs != 3 {
		t.Errorf("%d runs, when two were to be done and one was to spare; %d are left", runs, spare)
	}
	broken := errors.New("broken")
	if _, err := quietest(nil, func() (*sample, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("a run failed, and nobody says so: %v", err)
	}
}
