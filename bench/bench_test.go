package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestFlagsThatMakeNoSenseAreRefused(t *testing.T) {
	for _, args := range []string{
		"warm -names 0", "warm -names 10 -zones 11", "warm -rounds 0", "warm -time 1500ms", "warm -time 0s", "soak -time 10ms",
		"soak -rounds 3", "warm -names many", "idle -connections 0", "idle -time 0s", "cold -tcp", "idle -rounds 3",
		"cold -clients 0", "cold -delay -1s", "cold -rounds 0", "cold -time 1s", "warm -faults",
		"profile -rounds 3", "profile -time 0s", "cold -delay 6s", "warm -time 2s3", "warm -threads 0", "warm now", "echo -names 3", "echo -threads 65",
	} {
		f := strings.Fields(args)
		if _, set, err := parseArgs(f); err == nil {
			t.Errorf("%s: accepted as %+v", args, set)
		}
	}
}

func TestFlagsHaveDefaults(t *testing.T) {
	_, set, err := parseArgs([]string{"warm"})
	if err != nil || set.names != 10_000 || set.rounds != 5 || set.run != 10*time.Second || set.peers != "unbound,shirube" {
		t.Errorf("warm: %+v, %v", set, err)
	}
	if _, set, err := parseArgs([]string{"profile"}); err != nil || set.names != 200_000 || set.out != "bench/out" || set.run != 10*time.Second {
		t.Errorf("profile: %+v, %v", set, err)
	}
	if _, set, err := parseArgs([]string{"idle"}); err != nil || set.conns != 100_000 {
		t.Errorf("idle: %+v, %v", set, err)
	}
	if _, set, err := parseArgs([]string{"warm", "-tcp"}); err != nil || !set.tcp {
		t.Errorf("warm -tcp: %+v, %v", set, err)
	}
	if _, set, err := parseArgs([]string{"cold"}); err != nil || set.names != 10_000 || set.rounds != 5 || set.clients != 50 || set.faults {
		t.Errorf("cold: %+v, %v", set, err)
	}
	if _, set, err := parseArgs([]string{"soak"}); err != nil || set.run != time.Minute || set.names != 10_000 {
		t.Errorf("soak: %+v, %v", set, err)
	}
}

func TestUsageWithoutSubcommandEndsWith2(t *testing.T) {
	for _, args := range [][]string{nil, {"tepid"}, {"warm", "-nonsense"}} {
		if got := run(args); got != 2 {
			t.Errorf("run(%q) = %d", args, got)
		}
	}
}

func TestQueryIsInWireForm(t *testing.T) {
	want := []byte("\x51\x51\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x03dev\x00\x00\x06\x00\x01")
	if got := soaQuery("www.dev."); !bytes.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if got := soaQuery("."); !bytes.Equal(got[12:], []byte("\x00\x00\x06\x00\x01")) {
		t.Errorf("the root's question is %q", got[12:])
	}
}

func TestOnlyAnAnswerCountsAsReady(t *testing.T) {
	head := func(flags2, flags3, answers byte) []byte {
		return []byte{0x51, 0x51, flags2, flags3, 0, 1, 0, answers, 0, 0, 0, 0}
	}
	if err := checkAnswer(head(0x84, 0, 1)); err != nil {
		t.Error(err)
	}
	for name, msg := range map[string][]byte{
		"a query": head(1, 0, 1), "SERVFAIL": head(0x84, 2, 1), "no answer": head(0x84, 0, 0), "a stump": {0x51, 0x51, 0x84},
	} {
		if checkAnswer(msg) == nil {
			t.Errorf("%s counts as an answer", name)
		}
	}
}

func TestConfigurationOfNSDNamesTheAddressAndTheZones(t *testing.T) {
	c := nsdConf("/d/tld", tldAddrs[:1], []zone{{name: "com."}})
	if !strings.Contains(c, "ip-address: 198.18.1.1\n") || !strings.Contains(c, "zonefile: \"/d/tld/00000.zone\"\n") {
		t.Error(c)
	}
}
