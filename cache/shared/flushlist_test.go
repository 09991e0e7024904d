package shared

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"shirube/internal/wire"
)

// orderOf returns an order about a name, with an id, so many seconds after noon.
func orderOf(name string, id uint64, seconds int) order {
	o := newOrder(Flush{Name: wire.MustParseName(name), Until: noon.Add(time.Duration(seconds) * time.Second)})
	o.id = id
	return o
}

func listWith(epoch uint64, orders ...order) flushList {
	l := flushList{epoch: epoch}
	for _, o := range orders {
		o.epoch = epoch
		l.put(o)
	}
	return l
}

func TestFlushListSurvivesItsForm(t *testing.T) {
	unknown := order{kind: 77, about: "what nobody knows yet", id: 9, until: noon}
	all := newOrder(Flush{Name: wire.MustParseName("example.org."), Below: true, Type: wire.TypeMX, Until: noon})
	l := listWith(5, orderOf("www.example.com.", 1, 0), all, unknown)
	got, err := parseFlushList(l.appendBody(nil))
	if err != nil || !got.has(&l) || !l.has(&got) || got.epoch != 5 || len(got.orders) != 3 {
		t.Fatalf("%+v, %v", got, err)
	}
	if n := len(l.appendBody(nil)); n != l.octets() {
		t.Errorf("%d octets; it says %d", n, l.octets())
	}
	o := got.orders[all.key()]
	if f, ok := o.flush(); !ok || f != (Flush{Name: wire.MustParseName("example.org."), Below: true, Type: wire.TypeMX, Until: f.Until}) || !f.Until.Equal(noon) {
		t.Errorf("%+v, %v", f, ok)
	}
	o = got.orders[unknown.key()]
	if _, ok := o.flush(); ok || o.id != 9 {
		t.Errorf("an order that nobody knows: %+v, %v", o, ok)
	}
}

func TestBadFlushListIsRefused(t *testing.T) {
	l := listWith(0, orderOf("www.example.com.", 1, 0))
	good := l.appendBody(nil)
	for name, tt := range map[string]struct {
		body []byte
		want error
	}{
		"empty":         {nil, errForm},
		"another body":  {append([]byte{bodyAnswer}, good[1:]...), errForm},
		"another form":  {append([]byte{bodyFlushes, listForm + 1}, good[2:]...), errVersion},
		"cut off":       {good[:len(good)-1], errForm},
		"longer":        {append(bytes.Clone(good), 0), errForm},
		"too many":      {append(binary.BigEndian.AppendUint16(bytes.Clone(good[:10]), 60000), good[12:]...), errForm},
		"end of orders": {binary.BigEndian.AppendUint16(bytes.Clone(good[:10]), 1), errForm},
	} {
		if _, err := parseFlushList(tt.body); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v; expected %v", name, err, tt.want)
		}
	}
}

// Whatever copies are put together, in whatever order and how often, it comes
// to the same.
func TestFlushListsMergeInAnyOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var copies []flushList
		for range 4 {
			l := flushList{epoch: r.Uint64N(3)}
			for range r.IntN(6) {
				o := orderOf(fmt.Sprintf("n%d.example.", r.IntN(4)), r.Uint64N(5), r.IntN(5))
				o.epoch = r.Uint64N(l.epoch + 1) // none is of an epoch to come
				o.id += 10 * o.epoch             // nor of two
				l.put(o)
			}
			copies = append(copies, l)
		}
		merge := func(order []int) flushList {
			var out flushList
			for _, i := range order {
				// Nothing is so young that it would be taken into another epoch.
				for _, o := range out.orders {
					o.learned = noon.Add(-time.Hour)
					out.put(o)
				}
				out.merge(&copies[i], noon, time.Hour)
			}
			return out
		}
		a, b := merge([]int{0, 1, 2, 3}), merge([]int{3, 1, 0, 2, 1, 3, 0})
		if !bytes.Equal(a.appendBody(nil), b.appendBody(nil)) {
			t.Fatalf("%+v\ndiffers from\n%+v\nof %+v", a, b, copies)
		}
		if fresh, begun := a.merge(&b, noon, time.Hour); len(fresh) > 0 || begun {
			t.Fatalf("new in what is the same: %+v", fresh)
		}
	}
}

func TestFlushListForgetsWhatIsOver(t *testing.T) {
	var l flushList
	other := listWith(0, orderOf("old.example.", 1, -7200), orderOf("new.example.", 2, 0))
	fresh, _ := l.merge(&other, noon, time.Hour)
	if len(fresh) != 1 || fresh[0].id != 2 || !other.has(&l) {
		t.Errorf("%+v", fresh)
	}
	if l.prune(noon.Add(2*time.Hour), time.Hour); len(l.orders) != 0 {
		t.Errorf("%+v", l)
	}
}

// Who orders something while another begins an epoch, of which he does not
// know, is not forgotten with what was before.
func TestFreshOrdersGoOnInANewEpoch(t *testing.T) {
	l := listWith(1, orderOf("young.example.", 1, 0), orderOf("old.example.", 2, 0))
	for key, o := range l.orders {
		if o.learned = noon.Add(-time.Hour); o.id == 1 {
			o.learned = noon.Add(-time.Second)
		}
		l.orders[key] = o
	}
	next := listWith(2)
	if _, begun := l.merge(&next, noon, time.Hour); !begun || len(l.orders) != 1 || next.has(&l) {
		t.Errorf("%+v", l)
	}
	for _, o := range l.orders {
		if o.id != 1 || o.epoch != 2 {
			t.Errorf("%+v", o)
		}
	}
}

func FuzzParseFlushList(f *testing.F) {
	l := listWith(5, orderOf("www.example.com.", 1, 0), order{kind: 77, about: "x", id: 9, until: noon})
	f.Add(l.appendBody(nil))
	f.Add([]byte{bodyFlushes, listForm, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255})
	upper := listWith(5, order{kind: orderSubtree, about: "\x00\x01\x03WWW\x00", id: 9, until: noon})
	f.Add(upper.appendBody(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := parseFlushList(b)
		if err != nil {
			return
		}
		again, err := parseFlushList(l.appendBody(nil))
		if err != nil || !again.has(&l) || !l.has(&again) || len(again.orders) != len(l.orders) {
			t.Errorf("%+v is read as %+v, %v", l, again, err)
		}
		for _, o := range l.orders {
			if fl, ok := o.flush(); ok {
				o2 := newOrder(fl)
				if fl2, ok := o2.flush(); !ok || fl2 != fl || len(o2.about) != len(o.about) {
					t.Errorf("%+v is %+v again, %v", fl, fl2, ok)
				}
			}
		}
		var own flushList
		own.merge(&l, noon, time.Hour)
	})
}
