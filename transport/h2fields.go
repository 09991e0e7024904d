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
	hosted    bool     // Host was there

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
	case "host":
		r.hosted = true
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

// h2TableNone says that the table of fields that are remembered has no octets
// (RFC 7541 §6.3).
const h2TableNone = "\x20"

// fieldCodes are the fields of a response as they are sent, literally and not to be
// remembered: no table is kept for what would save some octets. But for ok, message
// and text, a value follows; the octets before it are the name's place in the static
// table, if it has one.
type fieldCodes struct {
	ok, status          string // :status
	message, text       string // content-type
	length, cache, date string
	allow, altSvc       string
}

// hpackCodes is for HTTP/2 (RFC 7541 §6.2.2, appendix A).
var hpackCodes = fieldCodes{
	ok: "\x88", status: "\x08",
	message: "\x0f\x10\x17" + mediaType, text: "\x0f\x10\x19text/plain; charset=utf-8",
	length: "\x0f\x0d", cache: "\x0f\x09", date: "\x0f\x12",
	allow: "\x0f\x07", altSvc: "\x00\x07alt-svc",
}

// qpackCodes is for HTTP/3 (RFC 9204 §4.5, appendix A).
var qpackCodes = fieldCodes{
	ok: "\xd9", status: "\x5f\x09",
	message: "\xec", text: "\xf6",
	length: "\x54", cache: "\x5f\x15", date: "\x56",
	allow: "\x25allow", altSvc: "\x5f\x44",
}

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
func (h *web) appendFields(b, rsp []byte, codes *fieldCodes, secure bool) []byte {
	b = append(append(append(b, codes.ok...), codes.message...), codes.length...)
	b = appendNumber(b, "", uint64(len(rsp)))
	b = append(b, codes.cache...)
	b = appendNumber(b, "max-age=", uint64(wire.Freshness(rsp))) // RFC 8484 §5.1
	if at := h.rules.Load().altSvc; secure && at != "" {         // a proxy's clients do not come here
		b = appendString(append(b, codes.altSvc...), at)
	}
	return appendString(append(b, codes.date...), h.date())
}

// appendFailure appends the fields of a response with that status, whose text has
// size octets.
func (h *web) appendFailure(b []byte, status, size int, codes *fieldCodes) []byte {
	b = appendNumber(append(b, codes.status...), "", uint64(status))
	b = append(append(b, codes.text...), codes.length...)
	b = appendNumber(b, "", uint64(size))
	if status == http.StatusMethodNotAllowed {
		b = appendString(append(b, codes.allow...), allowed)
	}
	return appendString(append(b, codes.date...), h.date())
}
