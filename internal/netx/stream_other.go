//go:build !unix

package netx

import (
	"errors"
	"net"
	"os"
)

// Stream reads and writes a TCP connection. On this system it holds the memory
// that it reads into while it waits.
type Stream struct {
	conn *net.TCPConn
	mem  Memory

	attends, read bool // within Attend: and something was read in this turn
	err           error
}

// NewStream returns a Stream of c that reads into mem.
func NewStream(c *net.TCPConn, mem Memory) (*Stream, error) { return &Stream{conn: c, mem: mem}, nil }

// Read waits for octets, which it puts into the Stream's memory, and returns how
// many came. It returns [io.EOF] at the stream's end, and an error that is
// [os.ErrDeadlineExceeded] at the connection's read deadline.
// Within [Stream.Attend] it waits once in a turn, and then returns [ErrEmpty].
func (s *Stream) Read() (int, error) {
	if s.attends && s.read {
		return 0, ErrEmpty
	}
	n, err := s.conn.Read(s.mem.Space())
	s.read = true
	if s.attends && errors.Is(err, os.ErrDeadlineExceeded) {
		s.err, err = err, ErrEmpty
	}
	return n, err
}

// Attend calls turn again and again, until it reports true or, at the connection's
// read deadline, with an error that is [os.ErrDeadlineExceeded]. turn has to read
// until it gets [ErrEmpty].
func (s *Stream) Attend(turn func() (done bool)) error {
	s.attends, s.err = true, nil
	defer func() { s.attends = false }()
	for s.err == nil {
		if s.read = false; turn() {
			return nil
		}
	}
	return s.err
}

// TryWrite writes as much of b as there is room for now, and returns how many
// octets that were: none on this system. That it is not all of them is no error.
func (s *Stream) TryWrite([]byte) (int, error) { return 0, nil }
