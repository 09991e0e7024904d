package transport

import (
	"encoding/binary"
	"sync"

	"shirube/internal/wire"
)

// prefixLen is the length of a message's length (RFC 1035 §4.2.2).
const prefixLen = 2

// inbox is what a connection has only while octets are there that were not dealt
// with: whatever length a message announces, it takes no more, and while nothing
// comes the connection has none.
type inbox struct {
	buf [prefixLen + maxQuery]byte
	q   wire.Query // of the message that is dealt with
}

// frames cuts what arrives on a stream into messages (RFC 1035 §4.2.2, RFC
// 7766 §8). Of a message that is longer than [maxQuery] it gives the beginning
// and throws the rest away. It implements [netx.Memory].
type frames struct {
	pool   *sync.Pool // of *inbox
	*inbox            // nil: nothing is there

	r, w int // what has arrived and was not given yet is buf[r:w]
	skip int // octets still to come of a message that was given cut
	done int // messages that have arrived to their last octet
}

// Space returns where the next octets are to be put, at least one, after a
// call of next that gave nothing; see added.
func (f *frames) Space() []byte {
	switch {
	case f.inbox == nil:
		f.inbox = f.pool.Get().(*inbox)
	case f.r > 0: // what is left of a message has room from the start
		f.w = copy(f.buf[:], f.buf[f.r:f.w])
		f.r = 0
	}
	return f.buf[f.w:]
}

// added says that n octets were put where Space said.
func (f *frames) added(n int) { f.w += n }

// Wait gives the memory back if there is nothing in it.
func (f *frames) Wait() {
	if f.r == f.w {
		f.release()
	}
}

// release gives the memory back, with what is in it.
func (f *frames) release() {
	if f.inbox != nil {
		f.pool.Put(f.inbox)
		f.inbox, f.r, f.w = nil, 0, 0
	}
}

// next gives the next message, or the beginning of one that is cut. It is
// borrowed until the next call of Space or Wait.
func (f *frames) next() (msg []byte, cut, ok bool) {
	if f.skip > 0 {
		n := min(f.skip, f.w-f.r)
		f.r += n
		if f.skip -= n; f.skip > 0 {
			return nil, false, false
		}
		f.done++
	}
	if f.w-f.r < prefixLen {
		return nil, false, false
	}
	size := int(binary.BigEndian.Uint16(f.buf[f.r:]))
	end := f.r + prefixLen + size
	switch {
	case size < wire.HeaderLen: // it will not become a message: no need to wait
		msg = f.buf[f.r+prefixLen : min(end, f.w)]
		f.r = min(end, f.w)
	case end <= f.w:
		msg = f.buf[f.r+prefixLen : end]
		f.r = end
	case size > maxQuery && f.w-f.r == prefixLen+maxQuery:
		f.skip = end - f.w
		msg = f.buf[f.r+prefixLen : f.w]
		f.r = f.w
		return msg, true, true
	default:
		return nil, false, false
	}
	f.done++
	return msg, false, true
}

// partial reports whether a message has begun and is not complete.
func (f *frames) partial() bool { return f.skip > 0 || f.r < f.w }
