package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestBlastCountsAnswersByWhatTheySay(t *testing.T) {
	server := responder(t, func(msg []byte) {
		msg[2] |= 0x80
		if bytes.Contains(msg, []byte("missing")) {
			msg[3] = 3
		}
	})
	got, err := runBlast(t.Context(), server, []string{"a.example A", "missing.example AAAA"}, 200*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if got.Completed == 0 || got.Sent != got.Completed+got.Lost || got.Lost != 0 {
		t.Errorf("%+v", *got)
	}
	if n := got.Rcodes["NOERROR"] + got.Rcodes["NXDOMAIN"]; n != got.Completed || got.Rcodes["NXDOMAIN"] < n/3 || got.ResponseSize < 27 {
		t.Errorf("%+v", *got)
	}
}

// A query that is not answered keeps its place until the socket hears nothing any
// more; the others go on.
func TestBlastCountsWhatIsLost(t *testing.T) {
	asked := 0
	server := responder(t, func(msg []byte) {
		if asked++; asked != 7 {
			msg[2] |= 0x80
		}
	})
	got, err := runBlast(t.Context(), server, []string{"a.example A"}, 100*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if got.Lost != 1 || got.Completed != got.Sent-1 || got.Sent < blastSockets*blastWindow {
		t.Errorf("%+v", *got)
	}
}

func TestBlastWantsQuestions(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "q")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{empty, empty + "-missing"} {
		if lines, err := readLines(path); err == nil {
			t.Errorf("%s: %q", path, lines)
		}
	}
	if _, err := runBlast(t.Context(), loopback(t, 0), []string{"a.example HINFO"}, time.Second); err == nil || !strings.Contains(err.Error(), "HINFO") {
		t.Errorf("a question of unknown type: %v", err)
	}
}
