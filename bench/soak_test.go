package main

import (
	"strings"
	"testing"
)

func TestGoroutinesAreFoundInTheLog(t *testing.T) {
	tests := []struct {
		log  string
		want int
		ok   bool
	}{
		{"time=2026-11-22T01:02:03Z level=INFO msg=statistics goroutines=17 hits=5\n", 17, true},
		{"level=INFO msg=ready\nlevel=INFO msg=statistics hits=5 goroutines=9\n", 9, true},
		{"level=INFO msg=statistics goroutines=1", 0, false}, // still being written
		{"level=INFO msg=statistics max_goroutines=4\n", 0, false},
		{"", 0, false},
	}
	for _, tt := range tests {
		if got, ok := goroutinesIn([]byte(tt.log)); got != tt.want || ok != tt.ok {
			t.Errorf("goroutinesIn(%q) = %d, %v; want %d, %v", tt.log, got, ok, tt.want, tt.ok)
		}
	}
}

func TestSoakFailsOnErrorsAndLeaks(t *testing.T) {
	good := func() *sample {
		return &sample{tally: tally{Sent: 100, Completed: 100, Rcodes: map[string]int64{"NOERROR": 90, "NXDOMAIN": 10}}}
	}
	base := holdings{descriptors: 12, goroutines: 8}
	lost, failed := good(), good()
	lost.Lost = 1
	failed.Rcodes = map[string]int64{"NOERROR": 99, "SERVFAIL": 1}
	tests := []struct {
		name  string
		run   *sample
		after holdings
		want  string
	}{
		{"good", good(), base, ""},
		{"fewer than before", good(), holdings{descriptors: 11, goroutines: 7}, ""},
		{"lost query", lost, base, "1 of 100 queries failed"},
		{"SERVFAIL", failed, base, "1 of 100 queries failed"},
		{"one descriptor more", good(), holdings{descriptors: 13, goroutines: 8}, "leaks"},
		{"one goroutine more", good(), holdings{descriptors: 12, goroutines: 9}, "leaks"},
	}
	for _, tt := range tests {
		err := verdict(tt.run, base, tt.after)
		if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: verdict %v, want %q", tt.name, err, tt.want)
		}
	}
}
