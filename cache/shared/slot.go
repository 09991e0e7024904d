package shared

import (
	"context"
	"errors"
	"net"
	"os"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
)

// slot is the right to one look-up at a time, with a connection for it. It has a
// client of its own, so that it is known whose connection one is: the client
// library says nothing of who asks.
//
// Who has a slot looks up on his own goroutine, and the connection's deadline is
// his: to be woken by another goroutine, which a timer may come before, costs
// more than to open what comes. When his time is over the client library closes
// the connection, but only it thinks so: what comes late is read by somebody
// else, and the connection serves the next.
type slot struct {
	client *memcache.Client
	dialer *dialer
	until  time.Time // when who looks up gives up; zero: who does has time
	late   *guard    // whose answer has not come by then
	spare  *guard    // whose answer came later
}

// Why a look-up on the caller's own goroutine came to nothing.
var (
	errElsewhere = errors.New("shared cache: not on this goroutine")
	errLate      = errors.New("shared cache: no answer in time")
)

func newSlot(where *addr, timeout time.Duration, d *dialer) *slot {
	sl := &slot{client: memcache.NewFromSelector(where), dialer: d}
	sl.client.Timeout, sl.client.MaxIdleConns, sl.client.DialContext = timeout, 1, sl.dial
	return sl
}

// dial gives the client library the connection that it thinks it has closed, or
// a new one.
func (sl *slot) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if g := sl.spare; g != nil {
		sl.spare = nil
		return g, nil
	}
	if !sl.until.IsZero() {
		return nil, errElsewhere
	}
	g, err := sl.dialer.guarded(ctx, network, address)
	if err != nil {
		return nil, err
	}
	g.slot = sl
	return g, nil
}

// get asks for the value of key, until a time. Nil: there is none.
func (sl *slot) get(until time.Time, key string) (*memcache.Item, error) {
	sl.until = until
	item, err := sl.client.Get(key)
	if errors.Is(err, memcache.ErrCacheMiss) {
		return nil, nil
	}
	return item, err
}

// getAll asks for the values of keys, for as long as the time-out. With an error
// some may have come. The client library has it done by a goroutine of its own.
func (sl *slot) getAll(keys []string) (map[string]*memcache.Item, error) {
	sl.until = time.Time{}
	return sl.client.GetMulti(keys)
}

// rescue reads what comes late, so that the connection can be used again. It
// ends by the time-out of the operation.
func (sl *slot) rescue() error {
	g := sl.late
	sl.late = nil
	err := g.drain()
	if err != nil {
		_ = g.Close() // the other error says why
		return err
	}
	sl.spare = g
	return nil
}

// close ends the connection. Nobody looks up.
func (sl *slot) close() {
	_ = sl.client.Close() // nothing is written any more
	if sl.spare != nil {
		_ = sl.spare.Close()
		sl.spare = nil
	}
}

// drain reads the rest of a response that nobody waits for.
func (g *guard) drain() error {
	g.overdue = false
	if err := g.SetReadDeadline(g.begun.Add(g.timeout)); err != nil {
		return err
	}
	var b [1024]byte
	for g.state != guardIdle {
		n, err := g.Conn.Read(b[:])
		if bad := g.check(b[:n]); bad != nil {
			return bad
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// lastLook is how long it is looked for what has come already when the time is
// over: on a machine that is busy who waits may be woken later than both, and
// then the server was not late.
const lastLook = 100 * time.Microsecond

// lacksTime reports whether err is that who looks up has no time to wait any
// more for what g is to read.
func (g *guard) lacksTime(err error) bool {
	return g.slot != nil && !g.slot.until.IsZero() && errors.Is(err, os.ErrDeadlineExceeded)
}

// lastLook reads what is there, once the time is over. If nothing is, the error
// is errLate.
func (g *guard) lastLook(b []byte) (int, error) {
	if err := g.SetReadDeadline(time.Now().Add(lastLook)); err != nil {
		return 0, err
	}
	n, err := g.Conn.Read(b)
	if g.lacksTime(err) {
		g.overdue, err = true, errLate
	}
	return n, err
}
