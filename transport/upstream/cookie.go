package upstream

import (
	"bytes"
	"net/netip"
	"time"

	"shirube/internal/wire"
)

// Cookies of the client's side (RFC 7873, RFC 9018 §3).
//
// A client cookie is 64 bits from the system's source of randomness, drawn anew
// for every query to a server that has not answered with a cookie yet, and then
// kept with the server cookie that came back for it. So each server sees
// another one; a server without cookies never sees one twice (RFC 9018 §3: "MUST
// NOT send the same Client Cookie to that same server again"); and there is no
// secret to keep, to rotate, or to compute them from. The pair is used for a day
// at most, and only from the address of ours that it was learned on: nobody can
// follow this machine from one network to another by it.

// The lengths of cookies, in octets (RFC 7873 §4.1, §4.2).
const (
	clientCookieLen = 8
	minServerCookie = 8
	maxServerCookie = 32
	maxCookieLen    = clientCookieLen + maxServerCookie
)

// cookieLife is for how long a client cookie is used. RFC 9018 §3 allows a year.
const cookieLife = 24 * time.Hour

// badCookie is the rcode of a server that wants to see its cookie first (RFC
// 7873 §8).
const badCookie wire.Rcode = 23

// cookie is what a server is sent to be known by, and to know us by.
type cookie struct {
	client [clientCookieLen]byte
	server [maxServerCookie]byte
	length uint8      // octets of server; 0 for no cookie at all
	local  netip.Addr // of ours, that it was learned on
	born   int64      // when the client cookie was drawn, in Unix nanoseconds
}

// fits reports whether c may be sent from local.
func (c *cookie) fits(local netip.Addr, now int64) bool {
	return c.length > 0 && c.local == local && now-c.born < int64(cookieLife)
}

// appendTo appends the value of the option that carries c.
func (c *cookie) appendTo(b []byte) []byte {
	b = append(b, c.client[:]...)
	return append(b, c.server[:c.length]...)
}

// proof is what a reply says by its cookie.
type proof uint8

const (
	noProof   proof = iota // nothing: it has none
	proven                 // it answers this very query
	disproven              // it does not
)

// prove says what the COOKIE option of a reply to q, which has one, says, and
// returns the server cookie in it (RFC 7873 §5.3).
func (q *query) prove(e edns) (p proof, server []byte) {
	data, ok := e.option(optCookie)
	if !ok {
		return noProof, nil
	}
	if len(data) < clientCookieLen || !bytes.Equal(data[:clientCookieLen], q.cookie) {
		return disproven, nil
	}
	server = data[clientCookieLen:]
	if n := len(server); n != 0 && (n < minServerCookie || n > maxServerCookie) {
		return disproven, nil
	}
	return proven, server
}
