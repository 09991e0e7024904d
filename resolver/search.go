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
	"shirube/internal/rrset"
	"shirube/internal/wire"
	"shirube/resolver/infra"
)

// search is the way through the servers of one zone for one question. It
// belongs to one goroutine.
type search struct {
	authority
	avoid    []netip.Addr // servers not to ask
	tries    []try
	glueless []wire.Name   // servers whose addresses are not known yet, in random order
	looked   int           // of them looked up
	apex     []wire.Name   // servers that the zone itself named in passing
	resorts  int           // last resorts taken
	reasons  []string      // why servers were of no help, the first few
	fallback *reply        // what a server of no help may have meant
	network  bool          // no server was reached at all so far
	heard    bool          // anything came from any server
	unasked  bool          // this machine could not ask a server
	crowded  error         // nor find its address, because of others' questions
	silences int           // questions to which nothing came
	asking   time.Time     // since when the last one is asked
	waited   time.Duration // for servers that were of no help, all in all
	ended    bool          // there is no server left to ask
	probe    bool          // to find out whether the zone is still dead
	begun    time.Time
	looped   bool // a server's address depends on itself
	shared   bool // what was found last, others look at too
}

// try is what was done with one server.
type try struct {
	ZoneServer
	sends int
	done  bool // asking it again is of no use
}

// maxReasons bounds the EXTRA-TEXT of an error.
const maxReasons = 4

// search begins the search through the servers of a zone, except those to
// avoid.
func (r *Resolver) search(at authority, avoid []netip.Addr) *search {
	return r.searchWith(new(search), at, avoid, r.opt.Clock.Now())
}

// searchWith is search in s, which is empty, at now.
func (r *Resolver) searchWith(s *search, at authority, avoid []netip.Addr, now time.Time) *search {
	*s = search{authority: at, avoid: avoid, network: true, begun: now, tries: s.tries}
	if at.conf != nil {
		for _, srv := range at.conf.Servers {
			if !slices.Contains(avoid, srv.Addr.Addr()) {
				s.tries = append(s.tries, try{ZoneServer: srv})
			}
		}
		for _, host := range at.conf.Hosts {
			r.offer(s, rrset.Server{Host: host.Name})
		}
		return s
	}
	s.tries = slices.Grow(s.tries, min(len(at.cut.Servers), maxServers))
	var order [maxServers]*rrset.Server
	servers := order[:0]
	for i := range at.cut.Servers {
		servers = append(servers, &at.cut.Servers[i])
	}
	rand.Shuffle(len(servers), func(i, j int) { servers[i], servers[j] = servers[j], servers[i] })
	for _, srv := range servers {
		if len(s.tries)+len(s.glueless) >= maxServers*maxAddrs {
			break
		}
		r.offer(s, *srv)
	}
	return s
}

// offer adds srv to those who may be asked, or to those who have to be looked
// up first. The glue of another zone's referral saves the look-up, as long as
// somebody answers there.
func (r *Resolver) offer(s *search, srv rrset.Server) {
	if found := r.knownAddrs(srv); len(found) > 0 {
		s.add(found, r.reach(srv.Host, s.authority))
		return
	}
	if r.needsItself(srv.Host, s.authority) {
		return // only glue could have said
	}
	s.add(r.parentsGlue(srv.Host), r.reach(srv.Host, s.authority))
	s.glueless = append(s.glueless, srv.Host)
}

// knownAddrs returns the addresses of srv that may be asked: the parent's
// glue, else what was looked up before. They are not to be changed.
func (r *Resolver) knownAddrs(srv rrset.Server) []netip.Addr {
	addrs := srv.Addrs
	if addrs == nil {
		for _, typ := range r.families() {
			addrs = r.opt.Memory.AppendAddrs(addrs, srv.Host, typ)
		}
	}
	unusable := func(a netip.Addr) bool { return !r.usable(a) }
	if slices.ContainsFunc(addrs, unusable) {
		addrs = slices.DeleteFunc(slices.Clone(addrs), unusable)
	}
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
		known := slices.ContainsFunc(s.tries, func(t try) bool { return t.Addr == like.Addr })
		if !known && !slices.Contains(s.avoid, a) {
			s.tries = append(s.tries, try{ZoneServer: like})
		}
	}
}

// patience is how long to wait for a server at least, by how often it was asked
// the question before. Who asks again has asked everybody else, and has nothing
// to gain from haste: a server may be slow for once.
var patience = [maxSends]time.Duration{0, infra.FirstTimeout, 4 * infra.FirstTimeout}

// pick returns the index of the server to ask next, among those asked least,
// and how; -1 when there is none. It is not the one at except.
func (r *Resolver) pick(s *search, except int) (int, infra.Hint) {
	most := maxSends
	if s.probe {
		most = 1
	}
	least, full := most, s.asked() >= maxAsked
	for i, t := range s.tries {
		if !t.done && i != except && (t.sends > 0 || !full) {
			least = min(least, t.sends)
		}
	}
	// As many as are used of a cut, but for configured zones.
	index, addrs := make([]int, 0, maxServers), make([]netip.AddrPort, 0, maxServers)
	for i, t := range s.tries {
		if !t.done && i != except && t.sends == least && least < most && (t.sends > 0 || !full) {
			index, addrs = append(index, i), append(addrs, t.Addr)
		}
	}
	if len(addrs) == 0 {
		return -1, infra.Hint{}
	}
	i, how := r.infra.Choose(s.cut.Zone, addrs, r.opt.Clock.Now())
	how.Timeout = max(how.Timeout, patience[least])
	if s.probe {
		how.Timeout = min(how.Timeout, probeWait)
	}
	return index[i], how
}

// asked returns how many servers have been.
func (s *search) asked() (n int) {
	for _, t := range s.tries {
		if t.sends > 0 {
			n++
		}
	}
	return n
}

// another reports whether there is a server to ask besides the one at first.
func (s *search) another(first int) bool {
	for i, t := range s.tries {
		if i != first && !t.done && t.sends < maxSends {
			return true
		}
	}
	return false
}

// fresh reports whether the server at addr is one to ask next.
func (s *search) fresh(addr netip.AddrPort) bool {
	for _, t := range s.tries {
		if t.Addr == addr {
			return !t.done && t.sends < maxSends
		}
	}
	return false
}

// addrs returns the addresses of the servers that may be asked.
func (s *search) addrs() []netip.AddrPort {
	out := make([]netip.AddrPort, len(s.tries))
	for i, t := range s.tries {
		out[i] = t.Addr
	}
	return out
}

// mark takes into account what was found out about a server of no help.
func (s *search) mark(a *asked) {
	s.heard = s.heard || a.heard
	s.unasked = s.unasked || !a.heard && !a.silent
	s.network = s.network && a.unreached
	if a.silent {
		s.silences++
	}
	for i := range s.tries {
		if t := &s.tries[i]; t.Addr == a.server.Addr {
			t.sends += a.resent
			t.done = t.done || !a.again
		}
	}
	if a.rep.Why != "" {
		s.note(a.server.Addr.Addr().String() + " " + a.rep.Why)
	}
	if s.fallback == nil {
		s.fallback = a.rep.Fallback
	}
}

// findAddress looks up the addresses of one more server without glue. It
// reports whether there is now a server that was not asked yet.
func (r *Resolver) findAddress(ctx context.Context, s *search, w *work) bool {
	for len(s.glueless) > 0 && s.looked < maxGlueless && s.asked() < maxAsked {
		host := s.glueless[0]
		s.glueless = s.glueless[1:]
		s.looked++
		before := len(s.tries)
		for _, typ := range r.families() {
			sent := w.sent()
			if !w.lookup() || ctx.Err() != nil {
				return false
			}
			r.stats.lookups.Add(1)
			w.tellStep(StepLookup, wire.Question{Name: host, Type: typ}, s.cut.Zone)
			ans, err := r.resolve(ctx, wire.Question{Name: host, Type: typ}, w)
			if err != nil {
				if errors.Is(err, ErrCrowded) {
					s.unasked, s.crowded = true, err
				}
				s.looped = s.looped || errors.Is(err, errLoop)
				s.note(fmt.Sprintf("%v: no address", host))
				s.add(r.parentsGlue(host), r.reach(host, s.authority))
			} else {
				s.add(r.addresses(ans), r.reach(host, s.authority))
			}
			if len(s.tries) > before {
				return true // the other family is not needed
			}
			if w.sent() > sent {
				w.barren++
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

// note remembers why a server was of no help.
func (s *search) note(reason string) {
	if len(s.reasons) < maxReasons {
		s.reasons = append(s.reasons, reason)
	}
}

// rest returns what is left when no server said anything better.
func (s *search) rest() (*reply, error) {
	if s.fallback != nil {
		own := *s.fallback // who shared its flight looks at it too
		return &own, nil
	}
	if s.crowded != nil && len(s.tries) == 0 {
		return nil, s.crowded
	}
	return nil, s.failure()
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
	var cause error
	if s.looped && len(s.tries) == 0 {
		cause = errLoop
	}
	return ede.Wrap(cause, code, "no server of %v answered: %s", s.cut.Zone, strings.Join(s.reasons, ", "))
}
