package frontend

import (
	"encoding/binary"
	"math"
	"time"

	"shirube/internal/ede"
	"shirube/internal/wire"
)

// reply appends a whole response to q that holds nothing but an rcode and its
// reason, which may be nil.
func (f *Frontend) reply(buf []byte, q *wire.Query, rcode wire.Rcode, why *ede.Error) []byte {
	start := len(buf)
	buf = wire.AppendReply(buf, q, rcode)
	return f.finish(buf, start, q, why)
}

// finish appends the OPT record that q's client gets to the response at
// buf[start:], with the reason why if it fits (RFC 8914 §3).
func (f *Frontend) finish(buf []byte, start int, q *wire.Query, why *ede.Error) []byte {
	return f.finishWith(buf, start, q, wire.NoError, why)
}

// finishWith is finish for a response whose rcode may have more than four bits.
func (f *Frontend) finishWith(buf []byte, start int, q *wire.Query, rcode wire.Rcode, why *ede.Error) []byte {
	if why != nil {
		f.counts.of(q).reason(why)
	}
	asked := q.Cookie.Answered() && f.opt.Cookies != nil || q.NSID && len(f.opt.NSID) > 0 || asksIdle(q)
	if !asked && why == nil || !q.EDNS {
		return wire.AppendOPT(buf, start, q, f.opt.UDPSize, rcode)
	}
	var options [4]wire.Option // in the order of how much clients need them
	n := 0
	var cookie [wire.CookieLen]byte
	if q.Cookie.Answered() && f.opt.Cookies != nil {
		options[n] = wire.Option{Code: wire.OptionCookie, Data: f.cookie(cookie[:0], q)}
		n++
	}
	if q.NSID && len(f.opt.NSID) > 0 {
		options[n] = wire.Option{Code: wire.OptionNSID, Data: f.opt.NSID}
		n++
	}
	var idle [2]byte
	if asksIdle(q) {
		binary.BigEndian.PutUint16(idle[:], uint16(min(q.Idle/keepaliveUnit, math.MaxUint16)))
		options[n] = wire.Option{Code: wire.OptionKeepalive, Data: idle[:]}
		n++
	}
	var code [2]byte
	if why != nil {
		binary.BigEndian.PutUint16(code[:], uint16(why.Code))
		options[n] = wire.Option{Code: wire.OptionEDE, Data: code[:], Text: why.Text}
		n++
	}
	return wire.AppendOPT(buf, start, q, f.opt.UDPSize, rcode, options[:n]...)
}

// keepaliveUnit is what the time-out in an edns-tcp-keepalive option is counted
// in (RFC 7828 §3.1).
const keepaliveUnit = 100 * time.Millisecond

// asksIdle reports whether the client of q is to be told how long its connection
// may be silent: on UDP the option means nothing (RFC 7828 §3.3.1), and HTTP and
// QUIC have their own words for it (RFC 9250 §5.5.2).
func asksIdle(q *wire.Query) bool {
	return q.Keepalive && (q.Proto == wire.TCP || q.Proto == wire.DoT)
}

// anyHINFO is the record that answers every question for ANY: owner (the
// question's), type HINFO, class IN, TTL 3789 s, CPU "RFC8482", OS "" (RFC
// 8482 §4.2).
const anyHINFO = "\xc0\x0c\x00\x0d\x00\x01\x00\x00\x0e\xcd\x00\x09\x07RFC8482\x00"

// minimalANY answers a question for ANY without asking anybody (RFC 8482
// §4.2): nobody needs all types, but attackers like long answers.
func (f *Frontend) minimalANY(buf []byte, q *wire.Query) []byte {
	start := len(buf)
	buf = wire.AppendReply(buf, q, wire.NoError)
	buf[start+7] = 1 // ANCOUNT
	buf = append(buf, anyHINFO...)
	return f.finish(buf, start, q, nil)
}
