package main

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"shirube/transport/clients"
)

// fakeAsker answers by a function.
type fakeAsker struct {
	clients.Asker
	answer func(query []byte) ([]byte, error)
}

func (f fakeAsker) Ask(_ context.Context, query []byte) ([]byte, error) { return f.answer(query) }

func TestStreamsTellWhatBecameOfAQuery(t *testing.T) {
	query := newQuery(0, "a.example", 1)
	broken := errors.New("broken")
	for _, tt := range []struct {
		name    string
		answer  func([]byte) ([]byte, error)
		outcome string
		fails   bool
	}{
		{"NXDOMAIN", func(q []byte) ([]byte, error) { return reply(q, 3), nil }, outcomeNXDomain, false},
		{"SERVFAIL", func(q []byte) ([]byte, error) { return reply(q, 2), nil }, "rcode 2", false},
		{"silence", func([]byte) ([]byte, error) { return nil, os.ErrDeadlineExceeded }, outcomeNone, false},
		{"a lost connection", func([]byte) ([]byte, error) { return nil, broken }, "", true},
		{"another question", func([]byte) ([]byte, error) { return reply(newQuery(0, "b.example", 1), 0), nil }, "", true},
	} {
		outcome, err := streamAsker(t.Context(), fakeAsker{answer: tt.answer})(query)
		if outcome != tt.outcome || (err != nil) != tt.fails {
			t.Errorf("%s: %q, %v", tt.name, outcome, err)
		}
	}
}

// reply returns a response to query.
func reply(query []byte, rcode byte) []byte {
	r := append([]byte(nil), query...)
	r[2], r[3] = r[2]|0x80, rcode
	return r
}

func TestClosedLoopGoesRoundUntilItsTimeIsOver(t *testing.T) {
	queries, err := buildQueries([]string{"a.example A", "b.example A", "c.example A"})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	seen := make(map[string]int)
	ask := func(query []byte) (string, error) {
		mu.Lock()
		defer mu.Unlock()
		seen[string(query)]++
		return outcomeNoError, nil
	}
	const length = 20 * time.Millisecond
	got, err := runClosedLoop(t.Context(), queries, length, []loopAsker{ask, ask})
	if err != nil {
		t.Fatal(err)
	}
	if sum := seen[string(queries[0])] + seen[string(queries[1])] + seen[string(queries[2])]; got.Asked != sum || got.NoError != sum || sum <= len(queries) || got.Seconds < length.Seconds() {
		t.Errorf("%+v of %v", *got, seen)
	}
}

func TestClosedLoopEndsWithABrokenConnection(t *testing.T) {
	broken := errors.New("broken")
	_, err := runClosedLoop(t.Context(), [][]byte{soaQuery(".")}, time.Hour, []loopAsker{func([]byte) (string, error) { return "", broken }})
	if !errors.Is(err, broken) {
		t.Errorf("it ended with %v", err)
	}
}
