package admin

import (
	"encoding/json"
	"net/http"
	"net/http/pprof"
	"strconv"
	"time"

	"shirube/internal/health"
)

// The paths that everybody who reaches a listener may ask for.
const (
	livePath  = "/livez"
	readyPath = "/readyz"
)

// pages returns what there is to see, by path, but for readiness, of which not
// everybody sees everything.
func (s *Server) pages() map[string]http.HandlerFunc {
	m := map[string]http.HandlerFunc{
		"/status.json": func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, s.opt.Backend.Status()) },
		"/metrics":     s.opt.Backend.Metrics.ServeHTTP,
		livePath:       func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, Liveness{Alive: true}) },
	}
	if !s.opt.NoPage {
		m["/"] = serveStatusPage
	}
	if s.opt.Profiles {
		m["/debug/pprof/"] = s.profile(pprof.Index)
		m["/debug/pprof/cmdline"] = s.profile(pprof.Cmdline)
		m["/debug/pprof/profile"] = s.profile(pprof.Profile)
		m["/debug/pprof/symbol"] = s.profile(pprof.Symbol)
		m["/debug/pprof/trace"] = s.profile(pprof.Trace)
		for _, name := range []string{"allocs", "block", "goroutine", "heap", "mutex", "threadcreate"} {
			m["/debug/pprof/"+name] = s.profile(pprof.Handler(name).ServeHTTP)
		}
	}
	return m
}

// handler returns what serves all requests that come by d.
func (s *Server) handler(d *door) http.Handler {
	pages := s.pages()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")
		page, may := pages[r.URL.Path], d.admit(r)
		probe := r.URL.Path == livePath || r.URL.Path == readyPath
		switch {
		case may == nothing:
			refuse(w, http.StatusForbidden, "only root, the server's own user and members of admin.group may use this socket")
		case may == probes && !probe && d.certified && !certified(r):
			refuse(w, http.StatusForbidden, "a client's certificate is needed")
		case may == probes && !probe:
			h.Set("WWW-Authenticate", `Basic realm="shirube: any user, the token as the password", charset="UTF-8"`)
			refuse(w, http.StatusUnauthorized, "the token is needed")
		case page == nil && !probe:
			refuse(w, http.StatusNotFound, "no such page")
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			h.Set("Allow", "GET, HEAD")
			refuse(w, http.StatusMethodNotAllowed, "nothing can be changed here")
		case r.URL.Path == readyPath:
			s.ready(w, may)
		default:
			page(w, r)
		}
	})
}

// refuse says why a request is turned away, and ends the connection.
func refuse(w http.ResponseWriter, status int, why string) {
	w.Header().Set("Connection", "close")
	http.Error(w, why, status)
}

// writeJSON writes doc.
func writeJSON(w http.ResponseWriter, status int, doc any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(doc) // to a client that has gone
}

// Liveness is the document of /livez.
type Liveness struct {
	Alive bool `json:"alive"`
}

// Readiness is the document of /readyz.
type Readiness struct {
	Ready  bool    `json:"ready"`
	Causes []Cause `json:"causes,omitempty"` // of those who may see everything
}

// Cause is why the server is not ready, or will not be if it lasts.
type Cause struct {
	Code         string    `json:"code"`
	Text         string    `json:"text"`
	Since        time.Time `json:"since"`
	GraceSeconds float64   `json:"grace_seconds"` // it counts when it has lasted for so long
	Counts       bool      `json:"counts"`
}

// Causes returns causes as documents have them, as they are at now.
func Causes(causes []health.Cause, now time.Time) []Cause {
	list := []Cause{}
	for _, c := range causes {
		list = append(list, Cause{c.Code, c.Text, c.Since, c.Grace.Seconds(), c.Counts(now)})
	}
	return list
}

// ready says whether the server is ready, by 200 or 503, and why not to who may
// see everything.
func (s *Server) ready(w http.ResponseWriter, may access) {
	now := time.Now()
	doc := Readiness{Ready: s.opt.Backend.Health.Ready(now)}
	if may == all {
		doc.Causes = Causes(s.opt.Backend.Health.Causes(), now)
	}
	status := http.StatusOK
	if !doc.Ready {
		status = http.StatusServiceUnavailable
	}
	writeJSON(w, status, doc)
}

// profile is take for those whose turn it is.
func (s *Server) profile(take http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if text := r.FormValue("seconds"); text != "" {
			seconds, err := strconv.ParseFloat(text, 64)
			if err != nil || seconds < 0 || seconds > profileTime.Seconds() {
				refuse(w, http.StatusBadRequest, "seconds: expected 0 to "+strconv.Itoa(int(profileTime/time.Second)))
				return
			}
		}
		select {
		case s.profiles <- struct{}{}:
			defer func() { <-s.profiles }()
		default:
			refuse(w, http.StatusTooManyRequests, "another profile is being taken")
			return
		}
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(profileTime + writeTime)) // a server's connection has one
		take(w, r)
	}
}
