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
	left := q.Name.Labels() - m.shown
	if m.mode == Off || m.full || left <= 1 || m.steps >= maxMinimiseCount {
		return q
	}
	step := 1
	if m.steps >= minimiseOneLab { // the rest in equal parts (RFC 9156 §2.3)
		parts := maxMinimiseCount - m.steps
		step = (left + parts - 1) / parts
	}
	m.steps++
	if m.shown += step; step == left {
		return q
	}
	return wire.Question{Name: q.Name.Tail(m.shown), Type: wire.TypeA}
}

// relax shows the full name from now on, if the mode allows it: servers exist
// that answer NXDOMAIN or an error for an empty non-terminal (RFC 9156 §2.2).
func (m *minimiser) relax() bool {
	if m.mode != Relaxed || m.full {
		return false
	}
	m.full = true
	return true
}
