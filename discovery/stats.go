package discovery

import (
	"sync/atomic"

	"shirube/internal/wire"
)

// numEncrypted is how many transports can be advertised: DoT and all after it.
const numEncrypted = wire.NumProtos - wire.DoT

// counts is what directories count. Few clients ask, and few ask twice.
type counts struct {
	designated, undesignated, empty  atomic.Uint64
	resinfo, chaos                   atomic.Uint64
	hb46pp, hb46ppNone, hb46ppFailed atomic.Uint64

	omitted [numEncrypted][NumReasons]atomic.Uint64
}

// Stats is a snapshot of what a [Directory] has said.
type Stats struct {
	Designated      uint64 // questions for designations that were answered with some (DDR)
	Undesignated    uint64 // such that were answered with none
	Empty           uint64 // questions for what resolver.arpa does not have
	RESINFO         uint64 // what this server does
	Chaos           uint64 // which one it is
	Provisioned     uint64 // questions for provisioning that were answered
	Unprovisioned   uint64 // such for what there is none of
	ProvisionFailed uint64 // such of clients in no view: SERVFAIL

	// Omitted are transports that were left out of answers, from DoT on, by why.
	Omitted [numEncrypted][NumReasons]uint64
}

// Stats returns a snapshot. A nil Directory has said nothing.
func (d *Directory) Stats() (s Stats) {
	if d == nil {
		return s
	}
	c := &d.counts
	s.Designated, s.Undesignated, s.Empty = c.designated.Load(), c.undesignated.Load(), c.empty.Load()
	s.RESINFO, s.Chaos = c.resinfo.Load(), c.chaos.Load()
	s.Provisioned, s.Unprovisioned, s.ProvisionFailed = c.hb46pp.Load(), c.hb46ppNone.Load(), c.hb46ppFailed.Load()
	for p := range s.Omitted {
		for r := range s.Omitted[p] {
			s.Omitted[p][r] = c.omitted[p][r].Load()
		}
	}
	return s
}
