package resolver

import (
	"net/netip"

	"shirube/internal/wire"
)

// askLocalRoot asks the local copy of the root zone in place of the root's
// servers (RFC 8806 §2): same question, same judgement, no packet. Whoever is
// configured for the root goes before it.
func (r *Resolver) askLocalRoot(q wire.Question, at authority, w *work) (*reply, bool) {
	if r.opt.LocalRoot == nil || w.direct || at.conf != nil || at.cut.Zone != wire.Root {
		return nil, false
	}
	msg := r.opt.LocalRoot(q)
	if msg == nil {
		return nil, false
	}
	w.tellStep(StepZone, q, at.cut.Zone) // and no query follows
	rep := r.judge(msg, q, at, r.opt.Clock.Now())
	rep.said(at.cut.Zone, netip.AddrPort{})
	w.tellVerdict(StepVerdict, q, rep)
	return rep, rep.Verdict != Lame
}
