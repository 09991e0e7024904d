package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/localsock"
	"shirube/internal/wire"
)

// call answers one kind of request: with a document, or a *refusal.
type call func(r *http.Request) (any, error)

// refusal is an error with the HTTP status for it.
type refusal struct {
	status int
	text   string
}

func (e *refusal) Error() string { return e.text }

// refusef returns a refusal.
func refusef(status int, format string, args ...any) error {
	return &refusal{status, fmt.Sprintf(format, args...)}
}

// calls is the whole API but for traces: what there is at each path, by method.
func (s *Server) calls() map[string]map[string]call {
	b := &s.opt.Backend
	return map[string]map[string]call{
		"/v1/status":  {http.MethodGet: func(*http.Request) (any, error) { return b.Status(), nil }},
		"/v1/stats":   {http.MethodGet: func(*http.Request) (any, error) { return b.Stats(), nil }},
		"/v1/flights": {http.MethodGet: func(*http.Request) (any, error) { return b.Flights(), nil }},
		"/v1/lookup":  {http.MethodGet: s.lookup},
		"/v1/cache/flush": {
			http.MethodPost: s.flush,
		},
		"/v1/cache":       {http.MethodGet: func(*http.Request) (any, error) { return b.Cache(), nil }},
		"/v1/cache/entry": {http.MethodGet: s.entry},
		"/v1/cache/top":   {http.MethodGet: s.top},
		reloadPath: {
			http.MethodPost: s.reload,
		},
		upgradePath: {
			http.MethodPost: s.upgrade,
		},
		"/v1/drain": {
			http.MethodPost: func(*http.Request) (any, error) { return s.drain(true) },
		},
		"/v1/undrain": {
			http.MethodPost: func(*http.Request) (any, error) { return s.drain(false) },
		},
		"/v1/trust-anchors": {http.MethodGet: s.validating(func(*http.Request) (any, error) { return b.Anchors(), nil })},
		"/v1/negative-trust-anchors": {
			http.MethodGet:    s.validating(func(*http.Request) (any, error) { return b.Negatives(), nil }),
			http.MethodPost:   s.validating(s.addNegative),
			http.MethodDelete: s.validating(s.removeNegative),
		},
		"/v1/log": {
			http.MethodGet: func(*http.Request) (any, error) { return logLevel{b.LogLevel()}, nil },
			http.MethodPut: s.setLogLevel,
		},
	}
}

// handler returns what serves all requests.
func (s *Server) handler() http.Handler {
	calls := s.calls()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !localsock.Admitted(r.Context()) {
			w.Header().Set("Connection", "close")
			answer(w, nil, refusef(http.StatusForbidden, "only root, the server's own user and members of control.group may use this socket"))
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if r.URL.Path == reloadPath || r.URL.Path == upgradePath {
			// Other requests take no time. The only error is that it has no deadline.
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(max(reloadTime, upgradeTime)))
		}
		methods := calls[r.URL.Path]
		switch {
		case r.URL.Path == "/v1/trace" && r.Method == http.MethodGet:
			s.trace(w, r)
		case r.URL.Path == handOverPath && r.Method == http.MethodPost:
			s.handOver(w, r)
		case r.URL.Path == "/v1/trace":
			answer(w, nil, refusef(http.StatusMethodNotAllowed, "%s: found %s; expected GET", r.URL.Path, r.Method))
		case r.URL.Path == handOverPath:
			answer(w, nil, refusef(http.StatusMethodNotAllowed, "%s: found %s; expected POST", r.URL.Path, r.Method))
		case methods == nil:
			known := append(slices.Collect(maps.Keys(calls)), "/v1/trace", handOverPath)
			slices.Sort(known)
			answer(w, nil, refusef(http.StatusNotFound, "found %q; expected one of %s", r.URL.Path, strings.Join(known, ", ")))
		case methods[r.Method] == nil:
			known := slices.Sorted(maps.Keys(methods))
			answer(w, nil, refusef(http.StatusMethodNotAllowed, "%s: found %s; expected %s", r.URL.Path, r.Method, strings.Join(known, " or ")))
		default:
			doc, err := methods[r.Method](r)
			answer(w, doc, err)
		}
	})
}

// answer writes doc, or what err says.
func answer(w http.ResponseWriter, doc any, err error) {
	status := http.StatusOK
	if err != nil {
		status = http.StatusInternalServerError
		if refused, ok := errors.AsType[*refusal](err); ok {
			status = refused.status
		}
		doc = Problem{err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ") // for people with curl
	_ = e.Encode(doc)     // to a client that has gone
}

// validating is c, where there is something to validate by.
func (s *Server) validating(c call) call {
	return func(r *http.Request) (any, error) {
		if s.opt.Backend.Validates() {
			return c(r)
		}
		return nil, refusef(http.StatusConflict, "nothing is validated: dnssec.validation is false")
	}
}

// params reads the parameters of a request, of which no other than those allowed
// may be there, and each once.
func params(r *http.Request, allowed ...string) (url.Values, error) {
	v, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, refusef(http.StatusBadRequest, "the query string: %v", err)
	}
	for key, values := range v {
		if !slices.Contains(allowed, key) {
			return nil, refusef(http.StatusBadRequest, "found the parameter %q; expected %s", key, strings.Join(allowed, " or "))
		}
		if len(values) > 1 {
			return nil, refusef(http.StatusBadRequest, "found the parameter %s more than once", key)
		}
	}
	return v, nil
}

// body reads the JSON document of a request into doc.
func body(r *http.Request, doc any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	err := d.Decode(doc)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		err = errors.New("more than one document")
	}
	if long, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return refusef(http.StatusRequestEntityTooLarge, "found a body of more than %d octets", long.Limit)
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("nothing is there")
	}
	return refusef(http.StatusBadRequest, "the body is not the JSON object that is expected: %s", strings.TrimPrefix(err.Error(), "json: "))
}

// parseName reads a domain name that the API calls by a key.
func parseName(key, text string) (wire.Name, error) {
	if text == "" {
		return "", refusef(http.StatusBadRequest, "%s is missing; expected a domain name", key)
	}
	n, err := wire.ParseName(text)
	if err != nil {
		return "", refusef(http.StatusBadRequest, "%s: found %q, which is %v", key, text, err)
	}
	return n, nil
}

// ParseType reads a type of records: a mnemonic in any case, or TYPEn (RFC 3597
// §5).
func ParseType(text string) (wire.Type, error) {
	upper := strings.ToUpper(text)
	typ, ok := dns.StringToType[upper]
	if !ok {
		var rest string
		if n, _ := fmt.Sscanf(upper+" ", "TYPE%d %s", &typ, &rest); n != 1 || fmt.Sprintf("TYPE%d", typ) != upper {
			return 0, fmt.Errorf("%q is no RR type; expected one as MX or TYPE65280", text)
		}
	}
	if t := wire.Type(typ); t == 0 || t.Meta() {
		return 0, fmt.Errorf("%s cannot be resolved: it is no type of records", upper)
	}
	return wire.Type(typ), nil
}

// parseType is ParseType for the API; "" is other.
func parseType(text string, other wire.Type) (wire.Type, error) {
	if text == "" {
		return other, nil
	}
	typ, err := ParseType(text)
	if err != nil {
		return 0, refusef(http.StatusBadRequest, "type: %v", err)
	}
	return typ, nil
}

// nameParam reads the name of a request that has no other parameter.
func nameParam(r *http.Request) (wire.Name, error) {
	v, err := params(r, "name")
	if err != nil {
		return "", err
	}
	return parseName("name", v.Get("name"))
}

func (s *Server) lookup(r *http.Request) (any, error) {
	n, err := nameParam(r)
	if err != nil {
		return nil, err
	}
	return s.opt.Backend.Lookup(n), nil
}

// FlushRequest is the body of a request to forget.
type FlushRequest struct {
	Name    string `json:"name,omitempty"`
	Subtree bool   `json:"subtree,omitempty"` // what is below name too
	Type    string `json:"type,omitempty"`    // default: everything
	All     bool   `json:"all,omitempty"`     // everything of every name; excludes name, subtree and type
	Fleet   bool   `json:"fleet,omitempty"`   // on all servers of the fleet
}

func (s *Server) flush(r *http.Request) (any, error) {
	var q FlushRequest
	if err := body(r, &q); err != nil {
		return nil, err
	}
	if q.All {
		if q != (FlushRequest{All: true, Fleet: q.Fleet}) {
			return nil, refusef(http.StatusBadRequest, "found all with something else; expected all alone, or a name")
		}
		q = FlushRequest{Name: ".", Subtree: true, Fleet: q.Fleet}
	}
	n, err := parseName("name", q.Name)
	if err != nil {
		return nil, err
	}
	typ, err := parseType(q.Type, 0)
	if err != nil {
		return nil, err
	}
	f, err := s.opt.Backend.Flush(r.Context(), Flush{Name: n, Below: q.Subtree, Type: typ, Fleet: q.Fleet})
	if err != nil {
		return nil, refusef(http.StatusConflict, "%v", err)
	}
	s.opt.Log.Info("forgotten by order", "name", n.String(), "subtree", q.Subtree, "type", q.Type, "fleet", q.Fleet, "flushed", f)
	return f, nil
}

// NegativeRequest is the body of a request to add a negative trust anchor.
type NegativeRequest struct {
	Name       string `json:"name"`
	ForSeconds int64  `json:"for_seconds,omitempty"` // default: an hour
	Reason     string `json:"reason,omitempty"`
}

// maxReason is how long a reason may be, in octets.
const maxReason = 1000

func (s *Server) addNegative(r *http.Request) (any, error) {
	var q NegativeRequest
	if err := body(r, &q); err != nil {
		return nil, err
	}
	n, err := parseName("name", q.Name)
	switch {
	case err != nil:
		return nil, err
	case q.ForSeconds < 0 || q.ForSeconds > int64(maxSeconds):
		return nil, refusef(http.StatusBadRequest, "for_seconds: found %d; expected 1 to %d, or none for an hour", q.ForSeconds, maxSeconds)
	case len(q.Reason) > maxReason:
		return nil, refusef(http.StatusBadRequest, "reason: found %d octets; expected at most %d", len(q.Reason), maxReason)
	}
	added, err := s.opt.Backend.AddNegative(n, time.Duration(q.ForSeconds)*time.Second, q.Reason)
	if err != nil {
		return nil, refusef(http.StatusBadRequest, "%v", err)
	}
	return added, nil
}

// maxSeconds is a year: no duration of the API is longer, or overflows.
const maxSeconds = 365 * 24 * 3600

func (s *Server) removeNegative(r *http.Request) (any, error) {
	n, err := nameParam(r)
	if err != nil {
		return nil, err
	}
	if !s.opt.Backend.RemoveNegative(n) {
		return nil, refusef(http.StatusNotFound, "%v has no negative trust anchor", n)
	}
	return s.opt.Backend.Negatives(), nil
}

// reloadPath is where to ask for a reload.
const reloadPath = "/v1/reload"

func (s *Server) reload(r *http.Request) (any, error) {
	// It is not called off when who asked hangs up: it takes effect or it does not.
	doc, err := s.opt.Backend.Reload(context.WithoutCancel(r.Context()))
	if err != nil {
		return nil, refusef(http.StatusUnprocessableEntity, "%v", err)
	}
	return doc, nil
}

// drain begins or ends to drain, and answers as for /v1/status.
func (s *Server) drain(on bool) (any, error) {
	if err := s.opt.Backend.Drain(on); err != nil {
		return nil, refusef(http.StatusConflict, "%v", err)
	}
	return s.opt.Backend.Status(), nil
}

// logLevel is the document of /v1/log.
type logLevel struct {
	Level string `json:"level"`
}

func (s *Server) setLogLevel(r *http.Request) (any, error) {
	var q logLevel
	if err := body(r, &q); err != nil {
		return nil, err
	}
	before := s.opt.Backend.LogLevel()
	if err := s.opt.Backend.SetLogLevel(q.Level); err != nil {
		return nil, refusef(http.StatusBadRequest, "level: %v", err)
	}
	s.opt.Log.Warn("log level changed by order", "from", before, "to", q.Level) // at any level but one
	return logLevel{s.opt.Backend.LogLevel()}, nil
}
