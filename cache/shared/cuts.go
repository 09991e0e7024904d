package shared

import (
	"context"
	"sync"
	"time"

	"github.com/bradfitz/gomemcache/memcache"

	"shirube/internal/wire"
)

// Zone is one thing that a server tells the others about a zone: who serves it,
// or what is proven of its keys. What it says is for those who share it; here it
// is octets that end.
type Zone struct {
	Name   wire.Name
	Keys   bool      // it is what is proven of the keys; else it is the cut
	Stored time.Time // when it was learned, by the writer's clock, to the millisecond
	Until  time.Time // nothing of it lives on after that: neither used nor renewed from then on
	Writer string    // the name of the server that wrote it, for people
	Text   []byte    // what it says
}

// maxZones bounds the zones that are looked up at once.
const maxZones = 8

// maxDoubts is how many zones are remembered of which nothing that was learned
// before a time is taken. One more makes them one doubt of all.
const maxDoubts = 256

// zoneKey returns what the names of keys about a zone are made of.
func zoneKey(n wire.Name, scope uint64) Key {
	return Key{Question: wire.Question{Name: n, Type: wire.TypeNS}, Scope: scope}
}

// use returns what the key of z is for.
func (z *Zone) use() byte {
	if z.Keys {
		return forKeys
	}
	return forCut
}

// zoneLookup is a look-up of both things that may be known of a zone.
type zoneLookup struct {
	k     Key
	names [2]string // of keys: of the cut, and of what is proven
	s     *server
	l     *lookup
}

// Zones returns what the fleet knows about the zones of these names. It takes no
// longer than within, nor than Options.Budget, and ends with ctx. What is not
// there by then is left out.
func (c *Cache) Zones(ctx context.Context, names []wire.Name, scope uint64, within time.Duration) (found []Zone) {
	now := time.Now()
	var lookups []zoneLookup
	for _, n := range names[:min(len(names), maxZones)] {
		z := zoneLookup{k: zoneKey(n, scope)}
		d := c.ring.digest(z.k)
		if z.s, _ = c.pick(d.route(), now); z.s == nil {
			continue
		}
		z.names = [2]string{keyName(forCut, c.opt.Generation, d), keyName(forKeys, c.opt.Generation, d)}
		z.s.counts.gets.Add(1)
		if z.l = z.s.ask(now, z.names[:]...); z.l != nil {
			lookups = append(lookups, z)
		}
	}
	end := now.Add(min(within, c.opt.Budget))
	for i := range lookups {
		z := &lookups[i]
		if !c.waits(ctx, z.s, time.Until(end), z.l.done, &z.l.gone) {
			continue // what others of them say may be there
		}
		z.s.judge(verdictOf(z.l.err), time.Now())
		for j, name := range z.names {
			if got, ok := c.openZone(z, name, j == 1); ok {
				c.counts.zonesFound.Add(1)
				found = append(found, got)
			}
		}
	}
	return found
}

// openZone returns what is said of z in the item called name, if it may be used.
func (c *Cache) openZone(z *zoneLookup, name string, keys bool) (Zone, bool) {
	item := z.l.items[name]
	if item == nil || len(item.Value) == 0 {
		return Zone{}, false
	}
	got, err := c.readZone(z.k.Name, keys, name, item)
	if err != nil {
		z.s.counts.rejected.Add(1)
		c.reject(z.s, err)
		return Zone{}, false
	}
	return got, true
}

// readZone returns what is said of the zone n in item, or why it is not used.
func (c *Cache) readZone(n wire.Name, keys bool, name string, item *memcache.Item) (Zone, error) {
	body, err := c.ring.open(name, item.Value)
	if err != nil {
		return Zone{}, err
	}
	z, err := parseZone(body)
	if err != nil {
		return Zone{}, err
	}
	now := c.opt.Clock.Now()
	switch {
	case z.Name != n || z.Keys != keys:
		return Zone{}, errQuestion
	case z.Stored.Sub(now) > maxSkew:
		return Zone{}, errFuture
	case !now.Before(z.Until):
		return Zone{}, errOld
	case c.zoneFlushed(&z), c.doubts.cover(&z):
		return Zone{}, errFlushed
	}
	return z, nil
}

// zoneFlushed reports whether there is an order to forget z.
func (c *Cache) zoneFlushed(z *Zone) bool {
	e := Entry{Stored: z.Stored}
	for _, typ := range [...]wire.Type{wire.TypeNS, wire.TypeDS, wire.TypeDNSKEY} {
		if c.flushes.covers(Key{Question: wire.Question{Name: z.Name, Type: typ}}, &e) {
			return true
		}
	}
	return false
}

// TellZone tells the fleet z, which is said by those who share scope. It does not
// wait, and replaces nothing that was learned later.
func (c *Cache) TellZone(scope uint64, z Zone) {
	d := c.ring.digest(zoneKey(z.Name, scope))
	s, standIn := c.pick(d.route(), time.Now())
	if s == nil || !c.ofEpoch(z.Stored) {
		return
	}
	z.Writer = c.opt.Writer
	c.counts.zonesTold.Add(1)
	if standIn {
		c.counts.standIns.Add(1)
	}
	name := keyName(z.use(), c.opt.Generation, d)
	s.put(store{
		name: name,
		value: func() ([]byte, int32) {
			return c.sealUntil(name, z.appendBody(nil), z.Until, standIn)
		},
		fresher: func(old []byte) bool {
			have, err := c.readZone(z.Name, z.Keys, name, &memcache.Item{Value: old})
			return err == nil && !have.Stored.Before(z.Stored.Truncate(time.Millisecond))
		},
	})
}

// appendBody appends z in the form that values have inside.
func (z *Zone) appendBody(buf []byte) []byte {
	part := byte(0)
	if z.Keys {
		part = 1
	}
	buf = append(buf, bodyZone, part)
	buf = appendTime(buf, z.Stored)
	buf = appendTime(buf, z.Until)
	buf = appendText(buf, z.Writer)
	buf = append(append(buf, byte(len(z.Name))), z.Name...)
	return append(buf, z.Text...)
}

// parseZone reads what appendBody wrote. The text is not copied. The error is
// errForm.
func parseZone(b []byte) (Zone, error) {
	r := reader{b: b}
	kind, part := r.octet(), r.octet()
	z := Zone{Keys: part == 1, Stored: r.time(), Until: r.time(), Writer: r.text()}
	raw := r.take(int(r.octet()))
	if r.bad || kind != bodyZone || part > 1 || z.Stored.IsZero() || z.Until.IsZero() {
		return Zone{}, errForm
	}
	name, err := wire.FromWire(raw)
	if err != nil || len(name) != len(raw) {
		return Zone{}, errForm
	}
	z.Name, z.Text = name, r.b
	return z, nil
}

// doubts are zones of which something was found to be wrong. The zero value has
// none.
type doubts struct {
	mu    sync.RWMutex
	since map[wire.Name]time.Time // of the root: of all
}

// Doubt has nothing taken of zone any more that was learned before now: something
// that was known of it is wrong.
func (c *Cache) Doubt(zone wire.Name) { c.doubts.add(zone, c.opt.Clock.Now()) }

func (d *doubts) add(zone wire.Name, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.since == nil || len(d.since) >= maxDoubts && d.since[zone].IsZero() {
		if d.since != nil {
			zone = wire.Root
		}
		d.since = make(map[wire.Name]time.Time)
	}
	d.since[zone] = now
}

// cover reports whether z is in doubt.
func (d *doubts) cover(z *Zone) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return !z.Stored.After(d.since[z.Name]) || !z.Stored.After(d.since[wire.Root])
}
