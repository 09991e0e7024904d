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
// the name, cookies and the retry over TCP after a truncated answer are the
// transport's business.
type Request struct {
	Server   netip.AddrPort
	Question wire.Question
	Zone     wire.Name // that the server is asked for, for those who log it; "": not said

	// Timeout is how long to wait for an answer over UDP, and for the
	// connection over TCP, three times as long with TLS on it. The context's
	// deadline bounds the whole.
	Timeout time.Duration

	TCP  bool // do not try UDP
	Bare bool // without EDNS, for a server that was seen to fail on it

	// RD and CD are the header's bits. A server that is authoritative has no
	// use for either. A forwarder is asked to recurse (RFC 1034 §4.3.1), and
	// not to validate what will be validated here (RFC 6840 §5.9).
	RD, CD bool

	// TLS, when not nil, says that the question goes over TLS only (RFC 7858), or
	// over HTTPS only, and how the server proves who it is. It must not change
	// afterwards.
	TLS *TLS
}

// TLS says how a server proves who it is: by a name, or by a key. With both,
// the key decides, and the name is only told to the server.
type TLS struct {
	// Name is the host name, or the address, that the certificate is for.
	Name string

	// Pins are SHA-256 digests of SubjectPublicKeyInfos (RFC 7858 §4.2), 32
	// octets each. One has to be the certificate's, or that of an authority
	// which signed it.
	Pins [][]byte

	// Path, when not empty, is that of the URL which questions are posted to (RFC
	// 8484), with its first slash. The URL's host is Name, or without one the
	// server's address.
	Path string
}

// Response is what came back.
type Response struct {
	Msg  *dns.Msg
	RTT  time.Duration // of the successful attempt, from its sending
	Size int           // octets received for the request, dropped replies included
	TCP  bool          // Msg came over a connection: of TCP, TLS, HTTPS or QUIC

	// Cookie says that Msg has the cookie that was sent (RFC 7873 §5.3). Without
	// it and TCP, whoever guessed the port, the ID and the spelling of the name
	// can have sent Msg, and nothing about the server should be learned from
	// an error in it.
	Cookie bool

	// Resent is how many queries were sent for the request after the first:
	// over TCP when truncated or in doubt, and for cookies. It is set with an
	// error too.
	Resent int
}

// ErrTimeout reports that no acceptable answer came in time.
var ErrTimeout = errors.New("no answer in time")

// ErrMalformed reports that the server's answer could not be parsed.
var ErrMalformed = errors.New("malformed answer")
