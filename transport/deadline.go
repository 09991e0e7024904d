package transport

import (
	"context"
	"sync"
	"time"
)

// deadlineContext is what [context.WithDeadline] returns, for those who seldom
// wait for its end: its timer, and its place among the children of its parent,
// which all queries share, are made when Done is called.
type deadlineContext struct {
	parent   context.Context
	deadline time.Time

	mu     sync.Mutex
	made   context.Context // nil: Done was not called yet
	cancel context.CancelFunc
	ended  bool
}

// Deadline implements [context.Context].
func (c *deadlineContext) Deadline() (deadline time.Time, ok bool) {
	if d, ok := c.parent.Deadline(); ok && d.Before(c.deadline) {
		return d, true
	}
	return c.deadline, true
}

// Done implements [context.Context].
func (c *deadlineContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.made == nil {
		c.made, c.cancel = context.WithDeadline(c.parent, c.deadline)
		if c.ended {
			c.cancel()
		}
	}
	return c.made.Done()
}

// Err implements [context.Context].
func (c *deadlineContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.made != nil {
		return c.made.Err()
	}
	if err := c.parent.Err(); err != nil {
		return err
	}
	if c.ended {
		return context.Canceled
	}
	if !time.Now().Before(c.deadline) {
		return context.DeadlineExceeded
	}
	return nil
}

// Value implements [context.Context]. Children find the context that was made:
// without it each of theirs would have a goroutine.
func (c *deadlineContext) Value(key any) any {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.made != nil {
		return c.made.Value(key)
	}
	return c.parent.Value(key)
}

// end is the [context.CancelFunc] of c.
func (c *deadlineContext) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.cancel != nil {
		c.cancel()
	}
}
