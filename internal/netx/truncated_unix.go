//go:build unix

package netx

import "syscall"

// Truncated reports whether flags, from receiving a datagram, say that it was
// longer than the buffer (recvmsg(2)).
func Truncated(flags int) bool { return flags&syscall.MSG_TRUNC != 0 }
