//go:build unix

package netx

import (
	"io"
	"net"
	"os"
	"syscall"
)

// Stream reads and writes a TCP connection at the least cost. While nothing has
// come it needs no memory to read into, so that a connection that is idle costs
// little; and a write that does not have to wait needs no deadline.
//
// The connection stays the caller's: to set deadlines, to close it, and to write
// what has to wait. One goroutine at a time may read, and one write.
type Stream struct {
	raw syscall.RawConn
	mem Memory

	got     int
	readErr error
	read    func(fd uintptr) bool // readOn, bound once: a method value allocates

	turn    func() bool // of Attend, whose goroutine alone uses it and what follows
	fd      uintptr     // in a turn
	turning bool
	drained bool // the system has said that there is no more
	tells   bool // it says so: see tellRest

	out      []byte
	put      int
	writeErr error
	write    func(fd uintptr) // writeOn
}

// NewStream returns a Stream of c that reads into mem.
func NewStream(c *net.TCPConn, mem Memory) (*Stream, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &Stream{raw: raw, mem: mem}
	s.read, s.write = s.readOn, s.writeOn
	err = raw.Control(func(fd uintptr) { s.tells = tellRest(int(fd)) })
	return s, err
}

// Read waits for octets, which it puts into the Stream's memory, and returns how
// many came. It returns [io.EOF] at the stream's end, and an error that is
// [os.ErrDeadlineExceeded] at the connection's read deadline. Within [Stream.Attend]
// it does not wait, and returns [ErrEmpty] instead.
func (s *Stream) Read() (int, error) {
	if s.turning {
		return s.readNow()
	}
	if err := s.raw.Read(s.read); err != nil {
		return 0, err
	}
	return s.got, s.readErr
}

// readOn reads what is there. It reports false when that is nothing.
func (s *Stream) readOn(fd uintptr) bool {
	var errno error
	s.got, errno = retry(recvNow, fd, s.mem.Space())
	switch {
	case errno == nil && s.got > 0:
		s.readErr = nil
	case errno == nil:
		s.readErr = io.EOF
	case again(errno):
		s.mem.Wait()
		return false
	default:
		s.readErr = os.NewSyscallError("read", errno)
	}
	return true
}

// Attend calls turn at once, and again whenever something may have come, until it
// reports true or the wait fails: at the connection's read deadline with an error
// that is [os.ErrDeadlineExceeded]. turn has to read until it gets [ErrEmpty].
//
// That takes less than to read in a loop does: where the system says what it still
// has, nobody has to try in vain before each wait. From outside of the runtime's
// loop that could not be left out, for it forgets what came before it is entered.
func (s *Stream) Attend(turn func() (done bool)) error {
	s.turn = turn
	err := s.raw.Read(s.attendOn)
	s.turn = nil
	return err
}

// attendOn has one turn. It reports false when there is to be another one.
func (s *Stream) attendOn(fd uintptr) bool {
	s.fd, s.turning, s.drained = fd, true, false
	done := s.turn()
	s.turning = false
	return done
}

// readNow reads what is there.
func (s *Stream) readNow() (int, error) {
	if s.drained {
		return 0, ErrEmpty
	}
	var errno error
	if s.tells {
		var rest int
		s.got, rest, errno = recvRest(int(s.fd), s.mem.Space())
		s.drained = errno == nil && rest == 0
	} else {
		s.got, errno = retry(recvNow, s.fd, s.mem.Space())
	}
	switch {
	case errno == nil && s.got > 0:
		return s.got, nil
	case errno == nil:
		return 0, io.EOF
	case again(errno):
		s.drained = true
		return 0, ErrEmpty
	default:
		return 0, os.NewSyscallError("read", errno)
	}
}

// TryWrite writes as much of b as there is room for now, and returns how many
// octets that were. That it is not all of them is no error.
func (s *Stream) TryWrite(b []byte) (int, error) {
	s.out = b
	err := s.raw.Control(s.write)
	s.out = nil
	if err != nil {
		return 0, err
	}
	return s.put, s.writeErr
}

// writeOn writes what there is room for.
func (s *Stream) writeOn(fd uintptr) {
	s.put, s.writeErr = retry(sendNow, fd, s.out)
	if s.writeErr != nil && !again(s.writeErr) {
		s.writeErr = os.NewSyscallError("write", s.writeErr)
		return
	}
	s.writeErr = nil
}

// retry calls a system call until no signal interrupts it. What it returns is
// never negative.
func retry(call func(fd int, b []byte) (int, error), fd uintptr, b []byte) (int, error) {
	for {
		n, err := call(int(fd), b)
		if !isErrno(err, syscall.EINTR) {
			return max(n, 0), err
		}
	}
}

// again reports whether a system call would have had to wait.
func again(err error) bool { return isErrno(err, syscall.EAGAIN) }

// isErrno compares what a system call has returned, which is never wrapped.
func isErrno(err error, want syscall.Errno) bool {
	errno, ok := err.(syscall.Errno) //nolint:errorlint // see above
	return ok && errno == want
}
