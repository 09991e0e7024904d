package simnet

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/exchange"
	"shirube/internal/wire"
)

// Reply is what a server does with one query. It starts as the right answer,
// after the server's RTT, and faults change it.
type Reply struct {
	Msg   *dns.Msg      // its own copy; nil is silence
	Err   error         // what the transport reports instead of Msg
	After time.Duration // from the query to the response
	Lost  bool          // no response: the transport runs into its timeout

	query  *dns.Msg
	server *Server
}

// Fault is a way to misbehave. The request is that of one packet: its TCP says
// what this packet goes over. Faults are called concurrently.
type Fault func(req exchange.Request, r *Reply)

// Match chooses requests.
type Match func(req exchange.Request) bool

// If returns a fault that f is for requests that pass all matches, which are
// tried in order and up to the first that fails.
func (f Fault) If(matches ...Match) Fault {
	return func(req exchange.Request, r *Reply) {
		for _, m := range matches {
			if !m(req) {
				return
			}
		}
		f(req, r)
	}
}

// Question matches one question. It panics if name is wrong.
func Question(name string, typ wire.Type) Match {
	q := wire.Question{Name: wire.MustParseName(name), Type: typ}
	return func(req exchange.Request) bool { return req.Question == q }
}

// Type matches the questions for one type.
func Type(typ wire.Type) Match {
	return func(req exchange.Request) bool { return req.Question.Type == typ }
}

// Below matches the questions for zone and all names below it. It panics if
// zone is wrong.
func Below(zone string) Match {
	z := wire.MustParseName(zone)
	return func(req exchange.Request) bool { return req.Question.Name.Within(z) }
}

// At matches the requests to one address of a server that has several. It
// panics if addr is wrong.
func At(addr string) Match {
	a := netip.MustParseAddr(addr)
	return func(req exchange.Request) bool { return req.Server.Addr() == a }
}

// EDNS matches requests with EDNS.
func EDNS(req exchange.Request) bool { return !req.Bare }

// TCP matches requests over TCP.
func TCP(req exchange.Request) bool { return req.TCP }

// UDP matches requests over UDP.
func UDP(req exchange.Request) bool { return !req.TCP }

// First matches the first n requests that get as far: put it behind the
// matches that it should count. One Match counts for all faults it is given to.
func First(n int) Match {
	var seen atomic.Int64
	return func(exchange.Request) bool { return seen.Add(1) <= int64(n) }
}

// Silent loses the query.
func Silent() Fault {
	return func(_ exchange.Request, r *Reply) { r.Lost = true }
}

// Latency makes the answer take from d to d + jitter, drawn evenly and alike
// in every run.
func Latency(d, jitter time.Duration) Fault {
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(1, 2))
	return func(_ exchange.Request, r *Reply) {
		mu.Lock()
		defer mu.Unlock()
		r.After = d + time.Duration(random.Int64N(max(int64(jitter), 0)+1))
	}
}

// Unreachable makes the transport fail as it does when nobody listens on the
// port: ECONNREFUSED, after a round trip.
func Unreachable() Fault {
	return func(req exchange.Request, r *Reply) {
		network, call := "udp", "read"
		if req.TCP {
			network, call = "tcp", "connect"
		}
		r.Err = &net.OpError{Op: call, Net: network, Err: os.NewSyscallError(call, syscall.ECONNREFUSED)}
	}
}

// Malformed makes the answer unreadable: [exchange.ErrMalformed].
func Malformed() Fault {
	return func(_ exchange.Request, r *Reply) { r.Err = exchange.ErrMalformed }
}

// Rcode answers with rcode alone. FORMERR and NOTIMP come without an OPT
// record, as from a server that does not know EDNS (RFC 6891 §7).
func Rcode(rcode wire.Rcode) Fault {
	return func(_ exchange.Request, r *Reply) {
		r.Msg = new(dns.Msg).SetRcode(r.query, int(rcode))
		opt := r.query.IsEdns0()
		if opt != nil && rcode != wire.FormErr && rcode != wire.NotImp {
			r.Msg.SetEdns0(UDPSize, opt.Do())
		}
	}
}

// Truncate answers over UDP with TC and nothing else, whatever the length.
func Truncate() Fault {
	return Mutate(func(m *dns.Msg) {
		strip(m)
		m.Truncated = true
	}).If(UDP)
}

// NoAA clears AA.
func NoAA() Fault {
	return Mutate(func(m *dns.Msg) { m.Authoritative = false })
}

// Empty answers NOERROR without a record, not even an SOA.
func Empty() Fault {
	return Mutate(func(m *dns.Msg) {
		strip(m)
		m.Rcode = dns.RcodeSuccess
	})
}

// DenyEmptyNonTerminals answers NXDOMAIN for names that exist only because of
// the names below them, as servers did before RFC 4592 §2.2.2 was understood
// (RFC 8020 §3.1).
func DenyEmptyNonTerminals() Fault {
	return func(req exchange.Request, r *Reply) {
		if r.Msg != nil && r.server.emptyNonTerminal(req.Question.Name) {
			r.Msg.Rcode = dns.RcodeNameError
		}
	}
}

// Refer answers with a referral: the NS records of text, in master file format
// with full names, go to the authority section, all others to the additional
// one. It serves for referrals sideways, downwards to nowhere, and to the
// server's own zone. It panics if text is wrong.
func Refer(text string) Fault {
	rrs := RRs(text)
	return Mutate(func(m *dns.Msg) {
		strip(m)
		m.Rcode = dns.RcodeSuccess
		m.Authoritative = false
		for _, rr := range rrs {
			if rr.Header().Rrtype == dns.TypeNS {
				m.Ns = append(m.Ns, dns.Copy(rr))
			} else {
				m.Extra = append(m.Extra, dns.Copy(rr))
			}
		}
	})
}

// ReferUp answers with a referral to the root, as some lame servers do.
func ReferUp() Fault {
	return Refer(". NS a.root-servers.net.\n. NS b.root-servers.net.")
}

// Script answers with what hook returns. A nil message is silence; one without
// a question gets the query's, and becomes a response. The message is copied:
// hook may return the same one every time.
func Script(hook func(q wire.Question, req exchange.Request) *dns.Msg) Fault {
	return func(req exchange.Request, r *Reply) {
		m := hook(req.Question, req)
		if m == nil {
			r.Msg = nil
			return
		}
		r.Msg = m.Copy()
		if len(r.Msg.Question) == 0 {
			r.Msg.Response = true
			r.Msg.Question = r.query.Question
		}
	}
}

// Mutate lets hook edit the answer, which is a copy.
func Mutate(hook func(m *dns.Msg)) Fault {
	return func(_ exchange.Request, r *Reply) {
		if r.Msg != nil {
			hook(r.Msg)
		}
	}
}

// RRs returns the records of text, in master file format with full names and a
// TTL of 3600 s unless given, for hooks to use. It panics if text is wrong.
func RRs(text string) []dns.RR {
	rrs, err := parse(".", text)
	if err != nil {
		panic("simnet: " + err.Error())
	}
	return rrs
}

// strip removes all records but the OPT record.
func strip(m *dns.Msg) {
	opt := m.IsEdns0()
	m.Answer, m.Ns, m.Extra = nil, nil, nil
	if opt != nil {
		m.Extra = []dns.RR{opt}
	}
}
