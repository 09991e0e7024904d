// Package otlptest reads what a collector of traces is sent, and what is wrong with
// it, for tests.
package otlptest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
)

// Request is opentelemetry-proto's trace_service.proto, trace.proto, resource.proto and
// common.proto as a collector reads them in JSON: in other types than those that are
// written, and by the OTLP specification's "JSON Protobuf Encoding".
type Request struct {
	ResourceSpans []struct {
		Resource struct {
			Attributes []Attr `json:"attributes"`
		} `json:"resource"`
		ScopeSpans []struct {
			Scope struct {
				Name    string `json:"name"`
				Version string `json:"version"`
			} `json:"scope"`
			Spans []Span `json:"spans"`
		} `json:"scopeSpans"`
	} `json:"resourceSpans"`
}

// Span is a span.
type Span struct {
	TraceID       string `json:"traceId"`
	SpanID        string `json:"spanId"`
	ParentSpanID  string `json:"parentSpanId"`
	Flags         uint32 `json:"flags"`
	Name          string `json:"name"`
	Kind          int    `json:"kind"`
	Start         string `json:"startTimeUnixNano"`
	End           string `json:"endTimeUnixNano"`
	Attributes    []Attr `json:"attributes"`
	DroppedEvents uint32 `json:"droppedEventsCount"`
	Events        []struct {
		Time       string `json:"timeUnixNano"`
		Name       string `json:"name"`
		Attributes []Attr `json:"attributes"`
	} `json:"events"`
	Status struct {
		Message string `json:"message"`
		Code    int    `json:"code"`
	} `json:"status"`
}

// Attr is an attribute.
type Attr struct {
	Key   string                     `json:"key"`
	Value map[string]json.RawMessage `json:"value"`
}

var (
	traceIDForm = regexp.MustCompile(`^[0-9a-f]{32}$`)
	spanIDForm  = regexp.MustCompile(`^[0-9a-f]{16}$`)
	zeros       = regexp.MustCompile(`^0*$`)
)

// Read returns what a request has, and what is wrong with it: keys that the schema
// does not have, too.
func Read(body []byte) (r Request, faults []string) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return r, []string{err.Error()}
	}
	if _, err := dec.Token(); err != io.EOF {
		faults = append(faults, "something follows the document")
	}
	for _, rs := range r.ResourceSpans {
		faults = append(faults, attrFaults(rs.Resource.Attributes)...)
		for _, ss := range rs.ScopeSpans {
			for i := range ss.Spans {
				faults = append(faults, ss.Spans[i].faults()...)
			}
		}
	}
	return r, faults
}

// attrFaults returns what is wrong with attributes.
func attrFaults(list []Attr) (faults []string) {
	var keys []string
	for _, a := range list {
		keys = append(keys, a.Key)
		if len(a.Value) != 1 || a.Key == "" { // a oneof
			faults = append(faults, fmt.Sprintf("%q is %v", a.Key, a.Value))
		}
		for kind, text := range a.Value {
			if err := readable(kind, text); err != nil {
				faults = append(faults, fmt.Sprintf("%q is %s: %v", a.Key, text, err))
			}
		}
	}
	if slices.Sort(keys); len(slices.Compact(keys)) != len(list) {
		faults = append(faults, fmt.Sprintf("keys are there twice: %v", keys))
	}
	return faults
}

// readable says what is wrong with a value of a kind.
func readable(kind string, text json.RawMessage) error {
	var s string
	switch kind {
	case "stringValue":
		return json.Unmarshal(text, &s)
	case "intValue":
		if err := json.Unmarshal(text, &s); err != nil { // 64 bits are text
			return err
		}
		_, err := strconv.ParseInt(s, 10, 64)
		return err
	case "boolValue":
		return json.Unmarshal(text, new(bool))
	}
	return fmt.Errorf("unknown kind %s", kind)
}

// faults returns what is wrong with s.
func (s *Span) faults() (list []string) {
	list = attrFaults(s.Attributes)
	wants := func(ok bool, what string) {
		if !ok {
			list = append(list, fmt.Sprintf("%s: %+v", what, s))
		}
	}
	wants(traceIDForm.MatchString(s.TraceID) && !zeros.MatchString(s.TraceID), "the trace's ID")
	wants(spanIDForm.MatchString(s.SpanID) && !zeros.MatchString(s.SpanID), "the ID")
	wants(s.ParentSpanID == "" || spanIDForm.MatchString(s.ParentSpanID) && s.ParentSpanID != s.SpanID, "the parent")
	wants(s.Name != "", "the name")
	wants(s.Kind >= 1 && s.Kind <= 5, "the kind")
	wants(s.Status.Code == 0 || s.Status.Code == 2, "the status")
	start, err := strconv.ParseUint(s.Start, 10, 64)
	end, err2 := strconv.ParseUint(s.End, 10, 64)
	wants(err == nil && err2 == nil && start > 0 && start <= end, "the times")
	for _, e := range s.Events {
		_, err := strconv.ParseUint(e.Time, 10, 64)
		wants(err == nil && e.Name != "", "an event")
		list = append(list, attrFaults(e.Attributes)...)
	}
	return list
}

// Text returns the value of an attribute of s as it is in the document; "": there is
// none.
func (s *Span) Text(key string) string {
	for _, a := range s.Attributes {
		for _, text := range a.Value {
			if a.Key == key {
				return string(text)
			}
		}
	}
	return ""
}

// Spans returns the spans of a request that has to be right.
func Spans(t testing.TB, body []byte) []Span {
	t.Helper()
	r, faults := Read(body)
	if len(faults) > 0 || len(r.ResourceSpans) != 1 || len(r.ResourceSpans[0].ScopeSpans) != 1 {
		t.Errorf("%q in %s", faults, body)
		return nil
	}
	return r.ResourceSpans[0].ScopeSpans[0].Spans
}

// Collector keeps what it is sent.
type Collector struct {
	mu       sync.Mutex
	bodies   [][]byte
	requests []*http.Request
}

// ServeHTTP implements [http.Handler].
func (c *Collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body) // what is missing is noticed
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bodies, c.requests = append(c.bodies, body), append(c.requests, r)
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, "{}") // to who may have gone
}

// Requests returns the bodies of requests, and the requests.
func (c *Collector) Requests() ([][]byte, []*http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.bodies), slices.Clone(c.requests)
}

// Spans returns all spans, which have to be right.
func (c *Collector) Spans(t testing.TB) (list []Span) {
	t.Helper()
	bodies, _ := c.Requests()
	for _, body := range bodies {
		list = append(list, Spans(t, body)...)
	}
	return list
}
