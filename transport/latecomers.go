package transport

import "sync"

// latecomers are the answers to deferred queries that are ready while their
// connection's own goroutine answers others, and are written along with these.
// The goroutine never blocks between admit and dismiss. While it does not answer
// any, the answers are written by who has them.
type latecomers struct {
	pool *sync.Pool // of *[]byte
	open bool       // of the goroutine alone: admits is true, at least until it says otherwise

	mu     sync.Mutex
	admits bool
	buf    *[]byte // whole responses, lengths included; nil: none
}

// admit lets answers join until dismiss is called.
func (l *latecomers) admit() {
	if l.open {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open, l.admits = true, true
}

// dismiss lets nobody join any more, and returns the answers of those who did;
// nil: nobody. The buffer is the caller's.
func (l *latecomers) dismiss() *[]byte {
	if !l.open {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	buf := l.buf
	l.open, l.admits, l.buf = false, false, nil
	return buf
}

// join adds rsp to what will be written, and reports whether it could. It may be
// called concurrently, and does not keep rsp.
func (l *latecomers) join(rsp []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.admits {
		return false
	}
	if l.buf == nil {
		l.buf = l.pool.Get().(*[]byte)
	}
	if len(*l.buf)+len(rsp) > bufferSize {
		return false
	}
	*l.buf = append(*l.buf, rsp...)
	return true
}
