package resolver

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"time"

	"shirube/internal/ede"
	"shirube/internal/exchange"
	"shirube/internal/wire"
	"shirube/resolver/infra"
)

// askZone asks the servers of a zone, unless it is known that none answers.
func (r *Resolver) askZone(ctx context.Context, q wire.Question, at authority, w *work) (*reply, error) {
	if rep, ok := r.askLocalRoot(q, at, w); ok {
		return rep, nil
	}
	return r.searchZone(ctx, q, at, nil, w)
}

// searchZone goes on with the search s through the servers of at, or begins
// one if it is nil.
func (r *Resolver) searchZone(ctx context.Context, q wire.Question, at authority, s *search, w *work) (*reply, error) {
	if err := r.crowd(at); err != nil {
		return nil, err
	}
	defer r.disperse(at)
	now := r.opt.Clock.Now()
	probe, err := r.dead.admit(zoneKey{at.cut.Zone, at.conf}, now)
	if err != nil {
		return nil, err
	}
	own := s == nil
	if own {
		s = r.searchWith(w.takeSearch(), at, w.avoid, now)
	}
	s.probe = probe
	w.tellZone(q, s)
	r.findHosts(ctx, s, w)
	rep, err := r.askServers(ctx, q, s, w)
	if err == nil {
		rep.NoCache = at.conf != nil && at.conf.NoCache
	}
	r.conclude(q, s, w, err)
	if own {
		w.returnSearch(s)
	}
	return rep, err
}

// askServers asks the servers of s, the likeliest first, until one of them
// says something useful (steps 3 and 4d). A server that does not answer is
// asked again when all others were, at most three times.
func (r *Resolver) askServers(ctx context.Context, q wire.Question, s *search, w *work) (*reply, error) {
	for {
		i, how := r.pick(s, -1)
		if w.pauses(s, i) {
			return nil, errPaused
		}
		if (i < 0 || s.tries[i].sends > 0) && r.findAddress(ctx, s, w) {
			continue // a server not asked yet is better than one that was
		}
		if (i < 0 || s.tries[i].sends > 0) && r.lastResort(ctx, s, w) {
			continue
		}
		s.ended = i < 0
		if i < 0 || ctx.Err() != nil {
			return s.rest()
		}
		if s.keys { // now that there is a server to ask
			s.keys = false
			r.askEarly(ctx, s.authority, w)
		}
		rep, err := r.askNext(ctx, i, how, q, s, w)
		switch {
		case err != nil && ctx.Err() != nil:
			s.note(s.tries[i].Addr.Addr().String() + " did not answer in the time left")
			s.network = false
			return s.rest()
		case err != nil:
			return nil, err
		case rep != nil:
			s.heard = true
			r.rememberApex(s.authority, rep)
			return s.own(rep), nil
		}
		if s.silences > 0 && !s.heard && !s.probe { // what others found out meanwhile
			if s.probe, err = r.dead.admit(zoneKey{s.cut.Zone, s.conf}, r.opt.Clock.Now()); err != nil {
				return nil, err
			}
		}
	}
}

// own returns rep, which was found last, for the caller alone.
func (s *search) own(rep *reply) *reply {
	if !s.shared {
		return rep
	}
	own := *rep
	return &own
}

// askNext asks the server at index i, and whom fly asks with it. It returns
// the answer of one, which is not to be changed, or nil when all were marked as
// of no help.
func (r *Resolver) askNext(ctx context.Context, i int, how infra.Hint, q wire.Question, s *search, w *work) (*reply, error) {
	s.asking = time.Now()
	found, err := r.fly(ctx, i, how, q, s, w)
	var rep *reply
	if err == nil {
		rep, err = s.take(found)
		w.returnAsked(found, s.shared)
	}
	if rep == nil {
		s.waited += time.Since(s.asking)
	}
	return rep, err
}

// take returns the answer in found; nil: there is none, and who was asked is marked.
func (s *search) take(found []*asked) (*reply, error) {
	for n := range found {
		if found[n].useful() {
			return found[n].rep, nil
		}
	}
	for n := range found {
		if found[n].err != nil {
			return nil, found[n].err
		}
		s.mark(found[n])
	}
	return nil, nil
}

// fly asks the server at index first, and another one if it is late, or shares
// what somebody else finds out who asks the same at the same time. An answer
// that is shared is paid for as if it had been asked for alone: what a
// question may cost does not depend on its company.
func (r *Resolver) fly(ctx context.Context, first int, how infra.Hint, q wire.Question, s *search, w *work) ([]*asked, error) {
	k := flightKey{zoneKey{s.cut.Zone, s.conf}, s.failed, q}
	fl, leads := r.flights.board(k, s.tries[first].Addr, s.fresh)
	if leads {
		found := r.askPair(ctx, first, how, q, s, w)
		s.shared = fl != nil && r.flights.land(k, fl, found)
		return found, nil
	}
	if err := w.spend(); err != nil {
		return nil, err
	}
	found, err := fl.wait(ctx)
	s.shared = false // each has its own
	for i := range s.tries {
		for _, a := range found {
			if s.tries[i].Addr == a.server.Addr {
				s.tries[i].sends++
			}
		}
	}
	for _, a := range found {
		if over := w.received(a.octets); over != nil {
			return nil, over
		}
	}
	return found, err
}

// asked is what was found out by asking one server.
type asked struct {
	server    ZoneServer
	zone      wire.Name // that it is asked for
	rep       *reply
	err       error // ends the whole search
	octets    int   // received
	resent    int   // queries sent after the first
	again     bool  // asking it again may be of use
	heard     bool  // anything came from it
	silent    bool  // nothing did
	unreached bool  // and nothing went there
}

// useful reports whether a ends the search with an answer.
func (a *asked) useful() bool { return a.err == nil && a.rep.Verdict != Lame }

// askServer asks one server, and tells infra how it behaved. What is found out
// is never kept on the stack, where it would be many times over while the
// network is waited for.
func (r *Resolver) askServer(ctx context.Context, server ZoneServer, how infra.Hint, q wire.Question, at authority, w *work) *asked {
	return r.askWith(ctx, new(asked), server, how, q, at, w)
}

// askWith is askServer, with what is found out in a.
func (r *Resolver) askWith(ctx context.Context, a *asked, server ZoneServer, how infra.Hint, q wire.Question, at authority, w *work) *asked {
	zone := at.cut.Zone
	a.server, a.zone = server, zone
	resp, err := r.exchange(ctx, a, how, q, w)
	if err == nil && !how.Bare && failsOnEDNS(resp) {
		how.Bare = true
		a.resent++
		proven := resp.TCP || resp.Cookie
		if resp, err = r.exchange(ctx, a, how, q, w); err == nil && !failsOnEDNS(resp) {
			r.infra.Bare(server.Addr, zone, proven, r.opt.Clock.Now())
		}
	}
	if err != nil {
		r.failed(ctx, a, err, zone, r.opt.Clock.Now())
		return a
	}
	r.heard(a, resp, how, q, at, w)
	return a
}

// heard judges resp, which came from a's server, and tells infra.
func (r *Resolver) heard(a *asked, resp exchange.Response, how infra.Hint, q wire.Question, at authority, w *work) {
	zone, now := at.cut.Zone, r.opt.Clock.Now()
	a.heard = true
	a.rep = r.judge(resp.Msg, q, at, now)
	a.rep.said(zone, a.server.Addr)
	w.tellVerdict(StepVerdict, q, a.rep)
	if a.rep.Verdict == Lame && (!a.server.recurse || a.rep.Rcode != wire.ServFail) { // which is of the name, not of the forwarder
		r.infra.Failed(a.server.Addr, zone, infra.Lame, now)
		return
	}
	r.infra.Answered(a.server.Addr, zone, resp.RTT, now)
	if how.TCP {
		r.infra.TCPOnly(a.server.Addr, zone)
	}
}

// failed draws the conclusions from an exchange that ended in err.
func (r *Resolver) failed(ctx context.Context, a *asked, err error, zone wire.Name, now time.Time) {
	if fatal(ctx, err) {
		a.err = err
		return
	}
	cause, blame := causeOf(err)
	if !blame {
		a.again = true // it is this machine's fault
		a.rep = lame(0, "could not be asked")
		return
	}
	r.infra.Failed(a.server.Addr, zone, cause, now)
	a.rep = lame(0, causeText[cause])
	a.again = cause == infra.Timeout
	a.heard = cause == infra.Malformed
	a.silent = !a.heard
	a.unreached = cause == infra.Unreachable || cause == infra.NoRoute
}

// failsOnEDNS reports whether resp is what servers that do not know EDNS say
// to it (RFC 6891 §7; BADVERS to version 0 makes no more sense).
func failsOnEDNS(resp exchange.Response) bool {
	switch wire.Rcode(resp.Msg.Rcode) {
	case wire.FormErr, wire.NotImp, wire.BadVers:
		return true
	}
	return false
}

// exchange sends one query, and pays for it.
func (r *Resolver) exchange(ctx context.Context, a *asked, how infra.Hint, q wire.Question, w *work) (exchange.Response, error) {
	if err := w.spend(); err != nil {
		return exchange.Response{}, err
	}
	r.stats.queries.Add(1)
	r.hedges.earn()
	req := exchange.Request{
		Server:   a.server.Addr,
		Question: q,
		Zone:     a.zone,
		Timeout:  how.Timeout,
		Bare:     how.Bare,
		TCP:      a.server.TCP || how.TCP,
		TLS:      a.server.TLS,
		RD:       a.server.recurse,
		CD:       a.server.recurse && r.opt.Anchors != nil, // RFC 6840 §5.9
	}
	resp, err := r.opt.Exchanger.Exchange(ctx, req)
	w.tellQuery(&req, &resp, err)
	a.octets += resp.Size
	w.resent(resp.Resent)
	r.stats.queries.Add(uint64(resp.Resent))
	if over := w.received(resp.Size); over != nil {
		return exchange.Response{}, over
	}
	return resp, err
}

// fatal reports whether err ends the whole search, not only the exchange.
func fatal(ctx context.Context, err error) bool {
	_, budget := errors.AsType[*ede.Error](err)
	return budget || ctx.Err() != nil
}

var causeText = [...]string{
	infra.Timeout: "timed out", infra.Unreachable: "unreachable", infra.NoRoute: "no route", infra.Malformed: "answered malformed",
}

// causeOf says how the exchange that ended in err failed, and whether the way
// to the server is to blame: that this machine is out of ports says nothing
// about servers.
func causeOf(err error) (cause infra.Cause, blame bool) {
	if errors.Is(err, exchange.ErrTimeout) {
		return infra.Timeout, true
	}
	if errors.Is(err, exchange.ErrMalformed) {
		return infra.Malformed, true
	}
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return infra.Unreachable, true
	}
	errno, _ := errors.AsType[syscall.Errno](err)
	switch errno {
	case syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT:
		return infra.NoRoute, true
	case syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, syscall.EHOSTDOWN, syscall.EPERM, syscall.EACCES:
		return infra.Unreachable, true
	}
	return 0, false
}
