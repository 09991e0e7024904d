package resolver

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"shirube/dnssec"
	"shirube/internal/ede"
	"shirube/internal/wire"
)

// work is what one client question has cost so far, all that was resolved on
// its behalf included; nothing resets it (CVE-2026-50045). It is passed down by
// hand, never in a context: what bounds a resolution must be visible in its
// signature. It belongs to one goroutine. Others help to spend and receive: one
// while the first waits for a late server, and those that ask for keys early,
// each with an account of its own that this one pays for.
type work struct {
	limits  Limits
	until   time.Time     // see outlive
	fleet   time.Duration // to wait for the fleet
	lookups int
	barren  int  // look-ups that cost queries and brought no address
	refused bool // a look-up was
	aliases int
	path    []wire.Question // what is being resolved, outermost first
	first   [2]wire.Question
	within  int // of path: what the question is within whose answer the client is given
	trace   *trace
	cd      bool          // nothing is validated
	budget  dnssec.Budget // for validation
	avoid   []netip.Addr  // servers that gave bogus answers to what is asked now
	direct  bool          // the local copy of the root gave a bogus answer
	held    *reply        // the answer that is being validated, if it is for the keys of heldOf
	heldOf  wire.Name
	proving time.Time     // when the last computation began
	before  dnssec.Budget // that it had
	early   []*earlyKeys
	payer   *work     // pays too; nil: nobody
	counts  *counters // that its end is counted in
	desk    *desk     // it is of; nil: none

	returned bool // the resolution has

	mu          sync.Mutex
	queries     int
	lentQueries int // queries of those that this one pays for
	bytes       int
}

// work returns the account of q, at a desk of its own; see leaveDesk.
//
//go:noinline
func (r *Resolver) work(q Query) *work {
	d := r.takeDesk()
	w := &d.work
	*w = work{limits: r.opt.Limits, until: q.Until, fleet: q.Fleet, cd: q.CD, budget: *dnssec.NewBudget(), counts: &r.stats, desk: d}
	w.budget.Iterations = r.opt.NSEC3Iterations
	w.path = w.first[:0]
	if q.Record != nil {
		w.trace = &q.Record.trace
	}
	return w
}

// end ends what was done on behalf of a client's question, and counts what it has
// cost. The desk is the next one's, but not after a panic: somebody may be at it yet.
func (r *Resolver) end(w *work) {
	w.endEarly()
	if w.counts.ended(w); w.returned {
		r.leaveDesk(w)
	}
}

// proves records that a computation begins: not on the stack, which is deepest
// in one.
//
//go:noinline
func (w *work) proves() { w.proving, w.before = time.Now(), w.budget }

// spend pays for one query.
func (w *work) spend() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.queries+w.lentQueries >= w.limits.Queries || w.payer != nil && !w.payer.lend() {
		return ede.Errorf(ede.NoReachableAuthority, "more than %d queries needed for %v", w.limits.Queries, w.path[0].Name)
	}
	w.queries++
	return nil
}

// lend pays for one query of another account, if it can.
func (w *work) lend() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.queries+w.lentQueries >= w.limits.Queries {
		return false
	}
	w.lentQueries++
	return true
}

// lent pays for n queries that another account has sent.
func (w *work) lent(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lentQueries += n
}

// resent pays for n queries that the transport sent by itself: over TCP after a
// truncated answer, and for cookies. They are not refused, since they have been
// sent; what comes next is.
func (w *work) resent(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queries += n
	if w.payer != nil {
		w.payer.lent(n)
	}
}

// received pays for n octets.
func (w *work) received(n int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bytes += n
	if w.bytes > w.limits.Bytes || w.payer != nil && w.payer.received(n) != nil {
		return ede.Errorf(ede.NoReachableAuthority, "more than %d octets received for %v", w.limits.Bytes, w.path[0].Name)
	}
	return nil
}

// lookup pays for the resolution of a name server's address.
func (w *work) lookup() bool {
	if w.lookups >= w.limits.Lookups || w.barren >= w.limits.Barren {
		w.refused = true
		return false
	}
	w.lookups++
	return true
}

// sent returns how many queries were, those that are only paid for aside.
func (w *work) sent() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.queries
}

// spent reports whether nothing can be asked any more.
func (w *work) spent() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.queries+w.lentQueries >= w.limits.Queries || w.bytes > w.limits.Bytes
}

// short reports whether any of the means is used up, so that what fails now
// might not have failed with more of them.
func (w *work) short() bool {
	return w.spent() || w.refused || w.lookups >= w.limits.Lookups || w.aliases >= w.limits.Aliases
}

// enter records that q is being resolved. A question that needs its own answer
// is a loop of delegations (TsuNAME: Moura et al., IMC 2021).
func (w *work) enter(q wire.Question) error {
	if slices.Contains(w.path, q) {
		return ede.Wrap(errLoop, ede.NoReachableAuthority, "the servers of %v depend on themselves", q.Name)
	}
	if len(w.path) >= w.limits.Depth {
		return ede.Errorf(ede.NoReachableAuthority, "name servers' names nested deeper than %d", w.limits.Depth)
	}
	w.path = append(w.path, q)
	return nil
}

// leave records that the innermost question is done.
func (w *work) leave() { w.path = w.path[:len(w.path)-1] }

// outlive returns the time that remembered data has to live on after to be of
// use now. Only the answer itself is refreshed: what is resolved on its behalf
// is as good as ever.
func (w *work) outlive() time.Time {
	if len(w.path) > 1 {
		return time.Time{}
	}
	return w.until
}
