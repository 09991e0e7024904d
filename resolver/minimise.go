package resolver

import "shirube/internal/wire"

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
