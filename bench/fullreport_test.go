package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestRunsAreAsShortAsTheirTimeWants(t *testing.T) {
	chosen := works()
	set := settings{run: 10 * time.Second, rounds: 5}
	var servers []*contestant
	for _, name := range strings.Split(fullPeers, ",") {
		servers = append(servers, &contestant{name: name, kind: kind{name: name, echo: name == "echo"}})
	}
	if got, err := fitting(chosen, set, servers); err != nil || got != set.run {
		t.Errorf("without a limit: %v, %v", got, err)
	}
	set.within = 30 * time.Minute
	got, err := fitting(chosen, set, servers)
	if set.run = got; err != nil || got < time.Second || got >= 10*time.Second || estimate(chosen, set, servers) > set.within {
		t.Errorf("within %v: runs of %v, %v", set.within, got, err)
	}
	if set.run += time.Second; 1.2*float64(estimate(chosen, set, servers)) <= float64(set.within) {
		t.Errorf("runs of %v would fit, too", set.run)
	}
	set.within = time.Minute
	if got, err := fitting(chosen, set, servers); err == nil {
		t.Errorf("runs of %v fit into a minute", got)
	}
}

// exampleFull is a full comparison of three servers and the echo in two works,
// with three rounds.
func exampleFull(t *testing.T) *fullReport {
	t.Helper()
	r := &fullReport{
		testbed: testbed{Date: time.Date(2026, 11, 22, 1, 2, 3, 0, time.UTC), CPU: "A <CPU>", Cores: 2, Kernel: "6.1", NSD: "NSD version 4.6.1"},
		Dnsperf: "2.10.0", Names: 600, Hot: 100, Zones: 50, Rounds: 3, Seconds: 10, Threads: 2, Rate: 20_000,
		Servers: []entrant{
			{Name: "unbound", Version: "unbound 1", Kind: "unbound", Files: map[string]string{"unbound.conf": "server:\n"}, Command: "unbound -d"},
			{Name: "knot", Version: "knot 2", Kind: "knot"},
			{Name: "shirube", Version: "shirube v0", Kind: "shirube"},
			{Name: "echo", Version: "echo", Kind: "echo"},
		},
		Works: []*workResult{
			{Name: "udp", Title: "Warm UDP", How: "How.", Unit: "query", Load: "dnsperf -m udp", Loaders: 2, Threads: 2, Measures: hitMeasures},
			{Name: "cold", Title: "Cold names, unsigned", How: "How.", Unit: "name", Threads: 2, Measures: []string{perQuery, p99}},
		},
	}
	// The machine gets slower from round to round, for all of them.
	for round := range 3 {
		slow := float64(round + 1)
		for name, v := range map[string][2]float64{"unbound": {6, 100_000}, "knot": {8, 80_000}, "shirube": {3, 150_000}, "echo": {2.7, 160_000}} {
			r.Runs = append(r.Runs, figures{
				Work: "udp", Server: name, Round: round + 1, Completed: 1000, Octets: 63, ServerCores: 0.9, LoadCores: 1, AllCores: 1.95,
				Values: map[string]float64{perQuery: v[0] * slow, perSecond: v[1] / slow},
			})
		}
		for name, cpu := range map[string]float64{"unbound": 50, "knot": 40, "shirube": 44} {
			r.Runs = append(r.Runs, figures{
				Work: "cold", Server: name, Round: round + 1, Completed: 100, Lost: 1,
				Values: map[string]float64{perQuery: cpu * slow, p99: 9},
			})
		}
	}
	for _, w := range r.Works {
		r.summarise(w)
	}
	return r
}

// What slows the machine down from round to round is not in the ratios.
func TestRatiosAreOfTheSameRound(t *testing.T) {
	r := exampleFull(t)
	if s := r.ratio("udp", perQuery, "shirube", "unbound"); s != (spread{0.5, 0.5, 0.5}) {
		t.Errorf("ratio %+v", s)
	}
	row := r.result("udp").row("shirube")
	if row.Spread[perQuery] != (spread{6, 3, 9}) || row.Completed != 3000 || row.Octets != 63 {
		t.Errorf("row %+v", *row)
	}
	if s := r.ratio("udp", perQuery, "shirube", "bind"); s != (spread{}) {
		t.Errorf("ratio to a server that took no part: %+v", s)
	}
}

func TestAimsAreComparedWithTheNearestPeer(t *testing.T) {
	text := exampleFull(t).aimsTable()
	for _, want := range []string{
		"| Warm UDP: server CPU per query at most 0.6 of Unbound's | 0.50 | unbound | met | 0.45 (0.45–0.45) |\n",
		"| Warm UDP: server CPU per query below every peer's | 0.50 | unbound | met | 0.45 (0.45–0.45) |\n",
		"| Warm UDP: at least 85 % of the echo's throughput | 0.94 | echo | met | |\n",
		"| Cold names, unsigned: server CPU per name at most the best peer's | 1.10 | knot | **not met** | |\n",
		"| Warm TCP: server CPU per query at most 0.7 of the best peer's | not measured | | | |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no line\n%s\nin\n%s", want, text)
		}
	}
}

// A server that was not asked for more may have had more to give.
func TestRatesThatTheLoadLimitsMeetNoAim(t *testing.T) {
	r := exampleFull(t)
	for i := range r.Runs {
		r.Runs[i].LoadCores = 1.95
	}
	r.summarise(r.result("udp"))
	if text := r.aimsTable(); !strings.Contains(text, "throughput | 0.94 | echo | not known: the load is the limit | |\n") {
		t.Error(text)
	}
}

// Latency that the load or the machine makes says nothing of servers.
func TestLatencyOfOthersMeetsNoAim(t *testing.T) {
	const aim = "| Fixed rate: 99th percentile at most every peer's | "
	for _, tt := range []struct {
		name        string
		late        float64
		ours, floor [2]float64 // in each of two rounds; the peer has 0.2
		want        string
	}{
		{"faster", 0.02, [2]float64{0.16, 0.18}, [2]float64{0.14, 0.14}, "0.85 (0.80–0.90) | unbound | met | 0.70 |\n"},
		{"slower", 0.02, [2]float64{0.22, 0.30}, [2]float64{0.14, 0.24}, "1.30 (1.10–1.50) | unbound | **not met** | 0.95 (0.70–1.20) |\n"},
		{"perhaps slower, where the echo is faster", 0.02, [2]float64{0.16, 0.30}, [2]float64{0.14, 0.16}, "1.15 (0.80–1.50) | unbound | **not met** | 0.75 (0.70–0.80) |\n"},
		{"perhaps slower, as the echo may be", 0.02, [2]float64{0.16, 0.30}, [2]float64{0.14, 0.24}, "1.15 (0.80–1.50) | unbound | not known: the echo may take as long | 0.95 (0.70–1.20) |\n"},
		{"the load is late", 0.1, [2]float64{0.16, 0.18}, [2]float64{0.14, 0.14}, "0.85 (0.80–0.90) | unbound | not known: the load itself was late | 0.70 |\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := exampleFull(t)
			r.Works = append(r.Works, &workResult{Name: "latency", Title: "Latency", Unit: "query", Threads: 1, Measures: []string{p99}})
			met, known, all := r.aimsMet()
			for name, took := range map[string][2]float64{"unbound": {0.2, 0.2}, "shirube": tt.ours, "echo": tt.floor} {
				for i, ms := range took {
					r.Runs = append(r.Runs, figures{Work: "latency", Server: name, Round: i + 1, Completed: 1000, Late: tt.late, Values: map[string]float64{p99: ms}})
				}
			}
			r.summarise(r.result("latency"))
			if text := r.aimsTable(); !strings.Contains(text, aim+tt.want) {
				t.Errorf("no %q in\n%s", tt.want, text)
			}
			isMet, isKnown := strings.Contains(tt.want, "| met |"), !strings.Contains(tt.want, verdictUnknown)
			if gotMet, gotKnown, gotAll := r.aimsMet(); gotMet > met != isMet || gotKnown > known != isKnown || gotAll != all+1 {
				t.Errorf("%d of %d aims are met, of %d, and without this one %d of %d, of %d", gotMet, gotKnown, gotAll, met, known, all)
			}
		})
	}
}

func TestPeersThatAreAheadAreNamed(t *testing.T) {
	r := exampleFull(t)
	if got, want := r.aheadList(), "- Cold names, unsigned, µs CPU: knot (Shirube's is 1.10 of it)\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	for i := range r.Runs {
		if f := &r.Runs[i]; f.Work == "cold" && f.Server == "knot" {
			f.Values[perQuery] = 200
		}
	}
	if got := r.aheadList(); got != "Nowhere in what was measured.\n" {
		t.Error(got)
	}
}

func TestLimitIsWhatIsBusy(t *testing.T) {
	for _, tt := range []struct {
		threads           int
		server, load, all float64
		strangers         float64
		program, want     string
	}{
		{2, 0.9, 1.0, 1.95, 0, "dnsperf", "machine"},
		{2, 0.5, 0.6, 1.2, 0.4, "dnsperf", "machine"},
		{2, 0.5, 0.6, 1.2, 0, "dnsperf", "-q"},
		{2, 0.3, 1.97, 2, 0, "dnsperf", "load"},
		{1, 0.99, 0.7, 1.7, 0, "dnsperf", "server"},
		{1, 0.7, 0.99, 1.7, 0, "dnsperf", "load"},
		{2, 1, 0, 2, 0, "", ""},
	} {
		r := &fullReport{testbed: testbed{Cores: 2}}
		row := &resultRow{ServerCores: tt.server, LoadCores: tt.load, AllCores: tt.all, Strangers: tt.strangers}
		if got := r.limit(&workResult{Threads: tt.threads, Load: tt.program, Loaders: 2}, row); got != tt.want {
			t.Errorf("%+v: limit %q", tt, got)
		}
	}
}

func TestFullReportReadsAsTables(t *testing.T) {
	r := exampleFull(t)
	text := r.markdown(r.plots())
	for _, want := range []string{
		"# Beside other resolvers, 2026-11-22\n",
		"![Server CPU per query or name, µs: less is better](2026-11-22-cpu.svg)\n",
		"| Server | server CPU µs/query | unbound = 1 | q/s | unbound = 1 | q/s, echo = 1 | CPU, echo = 1 | octets | cores: server, load | limit | lost or failed |\n",
		"| shirube | 6.00 (3.00–9.00) | 0.50 | 75000 (50000–150000) | 1.50 | 0.94 | 1.11 | 63 | 0.90, 1.00 | machine | 0 of 3000 |\n",
		"| knot | 80.00 (40.00–120.00) | 0.80 | 9.000 | 1.00 | 3 of 303 |\n",
		"Servers: unbound 1, knot 2, shirube v0, echo.\n",
		"<summary>unbound: <code>unbound -d</code></summary>\n\n`unbound.conf`\n\n```\nserver:\n```\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report has no\n%s\nin\n%s", want, text)
		}
	}
}

func TestPlotsAreWellFormedAndKeepToTheirEdges(t *testing.T) {
	r := exampleFull(t)
	plots := r.plots()
	if len(plots) != 2 || plots[0].slug != "cpu" || len(plots[0].groups) != 2 || len(plots[0].groups[0].bars) != 4 || plots[1].slug != "rate" {
		t.Fatalf("plots %+v", plots)
	}
	for _, p := range plots {
		text := p.svg()
		d := xml.NewDecoder(strings.NewReader(text))
		bars := 0
		for {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v in\n%s", p.slug, err, text)
			}
			e, ok := token.(xml.StartElement)
			if !ok || e.Name.Local != "rect" {
				continue
			}
			at := map[string]float64{}
			for _, a := range e.Attr {
				var v float64
				if _, err := fmt.Sscan(a.Value, &v); err == nil {
					at[a.Name.Local] = v
				}
			}
			if at["x"]+at["width"] > chartWidth {
				t.Errorf("%s: a bar ends at %v", p.slug, at["x"]+at["width"])
			}
			bars++
		}
		if want := 1 + map[string]int{"cpu": 7, "rate": 4}[p.slug]; bars != want { // and the ground
			t.Errorf("%s: %d rectangles, want %d", p.slug, bars, want)
		}
		if !strings.Contains(text, "A &lt;CPU&gt;") {
			t.Errorf("%s: what was measured on is not said, or not as XML wants it", p.slug)
		}
	}
}

func TestNewestFullReportIsFoundAndReadBack(t *testing.T) {
	dir := t.TempDir()
	if path, err := newestReport(dir); path != "" || err != nil {
		t.Errorf("of nothing: %q, %v", path, err)
	}
	r := exampleFull(t)
	data, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"2026-11-21.json", "2026-11-22.json", "2026-11-23-warm-udp.json", "2026-11-24-full-udp.json"} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	path, err := newestReport(dir)
	if err != nil || filepath.Base(path) != "2026-11-22.json" {
		t.Fatalf("the newest is %q, %v", path, err)
	}
	back, err := readReport(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := back.markdown(back.plots()), r.markdown(r.plots()); got != want {
		t.Errorf("read back it says\n%s\nand not\n%s", got, want)
	}
	if err := os.WriteFile(path, []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := readReport(path); err == nil {
		t.Error("an empty report was read")
	}
}

func TestPartialReportsHaveANameOfTheirOwn(t *testing.T) {
	r := exampleFull(t)
	r.Partial = true
	if got := r.base(); got != "2026-11-22-full-udp+cold" {
		t.Errorf("it is called %s", got)
	}
}

func TestManualTellsOfTheNewestResults(t *testing.T) {
	dir := t.TempDir()
	const manual = "Before.\n" + figuresBegin + "old\n" + figuresEnd + "After.\n"
	text, err := withFigures(manual, dir, fullDigest)
	if err != nil || text != "Before.\n"+figuresBegin+"\nNo full comparison has been recorded yet.\n\n"+figuresEnd+"After.\n" {
		t.Errorf("without results: %q, %v", text, err)
	}
	data, err := json.Marshal(exampleFull(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "2026-11-22.json"), data, 0o644); err != nil {
		t.Fatal(err)
	}
	if text, err = withFigures(text, dir, fullDigest); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"](../bench/results/2026-11-22.md)", "**3 of 4 aims are met.**", "](../bench/results/2026-11-22-cpu.svg)",
		"| Server CPU, µs per query or name | unbound | knot | shirube | echo |\n|---|---|---|---|---|\n| Warm UDP | 12.00 | 16.00 | 6.00 | 5.40 |\n",
		"| Cold names, unsigned | 100.00 | 80.00 | 88.00 | – |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if _, err := withFigures("nothing", dir, fullDigest); err == nil {
		t.Error("figures were put nowhere")
	}
}

// The manual says what the newest results do. `go run ./bench report` writes it.
func TestManualIsUpToDate(t *testing.T) {
	for _, p := range pages {
		manual := filepath.Join("../docs", p.file)
		is, err := os.ReadFile(manual)
		if err != nil {
			t.Fatal(err)
		}
		want, err := withFigures(string(is), "results", p.digest)
		if err != nil {
			t.Fatal(err)
		}
		if string(is) != want {
			t.Errorf("%s does not tell of the newest of bench/results: go run ./bench report", manual)
		}
	}
}
