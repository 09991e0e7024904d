//go:build !linux

package netx

import (
	"errors"
	"net"
)

// SetBuffers sizes the buffers of c. That this system gives less than was asked
// for is an error, or nobody knows.
func SetBuffers(c *net.UDPConn, want Buffers) ([]Shortfall, error) {
	var receive, send error
	if want.Receive > 0 {
		receive = c.SetReadBuffer(want.Receive)
	}
	if want.Send > 0 {
		send = c.SetWriteBuffer(want.Send)
	}
	return nil, errors.Join(receive, send)
}

// SystemBuffers returns none: this system does not say.
func SystemBuffers() (Buffers, error) { return Buffers{}, nil }

// Overflow returns 0: this system does not say.
func Overflow(*net.UDPConn) (uint64, error) { return 0, nil }
