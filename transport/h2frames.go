package transport

import (
	"encoding/binary"
	"sync"

	"golang.org/x/net/http2"
)

const (
	frameHeaderLen = 9        // octets; RFC 9113 §4.1
	maxFrame       = 16 << 10 // octets of a payload; RFC 9113 §6.5.2: the least that may be allowed
)

// h2Inbox is what a connection of HTTP/2 has only while octets are there that were
// not dealt with.
type h2Inbox [frameHeaderLen + maxFrame]byte

// h2Frame is a frame (RFC 9113 §4.1). Its payload is borrowed.
type h2Frame struct {
	typ     http2.FrameType
	flags   http2.Flags
	stream  uint32
	payload []byte
}

// h2Frames cuts what arrives on a connection into frames.
type h2Frames struct {
	pool  *sync.Pool // of *h2Inbox
	buf   *h2Inbox   // nil: nothing is there
	first [frameHeaderLen]byte

	r, w int // what has arrived and was not given yet is buf[r:w]
	done int // frames that were given
}

// space returns where the next octets are to be put, at least one, after a call
// of next that gave nothing; see added. While nothing is there it is room for no
// more than a frame begins with, so that a connection that is idle has no inbox.
func (f *h2Frames) space() []byte {
	if f.r == f.w {
		f.release()
		return f.first[:]
	}
	if f.r > 0 {
		f.w = copy(f.buf[:], f.buf[f.r:f.w])
		f.r = 0
	}
	return f.buf[f.w:]
}

// added says that n octets were put where space said.
func (f *h2Frames) added(n int) {
	if f.buf == nil {
		f.buf = f.pool.Get().(*h2Inbox)
		copy(f.buf[:], f.first[:n])
	}
	f.w += n
}

// release gives the memory back, with what is in it.
func (f *h2Frames) release() {
	if f.buf != nil {
		f.pool.Put(f.buf)
		f.buf = nil
	}
	f.r, f.w = 0, 0
}

// partial reports whether a frame has begun and is not complete.
func (f *h2Frames) partial() bool { return f.r < f.w }

// skip takes text away from where the next frame begins. It reports whether all of
// it has come, and whether what has come is that.
func (f *h2Frames) skip(text string) (all, right bool) {
	if f.buf == nil {
		return false, true
	}
	got := f.buf[f.r:f.w]
	if len(got) < len(text) {
		return false, text[:len(got)] == string(got)
	}
	f.r += len(text)
	return true, string(got[:len(text)]) == text
}

// next gives the next frame, which is borrowed until the next call of space. A frame
// that is longer than maxFrame is reported by h2FrameSize.
func (f *h2Frames) next() (frame h2Frame, ok bool, end HTTP2End) {
	if f.w-f.r < frameHeaderLen {
		return h2Frame{}, false, h2GoesOn
	}
	head := f.buf[f.r:f.w]
	size := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
	switch {
	case size > maxFrame:
		return h2Frame{}, false, HTTP2FrameSize // RFC 9113 §4.2
	case len(head) < frameHeaderLen+size:
		return h2Frame{}, false, h2GoesOn
	}
	f.r += frameHeaderLen + size
	f.done++
	return h2Frame{
		typ: http2.FrameType(head[3]), flags: http2.Flags(head[4]),
		stream:  binary.BigEndian.Uint32(head[5:]) &^ (1 << 31), // RFC 9113 §4.1: the first bit is reserved
		payload: head[frameHeaderLen : frameHeaderLen+size],
	}, true, h2GoesOn
}

// unpadded returns the payload without padding (RFC 9113 §6.1). It reports false
// when that is longer than all.
func (f *h2Frame) unpadded() ([]byte, bool) {
	p := f.payload
	if f.flags&http2.FlagDataPadded == 0 { // 0x8, as of HEADERS
		return p, true
	}
	if len(p) == 0 || int(p[0]) >= len(p) {
		return nil, false
	}
	return p[1 : len(p)-int(p[0])], true
}

// appendFrame appends the head of a frame whose payload of size octets follows.
func appendFrame(b []byte, typ http2.FrameType, flags http2.Flags, stream uint32, size int) []byte {
	b = append(b, byte(size>>16), byte(size>>8), byte(size), byte(typ), byte(flags))
	return binary.BigEndian.AppendUint32(b, stream)
}

// appendGoAway appends GOAWAY (RFC 9113 §6.8).
func appendGoAway(b []byte, last uint32, code http2.ErrCode) []byte {
	b = appendFrame(b, http2.FrameGoAway, 0, 0, 8)
	b = binary.BigEndian.AppendUint32(b, last)
	return binary.BigEndian.AppendUint32(b, uint32(code))
}

// appendReset appends RST_STREAM (RFC 9113 §6.4).
func appendReset(b []byte, stream uint32, code http2.ErrCode) []byte {
	b = appendFrame(b, http2.FrameRSTStream, 0, stream, 4)
	return binary.BigEndian.AppendUint32(b, uint32(code))
}

// appendWindowUpdate appends WINDOW_UPDATE (RFC 9113 §6.9).
func appendWindowUpdate(b []byte, stream, octets uint32) []byte {
	b = appendFrame(b, http2.FrameWindowUpdate, 0, stream, 4)
	return binary.BigEndian.AppendUint32(b, octets)
}

// appendSettings appends SETTINGS (RFC 9113 §6.5).
func appendSettings(b []byte, settings ...http2.Setting) []byte {
	b = appendFrame(b, http2.FrameSettings, 0, 0, 6*len(settings))
	for _, s := range settings {
		b = binary.BigEndian.AppendUint16(b, uint16(s.ID))
		b = binary.BigEndian.AppendUint32(b, s.Val)
	}
	return b
}
