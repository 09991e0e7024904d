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

// aimsTable tells of each aim whether it was met.
func (r *fullReport) aimsTable() string {
	var b strings.Builder
	b.WriteString("| Aim | Shirube's share of the nearest | | | the echo's: the machine's floor |\n|---|---|---|---|---|\n")
	for _, a := range aims {
		peer, s, met, ok := r.measured(a)
		switch {
		case !ok:
			fmt.Fprintf(&b, "| %s | not measured | | | |\n", a.text)
		case findMeasure(a.key).more && r.driverBound(a.work, subject, peer):
			fmt.Fprintf(&b, "| %s | %s | %s | not known: the load is the limit |%s |\n", a.text, s.text(2), peer, r.floor(a, peer))
		case met:
			fmt.Fprintf(&b, "| %s | %s | %s | met |%s |\n", a.text, s.text(2), peer, r.floor(a, peer))
		default:
			fmt.Fprintf(&b, "| %s | %s | %s | **not met** |%s |\n", a.text, s.text(2), peer, r.floor(a, peer))
		}
	}
	return b.String()
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
