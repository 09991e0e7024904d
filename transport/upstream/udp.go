package upstream

import (
	"context"
	"errors"
	"net/netip"
	"syscall"
	"time"

	"shirube/internal/exchange"
	"shirube/internal/wire"
)

// udp asks over UDP. With a detour there is neither a response nor an error, but
// a reason to ask again.
//
// An ICMP error that the kernel found to be about this very socket ends the
// attempt at once: a server that is down costs a round trip and not a timeout.
// To forge one takes the source port, as a forged answer does, and it wins less:
// one attempt fails, and the resolver asks the next server. Unbound decides
// alike. "Fragmentation needed" is the exception: it says nothing that matters
// here, and anybody on the path of an earlier packet has reason to send it.
func (a *attempt) udp(ctx context.Context) (exchange.Response, detour, error) {
	q, sent, err := a.send(ctx)
	if err != nil {
		return exchange.Response{}, noDetour, err
	}
	s := &a.scratch.socket
	defer s.close()
	s.wakeAfter(ctx, sent, a.req.Timeout)
	r, d, err := a.await(s, q)
	rtt := time.Since(sent)
	switch {
	case errors.Is(err, errStrays):
		a.client.count.gaveUp.Add(1)
		return exchange.Response{}, noDetour, a.error("receive", err)
	case err != nil:
		return exchange.Response{}, noDetour, a.fail(ctx, "receive", err)
	case d != noDetour:
		a.client.count.nearMisses.Add(1)
		return exchange.Response{}, d, nil
	}
	if a.tapped() {
		a.tapResponse(r.msg, sent, rtt)
	}
	if truncated(r.msg) {
		a.client.count.truncated.Add(1)
		return exchange.Response{}, isTruncated, nil
	}
	a.learn(&q, &r)
	if d := a.aboutCookie(&q, &r); d != noDetour {
		return exchange.Response{}, d, nil
	}
	resp, err := a.answer(&r, rtt)
	return resp, noDetour, err
}

// send draws port and ID and sends the query from there. A port that is taken
// is drawn again; the kernel is not asked to choose one, as it would from half
// of the range, and by rules of its own.
func (a *attempt) send(ctx context.Context) (q query, sent time.Time, err error) {
	s := &a.scratch.socket
	p, err := a.client.pollers.get()
	if err != nil {
		return q, sent, a.fail(ctx, "make poller", err)
	}
	for range maxPortDraws {
		port, id := a.client.draw()
		op, err := s.open(p, a.req.Server, port)
		if op == "bind" && errors.Is(err, syscall.EADDRINUSE) {
			a.client.count.portTaken.Add(1)
			continue
		}
		if err != nil {
			return q, sent, a.fail(ctx, op, err)
		}
		q = a.scratch.build(a.draft(id, s.localAddr))
		sent = time.Now()
		if op, err := s.send(q.msg); err != nil {
			return q, sent, a.fail(ctx, op, err)
		}
		if s.watched {
			a.client.count.reused.Add(1)
		}
		a.sends++
		a.client.count.sent[wire.UDP][a.family()].Add(1)
		if a.tapped() {
			a.asker = netip.AddrPortFrom(s.localAddr(), port)
			a.tapQuery(q.msg, sent)
		}
		return q, sent, nil
	}
	return q, sent, a.fail(ctx, "bind", ErrNoPort)
}

// receiver is what await waits on: a [socket], but in tests.
type receiver interface {
	// receive returns the length of a datagram, of which buf gets what fits,
	// and whether it came from the server.
	receive(buf []byte) (n int, fromServer bool, err error)
}

// await returns the reply to q, in the attempt's memory. Up to maxStrays
// datagrams that are no reply to it do not end the wait: the next one may be.
// But one that is too near to a reply for comfort does, with a detour.
func (a *attempt) await(from receiver, q query) (reply, detour, error) {
	in := a.scratch.in[:q.limit+1]
	for range 1 + maxStrays {
		n, fromServer, err := from.receive(in)
		if errors.Is(err, syscall.EMSGSIZE) { // RFC 9715 §3.1
			a.client.count.icmp.Add(1)
			continue
		}
		if err != nil {
			return reply{}, noDetour, err
		}
		a.took(n)
		a.client.count.received.Add(1)
		var r reply
		var v verdict
		switch {
		case !fromServer:
			v = wrongSource
		case n > q.limit:
			v = tooLong
		default:
			r, v = a.consider(&q, in[:n])
		}
		if v == matches {
			return r, noDetour, nil
		}
		a.client.count.dropped[v].Add(1)
		if d := a.suspect(&q, v, in[:min(n, len(in))]); d != noDetour {
			return reply{}, d, nil
		}
	}
	return reply{}, noDetour, errStrays
}

// consider judges msg, which came from the server's address over UDP.
func (a *attempt) consider(q *query, msg []byte) (reply, verdict) {
	v := q.judge(msg)
	if v != matches || truncated(msg) { // what is truncated is asked over TCP, and may end anywhere
		return reply{msg: msg}, v
	}
	r := q.read(msg)
	switch {
	case r.proof == proven:
		return r, matches // whatever the spelling: nobody can guess 64 bits
	case r.proof == disproven:
		return r, wrongCookie
	case q.cookie != nil && (a.known.cookie.length > 0 || r.rcode() == badCookie):
		return r, noCookie
	case r.respelled && !a.lenient:
		return r, wrongSpelling
	}
	return r, matches
}

// suspect says whether msg, dropped for the reason v, is reason to go on over
// TCP. A server that changes the spelling, or has ceased to send cookies, would
// never be heard otherwise, so these two always are.
func (a *attempt) suspect(q *query, v verdict, msg []byte) detour {
	switch {
	case v == wrongSpelling:
		return isRespelled
	case v == noCookie:
		return isDoubtful
	case a.client.opt.TCPOnMismatch && q.near(v, msg):
		return isDoubtful
	}
	return noDetour
}

// aboutCookie says whether the reply r to q, from which all was learned, is only
// about the cookie in q.
func (a *attempt) aboutCookie(q *query, r *reply) detour {
	if q.cookie == nil || r.malformed != nil {
		return noDetour
	}
	switch rcode := r.rcode(); {
	case rcode == badCookie && r.proof == proven:
		a.client.count.badCookies.Add(1)
		return wantsCookie
	case rcode == formErr && r.proof == noProof:
		return shunsCookie
	}
	return noDetour
}
