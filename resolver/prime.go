package resolver

import (
	"context"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// primeAgain is how long to leave the root alone after a failed priming.
const primeAgain = 10 * time.Second

// Prime asks the root for its servers, so that the hints are needed no more
// (RFC 9609). It is done by whoever first needs it; to call it at start saves
// the first client the wait. When the servers of the root are configured there
// is nothing to ask.
func (r *Resolver) Prime(ctx context.Context) error {
	if r.zones[wire.Root] != nil {
		return nil
	}
	w := &work{limits: r.opt.Limits}
	if !r.prime(ctx, w) {
		return ede.Errorf(ede.NoReachableAuthority, "no server of the root hints answered")
	}
	return nil
}

// primed returns the root's cut: from memory, from the root, or from the hints
// while another question is asking or when the root does not answer.
func (r *Resolver) primed(ctx context.Context, w *work) *rrset.Cut {
	if !r.opt.NoPriming && time.Now().UnixNano() >= r.primeAt.Load() && r.prime(ctx, w) {
		if cut := r.opt.Memory.Cut(wire.Root); cut != nil {
			return cut
		}
	}
	return &r.root
}

// prime asks the servers of the hints. One caller at a time does it.
func (r *Resolver) prime(ctx context.Context, w *work) bool {
	if !r.priming.CompareAndSwap(false, true) {
		return false
	}
	defer r.priming.Store(false)
	q := wire.Question{Name: wire.Root, Type: wire.TypeNS} // RFC 9609 §3.1
	if err := w.enter(q); err != nil {
		return false
	}
	defer w.leave()
	rep, err := r.askZone(ctx, q, authority{cut: &r.root}, w)
	if err != nil || rep.Verdict != Positive {
		r.primeAt.Store(time.Now().Add(primeAgain).UnixNano())
		return false
	}
	cut := r.rootCut(rep)
	if cut == nil {
		r.primeAt.Store(time.Now().Add(primeAgain).UnixNano())
		return false
	}
	r.opt.Memory.PutCut(cut)
	r.learn(q, reply{Verdict: Positive, Sets: rep.Sets})
	r.stats.primings.Add(1)
	return true
}

// rootCut makes a cut of the root's NS set. Addresses come with it (RFC 9609
// §4.2); for a server without one, the hints' serve on.
func (r *Resolver) rootCut(rep reply) *rrset.Cut {
	set := rep.Sets[len(rep.Sets)-1]
	cut := &rrset.Cut{Zone: wire.Root, Until: set.Until}
	usable := false
	for _, rr := range set.RRs {
		ns, ok := rr.(*dns.NS)
		if !ok || len(cut.Servers) == maxServers {
			continue
		}
		host, err := wire.ParseName(ns.Ns)
		if err != nil {
			continue
		}
		srv := rrset.Server{Host: host, Addrs: rep.Glue[host]}
		if srv.Addrs == nil {
			srv.Addrs = r.hinted(host)
		}
		for _, a := range srv.Addrs {
			usable = usable || r.usable(a)
		}
		cut.Servers = append(cut.Servers, srv)
	}
	if !usable {
		return nil
	}
	return cut
}

// hinted returns the addresses of host in the hints.
func (r *Resolver) hinted(host wire.Name) []netip.Addr {
	for _, s := range r.root.Servers {
		if s.Host == host {
			return s.Addrs
		}
	}
	return nil
}
