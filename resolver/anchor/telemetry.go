package anchor

import (
	"fmt"
	"strings"

	"shirube/internal/wire"
)

// TypeNULL is the type of the questions that tell which keys are trusted (RFC
// 8145 §5.1).
const TypeNULL wire.Type = 10

// maxSignalled is how many key tags a label has room for: `_ta` and five octets
// for each (RFC 8145 §5.1).
const maxSignalled = (wire.MaxLabelLen - len("_ta")) / len("-4a5c")

// KeyTagQuery returns the question that tells the servers of zone that the keys
// with these tags, the lowest first, are trusted: `_ta-4a5c-9728.` of type NULL
// (RFC 8145 §5.1). It is false without a tag, or when the name would be too
// long. Tags that find no room in the label are left out.
func KeyTagQuery(zone wire.Name, tags []uint16) (wire.Question, bool) {
	if len(tags) == 0 {
		return wire.Question{}, false
	}
	var b strings.Builder
	b.WriteString("_ta")
	for _, tag := range tags[:min(len(tags), maxSignalled)] {
		fmt.Fprintf(&b, "-%04x", tag)
	}
	if b.Len()+1+len(zone) > wire.MaxNameLen {
		return wire.Question{}, false
	}
	name := wire.Name(append([]byte{byte(b.Len())}, b.String()+string(zone)...))
	return wire.Question{Name: name, Type: TypeNULL}, true
}
