package transport

import (
	"encoding/binary"

	"shirube/internal/wire"
)

// smallFrames is the buffer that a connection always has, in octets: room for
// a dozen ordinary queries.
const smallFrames = 1024

// prefixLen is the length of a message's length (RFC 1035 §4.2.2).
const prefixLen = 2

// frames cuts what arrives on a stream into messages (RFC 1035 §4.2.2, RFC
// 7766 §8). Its buffer grows with what has arrived, never with what was
// announced, and never beyond one message of [maxQuery]: of a longer one it
// gives the beginning and throws the rest away.
type frames struct {
	buf  []byte // small, or bigger for a big message
	r, w int    // what has arrived and was not given yet is buf[r:w]
	skip int    // octets still to come of a message that was given cut
	done int    // messages that have arrived to their last octet

	small [smallFrames]byte
}

// space returns where the next octets are to be put, at least one, after a
// call of next that gave nothing; see added.
func (f *frames) space() []byte {
	switch {
	case f.r == f.w: // nothing is left: what a big message needed is let go
		f.buf, f.r, f.w = f.small[:], 0, 0
	case f.r > 0:
		f.w = copy(f.buf, f.buf[f.r:f.w])
		f.r = 0
	}
	if f.w == len(f.buf) {
		big := make([]byte, min(2*len(f.buf), prefixLen+maxQuery))
		copy(big, f.buf)
		f.buf = big
	}
	return f.buf[f.w:]
}

// added says that n octets were put where space said.
func (f *frames) added(n int) { f.w += n }

// next gives the next message, or the beginning of one that is cut. It is
// borrowed until the next call of space.
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
