// Package transport moves DNS messages between clients and a [Handler]. It
// knows bytes: what a message means is the Handler's business.
package transport

import (
	"context"
	"net/netip"

	"shirube/internal/wire"
)

// Outcome says what became of a query on the fast path.
type Outcome uint8

// The outcomes.
const (
	Answered Outcome = iota // the response was appended
	Dropped                 // send nothing
	Deferred                // call Serve
)

// Handler answers queries. A transport parses each message, answers those that
// are no query by itself if Reject lets it, and calls TryServe for the rest,
// once, and Serve or Shed only for those that TryServe deferred. Its methods are
// called concurrently.
//
// A response that is longer than q.Limit, or shorter than a header, is not
// sent: the client gets SERVFAIL. So it does when a method panics.
type Handler interface {
	// TryServe answers q from memory, appending the response to buf, where
	// others' responses may be already. It runs on the goroutine that reads
	// the socket: it must not block, allocate or log, and keeps neither q nor
	// buf.
	TryServe(buf []byte, q *wire.Query) ([]byte, Outcome)

	// Serve answers q, appending the response to buf, which need not be empty.
	// It may block until ctx is done, and returns soon after. It keeps neither
	// q nor buf. A nil result means: send nothing.
	Serve(ctx context.Context, buf []byte, q *wire.Query) []byte

	// Shed answers q, for which there is no room to be served, with what needs
	// none, and says why if that is a failure. It runs on the goroutine that
	// reads the socket: it must not block, and keeps neither q nor buf.
	Shed(buf []byte, q *wire.Query, why string) []byte

	// Reject is asked before the transport answers a message from client that is
	// no query with rcode. It returns the code to answer with instead, or false
	// to send nothing: who may not ask gets no response to anything. It runs by
	// the rules of TryServe.
	Reject(client netip.AddrPort, rcode wire.Rcode) (wire.Rcode, bool)
}

// Expecter is a [Handler] that likes to know what comes next.
type Expecter interface {
	// Expect is told of queries that TryServe will be called with one after the
	// other, so that memory is fetched for all of them at a time. Nothing may follow
	// from it: they need not come. It runs by the rules of TryServe.
	Expect(qs []*wire.Query)
}
