package announce

import (
	"slices"
	"time"
)

// Reason is why an address is announced as it is.
type Reason uint8

// The reasons, those that count more behind.
const (
	Unknown  Reason = iota // it has not been asked often enough
	Well                   // it is answered on, over each transport
	Cut                    // it is, and the Internet cannot be asked
	NotReady               // the resolver says so, or nothing at all
	Silent                 // it is not answered on, over some transport
	Leaving                // the resolver drains
	Disabled               // the operator wants it
	Ending                 // the announcer ends
)

// String returns the word for r in logs and metrics.
func (r Reason) String() string {
	return [...]string{"unknown", "well", "cut_off", "not_ready", "silent", "resolver_drains", "disabled", "announcer_ends"}[r]
}

// wanted reports whether r is somebody's wish: then nothing keeps an address.
func (r Reason) wanted() bool { return r >= Leaving }

// condition is what a check has come to.
type condition uint8

const (
	undecided condition = iota
	up
	down
)

// check judges by several answers in a row, so that one lost packet moves no route.
type check struct {
	condition condition
	good, bad int // in a row; one of them is 0
}

// saw takes one more outcome into account.
func (c *check) saw(ok bool, rise, fall int) {
	if ok {
		c.good, c.bad = min(c.good+1, rise), 0
	} else {
		c.good, c.bad = 0, min(c.bad+1, fall)
	}
	switch {
	case c.good == rise:
		c.condition = up
	case c.bad == fall:
		c.condition = down
	}
}

// The codes of internal/health that make a difference here.
const (
	codeDraining = "draining"
	codeStopping = "stopping"
	codeNoRoot   = "no_root"
)

// leaving reports whether the resolver says that it is about to go.
func (r *Readiness) leaving() bool {
	return slices.Contains(r.Causes, codeDraining) || slices.Contains(r.Causes, codeStopping)
}

// cutOff reports whether the resolver says that nothing is wrong but the Internet.
func (r *Readiness) cutOff() bool {
	return len(r.Causes) > 0 && !slices.ContainsFunc(r.Causes, func(c string) bool { return c != codeNoRoot })
}

// judge says how an address is.
func (a *Announcer) judge(v *vip) Reason {
	all := conditions(v.transports)
	ready, canaries := up, up
	if a.opt.Ready != nil {
		ready = a.ready.condition
	}
	if len(a.opt.Probes.Canaries) > 0 {
		canaries = v.canaries.condition
	}
	switch {
	case a.ending:
		return Ending
	case a.disabled():
		return Disabled
	case a.opt.Ready != nil && a.last.leaving():
		return Leaving
	case ready == down && a.last.cutOff():
		// Its health name is answered with an error then: that is no other fault.
		return Cut
	case all == down:
		return Silent
	case ready == down:
		return NotReady
	case canaries == down:
		return Cut
	case all == undecided || ready == undecided || canaries == undecided:
		return Unknown
	}
	return Well
}

// conditions returns the worst one.
func conditions(checks []check) condition {
	worst := up
	for _, c := range checks {
		switch c.condition {
		case down:
			return down
		case undecided:
			worst = undecided
		}
	}
	return worst
}

// decide brings v up to date.
func (a *Announcer) decide(v *vip, now time.Time) {
	before := v.reason
	v.reason = a.judge(v)
	if !v.reason.wanted() && v.reason != Unknown {
		v.leaving = time.Time{}
	}
	v.left = v.left && v.reason != Well
	how := a.verdict(v, now)
	if how != v.how || v.reason != before {
		a.opt.Log.Info("announcement", "address", v.conf.Addr, "is", how, "was", v.how, "because", v.reason)
	}
	a.set(v, how)
}

// set changes how v is announced.
func (a *Announcer) set(v *vip, how How) {
	if how != v.how {
		v.how = how
		v.changes++
	}
}

// verdict says how an address is to be announced, for the reason that it has.
func (a *Announcer) verdict(v *vip, now time.Time) How {
	switch {
	case v.reason == Well:
		return Announced
	case v.reason.wanted() || v.reason == Unknown && !v.leaving.IsZero():
		return a.farewell(v, now) // also while nobody knows whether it comes back
	case v.reason == Unknown || v.left:
		return Withdrawn
	case len(a.members) > 0:
		if a.others(v) < a.opt.Fleet.Needed {
			return LastResort
		}
		return Withdrawn
	case v.reason == Cut && a.opt.Fleet.Keep:
		return LastResort
	}
	return Withdrawn
}

// farewell announces with GRACEFUL_SHUTDOWN for a while (RFC 8326 §4), then not.
func (a *Announcer) farewell(v *vip, now time.Time) How {
	if v.how == Withdrawn {
		v.left = true
		return Withdrawn
	}
	if v.leaving.IsZero() {
		v.leaving = now
	}
	if now.Sub(v.leaving) < a.opt.Drain.Graceful {
		return Draining
	}
	v.left = true
	return Withdrawn
}

// others returns how many of the rest of the fleet may be well. One that was not
// asked often enough yet may be: a node that has just started is not the last. One
// whose last answer was bad may not be, even if it is not down yet: what strikes
// all at once is noticed here before the address would be withdrawn.
func (a *Announcer) others(v *vip) int {
	n := 0
	for _, m := range a.members {
		if m.target.At.Addr().Is4() != v.conf.Addr.Is4() {
			continue
		}
		if m.check.condition == undecided || m.check.condition == up && m.last {
			n++
		}
	}
	return n
}
