package control

import (
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestAnswersThatNeverEndAreCutOff has a server that says something for ever: what
// `shirube` takes of it is bounded.
func TestAnswersThatNeverEndAreCutOff(t *testing.T) {
	l, err := net.Listen("unix", socketPath(t))
	if err != nil {
		t.Fatal(err)
	}
	endless := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		spaces := []byte(strings.Repeat(" ", 1<<20))
		for {
			if _, err := w.Write(spaces); err != nil {
				return
			}
		}
	})}
	served := make(chan struct{})
	go func() { defer close(served); _ = endless.Serve(l) }() // ends with Close
	defer func() { _ = endless.Close(); <-served }()
	c := NewClient(l.Addr().String())
	if doc, err := c.Do(t.Context(), http.MethodGet, "/v1/status", nil, nil); err == nil || len(doc) > maxDocument+1 {
		t.Errorf("%d octets, %v", len(doc), err)
	}
	err = c.Trace(t.Context(), "example.", "A", func(line []byte) error { t.Errorf("a line of %d octets", len(line)); return nil })
	if err == nil {
		t.Error("no error for a line without end")
	}
}
