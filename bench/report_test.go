package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestSpreadIsMedianAndEnds(t *testing.T) {
	tests := []struct {
		values []float64
		want   spread
	}{
		{nil, spread{}},
		{[]float64{7}, spread{Median: 7, Min: 7, Max: 7}},
		{[]float64{9, 1, 5}, spread{Median: 5, Min: 1, Max: 9}},
		{[]float64{4, 1, 3, 2}, spread{Median: 2.5, Min: 1, Max: 4}},
	}
	for _, tt := range tests {
		if got := spreadOf(tt.values); got != tt.want {
			t.Errorf("spreadOf(%v) = %v, want %v", tt.values, got, tt.want)
		}
	}
	if got := spreadOf([]float64{9, 10, 12}).width(); math.Abs(got-0.3) > 1e-9 {
		t.Errorf("width of 9, 10, 12 is %v", got)
	}
	if got := (spread{}).width(); got != 0 {
		t.Errorf("width of nothing is %v", got)
	}
}

func TestSampleSharesOutTheCPU(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	before := usage{when: at, server: 5 * time.Second, own: 7 * time.Second, busy: 100 * time.Second}
	after := usage{when: at.Add(10 * time.Second), server: 13 * time.Second, own: 15 * time.Second, busy: 118 * time.Second}
	s := newSample("x", &tally{Completed: 1_000_000}, after.sinceOn(before, 9*time.Second, 2))
	if s.CPU != 8 || s.Cores != 0.8 || s.DriverLoad != 0.9 || s.Strangers != 0.05 {
		t.Errorf("8 s for 1,000,000 queries, 9 s of dnsperf, 18 s in all within 10 s on 2 cores: %+v", *s)
	}
	after.busy = 116 * time.Second // the clocks of /proc are not of one piece
	if s := newSample("x", &tally{Completed: 1}, after.sinceOn(before, 9*time.Second, 2)); s.Strangers != 0 {
		t.Errorf("strangers used %v", s.Strangers)
	}
}

// exampleReport is a report of two servers and three rounds.
func exampleReport() *report {
	r := &report{
		testbed: testbed{Date: time.Date(2026, 11, 22, 1, 2, 3, 0, time.UTC), CPU: "A CPU", Cores: 2, Kernel: "6.1", NSD: "NSD version 4.6.1"},
		Dnsperf: "2.10.0", Names: 10_000, Zones: 300, Rounds: 3, Seconds: 10,
		versions: map[string]string{"unbound": "unbound 1.17.1", "shirube": "shirube v0"},
	}
	for i, v := range []struct{ rate, cpu float64 }{{100_000, 6}, {110_000, 7}, {90_000, 8}} {
		for j, name := range []string{"unbound", "shirube"} {
			r.Runs = append(r.Runs, sample{
				Server: name, Round: i + 1, CPU: v.cpu / float64(j+1), Strangers: 0.01 * float64(i),
				tally: tally{PerSecond: v.rate * float64(j+1), Completed: 1000, Lost: int64(j), ResponseSize: 63},
			})
		}
	}
	r.summarise()
	for i := range r.Rows {
		r.Rows[i].Resident = 28 << 20
	}
	return r
}

func TestReportComparesWithTheFirstServer(t *testing.T) {
	r := exampleReport()
	if len(r.Rows) != 2 || r.Rows[0].Server != "unbound" || r.Rows[1].Server != "shirube" {
		t.Fatalf("rows %+v", r.Rows)
	}
	w := r.Rows[1]
	if w.CPU != (spread{Median: 3.5, Min: 3, Max: 4}) || w.PerSecond != (spread{Median: 200_000, Min: 180_000, Max: 220_000}) {
		t.Errorf("CPU %v, rate %v", w.CPU, w.PerSecond)
	}
	if w.CPURatio != 0.5 || w.RateRatio != 2 || w.Lost != 3 || w.Completed != 3000 || w.Strangers != 0.02 {
		t.Errorf("row %+v", w)
	}
}

func TestReportReadsAsATable(t *testing.T) {
	text := exampleReport().markdown()
	for _, line := range []string{
		"# Warm UDP, 2026-11-22",
		"| unbound | 100000 (90000–110000) | 7.00 (6.00–8.00) | 1.00 | 1.00 | 0 of 3000 | 28 | 63 |",
		"| shirube | 200000 (180000–220000) | 3.50 (3.00–4.00) | 0.50 | 2.00 | 3 of 3000 | 28 | 63 |",
		"Machine: A CPU, 2 cores, Linux 6.1. Load: dnsperf 2.10.0. Authorities: NSD version 4.6.1. " +
			"Servers: unbound 1.17.1, shirube v0.",
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("the report has no line\n%s\nin\n%s", line, text)
		}
	}
}

func TestReportOfTCPSaysSo(t *testing.T) {
	r := exampleReport()
	r.TCP = true
	text := r.markdown()
	for _, part := range []string{"# Warm TCP, 2026-11-22\n", "`-m tcp -c 20"} {
		if !strings.Contains(text, part) {
			t.Errorf("the report does not have %q:\n%s", part, text)
		}
	}
	dir := t.TempDir()
	if err := r.write(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "2026-11-22-warm-tcp.json")); err != nil {
		t.Error(err)
	}
}

func TestReportIsKeptForProgramsToo(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "results")
	if err := exampleReport().write(dir); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "2026-11-22-warm-udp.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Servers []struct {
			CPU spread `json:"server_cpu_us_per_query"`
		} `json:"servers"`
		Runs []struct {
			PerSecond float64 `json:"per_second"`
		} `json:"runs"`
	}
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Servers) != 2 || got.Servers[0].CPU.Median != 7 || len(got.Runs) != 6 || got.Runs[5].PerSecond != 180_000 {
		t.Errorf("read back %+v", got)
	}
	if _, err := os.Stat(filepath.Join(dir, "2026-11-22-warm-udp.md")); err != nil {
		t.Error(err)
	}
}
