package upstream

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/miekg/dns"

	"shirube/internal/exchange"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// verdict says whether a message is the reply to a query, and if not, why.
type verdict uint8

// The verdicts. All but matches mean: drop it, and count it.
const (
	matches       verdict = iota
	wrongSource           // not the server's; await finds out
	tooLong               // longer than was offered; alike
	tooShort              // empty, or shorter than a header
	wrongID               // a guess, or the reply to another query
	wrongHeader           // no response, or to no query
	wrongQuestion         // right ID, other question
	wrongSpelling         // right question, in another spelling
	wrongCookie           // right question, but not the cookie that was sent
	noCookie              // right question, from a server that sends cookies, without one
	numVerdicts           // how many there are
)

// reply is what is in a message that has the ID and the question of a query.
type reply struct {
	msg       []byte
	edns      edns
	malformed error  // why it cannot be parsed
	proof     proof  // what the cookie in it says
	cookie    []byte // of msg: the server cookie, with proof
	respelled bool   // the question has another spelling than in the query
}

// judge says whether msg, which the server sent, has q's ID and question (RFC
// 5452 §4.2, §9.1).
func (q *query) judge(msg []byte) verdict {
	switch {
	case len(msg) < wire.HeaderLen:
		return tooShort
	case binary.BigEndian.Uint16(msg) != q.id:
		return wrongID
	case msg[2]&(bitQR|maskOpcode) != bitQR:
		return wrongHeader
	case binary.BigEndian.Uint16(msg[4:]) == 0 && saysOnlyError(msg):
		return matches
	case !q.echoedIn(msg):
		return wrongQuestion
	}
	return matches
}

// saysOnlyError reports whether msg, a response without a question, has a right
// to be: old servers answer so when they fail, and then there is nothing else
// in it but perhaps an OPT record.
func saysOnlyError(msg []byte) bool {
	switch wire.RcodeOf(msg) {
	case wire.FormErr, wire.ServFail, wire.NotImp, wire.Refused:
		return binary.BigEndian.Uint32(msg[6:]) == 0 // ANCOUNT, NSCOUNT
	}
	return false
}

// echoedIn reports whether msg, a header at least, has q's question and no
// other, in whatever spelling.
func (q *query) echoedIn(msg []byte) bool {
	section := msg[wire.HeaderLen:]
	if binary.BigEndian.Uint16(msg[4:]) != 1 || len(section) < len(q.question) {
		return false
	}
	section = section[:len(q.question)]
	name := len(q.question) - 4
	return wire.EqualFold(section[:name], q.question[:name]) && string(section[name:]) == string(q.question[name:])
}

// respelledIn reports whether the question of msg, which matches, is spelled in
// another way than q's. A reply without a question spells nothing.
func (q *query) respelledIn(msg []byte) bool {
	return binary.BigEndian.Uint16(msg[4:]) == 1 && string(msg[wire.HeaderLen:wire.HeaderLen+len(q.question)]) != string(q.question)
}

// near reports whether msg, which is no reply to q for the reason v, is so
// near to one that somebody may be guessing: what is right with it is more than
// the name, which an attacker chooses. A message that has neither the ID nor
// the question is just a stray.
func (q *query) near(v verdict, msg []byte) bool {
	switch v {
	case matches, wrongSource, tooShort, numVerdicts:
		return false
	case wrongID:
		return len(msg) >= wire.HeaderLen && msg[2]&(bitQR|maskOpcode) == bitQR && q.echoedIn(msg)
	case tooLong:
		return binary.BigEndian.Uint16(msg) == q.id
	case wrongHeader, wrongQuestion, wrongSpelling, wrongCookie, noCookie:
	}
	return true
}

// read looks into msg, which matches.
func (q *query) read(msg []byte) reply {
	r := reply{msg: msg, respelled: q.spelled && q.respelledIn(msg)}
	if r.edns, r.malformed = vet(msg); r.malformed == nil && q.cookie != nil {
		r.proof, r.cookie = q.prove(r.edns)
	}
	return r
}

// rcode returns the whole rcode.
func (r *reply) rcode() wire.Rcode { return r.edns.rcodeOf(r.msg) }

// truncated reports whether msg, a reply, has TC set.
func truncated(msg []byte) bool { return msg[2]&bitTC != 0 }

// parse returns the message in msg, a matching reply. It keeps nothing of msg.
// The error wraps [exchange.ErrMalformed].
func parse(msg []byte) (*dns.Msg, error) {
	_, err := vet(msg)
	return unpack(msg, err)
}

// unpack is parse for a message that vet says malformed of. A record with RDATA
// that makes no sense comes out as it is: whether the rest is of use without it
// is the resolver's to judge.
func unpack(msg []byte, malformed error) (*dns.Msg, error) {
	if malformed != nil {
		return nil, fmt.Errorf("%w: %w", exchange.ErrMalformed, malformed)
	}
	m, err := rrset.Unpack(msg)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", exchange.ErrMalformed, err)
	}
	return m, nil
}

// respell writes the question of msg, a matching reply, in lower case. All names
// that are compressed to it, or to an end of it, are written so by that.
func respell(msg []byte, name wire.Name) {
	if binary.BigEndian.Uint16(msg[4:]) == 1 {
		copy(msg[wire.HeaderLen:], name)
	}
}

// unspell takes the random spelling out of where a server put it without
// compression: into owners that are the name asked for, and into the alias that
// it made of a DNAME (RFC 6672 §3.1), whose beginning it copied.
func unspell(m *dns.Msg) {
	if len(m.Question) == 0 {
		return
	}
	name, dname := m.Question[0].Name, false
	for _, section := range [...][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			h := rr.Header()
			if h.Name != name && len(h.Name) == len(name) && strings.EqualFold(h.Name, name) {
				h.Name = name
			}
			dname = dname || h.Rrtype == dns.TypeDNAME
		}
	}
	for _, rr := range m.Answer {
		if alias, ok := rr.(*dns.CNAME); ok && dname {
			alias.Target = strings.ToLower(alias.Target)
		}
	}
}
