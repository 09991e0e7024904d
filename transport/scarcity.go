package transport

import "time"

// When connections run short, the idle ones have to go sooner, so that there is
// room for those who ask (RFC 7766 §6.2.3, RFC 9210 §5).
const (
	// minIdle is how long a connection may be silent whatever happens, unless
	// IdleTimeout is less: long enough for a client to send its next query.
	minIdle = 500 * time.Millisecond

	// hurryInterval is how far apart the idle connections are told that their
	// time has become less. It costs a look at each of them, and clients can
	// cause it.
	hurryInterval = time.Second
)

// idleTime returns how long a connection may be silent: IdleTimeout as long as
// half of MaxConns is free, and in proportion to what is free from there on.
func (t *TCP) idleTime() time.Duration {
	total, free := t.conns.room()
	return inProportion(t.opt.Load().IdleTimeout, total, free)
}

// inProportion returns how much of the idle time all is left when so many of total
// connections are free.
func inProportion(all time.Duration, total, free int) time.Duration {
	if 2*free >= total {
		return all
	}
	return max(all*time.Duration(2*free)/time.Duration(total), min(minIdle, all))
}

// promisedIdle returns what clients are told of it: with a tenth of MaxConns
// free, or while t drains, that they had better go when they have their answers
// (RFC 7828 §3.3.2).
func (t *TCP) promisedIdle() time.Duration {
	if total, free := t.conns.room(); t.draining.Load() || 10*free <= total {
		return 0
	}
	return t.idleTime()
}

// room returns how many connections there may be, and how many more.
func (r *roster) room() (total, free int) {
	total = int(r.total.Load())
	return total, max(total-int(r.open.Load()), 0)
}

// scarce returns how short connections run, from 0, not at all, to 3.
func (r *roster) scarce() int { return scarcity(r.room()) }

// scarcity returns how short connections run of which so many are free.
func scarcity(total, free int) int {
	switch {
	case 2*free >= total:
		return 0
	case 4*free >= total:
		return 1
	case 10*free >= total:
		return 2
	default:
		return 3
	}
}

// tellIdle has the idle connections look at the time that they have left, if
// connections have run shorter since they did so the last time: now, or as soon
// as it may be done again.
func (t *TCP) tellIdle() {
	tell, wait := t.conns.short(time.Now())
	if tell {
		t.conns.each((*tcpConn).hurry)
	}
	if wait > 0 {
		// Owner: t. End: after hurryInterval at most; it finds nobody after
		// Shutdown. Bound: one at a time.
		time.AfterFunc(wait, func() {
			t.conns.waited()
			t.tellIdle()
		})
	}
}

// short reports whether connections have run shorter than when the idle ones were
// told so the last time, and that they are to be told now; or after how long to
// ask again, unless somebody does already.
func (r *roster) short(now time.Time) (tell bool, wait time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.alarm.rise(r.scarce(), now)
}

// waited says that the time has come that short told to wait for.
func (r *roster) waited() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.alarm.waiting = false
}

// alarm knows when idle connections are to be told that connections run short.
type alarm struct {
	level   int       // of scarcity, that the idle ones were told of
	told    time.Time // when that was
	waiting bool      // somebody waits to tell them again
}

// rise says how short connections run, when one has come: see [roster.short].
func (a *alarm) rise(level int, now time.Time) (tell bool, wait time.Duration) {
	if level <= a.level {
		return false, 0
	}
	if wait = hurryInterval - now.Sub(a.told); wait > 0 {
		if a.waiting {
			wait = 0
		}
		a.waiting = true
		return false, wait
	}
	a.level, a.told = level, now
	return true, 0
}

// fall says how short they run, when one has gone.
func (a *alarm) fall(level int) { a.level = min(a.level, level) }

// hurry has a connection that waits for octets look how long it may still do so.
// One that nothing has come from yet, not even in part, is left alone: its
// handshake could not be resumed.
func (c *tcpConn) hurry() {
	if c.pace.active.Load() != 0 {
		_ = c.conn.SetReadDeadline(longAgo) // or it is closed
	}
}

// room returns how many connections there may be, and how many more.
func (c *Conns) room() (total, free int) {
	total = c.opt.Load().Total
	return total, max(total-int(c.open.Load()), 0)
}

// idleTime returns how long a connection may be silent, which is all if there is
// room.
func (c *Conns) idleTime(all time.Duration) time.Duration {
	total, free := c.room()
	return inProportion(all, total, free)
}

// short reports whether no more than a tenth of all places are left.
func (c *Conns) short() bool {
	total, free := c.room()
	return 10*free <= total
}

// whenShort has hurry called when connections run shorter, once a second at most:
// it is to have idle connections look at the time that they have left, and must not
// wait for anything.
func (c *Conns) whenShort(hurry func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.hurries = append(c.hurries, hurry)
}

// tellIdle is that of [TCP], for all transports.
func (c *Conns) tellIdle() {
	if scarcity(c.room()) == 0 {
		return
	}
	c.mu.Lock()
	tell, wait := c.alarm.rise(scarcity(c.room()), time.Now())
	hurries := c.hurries
	c.mu.Unlock()
	if tell {
		for _, hurry := range hurries {
			hurry()
		}
	}
	if wait > 0 {
		// Owner: c. End: after hurryInterval at most. Bound: one at a time.
		time.AfterFunc(wait, func() {
			c.mu.Lock()
			c.alarm.waiting = false
			c.mu.Unlock()
			c.tellIdle()
		})
	}
}

// relax notes that a connection has gone.
func (c *Conns) relax() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.alarm.fall(scarcity(c.room()))
}
