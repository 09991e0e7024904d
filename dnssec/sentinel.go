package dnssec

import (
	"slices"
	"strings"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// The labels of the root key sentinel (RFC 8509 §2), which five digits follow.
const (
	sentinelIs  = "root-key-sentinel-is-ta-"
	sentinelNot = "root-key-sentinel-not-ta-"
)

// SentinelFails reports whether the answer to q has to become SERVFAIL, so that
// the client can tell which keys of the root are trusted here (RFC 8509 §3).
// trust is that of the answer, cd whether the client has set CD, and tags are
// those of the anchors in use for the root.
func SentinelFails(q wire.Question, trust rrset.Trust, cd bool, tags []uint16) bool {
	if q.Type != wire.TypeA && q.Type != wire.TypeAAAA || trust != rrset.Secure || cd { // RFC 8509 §3.1
		return false
	}
	tag, is, ok := sentinel(q.Name)
	return ok && slices.Contains(tags, tag) != is // RFC 8509 §3.2
}

// sentinel returns the key tag in the first label of n, and whether the label
// says that it is a trust anchor, or that it is none.
func sentinel(n wire.Name) (tag uint16, is, ok bool) {
	if len(n) <= 1 {
		return 0, false, false
	}
	label := string(n[1 : 1+int(n[0])])
	digits, is := strings.CutPrefix(label, sentinelIs)
	if !is {
		if digits, ok = strings.CutPrefix(label, sentinelNot); !ok {
			return 0, false, false
		}
	}
	if len(digits) != 5 { // RFC 8509 §2: padded with zeros
		return 0, false, false
	}
	v := 0
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' {
			return 0, false, false
		}
		v = v*10 + int(c-'0')
	}
	return uint16(v), is, v <= 0xffff
}
