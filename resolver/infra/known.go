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
	s := t.servers[key{addr, zone}]
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
