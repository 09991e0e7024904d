package transport

import (
	"errors"
	"io"
	"os"
)

// CloseReason is why a connection ended.
type CloseReason uint8

// The reasons.
const (
	ClosedByClient   CloseReason = iota // after a whole message, or none
	ClosedMidMessage                    // by the client, within a message
	ClosedReset                         // by an error of the connection
	ClosedNoQuery                       // a message was not one that can be answered
	ClosedFirstByte                     // FirstByteTimeout
	ClosedSlowWriter                    // MessageTimeout, while the client sent
	ClosedDribble                       // a message came in more than maxReads pieces
	ClosedSlowReader                    // MessageTimeout, while the client was sent
	ClosedIdle                          // IdleTimeout
	ClosedShutdown                      // by Shutdown
	ClosedNoProxy                       // by a proxy that did not say for whom it asks
	ClosedOverClient                    // MaxConnsPerClient, of a client behind a proxy
	NumCloseReasons                     // how many there are, for arrays of counters
)

var closeReasonNames = [NumCloseReasons]string{
	"client", "mid_message", "reset", "no_query", "first_byte_timeout", "slow_writer", "dribble", "slow_reader", "idle", "shutdown",
	"no_proxy_header", "over_client",
}

// String returns a word for r that can be a label of a metric.
func (r CloseReason) String() string { return closeReasonNames[r] }

// answersFirst reports whether what is in flight is still answered before a
// connection that ends for r is closed. A FIN says only that the client sends no
// more (RFC 9293 §3.6); if he takes no more either, the first response is
// answered with a reset, and ends it (RFC 7766 §6.2.4).
func (r CloseReason) answersFirst() bool {
	return r == ClosedByClient || r == ClosedMidMessage || r == ClosedShutdown
}

// readFailure is the reason that a failed read is, but for a timeout.
func readFailure(err error, midMessage bool) CloseReason {
	switch {
	case !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
		return ClosedReset
	case midMessage:
		return ClosedMidMessage
	default:
		return ClosedByClient
	}
}

// writeFailure is the reason that a failed write is.
func writeFailure(err error) CloseReason {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ClosedSlowReader
	}
	return ClosedReset
}
