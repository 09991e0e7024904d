package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"shirube/internal/lab"
	"shirube/internal/wire"
	"shirube/resolver"
)

func TestTracePrintsTheWayToAnAnswer(t *testing.T) {
	l, err := lab.Start(t.Context(), lab.Options{Seed: 1, Signed: true})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	hints := filepath.Join(t.TempDir(), "root.hints")
	if err := os.WriteFile(hints, []byte(l.Hints()), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := demoConfig(hints, l.Anchor(), l.Port())
	q := wire.Question{Name: wire.MustParseName("www.shirube.lab."), Type: wire.TypeA}

	var out, log bytes.Buffer
	if err := trace(t.Context(), cfg, q, false, &out, &log); err != nil {
		t.Fatal(err, out.String())
	}
	for _, want := range []string{"question  www.shirube.lab. A", "zone      . ", "referral to ", "\nNOERROR, secure\nwww.shirube.lab.\t3600\tIN\tA\t198.18."} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}

	out.Reset()
	if err := trace(t.Context(), cfg, q, true, &out, &log); err != nil {
		t.Fatal(err)
	}
	queries := 0
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		var e resolver.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Step == "" || e.Depth < 1 {
			t.Errorf("%s: %v", line, err)
		}
		if e.Step == resolver.StepQuery && e.RTT > 0 && e.Octets > 0 {
			queries++
		}
	}
	if queries < 3 {
		t.Errorf("%d queries with a round-trip time in\n%s", queries, out.String())
	}

	q.Name = wire.MustParseName("n12.hop1.lab.") // a chain of twelve aliases
	if err := trace(t.Context(), cfg, q, false, &out, &log); err == nil || !strings.Contains(err.Error(), "aliases") {
		t.Errorf("got %v, want an error about aliases", err)
	}
}

func TestTraceQuestionSaysWhatIsWrong(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"a..b"}, "not a domain name"},
		{[]string{"a", "NOSUCH"}, "no RR type"},
		{[]string{"a", "ANY"}, "cannot be resolved"},
	} {
		if _, err := traceQuestion(tt.args); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: %v, want %q", tt.args, err, tt.want)
		}
	}
	for _, args := range [][]string{{"example.com"}, {"example.com.", "a"}, {"x", "TYPE1"}} {
		if q, err := traceQuestion(args); err != nil || q.Type != wire.TypeA {
			t.Errorf("%v: %v, %v", args, q, err)
		}
	}
}
