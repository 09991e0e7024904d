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
	if 2*free >= total {
		return t.opt.Load().IdleTimeout
	}
	all := t.opt.Load().IdleTimeout
	least := min(minIdle, all)
	return max(all*time.Duration(2*free)/time.Duration(total), least)
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
func (r *roster) scarce() int {
	total, free := r.room()
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
	n := r.scarce()
	if n <= r.scarcity {
		return false, 0
	}
	if wait = hurryInterval - now.Sub(r.told); wait > 0 {
		if r.waiting {
			wait = 0
		}
		r.waiting = true
		return false, wait
	}
	r.scarcity, r.told = n, now
	return true, 0
}

// waited says that the time has come that short told to wait for.
func (r *roster) waited() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.waiting = false
}

// hurry has a connection that waits for octets look how long it may still do so.
// One that nothing has come from yet, not even in part, is left alone: its
// handshake could not be resumed.
func (c *tcpConn) hurry() {
	if c.pace.active.Load() != 0 {
		_ = c.conn.SetReadDeadline(longAgo) // or it is closed
	}
}
