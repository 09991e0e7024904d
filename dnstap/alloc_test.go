//go:build !race

package dnstap

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"

	"shirube/internal/wire"
)

func TestEmitAllocatesNothing(t *testing.T) {
	suffixes := []wire.Name{wire.MustParseName("example.com.")}
	dir := t.TempDir()
	tap := start(t, Options{Identity: "tokyo-1", Version: "1", Outputs: []Output{
		{File: &File{Path: filepath.Join(dir, "plain")}, Filter: all()},
		{
			File: &File{Path: filepath.Join(dir, "hashed")}, Filter: Filter{Sample: all().Sample, Suffixes: suffixes},
			Privacy: Privacy{Bits4: 24, HashKey: bytes.Repeat([]byte{7}, HashKeyLen)},
		},
	}})
	m := *message(ClientResponse, 1)
	var off *Tap
	n := testing.AllocsPerRun(50_000, func() {
		m.ResponseTime = time.Time{}
		tap.Emit(0, &m)
		off.Emit(0, &m)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkEmit is what a tapped query costs its reader, beside what the writer
// does with it on another processor.
func BenchmarkEmit(b *testing.B) {
	for _, tt := range []struct {
		name   string
		sample uint32
	}{{"off", 0}, {"1 in 100", 100}, {"all", 1}} {
		b.Run(tt.name, func(b *testing.B) {
			var f Filter
			f.Sample[ClientQuery], f.Sample[ClientResponse] = tt.sample, tt.sample
			tap, err := New(Options{Outputs: []Output{{File: &File{Path: "/dev/null"}, Filter: f}}})
			if err != nil {
				b.Fatal(err)
			}
			tap.Start()
			q, r := *message(ClientQuery, 1), *message(ClientResponse, 1)
			b.ReportAllocs()
			for b.Loop() {
				q.QueryTime = time.Now()
				r.QueryTime, r.ResponseTime = q.QueryTime, time.Time{}
				tap.Emit(0, &q)
				tap.Emit(0, &r)
			}
			b.StopTimer()
			_ = tap.Close(b.Context())
		})
	}
}
