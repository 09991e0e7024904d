package collector

import (
	"encoding/binary"
	"slices"
	"strings"
	"sync/atomic"

	"shirube/dnstap"
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
	qtypes    [numQTypes]atomic.Uint64 // of clients' queries
	malformed atomic.Uint64
	lost      atomic.Uint64
	unwritten atomic.Uint64
}

func (c *counts) add(r *dnstap.Record) {
	msg := r.Message()
	rcode := uint32(noRcode)
	if r.IsResponse() && len(msg) >= wire.HeaderLen {
		rcode = uint32(msg[3] & 15)
	}
	c.frames[within(r.Type, numTypes)][within(r.SocketProtocol, numProtocols)][within(r.HTTPProtocol, numHTTP)][within(r.SocketFamily, numFamilies)][rcode].Add(1)
	if r.Type == uint32(dnstap.ClientQuery) {
		if _, typ, _, ok := question(msg); ok {
			c.qtypes[min(int(typ), numQTypes-1)].Add(1)
		}
	}
}

// within returns n, the last number below limit if it is not below that.
func within(n uint32, limit uint32) uint32 { return min(n, limit-1) }

// question returns the question of msg, which is borrowed.
func question(msg []byte) (name []byte, typ wire.Type, class uint16, ok bool) {
	if len(msg) < wire.HeaderLen || binary.BigEndian.Uint16(msg[4:]) == 0 {
		return nil, 0, 0, false
	}
	b := msg[wire.HeaderLen:]
	end := 0
	for end < len(b) && b[end] != 0 {
		if b[end] > wire.MaxLabelLen {
			return nil, 0, 0, false
		}
		end += 1 + int(b[end])
	}
	if end+5 > len(b) || end >= wire.MaxNameLen {
		return nil, 0, 0, false
	}
	return b[:end+1], wire.Type(binary.BigEndian.Uint16(b[end+1:])), binary.BigEndian.Uint16(b[end+3:]), true
}

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
	Output    dnstap.Stats      `json:"output"`    // frames that were handed on as they came
}

// Stats returns the current numbers. Each is exact; together they are not of one
// moment.
func (c *Collector) Stats() Stats {
	s := Stats{
		Malformed: c.counts.malformed.Load(), Unwritten: c.counts.unwritten.Load(), Lost: c.counts.lost.Load(),
		Counts: []Count{}, QTypes: map[string]uint64{}, Output: c.opt.Tap.Stats(),
	}
	c.mu.Lock()
	s.Senders, s.Accepted, s.Turned = len(c.conns), c.accepted, c.turned
	c.mu.Unlock()
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
