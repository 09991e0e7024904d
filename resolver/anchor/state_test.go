package anchor

import (
	"maps"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const day = 24 * time.Hour

var t0 = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// facts returns a probe of keys that signers have signed.
func facts(keys, signers []pair) Probe {
	p := Probe{TTL: 2 * day, Expires: t0.Add(365 * day)}
	for _, k := range keys {
		p.Keys = append(p.Keys, k.DNSKEY)
	}
	for _, k := range signers {
		p.Signers = append(p.Signers, k.DNSKEY)
	}
	return p
}

// TestUpdateFollowsTheTableOfRFC5011 goes through the table of RFC 5011 §4.1,
// and through what must not happen beside it. Key a is configured, b comes
// later; each step is a probe.
func TestUpdateFollowsTheTableOfRFC5011(t *testing.T) {
	a, b, zsk := newPair(t, 257), newPair(t, 257), newPair(t, 256)
	ra, rb := a.revoked(), b.revoked()
	type step struct {
		at            time.Duration
		keys, signers []pair
		a, b          KeyState
	}
	both, onlyA := []pair{a, b, zsk}, []pair{a}
	for _, test := range []struct {
		name  string
		steps []step
	}{
		{"a digest's key becomes valid at once", []step{
			{0, onlyA, onlyA, Valid, Start},
		}},
		{"NewKey, AddTime", []step{
			{0, both, onlyA, Valid, AddPend},
			{30*day - time.Second, both, onlyA, Valid, AddPend},
			{30 * day, both, onlyA, Valid, Valid},
		}},
		{"KeyRem of a new key starts its time anew", []step{
			{0, both, onlyA, Valid, AddPend},
			{10 * day, onlyA, onlyA, Valid, Start},
			{20 * day, both, onlyA, Valid, AddPend},
			{31 * day, both, onlyA, Valid, AddPend},
			{50 * day, both, onlyA, Valid, Valid},
		}},
		{"a new key is not trusted by its own signature", []step{
			{0, both, []pair{b}, Start, Start},
		}},
		{"a new key that waits is not trusted either", []step{
			{0, both, onlyA, Valid, AddPend},
			{1 * day, []pair{b}, []pair{b}, Valid, AddPend},
			{40 * day, []pair{b}, []pair{b}, Valid, AddPend},
		}},
		{"a set that nobody signed says nothing", []step{
			{0, both, onlyA, Valid, AddPend},
			{40 * day, both, nil, Valid, AddPend},
			{41 * day, []pair{zsk}, []pair{zsk}, Valid, AddPend},
		}},
		{"KeyRem and KeyPres of a valid key", []step{
			{0, both, onlyA, Valid, AddPend},
			{30 * day, both, onlyA, Valid, Valid},
			{31 * day, []pair{b}, []pair{b}, Missing, Valid},
			{500 * day, []pair{b}, []pair{b}, Missing, Valid},
			{501 * day, both, onlyA, Valid, Valid},
		}},
		{"RevBit, RemTime", []step{
			{0, both, onlyA, Valid, AddPend},
			{30 * day, both, onlyA, Valid, Valid},
			{31 * day, []pair{ra, b}, []pair{ra, b}, Revoked, Valid},
			{40 * day, []pair{ra, b}, []pair{ra, b}, Revoked, Valid},
			{70*day - time.Second, []pair{b}, []pair{b}, Revoked, Valid},
			{70 * day, []pair{b}, []pair{b}, Removed, Valid},
		}},
		{"RevBit of a missing key", []step{
			{0, both, onlyA, Valid, AddPend},
			{30 * day, both, onlyA, Valid, Valid},
			{31 * day, []pair{b}, []pair{b}, Missing, Valid},
			{32 * day, []pair{ra, b}, []pair{ra, b}, Revoked, Valid},
		}},
		{"RevBit of a key that waits", []step{
			{0, both, onlyA, Valid, AddPend},
			{1 * day, []pair{a, rb}, []pair{a, rb}, Valid, Revoked},
			{2 * day, both, onlyA, Valid, Revoked},
		}},
		{"RevBit of a digest whose key was never seen", []step{
			{0, []pair{ra}, []pair{ra}, Revoked, Start},
		}},
		{"a revocation needs the key's own signature", []step{
			{0, both, onlyA, Valid, AddPend},
			{30 * day, both, onlyA, Valid, Valid},
			{31 * day, []pair{ra, b}, []pair{b}, Missing, Valid},
		}},
		{"a revocation needs nobody else's", []step{
			{0, both, onlyA, Valid, AddPend},
			{1 * day, []pair{ra, b}, []pair{ra}, Revoked, AddPend},
		}},
		{"a revoked key vouches for nothing", []step{
			{0, onlyA, onlyA, Valid, Start},
			{1 * day, []pair{ra, b}, []pair{ra}, Revoked, Start},
			{60 * day, both, onlyA, Revoked, Start},
		}},
		{"a revoked key never comes back", []step{
			{0, both, onlyA, Valid, AddPend},
			{30 * day, both, onlyA, Valid, Valid},
			{31 * day, []pair{ra, b}, []pair{ra, b}, Revoked, Valid},
			{32 * day, both, []pair{a, b}, Revoked, Valid},
			{70 * day, []pair{b}, []pair{b}, Removed, Valid},
			{71 * day, both, []pair{a, b}, Removed, Valid},
			{200 * day, both, []pair{a, b}, Removed, Valid},
		}},
		{"the revocation of a stranger is not kept", []step{
			{0, []pair{a, rb}, []pair{a, rb}, Valid, Start},
		}},
		{"a clock that was set back makes the time longer", []step{
			{0, both, onlyA, Valid, AddPend},
			{-100 * day, both, onlyA, Valid, AddPend},
			{-70*day - time.Second, both, onlyA, Valid, AddPend},
			{-70 * day, both, onlyA, Valid, Valid},
		}},
		{"a clock set forward needs a second look", []step{
			{0, both, onlyA, Valid, AddPend},
			{1000 * day, onlyA, onlyA, Valid, Start},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := State{Zone: example, Configured: []dns.RR{a.ds()}}
			for i, st := range test.steps {
				before := s
				was := states(before)
				s, _ = s.Update(facts(st.keys, st.signers), t0.Add(st.at))
				got := states(s)
				if got[a.KeyTag()] != st.a || got[b.KeyTag()] != st.b || got[zsk.KeyTag()] != Start {
					t.Fatalf("step %d: a is %v and b %v, want %v and %v; all: %v", i, got[a.KeyTag()], got[b.KeyTag()], st.a, st.b, got)
				}
				if want := st.b == Valid || st.b == Missing; trusts(s, b) != want {
					t.Errorf("step %d: b trusted: %v", i, !want)
				}
				if want := !st.a.gone(); trusts(s, a) != want {
					t.Errorf("step %d: a trusted: %v", i, !want)
				}
				if !maps.Equal(states(before), was) {
					t.Errorf("step %d changed the state that it started from", i)
				}
			}
		})
	}
}

func TestUpdateSaysWhatHappened(t *testing.T) {
	a, b := newPair(t, 257), newPair(t, 257)
	s := State{Zone: example, Configured: []dns.RR{a.ds()}}
	s, r := s.Update(facts([]pair{a, b}, []pair{a}), t0)
	if !r.Trusted || r.Deleted || len(r.Changes) != 2 {
		t.Fatalf("got %+v", r)
	}
	if c := r.Changes[1]; c.Key.KeyTag() != b.KeyTag() || c.From != Start || c.To != AddPend || !c.Until.Equal(t0.Add(30*day)) {
		t.Errorf("the new key: %+v", c)
	}
	_, r = s.Update(facts([]pair{a}, []pair{a}), t0.Add(day))
	if len(r.Changes) != 1 || r.Changes[0].From != AddPend || r.Changes[0].To != Start {
		t.Errorf("the key that left: %+v", r)
	}
	s, r = s.Update(facts([]pair{a.revoked()}, []pair{a.revoked()}), t0.Add(day))
	if r.Trusted || !r.Deleted {
		t.Errorf("the last anchor's revocation: %+v", r)
	}
	if _, ok := s.Anchor(); ok {
		t.Error("the zone has an anchor left")
	}
}

// TestHoldDownIsTheTTLIfThatIsLonger is the second half of RFC 5011 §2.4.1.
func TestHoldDownIsTheTTLIfThatIsLonger(t *testing.T) {
	a, b := newPair(t, 257), newPair(t, 257)
	p := facts([]pair{a, b}, []pair{a})
	p.TTL = 40 * day
	s, _ := State{Zone: example, Configured: []dns.RR{a.ds()}}.Update(p, t0)
	for at, want := range map[time.Duration]KeyState{40*day - time.Second: AddPend, 40 * day: Valid} {
		if next, _ := s.Update(p, t0.Add(at)); states(next)[b.KeyTag()] != want {
			t.Errorf("after %v: %v", at, states(next))
		}
	}
}

func TestConfiguredAnchorsStayUntilTheirKeyIsSeen(t *testing.T) {
	a, b := newPair(t, 257), newPair(t, 256) // b without SEP: the operator's word is enough
	s := State{Zone: example, Configured: []dns.RR{a.ds(), b.DNSKEY}}
	s, _ = s.Update(facts([]pair{a}, []pair{a}), t0)
	if !trusts(s, a) || !trusts(s, b) {
		t.Errorf("trusted: a %v, b %v", trusts(s, a), trusts(s, b))
	}
	s, _ = s.Update(facts([]pair{a, b}, []pair{b}), t0.Add(day))
	if states(s)[b.KeyTag()] != Valid {
		t.Errorf("got %v", states(s))
	}
}

// TestKeysOfAZoneAreBounded has a zone show more and more keys, and then a
// configured one that is revoked: it is always remembered.
func TestKeysOfAZoneAreBounded(t *testing.T) {
	a, lost := newPair(t, 257), newPair(t, 257)
	s := State{Zone: example, Configured: []dns.RR{a.ds(), lost.ds()}}
	keys := []pair{a}
	for range maxKeys + 5 {
		keys = append(keys, newPair(t, 257))
	}
	s, _ = s.Update(facts(keys, []pair{a}), t0)
	if len(s.Keys) != maxKeys {
		t.Errorf("%d keys", len(s.Keys))
	}
	r := lost.revoked()
	s, _ = s.Update(facts(append(keys, r), []pair{a, r}), t0.Add(day))
	if len(s.Keys) != maxKeys+1 || trusts(s, lost) {
		t.Errorf("%d keys; the revoked one is trusted: %v", len(s.Keys), trusts(s, lost))
	}
}

func TestRemovedKeysMakeRoom(t *testing.T) {
	a := newPair(t, 257)
	s := State{Zone: example, Configured: []dns.RR{a.ds()}}
	for i := range maxKeys - 1 {
		s.Keys = append(s.Keys, Key{DNSKEY: newPair(t, 257).DNSKEY, State: Removed, Since: t0.Add(-time.Duration(i) * day)})
	}
	oldest := s.Keys[maxKeys-2].DNSKEY.KeyTag()
	b := newPair(t, 257)
	s, _ = s.Update(facts([]pair{a, b}, []pair{a}), t0)
	if got := states(s); got[b.KeyTag()] != AddPend || got[a.KeyTag()] != Valid || got[oldest] != Start {
		t.Errorf("got %v", got)
	}
}

func TestQueryIntervalsAreThoseOfRFC5011(t *testing.T) {
	for _, test := range []struct {
		left, query, retry time.Duration
	}{
		{2 * day, day, 4*time.Hour + 48*time.Minute},
		{60 * day, 15 * day, day},
		{time.Minute, time.Hour, time.Hour},
		{-day, time.Hour, time.Hour},
	} {
		p := Probe{Expires: t0.Add(test.left)}
		if q, r := p.query(t0), p.retry(t0); q != test.query || r != test.retry {
			t.Errorf("%v left: got %v and %v, want %v and %v", test.left, q, r, test.query, test.retry)
		}
	}
	if q, r := (Probe{}).query(t0), (Probe{}).retry(t0); q != time.Hour || r != time.Hour {
		t.Errorf("nothing known: %v, %v", q, r)
	}
}
