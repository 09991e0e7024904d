package anchor

import (
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// The hold-down times of RFC 5011: how long a new key has to be seen before it
// is trusted (§2.4.1; the TTL counts when it is longer), and how long a revoked
// one has to be gone before it counts as removed (§2.4.2).
const (
	addHoldDown    = 30 * 24 * time.Hour
	removeHoldDown = 30 * 24 * time.Hour
)

// The limits of a zone's keys.
const (
	maxConfigured = 16 // anchors that are configured for it
	maxKeys       = 32 // keys that are kept, those no longer trusted among them; further new ones are ignored
)

// KeyState is a state of a key (RFC 5011 §4.2).
type KeyState uint8

// The states. A key in Start is not known, and one is never kept in it.
const (
	Start   KeyState = iota
	AddPend          // seen; not trusted yet
	Valid            // trusted
	Missing          // trusted, but gone from the zone without having been revoked
	Revoked          // never to be trusted again
	Removed          // the same, and gone from the zone for long
)

var keyStateNames = [...]string{"start", "addpend", "valid", "missing", "revoked", "removed"}

// String returns the name of s in RFC 5011, in lower case.
func (s KeyState) String() string { return keyStateNames[s] }

// trusted reports whether a key in s is an anchor.
func (s KeyState) trusted() bool { return s == Valid || s == Missing }

// gone reports whether a key in s is never to be an anchor again.
func (s KeyState) gone() bool { return s == Revoked || s == Removed }

// Key is a key that was seen in a zone.
type Key struct {
	DNSKEY *dns.DNSKEY // without the REVOKE flag, also when it is revoked
	State  KeyState
	Since  time.Time // when it came into State
	Until  time.Time // of AddPend and Revoked: the end of the hold-down time
}

// State is what is known of one zone's anchors: those that were configured, and
// what became of the zone's keys since. It is immutable.
//
// A configured record that is (or is the digest of) a key in Keys counts no
// more: the key's own state says whether it is trusted. So an anchor stays
// revoked that is still in the configuration.
type State struct {
	Zone       wire.Name
	Configured []dns.RR // DS and DNSKEY
	Keys       []Key
}

// Probe is what was seen of a zone's DNSKEY set. Who makes one vouches for its
// facts; [Check] makes it from a response.
type Probe struct {
	// Keys is the set as a whole.
	Keys []*dns.DNSKEY
	// Signers are those of Keys with a signature over the set that verifies, and
	// is within its time. Nothing is said by this about who trusts them.
	Signers []*dns.DNSKEY
	// TTL is the original TTL that Signers signed.
	TTL time.Duration
	// Expires is when the first of their signatures does, or that TTL.
	Expires time.Time
}

// Change is a key's step from one state to another.
type Change struct {
	Key      *dns.DNSKEY
	From, To KeyState
	Until    time.Time // the end of the new state's hold-down time, if it has one
}

// Result is what a probe came to.
type Result struct {
	// Trusted says that an anchor signed the set. Otherwise nothing was taken
	// from it but revocations.
	Trusted bool
	Changes []Change
	// Deleted says that by these changes the zone has no anchor left (RFC 5011
	// §5).
	Deleted bool
}

// Anchor returns what is trusted of the zone now. It is false when all anchors
// were revoked: the zone then is as if it had never had one (RFC 5011 §5).
func (s State) Anchor() (Anchor, bool) {
	a := Anchor{Zone: s.Zone}
	for _, k := range s.Keys {
		if k.State.trusted() {
			a.Keys = append(a.Keys, k.DNSKEY)
		}
	}
	for _, rr := range s.Configured {
		if s.known(rr) {
			continue
		}
		switch rr := rr.(type) {
		case *dns.DS:
			a.DS = append(a.DS, rr)
		case *dns.DNSKEY:
			a.Keys = append(a.Keys, rr)
		}
	}
	a.digests = slices.Clone(a.DS)
	for _, k := range a.Keys {
		if ds := k.ToDS(dns.SHA256); ds != nil {
			a.digests = append(a.digests, ds)
		}
	}
	return a, len(a.DS)+len(a.Keys) > 0
}

// known reports whether one of the keys is what rr stands for.
func (s State) known(rr dns.RR) bool {
	return slices.ContainsFunc(s.Keys, func(k Key) bool { return standsFor(rr, k.DNSKEY) })
}

// configured reports whether k is what a configured record stands for.
func (s State) configured(k *dns.DNSKEY) bool {
	return slices.ContainsFunc(s.Configured, func(rr dns.RR) bool { return standsFor(rr, k) })
}

// adopt trusts the keys that had only been seen when they were kept, and have
// been configured since: the operator's word needs no hold-down time.
func (s State) adopt(now time.Time) State {
	s.Keys = slices.Clone(s.Keys)
	for i, k := range s.Keys {
		if k.State == AddPend && s.configured(k.DNSKEY) {
			s.Keys[i] = Key{DNSKEY: k.DNSKEY, State: Valid, Since: now}
		}
	}
	return s
}

// Update returns the state after a probe (RFC 5011 §4), and what it came to.
func (s State) Update(p Probe, now time.Time) (State, Result) {
	_, had := s.Anchor()
	u := update{State: s, probe: p, now: now}
	u.Keys = slices.Clone(s.Keys)
	u.turnedBack()
	u.revoke()
	if u.result.Trusted = u.trusted(); u.result.Trusted {
		u.absent()
		u.present()
	}
	_, has := u.Anchor()
	u.result.Deleted = had && !has
	return u.State, u.result
}

// update is an Update that is under way.
type update struct {
	State
	probe  Probe
	now    time.Time
	result Result
}

// to brings key i into a state.
func (u *update) to(i int, next KeyState) {
	k := &u.Keys[i]
	change := Change{Key: k.DNSKEY, From: k.State, To: next}
	switch next {
	case AddPend: // RFC 5011 §2.4.1
		change.Until = u.now.Add(max(addHoldDown, u.probe.TTL))
	case Revoked: // RFC 5011 §2.4.2
		change.Until = u.now.Add(removeHoldDown)
	}
	*k = Key{DNSKEY: k.DNSKEY, State: next, Since: u.now, Until: change.Until}
	u.result.Changes = append(u.result.Changes, change)
}

// enter makes a key known, in a state. Without room for a new one, it is not;
// there is always room for what is configured.
func (u *update) enter(key *dns.DNSKEY, state KeyState) {
	if state == AddPend && len(u.Keys) >= maxKeys && !u.makeRoom() {
		return
	}
	u.Keys = append(u.Keys, Key{DNSKEY: key, State: Start})
	u.to(len(u.Keys)-1, state)
}

// makeRoom forgets the key that was removed first, unless the configuration
// would bring it back.
func (u *update) makeRoom() bool {
	oldest := -1
	for i, k := range u.Keys {
		if k.State == Removed && !u.configured(k.DNSKEY) && (oldest < 0 || k.Since.Before(u.Keys[oldest].Since)) {
			oldest = i
		}
	}
	if oldest < 0 {
		return false
	}
	u.Keys = slices.Delete(u.Keys, oldest, oldest+1)
	return true
}

// turnedBack starts hold-down times anew that were begun in what is now the
// future: the clock was wrong then, and their ends are too. They get longer by
// that, never shorter.
func (u *update) turnedBack() {
	for i := range u.Keys {
		k := &u.Keys[i]
		if !k.Since.After(u.now) {
			continue
		}
		if !k.Until.IsZero() {
			k.Until = u.now.Add(k.Until.Sub(k.Since))
		}
		k.Since = u.now
	}
}

// revoke takes the revocations: keys that have the REVOKE flag and signed the
// set that says so. It needs no other key's word, and nothing takes it back
// (RFC 5011 §2.1). Keys that nobody knows are not worth remembering.
func (u *update) revoke() {
	for _, signer := range u.probe.Signers {
		if signer.Flags&dns.REVOKE == 0 {
			continue
		}
		key := unrevoked(signer)
		switch i := u.find(key); {
		case i >= 0 && !u.Keys[i].State.gone():
			u.to(i, Revoked)
		case i < 0 && u.configured(key):
			u.enter(key, Revoked)
		}
	}
}

// trusted reports whether an anchor signed the set. One that has been revoked
// speaks for nothing but its revocation (RFC 5011 §2.1).
func (u *update) trusted() bool {
	a, _ := u.Anchor()
	return slices.ContainsFunc(u.probe.Signers, func(k *dns.DNSKEY) bool {
		if k.Flags&dns.REVOKE != 0 {
			return false
		}
		return slices.ContainsFunc(a.Keys, func(anchor *dns.DNSKEY) bool { return standsFor(anchor, k) }) ||
			slices.ContainsFunc(a.DS, func(ds *dns.DS) bool { return standsFor(ds, k) })
	})
}

// absent takes note of the keys that are not in the set (KeyRem and RemTime).
func (u *update) absent() {
	kept := u.Keys[:0]
	for i := range u.Keys {
		k := &u.Keys[i]
		there := slices.ContainsFunc(u.probe.Keys, func(seen *dns.DNSKEY) bool {
			if k.State == Revoked {
				seen = unrevoked(seen)
			}
			return sameKey(seen, k.DNSKEY)
		})
		switch {
		case k.State == Revoked && there: // RFC 5011 §2.4.2: the time runs while it is gone
			k.Until = u.now.Add(removeHoldDown)
		case there:
		case k.State == AddPend: // RFC 5011 §2.4.1: seen again, it starts anew
			u.result.Changes = append(u.result.Changes, Change{Key: k.DNSKEY, From: AddPend, To: Start})
			continue
		case k.State == Valid:
			u.to(i, Missing)
		case k.State == Revoked && !u.now.Before(k.Until):
			u.to(i, Removed)
		}
		kept = append(kept, *k)
	}
	u.Keys = kept
}

// present takes note of the keys that are in the set (NewKey, AddTime and
// KeyPres).
func (u *update) present() {
	for _, seen := range u.probe.Keys {
		if seen.Flags&dns.REVOKE != 0 || seen.Flags&dns.ZONE == 0 || seen.Protocol != 3 {
			continue
		}
		i := u.find(seen)
		switch {
		case i < 0 && u.configured(seen):
			u.enter(seen, Valid)
		case i < 0 && seen.Flags&dns.SEP != 0: // RFC 5011 §4.1: new keys count with it only
			u.enter(seen, AddPend)
		case i < 0:
		case u.Keys[i].State == Missing:
			u.to(i, Valid)
		case u.Keys[i].State == AddPend && !u.now.Before(u.Keys[i].Until):
			u.to(i, Valid)
		}
	}
}

// find returns where key is among the known ones, or -1.
func (u *update) find(key *dns.DNSKEY) int {
	return slices.IndexFunc(u.Keys, func(k Key) bool { return sameKey(k.DNSKEY, key) })
}

// sameKey reports whether a and b are one key, neither being revoked.
func sameKey(a, b *dns.DNSKEY) bool {
	return a.Algorithm == b.Algorithm && a.Flags == b.Flags && a.Protocol == b.Protocol && a.PublicKey == b.PublicKey
}

// standsFor reports whether the anchor rr is the key k, or a digest of it.
func standsFor(rr dns.RR, k *dns.DNSKEY) bool {
	switch rr := rr.(type) {
	case *dns.DNSKEY:
		return sameKey(rr, k)
	case *dns.DS:
		if rr.Algorithm != k.Algorithm || rr.KeyTag != k.KeyTag() {
			return false
		}
		ds := k.ToDS(rr.DigestType)
		return ds != nil && strings.EqualFold(ds.Digest, rr.Digest)
	}
	return false
}

// unrevoked returns k without the REVOKE flag, which is part of a key's tag and
// digest (RFC 5011 §2.1): the key that it was.
func unrevoked(k *dns.DNSKEY) *dns.DNSKEY {
	if k.Flags&dns.REVOKE == 0 {
		return k
	}
	c := *k
	c.Flags &^= dns.REVOKE
	return &c
}
