package shared

import (
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"shirube/internal/wire"
)

// The list of flushes that a fleet has in common grows only: two copies of it
// are put together by taking all that is in either, and of the same order the
// later time. So it does not matter which copy is read first, or twice, or is
// old: who knows an order keeps it, whatever a copy says that has missed it, and
// has it written there again. What was sealed once and is brought back by
// somebody adds nothing.
//
// Beside the orders the list has an epoch, a number that is part of every key's
// hash: a higher one is another cache, and an end to all orders before it.

// The bounds of the list.
const (
	maxOrders     = 256      // orders; one more makes them a new epoch
	maxListOctets = 15 << 10 // of its body, likewise: a value has 16 KiB with all that is around it
)

// What an order is about. A server that does not know a kind cannot obey it; it
// keeps it for those who do.
const (
	orderName    byte = 1 // one name
	orderSubtree byte = 2 // and all below it
)

// order is one entry of the list.
type order struct {
	kind  byte
	about string    // what it says: a type and a name, if the kind is one of those above
	id    uint64    // drawn by who gave it
	epoch uint64    // when it was given
	until time.Time // it is about what was stored until then

	learned time.Time // by our clock; not in the list
}

// key returns what makes two orders the same: the later one takes the other's
// place.
func (o *order) key() string { return string(o.kind) + o.about }

// newOrder returns an order about what f is about.
func newOrder(f Flush) order {
	kind := orderName
	if f.Below {
		kind = orderSubtree
	}
	about := binary.BigEndian.AppendUint16(nil, uint16(f.Type))
	return order{kind: kind, about: string(about) + string(f.Name), until: f.Until}
}

// flush returns what o is about, if it is of a kind that is known.
func (o *order) flush() (f Flush, ok bool) {
	if o.kind != orderName && o.kind != orderSubtree || len(o.about) < 2 {
		return f, false
	}
	name, err := wire.FromWire([]byte(o.about[2:]))
	if err != nil || len(name) != len(o.about)-2 {
		return f, false
	}
	typ := wire.Type(o.about[0])<<8 | wire.Type(o.about[1])
	return Flush{Name: name, Below: o.kind == orderSubtree, Type: typ, Until: o.until}, true
}

// orderHead is how long an order is in a list before what it says, in octets:
// kind, id, epoch, time and the length of that.
const orderHead = 1 + 8 + 8 + 8 + 2

// octets returns how long o is in a list.
func (o *order) octets() int { return orderHead + len(o.about) }

// flushList is the list as one server knows it, or as one copy has it.
type flushList struct {
	epoch  uint64 // 0: the first one
	orders map[string]order
}

// What a body that is a list begins with, and the only form of it that there is
// so far. What comes later adds kinds of orders, which keep their head.
const (
	bodyFlushes byte = 16
	listForm    byte = 1
	listHead         = 1 + 1 + 8 + 2
)

// octets returns how long l is as appendBody writes it.
func (l *flushList) octets() int {
	n := listHead
	for _, o := range l.orders {
		n += o.octets()
	}
	return n
}

// appendBody appends l in the form that values have inside: the epoch, then so
// many orders.
func (l *flushList) appendBody(buf []byte) []byte {
	buf = append(buf, bodyFlushes, listForm)
	buf = binary.BigEndian.AppendUint64(buf, l.epoch)
	buf = binary.BigEndian.AppendUint16(buf, uint16(len(l.orders)))
	for _, key := range slices.Sorted(maps.Keys(l.orders)) {
		o := l.orders[key]
		buf = append(buf, o.kind)
		buf = binary.BigEndian.AppendUint64(buf, o.id)
		buf = binary.BigEndian.AppendUint64(buf, o.epoch)
		buf = appendTime(buf, o.until)
		buf = binary.BigEndian.AppendUint16(buf, uint16(len(o.about)))
		buf = append(buf, o.about...)
	}
	return buf
}

// parseFlushList reads what appendBody wrote. The error is errForm, or
// errVersion for a form that is not known.
func parseFlushList(b []byte) (flushList, error) {
	r := reader{b: b}
	kind, form := r.octet(), r.octet()
	switch {
	case r.bad || kind != bodyFlushes:
		return flushList{}, errForm
	case form != listForm:
		return flushList{}, errVersion
	}
	l := flushList{epoch: r.uint64(), orders: make(map[string]order)}
	for n := r.uint16(); n > 0 && !r.bad; n-- {
		o := order{kind: r.octet(), id: r.uint64(), epoch: r.uint64(), until: r.time()}
		o.about = string(r.take(int(r.uint16())))
		l.orders[o.key()] = o
	}
	if r.bad || len(r.b) > 0 || len(l.orders) > maxOrders {
		return flushList{}, errForm
	}
	return l, nil
}

// has reports whether l has all that is in other.
func (l *flushList) has(other *flushList) bool {
	if l.epoch < other.epoch {
		return false
	}
	for key, o := range other.orders {
		have, ok := l.orders[key]
		if o.epoch >= l.epoch && (!ok || have.older(&o)) {
			return false
		}
	}
	return true
}

// older reports whether o gives way to another order about the same. Of one and
// the same order the later time counts.
func (o *order) older(other *order) bool {
	if !o.until.Equal(other.until) {
		return o.until.Before(other.until)
	}
	return o.id < other.id
}

// merge adds what other has to l, and returns the orders that are new, and
// whether the epoch is. Orders that were over at now, after so long a life, are
// left out. What we have learned just now was perhaps given while others began
// the epoch: it goes on in that.
func (l *flushList) merge(other *flushList, now time.Time, life time.Duration) (fresh []order, begun bool) {
	if other.epoch > l.epoch {
		begun = true
		l.begin(other.epoch, now)
	}
	for key, o := range other.orders {
		if o.epoch < l.epoch || now.Sub(o.until) > life {
			continue
		}
		have, ok := l.orders[key]
		switch {
		case !ok:
			o.learned = now
			fresh = append(fresh, o)
		case !have.older(&o):
			continue
		case have.id == o.id: // somebody knows its time better
			o.learned = have.learned
		default:
			o.learned = now
			fresh = append(fresh, o)
		}
		l.put(o)
	}
	return fresh, begun
}

// begin begins an epoch.
func (l *flushList) begin(epoch uint64, now time.Time) {
	l.epoch = epoch
	for key, o := range l.orders {
		if now.Sub(o.learned) > flushGrace {
			delete(l.orders, key)
			continue
		}
		o.epoch = epoch
		l.orders[key] = o
	}
}

// prune leaves out what is over at now, after so long a life.
func (l *flushList) prune(now time.Time, life time.Duration) {
	maps.DeleteFunc(l.orders, func(_ string, o order) bool { return now.Sub(o.until) > life })
}

// overflows reports whether l is too long to be written.
func (l *flushList) overflows() bool { return len(l.orders) > maxOrders || l.octets() > maxListOctets }

// nextEpoch returns the epoch after that of l: the time in milliseconds, so that
// two servers that begin one at once do not begin the same.
func (l *flushList) nextEpoch(now time.Time) uint64 {
	return max(l.epoch+1, uint64(max(now.UnixMilli(), 0)))
}
