package control

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
)

// gate accepts connections, and knows whose they are.
type gate struct {
	*listener
	allows allows
	log    *slog.Logger

	friends, strangers atomic.Int32 // connections open
}

// Accept implements [net.Listener]. Connections beyond the limits are closed
// here, and nobody is the wiser: who is let in keeps his place.
func (g *gate) Accept() (net.Conn, error) {
	for {
		c, err := g.AcceptUnix()
		if err != nil {
			return nil, err
		}
		who, err := peerOf(c)
		if err != nil { // it has gone already
			_ = c.Close() // nothing was said on it
			continue
		}
		p := &conn{UnixConn: c, who: who, admitted: g.allows.admits(who), open: &g.strangers}
		limit := int32(maxStrangers)
		if p.admitted {
			p.open, limit = &g.friends, maxConnections
		}
		if p.open.Add(1) > limit {
			_ = p.Close() // nothing was said on it
			continue
		}
		if !p.admitted {
			g.log.Warn("turned away at the control socket", "uid", who.uid, "pid", who.pid)
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

// withPeer lets requests know their connection.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, c)
}
