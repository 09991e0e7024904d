//go:build !unix

package netx

import "net"

// Stream reads and writes a TCP connection. On this system it holds the memory
// that it reads into while it waits.
type Stream struct {
	conn *net.TCPConn
	mem  Memory
}

// NewStream returns a Stream of c that reads into mem.
func NewStream(c *net.TCPConn, mem Memory) (*Stream, error) { return &Stream{conn: c, mem: mem}, nil }

// Read waits for octets, which it puts into the Stream's memory, and returns how
// many came. It returns [io.EOF] at the stream's end, and an error that is
// [os.ErrDeadlineExceeded] at the connection's read deadline.
func (s *Stream) Read() (int, error) { return s.conn.Read(s.mem.Space()) }

// TryWrite writes as much of b as there is room for now, and returns how many
// octets that were: none on this system. That it is not all of them is no error.
func (s *Stream) TryWrite([]byte) (int, error) { return 0, nil }
