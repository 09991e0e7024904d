package transport

import (
	"errors"
	"syscall"
)

// SendError is why a datagram was not sent.
type SendError uint8

// The reasons.
const (
	SendTooBig      SendError = iota // longer than the interface takes
	SendNoBuffer                     // the kernel is out of memory for it
	SendUnreachable                  // no way to the client, or ICMP says so
	SendDenied                       // by a packet filter, or a broadcast address
	SendOther
	NumSendErrors // how many there are, for arrays of counters
)

var sendErrorNames = [NumSendErrors]string{"too_big", "no_buffer", "unreachable", "denied", "other"}

// String returns a word for e that can be a label of a metric.
func (e SendError) String() string { return sendErrorNames[e] }

func sendErrorOf(err error) SendError {
	switch {
	case errors.Is(err, syscall.EMSGSIZE):
		return SendTooBig
	case errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.EAGAIN):
		return SendNoBuffer
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return SendUnreachable
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return SendDenied
	default:
		return SendOther
	}
}
