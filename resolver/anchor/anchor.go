// Package anchor keeps the trust anchors of validation: the keys of the root
// that are built in, those that the operator adds, and those that take their
// place when a zone rolls its keys (RFC 5011). It keeps the negative ones too:
// names below which nothing is validated for a while (RFC 7646).
//
// What is learned is kept in files, so that a key which was trusted or revoked
// stays so after a restart. Files that cannot be read or written are told to
// the log, and validation goes on with what there is.
package anchor

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/clock"
	"shirube/internal/wire"
)

// The limits of what is kept.
const (
	MaxZones     = 1000 // with anchors
	MaxNegatives = 1000 // negative anchors, those of the configuration among them
)

// Anchor is what is trusted of a zone without a signature from above: any of
// the keys, and any key that one of the DS records is the digest of. It is
// immutable.
type Anchor struct {
	Zone wire.Name
	DS   []*dns.DS
	Keys []*dns.DNSKEY

	digests []*dns.DS
}

// Digests returns what a parent would say of the zone if it trusted the same
// keys: DS, and a SHA-256 digest of each of Keys.
func (a Anchor) Digests() []*dns.DS { return a.digests }

// Tags returns the key tags of a, the lowest first, each once.
func (a Anchor) Tags() []uint16 {
	var tags []uint16
	for _, ds := range a.DS {
		tags = append(tags, ds.KeyTag)
	}
	for _, k := range a.Keys {
		tags = append(tags, k.KeyTag())
	}
	slices.Sort(tags)
	return slices.Compact(tags)
}

// Options configures [Anchors].
type Options struct {
	// Records are the operator's anchors, as [Parse] returns them: DS and
	// DNSKEY records, several of a zone for several keys. Those of the root take
	// the place of the built-in ones.
	Records []dns.RR
	NoRoot  bool // without the built-in anchors of the root

	// Directory holds what is learned of the zones' keys, a file for each zone.
	// "": it is kept in memory only.
	Directory string

	Negatives []Negative // of the configuration

	Clock *clock.Clock // nil: the real time
	Log   *slog.Logger // told when what is trusted changes, and what is wrong with files; nil: nobody
}

// Anchors is all trust anchors, positive and negative. It is safe for
// concurrent use; reading takes no lock.
type Anchors struct {
	opt Options

	mu        sync.Mutex // of who changes what follows
	states    map[wire.Name]State
	negatives map[wire.Name]Negative
	current   atomic.Pointer[snapshot]

	foreign map[string]bool // state files that could not be used: the first that is written in place of one keeps it
	tracked []wire.Name     // the zones of states, sorted
}

// snapshot is what readers see. It is immutable.
type snapshot struct {
	anchors   map[wire.Name]Anchor
	negatives map[wire.Name]Negative
}

// New returns the anchors of opt, with what earlier runs learned of them. It
// starts nothing: who wants to follow roll-overs runs a [Tracker]. A state file
// that cannot be used is told to the log and is no error: then the anchors are
// those of opt.
func New(opt Options) (*Anchors, error) { return build(opt, nil) }

// Next returns the anchors of opt, with what a has learned of the zones' keys, and
// with the negative anchors that were added to a while it ran. a stays as it is.
// No [Tracker] of a may run at the same time as one of the new.
func (a *Anchors) Next(opt Options) (*Anchors, error) { return build(opt, a) }

// build is New, after the anchors before them, if there are any.
func build(opt Options, before *Anchors) (*Anchors, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	byZone, err := group(opt)
	if err != nil {
		return nil, err
	}
	a := &Anchors{
		opt:       opt,
		states:    make(map[wire.Name]State, len(byZone)),
		negatives: make(map[wire.Name]Negative, len(opt.Negatives)),
		foreign:   make(map[string]bool),
		tracked:   slices.Sorted(maps.Keys(byZone)),
	}
	for zone, configured := range byZone {
		s := State{Zone: zone, Configured: configured}
		if known, ok := before.state(zone); ok {
			s.Keys = known.Keys
			a.states[zone] = s.adopt(opt.Clock.Now())
			continue
		}
		a.states[zone] = a.load(s)
	}
	for _, n := range opt.Negatives {
		if _, again := a.negatives[n.Name]; again {
			return nil, fmt.Errorf("anchor: the negative trust anchor %v is there twice", n.Name)
		}
		a.negatives[n.Name] = n
	}
	for _, n := range before.addedNegatives(opt.Clock.Now()) {
		if _, again := a.negatives[n.Name]; !again {
			a.negatives[n.Name] = n
		}
	}
	if len(a.negatives) > MaxNegatives {
		return nil, fmt.Errorf("anchor: found %d negative trust anchors; expected at most %d", len(a.negatives), MaxNegatives)
	}
	a.publish()
	return a, nil
}

// group returns the configured records of each zone.
func group(opt Options) (map[wire.Name][]dns.RR, error) {
	byZone := make(map[wire.Name][]dns.RR)
	for _, rr := range opt.Records {
		zone, err := wire.ParseName(rr.Header().Name)
		if err != nil {
			return nil, fmt.Errorf("anchor: the owner %q of a trust anchor: %w", rr.Header().Name, err)
		}
		if err := check(rr); err != nil {
			return nil, fmt.Errorf("anchor: the trust anchor of %v: %w", zone, err)
		}
		byZone[zone] = append(byZone[zone], rr)
		if len(byZone[zone]) > maxConfigured {
			return nil, fmt.Errorf("anchor: found more than %d trust anchors of %v", maxConfigured, zone)
		}
	}
	if byZone[wire.Root] == nil && !opt.NoRoot {
		byZone[wire.Root] = RootAnchors()
	}
	if len(byZone) > MaxZones {
		return nil, fmt.Errorf("anchor: found trust anchors of %d zones; expected at most %d", len(byZone), MaxZones)
	}
	return byZone, nil
}

// load returns s with what its file knows.
func (a *Anchors) load(s State) State {
	if a.opt.Directory == "" {
		return s
	}
	path := statePath(a.opt.Directory, s.Zone)
	keys, err := readState(path, s.Zone)
	if err != nil {
		a.foreign[path] = true
		a.opt.Log.Warn("cannot use what was learned of a zone's trust anchors; going on with those of the configuration",
			"zone", s.Zone.String(), "file", path, "error", err)
		return s
	}
	s.Keys = keys
	return s.adopt(a.opt.Clock.Now())
}

// publish makes a snapshot of the states and the negative anchors. The caller
// holds mu, or is the only one.
func (a *Anchors) publish() {
	next := &snapshot{
		anchors:   make(map[wire.Name]Anchor, len(a.states)),
		negatives: maps.Clone(a.negatives),
	}
	for zone, s := range a.states {
		if anchor, ok := s.Anchor(); ok {
			next.anchors[zone] = anchor
		}
	}
	a.current.Store(next)
}

// Closest returns the deepest anchor at or above n. Without one, nothing is
// known of n's security: it is as good as insecure (RFC 4035 §4.3).
func (a *Anchors) Closest(n wire.Name) (Anchor, bool) {
	anchors := a.current.Load().anchors
	for ok := n != ""; ok; n, ok = n.Parent() {
		if anchor, is := anchors[n]; is {
			return anchor, true
		}
	}
	return Anchor{}, false
}

// Negative returns the live negative anchor that keeps n from being validated:
// the deepest one at or above n, unless an anchor is between the two. At the
// same name, the negative one wins (RFC 7646 §1.1: it is there to undo what
// would be validated otherwise).
func (a *Anchors) Negative(n wire.Name) (Negative, bool) {
	s := a.current.Load()
	if len(s.negatives) == 0 {
		return Negative{}, false
	}
	now := a.opt.Clock.Now()
	for ok := n != ""; ok; n, ok = n.Parent() {
		if neg, is := s.negatives[n]; is && now.Before(neg.Until) {
			return neg, true
		}
		if _, is := s.anchors[n]; is {
			break
		}
	}
	return Negative{}, false
}

// Tags returns the key tags that are trusted for zone itself, the lowest first.
func (a *Anchors) Tags(zone wire.Name) []uint16 { return a.current.Load().anchors[zone].Tags() }

// Zones returns the zones that have anchors or had some, sorted.
func (a *Anchors) Zones() []wire.Name { return slices.Clone(a.tracked) }

// state is State, where there may be no anchors at all.
func (a *Anchors) state(zone wire.Name) (State, bool) {
	if a == nil {
		return State{}, false
	}
	return a.State(zone)
}

// State returns what is known of a zone's anchors.
func (a *Anchors) State(zone wire.Name) (State, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s, ok := a.states[zone]
	return s, ok
}

// learn takes what a probe of zone has shown.
func (a *Anchors) learn(zone wire.Name, p Probe, now time.Time) (State, Result) {
	a.mu.Lock()
	defer a.mu.Unlock()
	next, result := a.states[zone].Update(p, now)
	a.states[zone] = next
	if len(result.Changes) > 0 {
		a.publish()
	}
	return next, result
}
