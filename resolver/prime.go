package resolver

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// primeAgain is how long to leave the root alone after a failed priming.
const primeAgain = 10 * time.Second

// errPriming says that somebody else is asking the root already.
var errPriming = errors.New("the root is being asked for its servers")

// Prime asks the root for its servers, so that the hints are needed no more
// (RFC 9609). It is done by whoever first needs it; to call it at start saves
// the first client the wait. That somebody else is doing it is no error.
func (r *Resolver) Prime(ctx context.Context) error {
	err := r.prime(ctx, &work{limits: r.opt.Limits})
	if errors.Is(err, errPriming) {
		return nil
	}
	return err
}

// primed returns the root's cut: from memory, from the root, or from the hints
// while another question is asking or when the root does not answer.
func (r *Resolver) primed(ctx context.Context, w *work) *rrset.Cut {
	if !r.opt.NoPriming && !within(r.opt.Clock.Now(), time.Unix(0, r.primeAt.Load()), primeAgain) && r.prime(ctx, w) == nil {
		if cut := r.opt.Memory.Cut(wire.Root); cut != nil {
			return cut
		}
	}
	return &r.root
}

// prime asks the servers of the hints. One caller at a time does it.
func (r *Resolver) prime(ctx context.Context, w *work) error {
	if !r.priming.CompareAndSwap(false, true) {
		return errPriming
	}
	defer r.priming.Store(false)
	q := wire.Question{Name: wire.Root, Type: wire.TypeNS} // RFC 9609 §3.1
	if err := w.enter(q); err != nil {
		return err
	}
	defer w.leave()
	cut, rep, err := r.askRoot(ctx, q, w)
	if err != nil {
		r.primeAt.Store(r.opt.Clock.Now().Add(primeAgain).UnixNano())
		return err
	}
	r.opt.Memory.PutCut(cut)
	r.learn(q, &reply{Verdict: Positive, Sets: rep.Sets})
	r.stats.primings.Add(1)
	return nil
}

// askRoot asks a server of the hints for the root's NS set.
func (r *Resolver) askRoot(ctx context.Context, q wire.Question, w *work) (*rrset.Cut, *reply, error) {
	// Not by askZone: that a server does not say who the root's servers are does
	// not mean that it knows nothing.
	at := authority{cut: &r.root}
	rep, ok := r.askLocalRoot(q, at, w)
	var err error
	if !ok {
		rep, err = r.askServers(ctx, q, r.search(at, nil), w)
	}
	if err != nil {
		return nil, nil, err
	}
	if rep.Verdict == Positive {
		cut := r.rootCut(rep)
		if cut == nil && r.findRoot(ctx, rep, w) {
			cut = r.rootCut(rep)
		}
		if cut != nil {
			return cut, rep, nil
		}
	}
	return nil, nil, ede.Errorf(ede.InvalidData, "the servers of the root hints name no root server that can be asked")
}

// rootCut makes a cut of the root's NS set. Addresses come with it (RFC 9609
// §4.2); for a server without one, the hints' serve on.
func (r *Resolver) rootCut(rep *reply) *rrset.Cut {
	set := rep.Sets[len(rep.Sets)-1]
	cut := &rrset.Cut{Zone: wire.Root, Until: set.Until}
	usable := false
	hosts := hostsOf(set)
	for _, host := range hosts[:min(len(hosts), maxServers)] {
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

// findRootTime is how long the look-up of root servers' addresses may take: the
// hints serve as well.
const findRootTime = time.Second

// findRoot asks the servers of the hints for the addresses of those that rep
// names, when none came with it (RFC 9609 §4.2). It reports whether it found
// any.
func (r *Resolver) findRoot(ctx context.Context, rep *reply, w *work) (found bool) {
	ctx, cancel := context.WithTimeout(ctx, findRootTime)
	defer cancel()
	hosts := hostsOf(rep.Sets[len(rep.Sets)-1])
	for _, host := range hosts[:min(len(hosts), maxGlueless)] {
		for _, typ := range r.families() {
			if rep.Glue[host] != nil || !w.lookup() {
				break
			}
			r.stats.lookups.Add(1)
			got, err := r.askZone(ctx, wire.Question{Name: host, Type: typ}, authority{cut: &r.root}, w)
			if err != nil || got.Verdict != Positive {
				continue
			}
			if addrs := r.addresses(&Answer{Records: got.Sets}); len(addrs) > 0 {
				rep.Glue[host], found = addrs, true
			}
		}
	}
	return found
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
