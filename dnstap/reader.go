package dnstap

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// MaxFrame is the longest frame that a [Reader] takes, in octets: one with both
// a query and a response of the greatest length, and what is said about them.
const MaxFrame = 192 << 10

// readBuffer is what a [Reader] always has, in octets.
const readBuffer = 64 << 10

// Errors of a [Reader] that are the sender's doing.
var (
	ErrGiantFrame = errors.New("a frame that is longer than any message makes one")
	ErrControl    = errors.New("a control frame where none may be")
)

// Reader reads frames, from a file or from a sender. It never has more than the
// frame at hand and its buffer in memory, whatever a sender announces.
type Reader struct {
	r    *bufio.Reader
	w    io.Writer // nil: there is nobody to talk to
	used int       // octets of r that the last frame was in
	big  []byte    // for a frame that does not fit into r
}

// NewReader begins to read a stream that runs one way, as a file.
func NewReader(r io.Reader) (*Reader, error) {
	out := &Reader{r: bufio.NewReaderSize(r, readBuffer)}
	return out, out.expect(ControlStart)
}

// Accept begins to read what a sender sends on a connection, and tells it to go
// on. Deadlines are the caller's business.
func Accept(conn io.ReadWriter) (*Reader, error) {
	out := &Reader{r: bufio.NewReaderSize(conn, readBuffer), w: conn}
	if err := out.expect(ControlReady); err != nil {
		return nil, err
	}
	if _, err := conn.Write(AppendControl(nil, ControlAccept)); err != nil {
		return nil, err
	}
	return out, out.expect(ControlStart)
}

func (r *Reader) expect(want uint32) error {
	typ, err := ReadControl(r.r)
	if err == nil && typ != want {
		err = fmt.Errorf("%w: found type %d; expected %d", ErrControl, typ, want)
	}
	return unexpected(err)
}

// Next returns the next frame, which is borrowed until the next call. The error
// is [io.EOF] after the sender's STOP, which is confirmed, and
// [io.ErrUnexpectedEOF] when it is gone without.
func (r *Reader) Next() ([]byte, error) {
	if _, err := r.r.Discard(r.used); err != nil {
		return nil, err
	}
	r.used = 0
	head, err := r.r.Peek(lengthLen)
	if err != nil {
		return nil, unexpected(err)
	}
	length := int(binary.BigEndian.Uint32(head))
	switch {
	case length == 0:
		return nil, r.stop()
	case length > MaxFrame:
		return nil, fmt.Errorf("%w: %d octets", ErrGiantFrame, length)
	case lengthLen+length <= readBuffer:
		b, err := r.r.Peek(lengthLen + length)
		if err != nil {
			return nil, unexpected(err)
		}
		r.used = len(b)
		return b[lengthLen:], nil
	}
	if cap(r.big) < length {
		r.big = make([]byte, MaxFrame)
	}
	if _, err := r.r.Discard(lengthLen); err != nil {
		return nil, err
	}
	_, err = io.ReadFull(r.r, r.big[:length])
	return r.big[:length], unexpected(err)
}

// Buffered reports whether there may be another frame without waiting for it.
func (r *Reader) Buffered() bool { return r.r.Buffered() > r.used+lengthLen }

// stop reads the rest of a control frame, which has to be STOP.
func (r *Reader) stop() error {
	if err := r.expect(ControlStop); err != nil {
		return err
	}
	if r.w != nil {
		if _, err := r.w.Write(AppendControl(nil, ControlFinish)); err != nil {
			return err
		}
	}
	return io.EOF
}

// unexpected returns err, but an end that comes before STOP is never a good one.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
