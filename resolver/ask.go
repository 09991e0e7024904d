package resolver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"time"

	"shirube/internal/ede"
	"shirube/internal/exchange"
	"shirube/internal/rrset"
	"shirube/internal/wire"
	"shirube/resolver/infra"
)

// search is the way through the servers of one zone for one question.
type search struct {
	authority
	tries    []try
	glueless []wire.Name // servers whose addresses are not known yet, in random order
	looked   int         // of them looked up
	reasons  []string    // why servers were of no help, the first few
	fallback *reply      // what a server of no help may have meant
	network  bool        // no server was reached at all so far
}

// try is what was done with one server.
type try struct {
	ZoneServer
	sends int
	done  bool // asking it again is of no use
}

// patience returns how long to wait for the answer to the next send, of which
// the server's history says timeout. Who asks again has asked everybody else,
// and has nothing to gain from haste: a server may be slow for once.
func (t *try) patience(timeout time.Duration) time.Duration {
	least := [maxSends]time.Duration{0, infra.FirstTimeout, 4 * infra.FirstTimeout}
	return max(timeout, least[min(t.sends, maxSends-1)])
}

// maxReasons bounds the EXTRA-TEXT of an error.
const maxReasons = 4

// askZone asks the servers of a zone, the likeliest first, until one of them
// says something useful (steps 3 and 4d). A server that does not answer is
// asked again when all others were, at most three times.
func (r *Resolver) askZone(ctx context.Context, q wire.Question, at authority, w *work) (reply, error) {
	s := r.search(at)
	for {
		t, hint := r.pick(s)
		if t == nil || t.sends > 0 { // a server not asked yet is better than one that was
			if r.findAddress(ctx, s, w) {
				continue
			}
		}
		if t == nil || ctx.Err() != nil {
			return s.rest()
		}
		rep, err := r.askServer(ctx, t, hint, q, s, w)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			s.note(t.Addr.Addr().String() + " did not answer in the time left")
			return s.rest()
		default:
			return reply{}, err
		}
		if rep.Verdict != Lame {
			return rep, nil
		}
	}
}

// search begins the search through the servers of a zone.
func (r *Resolver) search(at authority) *search {
	s := &search{authority: at, network: true}
	if at.conf != nil {
		for _, srv := range at.conf.Servers {
			s.tries = append(s.tries, try{ZoneServer: srv})
		}
		for _, host := range at.conf.Hosts {
			r.offer(s, rrset.Server{Host: host.Name})
		}
		return s
	}
	for _, i := range rand.Perm(len(at.cut.Servers)) {
		if len(s.tries)+len(s.glueless) >= maxServers*maxAddrs {
			break
		}
		r.offer(s, at.cut.Servers[i])
	}
	return s
}

// offer adds srv to those who may be asked, or to those who have to be looked
// up first.
func (r *Resolver) offer(s *search, srv rrset.Server) {
	if found := r.knownAddrs(srv); len(found) > 0 {
		s.add(found, r.reach(srv.Host, s.authority))
	} else if !r.needsItself(srv.Host, s.authority) { // else only glue could have said
		s.glueless = append(s.glueless, srv.Host)
	}
}

// knownAddrs returns the addresses of srv that may be asked: the parent's
// glue, else what was looked up before.
func (r *Resolver) knownAddrs(srv rrset.Server) []netip.Addr {
	addrs := slices.Clone(srv.Addrs)
	if addrs == nil {
		for _, typ := range r.families() {
			set, _ := r.opt.Memory.Set(srv.Host, typ)
			for _, rr := range set.RRs {
				if addr, ok := address(rr); ok {
					addrs = append(addrs, addr)
				}
			}
		}
	}
	addrs = slices.DeleteFunc(addrs, func(a netip.Addr) bool { return !r.usable(a) })
	return addrs[:min(len(addrs), maxAddrs)]
}

// families returns the types of address records that are of use.
func (r *Resolver) families() []wire.Type {
	switch {
	case r.opt.NoIPv6:
		return []wire.Type{wire.TypeA}
	case r.opt.NoIPv4:
		return []wire.Type{wire.TypeAAAA}
	}
	return []wire.Type{wire.TypeA, wire.TypeAAAA}
}

// add makes addrs candidates, each once: many names for one address are one
// server (CVE-2026-3592). They are asked as like is, but for its address.
func (s *search) add(addrs []netip.Addr, like ZoneServer) {
	for _, a := range addrs {
		like.Addr = netip.AddrPortFrom(a, like.Addr.Port())
		if !slices.ContainsFunc(s.tries, func(t try) bool { return t.Addr == like.Addr }) {
			s.tries = append(s.tries, try{ZoneServer: like})
		}
	}
}

// pick returns the server to ask next, among those asked least; nil when there
// is none.
func (r *Resolver) pick(s *search) (*try, infra.Hint) {
	least := maxSends
	for _, t := range s.tries {
		if !t.done {
			least = min(least, t.sends)
		}
	}
	var index []int
	var addrs []netip.AddrPort
	for i, t := range s.tries {
		if !t.done && t.sends == least && least < maxSends {
			index, addrs = append(index, i), append(addrs, t.Addr)
		}
	}
	if addrs == nil {
		return nil, infra.Hint{}
	}
	i, hint := r.infra.Choose(s.cut.Zone, addrs, time.Now())
	return &s.tries[index[i]], hint
}

// findAddress looks up the addresses of one more server without glue. It
// reports whether there is now a server that was not asked yet.
func (r *Resolver) findAddress(ctx context.Context, s *search, w *work) bool {
	for len(s.glueless) > 0 && s.looked < maxGlueless {
		host := s.glueless[0]
		s.glueless = s.glueless[1:]
		s.looked++
		before := len(s.tries)
		for _, typ := range r.families() {
			if !w.lookup() || ctx.Err() != nil {
				return false
			}
			r.stats.lookups.Add(1)
			ans, err := r.resolve(ctx, wire.Question{Name: host, Type: typ}, w)
			if err != nil {
				s.note(fmt.Sprintf("%v: no address", host))
				continue // the other family, or another server
			}
			s.add(r.addresses(ans), r.reach(host, s.authority))
			if len(s.tries) > before {
				return true // the other family is not needed
			}
		}
	}
	return false
}

// addresses returns the addresses in ans that may be asked.
func (r *Resolver) addresses(ans *Answer) []netip.Addr {
	var addrs []netip.Addr
	for _, set := range ans.Records {
		for _, rr := range set.RRs {
			if a, ok := address(rr); ok && r.usable(a) && len(addrs) < maxAddrs {
				addrs = append(addrs, a)
			}
		}
	}
	return addrs
}

// askServer asks one server. Its error ends the whole search; a server that is
// of no help is a Lame reply, and noted.
func (r *Resolver) askServer(ctx context.Context, t *try, hint infra.Hint, q wire.Question, s *search, w *work) (reply, error) {
	zone := s.cut.Zone
	resp, err := r.exchange(ctx, t, hint, q, w)
	if err == nil && !hint.Bare && failsOnEDNS(resp) {
		hint.Bare = true
		if resp, err = r.exchange(ctx, t, hint, q, w); err == nil && !failsOnEDNS(resp) {
			r.infra.Bare(t.Addr, zone)
		}
	}
	now := time.Now()
	if err != nil {
		if fatal(ctx, err) {
			return reply{}, err
		}
		cause := causeOf(err)
		r.infra.Failed(t.Addr, zone, cause, now)
		t.done = cause != infra.Timeout
		s.network = s.network && cause == infra.Unreachable
		s.note(fmt.Sprintf("%v %s", t.Addr.Addr(), causeText[cause]))
		return reply{Verdict: Lame}, nil
	}
	s.network = false
	rep := r.judge(resp.Msg, q, s.authority, now)
	if rep.Verdict == Lame {
		t.done = true
		if t.recurse && rep.Rcode == wire.ServFail { // of the name, not of the forwarder
			r.infra.Answered(t.Addr, zone, resp.RTT)
		} else {
			r.infra.Failed(t.Addr, zone, infra.Lame, now)
		}
		s.note(fmt.Sprintf("%v %s", t.Addr.Addr(), rep.Why))
		if s.fallback == nil {
			s.fallback = rep.Fallback
		}
		return rep, nil
	}
	r.infra.Answered(t.Addr, zone, resp.RTT)
	return rep, nil
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
func (r *Resolver) exchange(ctx context.Context, t *try, hint infra.Hint, q wire.Question, w *work) (exchange.Response, error) {
	if err := w.spend(); err != nil {
		return exchange.Response{}, err
	}
	timeout := t.patience(hint.Timeout)
	t.sends++
	r.stats.queries.Add(1)
	resp, err := r.opt.Exchanger.Exchange(ctx, exchange.Request{
		Server:   t.Addr,
		Question: q,
		Timeout:  timeout,
		Bare:     hint.Bare,
		TCP:      t.TCP,
		TLS:      t.TLS,
		RD:       t.recurse,
	})
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
	infra.Timeout: "timed out", infra.Unreachable: "unreachable", infra.Malformed: "answered malformed",
}

// causeOf says how the exchange that ended in err failed.
func causeOf(err error) infra.Cause {
	switch {
	case errors.Is(err, exchange.ErrTimeout):
		return infra.Timeout
	case errors.Is(err, exchange.ErrMalformed):
		return infra.Malformed
	}
	return infra.Unreachable
}

// note remembers why a server was of no help.
func (s *search) note(reason string) {
	if len(s.reasons) < maxReasons {
		s.reasons = append(s.reasons, reason)
	}
}

// rest returns what is left when no server said anything better.
func (s *search) rest() (reply, error) {
	if s.fallback != nil {
		return *s.fallback, nil
	}
	return reply{}, s.failure()
}

// failure says why no server of the zone helped.
func (s *search) failure() error {
	code := ede.NoReachableAuthority
	if s.network && len(s.tries) > 0 {
		code = ede.NetworkError
	}
	if len(s.reasons) == 0 {
		return ede.Errorf(code, "no server of %v has an address", s.cut.Zone)
	}
	return ede.Errorf(code, "no server of %v answered: %s", s.cut.Zone, strings.Join(s.reasons, ", "))
}
