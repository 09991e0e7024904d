package dnstap

import (
	"encoding/binary"
	"math/bits"

	"shirube/internal/wire"
)

// Filter says which messages an output takes. The zero Filter takes none.
type Filter struct {
	// Sample says of each type that one message in so many is taken; 1: all, 0:
	// none. A response is taken whenever its query is, if both numbers are the
	// same; with different ones those of the larger are among the others.
	Sample [NumTypes]uint32

	// Rcodes, if any, are the ones that a response has to have, by the four bits
	// of the header. Queries have none, and are all taken.
	Rcodes []wire.Rcode

	// Suffixes, if any, are those that a question's name has to be within one of.
	Suffixes []wire.Name

	// Protos, if any, are the transports between a client and this server. It
	// does not touch messages to and from servers.
	Protos []wire.Proto

	// ServFail takes every response with SERVFAIL of a type that is taken at
	// all, whatever the rest says.
	ServFail bool
}

// filter is a [Filter] ready for use.
type filter struct {
	threshold [NumTypes]uint64 // draws below it are taken, of 1<<32
	rcodes    uint16           // a bit each
	protos    uint8            // a bit each
	servFail  bool
	suffixes  []wire.Name
}

func newFilter(f *Filter) filter {
	out := filter{rcodes: 1<<16 - 1, protos: 1<<8 - 1, servFail: f.ServFail, suffixes: f.Suffixes}
	for t, n := range f.Sample {
		if n > 0 {
			out.threshold[t] = max((1<<32)/uint64(n), 1)
		}
	}
	if len(f.Rcodes) > 0 {
		out.rcodes = 0
		for _, r := range f.Rcodes {
			out.rcodes |= 1 << (r & 15)
		}
	}
	if len(f.Protos) > 0 {
		out.protos = 0
		for _, p := range f.Protos {
			out.protos |= 1 << p
		}
	}
	return out
}

// takes reports whether m is taken, which drew draw.
func (f *filter) takes(m *Message, draw uint32) bool {
	threshold := f.threshold[m.Type]
	if threshold == 0 {
		return false
	}
	if m.Type.isResponse() && len(m.Msg) >= wire.HeaderLen {
		rcode := m.Msg[3] & 15
		if f.servFail && wire.Rcode(rcode) == wire.ServFail {
			return true
		}
		if f.rcodes>>rcode&1 == 0 {
			return false
		}
	}
	switch {
	case uint64(draw) >= threshold:
		return false
	case m.Type.isClient() && f.protos>>m.Proto&1 == 0:
		return false
	}
	return len(f.suffixes) == 0 || within(m.Msg, f.suffixes)
}

// draw returns a number that m's query and response have in common, and that
// nobody can foresee who does not know seed. Clients that always ask with the
// same port and ID (RFC 8484 §4.1) do so at different times.
func (m *Message) draw(seed uint64) uint32 {
	x := uint64(m.Query.Port())<<48 ^ uint64(m.QueryTime.Nanosecond())<<16
	if len(m.Msg) >= 2 {
		x ^= uint64(binary.BigEndian.Uint16(m.Msg))
	}
	hi, lo := bits.Mul64(x^seed, 0x9E3779B97F4A7C15) // a Weyl constant: the golden ratio
	hi, lo = bits.Mul64(hi^lo^seed, 0xD6E8FEB86659FD93)
	return uint32(hi ^ lo)
}

// within reports whether the name that msg asks for is within one of suffixes.
// What cannot be read is within none.
func within(msg []byte, suffixes []wire.Name) bool {
	name := questionName(msg)
	if name == nil {
		return false
	}
	for at := 0; ; at += 1 + int(name[at]) {
		for _, s := range suffixes {
			if len(s) == len(name)-at && equalFold(name[at:], s) {
				return true
			}
		}
		if name[at] == 0 {
			return false
		}
	}
}

// questionName returns the name that msg asks for, as it stands there; nil if
// there is none, or it cannot be read.
func questionName(msg []byte) []byte {
	if len(msg) < wire.HeaderLen || binary.BigEndian.Uint16(msg[4:]) == 0 {
		return nil
	}
	name := msg[wire.HeaderLen:]
	end := 0
	for end < len(name) && name[end] != 0 {
		if name[end] > wire.MaxLabelLen {
			return nil
		}
		end += 1 + int(name[end])
	}
	if end >= len(name) || end >= wire.MaxNameLen {
		return nil
	}
	return name[:end+1]
}

// equalFold reports whether name, in any spelling, is s. The lengths of labels
// are less than any letter.
func equalFold(name []byte, s wire.Name) bool {
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != s[i] {
			return false
		}
	}
	return true
}
