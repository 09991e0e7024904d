package infra

import (
	"net/netip"
	"time"

	"shirube/internal/wire"
)

// Known is what is known of one server for one zone, for people to read.
type Known struct {
	SRTT, RTTVar time.Duration // RFC 6298 §2; 0: it has never answered
	Timeout      time.Duration // that the next question has
	Silences     int           // in a row
	DeadUntil    time.Time     // zero: it may be asked
	LameUntil    time.Time     // zero: it answers for the zone
	Bare         bool          // asked without EDNS
	TCP          bool          // asked over TCP
	Heard        time.Time     // the last time that anything came from it
}

// Known returns what is known at now of the server at addr for zone, if there
// is anything. It changes nothing.
func (t *Table) Known(addr netip.AddrPort, zone wire.Name, now time.Time) (Known, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.known(key{addr, zone}, now)
}

// known is Known for who holds t.mu.
func (t *Table) known(at key, now time.Time) (Known, bool) {
	s := t.servers[at]
	if s == nil {
		return Known{}, false
	}
	k := Known{
		SRTT: s.srtt, RTTVar: s.rttvar, Timeout: s.timeout(), Silences: int(s.silences),
		Bare: s.bare > 0, TCP: s.tcp > 0, Heard: s.heard,
	}
	if pending(s.deadUntil, now, MaxBackoff) {
		k.DeadUntil = s.deadUntil
	}
	if pending(s.lameUntil, now, LameFor) {
		k.LameUntil = s.lameUntil
	}
	return k, true
}

// lastTroubled is how many servers are looked through for those in trouble: the
// last that came into it. To look through all that are known would keep those
// waiting who resolve.
const lastTroubled = 64

// ring has the last servers that came into trouble, some of them more than once.
type ring struct {
	keys [lastTroubled]key
	next int
}

func (r *ring) put(k key) {
	r.keys[r.next] = k
	r.next = (r.next + 1) % lastTroubled
}

// Troubled is a server that is not asked for its zone if that can be helped.
type Troubled struct {
	Server netip.AddrPort
	Zone   wire.Name
	Known
}

// Troubled returns servers that are dead or lame at now, those that became it last
// first. It looks at the last few only.
func (t *Table) Troubled(most int, now time.Time) (list []Troubled) {
	t.mu.Lock()
	defer t.mu.Unlock()
	seen := make(map[key]bool, lastTroubled)
	for i := range lastTroubled {
		k := t.troubled.keys[(t.troubled.next+2*lastTroubled-1-i)%lastTroubled]
		known, ok := t.known(k, now)
		if len(list) == most || !ok || seen[k] {
			continue
		}
		seen[k] = true
		if !known.DeadUntil.IsZero() || !known.LameUntil.IsZero() {
			list = append(list, Troubled{k.addr, k.zone, known})
		}
	}
	return list
}
