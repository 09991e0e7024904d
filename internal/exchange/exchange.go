// Package exchange holds the words in which the resolver and the upstream
// transport talk about one question to one server. It is a leaf, so that
// neither has to know the other.
package exchange

import (
	"errors"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// Request is one question for one server. Message IDs, ports, the spelling of
// the name and the retry over TCP after a truncated answer are the transport's
// business.
type Request struct {
	Server   netip.AddrPort
	Question wire.Question

	// Timeout is how long to wait for an answer over UDP, and for the
	// connection over TCP. The context's deadline bounds the whole.
	Timeout time.Duration

	TCP  bool // do not try UDP
	Bare bool // without EDNS, for a server that was seen to fail on it
}

// Response is what came back.
type Response struct {
	Msg  *dns.Msg
	RTT  time.Duration // of the successful attempt, from its sending
	Size int           // octets received for the request, dropped replies included
	TCP  bool          // Msg came over TCP
}

// ErrTimeout reports that no acceptable answer came in time.
var ErrTimeout = errors.New("no answer in time")

// ErrMalformed reports that the server's answer could not be parsed.
var ErrMalformed = errors.New("malformed answer")
