package upstream

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"

	"shirube/internal/exchange"
	"shirube/internal/wire"
)

// streams is a connection on which each query has a stream for itself: of HTTP/2
// or QUIC. It may be used by many at once.
type streams interface {
	// ask sends a query and returns what came back, and for how long somebody had
	// kept that. It ends with ctx.
	ask(ctx context.Context, query []byte) (msg []byte, age time.Duration, err error)
	ended() <-chan struct{} // closed when no more queries are taken
	local() netip.AddrPort
	close()
}

// close closes a connection that nothing was asked on.
func (l link) close() {
	if l.streams != nil {
		l.streams.close()
		return
	}
	l.nc.Close()
}

// attend closes c, whose queries have streams, when it is idle, or has ended.
func (c *conn) attend(s streams) {
	p, ended := c.line.pool, s.ended()
	defer s.close()
	for {
		select {
		case <-ended:
			ended = nil
			p.retire(c)
		case <-c.made.wake.C:
			if !p.inUse(c) {
				return
			}
		}
	}
}

// retire has c take no new queries, and end with those that are on it.
func (p *pool) retire(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.drain()
	if c.taken == 0 {
		p.remove(c, io.EOF)
	}
}

// callStream is call for a connection with streams.
func (a *attempt) callStream(ctx context.Context, c *conn, until time.Time) (cl *call, rtt time.Duration, err error) {
	p, s := a.client.pool, c.made.streams
	p.begin(c)
	heard := p.heardOn(c)
	// The ID is 0, so that all who ask the same send the same (RFC 8484 §4.1, RFC
	// 9250 §4.2.1). What matches is on the query's own stream.
	cl = &call{q: a.scratch.build(draft{req: &a.req, ednsSize: a.client.opt.EDNSSize, padded: true})}
	limited, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	sent := time.Now()
	a.sends++
	a.client.count.sent[a.to.over][a.family()].Add(1)
	if a.tapped() {
		a.asker = s.local()
		a.tapQuery(cl.q.msg, sent)
	}
	cl.msg, a.age, err = s.ask(limited, cl.q.msg)
	rtt = time.Since(sent)
	cl.size = len(cl.msg)
	a.client.count.octets.Add(uint64(cl.size))
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case limited.Err() != nil && err != nil:
		err = os.ErrDeadlineExceeded
	case err == nil:
		err = a.judgeStream(cl)
	}
	if err == nil && a.tapped() {
		a.tapResponse(cl.msg, sent, rtt)
	}
	cl.shared = p.conclude(c, heard, err)
	return cl, rtt, err
}

// judgeStream says whether cl was answered.
func (a *attempt) judgeStream(cl *call) error {
	n := &a.client.count
	n.received.Add(1)
	if v := cl.q.judge(cl.msg); v != matches {
		n.dropped[v].Add(1)
		return errOtherAnswer
	}
	return nil
}

// heardOn returns how many answers came on c.
func (p *pool) heardOn(c *conn) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return c.heard
}

// conclude gives back the place of a query that ended in err, and reports whether
// others were sent on c. Where nothing came in the meantime, nothing may come any
// more, whatever the reason to wait no longer: c gets no new queries then.
func (p *pool) conclude(c *conn, heard int, err error) (shared bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err == nil:
		c.heard++
	case c.heard == heard:
		c.drain()
	}
	p.release(c)
	return c.asked > 1
}

// readAnswer reads from r a message that nothing follows, and that is as long as
// DNS allows at most. Memory is claimed as octets arrive.
func readAnswer(r io.Reader) ([]byte, error) {
	msg, err := io.ReadAll(io.LimitReader(r, wire.MaxMsgSize+1))
	switch {
	case err != nil:
		return nil, err
	case len(msg) > wire.MaxMsgSize:
		return nil, fmt.Errorf("%w: more than %d octets", exchange.ErrMalformed, wire.MaxMsgSize)
	}
	return msg, nil
}
