package frontend

import (
	"slices"
	"time"

	"shirube/internal/wire"
)

// Flight is a question that is being resolved, for people to read.
type Flight struct {
	Question wire.Question
	CD       bool
	Begun    time.Time // by the real clock
	Waiters  int       // clients that wait; a renewal that nobody waits for counts as one
}

// Flights returns the questions being resolved, the oldest first, but not more
// than limit, and how many there are in all.
func (f *Frontend) Flights(limit int) (flights []Flight, all int) {
	f.flights.mu.Lock()
	flights = make([]Flight, 0, len(f.flights.m))
	for k, fl := range f.flights.m {
		flights = append(flights, Flight{Question: k.q, CD: k.cd, Begun: fl.begun, Waiters: fl.callers})
	}
	f.flights.mu.Unlock()
	slices.SortFunc(flights, func(a, b Flight) int { return a.Begun.Compare(b.Begun) })
	return flights[:min(len(flights), limit)], len(flights)
}
