package dnstap

import (
	"fmt"
	"time"
)

// State is what an output is doing.
type State uint8

// The states.
const (
	Disconnected State = iota // not open
	Connected                 // open
	Stalled                   // open, but the collector takes nothing
)

var stateNames = [...]string{"disconnected", "connected", "stalled"}

// String returns the word for s.
func (s State) String() string {
	if int(s) >= len(stateNames) {
		return fmt.Sprintf("State(%d)", uint8(s))
	}
	return stateNames[s]
}

// MarshalText writes s as its word.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the word for a State.
func (s *State) UnmarshalText(text []byte) error {
	for i, name := range stateNames {
		if name == string(text) {
			*s = State(i)
			return nil
		}
	}
	return fmt.Errorf("%q is no state of an output", text)
}

// OutputStats is what an output has done. When nothing is under way,
//
//	Emitted = Sent + Dropped + Queued
//
// Sent is what the system took for a collector that was there: what it held when
// that died is lost.
type OutputStats struct {
	Name     string `json:"name"`
	State    State  `json:"state"`    // now
	Emitted  uint64 `json:"emitted"`  // frames that the filter took
	Sent     uint64 `json:"sent"`     // frames
	Dropped  uint64 `json:"dropped"`  // frames for which there was no room, or no time at the end
	Queued   uint64 `json:"queued"`   // frames, now
	Octets   uint64 `json:"octets"`   // sent
	Opened   uint64 `json:"opened"`   // connections made, or files begun
	Failures uint64 `json:"failures"` // connections and files that failed or could not be had
}

// Stats are the numbers of all outputs of a [Tap].
type Stats []OutputStats

// Total returns the sums.
func (s Stats) Total() (sum OutputStats) {
	for i := range s {
		sum.add(&s[i])
	}
	return sum
}

// Summary returns the sums as sections and numbers, and the outputs by their
// names.
func (s Stats) Summary() map[string]any {
	total := s.Total()
	out, outputs := total.numbers(), make(map[string]any, len(s))
	for i := range s {
		inner := s[i].numbers()
		inner["state"] = s[i].State.String()
		outputs[s[i].Name] = inner
	}
	out["outputs"] = outputs
	return out
}

func (s *OutputStats) numbers() map[string]any {
	return map[string]any{
		"emitted": s.Emitted, "sent": s.Sent, "dropped": s.Dropped, "queued": s.Queued,
		"octets": s.Octets, "opened": s.Opened, "failures": s.Failures,
	}
}

// Stats returns the current numbers of all outputs. Each is exact; together they
// are not of one moment.
func (t *Tap) Stats() Stats {
	if t == nil {
		return nil
	}
	list := t.current.Load().list
	out := make(Stats, 0, len(list))
	for _, o := range list {
		out = append(out, o.Stats())
	}
	return out
}

// add adds the counts of what went before.
func (s *OutputStats) add(before *OutputStats) {
	s.Emitted += before.Emitted
	s.Sent += before.Sent
	s.Dropped += before.Dropped
	s.Queued += before.Queued
	s.Octets += before.Octets
	s.Opened += before.Opened
	s.Failures += before.Failures
}

// Stats returns the current numbers of the output, and of those that it has
// followed.
func (o *output) Stats() OutputStats {
	o.inheriting.Lock()
	before, s := o.before, o.inherited
	o.inheriting.Unlock()
	if before != nil {
		s = before.Stats()
	}
	s.Name = o.name
	s.add(&OutputStats{
		Sent: o.sent.Load(), Octets: o.octets.Load(), Dropped: o.discarded.Load(),
		Opened: o.opened.Load(), Failures: o.failures.Load(),
		Queued: uint64(o.left.Load()) + uint64(o.queue.frames()),
	})
	for i := range o.lanes {
		l := &o.lanes[i]
		l.mu.Lock()
		s.Emitted += l.emitted
		s.Dropped += l.dropped
		if l.cur != nil {
			s.Queued += uint64(l.cur.n)
		}
		l.mu.Unlock()
	}
	switch began := o.writing.Load(); {
	case !o.connected.Load():
	case began != 0 && time.Since(time.Unix(0, began)) > stallNotice:
		s.State = Stalled
	default:
		s.State = Connected
	}
	return s
}
