package main

import "slices"

// measure is one figure of a run.
type measure struct {
	key    string // in figures.Values, and in the results
	title  string // in tables; %s is what is counted
	short  string // behind a number
	digits int    // behind the point
	more   bool   // more of it is better
}

// The keys of measures.
const (
	perQuery      = "server_cpu_us"
	perSecond     = "per_second"
	p50           = "p50_ms"
	p99           = "p99_ms"
	p999          = "p99_9_ms"
	packets       = "upstream"
	residentStart = "resident_start_mib"
	residentHot   = "resident_hot_mib"
	residentAll   = "resident_all_mib"
)

// measures are all there are, in the order of the tables.
var measures = []measure{
	{key: perQuery, title: "server CPU µs/%s", short: "µs CPU", digits: 2},
	{key: perSecond, title: "q/s", short: "q/s", more: true},
	{key: p50, title: "p50 ms", short: "ms p50", digits: 3},
	{key: p99, title: "p99 ms", short: "ms p99", digits: 3},
	{key: p999, title: "p99.9 ms", short: "ms p99.9", digits: 3},
	{key: packets, title: "packets upstream/%s", short: "packets upstream", digits: 3},
	{key: residentStart, title: "MiB when started", short: "MiB when started", digits: 0},
	{key: residentHot, title: "MiB with the hot names", short: "MiB with the hot names", digits: 0},
	{key: residentAll, title: "MiB with all names", short: "MiB with all names", digits: 0},
}

// findMeasure returns the measure of a key, which has to be one of them.
func findMeasure(key string) measure {
	return measures[slices.IndexFunc(measures, func(m measure) bool { return m.key == key })]
}
