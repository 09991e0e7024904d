package localsock

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
)

// Accept implements [net.Listener]. Connections beyond the limits are closed
// here, and nobody is the wiser: who is let in keeps his place.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		who, err := peerOf(c)
		if err != nil { // it has gone already
			_ = c.Close() // nothing was said on it
			continue
		}
		p := &conn{UnixConn: c, who: who, admitted: l.allows.admits(who), open: &l.strangers}
		limit := l.opt.Strangers
		if p.admitted {
			p.open, limit = &l.friends, l.opt.Friends
		}
		if p.open.Add(1) > int32(limit) {
			_ = p.Close() // nothing was said on it
			continue
		}
		if !p.admitted {
			l.opt.Log.Warn("turned away at a socket", "path", l.opt.Path, "uid", who.uid, "pid", who.pid)
		}
		return p, nil
	}
}

// conn is a connection, and who is at its other end.
type conn struct {
	*net.UnixConn
	who      peer
	admitted bool
	open     *atomic.Int32
	closing  sync.Once
}

// Close implements [net.Conn].
func (c *conn) Close() error {
	c.closing.Do(func() { c.open.Add(-1) })
	return c.UnixConn.Close()
}

// peerKey is the key of a request's *conn in its context.
type peerKey struct{}

// WithPeer returns ctx for what comes from c, which Accept has returned.
func WithPeer(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, c)
}

// Admitted reports whether ctx is of a connection of who may use the socket.
func Admitted(ctx context.Context) bool {
	c, ok := ctx.Value(peerKey{}).(*conn)
	return ok && c.admitted
}

// Peer returns the ID of the process at the other end of the connection that ctx
// is of, as it was when it connected; 0: it cannot be seen from here.
func Peer(ctx context.Context) (pid int) {
	if c, ok := ctx.Value(peerKey{}).(*conn); ok {
		return int(c.who.pid)
	}
	return 0
}

// Unix returns the socket below c, which Accept has returned. Close c, not it.
func Unix(c net.Conn) (socket *net.UnixConn, ok bool) {
	if c, ok := c.(*conn); ok {
		return c.UnixConn, true
	}
	return nil, false
}
