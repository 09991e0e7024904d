package rrset

import (
	"slices"
	"testing"
	"time"
)

func TestTTLCountsABegunSecondWhole(t *testing.T) {
	until := time.Date(2026, 1, 1, 0, 5, 0, 0, time.UTC)
	s := Set{Until: until}
	for left, want := range map[time.Duration]uint32{
		300 * time.Second:             300,
		299*time.Second + 1:           300,
		299 * time.Second:             299,
		time.Nanosecond:               1,
		0:                             0,
		-time.Nanosecond:              0,
		-24 * time.Hour:               0,
		(1<<31 - 1) * time.Second:     1<<31 - 1, // RFC 2181 §8
		time.Second + time.Nanosecond: 2,
	} {
		if got := s.TTL(until.Add(-left)); got != want {
			t.Errorf("with %v left the TTL is %d, want %d", left, got, want)
		}
	}
}

func TestRanksAreInTheOrderOfRFC2181(t *testing.T) { // §5.4.1
	ranks := []Rank{0, Additional, Authority, NonAuthAnswer, AuthAuthority, AuthAnswer}
	if !slices.IsSorted(ranks) || len(slices.Compact(ranks)) != 6 {
		t.Errorf("the ranks are %d", ranks)
	}
}

func TestTheLeastTrustIsTheTrustOfAChain(t *testing.T) {
	trusts := []Trust{Unchecked, Bogus, Indeterminate, Insecure, Secure}
	if !slices.IsSorted(trusts) || len(slices.Compact(trusts)) != len(trustNames) {
		t.Errorf("the trusts are %d", trusts)
	}
	if got := min(Secure, Insecure, Secure); got != Insecure {
		t.Errorf("a chain with an insecure link is %v", got)
	}
	if got := min(Secure, Bogus, Insecure); got != Bogus {
		t.Errorf("a chain with a bogus link is %v", got)
	}
}

func TestTrustIsPrintedInTheWordsOfRFC4035(t *testing.T) { // §4.3
	var got []string
	for _, trust := range []Trust{Unchecked, Bogus, Indeterminate, Insecure, Secure} {
		got = append(got, trust.String())
	}
	if want := []string{"unchecked", "bogus", "indeterminate", "insecure", "secure"}; !slices.Equal(got, want) {
		t.Errorf("the trusts are printed %q, want %q", got, want)
	}
}
