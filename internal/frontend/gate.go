package frontend

import (
	"hash/maphash"
	"sync"
	"time"

	"shirube/internal/wire"
)

// How many names that do not exist are shared of one zone: more than people
// mistype, and next to nothing of a flood of names made up at random, which
// nobody asks for again.
const (
	denialRate  = 10 // a second
	denialBurst = 50 // saved up
)

// gateSlots is how many zones are told apart.
const gateSlots = 1024

// gate bounds what is shared of each zone's denials. The zero gate is ready.
type gate struct {
	mu    sync.Mutex
	seed  maphash.Seed
	slots []gateSlot
}

type gateSlot struct {
	taken float64 // denials, less those that time has given back
	at    time.Time
}

// admits takes one denial of zone. Zones that meet in a slot share its rate.
func (g *gate) admits(zone wire.Name, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.slots == nil {
		g.seed, g.slots = maphash.MakeSeed(), make([]gateSlot, gateSlots)
	}
	s := &g.slots[maphash.String(g.seed, string(zone))%gateSlots]
	if passed := now.Sub(s.at); passed > 0 {
		s.taken = max(s.taken-denialRate*passed.Seconds(), 0)
		s.at = now
	}
	if s.taken+1 > denialBurst {
		return false
	}
	s.taken++
	return true
}

// pulsePeriod is the time in which an outcome comes to count half as much.
const pulsePeriod = 10 * time.Second

// pulse tells the trouble of names from that of this server: if its line is
// down, nothing can be resolved here, and that is no word to the others. The zero
// pulse is ready.
type pulse struct {
	mu            sync.Mutex
	since         time.Time
	worked, broke float64
}

// note counts one resolution.
func (h *pulse) note(ok bool, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.age(now)
	if ok {
		h.worked++
	} else {
		h.broke++
	}
}

// good reports whether more resolutions went well lately than not.
func (h *pulse) good(now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.age(now)
	return h.worked > h.broke
}

func (h *pulse) age(now time.Time) {
	periods := now.Sub(h.since) / pulsePeriod
	if periods <= 0 {
		return
	}
	half := 1 / float64(uint64(1)<<min(periods, 60))
	h.worked, h.broke, h.since = h.worked*half, h.broke*half, now
}
