package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"shirube/internal/wire"
)

// request sends a request as it is, and returns the answer.
func request(t *testing.T, s *Server, method, target, body string) (status int, answer string) {
	t.Helper()
	c := dial(t, s)
	_, err := fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: shirube\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", method, target, len(body), body)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(string(b), "HTTP/1.1 %d ", &status); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
	_, answer, _ = strings.Cut(string(b), "\r\n\r\n")
	return status, answer
}

func TestRequestsAreAnswered(t *testing.T) {
	s := serve(t, nil, nil)
	for _, tt := range []struct {
		method, target, body string
		status               int
		want                 string // in the answer
	}{
		{"GET", "/v1/status", "", 200, `"version": "v9"`},
		{"GET", "/v1/stats", "", 200, `"received": 7`},
		{"GET", "/v1/flights", "", 200, `"name": "www.example."`},
		{"GET", "/v1/lookup?name=WWW.example", "", 200, `"name": "www.example."`},
		{"GET", "/v1/lookup", "", 400, "name is missing"},
		{"GET", "/v1/lookup?name=a..b", "", 400, "not a domain name"},
		{"GET", "/v1/lookup?name=a&name=b", "", 400, "more than once"},
		{"GET", "/v1/lookup?nam=a", "", 400, `found the parameter \"nam\"; expected name`},
		{"GET", "/v1/lookup?name=%zz", "", 400, "query string"},
		{"POST", "/v1/lookup?name=a", "", 405, "expected GET"},
		{"GET", "/v1/trace?name=www.example&type=mx", "", 200, `"question":"www.example. MX"`},
		{"GET", "/v1/trace?name=www.example", "", 200, `{"step":"answer","rcode":"NOERROR"`},
		{"GET", "/v1/trace?name=www.example&type=ANY", "", 400, "no type of records"},
		{"GET", "/v1/trace?name=www.example&type=TYPE65536", "", 400, "no RR type"},
		{"DELETE", "/v1/trace?name=www.example", "", 405, "expected GET"},
		{"POST", "/v1/cache/flush", `{"name":"www.example"}`, 200, `"answers": 1`},
		{"POST", "/v1/cache/flush", `{"name":"www.example","type":"aaaa"}`, 200, `"rrsets": 28`},
		{"POST", "/v1/cache/flush", `{"name":"example","subtree":true}`, 200, `"cuts": 9`},
		{"POST", "/v1/cache/flush", `{"all":true}`, 200, `"cuts": 1`},
		{"POST", "/v1/cache/flush", `{"all":true,"name":"example"}`, 400, "all alone"},
		{"POST", "/v1/cache/flush", `{"all":true,"fleet":true}`, 200, `"of": 3`},
		{"POST", "/v1/cache/flush", `{"name":"alone","fleet":true}`, 409, "there is no fleet"},
		{"GET", "/v1/cache", "", 200, `"name": "answers"`},
		{"GET", "/v1/cache/entry?name=www.example&type=mx", "", 200, `"type": "MX"`},
		{"GET", "/v1/cache/entry?name=www.example", "", 200, `"type": "A"`},
		{"GET", "/v1/cache/entry", "", 400, "name is missing"},
		{"GET", "/v1/cache/entry?name=a&type=OPT", "", 400, "no type of records"},
		{"GET", "/v1/cache/entry?name=a&class=IN", "", 400, "expected name or type"},
		{"GET", "/v1/cache/top", "", 200, `"count": 20`},
		{"GET", "/v1/cache/top?count=7", "", 200, `"count": 7`},
		{"GET", "/v1/cache/top?count=0", "", 400, "expected 1 to 10000"},
		{"GET", "/v1/cache/top?most=7", "", 400, "expected count"},
		{"POST", "/v1/cache/flush", `{}`, 400, "name is missing"},
		{"POST", "/v1/cache/flush", ``, 400, "nothing is there"},
		{"POST", "/v1/cache/flush", `{"name":"a"}{"name":"b"}`, 400, "more than one document"},
		{"POST", "/v1/cache/flush", `{"title":"a"}`, 400, `unknown field \"title\"`},
		{"POST", "/v1/cache/flush", `["a"]`, 400, "not the JSON object"},
		{"POST", "/v1/cache/flush", `{"name":"a","type":"OPT"}`, 400, "no type of records"},
		{"GET", "/v1/cache/flush", "", 405, "expected POST"},
		{"GET", "/v1/trust-anchors", "", 200, "20326"},
		{"GET", "/v1/negative-trust-anchors", "", 200, `"reason": "a test"`},
		{"POST", "/v1/negative-trust-anchors", `{"name":"a.example","for_seconds":3600,"reason":"why"}`, 200, `"name": "a.example."`},
		{"POST", "/v1/negative-trust-anchors", `{"name":"a.example","for_seconds":1000000}`, 400, "RFC 7646"},
		{"POST", "/v1/negative-trust-anchors", `{"name":"a.example","for_seconds":-1}`, 400, "for_seconds"},
		{"POST", "/v1/negative-trust-anchors", `{"name":"a.example","for_seconds":9223372036854775807}`, 400, "for_seconds"},
		{"POST", "/v1/negative-trust-anchors", `{"name":"a.example","reason":"` + strings.Repeat("x", maxReason+1) + `"}`, 400, "reason"},
		{"DELETE", "/v1/negative-trust-anchors?name=broken.example", "", 200, "broken.example."},
		{"DELETE", "/v1/negative-trust-anchors?name=other.example", "", 404, "no negative trust anchor"},
		{"DELETE", "/v1/negative-trust-anchors", "", 400, "name is missing"},
		{"PATCH", "/v1/negative-trust-anchors", "", 405, "expected DELETE or GET or POST"},
		{"POST", "/v1/reload", "", 200, `"log.level"`},
		{"GET", "/v1/reload", "", 405, "expected POST"},
		{"POST", "/v1/drain", "", 200, `"state": "ready"`},
		{"POST", "/v1/undrain", "", 200, `"state": "ready"`},
		{"GET", "/v1/log", "", 200, `"level": "info"`},
		{"PUT", "/v1/log", `{"level":"loud"}`, 400, "expected debug"},
		{"PUT", "/v1/log", `{"level":"debug"}`, 200, `"level": "debug"`},
		{"POST", "/v1/undrain", "", 409, "the server is stopping"},
		{"GET", "/", "", 404, "/v1/status"},
		{"GET", "/v2/status", "", 404, "/v1/status"},
		{"GET", "/v1/status/", "", 404, "/v1/status"},
		{"GET", "/v1/../etc/passwd", "", 404, "expected one of"},
	} {
		status, answer := request(t, s, tt.method, tt.target, tt.body)
		if status != tt.status || !strings.Contains(answer, tt.want) {
			t.Errorf("%s %s %.100s: %d, want %d and %q in\n%s", tt.method, tt.target, tt.body, status, tt.status, tt.want, answer)
		}
		var p Problem
		if status != 200 && (json.Unmarshal([]byte(answer), &p) != nil || p.Error == "") {
			t.Errorf("%s %s: the problem is no document: %s", tt.method, tt.target, answer)
		}
	}
}

func TestWithoutValidationThereAreNoAnchors(t *testing.T) {
	s := serve(t, func(opt *Options) { opt.Backend.Validates = func() bool { return false } }, nil)
	for _, method := range []string{"GET", "POST", "DELETE"} {
		status, answer := request(t, s, method, "/v1/negative-trust-anchors?name=a", `{"name":"a"}`)
		if status != http.StatusConflict || !strings.Contains(answer, "dnssec.validation") {
			t.Errorf("%s: %d, %s", method, status, answer)
		}
	}
}

func TestReloadIsAskedForAndAnswered(t *testing.T) {
	problem := errors.New("shirube.yaml:1:1: listne: unknown key; did you mean listen?")
	s := serve(t, func(opt *Options) {
		opt.Backend.Reload = func(ctx context.Context) (Reloaded, error) {
			time.Sleep(300 * time.Millisecond) // longer than others may take here
			return Reloaded{}, errors.Join(problem, ctx.Err())
		}
	}, func(s *Server) { s.http.WriteTimeout = 100 * time.Millisecond })
	_, err := NewClient(s.Path()).Do(t.Context(), http.MethodPost, "/v1/reload", nil, nil)
	if err == nil || err.Error() != problem.Error() {
		t.Errorf("got %v, want %v", err, problem)
	}
}

func TestParseTypeTakesMnemonicsAndNumbers(t *testing.T) {
	for text, want := range map[string]wire.Type{"A": 1, "aaaa": 28, "TYPE65280": 65280, "type1": 1, "HTTPS": 65} {
		if got, err := ParseType(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "TYPE", "TYPE-1", "TYPE01", "TYPE1x", "TYPE65536", "TYPE0", "ANY", "AXFR", "OPT", "nosuch", "TYPE1 A"} {
		if got, err := ParseType(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}

func TestClientSaysWhyNobodyAnswers(t *testing.T) {
	s := serve(t, nil, nil)
	raw, err := NewClient(s.opt.Path).Do(t.Context(), http.MethodGet, "/v1/lookup", url.Values{"name": {"a.example"}}, nil)
	if err != nil || !strings.Contains(string(raw), `"a.example."`) {
		t.Errorf("%v, %s", err, raw)
	}
	_, err = NewClient(s.opt.Path).Do(t.Context(), http.MethodGet, "/v1/lookup", nil, nil)
	if err == nil || errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "name is missing") {
		t.Errorf("what the server says is lost: %v", err)
	}
	for path, want := range map[string]string{
		socketPath(t): "no server with a control socket runs",
		stale(t):      "the server that made it is gone",
	} {
		if _, err := NewClient(path).Do(t.Context(), http.MethodGet, "/v1/status", nil, nil); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
