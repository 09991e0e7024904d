// Package dnstaptest records what a tap is told, for tests.
package dnstaptest

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"shirube/dnstap"
)

// All returns a filter that takes every message.
func All() (f dnstap.Filter) {
	for typ := range f.Sample {
		f.Sample[typ] = 1
	}
	return f
}

// Record returns a Tap that is told of everything, and a function that closes it
// and says what it was told, in the order of the messages' times: goroutines that
// change processors tell it by several queues.
func Record(t testing.TB) (tap *dnstap.Tap, end func() []dnstap.Record) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tap")
	tap, err := dnstap.New(dnstap.Options{Outputs: []dnstap.Output{{File: &dnstap.File{Path: path}, Filter: All()}}})
	if err != nil {
		t.Fatal(err)
	}
	tap.Start()
	return tap, func() []dnstap.Record {
		t.Helper()
		if err := tap.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		records := Read(t, path)
		slices.SortStableFunc(records, func(a, b dnstap.Record) int {
			return cmp.Or(a.Time().Compare(b.Time()), int(a.Type&1^1)-int(b.Type&1^1)) // responses have even types
		})
		return records
	}
}

// Read returns the records of a file, which has to be whole.
func Read(t testing.TB, path string) []dnstap.Record {
	t.Helper()
	frames := Frames(t, path)
	records := make([]dnstap.Record, len(frames))
	for i, frame := range frames {
		if err := records[i].Decode(frame); err != nil {
			t.Fatal(err)
		}
	}
	return records
}

// Frames returns the frames of a file, which has to be whole.
func Frames(t testing.TB, path string) (frames [][]byte) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }() // only read
	r, err := dnstap.NewReader(file)
	for err == nil {
		var frame []byte
		if frame, err = r.Next(); err == nil {
			frames = append(frames, bytes.Clone(frame))
		}
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return frames
}
