package frontend

import (
	"shirube/internal/ede"
	"shirube/internal/wire"
	"shirube/policy"
)

// MaxNSID bounds what this server says of itself, in octets, so that it fits
// beside an answer (RFC 5001 §2.3 has no bound).
const MaxNSID = 128

// What is wrong with queries that are turned away for their cookie.
var (
	errCookieLength = ede.Error{Code: ede.Other, Text: "COOKIE option of a length that no cookie has"}
	errNoQuestion   = ede.Error{Code: ede.Other, Text: "no question"}
	errNoCookie     = ede.Error{Code: ede.Prohibited} // without text: the client may be somebody's victim
)

// unproven judges q's cookie (RFC 7873 §5.2) and answers q, if that is all there
// is to it: it is malformed, or the only thing that was asked for, or action
// wants a better one. It allocates nothing.
func (f *Frontend) unproven(buf []byte, q *wire.Query, action policy.Action) ([]byte, bool) {
	if q.Cookie == wire.CookieNone && action != policy.AllowCookie {
		return buf, false
	}
	c := f.counts.of(q)
	rcode := f.judge(q)
	switch {
	case rcode == wire.FormErr:
		c.rejected.Add(1)
		why := &errCookieLength
		if q.Cookie == wire.CookieNone {
			why = &errNoQuestion
		}
		return f.reply(buf, q, rcode, why), true
	case q.NoQuestion(): // RFC 7873 §5.4
		c.local.Add(1)
		return f.replyCookie(buf, q, rcode), true
	case action != policy.AllowCookie || q.Cookie.Proven() || q.Proto != wire.UDP:
		return buf, false
	case q.Cookie == wire.CookieNone: // to TCP, as Unbound sends them there
		c.cookieless.Add(1)
		q.Policy = wire.PolicyCookie
		start := len(buf)
		buf = wire.Truncate(wire.AppendReply(buf, q, wire.Refused), start, q)
		return f.finish(buf, start, q, &errNoCookie), true
	}
	c.cookieless.Add(1)
	q.Policy = wire.PolicyCookie
	return f.replyCookie(buf, q, wire.BadCookie), true // RFC 7873 §5.2.3, §5.2.4
}

// judge makes up f's mind about q's cookie, and returns the rcode of a response
// that is about nothing else. Without cookies here, and on encrypted transports,
// that of a client is as none.
func (f *Frontend) judge(q *wire.Query) wire.Rcode {
	switch {
	case f.opt.Cookies == nil, q.Proto.Encrypted(): // who has shaken hands is where he says, and nobody else answers him
		q.Cookie = wire.CookieNone
		if q.NoQuestion() {
			return wire.FormErr // RFC 7873 §5.4
		}
		return wire.NoError
	case q.Cookie == wire.CookieNone:
		return wire.NoError
	case q.Cookie == wire.CookieMalformed:
		return wire.FormErr // RFC 7873 §5.2.2
	}
	q.Cookie = f.opt.Cookies.Judge(q.RawCookie(), q.Client.Addr(), f.opt.Clock.At(q.Received))
	switch {
	case q.Cookie.Proven():
		f.counts.of(q).cookies.Add(1)
	case q.Cookie == wire.CookieUnproven:
		f.counts.of(q).badCookies.Add(1)
		return wire.BadCookie
	}
	return wire.NoError
}

// cookie returns the cookie for the client of q, which has one: its own again
// while that is good for a while, else a new one, in dst (RFC 9018 §4.3).
func (f *Frontend) cookie(dst []byte, q *wire.Query) []byte {
	if q.Cookie == wire.CookieValid {
		return q.RawCookie()
	}
	return f.opt.Cookies.Append(dst, q.RawCookie(), q.Client.Addr(), f.opt.Clock.At(q.Received))
}

// replyCookie appends a response to q that is about its cookie alone. Its rcode,
// which may have more than four bits, says all.
func (f *Frontend) replyCookie(buf []byte, q *wire.Query, rcode wire.Rcode) []byte {
	start := len(buf)
	return f.finishWith(wire.AppendReply(buf, q, rcode), start, q, rcode, nil)
}
