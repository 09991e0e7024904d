package transport

import (
	"bufio"
	"errors"
	"io"

	"github.com/quic-go/qpack"
	"github.com/quic-go/quic-go/http3"
	"github.com/quic-go/quic-go/quicvarint"
	"golang.org/x/net/http2/hpack"
)

// Frames of HTTP/3, by their type (RFC 9114 §7.2). All up to h3LastOfHTTP2 mean
// something, or did in HTTP/2 and must not be sent (§7.2.8); others that nobody
// knows are passed over (§9).
const (
	h3Data           = 0x0
	h3Headers        = 0x1
	h3CancelPush     = 0x3
	h3Settings       = 0x4
	h3GoAway         = 0x7
	h3LastOfHTTP2    = 0x9
	h3MaxPushID      = 0xd
	h3Priority       = 0xf0700 // RFC 9218 §7.2
	h3PriorityOfPush = 0xf0701
)

// Bounds of what a client of HTTP/3 sends, in octets.
const (
	maxH3Request  = 2*maxHeader + maxPost // on one stream, with frames that are passed over
	maxH3Control  = 4 << 10               // in one frame of the control stream
	h3ReadAhead   = 1 << 10               // of a request
	h3ControlRead = 64                    // of the control stream: its frames are short, and each connection has one
)

// h3Error is why a stream has to end, or all.
type h3Error struct {
	code  http3.ErrCode
	whole bool // the connection
}

// Error implements [error].
func (e h3Error) Error() string { return e.code.String() }

var (
	errH3Truncated  = h3Error{http3.ErrCodeFrameError, true}         // RFC 9114 §7.1
	errH3Unexpected = h3Error{http3.ErrCodeFrameUnexpected, true}    // RFC 9114 §4.1, §7.2
	errH3Malformed  = h3Error{http3.ErrCodeMessageError, false}      // RFC 9114 §4.1.2
	errH3Incomplete = h3Error{http3.ErrCodeRequestIncomplete, false} // RFC 9114 §4.1.1
	errH3TooLong    = h3Error{http3.ErrCodeExcessiveLoad, false}     // RFC 9114 §10.5
	errH3Flood      = h3Error{http3.ErrCodeExcessiveLoad, true}
	errH3Settings   = h3Error{http3.ErrCodeSettingsError, true}            // RFC 9114 §7.2.4
	errH3QPACK      = h3Error{http3.ErrCodeQPACKDecompressionFailed, true} // RFC 9204 §2.2
)

// h3Reader reads the frames of a stream, and the fields of its request.
type h3Reader struct {
	h2Request // RFC 9114 §4.3 has the rules of HTTP/2

	from    io.LimitedReader
	in      *bufio.Reader // of from
	block   []byte        // the last fields
	decoder *qpack.Decoder
}

func newH3Reader(ahead int) *h3Reader {
	return &h3Reader{in: bufio.NewReaderSize(nil, ahead), decoder: qpack.NewDecoder()}
}

// begin has r read limit octets of str at most.
func (r *h3Reader) begin(str io.Reader, limit int64) {
	r.from = io.LimitedReader{R: str, N: limit}
	r.in.Reset(&r.from)
}

// next reads the head of a frame with n octets. [io.EOF] is the end of the stream.
func (r *h3Reader) next() (typ, n uint64, err error) {
	if _, err := r.in.Peek(1); err != nil {
		if errors.Is(err, io.EOF) && r.from.N <= 0 {
			err = errH3TooLong
		}
		return 0, 0, err
	}
	if typ, err = quicvarint.Read(r.in); err == nil {
		n, err = quicvarint.Read(r.in)
	}
	return typ, n, r.within(err)
}

// within returns what err means in the middle of a frame.
func (r *h3Reader) within(err error) error {
	switch {
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return err // nil, a deadline, or the client has reset the stream
	case r.from.N <= 0:
		return errH3TooLong
	}
	return errH3Truncated
}

// skip passes n octets of a frame over.
func (r *h3Reader) skip(n uint64) error {
	_, err := io.CopyN(io.Discard, r.in, int64(n))
	return r.within(err)
}

// read appends n octets of a frame to b, which grows with what has come, not with
// what is announced.
func (r *h3Reader) read(b []byte, n int) ([]byte, error) {
	for n > 0 {
		at, step := len(b), min(n, h3ReadAhead)
		b = append(b, make([]byte, step)...)
		got, err := io.ReadFull(r.in, b[at:])
		if err != nil {
			return b[:at+got], r.within(err)
		}
		n -= step
	}
	return b, nil
}

// header reads the fields that a request begins with (RFC 9114 §4.1). If they are
// more than are read, size says so.
func (r *h3Reader) header() error {
	for {
		typ, n, err := r.next()
		switch {
		case errors.Is(err, io.EOF):
			return errH3Incomplete
		case err != nil:
			return err
		case typ == h3Headers:
			return r.fields(n)
		case notOfRequests(typ) || typ == h3Data:
			return errH3Unexpected
		}
		if err := r.skip(n); err != nil {
			return err
		}
	}
}

// notOfRequests reports whether a frame has no business on the stream of a request,
// or in the middle of it.
func notOfRequests(typ uint64) bool {
	return h3Data < typ && typ <= h3LastOfHTTP2 || typ == h3MaxPushID || typ == h3Priority || typ == h3PriorityOfPush
}

// fields reads n octets of fields.
func (r *h3Reader) fields(n uint64) error {
	r.reset()
	if n > maxHeader {
		r.size = maxHeader + 1 // at least: RFC 9204 §4.5, a field takes fewer octets than it has
		return nil
	}
	var err error
	if r.block, err = r.read(r.block[:0], int(n)); err != nil {
		return err
	}
	next := r.decoder.Decode(r.block)
	for r.size <= maxHeader {
		f, err := next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return errH3QPACK
		}
		r.field(hpack.HeaderField{Name: f.Name, Value: f.Value})
	}
	return nil
}

// asks reports whether the fields are those of a request. It has to say of whom
// (RFC 9114 §4.3.1).
func (r *h3Reader) asks() bool { return r.complete() && (r.authority != "" || r.hosted) }

// body appends to msg what follows the fields: the message, with that length if it
// is not negative, and perhaps more fields. It may be cut, if it is longer than any
// query.
func (r *h3Reader) body(msg []byte, length int64) (_ []byte, cut bool, err error) {
	total, trailed := int64(0), false
	for {
		typ, n, err := r.next()
		switch {
		case errors.Is(err, io.EOF) && length >= 0 && total != length: // RFC 9114 §4.1.2
			return msg, false, errH3Malformed
		case errors.Is(err, io.EOF):
			return msg, false, nil
		case err != nil:
			return msg, false, err
		case trailed && typ <= h3Headers, typ != h3Headers && notOfRequests(typ): // RFC 9114 §4.1
			return msg, false, errH3Unexpected
		case typ == h3Data:
			if total += int64(n); length >= 0 && total > length {
				return msg, false, errH3Malformed
			}
			if msg, err = r.read(msg, min(int(n), maxQuery+1-len(msg))); err != nil || len(msg) > maxQuery {
				return msg[:min(len(msg), maxQuery)], err == nil, err
			}
		case typ == h3Headers:
			trailed = true
			if err := r.trailers(n); err != nil {
				return msg, false, err
			}
		default:
			if err := r.skip(n); err != nil {
				return msg, false, err
			}
		}
	}
}

// trailers reads the fields that follow a body (RFC 9114 §4.1).
func (r *h3Reader) trailers(n uint64) error {
	if err := r.fields(n); err != nil {
		return err
	}
	switch {
	case r.size > maxHeader:
		return errH3TooLong
	case r.malformed || r.method+r.scheme+r.path+r.authority != "": // RFC 9114 §4.3
		return errH3Malformed
	}
	return nil
}

// Settings that have to be checked.
const (
	h3MaxFieldSection = 0x6  // RFC 9114 §7.2.4.1; 2 to 5 are of HTTP/2
	h3Connect         = 0x8  // RFC 9220 §5
	h3Datagrams       = 0x33 // RFC 9297 §2.1.1
)

// settings reads n octets of settings. None of them changes anything here: nothing
// is compressed by a table, and no response has long fields.
func (r *h3Reader) settings(n uint64) error {
	b, err := r.read(nil, int(n))
	if err != nil {
		return err
	}
	for len(b) > 0 {
		id, n, err := quicvarint.Parse(b)
		if err != nil {
			return errH3Truncated
		}
		b = b[n:]
		value, n, err := quicvarint.Parse(b)
		if err != nil {
			return errH3Truncated
		}
		b = b[n:]
		if 2 <= id && id < h3MaxFieldSection || (id == h3Connect || id == h3Datagrams) && value > 1 {
			return errH3Settings
		}
	}
	return nil
}

// appendH3Settings appends the control stream's beginning (RFC 9114 §6.2.1).
func appendH3Settings(b []byte) []byte {
	b = append(b, h3ControlStream, h3Settings, byte(1+quicvarint.Len(maxHeader)), h3MaxFieldSection)
	return quicvarint.Append(b, maxHeader)
}

// appendH3GoAway appends a GOAWAY frame (RFC 9114 §5.2): requests on the stream id
// and those after it are not answered.
func appendH3GoAway(b []byte, id uint64) []byte {
	return quicvarint.Append(append(b, h3GoAway, byte(quicvarint.Len(id))), id)
}

// beginH3Fields begins a HEADERS frame, with as many octets for its length as no
// response needs more than (RFC 9000 §16), and the prefix of fields that need no
// table (RFC 9204 §4.5.1).
func beginH3Fields(b []byte) []byte { return append(b, h3Headers, 0x40, 0, 0, 0) }

// endH3Fields ends the HEADERS frame that is all of b.
func endH3Fields(b []byte) {
	n := len(b) - 3
	b[1], b[2] = 0x40|byte(n>>8), byte(n)
}
