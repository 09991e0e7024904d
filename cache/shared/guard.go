package shared

import (
	"bytes"
	"errors"
	"net"
	"strconv"
	"sync"
	"time"
)

// guard is a connection to memcached that hands on nothing but what was asked
// for. The client library takes a value for that of the key it asked for
// whatever the server calls it, makes room for as many octets as are announced,
// and begins its time anew with each value: a server that is broken or taken
// over could have us answer with what belongs elsewhere, fill our memory, or
// hold our connections for as long as it likes. So each operation has one
// deadline, each value must be one of those asked for, in their order, and be
// no longer than [MaxValue], and nothing may come unasked.
type guard struct {
	net.Conn
	timeout time.Duration     // of one operation, from its first octet
	ended   func()            // told of each operation that the server answered
	refused func()            // told of each value that the server has no room for
	release func(failed bool) // told once that the connection is closed, and whether amid an operation
	slot    *slot             // that it belongs to; nil: none

	state   guardState
	begun   time.Time // the operation
	overdue bool      // the time of who asks is over, and not that of the operation
	request []byte    // first line of the request, as far as it is written
	keys    []byte    // of a get: those that no value has come for
	line    []byte    // of the response, as far as it is read
	left    int       // octets of the value that is being read, its CRLF included
	closed  sync.Once
}

// guardState is what is to come from the server.
type guardState uint8

const (
	guardIdle    guardState = iota // nothing
	guardRequest                   // nothing, before the request's first line is written
	guardLine                      // one line
	guardValues                    // values, and END
	guardData                      // the rest of a value
)

// maxLine is how long a line of a response may be, in octets: a key, a size, or
// the text of an error.
const maxLine = 512

// What a guard ends a connection for: the server does not keep to the protocol.
var (
	errForeign = errors.New("shared cache: the server sent what it was not asked for")
	errLine    = errors.New("shared cache: the server sent a line that is too long or no reply")
)

// largeError is the end of a connection on which the value of key was too large.
type largeError struct{ key string }

func (*largeError) Error() string {
	return "shared cache: the server announced a value that is too large"
}

// SetDeadline implements [net.Conn]. During an operation the deadline stays
// that of its beginning.
func (g *guard) SetDeadline(t time.Time) error {
	if g.state != guardIdle {
		return nil
	}
	return g.Conn.SetDeadline(t)
}

// Write implements [net.Conn].
func (g *guard) Write(b []byte) (int, error) {
	if g.state == guardIdle {
		g.begun = time.Now()
		if err := g.Conn.SetDeadline(g.begun.Add(g.timeout)); err != nil {
			return 0, err
		}
		g.state, g.request = guardRequest, g.request[:0]
	}
	if g.state == guardRequest {
		g.begin(b)
	}
	n, err := g.Conn.Write(b)
	if err == nil && g.slot != nil && !g.slot.until.IsZero() {
		err = g.SetReadDeadline(g.slot.until)
	}
	return n, err
}

// begin reads the request as it is written, to its first line's end.
func (g *guard) begin(b []byte) {
	end := bytes.IndexByte(b, '\n')
	if end < 0 {
		g.request = append(g.request, b...)
		return
	}
	g.request = append(g.request, b[:end]...)
	keys, get := bytes.CutPrefix(bytes.TrimRight(g.request, "\r"), []byte("gets "))
	g.state, g.keys = guardLine, nil
	if get {
		g.state, g.keys = guardValues, keys
	}
}

// Read implements [net.Conn]. What does not pass is not handed on.
func (g *guard) Read(b []byte) (int, error) {
	storing := g.state == guardLine && len(g.line) == 0
	n, err := g.Conn.Read(b)
	if g.lacksTime(err) {
		n, err = g.lastLook(b)
	}
	if bad := g.check(b[:n]); bad != nil {
		return 0, bad
	}
	if storing && g.state == guardIdle && bytes.HasPrefix(b[:n], []byte("SERVER_ERROR ")) {
		// Out of memory. The client library would close the connection, which is
		// as good as before, and make a new one for each value that finds no room.
		g.refused()
		n = copy(b, "NOT_STORED\r\n")
	}
	return n, err
}

// check follows the response.
func (g *guard) check(b []byte) error {
	for len(b) > 0 {
		switch g.state {
		case guardIdle, guardRequest:
			return errForeign
		case guardData:
			n := min(g.left, len(b))
			b = b[n:]
			if g.left -= n; g.left == 0 {
				g.state = guardValues
			}
		default:
			end := bytes.IndexByte(b, '\n') + 1
			whole := end > 0
			if !whole {
				end = len(b)
			}
			if g.line = append(g.line, b[:end]...); len(g.line) > maxLine {
				return errLine
			}
			b = b[end:]
			if !whole {
				return nil
			}
			err := g.reply(bytes.TrimRight(g.line, "\r\n"))
			g.line = g.line[:0]
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// reply judges one line.
func (g *guard) reply(line []byte) error {
	value, ok := bytes.CutPrefix(line, []byte("VALUE "))
	switch {
	case g.state == guardLine, !ok && string(line) == "END":
		g.state = guardIdle
		g.ended()
		return nil
	case !ok: // an error: the client library closes the connection
		g.state = guardLine
		return nil
	}
	fields := bytes.Fields(value) // key, flags, size, and a number for compare-and-swap
	if len(fields) < 3 || !g.expects(fields[0]) {
		return errForeign
	}
	size, err := strconv.ParseUint(string(fields[2]), 10, 32)
	if err != nil || size > MaxValue {
		return &largeError{string(fields[0])}
	}
	g.left, g.state = int(size)+len("\r\n"), guardData
	return nil
}

// expects reports whether key was asked for, and neither it nor one behind it
// has been answered: memcached keeps the order.
func (g *guard) expects(key []byte) bool {
	for len(g.keys) > 0 {
		next, rest, _ := bytes.Cut(g.keys, []byte(" "))
		g.keys = rest
		if bytes.Equal(next, key) {
			return true
		}
	}
	return false
}

// Close implements [net.Conn]. Where only the time of who asks is over, the
// connection is left to its slot.
func (g *guard) Close() error {
	if g.overdue {
		g.slot.late = g
		return nil
	}
	g.closed.Do(func() { g.release(g.state != guardIdle) })
	return g.Conn.Close()
}
