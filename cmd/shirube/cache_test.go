package main

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

func TestCachePrintsWhatTheServerSays(t *testing.T) {
	t.Setenv("RUNTIME_DIRECTORY", filepath.Dir(startBackend(t)))
	for _, tt := range []struct {
		args string
		want []string
	}{
		{"stats", []string{
			"answers: 5 entries, 32.0 MiB of 64.0 MiB (50 %)", "90 from memory, 7 from the shared cache, 3 resolved", "7 hits, 0 stale",
			"2: tag", "12 ms", "2 orders, 80 octets; read 250 ms ago, 1 of 1 copies", "all flushed", "memcached-0  192.0.2.10:11211  ramping  10",
		}},
		{"get www.example aaaa", []string{
			"memory, dnssec       stale   NOERROR  5m10s  -10s", "shared, memcached-0  unused  NOERROR  12.3s  4m47.7s  300     secure  dns-7",
			"what is shared is not used: flushed",
		}},
		{"get www.example MX", []string{"memory  none", "shared  not shared"}},
		{"flush www.example mx", []string{"13 answers", "15 RRsets, 0 zone cuts"}},
		{"flush www.example --type mx", []string{"15 RRsets"}},
		{"flush --all --fleet", []string{"1 zone cuts", "the fleet is told: 3 of 3 memcached have the order"}},
		{"top", []string{"20     AAAA  www.example."}},
		{"top -n 3", []string{"3      AAAA  www.example."}},
	} {
		out, err := runCommand(append([]string{"cache"}, strings.Fields(tt.args)...)...)
		for _, want := range tt.want {
			if err != nil || !strings.Contains(out, want) {
				t.Errorf("%s: %v, no %q in\n%s", tt.args, err, want, out)
			}
		}
		out, err = runCommand(append([]string{"cache", "--json"}, strings.Fields(tt.args)...)...)
		if !json.Valid([]byte(out)) || err != nil {
			t.Errorf("%s --json: %v in\n%s", tt.args, err, out)
		}
	}
}

// A fleet that is not told is an error, whoever reads the output.
func TestFlushThatDoesNotReachTheFleetFails(t *testing.T) {
	t.Setenv("RUNTIME_DIRECTORY", filepath.Dir(startBackend(t)))
	for _, format := range []string{"--json=false", "--json"} {
		out, err := runCommand("cache", "flush", "cut-off.example", "--fleet", format)
		if err == nil || !strings.Contains(err.Error(), "most servers do not have the order yet") || !strings.Contains(out, "1") {
			t.Errorf("%s: %v\n%s", format, err, out)
		}
	}
	if _, err := runCommand("cache", "flush", "alone.example", "--fleet"); err == nil || !strings.Contains(err.Error(), "no shared cache") {
		t.Error(err)
	}
	for _, args := range []string{"flush", "flush --all www.example", "flush --all --type A", "flush a MX --type A", "flush a b c", "get", "get a b c", "stats a", "top x", "x"} {
		_, err := runCommand(append([]string{"cache"}, strings.Fields(args)...)...)
		if _, ok := errors.AsType[*usageError](err); !ok {
			t.Errorf("%s: %v", args, err)
		}
	}
}
