// Package deadline has contexts that end at a time, for those who seldom wait
// for their end: a question has several, and what they cost in package context
// was a twentieth of what it costs to resolve it.
package deadline

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Context is what [context.WithDeadline] returns, but its timer, and its place
// among the children of its parent, which all questions share, are made when
// Done is called. Whoever waits for other things anyhow, and until the deadline
// at most, has an [Alarm] instead.
type Context struct {
	parent   context.Context
	deadline time.Time // zero: the parent's

	mu     sync.Mutex
	made   context.Context // nil: Done was not called yet
	cancel context.CancelFunc
	ended  bool
	alarm  *Alarm
}

// New returns a context that ends with parent, by End, or at deadline, unless
// that is zero.
func New(parent context.Context, deadline time.Time) *Context {
	c := new(Context)
	c.Begin(parent, deadline)
	return c
}

// Begin is [New] for a context that is part of something else. It is for once, and
// after each [Context.Free].
func (c *Context) Begin(parent context.Context, deadline time.Time) {
	c.parent, c.deadline = parent, deadline
}

// Deadline implements [context.Context].
func (c *Context) Deadline() (deadline time.Time, ok bool) {
	d, ok := c.parent.Deadline()
	if c.deadline.IsZero() || ok && d.Before(c.deadline) {
		return d, ok
	}
	return c.deadline, true
}

// Done implements [context.Context].
func (c *Context) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.made == nil {
		if c.deadline.IsZero() {
			c.made, c.cancel = context.WithCancel(c.parent)
		} else {
			c.made, c.cancel = context.WithDeadline(c.parent, c.deadline)
		}
		if c.ended {
			c.cancel()
		}
	}
	return c.made.Done()
}

// Err implements [context.Context].
func (c *Context) Err() error { return c.err(time.Now()) }

// err is Err at now: one look at the clock does for all parents.
func (c *Context) err(now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.made != nil {
		return c.made.Err()
	}
	if err := errOf(c.parent, now); err != nil {
		return err
	}
	if c.ended {
		return context.Canceled
	}
	if !c.deadline.IsZero() && !now.Before(c.deadline) {
		return context.DeadlineExceeded
	}
	return nil
}

// errOf returns the error of ctx at now.
func errOf(ctx context.Context, now time.Time) error {
	if c, ok := ctx.(*Context); ok {
		return c.err(now)
	}
	return ctx.Err()
}

// Value implements [context.Context]. Children find the context that was made:
// without it each of theirs would have a goroutine.
func (c *Context) Value(key any) any {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.made != nil {
		return c.made.Value(key)
	}
	return c.parent.Value(key)
}

// End is the [context.CancelFunc] of c.
func (c *Context) End() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.cancel != nil {
		c.cancel()
	}
	if c.alarm != nil {
		c.alarm.sound()
	}
}

// Free reports whether nobody can have c any more who was given it and does not have
// it now: nobody has asked for Done, nor left an alarm. Then c is as it was before
// Begin, and of no use until that is called again.
func (c *Context) Free() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.made != nil || c.alarm != nil {
		return false
	}
	c.parent, c.deadline, c.ended = nil, time.Time{}, false
	return true
}

// Alarm tells one who waits that a context has been ended. It is used again for
// the next one.
type Alarm struct {
	// Ring has him look at Rung. It must not block. It is set once.
	Ring func()
	rung atomic.Bool
}

// Rung reports whether the context attended to was ended.
func (a *Alarm) Rung() bool { return a.rung.Load() }

func (a *Alarm) sound() {
	a.rung.Store(true)
	a.Ring()
}

// Attend has a ring when ctx is ended by [Context.End], until Leave. What else
// ends it is its deadline, which is not told, and done.
func (a *Alarm) Attend(ctx context.Context) (done <-chan struct{}) {
	a.rung.Store(false)
	for {
		c, ok := ctx.(*Context)
		if !ok || !c.attend(a) {
			return ctx.Done()
		}
		ctx = c.parent
	}
}

// attend makes a the alarm of c. It has one at most, and whoever comes second
// has to wait for Done.
func (c *Context) attend(a *Alarm) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.alarm != nil {
		return false
	}
	c.alarm = a
	if c.ended {
		a.sound()
	}
	return true
}

// Leave undoes Attend to the same ctx: when it returns, a does not ring any
// more.
func (a *Alarm) Leave(ctx context.Context) {
	for {
		c, ok := ctx.(*Context)
		if !ok || !c.leave(a) {
			return
		}
		ctx = c.parent
	}
}

func (c *Context) leave(a *Alarm) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.alarm != a {
		return false
	}
	c.alarm = nil
	return true
}
