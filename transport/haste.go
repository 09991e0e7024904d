package transport

import (
	"net"
	"sync"
	"time"

	"shirube/internal/netx"
)

// haste is what has a connection under TLS read and written at the least cost. It
// implements [netx.Memory].
type haste struct {
	wait     func()               // is called before the reader waits for the client
	patience func() time.Duration // that the client has to take what does not fit into the system's buffer
	stream   *netx.Stream         // nil: the connection is no bare TCP connection
	space    []byte               // that the reader has given

	mu        sync.Mutex // held across a write: what TLS has encrypted has to go in that order
	gathering bool
	gathered  []byte
}

// Space implements [netx.Memory].
func (h *haste) Space() []byte { return h.space }

// Wait implements [netx.Memory].
func (h *haste) Wait() { h.wait() }

// hasten has wait called, by the goroutine that reads, when there is nothing more
// to read for now: who answers many queries that came together, each perhaps in a
// TLS record of its own, writes the answers then, in one. Writes that do not have
// to wait need no deadline, and others get that of patience. It is called before
// anything is read by more than one goroutine.
func (a *admitted) hasten(wait func(), patience func() time.Duration) {
	h := &haste{wait: wait, patience: patience}
	if tcp, ok := a.Conn.(*net.TCPConn); ok {
		h.stream, _ = netx.NewStream(tcp, h) // without one it is read as any other
	}
	a.haste = h
}

// Read implements [net.Conn].
func (a *admitted) Read(b []byte) (int, error) {
	h := a.haste
	switch {
	case h == nil:
		return a.Conn.Read(b)
	case h.stream == nil || len(b) == 0:
		h.wait()
		return a.Conn.Read(b)
	}
	h.space = b
	n, err := h.stream.Read()
	h.space = nil
	return n, err
}

// Write implements [net.Conn].
func (a *admitted) Write(b []byte) (n int, err error) {
	h := a.haste
	if h == nil {
		return a.Conn.Write(b)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gathering {
		h.gathered = append(h.gathered, b...)
		return len(b), nil
	}
	return a.put(b)
}

// put writes b at once if there is room.
func (a *admitted) put(b []byte) (n int, err error) {
	h := a.haste
	if h.stream != nil {
		if n, err = h.stream.TryWrite(b); err != nil || n == len(b) {
			return n, err
		}
	}
	if err = a.SetWriteDeadline(time.Now().Add(h.patience())); err != nil {
		return n, err
	}
	rest, err := a.Conn.Write(b[n:])
	return n + rest, err
}

// gather has what is written appended to buf, until scatter writes it in one call.
func (a *admitted) gather(buf []byte) {
	a.haste.mu.Lock()
	defer a.haste.mu.Unlock()
	a.haste.gathering, a.haste.gathered = true, buf
}

// scatter writes what was gathered, and gives the memory back.
func (a *admitted) scatter() (buf []byte, err error) {
	h := a.haste
	h.mu.Lock()
	defer h.mu.Unlock()
	buf = h.gathered
	h.gathering, h.gathered = false, nil
	_, err = a.put(buf)
	return buf[:0], err
}
