package transport

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2/hpack"

	"shirube/internal/wire"
)

// h2Request is what the fields of one request say (RFC 9113 §8.3.1).
type h2Request struct {
	method, scheme, path, authority string

	media     string   // content-type
	length    int64    // content-length; -1: not said
	forwarded []string // X-Forwarded-For, the lines in their order

	regular   bool // a field that is no pseudo-header was there
	malformed bool // RFC 9113 §8.1.1
	size      int  // octets, as RFC 9113 §6.5.2 counts
}

// reset forgets all of the last request.
func (r *h2Request) reset() { *r = h2Request{length: -1, forwarded: r.forwarded[:0]} }

// field notes a field.
func (r *h2Request) field(f hpack.HeaderField) {
	if r.size += int(f.Size()); r.size > maxHeader {
		return // it is answered with 431
	}
	if !httpguts.ValidHeaderFieldValue(f.Value) || !trimmed(f.Value) {
		r.malformed = true // RFC 9113 §8.2.1
		return
	}
	if strings.HasPrefix(f.Name, ":") {
		r.pseudo(f.Name, f.Value)
		return
	}
	r.regular = true
	switch f.Name {
	case "content-type":
		r.media = f.Value
	case "content-length":
		n, err := strconv.ParseInt(f.Value, 10, 64)
		r.malformed = r.malformed || err != nil || n < 0 || r.length >= 0 && r.length != n
		r.length = n
	case "x-forwarded-for":
		r.forwarded = append(r.forwarded, f.Value)
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade": // RFC 9113 §8.2.2
		r.malformed = true
	case "te":
		r.malformed = r.malformed || f.Value != "trailers"
	default:
		r.malformed = r.malformed || !lowerToken(f.Name)
	}
}

// pseudo notes a pseudo-header, which may be there once, and before all other
// fields.
func (r *h2Request) pseudo(name, value string) {
	var to *string
	switch name {
	case ":method":
		to = &r.method
	case ":scheme":
		to = &r.scheme
	case ":path":
		to = &r.path
	case ":authority":
		to = &r.authority
	}
	if to == nil || *to != "" || value == "" || r.regular {
		r.malformed = true
		return
	}
	*to = value
}

// complete reports whether the fields are those of a request.
func (r *h2Request) complete() bool {
	if r.method == http.MethodConnect { // RFC 9113 §8.5: its own way
		return !r.malformed
	}
	return !r.malformed && r.method != "" && r.scheme != "" && r.path != ""
}

// target returns the parts of the path that it was asked for. One that cannot be
// read is nowhere.
func (r *h2Request) target() (path, query string) {
	path, query, _ = strings.Cut(r.path, "?")
	if strings.IndexByte(path, '%') >= 0 { // nothing in it has to be escaped, but may be
		path, _ = url.PathUnescape(path)
	}
	return path, query
}

// trimmed reports whether s has no space around it.
func trimmed(s string) bool {
	return s == "" || s[0] != ' ' && s[0] != '\t' && s[len(s)-1] != ' ' && s[len(s)-1] != '\t'
}

// lowerToken reports whether s can be the name of a field (RFC 9113 §8.2).
func lowerToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; 'A' <= c && c <= 'Z' || !httpguts.IsTokenRune(rune(c)) {
			return false
		}
	}
	return s != ""
}

// The fields of a response as HPACK has them, literally and not to be remembered
// (RFC 7541 §6.2.2): no table is kept for what would save some octets. The octets
// before each value are the name's place in the static table (RFC 7541 appendix A).
const (
	h2TableNone     = "\x20" // RFC 7541 §6.3: a table of no octets
	h2Status200     = "\x88"
	h2StatusIs      = "\x08\x03"
	h2TypeIs        = "\x0f\x10"
	h2LengthIs      = "\x0f\x0d"
	h2CacheIs       = "\x0f\x09"
	h2DateIs        = "\x0f\x12"
	h2AllowIs       = "\x0f\x07"
	h2AltSvcIs      = "\x00\x07alt-svc"
	h2TypeOfMessage = h2TypeIs + "\x17" + mediaType
	h2TypeOfText    = h2TypeIs + "\x19text/plain; charset=utf-8"
)

// appendString appends a string that is shorter than 127 octets (RFC 7541 §5.2).
func appendString(b []byte, s string) []byte {
	return append(append(b, byte(len(s))), s...)
}

// appendNumber appends n as a string.
func appendNumber(b []byte, prefix string, n uint64) []byte {
	at := len(b)
	b = append(b, 0)
	b = append(b, prefix...)
	b = strconv.AppendUint(b, n, 10)
	b[at] = byte(len(b) - at - 1)
	return b
}

// appendFields appends the fields of the response rsp, which is a DNS message, over
// TLS or not.
func (h *web) appendFields(b, rsp []byte, secure bool) []byte {
	b = append(b, h2Status200+h2TypeOfMessage+h2LengthIs...)
	b = appendNumber(b, "", uint64(len(rsp)))
	b = append(b, h2CacheIs...)
	b = appendNumber(b, "max-age=", uint64(wire.Freshness(rsp))) // RFC 8484 §5.1
	if at := h.rules.Load().altSvc; secure && at != "" {         // a proxy's clients do not come here
		b = appendString(append(b, h2AltSvcIs...), at)
	}
	return appendString(append(b, h2DateIs...), h.date())
}

// appendFailure appends the fields of a response with that status, whose text has
// size octets.
func (h *web) appendFailure(b []byte, status, size int) []byte {
	b = strconv.AppendInt(append(b, h2StatusIs...), int64(status), 10)
	b = append(b, h2TypeOfText+h2LengthIs...)
	b = appendNumber(b, "", uint64(size))
	if status == http.StatusMethodNotAllowed {
		b = appendString(append(b, h2AllowIs...), allowed)
	}
	return appendString(append(b, h2DateIs...), h.date())
}
