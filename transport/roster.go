package transport

import (
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
)

// roster knows the connections that are open, and bounds them.
type roster struct {
	total, perClient atomic.Int64

	open atomic.Int64 // connections, for who wants to know nothing else

	mu         sync.Mutex
	closed     bool
	conns      map[*tcpConn]struct{}
	clients    map[netip.Prefix]int // connections; no client has 0
	accepted   uint64
	overTotal  uint64
	overClient uint64
	alarm      alarm
}

func newRoster(total, perClient int) *roster {
	r := &roster{conns: make(map[*tcpConn]struct{}), clients: make(map[netip.Prefix]int)}
	r.limit(total, perClient)
	return r
}

// limit changes how many there may be. Those that are too many by that stay.
func (r *roster) limit(total, perClient int) {
	r.total.Store(int64(total))
	r.perClient.Store(int64(perClient))
}

// add takes c in, and reports false when that would break a limit. If its client
// is not known yet, know has to be called.
func (r *roster) add(c *tcpConn, known bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.closed:
		return false
	case len(r.conns) >= int(r.total.Load()):
		r.overTotal++
		return false
	case known && !r.count(c):
		return false
	}
	r.accepted++
	r.conns[c] = struct{}{}
	r.open.Add(1)
	return true
}

// know says that c's client is known by now, and reports false when that breaks
// a limit.
func (r *roster) know(c *tcpConn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count(c)
}

// count counts c among its client's connections, and reports false when it has
// enough.
func (r *roster) count(c *tcpConn) bool {
	client := clientOf(c.client.Addr())
	if r.clients[client] >= int(r.perClient.Load()) {
		r.overClient++
		return false
	}
	r.clients[client]++
	c.counted = true
	return true
}

// remove forgets c.
func (r *roster) remove(c *tcpConn) {
	client := clientOf(c.client.Addr())
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
	r.open.Add(-1)
	r.alarm.fall(r.scarce())
	if !c.counted {
		return
	}
	if r.clients[client]--; r.clients[client] == 0 {
		delete(r.clients, client)
	}
}

// close lets nobody in any more.
func (r *roster) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
}

// each calls f on every connection, without holding up the roster: f may block.
func (r *roster) each(f func(*tcpConn)) {
	r.mu.Lock()
	conns := slices.Collect(maps.Keys(r.conns))
	r.mu.Unlock()
	for _, c := range conns {
		f(c)
	}
}

func (r *roster) stats() TCPStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return TCPStats{Open: len(r.conns), Accepted: r.accepted, OverTotal: r.overTotal, OverClient: r.overClient}
}

// clientOf returns what counts as one client: an IPv4 address, or the /64 that
// an IPv6 host has to itself (RFC 6177 §2). No address is a client too.
func clientOf(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil { // of no address
		return netip.Prefix{}
	}
	return p
}

// addrPort returns one end of a connection, the zero AddrPort when it has none, as
// on a unix socket.
func addrPort(end net.Addr) netip.AddrPort {
	a, ok := end.(interface{ AddrPort() netip.AddrPort }) // of TCP's and UDP's
	if !ok {
		return netip.AddrPort{}
	}
	from := a.AddrPort()
	return netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
}
