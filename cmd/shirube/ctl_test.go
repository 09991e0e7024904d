package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"shirube/internal/control"
	"shirube/internal/wire"
	"shirube/resolver"
)

// startBackend serves a control socket with something of everything on it, and
// returns its path.
func startBackend(t *testing.T) string {
	t.Helper()
	soon := time.Now().Add(time.Minute + 500*time.Millisecond)
	negatives := []control.Negative{{Name: "broken.example.", Until: soon, Reason: "told their NOC"}}
	anchors := []control.Anchor{
		{Zone: ".", Trusted: []uint16{20326}, Keys: []control.Key{{Tag: 38696, Algorithm: "RSASHA256", State: "addpend", Since: soon, Until: &soon}}},
		{Zone: "corp.example.", Trusted: []uint16{1, 2}},
	}
	level := "info"
	s, err := control.New(control.Options{Path: filepath.Join(t.TempDir(), "control.sock"), Group: -1, UID: os.Geteuid(), Backend: control.Backend{
		Status: func() control.Status {
			return control.Status{
				Version: "v9", State: "ready", PID: 77, UptimeSeconds: 90, Listeners: []control.Listener{{Address: "[::1]:53", Protocol: "udp"}},
				Caches:     []control.Cache{{Name: "answers", Entries: 5, Bytes: 32 << 20, Limit: 64 << 20}},
				Validation: control.Validation{Enabled: true, Anchors: anchors, NegativeAnchors: negatives},
				LocalRoot:  &control.LocalRoot{Serial: 2026112200},
			}
		},
		Stats: func() map[string]any {
			return map[string]any{"udp": map[string]any{"received": uint64(1) << 60}, "frontend": map[string]any{"hits": 3}}
		},
		Lookup: func(n wire.Name) control.Lookup {
			return control.Lookup{
				Name: n.String(), Zone: "example.", Kind: "learned", Expires: &soon, DS: "signed",
				Dead:  &control.Dead{Until: soon, Why: "silent"},
				Trust: &control.Trust{Zone: "example.", Trust: "secure", Keys: []uint16{7, 8}, Until: soon},
				Servers: []control.NameServer{
					{Host: "ns1.example.", Address: "192.0.2.1:53", Known: true, SRTTMillis: 12.3, RTTVarMillis: 4.5, TimeoutMillis: 50, DeadUntil: &soon, LameUntil: &soon, Silences: 5, NoEDNS: true, TCP: true},
					{Host: "ns2.example."},
				},
			}
		},
		Flights: func() control.Flights {
			return control.Flights{
				Flights: []control.Flight{{Name: "www.example.", Type: "A", CD: true, AgeMillis: 1234, Waiters: 3}}, Omitted: 2,
				Asking: []control.Asking{{Zone: "example.", Name: "www.example.", Type: "A", Server: "192.0.2.1:53"}},
			}
		},
		Trace: func(_ context.Context, q wire.Question, tell func(any)) (control.TraceEnd, error) {
			tell(resolver.Event{Step: resolver.StepQuestion, Depth: 1, Question: q.String()})
			if q.Name == wire.MustParseName("bad.example.") {
				return control.TraceEnd{}, errors.New("no luck")
			}
			return control.TraceEnd{Step: control.StepAnswer, Rcode: "NOERROR", Trust: "secure", Records: []string{"www.example.\t1\tIN\tA\t192.0.2.1"}}, nil
		},
		HandOver: func(int) (*control.Estate, error) { return nil, errors.New("not here") },
		Upgrade:  func(context.Context) (int, error) { return 77, nil },
		Flush: func(_ context.Context, f control.Flush) (control.Flushed, error) {
			out := control.Flushed{Answers: len(f.Name), RRsets: int(f.Type), Cuts: map[bool]int{true: 1}[f.Below]}
			switch {
			case f.Fleet && f.Name == wire.MustParseName("alone.example."):
				return out, errors.New("this server has no shared cache")
			case f.Fleet && f.Name == wire.MustParseName("cut-off.example."):
				out.Fleet = &control.FleetFlushed{Servers: 1, Of: 3, Problem: "most servers do not have the order yet"}
			case f.Fleet:
				out.Fleet = &control.FleetFlushed{Servers: 3, Of: 3}
			}
			return out, nil
		},
		Cache: func() control.CacheLayers {
			return control.CacheLayers{
				Memory: []control.Cache{{Name: "answers", Entries: 5, Bytes: 32 << 20, Limit: 64 << 20}},
				Given:  control.CacheGiven{Memory: 90, Shared: 7, Resolved: 3},
				Shared: &control.SharedLayer{
					Hits: 7, Misses: 3, Rejected: map[string]uint64{"tag": 2}, SkewMS: 12,
					Servers: []control.SharedServer{{Name: "memcached-0", Address: "192.0.2.10:11211", State: "ramping", Gets: 10, Hits: 7}},
				},
				Fleet: &control.FleetFlushes{ID: "0badcafe", Orders: 2, Octets: 80, Epoch: &soon, AgeMillis: 250, Read: 1, Copies: 1},
			}
		},
		Entry: func(_ context.Context, q wire.Question) control.CacheEntry {
			e := control.CacheEntry{Name: q.Name.String(), Type: q.Type.String()}
			if q.Type == wire.TypeMX {
				return e
			}
			e.Memory = []control.MemoryEntry{{Form: "dnssec", Status: "stale", Rcode: "NOERROR", AgeSeconds: 310, LeftSeconds: -10, Octets: 120}}
			e.Shared = &control.SharedEntry{
				Server: "memcached-0", Status: "unused", Why: "flushed", Rcode: "NOERROR", Trust: "secure", Writer: "dns-7",
				AgeSeconds: 12.34, LeftSeconds: 287.66, Octets: 300,
			}
			return e
		},
		Top: func(most int) []control.Asked {
			return []control.Asked{{Name: "www.example.", Type: "AAAA", Count: uint32(most)}}
		},
		Reload: func(context.Context) (control.Reloaded, error) {
			if level == "error" {
				return control.Reloaded{}, errors.New("shirube.yaml:1:1: listne: unknown key")
			}
			return control.Reloaded{Changed: []string{"log.level", "listen"}}, nil
		},
		Drain:     func(bool) error { return nil },
		Validates: func() bool { return true },
		Anchors:   func() []control.Anchor { return anchors }, Negatives: func() []control.Negative { return negatives },
		AddNegative: func(n wire.Name, lasts time.Duration, reason string) (control.Negative, error) {
			return control.Negative{Name: n.String(), Until: time.Now().Add(lasts), Reason: reason}, nil
		},
		RemoveNegative: func(wire.Name) bool { return true },
		LogLevel:       func() string { return level },
		SetLogLevel:    func(l string) error { level = l; return nil },
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s.Path()
}

// runCtl runs `shirube ctl` with args.
func runCtl(args ...string) (stdout string, err error) {
	return runCommand(append([]string{"ctl"}, args...)...)
}

// runCommand runs `shirube` with args.
func runCommand(args ...string) (stdout string, err error) {
	root := newRootCommand()
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetArgs(args)
	err = root.Execute()
	return out.String(), err
}

func TestCtlPrintsWhatTheServerSays(t *testing.T) {
	t.Setenv("RUNTIME_DIRECTORY", filepath.Dir(startBackend(t)))
	for _, tt := range []struct {
		args string
		want []string
	}{
		{"status", []string{"v9", "ready, process 77", "1m30s ago", "[::1]:53 udp", "answers: 5 entries, 32.0 MiB of 64.0 MiB (50 %)", "serial 2026112200", "corp.example. 1 2", "broken.example. for 1m0s told their NOC"}},
		{"stats", []string{"frontend.hits  3", "udp.received   1152921504606846976"}},
		{"stats front", []string{"frontend.hits  3\n"}},
		{"lookup www.example", []string{"example. (learned)", "1m0s: silent", "secure", "7 8", "12.3 ± 4.5 ms  50 ms    dead for 1m0s, lame for 1m0s, silent 5 times in a row, without EDNS, over TCP", "ns2.example.  -             -              -        -"}},
		{"flights", []string{"www.example.  A +cd  1234 ms  3", "and 2 more", "192.0.2.1:53  example."}},
		{"trace www.example", []string{"question  www.example. A\n", "\nNOERROR, secure\nwww.example.\t1\tIN\tA\t192.0.2.1\n"}},
		{"flush www.example mx", []string{"13 answers", "15 RRsets, 0 zone cuts"}},
		{"flush --subtree example", []string{"9 answers", "0 RRsets, 1 zone cuts"}},
		{"flush --all", []string{"1 answers", "1 zone cuts"}},
		{"anchors", []string{".              38696  RSASHA256  addpend", "corp.example.  1 2    -          configured"}},
		{"nta list", []string{"broken.example.", "told their NOC"}},
		{"nta add a.example --for 1d --reason x", []string{"a.example.  1d   ", "  x\n"}},
		{"nta remove a.example", []string{"broken.example."}},
		{"drain", []string{"ready, process 77"}},
		{"undrain", []string{"ready, process 77"}},
		{"reload", []string{"reloaded; changed: log.level, listen\n"}},
		{"log-level", []string{"info\n"}},
		{"log-level debug", []string{"debug\n"}},
	} {
		out, err := runCtl(strings.Fields(tt.args)...)
		for _, want := range tt.want {
			if err != nil || !strings.Contains(out, want) {
				t.Errorf("%s: %v, no %q in\n%s", tt.args, err, want, out)
			}
		}
	}
	if _, err := runCtl("log-level", "error"); err != nil {
		t.Fatal(err)
	}
	if out, err := runCtl("reload"); err == nil || err.Error() != "shirube.yaml:1:1: listne: unknown key" || out != "" {
		t.Errorf("a reload that fails: %v\n%s", err, out)
	}
	if out, _ := runCtl("stats", "front"); strings.Contains(out, "udp") {
		t.Errorf("what does not begin so is printed:\n%s", out)
	}
	if out, err := runCtl("trace", "bad.example"); err == nil || err.Error() != "no luck" || !strings.Contains(out, "question") {
		t.Errorf("a trace that fails: %v\n%s", err, out)
	}
}

func TestCtlPrintsJSON(t *testing.T) {
	t.Setenv("RUNTIME_DIRECTORY", filepath.Dir(startBackend(t)))
	for _, args := range []string{"status", "stats", "lookup a", "flights", "flush --all", "anchors", "nta list", "nta add a", "nta remove a", "log-level", "trace a"} {
		out, err := runCtl(append(strings.Fields(args), "--json")...)
		d := json.NewDecoder(strings.NewReader(out))
		for n := 0; err == nil && d.More(); n++ {
			var doc any
			if err = d.Decode(&doc); err != nil {
				break
			}
		}
		if err != nil || out == "" {
			t.Errorf("%s: %v in\n%s", args, err, out)
		}
	}
	if out, err := runCtl("stats", "--json"); err != nil || !strings.Contains(out, "1152921504606846976") {
		t.Errorf("%v: the number is not whole in %s", err, out)
	}
	if out, err := runCtl("stats", "udp.rec", "--json"); err != nil || strings.Join(strings.Fields(out), "") != `{"udp":{"received":1152921504606846976}}` {
		t.Errorf("%v: found more or less than what begins with udp.rec in %s", err, out)
	}
	for _, how := range []string{"--json=false", "--json"} {
		if out, err := runCtl("stats", "udp.", "upd.", how); err == nil || !strings.Contains(err.Error(), `"upd."`) || out != "" {
			t.Errorf("%s: a prefix of nothing: %v, %s", how, err, out)
		}
	}
	if out, err := runCtl("trace", "bad.example", "--json"); !errors.Is(err, errReported) || !strings.Contains(out, `{"step":"error","error":"no luck"}`) {
		t.Errorf("a trace that fails: %v\n%s", err, out)
	}
}

func TestCtlCompletesTypesAndNegativeAnchors(t *testing.T) {
	socket := startBackend(t)
	for _, tt := range []struct{ args, want []string }{
		{[]string{"trace", "www.example", "AA"}, []string{"AAAA"}},
		{[]string{"flush", "www.example", "mx"}, []string{"MX"}},
		{[]string{"nta", "remove", ""}, []string{"broken.example."}},
		{[]string{"log-level", ""}, []string{"debug", "info", "warn", "error"}},
	} {
		root := newRootCommand()
		var out bytes.Buffer
		root.SetOut(&out)
		root.SetErr(new(bytes.Buffer))
		root.SetArgs(append([]string{"__complete", "ctl", "--socket", socket}, tt.args...))
		err := root.Execute()
		got := strings.Fields(out.String())
		if err != nil || len(got) == 0 || !slices.Equal(got[:len(got)-1], tt.want) { // then comes a directive
			t.Errorf("%q: %v, got %q, want %q", tt.args, err, got, tt.want)
		}
	}
}
