package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// What is aimed at.
const (
	aimPerUnique = 1.1  // queries that reach the authorities, for each question that anybody asked
	aimJoined    = 0.95 // of its neighbours' share of answers without the authorities, of a new server in its first minute
	aimPulled    = 5.0  // ms by which the 99th percentile may be higher without memcached: shared_cache.budget
	leastShared  = 0.01 // of the questions that are answered from the shared cache, before it goes, or there is nothing to be noticed
	aimLost      = 1e-4 // share of questions that may be without an answer: a machine that is busy loses some
)

// sharedReport is what fleets with a shared cache did.
type sharedReport struct {
	testbed
	Version   string        `json:"version"`
	Memcached string        `json:"memcached"`
	Unbound   string        `json:"unbound"` // what it says of itself
	CacheDB   bool          `json:"unbound_has_cachedb"`
	Names     int           `json:"names"`
	Zones     int           `json:"zones"`
	Rate      int           `json:"questions_per_second_of_each"`
	Fleets    []fleetResult `json:"fleets,omitempty"`
	Cost      *costResult   `json:"cost,omitempty"`
	Pull      *pullResult   `json:"without_memcached,omitempty"`
}

// fleetResult is what a fleet did.
type fleetResult struct {
	Members    int          `json:"members"`
	Filling    *fleetSample `json:"all_new"`
	ReadyAfter float64      `json:"joined_ready_after_seconds,omitempty"`
	Loaded     int          `json:"joined_loaded"`             // answers that it took before it was ready
	Joined     *fleetSample `json:"with_one_joined,omitempty"` // the last
}

// fleetSample is what was seen of a fleet in one go.
type fleetSample struct {
	Seconds  float64          `json:"seconds"`
	Unique   int              `json:"unique_questions"`
	Upstream int64            `json:"upstream"` // queries that reached the authorities
	Tiers    map[string]int64 `json:"upstream_by_tier"`
	Members  []memberSample   `json:"members"`

	questions []string
}

// memberSample is what was seen of one server.
type memberSample struct {
	Server    string  `json:"server"`
	Asked     int     `json:"asked"`
	Lost      int     `json:"lost"`
	Memory    float64 `json:"from_memory"` // share of the questions
	Shared    float64 `json:"from_shared_cache"`
	Resolved  float64 `json:"resolved"` // or waited for
	Gets      int64   `json:"gets"`     // look-ups at memcached
	Rejected  int64   `json:"rejected"`
	P50       float64 `json:"p50_ms"`
	P99       float64 `json:"p99_ms"`
	P999      float64 `json:"p99_9_ms"`
	CPU       float64 `json:"server_cpu_us_per_query"`
	Strangers float64 `json:"strangers_of_all"`
}

// known is the share of the questions that no authority had to be asked for.
func (m *memberSample) known() float64 { return m.Memory + m.Shared }

// perUnique is how many queries the authorities had for each question.
func (s *fleetSample) perUnique() float64 { return float64(s.Upstream) / float64(max(s.Unique, 1)) }

// String returns s in a line.
func (s *fleetSample) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d different questions, %.3f upstream for each", s.Unique, s.perUnique())
	for i := range s.Members {
		m := &s.Members[i]
		fmt.Fprintf(&b, "\n    %s: memory %.1f %%, shared %.1f %%, resolved %.1f %%; p50 %.3f p99 %.3f ms; %.1f µs; %d lost", m.Server, 100*m.Memory, 100*m.Shared, 100*m.Resolved, m.P50, m.P99, m.CPU, m.Lost)
	}
	return b.String()
}

// costResult is what an answer costs by where it comes from.
type costResult struct {
	Questions int           `json:"questions"`
	Rate      int           `json:"questions_per_second"`
	Memory    *memberSample `json:"memory"`
	Shared    *memberSample `json:"shared_cache"`
	Resolved  *memberSample `json:"authorities"`
	PerGet    float64       `json:"server_cpu_us_per_get"`    // of an answer from the shared cache, besides what one from memory costs: not the look-up alone
	Cache     float64       `json:"memcached_cpu_us_per_get"` // of all memcached together
}

// pullResult is what clients saw while all memcached went.
type pullResult struct {
	Rate    int            `json:"questions_per_second"`
	Phases  []phaseResult  `json:"phases"`
	Seconds []secondSample `json:"seconds"`
}

// outcomeCount counts answers by their rcodes.
type outcomeCount struct {
	Asked    int `json:"asked"`
	NoError  int `json:"noerror"`
	ServFail int `json:"servfail"`
	Other    int `json:"other_rcodes"`
	Lost     int `json:"lost"`
}

func (o *outcomeCount) count(outcome string) {
	o.Asked++
	switch outcome {
	case outcomeNoError:
		o.NoError++
	case outcomeServFail:
		o.ServFail++
	case "":
		o.Lost++
	default:
		o.Other++
	}
}

// outcomeServFail is that of an answer SERVFAIL.
const outcomeServFail = "rcode 2"

// phaseResult is one phase.
type phaseResult struct {
	Name string  `json:"phase"`
	Mark string  `json:"mark,omitempty"`
	At   float64 `json:"begins_at_second"`
	outcomeCount
	P50         float64 `json:"p50_ms"`
	P99         float64 `json:"p99_ms"`
	P999        float64 `json:"p99_9_ms"`
	Max         float64 `json:"max_ms"`
	P99Seconds  spread  `json:"p99_ms_of_seconds"` // of whole seconds
	Late        float64 `json:"late_p99_ms"`       // of the questions: how much later than due they were sent
	Missed      float64 `json:"not_in_memory"`     // share of the questions
	Shared      float64 `json:"from_shared_cache"` // likewise
	CPU         float64 `json:"server_cpu_us_per_query"`
	Connections int     `json:"connections"` // to memcached, at the end, as
	Descriptors int     `json:"descriptors"` // those of queries to authorities included
	Goroutines  int     `json:"goroutines"`
	Strangers   float64 `json:"strangers_of_all"`

	Why map[string]float64 `json:"limits_and_extended_errors,omitempty"` // by the server's metrics

	used spent
	from sources
}

// String returns p in a line.
func (p *phaseResult) String() string {
	return fmt.Sprintf("%-24s p50 %.3f  p99 %.3f (seconds: %.3f–%.3f)  p99.9 %.3f  most %.1f ms; shared %.1f %% of %.1f %% not in memory; %.1f µs; of %d %d SERVFAIL, %d other, %d lost%s; %d descriptors, %d goroutines; asked late p99 %.3f ms",
		p.Name, p.P50, p.P99, p.P99Seconds.Min, p.P99Seconds.Max, p.P999, p.Max, 100*p.Shared, 100*p.Missed, p.CPU, p.Asked, p.ServFail, p.Other, p.Lost, p.why(), p.Descriptors, p.Goroutines, p.Late)
}

// why says which limits bit in p, and which Extended DNS Errors were told.
func (p *phaseResult) why() string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(p.Why)) {
		fmt.Fprintf(&b, ", %s %.0f", strings.TrimPrefix(name, "shirube_"), p.Why[name])
	}
	return b.String()
}

// secondSample is one second.
type secondSample struct {
	outcomeCount
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
}

func newSharedReport(ctx context.Context, set settings) (*sharedReport, error) {
	r := &sharedReport{Names: set.names, Zones: set.zones, Rate: set.rate}
	var err error
	if r.testbed, err = newTestbed(ctx, time.Now().UTC()); err != nil {
		return nil, err
	}
	if r.Version, err = shirubeVersion(ctx, set.shirube); err != nil {
		return nil, err
	}
	if r.Memcached, err = firstLine(ctx, "memcached", "-V"); err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, "unbound", "-V").CombinedOutput()
	if err != nil {
		r.Unbound = "not installed"
		return r, nil //nolint:nilerr // it takes no part
	}
	r.Unbound, r.CacheDB = unboundModules(string(out))
	return r, nil
}

// unboundModules reads what Unbound says of itself: its version, and whether it
// was built with a cache that several can share.
func unboundModules(text string) (version string, cachedb bool) {
	version, _, _ = strings.Cut(text, "\n")
	for line := range strings.Lines(text) {
		if modules, ok := strings.CutPrefix(line, "Linked modules:"); ok {
			cachedb = slices.Contains(strings.Fields(modules), "cachedb")
		}
	}
	return strings.TrimSpace(version), cachedb
}

// joinedShare is the new server's share of answers without the authorities, by
// that of its neighbours on average; and the same of memory alone.
func (f *fleetResult) joinedShare() (known, memory float64) {
	all := f.Joined.Members
	last := &all[len(all)-1]
	var k, m float64
	for i := range all[:len(all)-1] {
		k += all[i].known() / float64(len(all)-1)
		m += all[i].Memory / float64(len(all)-1)
	}
	return last.known() / k, last.Memory / m
}

// verdict says which aims are not met.
func (r *sharedReport) verdict() error {
	var errs []error
	for i := range r.Fleets {
		f := &r.Fleets[i]
		if per := f.Filling.perUnique(); per > aimPerUnique {
			errs = append(errs, fmt.Errorf("%d servers: %.3f queries upstream for each different question; at most %g are aimed at", f.Members, per, aimPerUnique))
		}
		if f.Joined == nil {
			continue
		}
		if known, _ := f.joinedShare(); known < aimJoined {
			errs = append(errs, fmt.Errorf("one that joins %d has %.3f of their hits in its first minute; at least %g are aimed at", f.Members, known, aimJoined))
		}
	}
	if r.Pull != nil {
		errs = append(errs, r.Pull.verdict())
	}
	return errors.Join(errs...)
}

// verdict says what clients noticed of what happened to memcached.
func (r *pullResult) verdict() error {
	var errs []error
	first := r.control()
	if first.Shared < leastShared {
		errs = append(errs, fmt.Errorf("%s: only %.1f %% came from the shared cache", first.Name, 100*first.Shared))
	}
	for i := range r.Phases {
		p := &r.Phases[i]
		if p.ServFail+p.Other > 0 {
			errs = append(errs, fmt.Errorf("%s: %d answers SERVFAIL, %d with other rcodes%s", p.Name, p.ServFail, p.Other, p.why()))
		}
		if float64(p.Lost) > aimLost*float64(p.Asked) {
			errs = append(errs, fmt.Errorf("%s: %d of %d questions have no answer", p.Name, p.Lost, p.Asked))
		}
		if p.P99 > first.P99+aimPulled {
			errs = append(errs, fmt.Errorf("%s: the 99th percentile is %.3f ms, %.3f before; at most %g ms more are aimed at", p.Name, p.P99, first.P99, aimPulled))
		}
		if p.Connections > fleetCaches*pullConnections {
			errs = append(errs, fmt.Errorf("%s: %d connections to memcached; at most %d may be", p.Name, p.Connections, fleetCaches*pullConnections))
		}
	}
	return errors.Join(errs...)
}

// control is the phase in which nothing is done: the others are held against it.
func (r *pullResult) control() *phaseResult { return &r.Phases[0] }

// pullConnections is how many connections a server makes to a memcached at most:
// shared_cache.in_flight, and 4.
const pullConnections = 8

// base is what the files of r are called, without their endings.
func (r *sharedReport) base() string { return r.Date.Format(time.DateOnly) + "-shared" }

// publish prints the report and writes it, with its plot.
func (r *sharedReport) publish(ctx context.Context, dir string) error {
	if err := keep(dir, r.base(), r.markdown(), r); err != nil {
		return err
	}
	if r.Pull == nil {
		return nil
	}
	return writePlot(ctx, filepath.Join(dir, r.base()), r.Pull.plot(r.Date).svg())
}

// newestShared returns the newest report in a directory; nil: there is none.
func newestShared(dir string) (*sharedReport, error) {
	return newestOf[sharedReport](dir, "????-??-??-shared.json")
}

// markdown returns r for people.
func (r *sharedReport) markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Fleets with a shared cache, %s\n\nWritten by `bench shared`; [bench/README.md](../README.md) says how it is measured.\n\n", r.Date.Format(time.DateOnly))
	r.tables(&b, r.base()+".svg")
	for i := range r.Fleets {
		f := &r.Fleets[i]
		fmt.Fprintf(&b, "Upstream of %d servers by tier and type: %s.\n\n", f.Members, upstreamCount{Tiers: f.Filling.Tiers}.byTier())
	}
	fmt.Fprintf(&b, "Noise: strangers used up to %.1f %% of the machine.\n\n", 100*r.strangers())
	b.WriteString(r.describe("", []string{r.Version, r.Memcached}))
	return b.String()
}

// strangers is the worst share of the machine that others used.
func (r *sharedReport) strangers() (most float64) {
	for i := range r.Fleets {
		for _, s := range []*fleetSample{r.Fleets[i].Filling, r.Fleets[i].Joined} {
			if s == nil {
				continue
			}
			for k := range s.Members {
				most = max(most, s.Members[k].Strangers)
			}
		}
	}
	if r.Pull != nil {
		for i := range r.Pull.Phases {
			most = max(most, r.Pull.Phases[i].Strangers)
		}
	}
	return most
}

// tables writes the figures; plot is where the plot is from there.
func (r *sharedReport) tables(b *strings.Builder, plot string) {
	if len(r.Fleets) > 0 {
		r.fleetTables(b)
	}
	if r.Cost != nil {
		r.Cost.table(b)
	}
	if r.Pull != nil {
		r.Pull.table(b, plot)
	}
	if r.CacheDB {
		fmt.Fprintf(b, "%s has a cache that several can share (cachedb). It was not measured.\n\n", r.Unbound)
	} else {
		fmt.Fprintf(b, "Unbound's Redis back end takes no part: the Unbound that Debian has (%s) is built without it (`unbound -V` lists no module `cachedb`).\n\n", r.Unbound)
	}
}

// span writes the least and the most of something.
func span[T any](list []T, format string, of func(*T) float64) string {
	var all []float64
	for i := range list {
		all = append(all, of(&list[i]))
	}
	s := spreadOf(all)
	least, most := fmt.Sprintf(format, s.Min), fmt.Sprintf(format, s.Max)
	if least == most {
		return least
	}
	return least + "–" + most
}

func (r *sharedReport) fleetTables(b *strings.Builder) {
	fmt.Fprintf(b, "Servers that know nothing, with %d memcached, empty, in common. Each is asked %d questions a second, by clients of its own, for %d names in %d signed\n"+
		"zones, the n-th most popular 1/n as often as the first, for %g s. Then one more server joins the largest fleet, which knows nothing either, and all are\n"+
		"asked for as long again. Where servers differ, it is the least and the most of them.\n\n",
		fleetCaches, r.Rate, r.Names, r.Zones, r.Fleets[0].Filling.Seconds)
	b.WriteString("| Servers | from memory | from the shared cache | resolved | different questions | upstream queries for each | p50 ms | p99 ms | CPU µs/query | lost |\n|---|---|---|---|---|---|---|---|---|---|\n")
	line := func(name string, s *fleetSample, members []memberSample, whole bool) {
		unique, per := "", ""
		if whole {
			unique, per = fmt.Sprint(s.Unique), fmt.Sprintf("**%.3f**", s.perUnique())
		}
		pct := func(of func(*memberSample) float64) string {
			return span(members, "%.1f", func(m *memberSample) float64 { return 100 * of(m) }) + " %"
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", name,
			pct(func(m *memberSample) float64 { return m.Memory }), pct(func(m *memberSample) float64 { return m.Shared }), pct(func(m *memberSample) float64 { return m.Resolved }),
			unique, per, span(members, "%.2f", func(m *memberSample) float64 { return m.P50 }), span(members, "%.2f", func(m *memberSample) float64 { return m.P99 }),
			span(members, "%.1f", func(m *memberSample) float64 { return m.CPU }), span(members, "%.0f", func(m *memberSample) float64 { return float64(m.Lost) }))
	}
	for i := range r.Fleets {
		f := &r.Fleets[i]
		line(fmt.Sprintf("%d, all new", f.Members), f.Filling, f.Filling.Members, true)
		if f.Joined == nil {
			continue
		}
		line(fmt.Sprintf("the same %d, later", f.Members), f.Joined, f.Joined.Members[:f.Members], false)
		line("one that joins them", f.Joined, f.Joined.Members[f.Members:], false)
	}
	b.WriteString("\n")
	for i := range r.Fleets {
		f := &r.Fleets[i]
		if f.Joined == nil {
			continue
		}
		known, memory := f.joinedShare()
		fmt.Fprintf(b, "- One that joins %d is ready after %.2f s, with %d answers that the others are asked most. In its first %g s it answers from memory or the shared cache\n"+
			"  **%.1f %%** as often as its neighbours, and from memory alone %.1f %% as often.\n",
			f.Members, f.ReadyAfter, f.Loaded, f.Joined.Seconds, 100*known, 100*memory)
	}
	fmt.Fprintf(b, "\nAimed at are %g queries upstream for each different question at most, and %g %% of the neighbours' hits at least.\n\n", aimPerUnique, 100*aimJoined)
}

func (c *costResult) table(b *strings.Builder) {
	fmt.Fprintf(b, "What an answer costs, by where it comes from: %d questions, each once, %d a second.\n\n", c.Questions, c.Rate)
	b.WriteString("| From | server CPU µs | memcached CPU µs | p50 ms | p99 ms |\n|---|---|---|---|---|\n")
	for _, row := range []struct {
		name  string
		s     *memberSample
		cache string
	}{{"memory", c.Memory, "–"}, {"the shared cache", c.Shared, fmt.Sprintf("%.1f", c.Cache)}, {"the authorities, on the same machine", c.Resolved, "–"}} {
		fmt.Fprintf(b, "| %s | %.1f | %s | %.2f | %.2f |\n", row.name, row.s.CPU, row.cache, row.s.P50, row.s.P99)
	}
	fmt.Fprintf(b, "\nSo an answer from the shared cache costs the server **%.1f µs** of CPU time more than one from memory, with all that this one has no need of: the question goes to\n"+
		"a worker and begins a flight, is looked up, and what comes is opened, taken apart, packed and kept, and sent by itself. It costs memcached %.1f µs.\n\n", c.PerGet, c.Cache)
}

func (r *pullResult) table(b *strings.Builder, plot string) {
	const told = pullCycle - pullHot - pullNew
	fmt.Fprintf(b, "All memcached go, under %d questions a second to one server of two: of %d, %d are for names in its memory, %d for names that the other one has told of, and %d for\n"+
		"a name that nobody has asked for. Clients, servers, memcached and authorities share the machine.\n\n", r.Rate, pullCycle, pullHot, told, pullNew)
	fmt.Fprintf(b, "![Answers while all memcached go](%s)\n\n", plot)
	b.WriteString("| Phase | s | p50 ms | p99 ms | more than at first | p99 of its seconds | p99.9 ms | NOERROR | SERVFAIL, others | lost | from the shared cache | CPU µs/query | connections to memcached | goroutines | asked late, p99 ms |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for i := range r.Phases {
		p := &r.Phases[i]
		end := float64(len(r.Seconds))
		if i+1 < len(r.Phases) {
			end = r.Phases[i+1].At
		}
		more := "–"
		if p != r.control() {
			more = fmt.Sprintf("%+.2f", p.P99-r.control().P99)
		}
		fmt.Fprintf(b, "| %s | %.0f | %.2f | %.2f | %s | %.2f–%.2f | %.2f | %d | %d | %d | %.1f %% | %.1f | %d | %d | %.2f |\n", p.Name, end-p.At, p.P50, p.P99, more, p.P99Seconds.Min, p.P99Seconds.Max,
			p.P999, p.NoError, p.ServFail+p.Other, p.Lost, 100*p.Shared, p.CPU, p.Connections, p.Goroutines, p.Late)
	}
	b.WriteString("\nTimes run from when a question was due, so that what the asking itself was late is a part of them; it stands beside.\n")
	for i := range r.Phases {
		if p := &r.Phases[i]; p.ServFail+p.Other > 0 {
			fmt.Fprintf(b, "\n%s: of the server's limits and errors in that time%s.\n", p.Name, p.why())
		}
	}
	fmt.Fprintf(b, "\nAimed at is a 99th percentile that is at most %g ms higher than in the first phase, in which nothing is done (`shared_cache.budget`), and no other rcode.\n\n", aimPulled)
}

// plot draws r over time.
func (r *pullResult) plot(date time.Time) *timeChart {
	c := &timeChart{
		title: fmt.Sprintf("All memcached go, under %d questions a second", r.Rate),
		note:  date.Format(time.DateOnly) + "; each point is a second",
	}
	for i := range r.Phases {
		if p := &r.Phases[i]; p.Mark != "" {
			c.marks = append(c.marks, mark{at: p.At, label: p.Mark})
		}
	}
	of := func(value func(s *secondSample) float64) (all []float64) {
		for i := range r.Seconds {
			if r.Seconds[i].Asked >= r.Rate/2 { // the last one may be a bit
				all = append(all, value(&r.Seconds[i]))
			}
		}
		return all
	}
	c.panels = []panel{
		{title: "Latency, ms", height: 190, lines: []line{
			{"p99", subjectColor, of(func(s *secondSample) float64 { return s.P99 })},
			{"p50", barColors[2], of(func(s *secondSample) float64 { return s.P50 })},
		}},
		{title: "Answers a second", height: 130, lines: []line{
			{"NOERROR", subjectColor, of(func(s *secondSample) float64 { return float64(s.NoError) })},
			{"SERVFAIL and others", failureColor, of(func(s *secondSample) float64 { return float64(s.ServFail + s.Other) })},
			{"none", barColors[0], of(func(s *secondSample) float64 { return float64(s.Lost) })},
		}},
	}
	return c
}

// digest is what the manual says of r.
func (r *sharedReport) digest() string {
	var b strings.Builder
	path := "../bench/results/" + r.base()
	fmt.Fprintf(&b, "Of %s ([the record](%s.md), [for programs](%s.json)), on %s with %d cores and Linux %s; `make bench-shared` repeats it.\n\n",
		r.Date.Format(time.DateOnly), path, path, r.CPU, r.Cores, r.Kernel)
	r.tables(&b, path+".svg")
	return strings.TrimSuffix(b.String(), "\n")
}
