package cache

import (
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// MemoryFlushed is how much [Memory.Flush] has forgotten.
type MemoryFlushed struct {
	Sets, Cuts, Links int
	Denials           int // NSEC and NSEC3 records
}

// Flush forgets what is in s, alive or not. Of one type it forgets the sets that
// would answer for it (the type's own, an alias, a name's denial) and what was
// learned by it: of NS the cut, of DS the cut and the link, of DNSKEY the link.
// What names above s say of it stays: that a name above does not exist, or is
// elsewhere (DNAME). The denials of all zones that have names of s go, since one
// record denies many names.
func (m *Memory) Flush(s Scope) MemoryFlushed {
	zones := func(n wire.Name) bool { return s.covers(n) }
	var f MemoryFlushed
	f.Sets = m.sets.flush(func(q wire.Question) bool {
		return s.covers(q.Name) && (s.Type == 0 || q.Type == s.Type || q.Type == wire.TypeCNAME || q.Type == rrset.AnyType)
	})
	if s.Type == 0 || s.Type == wire.TypeNS || s.Type == wire.TypeDS {
		f.Cuts = m.cuts.flush(zones)
	}
	if s.Type == 0 || s.Type == wire.TypeDNSKEY || s.Type == wire.TypeDS {
		f.Links = m.links.flush(zones)
	}
	f.Denials = m.denials.flush(func(zone wire.Name) bool { return s.covers(zone) || s.Name.Within(zone) })
	return f
}
