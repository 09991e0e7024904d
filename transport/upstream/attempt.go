package upstream

import (
	"context"
	"crypto/rand"
	"errors"
	"net/netip"
	"time"

	"shirube/internal/exchange"
	"shirube/internal/wire"
)

// formErr is wire's, for short.
const formErr = wire.FormErr

// attempt is the state of one exchange: of its attempts over UDP, and then of
// those over TCP.
type attempt struct {
	client  *Client
	req     exchange.Request
	scratch *scratch
	known   server        // what is remembered of the server
	now     int64         // when the exchange, or what of it needs to know, began, in Unix nanoseconds
	octets  int           // received so far
	age     time.Duration // of the answer, where it was kept on its way
	sends   int           // queries sent so far

	localTCP netip.Addr // of ours, of the connection

	asker netip.AddrPort // where the last query was sent from, if the tap wants to know

	overTCP    bool // which of the two it is
	to         peer // with overTCP: who is asked
	way        way  // that was tried before
	refused    bool // the server answered there, as one that is no authority
	cookieless bool // send no cookie
	plain      bool // send no option that a server may fail on
	lenient    bool // take a reply in another spelling
}

// detour is why a reply over UDP is not the end of an exchange.
type detour uint8

// The detours, with what follows.
const (
	noDetour    detour = iota
	isTruncated        // TC: over TCP (RFC 7766 §5)
	isDoubtful         // may be forged: over TCP
	isRespelled        // alike, or the server changes spellings: over TCP
	wantsCookie        // BADCOOKIE: again with the new one, then over TCP (RFC 7873 §5.3)
	shunsCookie        // FORMERR, perhaps because of the cookie: again without
)

// ask runs the attempts of the exchange: the first, and those that there is a
// reason for, three more at most.
func (a *attempt) ask(ctx context.Context) (exchange.Response, error) {
	if resp, err, done := a.encrypted(ctx); done {
		return resp, err
	}
	resp, err := a.openly(ctx)
	if a.refused && err == nil && !refuses(resp.Msg) {
		a.strike(ctx, a.way, nil)
	}
	return resp, err
}

// openly runs the attempts as the request has them.
func (a *attempt) openly(ctx context.Context) (exchange.Response, error) {
	if a.req.TCP || a.req.TLS != nil {
		return a.tcp(ctx, peerOf(&a.req))
	}
	if a.known.verifyAt != 0 && a.known.verifyAt <= a.now && a.cookied() {
		resp, err := a.tcp(ctx, peerOf(&a.req))
		if !a.noTCP(ctx, err) {
			return resp, err
		}
		a.verifyLater(a.now + int64(oddityLife))
		a.cookieless = true
	}
	resp, d, err := a.udp(ctx)
	if d == wantsCookie || d == shunsCookie {
		resp, d, err = a.again(ctx, d)
	}
	if d == noDetour {
		return resp, err
	}
	resp, err = a.tcp(ctx, peerOf(&a.req))
	if d == isRespelled && a.noTCP(ctx, err) {
		return a.leniently(ctx, err)
	}
	return resp, err
}

// again asks once more over UDP, with or without a cookie as d says.
//
// When a server answers only without a cookie, either it fails on cookies, or
// the FORMERR was forged. That is to be told apart before anything is
// remembered, by the next question, over TCP.
func (a *attempt) again(ctx context.Context, d detour) (exchange.Response, detour, error) {
	if d == wantsCookie {
		a.known = a.client.servers.get(a.req.Server, a.now)
		return a.udp(ctx)
	}
	a.client.count.withoutCookie.Add(1)
	a.cookieless = true
	resp, d, err := a.udp(ctx)
	if d == noDetour && err == nil && wire.Rcode(resp.Msg.Rcode) != formErr && a.known.verifyAt == 0 {
		a.verifyLater(a.now)
	}
	return resp, d, err
}

// leniently asks a server that answers in another spelling, and not over TCP,
// where err came of it, once more over UDP.
//
// Whoever forged the reply in another spelling had the port and the ID right.
// With the next ones drawn anew, who is not on the path would have to guess both
// again. But one who is lucky twice must not have the spelling given up for all
// questions to come, so nothing is remembered.
func (a *attempt) leniently(ctx context.Context, err error) (exchange.Response, error) {
	a.client.count.respelled.Add(1)
	a.overTCP, a.lenient = false, true
	resp, d, errUDP := a.udp(ctx)
	if d != noDetour {
		return exchange.Response{}, err
	}
	return resp, errUDP
}

// noTCP reports whether err, of an attempt over TCP, means that the server
// cannot be asked over TCP, or not now.
func (a *attempt) noTCP(ctx context.Context, err error) bool {
	if err == nil || ended(ctx) != nil {
		return false
	}
	switch kindOf(err) {
	case refused, unreachable, closed:
		return true
	case otherFailure, untrusted, exhausted, numFailures:
	}
	return errors.Is(err, exchange.ErrTimeout)
}

// draft returns what the next query is made of. It is sent from the address
// that local returns, which is called only if that matters.
func (a *attempt) draft(id uint16, local func() netip.Addr) draft {
	d := draft{req: &a.req, id: id, ednsSize: a.client.opt.EDNSSize}
	spelled := a.client.opt.CaseRandomisation && !a.over().Encrypted() && a.known.foldsTil <= a.now
	cookied := a.cookied()
	if !spelled && !cookied {
		return d
	}
	s := a.scratch
	rand.Read(s.random[:]) // never fails
	if spelled {
		d.spelling = appendSpelling(s.spelling[:0], a.req.Question.Name, s.random[clientCookieLen:])
	}
	if cookied {
		a.client.count.cookiesSent.Add(1)
		d.cookie = append(s.cookie[:0], s.random[:clientCookieLen]...)
		if c := &a.known.cookie; c.length > 0 && c.fits(local(), a.now) {
			d.cookie = c.appendTo(s.cookie[:0])
		}
	}
	return d
}

// over returns the transport of the attempt that is under way, or of the last.
func (a *attempt) over() wire.Proto {
	if a.overTCP {
		return a.to.over
	}
	return wire.UDP
}

// cookied reports whether the next query is sent with a cookie. Encrypted, it would
// only tell the server who asks.
func (a *attempt) cookied() bool {
	return a.client.opt.Cookies && !a.over().Encrypted() && !a.req.Bare && !a.plain && !a.cookieless && a.known.shunsTil <= a.now
}

// answer returns the response that r is.
func (a *attempt) answer(r *reply, rtt time.Duration) (exchange.Response, error) {
	if r.malformed == nil {
		respell(r.msg, a.req.Question.Name)
	}
	m, err := unpack(r.msg, r.malformed)
	if err != nil {
		return exchange.Response{}, a.malformed(err)
	}
	unspell(m)
	if a.age > 0 {
		grow(m, a.age)
	}
	a.client.count.answers.Add(1)
	if a.overTCP {
		a.client.count.rttTCP.Observe(rtt)
	} else {
		a.client.count.rttUDP.Observe(rtt)
	}
	return exchange.Response{Msg: m, RTT: rtt, TCP: a.overTCP, Cookie: r.proof == proven}, nil
}
