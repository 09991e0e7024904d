package rpl

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"shirube/internal/exchange"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// errDropped reports that what a server sent is not the reply to the query.
var errDropped = errors.New("not the reply")

// reply returns the message that answers h as it arrives, and its length in
// octets.
func (w *World) reply(h *held, f fate) (*dns.Msg, int, error) {
	if f.entry.Adjust.Silent {
		return nil, 0, errDropped
	}
	octets, err := w.wireForm(h, f)
	if err != nil {
		return nil, 0, fmt.Errorf("rpl: %s:%d: %w", w.scenario.Name, f.entry.Line, err)
	}
	m, err := rrset.Unpack(octets)
	if err != nil {
		return nil, len(octets), fmt.Errorf("%w: %w", exchange.ErrMalformed, err)
	}
	// RFC 5452 §9.1, as the upstream transport has it. A failure may come
	// without a question.
	failure := len(m.Question) == 0 && len(m.Answer)+len(m.Ns) == 0 && m.Rcode != dns.RcodeSuccess
	q, got := h.query.Question[0], first(m)
	echoed := len(m.Question) == 1 && strings.EqualFold(q.Name, got.Name) && q.Qtype == got.Qtype && q.Qclass == got.Qclass
	if !m.Response || m.Opcode != dns.OpcodeQuery || !failure && !echoed {
		return nil, len(octets), errDropped
	}
	return m, len(octets), nil
}

// wireForm returns the octets that answer h. What does not fit comes truncated,
// as from a server that heeds the payload size.
func (w *World) wireForm(h *held, f fate) ([]byte, error) {
	p := &f.entry.Packets[0]
	if p.Raw != nil {
		octets := append([]byte(nil), p.Raw...)
		if len(octets) >= 2 {
			octets[0], octets[1] = byte(h.query.Id>>8), byte(h.query.Id)
		}
		return octets, nil
	}
	m := p.message(w.scenario.Dialect, h.query)
	m.Id = h.query.Id // without copy_id, too: Unbound's own runner sends queries with ID 0, which is the entry's
	m.Compress = true
	if f.entry.Adjust.CopyQuery || f.asNS {
		m.Question = h.query.Question
	}
	if f.asNS {
		m.Answer = slices.DeleteFunc(m.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeNS })
	}
	if !h.req.TCP {
		size := wire.MinUDPSize
		if opt := h.query.IsEdns0(); opt != nil {
			size = max(size, int(opt.UDPSize()))
		}
		if octets, err := m.Pack(); err != nil || len(octets) <= size {
			return octets, err
		}
		m.Truncated, m.Answer, m.Ns, m.Extra = true, nil, nil, nil
	}
	return m.Pack()
}

// message returns p as a message of its own. query, which may be nil, is what
// it answers.
func (p *Packet) message(d Dialect, query *dns.Msg) *dns.Msg {
	m := p.Msg.Copy()
	m.Rcode = p.Rcode
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}, Option: parseOptions(p.Options)}
	opt.SetUDPSize(udpSize)
	if d == Deckard {
		opt.SetUDPSize(deckardSize)
	}
	opt.SetDo(p.DO)
	opt.SetCo(p.CO)
	has := p.EDNS || p.Rcode > 0xF
	if d == Deckard && query != nil { // its servers speak EDNS as they are spoken to
		asked := query.IsEdns0()
		has = asked != nil
		opt.SetDo(has && asked.Do())
	}
	if has {
		m.Extra = append(m.Extra, opt)
	}
	return m
}

// parseOptions returns the options in the RDATA of an OPT record, up to the
// first that is cut.
func parseOptions(rdata []byte) []dns.EDNS0 {
	var out []dns.EDNS0
	for len(rdata) >= 4 {
		code, n := uint16(rdata[0])<<8|uint16(rdata[1]), int(rdata[2])<<8|int(rdata[3])
		if len(rdata) < 4+n {
			break
		}
		out = append(out, &dns.EDNS0_LOCAL{Code: code, Data: rdata[4 : 4+n]})
		rdata = rdata[4+n:]
	}
	return out
}
