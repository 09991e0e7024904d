package simnet

import (
	"maps"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// UDPSize is the EDNS payload size in octets that servers offer, and the
// longest response that they send on UDP (RFC 9715 §3.1).
const UDPSize = 1232

// Server is an authoritative server for any number of zones. It is immutable.
type Server struct {
	zones map[wire.Name]*Zone
}

// NewServer returns a server for zones. One without zones refuses everything,
// as a lame server does.
func NewServer(zones ...*Zone) *Server {
	s := &Server{zones: make(map[wire.Name]*Zone, len(zones))}
	for _, z := range zones {
		s.zones[z.origin] = z
	}
	return s
}

// With returns a server for what s serves and z, which takes the place of a
// zone of the same name.
func (s *Server) With(z *Zone) *Server {
	c := &Server{zones: maps.Clone(s.zones)}
	c.zones[z.origin] = z
	return c
}

// Answer returns the response to query, of any length: what does not fit is
// for the transport to truncate. It shares its records with the zones: who
// wants to edit them has to copy them.
func (s *Server) Answer(query *dns.Msg) *dns.Msg {
	m := new(dns.Msg).SetReply(query)
	m.Compress = true
	m.Rcode = s.answer(m, query)
	if opt := query.IsEdns0(); opt != nil { // RFC 6891 §6.1.1: only to a query that has one
		m.SetEdns0(UDPSize, opt.Do())
	}
	return m
}

// answer completes m, and returns its rcode.
func (s *Server) answer(m, query *dns.Msg) (rcode int) {
	if query.Opcode != dns.OpcodeQuery {
		return dns.RcodeNotImplemented
	}
	if len(query.Question) != 1 { // RFC 9619 §4
		return dns.RcodeFormatError
	}
	if opt := query.IsEdns0(); opt != nil && opt.Version() != 0 { // RFC 6891 §6.1.3
		return dns.RcodeBadVers
	}
	q := query.Question[0]
	name, err := wire.ParseName(q.Name)
	if err != nil {
		return dns.RcodeFormatError
	}
	typ := wire.Type(q.Qtype)
	if typ.Meta() && typ != wire.TypeANY { // zone transfers and the like
		return dns.RcodeNotImplemented
	}
	zone := s.closest(name, typ)
	if zone == nil || q.Qclass != dns.ClassINET {
		return dns.RcodeRefused
	}
	opt := query.IsEdns0()
	zone.answer(m, name, q.Name, typ, opt != nil && opt.Do())
	return m.Rcode
}

// closest returns the zone to answer from: the nearest above name (RFC 1034
// §4.3.2 step 2), or nil. A DS set is asked of the zone above the cut, unless
// the server has only the one below (RFC 4035 §3.1.4.1).
func (s *Server) closest(name wire.Name, typ wire.Type) *Zone {
	var child *Zone
	for at, ok := name, true; ok; at, ok = at.Parent() {
		z := s.zones[at]
		switch {
		case z == nil:
		case typ == wire.TypeDS && at == name:
			child = z
		case child != nil && z.find(name, typ).where == cut: // not the zone right above
			return child
		default:
			return z
		}
	}
	return child
}

// emptyNonTerminal reports whether name exists only because of names below it.
func (s *Server) emptyNonTerminal(name wire.Name) bool {
	z := s.closest(name, wire.TypeA)
	if z == nil {
		return false
	}
	f := z.find(name, wire.TypeA)
	return f.where == exact && len(f.node) == 0
}
