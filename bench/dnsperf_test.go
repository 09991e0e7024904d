package main

import (
	"maps"
	"math"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

func tallyOf(t *testing.T, file string) *tally {
	t.Helper()
	out, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseTally(string(out))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestTallyIsReadFromDnsperf(t *testing.T) {
	got := tallyOf(t, "dnsperf-good.txt")
	if got.Sent != 111241 || got.Completed != 111241 || got.Lost != 0 || got.ResponseSize != 44 ||
		got.Seconds != 1.003427 || got.PerSecond != 110861.079082 || math.Round(got.Latency) != 620 {
		t.Errorf("read %+v", *got)
	}
	if want := map[string]int64{"NOERROR": 109017, "NXDOMAIN": 2224}; !maps.Equal(got.Rcodes, want) {
		t.Errorf("rcodes %v, want %v", got.Rcodes, want)
	}
	if n := got.errors(); n != 0 {
		t.Errorf("%d errors in a good run", n)
	}
}

func TestLostAndFailedQueriesAreErrors(t *testing.T) {
	got := tallyOf(t, "dnsperf-lost-and-failed.txt")
	if got.Lost != 7 || got.Rcodes["SERVFAIL"] != 3 || got.errors() != 10 {
		t.Errorf("%d lost, %v, %d errors; want 7, 3 SERVFAIL, 10", got.Lost, got.Rcodes, got.errors())
	}
}

func TestTallyOfAServerThatIsNotThere(t *testing.T) {
	got := tallyOf(t, "dnsperf-nothing-came-back.txt")
	if got.Completed != 0 || got.Lost != got.Sent || got.errors() != got.Sent || got.Sent == 0 {
		t.Errorf("read %+v", *got)
	}
}

func TestOutputWithoutStatisticsIsAnError(t *testing.T) {
	for _, out := range []string{"", "Error: unable to open file\n", "x\nStatistics:\n\n  Queries sent: 1\n"} {
		if got, err := parseTally(out); err == nil {
			t.Errorf("parseTally(%q) = %+v", out, *got)
		}
	}
}

func TestLoadBecomesFlagsOfDnsperf(t *testing.T) {
	ld := load{clients: 20, threads: 2, outstanding: 200, length: 10 * time.Second, patience: 5 * time.Second, tcp: true, do: true, once: true, cpus: "0,2"}
	argv, err := ld.command(netip.MustParseAddr("127.0.1.1"), "q.txt")
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(argv, " ")
	if want := "taskset -c 0,2 dnsperf -s 127.0.1.1 -p 53 -d q.txt -m tcp -c 20 -T 2 -q 200 -D -l 10 -t 5 -n 1"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := strings.Join(hitLoad(time.Second, false).flags(), " "); got != "-m udp -c 20 -T 1 -q 100" {
		t.Errorf("warm names are asked for with %s", got)
	}
}
