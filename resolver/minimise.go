package resolver

import (
	"context"
	"time"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// Minimisation is how much of a name is shown to servers that need not know it
// (RFC 9156).
type Minimisation uint8

// The modes.
const (
	Relaxed Minimisation = iota // the full name is shown to servers that fail on a shorter one
	Strict                      // never
	Off                         // the full name is always shown
)

// The limits of RFC 9156 §2.3.
const (
	maxMinimiseCount = 10
	minimiseOneLab   = 4
)

// minimiser decides how many labels of a name to show next.
type minimiser struct {
	mode  Minimisation
	shown int // labels known to exist, or shown last
	steps int // minimised questions asked
	full  bool
}

// next returns the question to ask on the way to q. A shortened one is of type
// A, which every server knows (RFC 9156 §2.1).
func (m *minimiser) next(q wire.Question) wire.Question {
	labels := q.Name.Labels()
	left := labels - m.shown
	if m.mode == Off || m.full || left <= 1 || m.steps >= maxMinimiseCount {
		return q
	}
	step := 1
	if m.steps >= minimiseOneLab { // the rest in equal parts, the last ones larger (RFC 9156 §2.3)
		step = max(1, left/(maxMinimiseCount-m.steps))
	}
	m.steps++
	m.shown += step
	// Names like _25._tcp are not zones of somebody else: they are shown as one
	// (RFC 9156 §2.3).
	for m.shown < labels && underscored(q.Name.Tail(m.shown)) && underscored(q.Name.Tail(m.shown+1)) {
		m.shown++
	}
	if m.shown >= labels {
		return q
	}
	return wire.Question{Name: q.Name.Tail(m.shown), Type: wire.TypeA}
}

// underscored reports whether the first label of n, which is not the root,
// begins with an underscore (RFC 8552 §1.1).
func underscored(n wire.Name) bool { return n[1] == '_' }

// relax shows the full name from now on, if the mode allows it: servers exist
// that answer NXDOMAIN or an error for an empty non-terminal (RFC 9156 §2.2).
func (m *minimiser) relax() bool {
	if m.mode != Relaxed || m.full {
		return false
	}
	m.full = true
	return true
}

// unasked takes back that the question that next returned last was asked.
func (m *minimiser) unasked() { m.steps-- }

// askStep asks ask, one step on the way to q. What is already known about the
// name of a minimised question is not asked again, and what its answer says is
// remembered: the way to the next name below it is shorter, and it may be what
// a client wants to know (Unbound looks into its cache at each step too).
func (r *Resolver) askStep(ctx context.Context, ask, q wire.Question, at authority, m *minimiser, w *work) (*reply, error) {
	if ask == q {
		return r.askPatiently(ctx, ask, at, w)
	}
	if rep, ok := r.recall(ask, time.Time{}, rrset.Unchecked); ok && knows(rep, at.cut.Zone) && !r.unprovenEnd(rep, m) {
		m.unasked()
		r.stats.unasked.Add(1)
		return rep, nil
	}
	rep, err := r.askPatiently(ctx, ask, at, w)
	if err == nil && at.failed == nil { // else it is not this zone's word
		r.learn(ask, rep)
	}
	return rep, err
}

// unprovenEnd reports whether rep, from memory, would end the way to all names
// below it because nothing is there (RFC 8020 §2), and nobody has looked whether
// that is so: who forges it once must not have it said for as long as he likes.
func (r *Resolver) unprovenEnd(rep *reply, m *minimiser) bool {
	return r.opt.Anchors != nil && m.mode == Strict && rep.Rcode == wire.NXDomain && rep.trust() < rrset.Insecure
}

// knows reports whether rep, about a name below zone, says that there is no cut
// between the two. A denial says which zone denies. Data does not say where it
// is from: below the root and top-level zones it is from another zone, most
// likely, whose cut has been forgotten, and to ask for that shows them less of
// the name. Elsewhere it is from a zone further down at the same servers, which
// never refer to it, and so is the denial of such a zone.
func knows(rep *reply, zone wire.Name) bool {
	if rep.Verdict != Negative {
		return zone.Labels() > 1
	}
	if len(rep.Denial) == 0 || rep.Denial[0].Type != wire.TypeSOA {
		return false
	}
	denier := rep.Denial[0].Name
	return denier == zone || zone.Labels() > 1 && denier.Within(zone)
}
