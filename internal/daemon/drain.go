package daemon

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"shirube/internal/control"
	"shirube/transport"
)

// State is how far the life of a server has come.
type State int32

// The states.
const (
	Starting State = iota
	Ready          // serves
	Draining       // serves whoever still comes, but nobody is to be sent here
	Stopping       // accepts nothing new
)

// String returns the word for s that the control socket has.
func (s State) String() string {
	return [...]string{control.StateStarting, control.StateReady, control.StateDraining, control.StateStopping}[s]
}

// life is the state of a Daemon.
type life struct {
	state   atomic.Int32
	mu      sync.Mutex // held by who changes it, and while others are told
	since   time.Time  // when it began
	told    []func(State)
	hastes  int
	hastens [2]chan struct{} // closed when the first and the second to hasten has come
}

// State returns the state. Whoever sends clients here is to do so in Ready only.
func (d *Daemon) State() State { return State(d.life.state.Load()) }

// OnState has f called at each change of the state, in the order in which they
// come. It must not block for long: what has to be done before the change has
// its consequences is done by f. To be called before Start.
func (d *Daemon) OnState(f func(State)) { d.life.told = append(d.life.told, f) }

// become changes the state, unless it is not one of from.
func (d *Daemon) become(next State, from ...State) bool {
	l := &d.life
	l.mu.Lock()
	defer l.mu.Unlock()
	now, ok := d.State(), false
	for _, s := range from {
		ok = ok || s == now
	}
	if !ok {
		return false
	}
	l.state.Store(int32(next))
	l.since = time.Now()
	d.log.Info("state", "from", now.String(), "to", next.String())
	for _, t := range d.transports() {
		if c, ok := t.(farewell); ok {
			c.Drain(next != Ready)
		}
	}
	d.tellState(next)
	for _, f := range l.told {
		f(next)
	}
	return true
}

// server is a transport.
type server interface {
	Start(ctx context.Context)
	Shutdown(ctx context.Context) error
}

// farewell is a transport whose clients can be told that they had better go
// elsewhere: its connections stay, and are served for as long as they are used.
type farewell interface{ Drain(on bool) }

// transports lists all of them.
func (d *Daemon) transports() []server {
	s := &d.secure
	return []server{d.udp, d.tcp, s.dot, s.doh, s.doh3, s.doq}
}

var (
	_ farewell = (*transport.TCP)(nil)
	_ farewell = (*transport.DoH)(nil)

	errStopping = errors.New("the server is stopping")
)

// Drain has nobody sent here any more, while whoever comes is still served; on is
// false when that is over.
func (d *Daemon) Drain(on bool) error {
	next, from := Ready, Draining
	if on {
		next, from = Draining, Ready
	}
	if d.become(next, from) || d.State() == next {
		return nil
	}
	return errStopping
}

// awaitDrain drains for as long as is configured, or until somebody hastens. What
// has been drained already counts.
func (d *Daemon) awaitDrain() {
	_ = d.Drain(true) // it is not stopping yet
	d.life.mu.Lock()
	since := d.life.since
	d.life.mu.Unlock()
	t := time.NewTimer(time.Until(since.Add(d.cfg().Drain.Delay)))
	defer t.Stop()
	select {
	case <-t.C:
	case <-d.life.hastens[0]:
		d.log.Info("draining no longer, by order")
	}
}

// Hasten makes a server that is to stop do so sooner: the first call ends the
// time of draining, the second one abandons the queries in flight.
func (d *Daemon) Hasten() {
	l := &d.life
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hastes < len(l.hastens) {
		close(l.hastens[l.hastes])
		l.hastes++
	}
}
