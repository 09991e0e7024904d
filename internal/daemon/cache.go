package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"shirube/cache/shared"
	"shirube/internal/control"
	"shirube/internal/wire"
)

// errNoFleet says that there is nobody to tell.
var errNoFleet = errors.New("this server has no shared cache: shared_cache.enabled is false")

// order forgets what f is about, here and, if that is asked for, on all servers
// of the fleet.
func (d *Daemon) order(ctx context.Context, f control.Flush) (control.Flushed, error) {
	return d.Pipeline().order(ctx, f)
}

func (p *Pipeline) order(ctx context.Context, f control.Flush) (control.Flushed, error) {
	if f.Fleet && p.Shared == nil {
		return control.Flushed{}, errNoFleet
	}
	done := p.flush(f)
	if !f.Fleet {
		return done, nil
	}
	told, err := p.Shared.FlushFleet(ctx, shared.Flush{Name: f.Name, Below: f.Below, Type: f.Type})
	done.Fleet = &control.FleetFlushed{Servers: told.Copies, Of: told.Of}
	if err != nil {
		done.Fleet.Problem = err.Error()
	}
	return done, nil
}

// cacheLayers says how the layers of the cache are doing.
func (d *Daemon) cacheLayers() control.CacheLayers {
	p := d.Pipeline()
	f := p.Frontend.Stats()
	out := control.CacheLayers{Memory: d.caches()}
	out.Given = control.CacheGiven{Memory: f.Hits, Shared: f.Shared.Hits, Resolved: f.Took.Count() - min(f.Took.Count(), f.Shared.Hits)}
	if p.Shared == nil {
		return out
	}
	s := p.sharedStats()
	layer := &control.SharedLayer{
		Hits: s.Hits, Stale: s.Stale, Failures: s.Failures, Misses: s.Misses, Skipped: s.Skipped,
		Rejected: make(map[string]uint64), SkewMS: s.Skew.Milliseconds(), Servers: []control.SharedServer{},
	}
	for i, why := range shared.Reasons() {
		if s.Rejected[i] > 0 {
			layer.Rejected[why] = s.Rejected[i]
		}
	}
	where := make(map[string]string)
	for _, m := range p.Shared.Members() {
		where[m.Name] = m.Addr.String()
	}
	for _, name := range slices.Sorted(maps.Keys(s.Servers)) {
		m := s.Servers[name]
		layer.Servers = append(layer.Servers, control.SharedServer{
			Name: name, Address: where[name], State: m.State.String(),
			Gets: m.Gets, Hits: m.Hits, Late: m.Late, Errors: m.Errors, Stored: m.Stored,
		})
	}
	out.Shared, out.Fleet = layer, fleetFlushes(s.Fleet)
	return out
}

// fleetFlushes translates what is known of the flushes of the fleet.
func fleetFlushes(s shared.FleetStats) *control.FleetFlushes {
	out := &control.FleetFlushes{
		ID:     fmt.Sprintf("%08x", s.ID),
		Orders: s.Orders, Octets: s.Octets, AgeMillis: s.Age.Milliseconds(), Read: s.Read, Copies: s.Copies,
	}
	if s.Epoch > 0 {
		out.Epoch = moment(time.UnixMilli(int64(s.Epoch)))
	}
	return out
}

// cacheEntry says what the layers of the cache have about q.
func (d *Daemon) cacheEntry(ctx context.Context, q wire.Question) control.CacheEntry {
	return d.Pipeline().entry(ctx, q)
}

func (p *Pipeline) entry(ctx context.Context, q wire.Question) control.CacheEntry {
	now := p.Clock.Now()
	out := control.CacheEntry{Name: q.Name.String(), Type: q.Type.String(), Memory: []control.MemoryEntry{}}
	for _, form := range []struct {
		name   string
		do, cd bool
	}{{"plain", false, false}, {"dnssec", true, false}, {"plain+cd", false, true}, {"dnssec+cd", true, true}} {
		in, ok := p.Answers.Inspect(q, form.do, form.cd, now)
		if !ok {
			continue
		}
		out.Memory = append(out.Memory, control.MemoryEntry{
			Form: form.name, Status: freshness(in.Left, in.Stale), Rcode: in.Rcode.String(),
			AgeSeconds: in.Age.Seconds(), LeftSeconds: in.Left.Seconds(), Octets: in.Octets,
		})
	}
	if p.Shared == nil {
		return out
	}
	if k, may := p.Frontend.SharedKey(q); may {
		out.Shared = sharedEntry(p.Shared.Inspect(ctx, k), now)
	}
	return out
}

// freshness returns a word for what has so much time left.
func freshness(left time.Duration, stale bool) string {
	switch {
	case left > 0:
		return "fresh"
	case stale:
		return "stale"
	}
	return "expired"
}

// sharedEntry translates what is in the shared cache.
func sharedEntry(in shared.Inspection, now time.Time) *control.SharedEntry {
	out := &control.SharedEntry{Server: in.Server, Octets: in.Octets}
	if in.Err != nil {
		out.Why = in.Err.Error()
	}
	e := &in.Entry
	switch {
	case in.Octets == 0 && in.Err != nil:
		out.Status = "unknown"
	case in.Octets == 0:
		out.Status = "none"
	case in.Err != nil:
		out.Status = "unused"
	case e.Failed():
		out.Status = "failure"
	default:
		out.Status = freshness(e.Expires().Sub(now), true)
	}
	if e.Stored.IsZero() {
		return out
	}
	out.Writer, out.AgeSeconds, out.LeftSeconds = e.Writer, now.Sub(e.Stored).Seconds(), e.Expires().Sub(now).Seconds()
	if !e.Failed() {
		out.Trust, out.Rcode = e.Trust.String(), wire.RcodeOf(e.Msg).String()
	}
	return out
}

// popular lists what is asked most.
func (d *Daemon) popular(most int) []control.Asked {
	out := []control.Asked{}
	for _, p := range d.Pipeline().Frontend.Popular(most) {
		out = append(out, control.Asked{Name: p.Question.Name.String(), Type: p.Question.Type.String(), Count: p.Count})
	}
	return out
}
