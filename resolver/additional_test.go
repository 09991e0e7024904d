package resolver

import (
	"testing"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

func TestAdditionalSetsAreWorthNoLessThanASecureAnswer(t *testing.T) {
	var sets []rrset.Set
	for trust := rrset.Unchecked; trust <= rrset.Secure; trust++ {
		sets = append(sets, rrset.Set{Trust: trust})
	}
	for answer, want := range map[rrset.Trust][]rrset.Trust{
		rrset.Unchecked: {rrset.Unchecked, rrset.Indeterminate, rrset.Insecure, rrset.Secure},
		rrset.Insecure:  {rrset.Unchecked, rrset.Indeterminate, rrset.Insecure, rrset.Secure},
		rrset.Secure:    {rrset.Secure},
	} {
		got := dropBelow(sets, answer)
		if len(got) != len(want) {
			t.Errorf("beside a %v answer: %d sets, want %d", answer, len(got), len(want))
			continue
		}
		for i := range got {
			if got[i].Trust != want[i] {
				t.Errorf("beside a %v answer: %v, want %v", answer, got[i].Trust, want[i])
			}
		}
	}
}

func TestAddressesBesideAnNSSetAreBounded(t *testing.T) {
	q := question("example.com NS")
	for addrs, want := range map[int]int{maxAdditionalAddrs: 1, maxAdditionalAddrs + 1: 0, maxPerSet + 1: 0} {
		m := response{flags: aa, an: "example.com 300 NS ns.example.com", ar: lines(addrs, "ns.example.com 300 A 192.0.2.%d")}.msg(t, q)
		rep := classify(m, q, testCut("example.com"), testNow, testTTLs)
		if rep.Verdict != Positive || len(rep.Beside) != want {
			t.Errorf("%d addresses: verdict %v, %d sets, want %d", addrs, rep.Verdict, len(rep.Beside), want)
		}
	}
	m := response{
		flags: aa, an: lines(maxAdditionalNames+5, "example.com 300 NS ns%d.example.com"),
		ar: lines(maxAdditionalNames+5, "ns%d.example.com 300 A 192.0.2.1"),
	}.msg(t, q)
	rep := classify(m, q, testCut("example.com"), testNow, testTTLs)
	if len(rep.Beside) != maxAdditionalNames {
		t.Errorf("%d sets, want %d", len(rep.Beside), maxAdditionalNames)
	}
	for _, s := range rep.Beside {
		if s.Rank != rrset.Additional || s.Type != wire.TypeA {
			t.Errorf("%v %v of rank %v", s.Name, s.Type, s.Rank)
		}
	}
}
