package infra

import (
	"net/netip"
	"time"
)

// The figures of a family of addresses.
const (
	// Unrouted is how many servers of a family in a row, each another than the
	// last, have no route to them before the family is put last. Unanswered is
	// how many are silent, while the other family answers: the route may lead
	// nowhere.
	Unrouted   = 3
	Unanswered = 16
	// A family is put last for MinOut at first, and for twice as long each
	// further time, to MaxOut.
	MinOut = 30 * time.Second
	MaxOut = 10 * time.Minute
	// OutProbe is one in how many choices tries a family whose time has come.
	// One answer brings it back.
	OutProbe = 20
	// alive is how long ago an answer shows that the other family works.
	alive = 10 * time.Second
)

// family is what is known of IPv4 or of IPv6.
type family struct {
	unrouted, unanswered uint8      // servers in a row
	lastUnrouted, silent netip.Addr // the last ones of them
	heard                time.Time  // the last time that anything came
	backoff              time.Duration
	outUntil             time.Time // means nothing if backoff is 0
	turns                uint8     // choices since outUntil
}

var familyNames = [2]string{"IPv4", "IPv6"}

// familyOf returns the index of addr's family.
func familyOf(addr netip.Addr) int {
	if addr.Is4() || addr.Is4In6() {
		return 0
	}
	return 1
}

// lastFamily returns which families come last in this choice. It counts it, if
// there is something to choose.
func (t *Table) lastFamily(candidates []netip.AddrPort, now time.Time) (last [2]bool) {
	if t.families[0].backoff == 0 && t.families[1].backoff == 0 {
		return last
	}
	var has [2]bool
	for _, a := range candidates {
		has[familyOf(a.Addr())] = true
	}
	for i := range t.families {
		f := &t.families[i]
		if f.backoff == 0 {
			continue
		}
		last[i] = true
		if !pending(f.outUntil, now, MaxOut) && has[0] && has[1] {
			f.turns++
			last[i] = f.turns%OutProbe != 0
		}
	}
	return last
}

// reached records that something came from addr.
func (t *Table) reached(addr netip.Addr, now time.Time) {
	f := &t.families[familyOf(addr)]
	if f.backoff > 0 {
		t.log.Info("a family of addresses works again", "family", familyNames[familyOf(addr)])
	}
	*f = family{heard: now}
}

// unrouted records that there is no route to addr.
func (t *Table) unrouted(addr netip.Addr, now time.Time) {
	f := &t.families[familyOf(addr)]
	if addr == f.lastUnrouted && f.backoff == 0 {
		return
	}
	f.lastUnrouted = addr
	if f.unrouted = min(f.unrouted+1, Unrouted); f.unrouted == Unrouted {
		t.putLast(addr, "no route", now)
	}
}

// unanswered records that nothing came from addr.
func (t *Table) unanswered(addr netip.Addr, now time.Time) {
	f, other := &t.families[familyOf(addr)], &t.families[1-familyOf(addr)]
	if addr == f.silent && f.backoff == 0 {
		return
	}
	f.silent = addr
	f.unanswered = min(f.unanswered+1, Unanswered)
	if f.unanswered == Unanswered && other.backoff == 0 && now.Sub(other.heard) < alive {
		t.putLast(addr, "no answer", now)
	}
}

// putLast puts the family of addr behind the other one, unless it is there.
func (t *Table) putLast(addr netip.Addr, why string, now time.Time) {
	i := familyOf(addr)
	f := &t.families[i]
	if f.backoff > 0 && pending(f.outUntil, now, MaxOut) {
		return
	}
	if f.backoff == 0 {
		t.log.Warn("a family of addresses does not work: the other one goes first", "family", familyNames[i], "reason", why)
	}
	f.backoff = min(max(2*f.backoff, MinOut), MaxOut)
	f.outUntil = now.Add(f.backoff)
	f.turns = 0
	t.stats.FamilyOut[i]++
}
