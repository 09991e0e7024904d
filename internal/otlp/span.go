package otlp

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// TraceID names a trace (W3C Trace Context §3.2.2.3: 16 octets, not all zero).
type TraceID [16]byte

// newTraceID returns a random one.
func newTraceID() (id TraceID) {
	binary.BigEndian.PutUint64(id[:8], rand.Uint64())
	binary.BigEndian.PutUint64(id[8:], rand.Uint64()|1) // not all zero
	return id
}

// String returns id as collectors show it.
func (id TraceID) String() string { return hex.EncodeToString(id[:]) }

// newSpanID returns a random name of a span: 8 octets, not all zero, in hexadecimal.
func newSpanID() string {
	id := binary.BigEndian.AppendUint64(nil, rand.Uint64()|1)
	return hex.EncodeToString(id)
}

// Kind is what a span is of (trace.proto, enum SpanKind).
type Kind int

// The kinds that there are here.
const (
	Internal Kind = 1 // something that is done
	Server   Kind = 2 // the answer to a question from outside
	Client   Kind = 3 // a question to somebody else
)

// Trace is a tree of two levels: one span, and those that it consists of.
type Trace struct {
	ID    TraceID
	Root  Span
	Parts []Span
}

// Span is something that took time.
type Span struct {
	Name       string // of few: what is different each time is an attribute
	Kind       Kind
	Begun, End time.Time
	Attrs      []Attr
	Events     []Event
	Omitted    int    // events
	Failed     bool   // it has not come to what it was for
	Why        string // if Failed
}

// Event is something that happened meanwhile.
type Event struct {
	At    time.Time
	Name  string
	Attrs []Attr
}

// Attr is something that is said of a span: one of the values.
type Attr struct {
	key   string
	value anyValue
}

// maxText is how many octets a text may have; names have up to 1,008 as they are
// written, and what servers say is cut.
const maxText = 1024

// Text returns an attribute.
func Text(key, value string) Attr {
	if len(value) > maxText {
		value = value[:maxText]
	}
	if !utf8.ValidString(value) { // Protocol Buffers, "Scalar Value Types"
		value = strings.ToValidUTF8(value, "\uFFFD")
	}
	return Attr{key, anyValue{String: &value}}
}

// Int returns an attribute.
func Int(key string, value int64) Attr {
	text := strconv.FormatInt(value, 10)
	return Attr{key, anyValue{Int: &text}}
}

// Bool returns an attribute.
func Bool(key string, value bool) Attr { return Attr{key, anyValue{Bool: &value}} }

// What follows is the messages of opentelemetry-proto in the JSON that OTLP has for
// them (OTLP specification, "JSON Protobuf Encoding"): keys in lowerCamelCase, IDs
// in hexadecimal, enums as numbers, 64-bit integers as text.

// exportRequest is ExportTraceServiceRequest (trace_service.proto).
type exportRequest struct {
	ResourceSpans []resourceSpans `json:"resourceSpans"`
}

type resourceSpans struct {
	Resource   resource     `json:"resource"`
	ScopeSpans []scopeSpans `json:"scopeSpans"`
}

type resource struct {
	Attributes []keyValue `json:"attributes"`
}

type scopeSpans struct {
	Scope scope  `json:"scope"`
	Spans []span `json:"spans"`
}

type scope struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"`
}

// span is Span (trace.proto).
type span struct {
	TraceID    string     `json:"traceId"`
	SpanID     string     `json:"spanId"`
	Parent     string     `json:"parentSpanId,omitempty"`
	Flags      uint32     `json:"flags"`
	Name       string     `json:"name"`
	Kind       Kind       `json:"kind"`
	Begun      string     `json:"startTimeUnixNano"`
	End        string     `json:"endTimeUnixNano"`
	Attributes []keyValue `json:"attributes,omitempty"`
	Events     []event    `json:"events,omitempty"`
	Omitted    int        `json:"droppedEventsCount,omitempty"`
	Status     *status    `json:"status,omitempty"`
}

type event struct {
	At         string     `json:"timeUnixNano"`
	Name       string     `json:"name"`
	Attributes []keyValue `json:"attributes,omitempty"`
}

type status struct {
	Message string `json:"message,omitempty"`
	Code    int    `json:"code"`
}

// statusError is STATUS_CODE_ERROR. That all is well is not said, as that is the
// operator's to say (OpenTelemetry specification, "Set Status").
const statusError = 2

// flags is that the span is sampled (W3C Trace Context §3.2.2.5.1), and that its
// parent, if any, is of this process (trace.proto, enum SpanFlags).
const flags = 0x101

type keyValue struct {
	Key   string   `json:"key"`
	Value anyValue `json:"value"`
}

// anyValue is AnyValue (common.proto): one of these.
type anyValue struct {
	String *string `json:"stringValue,omitempty"`
	Int    *string `json:"intValue,omitempty"`
	Bool   *bool   `json:"boolValue,omitempty"`
}

func keyValues(attrs []Attr) []keyValue {
	list := make([]keyValue, 0, len(attrs))
	for _, a := range attrs {
		list = append(list, keyValue{a.key, a.value})
	}
	return list
}

// nanos returns t as fixed64.
func nanos(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 10) }

// encode returns s as it is sent.
func (s *Span) encode(trace, parent string) span {
	out := span{
		TraceID: trace, SpanID: newSpanID(), Parent: parent, Flags: flags, Name: s.Name, Kind: s.Kind,
		Begun: nanos(s.Begun), End: nanos(s.End), Attributes: keyValues(s.Attrs), Omitted: s.Omitted,
	}
	for _, e := range s.Events {
		out.Events = append(out.Events, event{nanos(e.At), e.Name, keyValues(e.Attrs)})
	}
	if s.Failed {
		out.Status = &status{Message: *Text("", s.Why).value.String, Code: statusError}
	}
	return out
}

// encode returns the body of a request with batch.
func encode(about []Attr, version string, batch []Trace) ([]byte, error) {
	var spans []span
	for i := range batch {
		t := &batch[i]
		id := t.ID.String()
		root := t.Root.encode(id, "")
		spans = append(spans, root)
		for j := range t.Parts {
			spans = append(spans, t.Parts[j].encode(id, root.SpanID))
		}
	}
	return json.Marshal(exportRequest{[]resourceSpans{{
		Resource:   resource{keyValues(about)},
		ScopeSpans: []scopeSpans{{scope{Name: scopeName, Version: version}, spans}},
	}}})
}

// scopeName is what the spans come from, within the server.
const scopeName = "shirube/resolution"
