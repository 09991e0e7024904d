package resolver

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// What is given in the additional section.
const (
	// maxAdditionalNames is how many names' addresses are given: as many as
	// name servers of a cut are used.
	maxAdditionalNames = maxServers

	// maxAdditionalAddrs is how many addresses of one name and type are given.
	// A name that has more is left out: a set is whole or useless.
	maxAdditionalAddrs = 16

	// additionalTime is how long an answer waits for what an alias of the kind
	// of SVCB stands for: less than the time in which a client asks again.
	additionalTime = 500 * time.Millisecond
)

// additional returns what a client is likely to ask for after ans, the answer
// to q, which rep is the end of: the addresses that came with an NS set, and
// what a client of SVCB needs. Of other types nothing, since memory has it too
// when it is asked for. An answer is not delayed or made worse by it: it comes
// from memory, but for the aliases that only SVCB has.
func (r *Resolver) additional(ctx context.Context, q wire.Question, rep *reply, ans *Answer, w *work) []rrset.Set {
	if rep.Verdict != Positive || len(rep.Sets) == 0 {
		return nil
	}
	var more []rrset.Set
	data := rep.Sets[len(rep.Sets)-1]
	switch q.Type {
	case wire.TypeNS:
		if more = rep.Beside; more == nil {
			more = r.recallAddresses(hostsOf(data), w)
		}
	case wire.TypeSVCB, wire.TypeHTTPS:
		more = r.services(ctx, q, data, w)
	}
	return dropBelow(more, ans.Trust)
}

// dropBelow returns the sets that may stand in an answer of the given trust: in
// one that is secure, no others, since many take AD for a word on all of it (RFC
// 4035 §3.2.3 has it speak of the answer and authority sections); in none, a set
// that is bogus.
func dropBelow(sets []rrset.Set, trust rrset.Trust) []rrset.Set {
	var kept []rrset.Set
	for _, s := range sets {
		if s.Trust != rrset.Bogus && (trust != rrset.Secure || s.Trust == rrset.Secure) {
			kept = append(kept, s)
		}
	}
	return kept
}

// hostsOf returns the names of the servers in an NS set.
func hostsOf(set rrset.Set) []wire.Name {
	var hosts []wire.Name
	for _, rr := range set.RRs {
		if host, ok := nameServer(rr); ok {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// recallAddresses returns the address sets of names that memory has.
func (r *Resolver) recallAddresses(names []wire.Name, w *work) []rrset.Set {
	var sets []rrset.Set
	for _, name := range names[:min(len(names), maxAdditionalNames)] {
		for _, typ := range [...]wire.Type{wire.TypeA, wire.TypeAAAA} {
			s, ok := r.opt.Memory.Set(name, typ)
			if ok && s.Denial == nil && s.Trust >= r.least(w) && s.Until.After(w.outlive()) && len(s.RRs) <= maxAdditionalAddrs {
				sets = appendNew(sets, []rrset.Set{s})
			}
		}
	}
	return sets
}

// services returns what the client of a set of SVCB or HTTPS records needs
// besides it (RFC 9460 §4.2): in AliasMode what the alias stands for, else the
// addresses of the targets.
func (r *Resolver) services(ctx context.Context, q wire.Question, set rrset.Set, w *work) []rrset.Set {
	var aliases, targets []wire.Name
	for _, rr := range set.RRs {
		svcb, ok := serviceOf(rr)
		if !ok {
			continue
		}
		target, err := wire.ParseName(svcb.Target)
		switch {
		case err != nil:
		case svcb.Priority == 0 && target != wire.Root: // RFC 9460 §2.5.1: the root says that there is no service
			aliases = append(aliases, target)
		case svcb.Priority != 0 && target == wire.Root: // RFC 9460 §2.5.2: the owner itself
			targets = append(targets, set.Name)
		case svcb.Priority != 0:
			targets = append(targets, target)
		}
	}
	if len(aliases) == 0 {
		return r.recallAddresses(targets, w)
	}
	q.Name = aliases[rand.IntN(len(aliases))] // RFC 9460 §2.4.1: any of them
	return r.serviceAlias(ctx, q, w)
}

// serviceOf returns the SVCB record in rr.
func serviceOf(rr dns.RR) (*dns.SVCB, bool) {
	switch rr := rr.(type) {
	case *dns.SVCB:
		return rr, true
	case *dns.HTTPS:
		return &rr.SVCB, true
	}
	return nil, false // one that makes no sense to us
}

// serviceAlias resolves q, which an alias leads to, and returns all that came of
// it; nothing when it fails, which is no failure of what was asked (RFC 9460
// §4.2). It counts as one of the aliases of the client's question, so that no
// chain is endless, and as a resolution within one, which cannot be a loop (RFC
// 9460 §2.4.2).
func (r *Resolver) serviceAlias(ctx context.Context, q wire.Question, w *work) []rrset.Set {
	if w.aliases >= w.limits.Aliases {
		return nil
	}
	w.aliases++
	within := w.within
	w.within = len(w.path) // the client is given it, so it is validated like what he asked for
	defer func() { w.within = within }()
	ctx, cancel := context.WithTimeout(ctx, additionalTime)
	defer cancel()
	ans, err := r.resolve(ctx, q, w)
	if err != nil || ans.NoCache { // what q was answered with is kept
		return nil
	}
	if n := len(ans.Records); n > 0 && ans.Records[n-1].Type == q.Type {
		return appendNew(ans.Records, ans.Additional)
	}
	return r.recallAddresses([]wire.Name{q.Name}, w)
}

// beside returns the addresses in the additional section of the servers that
// an NS set names.
func (rd *reading) beside(set rrset.Set) []rrset.Set {
	hosts := hostsOf(set)
	var sets []rrset.Set
	for _, host := range hosts[:min(len(hosts), maxAdditionalNames)] {
		for _, typ := range [...]wire.Type{wire.TypeA, wire.TypeAAAA} {
			s, ok := rd.set(rd.additional, host, typ, rrset.Additional)
			if ok && len(s.RRs) <= maxAdditionalAddrs {
				sets = appendNew(sets, []rrset.Set{s})
			}
		}
	}
	return sets
}
