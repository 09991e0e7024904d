package anchor

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// fetchTime is how long one question of a [Tracker] may take.
const fetchTime = 30 * time.Second

// longestSleep bounds how long a [Tracker] trusts the distance between two
// times: the clock may be set meanwhile.
const longestSleep = time.Hour

// TrackerOptions configures a [Tracker].
type TrackerOptions struct {
	Anchors *Anchors

	// Fetch returns the DNSKEY set of a zone with its signatures, as the zone's
	// servers have it: from nobody's memory, and whatever validation says of it.
	Fetch func(ctx context.Context, zone wire.Name) (rrset.Set, error)

	// Signal sends a question whose answer is of no interest, to tell a zone
	// which of its keys are trusted (RFC 8145 §5). nil: nobody is told.
	Signal func(ctx context.Context, q wire.Question)
}

// Tracker follows the roll-overs of all anchors: it looks at each zone's keys as
// often as RFC 5011 §2.3 says, and keeps what it learned in the state directory.
type Tracker struct {
	opt TrackerOptions
	a   *Anchors
	log *slog.Logger

	zones map[wire.Name]*tracked
	// unsaved says that the state directory could not be written last time, so
	// that the log is told once.
	unsaved bool
}

// tracked is a zone that is followed.
type tracked struct {
	due   time.Time
	last  Probe  // the last that was trusted
	saved []byte // what its file has, as far as we wrote it
	// failing says that the last look brought nothing that is trusted, so that
	// the log is told once.
	failing bool
}

// NewTracker returns a Tracker. It starts nothing.
func NewTracker(opt TrackerOptions) (*Tracker, error) {
	if opt.Anchors == nil || opt.Fetch == nil {
		return nil, errors.New("anchor: a tracker needs Anchors and Fetch")
	}
	t := &Tracker{opt: opt, a: opt.Anchors, log: opt.Anchors.opt.Log, zones: make(map[wire.Name]*tracked)}
	for _, zone := range t.a.tracked {
		t.zones[zone] = new(tracked)
	}
	return t, nil
}

// Run follows the roll-overs until ctx ends. It is the goroutine of its caller.
// It begins by writing every state, so that a directory in which it cannot is
// known from the start, and by looking at every zone.
func (t *Tracker) Run(ctx context.Context) {
	for _, zone := range t.a.tracked {
		if s, ok := t.a.State(zone); ok {
			t.save(s)
		}
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		timer.Reset(t.round(ctx))
	}
}

// round looks at every zone that is due, and returns when to come back.
func (t *Tracker) round(ctx context.Context) time.Duration {
	sleep := longestSleep
	for _, zone := range t.a.tracked {
		if ctx.Err() != nil {
			return sleep
		}
		z := t.zones[zone]
		now := t.a.opt.Clock.Now()
		// A due time that no interval reaches is from before the clock was set.
		if !now.Before(z.due) || z.due.Sub(now) > maxQuery {
			wait := t.look(ctx, zone, z)
			now = t.a.opt.Clock.Now()
			z.due = now.Add(wait)
		}
		sleep = min(sleep, z.due.Sub(now))
	}
	return max(sleep, time.Second)
}

// look fetches a zone's keys and learns from them. It returns when to look
// again.
func (t *Tracker) look(ctx context.Context, zone wire.Name, z *tracked) time.Duration {
	if _, ok := t.a.current.Load().anchors[zone]; !ok {
		return maxQuery // RFC 5011 §5: the trust point is deleted, and stays so
	}
	fetching, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	set, err := t.opt.Fetch(fetching, zone)
	if ctx.Err() != nil {
		return maxQuery // never
	}
	now := t.a.opt.Clock.Now()
	if err == nil {
		p := Check(zone, set, now)
		state, result := t.a.learn(zone, p, now)
		t.tell(ctx, state, result)
		t.save(state)
		if result.Trusted {
			t.recovered(zone, z)
			z.last = p
			t.signal(ctx, zone)
			return p.query(now)
		}
		err = errUntrusted
	}
	t.failed(zone, z, err)
	return z.last.retry(now)
}

// errUntrusted says that a zone's keys are signed by none of its anchors.
var errUntrusted = errors.New("no trust anchor has a signature over the zone's keys that is valid now")

// failed tells the log once that a zone's keys could not be followed.
func (t *Tracker) failed(zone wire.Name, z *tracked, err error) {
	if !z.failing {
		t.log.Warn("cannot follow a zone's trust anchors; trying again", "zone", zone.String(), "error", err)
	}
	z.failing = true
}

// recovered tells the log once that they can be again.
func (t *Tracker) recovered(zone wire.Name, z *tracked) {
	if z.failing {
		t.log.Info("following a zone's trust anchors again", "zone", zone.String())
	}
	z.failing = false
}

// signal tells the zone which keys are trusted (RFC 8145 §5.1).
func (t *Tracker) signal(ctx context.Context, zone wire.Name) {
	if t.opt.Signal == nil {
		return
	}
	if q, ok := KeyTagQuery(zone, t.a.Tags(zone)); ok {
		signalling, cancel := context.WithTimeout(ctx, fetchTime)
		defer cancel()
		t.opt.Signal(signalling, q)
	}
}

// tell writes what a probe came to into the log.
func (t *Tracker) tell(ctx context.Context, s State, r Result) {
	for _, c := range r.Changes {
		args := []any{"zone", s.Zone.String(), "tag", c.Key.KeyTag(), "algorithm", c.Key.Algorithm, "from", c.From.String(), "to", c.To.String()}
		if !c.Until.IsZero() {
			args = append(args, "until", c.Until)
		}
		level := slog.LevelInfo
		if c.To == Revoked || c.To == Missing {
			level = slog.LevelWarn
		}
		t.log.Log(ctx, level, "a trust anchor changes its state", args...)
	}
	if r.Deleted {
		t.log.Error("all trust anchors of a zone are revoked: it is no longer validated by its own", "zone", s.Zone.String())
	}
}

// save brings the state of a zone to its file, if it is not what the file has.
// Without a directory it does nothing; when it fails, the state lives on in
// memory.
func (t *Tracker) save(s State) {
	dir := t.a.opt.Directory
	if dir == "" {
		return
	}
	z, path := t.zones[s.Zone], statePath(dir, s.Zone)
	content, err := encode(s)
	if err == nil {
		if bytes.Equal(content, z.saved) {
			return
		}
		err = writeState(path, content, t.a.foreign[path])
	}
	switch {
	case err != nil && !t.unsaved:
		t.log.Warn("cannot keep what is learned of trust anchors; validating with what is in memory, which a restart forgets",
			"file", path, "error", err)
	case err == nil && t.unsaved:
		t.log.Info("keeping what is learned of trust anchors again", "file", path)
	}
	t.unsaved = err != nil
	if err == nil {
		z.saved = slices.Clip(content)
		delete(t.a.foreign, path)
	}
}
