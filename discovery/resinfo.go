package discovery

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"shirube/internal/ede"
	"shirube/internal/wire"
)

// RESINFO is what this server says about what it does (RFC 9606).
type RESINFO struct {
	Enabled  bool
	QNameMin bool       // it minimises names (RFC 9156)
	Errors   []ede.Code // that it may send
	InfoURL  string     // a page for people, by https; "": none
}

// keyed is the longest of the strings of a RESINFO record: infourl=.
const infoURLKey = "infourl="

// CheckInfoURL returns what is wrong with text as the URL of a page about this
// server.
func CheckInfoURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || !printable(text): // RFC 9606 §5
		return fmt.Errorf("found %q; expected a URL of https", text)
	case len(infoURLKey)+len(text) > maxString:
		return fmt.Errorf("found a URL of %d octets; expected %d at most", len(text), maxString-len(infoURLKey))
	}
	return nil
}

// printable reports whether text is ASCII that can be seen.
func printable(text string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}

// record returns the one record there is, without its owner; nil: there is none.
func (i RESINFO) record() ([]byte, error) {
	if !i.Enabled {
		return nil, nil
	}
	var rdata strings.Builder // RFC 9606 §4: as TXT, one key in each string
	if i.QNameMin {
		rdata.WriteString(characterString("qnamemin"))
	}
	if len(i.Errors) > 0 {
		list := "exterr=" + errorRanges(i.Errors)
		if len(list) > maxString {
			return nil, fmt.Errorf("discovery: a list of errors of %d octets; at most %d are allowed", len(list), maxString)
		}
		rdata.WriteString(characterString(list))
	}
	if i.InfoURL != "" {
		if err := CheckInfoURL(i.InfoURL); err != nil {
			return nil, fmt.Errorf("discovery: the page about this server: %w", err)
		}
		rdata.WriteString(characterString(infoURLKey + i.InfoURL))
	}
	if rdata.Len() == 0 {
		return nil, nil
	}
	return record(wire.TypeRESINFO, wire.ClassIN, TTL, rdata.String()), nil
}

// errorRanges lists codes as RFC 9606 §5 has them: `1-3,5`.
func errorRanges(codes []ede.Code) string {
	codes = slices.Clone(codes)
	slices.Sort(codes)
	codes = slices.Compact(codes)
	var parts []string
	for i := 0; i < len(codes); {
		j := i
		for j+1 < len(codes) && codes[j+1] == codes[j]+1 {
			j++
		}
		part := strconv.Itoa(int(codes[i]))
		if j > i {
			part += "-" + strconv.Itoa(int(codes[j]))
		}
		parts = append(parts, part)
		i = j + 1
	}
	return strings.Join(parts, ",")
}
