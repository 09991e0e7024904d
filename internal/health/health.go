// Package health knows whether the server is ready for clients, and if not, why:
// causes are values, each with a code for machines, a text for people, the time
// it began, and how long it may last before it counts. Load balancers, probes
// and the health name all ask the same [State].
package health

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// The codes of causes. There are no others, so that they can be labels of
// metrics.
const (
	Starting = "starting" // nothing is listened to yet
	Draining = "draining" // the server was told to stop, and still answers
	Warming  = "warming"  // memory is being filled with what the fleet knows
	NoRoot   = "no_root"  // nothing can be asked of the root, or of what stands for it
	Stopping = "stopping" // clients are not listened to any more
)

// Codes returns all codes.
func Codes() []string { return []string{Starting, Draining, Stopping, Warming, NoRoot} }

// Cause is why the server is not ready, or will not be if it lasts.
type Cause struct {
	Code  string        // one of [Codes]
	Text  string        // for people
	Since time.Time     // when it began
	Grace time.Duration // it counts when it has lasted for so long
}

// Counts reports whether c makes a server not ready at now.
func (c Cause) Counts(now time.Time) bool { return now.Sub(c.Since) >= c.Grace }

// State is what is wrong with a server now. Its zero value is a server that is
// ready. It is safe for concurrent use; reading takes no lock and allocates
// nothing.
type State struct {
	mu     sync.Mutex              // of who changes causes
	causes atomic.Pointer[[]Cause] // immutable, in the order of their codes
}

// Begin records that there is a cause from now on. One that is there already
// keeps the time it began.
func (s *State) Begin(code, text string, grace time.Duration, now time.Time) {
	s.change(func(causes []Cause) []Cause {
		c := Cause{Code: code, Text: text, Since: now, Grace: grace}
		if i := index(causes, code); i >= 0 {
			c.Since = causes[i].Since
			causes[i] = c
			return causes
		}
		return append(causes, c)
	})
}

// End records that a cause is gone.
func (s *State) End(code string) {
	s.change(func(causes []Cause) []Cause {
		return slices.DeleteFunc(causes, func(c Cause) bool { return c.Code == code })
	})
}

// change replaces the causes by what edit makes of a copy of them.
func (s *State) change(edit func([]Cause) []Cause) {
	s.mu.Lock()
	defer s.mu.Unlock()
	causes := edit(slices.Clone(s.Causes()))
	slices.SortFunc(causes, func(a, b Cause) int { return strings.Compare(a.Code, b.Code) })
	s.causes.Store(&causes)
}

func index(causes []Cause, code string) int {
	return slices.IndexFunc(causes, func(c Cause) bool { return c.Code == code })
}

// Causes returns all causes, those that do not count yet among them. Nobody may
// change what it returns.
func (s *State) Causes() []Cause {
	if p := s.causes.Load(); p != nil {
		return *p
	}
	return nil
}

// Ready reports whether no cause counts at now.
func (s *State) Ready(now time.Time) bool {
	for _, c := range s.Causes() {
		if c.Counts(now) {
			return false
		}
	}
	return true
}
