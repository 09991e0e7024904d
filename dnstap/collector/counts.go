package collector

import (
	"slices"
	"strings"
	"sync/atomic"

	"shirube/dnstap"
	"shirube/internal/hist"
	"shirube/internal/wire"
)

// How many values of each kind are told apart; what is beyond counts as the last.
const (
	numTypes     = 16 // Message.Type, 0 for what is unknown
	numProtocols = 9  // SocketProtocol, 8 for what is unknown
	numHTTP      = 4
	numFamilies  = 3
	numRcodes    = 17 // those of the header, and none
	noRcode      = 16
	numQTypes    = 258 // up to 256, and others
)

// counts is what came, without bound on what senders say: numbers that nobody
// knows are one.
type counts struct {
	frames    [numTypes][numProtocols][numHTTP][numFamilies][numRcodes]atomic.Uint64
	qtypes    [numQTypes]atomic.Uint64              // of clients' queries
	latency   [numProtocols][numHTTP]hist.Histogram // of answers to clients
	top       *Top                                  // nil: it is not looked for
	malformed atomic.Uint64
	lost      atomic.Uint64
	unwritten atomic.Uint64
}

func (c *counts) add(r *dnstap.Record) {
	rcode := uint32(noRcode)
	if code, ok := r.Rcode(); ok {
		rcode = uint32(code)
	}
	c.frames[within(r.Type, numTypes)][within(r.SocketProtocol, numProtocols)][within(r.HTTPProtocol, numHTTP)][within(r.SocketFamily, numFamilies)][rcode].Add(1)
	switch r.Type {
	case uint32(dnstap.ClientQuery):
		if _, typ, _, ok := r.Question(); ok {
			c.qtypes[min(int(typ), numQTypes-1)].Add(1)
		}
		if c.top != nil {
			c.top.Add(r)
		}
	case uint32(dnstap.ClientResponse):
		if !r.QueryTime.IsZero() && !r.ResponseTime.IsZero() {
			c.latency[within(r.SocketProtocol, numProtocols)][within(r.HTTPProtocol, numHTTP)].Observe(r.ResponseTime.Sub(r.QueryTime))
		}
	}
}

// within returns n, the last number below limit if it is not below that.
func within(n uint32, limit uint32) uint32 { return min(n, limit-1) }

// Count is how many frames had these in common.
type Count struct {
	Type      string `json:"type"`
	Transport string `json:"transport"`
	Family    string `json:"family"`
	Rcode     string `json:"rcode,omitempty"`
	Frames    uint64 `json:"frames"`
}

// Stats is what a [Collector] has seen.
type Stats struct {
	Frames    uint64            `json:"frames"`    // good ones
	Malformed uint64            `json:"malformed"` // frames that could not be read
	Unwritten uint64            `json:"unwritten"` // records that could not be written
	Senders   int               `json:"senders"`   // now
	Accepted  uint64            `json:"accepted"`  // senders that came
	Turned    uint64            `json:"turned"`    // senders that were turned away
	Lost      uint64            `json:"lost"`      // senders and files that ended without saying so
	Counts    []Count           `json:"counts"`    // of frames, by what they have in common
	QTypes    map[string]uint64 `json:"qtypes"`    // of clients' queries
	Latency   []Latency         `json:"latency"`   // of answers to clients
	Top       *TopStats         `json:"top,omitempty"`
	Output    dnstap.Stats      `json:"output"` // frames that were handed on as they came
}

// Stats returns the current numbers. Each is exact; together they are not of one
// moment.
func (c *Collector) Stats() Stats {
	s := Stats{
		Malformed: c.counts.malformed.Load(), Unwritten: c.counts.unwritten.Load(), Lost: c.counts.lost.Load(),
		Counts: []Count{}, QTypes: map[string]uint64{}, Latency: c.counts.latencies(), Output: c.opt.Tap.Stats(),
	}
	c.mu.Lock()
	s.Senders, s.Accepted, s.Turned = len(c.conns), c.accepted, c.turned
	c.mu.Unlock()
	if c.counts.top != nil {
		top := c.counts.top.Stats(c.opt.Top)
		s.Top = &top
	}
	c.counts.each(func(n Count) {
		s.Frames += n.Frames
		s.Counts = append(s.Counts, n)
	})
	slices.SortFunc(s.Counts, func(a, b Count) int { return strings.Compare(a.key(), b.key()) })
	for i := range c.counts.qtypes {
		if n := c.counts.qtypes[i].Load(); n > 0 && i < numQTypes-1 {
			s.QTypes[wire.Type(i).String()] = n
		} else if n > 0 {
			s.QTypes["other"] = n
		}
	}
	return s
}

// Latency is how long answers over a transport took, by the times in them.
type Latency struct {
	Transport string  `json:"transport"`
	Answers   uint64  `json:"answers"`
	P50       float64 `json:"p50_seconds"`
	P95       float64 `json:"p95_seconds"`
	P99       float64 `json:"p99_seconds"`

	all hist.Snapshot
}

// latencies returns those of all transports that there were answers over.
func (c *counts) latencies() []Latency {
	list := []Latency{}
	for p := range c.latency {
		for h := range c.latency[p] {
			all := c.latency[p][h].Snapshot()
			if n := all.Count(); n > 0 {
				r := dnstap.Record{SocketProtocol: uint32(p), HTTPProtocol: uint32(h)}
				list = append(list, Latency{
					Transport: transport(&r), Answers: n, all: all,
					P50: all.Quantile(0.5).Seconds(), P95: all.Quantile(0.95).Seconds(), P99: all.Quantile(0.99).Seconds(),
				})
			}
		}
	}
	return list
}

func (n *Count) key() string { return n.Type + " " + n.Transport + " " + n.Family + " " + n.Rcode }

// each calls f with all counts that are not zero.
func (c *counts) each(f func(Count)) {
	for t := range c.frames {
		for p := range c.frames[t] {
			for h := range c.frames[t][p] {
				r := dnstap.Record{SocketProtocol: uint32(p), HTTPProtocol: uint32(h)}
				eachFamily(&c.frames[t][p][h], Count{Type: word(typeWords, uint32(t)), Transport: transport(&r)}, f)
			}
		}
	}
}

// eachFamily is each for what has the same type and transport, which count has.
func eachFamily(c *[numFamilies][numRcodes]atomic.Uint64, count Count, f func(Count)) {
	for family := range c {
		for rcode := range c[family] {
			if count.Frames = c[family][rcode].Load(); count.Frames == 0 {
				continue
			}
			count.Family, count.Rcode = word(familyWords, uint32(family)), ""
			if rcode != noRcode {
				count.Rcode = wire.Rcode(rcode).String()
			}
			f(count)
		}
	}
}
