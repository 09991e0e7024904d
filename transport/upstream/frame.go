package upstream

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"shirube/internal/exchange"
	"shirube/internal/wire"
)

// What makes a message over TCP no answer.
var (
	errOtherAnswer  = fmt.Errorf("%w: it answers something else", exchange.ErrMalformed)
	errTCPTruncated = fmt.Errorf("%w: truncated over TCP", exchange.ErrMalformed)
	errCutShort     = fmt.Errorf("%w: the connection ended within the message", exchange.ErrMalformed)
)

// firstRead is how many octets are read from a connection at once, and how much
// memory its length field alone can claim.
const firstRead = 2048

// readFrame reads a message and the length before it (RFC 1035 §4.2.2). Memory
// is claimed as octets arrive, never because of the length. The error is
// [io.EOF] when the connection ended before the message, and wraps
// [exchange.ErrMalformed] when it is shorter than its length or a header.
func readFrame(r *bufio.Reader) ([]byte, error) {
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, midFrame(err)
	}
	n := int(binary.BigEndian.Uint16(length[:]))
	if n < wire.HeaderLen {
		return nil, fmt.Errorf("%w: %d octets long", exchange.ErrMalformed, n)
	}
	msg := make([]byte, 0, min(n, firstRead))
	for len(msg) < n {
		msg = slices.Grow(msg, min(n-len(msg), max(len(msg), firstRead)))
		m, err := io.ReadFull(r, msg[len(msg):min(n, cap(msg))])
		msg = msg[:len(msg)+m]
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, midFrame(err)
		}
	}
	return msg, nil
}

// midFrame names the error of a connection that ended within a message.
func midFrame(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errCutShort
	}
	return err
}
