package shared

import (
	"context"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"shirube/internal/wire"
)

// The bounds of what servers tell each other about what is asked most.
const (
	MaxHot     = 10_000           // questions of one server
	hotSlots   = 4                // servers whose questions are there at once; others write over them
	hotLife    = 15 * time.Minute // of what one has told
	maxHotPart = 12 << 10         // octets of questions in one value, about: a value has 16 KiB
	maxParts   = 255              // values of one server's questions
	loadBatch  = 32               // keys that one server is asked for at once, while many are loaded
)

// Hot is a question, and about how often it was asked lately.
type Hot struct {
	Question wire.Question
	Count    uint32
}

// What bodies of hot questions begin with, and the only form that there is.
const (
	bodyHot     byte = 17 // where the parts are
	bodyHotPart byte = 18
	hotForm     byte = 1
)

// hotKey is what the key of a slot is made of, and partKey that of its i-th part.
// They are no keys of questions: theirs are for other uses. A part says what it
// says whoever wrote it, and when: to find some of one list and some of another
// does no harm.
func hotKey(slot int) Key { return Key{Question: wire.Question{Name: wire.Root}, Scope: uint64(slot)} }

func partKey(slot, i int) Key {
	return Key{Question: wire.Question{Name: wire.Root, Type: wire.Type(i)}, Scope: uint64(slot)}
}

// hotHead says how many parts there are of what a server has told.
type hotHead struct{ parts int }

// appendBody appends h as a value has it inside.
func (h hotHead) appendBody(buf []byte) []byte {
	return append(buf, bodyHot, hotForm, byte(h.parts))
}

// parseHotHead reads what appendBody wrote. What a later form has behind that is
// not looked at.
func parseHotHead(b []byte) (hotHead, error) {
	r := reader{b: b}
	kind, form := r.octet(), r.octet()
	h := hotHead{parts: int(r.octet())}
	switch {
	case r.bad || kind != bodyHot:
		return hotHead{}, errForm
	case form != hotForm:
		return hotHead{}, errVersion
	}
	return h, nil
}

// appendHot appends as many of list as fit into a part, and returns the rest.
func appendHot(buf []byte, list []Hot) (part []byte, rest []Hot) {
	buf = append(buf, bodyHotPart, hotForm)
	for len(list) > 0 && len(buf) < maxHotPart {
		buf = binary.BigEndian.AppendUint32(buf, list[0].Count)
		buf = binary.BigEndian.AppendUint16(buf, uint16(list[0].Question.Type))
		buf = append(append(buf, byte(len(list[0].Question.Name))), list[0].Question.Name...)
		list = list[1:]
	}
	return buf, list
}

// parseHot reads what appendHot wrote.
func parseHot(b []byte) (list []Hot, err error) {
	r := reader{b: b}
	kind, form := r.octet(), r.octet()
	switch {
	case r.bad || kind != bodyHotPart:
		return nil, errForm
	case form != hotForm:
		return nil, errVersion
	}
	for len(r.b) > 0 {
		h := Hot{Count: r.uint32(), Question: wire.Question{Type: wire.Type(r.uint16())}}
		raw := r.take(int(r.octet()))
		name, err := wire.FromWire(raw)
		if r.bad || err != nil || len(name) != len(raw) || h.Question.Type == 0 || h.Question.Type.Meta() {
			return nil, errForm
		}
		h.Question.Name = name
		list = append(list, h)
	}
	return list, nil
}

// Publish tells those who come new what is asked most of this server, of which
// MaxHot questions count: where the same server, or another one, has told it
// before. It does not wait.
func (c *Cache) Publish(list []Hot) {
	var h hotHead
	slot := int(seedOf(c.opt.Writer) % hotSlots)
	list = list[:min(len(list), MaxHot)]
	for len(list) > 0 && h.parts < maxParts {
		var part []byte
		part, list = appendHot(nil, list)
		c.write(forHotPart, partKey(slot, h.parts), part, hotLife)
		h.parts++
	}
	if h.parts > 0 {
		c.write(forHot, hotKey(slot), h.appendBody(nil), hotLife)
	}
}

// write has body written under a key of the given use, whatever is there.
func (c *Cache) write(use byte, k Key, body []byte, life time.Duration) {
	d := c.ring.digest(k)
	s, _ := c.pick(d.route(), time.Now())
	if s == nil {
		return
	}
	name := keyName(use, c.opt.Generation, d)
	s.put(store{
		name:    name,
		value:   func() ([]byte, int32) { return c.ring.seal(name, body), int32(life / time.Second) },
		fresher: func([]byte) bool { return false },
	})
}

// Hottest returns what is asked most of the fleet, the most popular first, so
// many questions at most. It ends with ctx.
func (c *Cache) Hottest(ctx context.Context, most int) []Hot {
	counts := make(map[wire.Question]uint64)
	for slot := range hotSlots {
		head, err := parseBodyOf(c.body(ctx, forHot, hotKey(slot)), parseHotHead)
		if err != nil {
			continue
		}
		for i := range head.parts {
			part, err := parseBodyOf(c.body(ctx, forHotPart, partKey(slot, i)), parseHot)
			if err != nil {
				continue
			}
			for _, h := range part {
				counts[h.Question] += uint64(h.Count)
			}
		}
	}
	list := make([]Hot, 0, len(counts))
	for q, n := range counts {
		list = append(list, Hot{q, uint32(min(n, 1<<32-1))})
	}
	slices.SortFunc(list, func(a, b Hot) int { return int(int64(b.Count) - int64(a.Count)) })
	return list[:min(len(list), most)]
}

// parseBodyOf parses a body, if there is one.
func parseBodyOf[T any](body []byte, parse func([]byte) (T, error)) (v T, err error) {
	if body == nil {
		return v, errForm
	}
	return parse(body)
}

// body returns the body of a key of the given use, or nil. It takes as long as
// one operation on a connection may.
func (c *Cache) body(ctx context.Context, use byte, k Key) []byte {
	d := c.ring.digest(k)
	s, _ := c.pick(d.route(), time.Now())
	if s == nil {
		return nil
	}
	name := keyName(use, c.opt.Generation, d)
	l := s.ask(time.Now(), name)
	if !c.patient(ctx, l) || l.items[name] == nil {
		return nil
	}
	body, err := c.ring.open(name, l.items[name].Value)
	if err != nil {
		s.counts.rejected.Add(1)
		c.reject(s, err)
		return nil
	}
	return body
}

// patient waits for l for as long as one operation on a connection may take: it
// is for what no client waits for. It says nothing of the server's health.
func (c *Cache) patient(ctx context.Context, l *lookup) bool {
	if l == nil {
		return false
	}
	timer := time.NewTimer(c.opt.Timeout)
	defer timer.Stop()
	select {
	case <-l.done:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	l.gone.Store(true)
	return false
}

// Load looks answers up, many at once, and hands those that are there to each, on
// a goroutine for each server. What is there does not matter to the servers'
// breakers. It ends with ctx.
func (c *Cache) Load(ctx context.Context, keys []Key, each func(Key, Entry)) {
	now := time.Now()
	of := make(map[*server][]Key)
	for _, k := range keys {
		if s, _ := c.pick(c.ring.digest(k).route(), now); s != nil {
			of[s] = append(of[s], k)
		}
	}
	var wg sync.WaitGroup
	for s, keys := range of {
		// Owner: Load. End: after these keys, with ctx, or with the server's first
		// silence. Bound: one for each server.
		wg.Go(func() { c.loadFrom(ctx, s, keys, each) })
	}
	wg.Wait()
}

// loadFrom is Load for the keys of one server.
func (c *Cache) loadFrom(ctx context.Context, s *server, keys []Key, each func(Key, Entry)) {
	for batch := range slices.Chunk(keys, loadBatch) {
		names := make([]string, len(batch))
		for i, k := range batch {
			names[i] = keyName(forAnswer, c.opt.Generation, c.ring.digest(k))
		}
		l := s.ask(time.Now(), names...)
		if !c.patient(ctx, l) {
			return
		}
		for i, k := range batch {
			if e, ok := c.open(s, k, names[i], l.items[names[i]]); ok {
				each(k, e)
			}
		}
	}
}

// Known waits until the flushes of the fleet are known, so that nothing need be
// taken that was flushed. It reports false when ctx ends before.
func (c *Cache) Known(ctx context.Context) bool {
	const step = 10 * time.Millisecond
	tick := time.NewTicker(step)
	defer tick.Stop()
	for c.behind(time.Now()) {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}
