package anchor

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"shirube/internal/wire"
)

// How long a negative anchor that is added while the server runs may last (RFC
// 7646 §2: it should be short-lived, and no longer than a week).
const (
	DefaultNegative = time.Hour
	MaxNegative     = 7 * 24 * time.Hour
)

// Negative is a negative trust anchor: what is at and below Name is answered
// without being validated, although it would be (RFC 7646).
type Negative struct {
	Name   wire.Name
	Until  time.Time
	Reason string // for people

	added bool // while the server ran, and not by its configuration
}

// AddNegative adds a negative anchor for so long, 0 being [DefaultNegative], in
// place of the one that the name may have. What memory holds of the names below
// is not validated anew by this: the caller has to forget it.
func (a *Anchors) AddNegative(name wire.Name, lasts time.Duration, reason string) (Negative, error) {
	lasts = cmp.Or(lasts, DefaultNegative)
	if lasts < 0 || lasts > MaxNegative {
		return Negative{}, fmt.Errorf("anchor: a negative trust anchor for %v; expected at most %v (RFC 7646 §2)", lasts, MaxNegative)
	}
	if name == "" {
		return Negative{}, fmt.Errorf("anchor: a negative trust anchor without a name")
	}
	now := a.opt.Clock.Now()
	n := Negative{Name: name, Until: now.Add(lasts), Reason: reason, added: true}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.purge(now)
	if _, there := a.negatives[name]; !there && len(a.negatives) >= MaxNegatives {
		return Negative{}, fmt.Errorf("anchor: there are %d negative trust anchors, which is the most there may be", MaxNegatives)
	}
	a.negatives[name] = n
	a.publish()
	a.opt.Log.Warn("not validating", "name", name.String(), "until", n.Until, "reason", reason)
	return n, nil
}

// RemoveNegative removes the negative anchor of name, and says whether there was
// one. What memory holds of the names below has not been validated: the caller
// has to forget it.
func (a *Anchors) RemoveNegative(name wire.Name) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	n, there := a.negatives[name]
	if !there {
		return false
	}
	delete(a.negatives, name)
	a.publish()
	live := a.opt.Clock.Now().Before(n.Until)
	if live {
		a.opt.Log.Info("validating again", "name", name.String())
	}
	return live
}

// Negatives returns the live negative anchors, sorted by name.
func (a *Anchors) Negatives() []Negative {
	now := a.opt.Clock.Now()
	var live []Negative
	for _, n := range a.current.Load().negatives {
		if now.Before(n.Until) {
			live = append(live, n)
		}
	}
	slices.SortFunc(live, func(x, y Negative) int { return cmp.Compare(x.Name.String(), y.Name.String()) })
	return live
}

// NegativeUntil returns when the negative anchor of name ends; the zero time if
// there is none.
func (a *Anchors) NegativeUntil(name wire.Name) time.Time {
	return a.current.Load().negatives[name].Until
}

// addedNegatives returns the negative anchors that live at now and were added
// while the server ran. a may be nil.
func (a *Anchors) addedNegatives(now time.Time) []Negative {
	if a == nil {
		return nil
	}
	var added []Negative
	for _, n := range a.current.Load().negatives {
		if n.added && now.Before(n.Until) {
			added = append(added, n)
		}
	}
	return added
}

// purge forgets what has expired. The caller holds mu.
func (a *Anchors) purge(now time.Time) {
	for name, n := range a.negatives {
		if !now.Before(n.Until) {
			delete(a.negatives, name)
		}
	}
}
