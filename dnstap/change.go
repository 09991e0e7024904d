package dnstap

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"
)

// goodbye is how long a collector that is not wanted any more has to take what
// is queued for it.
const goodbye = 2 * time.Second

// Change is other outputs for a [Tap], which are not in force yet.
type Change struct {
	tap  *Tap
	opt  Options
	list []*output // the new outputs, in order
}

// Prepare makes what it takes to have the outputs of opt, and its identity and
// version, in place of what t has now. An output that there is already, by its
// name and [Output] Settings, is not touched. One of the same name with other
// settings is followed by the new one: this begins to send when that has ended,
// and counts on. The others end when what they have queued is sent.
//
// Nothing is in force before [Change.Commit], of which there has to be at most one
// before the next Prepare. A Change that is not wanted can be forgotten.
func (t *Tap) Prepare(opt Options) (*Change, error) {
	if len(opt.Identity) > MaxIdentity || len(opt.Version) > MaxIdentity {
		return nil, fmt.Errorf("an identity of %d octets and a version of %d; %d are allowed", len(opt.Identity), len(opt.Version), MaxIdentity)
	}
	opt.Log = t.log
	t.changing.Lock()
	same := t.identity == opt.Identity && t.version == opt.Version
	t.changing.Unlock()
	c := &Change{tap: t, opt: opt}
	for i := range opt.Outputs {
		conf := &opt.Outputs[i]
		if o := t.named(conf.Name); same && o != nil && reflect.DeepEqual(o.settings, conf.Settings) {
			c.list = append(c.list, o)
			continue
		}
		o, err := newOutput(&opt, conf, t.lanes)
		if err != nil {
			return nil, fmt.Errorf("output %q: %w", conf.Name, err)
		}
		o.end, o.abort = context.WithCancel(t.end)
		c.list = append(c.list, o)
	}
	return c, nil
}

// named returns the present output of a name; nil if there is none.
func (t *Tap) named(name string) *output {
	list := t.current.Load().list
	if i := slices.IndexFunc(list, func(o *output) bool { return o.name == name }); i >= 0 {
		return list[i]
	}
	return nil
}

// Commit puts the change in force: what is emitted from now on goes to the new
// outputs. It does not wait for the old ones.
func (c *Change) Commit() {
	t := c.tap
	t.changing.Lock()
	defer t.changing.Unlock()
	if t.closed {
		return
	}
	t.identity, t.version = c.opt.Identity, c.opt.Version
	before := t.current.Load().list
	for _, o := range c.list {
		if old := t.named(o.name); old != o {
			o.before = old
			if old != nil {
				old.successor.Store(o)
			}
		}
	}
	t.current.Store(newOutputs(c.list))
	for _, o := range c.list {
		if t.started && !slices.Contains(before, o) {
			t.write(o, o.before)
		}
	}
	for _, o := range before {
		if !slices.Contains(c.list, o) {
			t.leave(o)
		}
	}
}

// leave has o send what is queued, and end. Who emits to it still is sent on to
// the output that follows it, if one does.
func (t *Tap) leave(o *output) {
	o.close()
	if !t.started {
		o.discard()
		close(o.ended)
		return
	}
	timer := time.AfterFunc(goodbye, o.abort)
	// Owner: t. End: o's, at the latest goodbye later. Bound: one for each output
	// that ends.
	t.writing.Go(func() {
		<-o.ended
		timer.Stop()
		s := o.Stats()
		o.log.Info("dnstap is not sent there any more, or in another way", "sent", s.Sent, "dropped", s.Dropped)
	})
}
