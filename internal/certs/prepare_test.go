package certs

import (
	"bytes"
	"crypto/tls"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"shirube/internal/lab/ca"
)

// TestPreparedChangesNothingUntilItIsTaken has a store begin without a certificate,
// get one, another, and none again, under one config that was given out.
func TestPreparedChangesNothingUntilItIsTaken(t *testing.T) {
	a, dir := authority(t), t.TempDir()
	one := issue(t, a, dir, "one", ca.Leaf{Names: []string{"one.example"}})
	two := issue(t, a, dir, "two", ca.Leaf{Names: []string{"two.example"}})
	s := newStore(t, Options{})
	config := s.Config("dot")
	shown := func() string {
		state, err := handshakeWith(config, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			return ""
		}
		return state.PeerCertificates[0].DNSNames[0]
	}
	if s.Shown(netip.Addr{}, "") != nil || shown() != "" || s.Stats() != (Stats{}) {
		t.Errorf("without a certificate: %+v", s.Stats())
	}
	for _, c := range []struct {
		pairs         []Pair
		before, after string
	}{
		{[]Pair{one}, "", "one.example"},
		{[]Pair{two}, "one.example", "two.example"},
		{nil, "two.example", ""},
	} {
		take, err := s.Prepare(Options{Pairs: c.pairs})
		if err != nil {
			t.Fatal(err)
		}
		if got, version := shown(), s.Version(); got != c.before || version == 0 {
			t.Errorf("%v was prepared, and %q is shown", c.pairs, got)
		}
		version := s.Version()
		take()
		if got := shown(); got != c.after || s.Version() == version || s.Stats().InUse != len(c.pairs) {
			t.Errorf("%v was taken, and %q is shown: %+v", c.pairs, got, s.Stats())
		}
	}
	if _, err := s.Prepare(Options{Pairs: []Pair{{filepath.Join(dir, "none.pem"), one.Key}}}); err == nil || !strings.Contains(err.Error(), "none.pem") {
		t.Errorf("got %v", err)
	}
}

// TestPreparedKeepsWhatStays: a pair whose files hold nothing good by now goes on
// as it is when another is added, and is taken up when it is good again.
func TestPreparedKeepsWhatStays(t *testing.T) {
	a, dir := authority(t), t.TempDir()
	secret := filepath.Join(dir, "secret")
	write(t, secret, strings.Repeat("ab", minSecret))
	synctest.Test(t, func(t *testing.T) {
		one := issue(t, a, dir, "one", ca.Leaf{Names: []string{"one.example"}})
		two := issue(t, a, dir, "two", ca.Leaf{Names: []string{"two.example"}})
		s := newStore(t, Options{Pairs: []Pair{one}, SecretFile: secret})
		defer run(t, s)()
		good, err := os.ReadFile(one.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		write(t, one.Certificate, "nothing")
		time.Sleep(3 * DefaultPoll)
		keys := s.keys
		take, err := s.Prepare(Options{Pairs: []Pair{two, one}, SecretFile: secret})
		if err != nil {
			t.Fatal(err)
		}
		take()
		if st := s.Stats(); st.InUse != 2 || st.Failing != 1 || st.Taken != 2 || len(s.keys) == 0 || s.keys[0] != keys[0] {
			t.Errorf("%+v", st)
		}
		write(t, one.Certificate, string(bytes.TrimSpace(good)))
		time.Sleep(3 * DefaultPoll)
		if st := s.Stats(); st.Failing != 0 || st.Taken != 3 {
			t.Errorf("%+v", st)
		}
	})
}

func TestPreparedSecretTakesThePlaceOfTheOneBefore(t *testing.T) {
	a, dir := authority(t), t.TempDir()
	pairs := []Pair{issue(t, a, dir, "a", ca.Leaf{Names: []string{"a.example"}})}
	file := filepath.Join(dir, "secret")
	write(t, file, strings.Repeat("ab", minSecret))
	s, of := newStore(t, Options{Pairs: pairs}), newStore(t, Options{Pairs: pairs, SecretFile: file})
	if resumes(t, s, of) {
		t.Error("a ticket of no secret is taken")
	}
	take, err := s.Prepare(Options{Pairs: pairs, SecretFile: file})
	if err != nil {
		t.Fatal(err)
	}
	take()
	if !resumes(t, s, of) {
		t.Error("a ticket of the secret that was taken is not")
	}
}
