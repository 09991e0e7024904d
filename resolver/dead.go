package resolver

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"shirube/internal/ede"
	"shirube/internal/wire"
	"shirube/resolver/infra"
)

// The figures of dead zones (RFC 9520 §3.2: failures are remembered for one
// second at least and five minutes at most, each time for longer).
const (
	minDead = time.Second
	// minLost is the least for a zone none of whose servers has an address,
	// which takes more to find out (TsuNAME: one question in 5 s).
	minLost = 5 * time.Second
	// maxDead is well below the RFC's limit: when a network comes back, what
	// was not reached through it should too.
	maxDead = 10 * time.Second
	// maxLoop is the RFC's limit, for a zone whose servers' names depend on
	// themselves: no network is to blame, and only its parent can mend it.
	maxLoop = 5 * time.Minute
	// lostSilences and lostWait are how many servers have to be silent, or for
	// how long in all, before the zone counts as dead, if there are more to ask
	// and no time is left.
	lostSilences = 3
	lostWait     = 3 * time.Second
	// deadProbe is how long the question that finds out whether a zone is
	// still dead may take, before another one may. It waits for each server
	// for probeWait, and once.
	deadProbe = 6 * time.Second
	probeWait = 2 * time.Second
	// heardLately is how long before a question to which nothing came something
	// else must have come for it to be the question's fault, maybe, and
	// maxStrikes is how often that may be: there are servers that are silent
	// about one name, and whoever asks for it must not be able to take the zone
	// down for others who seldom ask.
	heardLately = 10 * time.Second
	maxStrikes  = 2
	// forgetDead is how long after its end a failure makes the next one longer.
	forgetDead = time.Minute
	// maxDeadZones bounds how many zones are remembered.
	maxDeadZones = 10_000
)

// zoneKey names whose servers are asked: a zone's own, or those configured.
type zoneKey struct {
	zone wire.Name
	conf *Zone
}

// deadZones remembers zones of which no server answers, so that not every name
// below one costs the wait for all of them (NRDelegation, CVE-2022-3204).
// After the time that it is remembered for, one question finds out how things
// stand while all others go on failing. It is safe for concurrent use.
type deadZones struct {
	limit int

	some  atomic.Bool // whether there is any: nobody takes the lock while all is well
	mu    sync.Mutex
	zones map[zoneKey]*deadZone
	loops atomic.Int64 // of them

	found, spared, evicted atomic.Uint64
}

type deadZone struct {
	until   time.Time
	lasted  time.Duration // the last time; 0: it is not dead yet
	strikes int           // questions without an answer that it was not called dead for
	why     *ede.Error
	loop    bool // its servers' names depend on themselves
}

// errLoop is wrapped by errors that are due to servers whose names depend on
// themselves (TsuNAME: Moura et al., IMC 2021).
var errLoop = errors.New("a loop of delegations")

// death is how a zone is found dead.
type death struct {
	least, most time.Duration // to remember it for
	loop        bool
	lately      bool // something was heard of it a while ago
}

// The ways to find a zone dead.
var (
	silentDeath = death{least: minDead, most: maxDead}
	lostDeath   = death{least: minLost, most: maxDead}
	loopDeath   = death{least: minLost, most: maxLoop, loop: true}
)

// pending reports whether z is not to be asked at now.
func (z *deadZone) pending(now time.Time) bool {
	most := max(maxDead, deadProbe)
	if z.loop {
		most = maxLoop
	}
	return z.lasted > 0 && within(now, z.until, most)
}

// admit returns an error if z is dead at now. Otherwise it may be asked: with
// probe by this question only, whose end is to be told to conclude.
func (d *deadZones) admit(z zoneKey, now time.Time) (probe bool, err error) {
	if !d.some.Load() {
		return false, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	dead := d.zones[z]
	switch {
	case dead == nil:
		return false, nil
	case dead.lasted == 0:
		return false, nil
	case dead.pending(now):
		d.spared.Add(1)
		return false, dead.why
	case now.Sub(dead.until).Abs() > forgetDead:
		d.remove(z)
		return false, nil
	}
	dead.until = now.Add(deadProbe)
	return true, nil
}

// looped returns an error if n is in a zone, below the one at top, that is
// dead because of a loop at now, which is asked for if any is. The cut of such a zone may end sooner than the
// failure is remembered, and its parent is not to be asked for it all over again
// (TsuNAME: with a TTL of a second, it was asked each second).
func (d *deadZones) looped(n, top wire.Name, now func() time.Time) error {
	if d.loops.Load() == 0 {
		return nil
	}
	at := now()
	d.mu.Lock()
	defer d.mu.Unlock()
	for ok := true; ok && n != top; n, ok = n.Parent() {
		if dead := d.zones[zoneKey{zone: n}]; dead != nil && dead.loop && dead.pending(at) {
			d.spared.Add(1)
			return dead.why
		}
	}
	return nil
}

// doubted reports whether z is remembered, dead or nearly so.
func (d *deadZones) doubted(z zoneKey) bool {
	if !d.some.Load() {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.zones[z] != nil
}

// alive records that z is not dead.
func (d *deadZones) alive(z zoneKey) {
	if !d.some.Load() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.remove(z)
}

// unknown records that a probe did not find out.
func (d *deadZones) unknown(z zoneKey, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if dead := d.zones[z]; dead != nil {
		dead.until = now
	}
}

// dies records that z is dead, and how: if something was heard of it lately,
// not at once. Of several questions that found out together, one counts.
func (d *deadZones) dies(z zoneKey, how death, probe bool, why error, now time.Time) {
	text, ok := errors.AsType[*ede.Error](why)
	if !ok {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	dead := d.zones[z]
	switch {
	case dead != nil && !probe && dead.pending(now):
		return
	case dead == nil:
		for old := range d.zones { // any: to forget is to ask again
			if len(d.zones) < d.limit {
				break
			}
			d.remove(old)
			d.evicted.Add(1)
		}
		dead = &deadZone{}
		if d.zones == nil {
			d.zones = make(map[zoneKey]*deadZone)
		}
		d.zones[z] = dead
		d.some.Store(true)
	}
	if how.lately && dead.lasted == 0 && dead.strikes < maxStrikes {
		dead.strikes++
		return
	}
	if dead.lasted == 0 {
		d.found.Add(1)
	}
	if dead.loop != how.loop {
		dead.loop = how.loop
		d.loops.Add(map[bool]int64{false: -1, true: 1}[how.loop])
	}
	dead.lasted = min(max(2*dead.lasted, how.least), how.most)
	dead.until = now.Add(dead.lasted)
	dead.why = text
}

// remove forgets z. The caller has the lock.
func (d *deadZones) remove(z zoneKey) {
	if dead := d.zones[z]; dead != nil && dead.loop {
		d.loops.Add(-1)
	}
	delete(d.zones, z)
	d.some.Store(len(d.zones) > 0)
}

// count returns how many zones are remembered.
func (d *deadZones) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.zones)
}

// DeadZone is a zone none of whose servers answers.
type DeadZone struct {
	Zone  wire.Name
	Until time.Time // it is not asked before
	Why   error
}

// DeadZones lists some of the zones that are not asked now, most at most.
func (r *Resolver) DeadZones(most int) []DeadZone {
	now, d := r.opt.Clock.Now(), &r.dead
	d.mu.Lock()
	defer d.mu.Unlock()
	var list []DeadZone
	for k, z := range d.zones {
		if len(list) == most {
			break
		}
		if z.lasted > 0 && z.why != nil && now.Before(z.until) {
			list = append(list, DeadZone{Zone: k.zone, Until: z.until, Why: z.why})
		}
	}
	slices.SortFunc(list, func(a, b DeadZone) int { return strings.Compare(string(a.Zone), string(b.Zone)) })
	return list
}

// Troubled lists servers that are not asked for a zone now if that can be helped,
// most at most, those that it came to last first.
func (r *Resolver) Troubled(most int) []infra.Troubled {
	return r.infra.Troubled(most, r.opt.Clock.Now())
}

// common is the types that every server answers for. Servers exist that are
// silent about others: it says nothing about the zone, and whoever asks for
// them must not be able to take it down.
var common = [...]wire.Type{wire.TypeA, wire.TypeAAAA, wire.TypeNS, wire.TypeSOA, wire.TypeMX, wire.TypeTXT, wire.TypeCNAME, wire.TypePTR, wire.TypeDS, wire.TypeDNSKEY}

// conclude draws from the end of a search whether the zone is dead.
func (r *Resolver) conclude(q wire.Question, s *search, w *work, err error) {
	z, now := zoneKey{s.cut.Zone, s.conf}, r.opt.Clock.Now
	switch {
	case err == nil || s.heard:
		r.dead.alive(z)
	case len(s.avoid) > 0: // not all of its servers were asked
	case s.conf != nil && s.conf.Forward:
		// A resolver may be silent because of others: its own health, which
		// infra knows, has to do.
	case s.lost() && len(w.path) == 1 && s.looped && (w.aliases == 0 || !w.short()):
		// What a loop uses up is its own fault, but not what an alias on the way
		// here did.
		r.dead.dies(z, loopDeath, s.probe, err, now())
	case s.lost() && len(w.path) == 1 && !w.short():
		// Not further in: there, it may be the way that led here which fails.
		r.dead.dies(z, lostDeath, s.probe, err, now())
	case len(s.tries) > 0 && s.silent() && slices.Contains(common[:], q.Type) &&
		!r.infra.Heard(z.zone, s.addrs(), s.begun): // and it is not only this question
		how := silentDeath
		how.lately = r.infra.Heard(z.zone, s.addrs(), s.begun.Add(-heardLately))
		r.dead.dies(z, how, s.probe, s.failure(), now())
	case s.probe:
		r.dead.unknown(z, now())
	}
}

// looped returns an error if the way from at to q leads through a zone that is
// known to depend on itself.
func (r *Resolver) looped(q wire.Question, at authority) error {
	if at.conf != nil && at.conf.Forward {
		return nil // it does not walk there
	}
	return r.dead.looped(above(q), at.cut.Zone, r.opt.Clock.Now)
}

// lost reports whether none of the servers has an address.
func (s *search) lost() bool {
	return len(s.tries) == 0 && s.looked > 0 && s.ended && !s.unasked
}

// silent reports whether enough was asked to say that nobody answers. Of a
// zone that was dead before, a little is enough.
func (s *search) silent() bool {
	if s.unasked { // that is not the zone's fault
		return false
	}
	return s.ended || s.silences >= lostSilences || s.waited >= lostWait || s.probe && s.silences > 0
}
