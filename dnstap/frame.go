package dnstap

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Frame Streams (github.com/farsightsec/fstrm, fstrm/control.h): each frame has
// its length before it, as four octets, the first one first. A length of zero
// says that what follows is a control frame, with a length of its own.

// ContentType is what streams of dnstap say that they carry.
const ContentType = "protobuf:dnstap.Dnstap"

// Types of control frames. READY and FINISH are for streams that run both ways,
// which sockets do and files do not.
const (
	ControlAccept uint32 = 1 // by who receives: go on
	ControlStart  uint32 = 2 // by who sends: data follows
	ControlStop   uint32 = 3 // by who sends: no more
	ControlReady  uint32 = 4 // by who sends: may I?
	ControlFinish uint32 = 5 // by who receives: all was read
)

const (
	lengthLen        = 4   // octets of a length
	maxControl       = 512 // octets of a control frame (FSTRM_CONTROL_FRAME_LENGTH_MAX)
	fieldContentType = 1   // the only field of control frames
)

// Errors of reading a control frame.
var (
	errNoControl = errors.New("data where a control frame has to be")
	errControl   = errors.New("malformed control frame")
)

// AppendControl appends a control frame of a type, with the content type if it
// is of those that have it.
func AppendControl(b []byte, typ uint32) []byte {
	b = binary.BigEndian.AppendUint32(b, 0)
	if typ == ControlStop || typ == ControlFinish {
		return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, 4), typ)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(4+4+4+len(ContentType)))
	b = binary.BigEndian.AppendUint32(b, typ)
	b = binary.BigEndian.AppendUint32(b, fieldContentType)
	b = binary.BigEndian.AppendUint32(b, uint32(len(ContentType)))
	return append(b, ContentType...)
}

// ReadControl reads one control frame and returns its type. It is an error if
// it names content types and ours is not among them.
func ReadControl(r io.Reader) (uint32, error) {
	var head [2 * lengthLen]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, err
	}
	if binary.BigEndian.Uint32(head[:]) != 0 {
		return 0, noControl(head[:])
	}
	return ReadControlBody(r, binary.BigEndian.Uint32(head[lengthLen:]))
}

// noControl says what there is in place of a control frame.
func noControl(head []byte) error {
	for magic, program := range map[string]string{
		"\x28\xb5\x2f\xfd": "zstd", // RFC 8878 §3.1.1
		"\x1f\x8b":         "gzip", // RFC 1952 §2.3.1
	} {
		if bytes.HasPrefix(head, []byte(magic)) {
			return fmt.Errorf("%w: it is compressed with %s", errNoControl, program)
		}
	}
	return errNoControl
}

// ReadControlBody is [ReadControl] for a frame of which the escape and the
// length were read already.
func ReadControlBody(r io.Reader, length uint32) (uint32, error) {
	if length < 4 || length > maxControl {
		return 0, fmt.Errorf("%w of %d octets", errControl, length)
	}
	var body [maxControl]byte
	b := body[:length]
	if _, err := io.ReadFull(r, b); err != nil {
		return 0, err
	}
	typ := binary.BigEndian.Uint32(b)
	if typ < ControlAccept || typ > ControlFinish {
		return 0, fmt.Errorf("%w of type %d", errControl, typ)
	}
	return typ, checkContent(b[4:])
}

// checkContent reads the fields of a control frame.
func checkContent(b []byte) error {
	var others []string
	for len(b) > 0 {
		if len(b) < 8 {
			return errControl
		}
		field, n := binary.BigEndian.Uint32(b), int(binary.BigEndian.Uint32(b[4:]))
		if field != fieldContentType || n > len(b)-8 {
			return errControl
		}
		content := string(b[8 : 8+n])
		if content == ContentType {
			return nil
		}
		others = append(others, content)
		b = b[8+n:]
	}
	if others != nil {
		return fmt.Errorf("a stream of %q; expected %q", others, ContentType)
	}
	return nil
}

// countFrames returns how many of the frames in b are whole in its first n
// octets, and how long these are together.
func countFrames(b []byte, n int) (frames, octets int) {
	for octets+lengthLen <= n {
		end := octets + lengthLen + int(binary.BigEndian.Uint32(b[octets:]))
		if end > n {
			break
		}
		frames, octets = frames+1, end
	}
	return frames, octets
}
