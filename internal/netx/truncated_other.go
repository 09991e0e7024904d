//go:build !unix

package netx

// Truncated reports false: this system makes a datagram that is longer than
// the buffer an error.
func Truncated(int) bool { return false }
