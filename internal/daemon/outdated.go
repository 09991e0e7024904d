package daemon

import (
	"fmt"
	"reflect"
	"slices"
	"sync/atomic"

	"shirube/cache"
	"shirube/internal/config"
	"shirube/internal/rrset"
	"shirube/internal/wire"
	"shirube/resolver/anchor"
)

// maxOutdated is how many parts of the name space are forgotten each by itself,
// which takes a look at all that is remembered. Of more, everything is.
const maxOutdated = 32

// outdated returns the names at and below which what is remembered by from may be
// wrong by to: other servers have the word on them, or they are validated in
// another way.
func outdated(from, to *Pipeline) []wire.Name {
	names := changedZones(&from.Config, &to.Config)
	names = append(names, changedAnchors(from.Anchors, to.Anchors)...)
	if judgement(&from.Config) != judgement(&to.Config) || (from.Anchors == nil) != (to.Anchors == nil) {
		names = append(names, wire.Root)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if slices.Contains(names, wire.Root) || len(names) > maxOutdated {
		return []wire.Name{wire.Root}
	}
	return names
}

// judgement is what decides about all names alike.
func judgement(cfg *config.Config) string {
	d := &cfg.DNSSEC
	return fmt.Sprintf("%q %v %v %v %v %v %v", cfg.Resolver.RootHints, d.OverrideTime, d.Permissive,
		d.MaxNSEC3Iterations, d.HardenBelowNXDomain, d.DisabledAlgorithms, d.DisabledDSDigests)
}

// changedZones returns the zones that have other servers in to than in from.
func changedZones(from, to *config.Config) (names []wire.Name) {
	type zone struct {
		config.Zone
		forward bool
	}
	index := func(cfg *config.Config) map[wire.Name]zone {
		m := make(map[wire.Name]zone)
		for _, z := range cfg.ForwardZones {
			m[z.Name] = zone{z, true}
		}
		for _, z := range cfg.StubZones {
			m[z.Name] = zone{z, false}
		}
		return m
	}
	return differing(index(from), index(to))
}

// changedAnchors returns the zones that have other trust anchors in to than in
// from, be they negative.
func changedAnchors(from, to *anchor.Anchors) []wire.Name {
	if from == nil || to == nil || from == to {
		return nil
	}
	positive := func(a *anchor.Anchors) map[wire.Name]string {
		m := make(map[wire.Name]string)
		for _, zone := range a.Zones() {
			s, _ := a.State(zone)
			m[zone] = fmt.Sprint(s.Configured)
		}
		return m
	}
	negative := func(a *anchor.Anchors) map[wire.Name]bool {
		m := make(map[wire.Name]bool)
		for _, n := range a.Negatives() {
			m[n.Name] = true
		}
		return m
	}
	return append(differing(positive(from), positive(to)), differing(negative(from), negative(to))...)
}

// differing returns the keys that have not the same value in both a and b.
func differing[V any](a, b map[wire.Name]V) (names []wire.Name) {
	for n, v := range a {
		if w, ok := b[n]; !ok || !reflect.DeepEqual(v, w) {
			names = append(names, n)
		}
	}
	for n := range b {
		if _, ok := a[n]; !ok {
			names = append(names, n)
		}
	}
	return names
}

// memory is the memory of one pipeline's resolver. When another pipeline has
// taken over, by which some of what this one still finds is wrong, that is not
// remembered. What it reads is everybody's.
type memory struct {
	*cache.Memory
	outdated atomic.Pointer[[]wire.Name]
}

// wrong reports whether what is found of n is not to be remembered.
func (m *memory) wrong(n wire.Name) bool {
	names := m.outdated.Load()
	return names != nil && slices.ContainsFunc(*names, n.Within)
}

// PutCut implements [resolver.Memory].
func (m *memory) PutCut(c *rrset.Cut) {
	if !m.wrong(c.Zone) {
		m.Memory.PutCut(c)
	}
}

// PutLink implements [resolver.Memory].
func (m *memory) PutLink(l *rrset.Link) {
	if !m.wrong(l.Zone) {
		m.Memory.PutLink(l)
	}
}

// PutSet implements [resolver.Memory].
func (m *memory) PutSet(s rrset.Set) {
	if !m.wrong(s.Name) {
		m.Memory.PutSet(s)
	}
}

// PutDenials implements [resolver.Memory]. A record denies names below its own,
// so that those of a zone above what is outdated do not count either.
func (m *memory) PutDenials(zone wire.Name, sets []rrset.Set) {
	names := m.outdated.Load()
	if names == nil || !slices.ContainsFunc(*names, func(n wire.Name) bool { return zone.Within(n) || n.Within(zone) }) {
		m.Memory.PutDenials(zone, sets)
	}
}
