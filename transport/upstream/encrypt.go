package upstream

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/exchange"
	"shirube/internal/wire"
)

// What RFC 9539 §4.3 suggests.
const (
	// persistence is for how long a server that answered encrypted is asked so.
	persistence = 3 * 24 * time.Hour

	// damping is for how long one that did not is left alone.
	damping = 24 * time.Hour

	// probeTimeout is how long a connection may take to be made.
	probeTimeout = 4 * time.Second
)

// The limits on encrypted transports of authorities.
const (
	// maxProbes is how many servers are tried at once, each over one transport. For
	// one more it is put off until the next question.
	maxProbes = 64

	// maxStrikes is how often in a row a server may fail to answer encrypted, and
	// shake hands well enough, before it is taken for one that has not the
	// transport.
	maxStrikes = 2

	// refreshEvery is how often at most it is noted that a server still answers.
	refreshEvery = int64(time.Minute)
)

// Opportunistic says over which transports authorities are asked, where they are
// seen to have one, although nobody proves who they are (RFC 9539). It protects
// from who listens, not from who stands between.
type Opportunistic struct {
	DoT, DoQ bool

	Port  uint16 // of both transports; by default 853
	Clear uint16 // of the servers that are asked at Port too; by default 53
}

// any reports whether there is a transport to be tried.
func (o *Opportunistic) any() bool { return o.DoT || o.DoQ }

// way is a transport that a server may have besides.
type way uint8

// The ways, the one before first: QUIC shakes hands in one round trip.
const (
	wayQUIC way = iota
	wayTLS
	numWays // how many there are
)

// wayProtos are the transports.
var wayProtos = [numWays]wire.Proto{wayQUIC: wire.DoQ, wayTLS: wire.DoT}

// wayStatus is what is known of a server and a way (RFC 9539 §4.5).
type wayStatus uint8

// The statuses.
const (
	untried wayStatus = iota
	probed            // a connection is being made
	works             // the last query was answered, or the last probe
	fails
)

// wayState is a status with its age.
type wayState struct {
	status  wayStatus
	strikes uint8 // queries that were not answered since the last that was
	since   int64 // in Unix nanoseconds
}

// good reports whether a question at now is to go that way.
func (w *wayState) good(now int64) bool {
	return w.status == works && now-w.since < int64(persistence)
}

// due reports whether a connection is to be tried at now.
func (w *wayState) due(now int64) bool {
	switch age := time.Duration(now - w.since); w.status {
	case untried:
		return true
	case probed:
		return age > 2*probeTimeout // it was forgotten, or the clock was set
	case works:
		return age >= persistence
	case fails:
		return age >= damping
	}
	return false
}

// wants reports whether the way is to be tried.
func (o *Opportunistic) wants(w way) bool { return o.DoT && w == wayTLS || o.DoQ && w == wayQUIC }

// at returns the server at addr as it is asked over w.
func (o *Opportunistic) at(addr netip.Addr, w way) peer {
	return peer{addr: netip.AddrPortFrom(addr, o.Port), over: wayProtos[w], anybody: true}
}

// encrypted asks over an encrypted transport if the server is known to have one,
// and reports whether that was all there is to do. Otherwise it has one looked
// for meanwhile: nothing waits for that (RFC 9539 §4.6.1).
func (a *attempt) encrypted(ctx context.Context) (resp exchange.Response, err error, done bool) { //nolint:revive // done says what the others mean
	o := &a.client.opt.Opportunistic
	if !o.any() || a.req.TLS != nil || a.req.RD || a.req.Server.Port() != o.Clear {
		return resp, nil, false
	}
	w, ok := a.goodWay()
	if !ok {
		a.lookForWays()
		return resp, nil, false
	}
	resp, err = a.tcp(ctx, o.at(a.req.Server.Addr(), w))
	if err == nil && !refuses(resp.Msg) {
		a.confirm(w)
		return resp, nil, true
	}
	if err != nil {
		a.strike(ctx, w, err)
	}
	if ended := ended(ctx); ended != nil {
		return exchange.Response{}, ended, true
	}
	a.fallBack(w, err == nil)
	return resp, nil, false
}

// fallBack has the question asked in the clear, at once (RFC 9539 §4.6.6).
func (a *attempt) fallBack(from way, refused bool) {
	a.client.count.encryptedFellBack.Add(1)
	a.overTCP, a.plain, a.way, a.refused = false, false, from, refused
}

// lookForWays has each way tried that is to be.
func (a *attempt) lookForWays() {
	for w := range numWays {
		if a.client.opt.Opportunistic.wants(w) && a.known.ways[w].due(a.now) {
			a.client.probe(a.req.Server, w, a.now)
		}
	}
}

// goodWay returns the way to ask that is known to work. Over TCP only is not over
// QUIC.
func (a *attempt) goodWay() (way, bool) {
	for w := range numWays {
		if a.client.opt.Opportunistic.wants(w) && a.known.ways[w].good(a.now) && (w != wayQUIC || !a.req.TCP) {
			return w, true
		}
	}
	return 0, false
}

// refuses reports whether m says that who was asked is no authority. It may be
// the resolver of the same machine.
func refuses(m *dns.Msg) bool {
	switch wire.Rcode(m.Rcode) {
	case wire.Refused, wire.ServFail, wire.NotImp, wire.FormErr:
		return true
	}
	return m.RecursionAvailable && !m.Authoritative && len(m.Answer) > 0
}

// confirm notes that the server answered over w.
func (a *attempt) confirm(w way) {
	a.client.count.encryptedAnswers.Add(1)
	if known := &a.known.ways[w]; known.strikes == 0 && a.now-known.since < refreshEvery {
		return
	}
	a.remember(func(s *server) {
		if s.ways[w].status == works {
			s.ways[w] = wayState{status: works, since: a.now}
		}
	})
}

// strike notes that the server did not answer over w because of err, or said there
// what it does not say in the clear. Questions that were under way together count
// once.
func (a *attempt) strike(ctx context.Context, w way, err error) {
	if errors.Is(err, ErrBusy) || errors.Is(err, ErrClosed) || err != nil && ctx.Err() != nil && a.sends > 0 {
		return // it says nothing of the server, or only that another one was faster
	}
	again := false
	a.remember(func(s *server) {
		state := &s.ways[w]
		if state.status != works || state.since > a.now {
			return
		}
		if state.strikes++; state.strikes < maxStrikes {
			state.status, again = untried, true
			return
		}
		a.client.count.encryptedGivenUp.Add(1)
		*state = wayState{status: fails, since: a.now}
	})
	if again {
		a.client.probe(a.req.Server, w, a.now)
	}
}

// probe begins to find out whether the server, in the clear at addr, can be asked
// over w, unless that is under way.
func (c *Client) probe(addr netip.AddrPort, w way, now int64) {
	if c.probing.Add(1) > maxProbes {
		c.probing.Add(-1)
		c.count.probesDeferred.Add(1)
		return
	}
	mine := false
	c.servers.update(addr, now, func(s *server) {
		if mine = s.ways[w].due(now); mine {
			s.ways[w].status, s.ways[w].since = probed, now
		}
	})
	// Owner: the pool. End: that of the connection, made or not, in probeTimeout at
	// the latest. Bound: maxProbes. Excess: put off.
	if !mine || !c.pool.tend(func() { c.find(addr, w) }) {
		c.probing.Add(-1)
	}
}

// find makes a connection to the server, in the clear at addr, over w, which then
// is there for the next question.
func (c *Client) find(addr netip.AddrPort, w way) {
	defer c.probing.Add(-1)
	c.count.probes.Add(1)
	ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
	defer cancel()
	conn, _, err := c.pool.acquire(ctx, c.opt.Opportunistic.at(addr.Addr(), w), false, nil)
	status := works
	switch {
	case err == nil:
		c.count.probesWorked.Add(1)
		c.pool.leave(conn)
	case errors.Is(err, ErrBusy), errors.Is(err, ErrClosed), kindOf(err) == exhausted:
		c.count.probesDeferred.Add(1)
		status = untried
	default:
		c.count.probesFailed.Add(1)
		status = fails
	}
	now := time.Now().UnixNano()
	c.servers.update(addr, now, func(s *server) { s.ways[w].status, s.ways[w].since = status, now })
}

// tend runs f as one of the pool's goroutines, unless that is closed.
func (p *pool) tend(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.running.Go(f)
	return true
}

// leave gives back a place on c on which nothing was asked.
func (p *pool) leave(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.release(c)
}
