package transport

import (
	"context"
	"encoding/binary"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"shirube/dnstap"
	"shirube/internal/deadline"
	"shirube/internal/ede"
	"shirube/internal/wire"
)

// Defaults for options that are left zero. The sources are beside them.
const (
	DefaultTimeout           = 6 * time.Second         // the resolver's own bound on one question
	DefaultDiscardTimeout    = 1900 * time.Millisecond // DNSBomb (CVE-2024-33655): Unbound's discard-timeout
	DefaultMaxSize           = 1232                    // octets; RFC 9715 §3.2
	DefaultFirstByteTimeout  = 3 * time.Second
	DefaultMessageTimeout    = 5 * time.Second
	DefaultIdleTimeout       = 10 * time.Second // RFC 7766 §6.2.3: in the order of seconds
	DefaultMaxConns          = 4096
	DefaultMaxConnsPerClient = 256
	DefaultMaxInFlight       = 32
	DefaultSlots             = 10_000
)

// maxQuery is the longest query that is read, in octets, on every transport: a
// header, a name and two additional records do not need more. A longer one is
// malformed.
const maxQuery = 4096

// EXTRA-TEXT of this package's own failures (RFC 8914 §2).
const (
	busyText  = "server busy"
	faultText = "internal error"
)

// service is what every transport does with a message once it has one. Its
// methods may be called concurrently.
type service struct {
	handler  Handler
	expecter Expecter // handler, if it is one, or nil
	slots    *Slots
	tap      *dnstap.Tap // nil: off
	set      *settings
	log      quietLog
}

func newService(h Handler, slots *Slots, timeout time.Duration, udpSize int, log *slog.Logger) service {
	if slots == nil {
		slots = NewSlots(DefaultSlots, 0)
	}
	s := service{handler: h, slots: slots, set: new(settings), log: newQuietLog(log)}
	s.expecter, _ = h.(Expecter)
	s.set.change(timeout, udpSize)
	return s
}

// settings are what may be changed while queries are served.
type settings struct {
	timeLimit atomic.Int64  // nanoseconds that a deferred query has, from its arrival
	size      atomic.Uint32 // octets that this server takes on UDP, for OPT records
}

func (s *settings) change(timeout time.Duration, udpSize int) {
	s.timeLimit.Store(int64(orDefault(timeout, DefaultTimeout)))
	s.size.Store(uint32(min(max(orDefault(udpSize, DefaultMaxSize), wire.MinUDPSize), wire.MaxMsgSize)))
}

// Change has the queries that come from now on go by other limits; zero means the
// default.
func (s *service) Change(timeout time.Duration, udpSize int) { s.set.change(timeout, udpSize) }

// timeout returns how long a deferred query may take, from its arrival.
func (s *service) timeout() time.Duration { return time.Duration(s.set.timeLimit.Load()) }

// udpSize returns how many octets this server takes on UDP.
func (s *service) udpSize() uint16 { return uint16(s.set.size.Load()) }

// orDefault returns v, or def when v is not positive.
func orDefault[T int | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}

// parse reads msg into q. A message that was cut, because it is longer than
// [maxQuery], is malformed if it is a query at all.
func parse(q *wire.Query, msg []byte, cut bool) wire.Status {
	status := q.Parse(msg)
	if cut && (status == wire.OK || status == wire.UnsupportedVersion) {
		return wire.Malformed
	}
	return status
}

// answer appends to buf the response to msg, which was parsed into q with
// status, when there is one at once: see [Outcome]. It does not allocate, if
// the Handler does not.
func (s *service) answer(n *counters, buf, msg []byte, q *wire.Query, status wire.Status) ([]byte, Outcome) {
	nth := n.received.Add(1)
	n.status[status].Add(1)
	q.Policy = wire.NoPolicy
	if status != wire.OK {
		rsp, outcome := s.reject(n, buf, msg, q, status)
		if status != wire.Ignored {
			s.emit(n, dnstap.ClientQuery, q, msg)
			if outcome == Answered {
				s.emit(n, dnstap.ClientResponse, q, rsp[len(buf):])
			}
		}
		return rsp, outcome
	}
	rsp, outcome := s.try(n, buf, q)
	s.emit(n, dnstap.ClientQuery, q, msg) // not before: now it is known which policy acted
	switch outcome {
	case Answered:
		s.answered(n, q, rsp[len(buf):])
		if nth%sampled == 0 {
			n.atOnce.Observe(time.Since(q.Received))
		}
		return rsp, Answered
	case Deferred:
		return buf, Deferred
	default:
		n.dropped.Add(1)
		return buf, Dropped
	}
}

// answered counts rsp, which is about to be sent to the client of q.
func (s *service) answered(n *counters, q *wire.Query, rsp []byte) {
	n.answered.Add(1)
	s.emit(n, dnstap.ClientResponse, q, rsp)
}

// emit gives msg, which belongs to q, to the tap, if that may take it.
func (s *service) emit(n *counters, typ dnstap.Type, q *wire.Query, msg []byte) {
	if s.tap.Wants(typ) {
		s.emitWanted(n, typ, q, msg)
	}
}

func (s *service) emitWanted(n *counters, typ dnstap.Type, q *wire.Query, msg []byte) {
	lane := n.lane
	if q.Proto != wire.UDP {
		lane = int(q.Client.Port())
	}
	s.tap.Emit(lane, &dnstap.Message{
		Type: typ, Proto: q.Proto, HTTP: q.HTTP, Policy: q.Policy,
		Query: q.Client, Response: q.Local, QueryTime: q.Received,
		Msg: msg,
	})
}

// rejections are the codes for messages that are none of the Handler's business.
var rejections = [wire.NumStatus]wire.Rcode{
	wire.Malformed:          wire.FormErr,
	wire.UnsupportedOpcode:  wire.NotImp,
	wire.UnsupportedVersion: wire.BadVers, // RFC 6891 §6.1.3
}

// reject appends the response to a message that is none of the Handler's
// business, but for who is to be answered at all. A response echoes nothing that
// was not understood.
func (s *service) reject(n *counters, buf, msg []byte, q *wire.Query, status wire.Status) (rsp []byte, outcome Outcome) {
	if status == wire.Ignored {
		return buf, Dropped
	}
	defer func() {
		if v := recover(); v != nil {
			n.panics.Add(1)
			s.log.error("a client's address made the server panic", "panic", v, "transport", q.Proto.String(), "stack", string(debug.Stack()))
			rsp, outcome = buf, Dropped
		}
	}()
	rcode, ok := s.handler.Reject(q.Client, rejections[status])
	switch {
	case !ok:
		return buf, Dropped
	case status == wire.UnsupportedVersion:
		start := len(buf)
		class := badVersClass
		if rcode != wire.BadVers {
			class = RcodeClass(rcode)
		}
		n.tally[typeClass(q.Type)][class].Add(1)
		buf = wire.AppendReply(buf, q, rcode)
		return wire.AppendOPT(buf, start, q, s.udpSize(), rcode), Answered
	}
	rsp = wire.AppendHeader(buf, msg, rcode)
	n.tally.response(NoType, rsp[len(buf):])
	return rsp, Answered
}

// try is [Handler.TryServe] for a Handler that may panic: one bad query must
// not take the others' server away.
func (s *service) try(n *counters, buf []byte, q *wire.Query) (rsp []byte, outcome Outcome) {
	defer func() {
		if v := recover(); v != nil {
			s.panicked(n, q, v)
			rsp, outcome = s.fail(n, buf, q, faultText), Answered
		}
	}()
	rsp, outcome = s.handler.TryServe(buf, q)
	if outcome == Answered {
		rsp = s.fit(n, buf, rsp, q)
	}
	return rsp, outcome
}

// leastExpected is how many queries a Handler is told of beforehand at least: with
// fewer there is not enough to do for the time that one takes to be fetched.
const leastExpected = 4

// expect is [Expecter.Expect] for a Handler that may panic, and need not be one.
func (s *service) expect(n *counters, qs []*wire.Query) {
	if s.expecter == nil || len(qs) < leastExpected {
		return
	}
	defer func() {
		if v := recover(); v != nil {
			s.panicked(n, qs[0], v) // or one that came with it
		}
	}()
	s.expecter.Expect(qs)
}

// serve is [Handler.Serve] with the deadline that q has since it arrived, for a
// Handler that may panic. It gives back q's slot. The caller says with answered
// that the response is sent, or counts what else becomes of it.
func (s *service) serve(ctx context.Context, n *counters, buf []byte, q *wire.Query) (rsp []byte) {
	defer s.slots.give(wire.NetworkOf(q.Client.Addr()))
	defer func() {
		if v := recover(); v != nil {
			s.panicked(n, q, v)
			rsp = s.fail(n, buf, q, faultText)
		}
	}()
	until := deadline.New(ctx, q.Received.Add(s.timeout()))
	defer until.End()
	if rsp = s.handler.Serve(until, buf, q); rsp == nil {
		n.dropped.Add(1)
		return nil
	}
	n.later.Observe(time.Since(q.Received))
	return s.fit(n, buf, rsp, q)
}

// fit returns rsp, the Handler's response to q appended to buf, if it is one
// that can be sent, and counts it. q.Limit is what keeps UDP from fragments and amplification,
// and TCP's two octets of length from lying, so it is not left to trust.
func (s *service) fit(n *counters, buf, rsp []byte, q *wire.Query) []byte {
	if size := len(rsp) - len(buf); size >= wire.HeaderLen && size <= q.Limit {
		n.tally.response(typeClass(q.Type), rsp[len(buf):])
		return rsp
	}
	n.unfit.Add(1)
	return s.fail(n, buf, q, faultText)
}

// take takes a slot for q. When there is none left it appends the response that
// says so to buf, and reports false.
func (s *service) take(n *counters, buf []byte, q *wire.Query) ([]byte, bool) {
	if s.slots.take(wire.NetworkOf(q.Client.Addr())) {
		n.deferred.Add(1)
		return buf, true
	}
	n.shed.Add(1)
	rsp := s.shed(n, buf, q)
	s.emit(n, dnstap.ClientResponse, q, rsp[len(buf):])
	return rsp, false
}

// shed is [Handler.Shed] for a Handler that may panic.
func (s *service) shed(n *counters, buf []byte, q *wire.Query) (rsp []byte) {
	defer func() {
		if v := recover(); v != nil {
			s.panicked(n, q, v)
			rsp = s.fail(n, buf, q, faultText)
		}
	}()
	return s.fit(n, buf, s.handler.Shed(buf, q, busyText), q)
}

// fail appends SERVFAIL to buf, and why, and counts it. The code is Other (RFC 8914 §4.1),
// with the text that is asked for there: none of the codes is about a server
// that is busy or broken. Not Ready (§4.15) is about one that is still starting,
// and a client may take it as advice to stay away.
func (s *service) fail(n *counters, buf []byte, q *wire.Query, text string) []byte {
	n.tally[typeClass(q.Type)][wire.ServFail].Add(1)
	start := len(buf)
	buf = wire.AppendReply(buf, q, wire.ServFail)
	var code [2]byte
	binary.BigEndian.PutUint16(code[:], uint16(ede.Other))
	return wire.AppendOPT(buf, start, q, s.udpSize(), wire.ServFail,
		wire.Option{Code: wire.OptionEDE, Data: code[:], Text: text})
}

// panicked counts and logs v, which the Handler panicked with on q.
func (s *service) panicked(n *counters, q *wire.Query, v any) {
	n.panics.Add(1)
	s.log.error("a query made the server panic",
		"panic", v, "question", q.Question().String(), "transport", q.Proto.String(), "stack", string(debug.Stack()))
}
