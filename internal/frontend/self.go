package frontend

import (
	"encoding/binary"

	"shirube/discovery"
	"shirube/internal/wire"
	"shirube/transport"
)

// served says what becomes of a query of which the directory knows so much.
var served = [...]transport.Outcome{discovery.Said: transport.Answered, discovery.Later: transport.Deferred}

// self answers q, whose folded name is name, if it is about this server, with RD
// and without: it is nobody else's to say (RFC 9606 §3). It allocates nothing.
func (f *Frontend) self(buf []byte, q *wire.Query, name []byte) ([]byte, discovery.Outcome) {
	s, outcome := f.opt.Self.Find(name, q, q.Received)
	if outcome != discovery.Said {
		return buf, outcome
	}
	return f.say(buf, q, &s), outcome
}

// designate answers q if it is about this server, and had to be worked out first.
func (f *Frontend) designate(buf []byte, q *wire.Query) ([]byte, bool) {
	if q.Type != wire.TypeSVCB {
		return buf, false
	}
	var b [wire.MaxNameLen]byte
	name := wire.AppendFolded(b[:0], q.RawName())
	s, outcome := f.opt.Self.Find(name, q, q.Received)
	switch outcome {
	case discovery.NotOurs:
		return buf, false
	case discovery.Later:
		s = f.opt.Self.Say(name, q, q.Received)
	}
	return f.say(buf, q, &s), true
}

// say appends s as the response to q. What does not fit goes: first what clients
// can ask for, then all.
func (f *Frontend) say(buf []byte, q *wire.Query, s *discovery.Saying) []byte {
	f.counts.of(q).local.Add(1)
	q.Policy = wire.PolicyBuiltin
	if s.Rcode != wire.NoError {
		return f.reply(buf, q, s.Rcode, s.Why)
	}
	start, room := len(buf), q.Limit-q.OPTRoom()
	buf = wire.AppendReply(buf, q, s.Rcode)
	buf[start+flagsAt] |= flagAA // RFC 9606 §3: without it clients throw it away
	buf[start+ancount] = byte(s.Answers)
	buf = append(buf, s.Answer...)
	if s.SOA != nil {
		buf[start+nscount] = 1 // RFC 2308 §3
		buf = append(buf, s.SOA...)
		owner := buf[len(buf)-len(s.SOA):]
		binary.BigEndian.PutUint16(owner, uint16(0xC000|wire.HeaderLen+s.Zone)) // RFC 1035 §4.1.4
	}
	switch {
	case len(buf)-start > room:
		return f.finish(wire.Truncate(buf, start, q), start, q, s.Why)
	case len(buf)-start+len(s.Additional) <= room:
		buf[start+arcount] = byte(s.Additionals)
		buf = append(buf, s.Additional...)
	}
	return f.finish(buf, start, q, s.Why)
}
