package upstream

import (
	"context"
	"errors"
	"os"
	"time"

	"shirube/internal/exchange"
	"shirube/internal/wire"
)

// tcp asks on a connection to to. When the server fails on what can only be an
// option of ours, it asks once more without.
func (a *attempt) tcp(ctx context.Context, to peer) (exchange.Response, error) {
	a.overTCP, a.to = true, to
	cookied := a.cookied()
	resp, again, err := a.stream(ctx)
	if !again {
		return resp, err
	}
	a.client.count.withoutCookie.Add(1)
	a.plain = true
	resp, _, err = a.stream(ctx)
	if cookied && err == nil && wire.Rcode(resp.Msg.Rcode) != formErr {
		a.learnShuns()
	}
	return resp, err
}

// stream asks on one of the connections to the server, and reports whether to do
// so again without options. When a connection that others use too ends before
// the answer, a new one is tried, once (RFC 7766 §6.2.4).
func (a *attempt) stream(ctx context.Context) (resp exchange.Response, again bool, err error) {
	start := time.Now()
	limit, most := a.req.Timeout, a.client.opt.TCPTimeout
	if a.to.over.Encrypted() {
		limit *= 3 // round trips instead of one
	}
	if a.to.anybody { // there is another way to ask
		most = min(limit, most)
	}
	timer := time.NewTimer(min(limit, most))
	defer timer.Stop()
	for retried := false; ; retried = true {
		c, op, err := a.client.pool.acquire(ctx, a.to, retried && !a.to.streamed(), timer.C)
		if err != nil {
			return resp, false, a.fail(ctx, op, err)
		}
		until := start.Add(most)
		timer.Reset(time.Until(until))
		cl, rtt, err := a.callOn(ctx, c, timer.C, until)
		a.octets += cl.size
		switch {
		case err == nil:
			return a.acceptTCP(c, cl, rtt)
		case kindOf(err) == closed && cl.shared && !retried && ended(ctx) == nil:
			a.client.count.retried.Add(1)
		default:
			return resp, false, a.failTCP(ctx, err)
		}
	}
}

// failTCP counts err, of a call, and returns what to report for it.
func (a *attempt) failTCP(ctx context.Context, err error) error {
	if errors.Is(err, exchange.ErrMalformed) && ended(ctx) == nil {
		return a.malformed(err)
	}
	return a.fail(ctx, "receive", err)
}

// callOn is call, in the way of the connection.
func (a *attempt) callOn(ctx context.Context, c *conn, timer <-chan time.Time, until time.Time) (*call, time.Duration, error) {
	if c.made.streams != nil {
		return a.callStream(ctx, c, until)
	}
	return a.call(ctx, c, timer)
}

// call sends the query on c, where a place was taken, and waits for the answer
// until timer fires or ctx is done. The place is given back, and the call has
// the octets received with an error too.
func (a *attempt) call(ctx context.Context, c *conn, timer <-chan time.Time) (cl *call, rtt time.Duration, err error) {
	p := a.client.pool
	a.localTCP = c.made.local
	first := p.begin(c)
	cl = &call{done: make(chan struct{})}
	for ok := false; !ok; {
		_, id := a.client.draw()
		d := a.draft(id, a.local)
		d.keepalive = first && !a.req.Bare && !a.plain
		d.padded = a.to.over.Encrypted()
		cl.q = a.scratch.build(d)
		if ok, err = p.register(c, cl); err != nil {
			return cl, 0, err
		}
	}
	sent := time.Now()
	c.made.nc.SetWriteDeadline(sent.Add(a.client.opt.TCPTimeout)) //nolint:errcheck // then Write fails as well
	// Length and message in one segment (RFC 7766 §8).
	if _, err := c.made.nc.Write(a.scratch.out[:2+len(cl.q.msg)]); err != nil {
		p.lost(c, err)
	} else {
		a.sends++
		a.client.count.sent[wire.TCP][a.family()].Add(1)
		if a.tapped() {
			a.asker = tcpAsker(c.made.nc)
			a.tapQuery(cl.q.msg, sent)
		}
	}
	select {
	case <-cl.done:
		rtt = time.Since(sent)
		if cl.err == nil && a.tapped() {
			a.tapResponse(cl.msg, sent, rtt)
		}
		return cl, rtt, cl.err
	case <-ctx.Done():
		p.abandon(c, cl, c.line.peer.anybody) // who else may have been faster
		return cl, 0, ctx.Err()
	case <-timer:
		p.abandon(c, cl, true)
		return cl, 0, os.ErrDeadlineExceeded
	}
}

// acceptTCP returns the response that cl got on c, rtt after it was sent, or says
// that the server failed on an option of it.
func (a *attempt) acceptTCP(c *conn, cl *call, rtt time.Duration) (resp exchange.Response, again bool, err error) {
	if truncated(cl.msg) {
		return resp, false, a.malformed(errTCPTruncated)
	}
	q := &cl.q
	r := q.read(cl.msg)
	if d, ok := r.edns.keepAlive(); ok {
		a.client.pool.keepAlive(c, d)
	}
	if q.cookie != nil && r.malformed == nil && (r.proof == disproven || r.rcode() == badCookie || r.rcode() == formErr) {
		return resp, true, nil
	}
	a.learn(q, &r)
	a.learnFromTCP(q, &r)
	resp, err = a.answer(&r, rtt)
	return resp, false, err
}
