package wire

// Lengths of cookies in octets (RFC 7873 §4). A server cookie of another length
// than ours is of another server.
const (
	ClientCookieLen  = 8
	minServerCookie  = 8
	maxServerCookie  = 32
	ServerCookieLen  = 16                                // RFC 9018 §4
	CookieLen        = ClientCookieLen + ServerCookieLen // of both, as this server sends them
	cookieOptionLen  = 4 + CookieLen
	maxCookieOctets  = ClientCookieLen + maxServerCookie
	leastWholeCookie = ClientCookieLen + minServerCookie
)

// Cookie is what the COOKIE option of a query says about the client, as far as
// that is known (RFC 7873 §5.2). [Query.Parse] says what the option's length
// does; whoever has the secrets says the rest.
type Cookie uint8

// The kinds of cookies.
const (
	CookieNone      Cookie = iota // no option, or a server without cookies
	CookieMalformed               // of a length that no cookie has: answer with FORMERR (§5.2.2)
	CookieClient                  // the client's own only: it has none of this server (§5.2.3)
	CookieUnproven                // with a server cookie that is not ours, or that nobody has looked at (§5.2.4)
	CookieOld                     // the client is where it says it is, and is to be given a new server cookie (§5.2.5)
	CookieValid                   // the client is where it says it is (§5.2.5)
)

// Proven reports whether the client has shown that it receives what is sent to
// its address.
func (c Cookie) Proven() bool { return c >= CookieOld }

// Answered reports whether the response needs a COOKIE option.
func (c Cookie) Answered() bool { return c >= CookieClient }

// cookieOf returns what a COOKIE option of n octets is (RFC 7873 §5.2.2).
func cookieOf(n int) Cookie {
	switch {
	case n == ClientCookieLen:
		return CookieClient
	case n >= leastWholeCookie && n <= maxCookieOctets:
		return CookieUnproven
	}
	return CookieMalformed
}
