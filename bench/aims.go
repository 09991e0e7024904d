package main

import (
	"fmt"
	"math"
	"strings"
)

// aim is what Shirube wants to reach in a work.
type aim struct {
	text  string
	work  string
	key   string
	peer  string  // its name; anyPeer: all others; ceilingPeer: the echo
	ratio float64 // of Shirube's to the peer's, at most; or at least, where more is better
}

// Whom an aim speaks of, other than a server by its name.
const (
	anyPeer     = "every peer"
	ceilingPeer = "echo"
)

// aims are what the project set itself before anything was measured.
var aims = []aim{
	{"Warm UDP: server CPU per query at most 0.6 of Unbound's", "udp", perQuery, "unbound", 0.6},
	{"Warm UDP: server CPU per query below every peer's", "udp", perQuery, anyPeer, 1},
	{"Warm UDP: at least 85 % of the echo's throughput", "udp", perSecond, ceilingPeer, 0.85},
	{"Warm UDP, one thread at its end: at least 85 % of the echo's throughput", "udp-max", perSecond, ceilingPeer, 0.85},
	{"Warm UDP, one thread at its end: at least 1.5 times Unbound's throughput", "udp-max", perSecond, "unbound", 1.5},
	{"Warm UDP with DO: server CPU per query below every peer's", "udp-do", perQuery, anyPeer, 1},
	{"Zipf: server CPU per query below every peer's", "zipf", perQuery, anyPeer, 1},
	{"90 % hits, 10 % misses: server CPU per query below every peer's", "mix", perQuery, anyPeer, 1},
	{"Cold names, unsigned: server CPU per name at most the best peer's", "cold", perQuery, anyPeer, 1},
	{"Cold names, signed: server CPU per name at most the best peer's", "cold-signed", perQuery, anyPeer, 1},
	{"Warm TCP: server CPU per query at most 0.7 of the best peer's", "tcp", perQuery, anyPeer, 0.7},
	{"Fixed rate: 99th percentile at most every peer's", "latency", p99, anyPeer, 1},
}

// subject is the server that the aims are about.
const subject = "shirube"

// peers are the servers that Shirube is compared with.
func (r *fullReport) peers() (names []string) {
	for _, s := range r.Servers {
		if s.Kind != "echo" && !strings.HasPrefix(s.Kind, subject) {
			names = append(names, s.Name)
		}
	}
	return names
}

// worst returns whom of peers an aim is furthest from, or nearest to, by the
// median of ratios; ok is false if it was not measured.
func (r *fullReport) worst(work, key string, peers []string) (peer string, s spread, ok bool) {
	more := findMeasure(key).more
	for _, p := range peers {
		ratio := r.ratio(work, key, subject, p)
		if ratio.Median == 0 {
			continue
		}
		if !ok || (ratio.Median > s.Median) != more {
			peer, s, ok = p, ratio, true
		}
	}
	return peer, s, ok
}

// measured returns what an aim came to.
func (r *fullReport) measured(a aim) (peer string, s spread, met, ok bool) {
	peers := []string{a.peer}
	if a.peer == anyPeer {
		peers = r.peers()
	}
	if peer, s, ok = r.worst(a.work, a.key, peers); !ok {
		return "", s, false, false
	}
	if findMeasure(a.key).more {
		return peer, s, s.Median >= a.ratio, true
	}
	return peer, s, s.Median <= a.ratio, true
}

// verdict says what became of an aim that came to a spread beside a peer.
func (r *fullReport) verdict(a aim, peer string, met bool) string {
	switch {
	case findMeasure(a.key).more && r.driverBound(a.work, subject, peer):
		return verdictUnknown + ": the load is the limit"
	case a.key == p99 && r.loadLate(a.work, subject, peer):
		return verdictUnknown + ": the load itself was late"
	case a.key == p99 && r.machineLate(a.work, peer):
		return verdictUnknown + ": the echo may take as long"
	case met:
		return verdictMet
	}
	return verdictMissed
}

// What becomes of aims; verdictUnknown is followed by why.
const (
	verdictMet     = "met"
	verdictMissed  = "**not met**"
	verdictUnknown = "not known"
)

// driverBound reports whether one of two servers could have answered more than it
// was asked.
func (r *fullReport) driverBound(work string, servers ...string) bool {
	w := r.result(work)
	for _, name := range servers {
		if row := w.row(name); row != nil && r.limit(w, row) == limitDriver {
			return true
		}
	}
	return false
}

// lateShare is the share of a 99th percentile of latency that the load's own lateness,
// which is a part of it, may have for that to tell of a server.
const lateShare = 0.5

// loadLate reports whether the load asked one of servers so much later than it was to
// that their latency does not tell of them.
func (r *fullReport) loadLate(work string, servers ...string) bool {
	for _, name := range servers {
		runs := r.runsOf(work, name)
		late := spreadOf(collect(runs, func(f *figures) float64 { return f.Late })).Median
		if late > 0 && late >= lateShare*spreadOf(collect(runs, func(f *figures) float64 { return f.Values[p99] })).Median {
			return true
		}
	}
	return false
}

// machineLate reports whether neither Shirube's latency differs from a peer's for
// sure, nor that of the echo, which has nothing to do, is less for sure: then it is
// made by who else uses the processors, and the next comparison says something else.
func (r *fullReport) machineLate(work, peer string) bool {
	echo := r.result(work).ceiling(r)
	if echo == nil {
		return false
	}
	ours := r.ratio(work, p99, subject, peer)
	return ours.Min < 1 && ours.Max > 1 && r.ratio(work, p99, echo.Server, peer).Max >= 1
}

// aimsTable tells of each aim whether it was met.
func (r *fullReport) aimsTable() string {
	var b strings.Builder
	b.WriteString("| Aim | Shirube's share of the nearest | | | the echo's: the machine's floor |\n|---|---|---|---|---|\n")
	for _, a := range aims {
		peer, s, met, ok := r.measured(a)
		if !ok {
			fmt.Fprintf(&b, "| %s | not measured | | | |\n", a.text)
			continue
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |%s |\n", a.text, s.text(2), peer, r.verdict(a, peer, met), r.floor(a, peer))
	}
	return b.String()
}

// aimsMet counts the aims that are met, those that are known to be or not to be, and
// all that were measured.
func (r *fullReport) aimsMet() (met, known, all int) {
	for _, a := range aims {
		peer, _, reached, ok := r.measured(a)
		if !ok {
			continue
		}
		all++
		switch r.verdict(a, peer, reached) {
		case verdictMet:
			met, known = met+1, known+1
		case verdictMissed:
			known++
		}
	}
	return met, known, all
}

// floor is what the echo takes of that of a peer's which an aim speaks of, for
// people: a server does no less. Where more is better, or the echo took no part,
// there is none.
func (r *fullReport) floor(a aim, peer string) string {
	echo := r.result(a.work).ceiling(r)
	if echo == nil || echo.Server == peer || findMeasure(a.key).more {
		return ""
	}
	return " " + r.ratio(a.work, a.key, echo.Server, peer).text(2)
}

// aheadList names every measure in which a peer has a better median, worst first
// in the order of works; and what the spread says of it.
func (r *fullReport) aheadList() string {
	var b strings.Builder
	for _, w := range r.Works {
		for _, key := range w.Measures {
			m := findMeasure(key)
			for _, p := range r.peers() {
				s := r.ratio(w.Name, key, subject, p)
				if s.Median == 0 || s.Median == 1 || (s.Median > 1) == m.more {
					continue
				}
				sure := ""
				if s.Min <= 1 && s.Max >= 1 {
					sure = "; within the noise"
				}
				fmt.Fprintf(&b, "- %s, %s: %s (Shirube's is %s of it%s)\n", w.Title, m.short, p, times(s), sure)
			}
		}
	}
	if b.Len() == 0 {
		return "Nowhere in what was measured.\n"
	}
	return b.String()
}

// times shows a ratio, and more digits of one that would look like 1.
func times(s spread) string {
	digits := 2
	if math.Abs(s.Median-1) < 0.005 {
		digits = 3
	}
	return s.text(digits)
}
