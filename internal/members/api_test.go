package members

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// server is an API server of tests: it has pods, and gives them in pages.
type server struct {
	*httptest.Server
	api     API
	asked   []string // the queries
	pods    []map[string]any
	perPage int
}

// newServer starts one, with a service account. Each request goes to answer first,
// unless there is none; it says whether it has answered.
func newServer(t *testing.T, answer func(s *server, w http.ResponseWriter, r *http.Request) bool) *server {
	t.Helper()
	s := &server{perPage: 2}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked = append(s.asked, r.URL.RawQuery)
		if answer != nil && answer(s, w, r) {
			return
		}
		if r.Header.Get("Authorization") != "Bearer secret" || r.URL.Path != "/api/v1/namespaces/dns/pods" {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"kind": "Status", "message": "pods is forbidden: User \"nobody\" cannot list resource \"pods\""}`)
			return
		}
		begin, _ := strconv.Atoi(r.URL.Query().Get("continue"))
		end, next := min(begin+s.perPage, len(s.pods)), ""
		if end < len(s.pods) {
			next = strconv.Itoa(end)
		}
		page := map[string]any{"kind": "PodList", "metadata": map[string]any{"continue": next}, "items": s.pods[begin:end]}
		if err := json.NewEncoder(w).Encode(page); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	dir := t.TempDir()
	files := map[string][]byte{
		"token":  []byte("secret\n"),
		"ca.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 5 {
		s.pods = append(s.pods, map[string]any{"metadata": map[string]any{"name": fmt.Sprintf("shirube-%d", i)}})
	}
	s.api = API{URL: s.URL, TokenFile: filepath.Join(dir, "token"), CAFile: filepath.Join(dir, "ca.crt"), Namespace: "dns", Selector: "app=shirube"}
	return s
}

func TestListOfPodsIsReadPageByPage(t *testing.T) {
	s := newServer(t, nil)
	list, err := s.api.Pods(t.Context())
	if err != nil || len(list) != 5 || list[4].Metadata.Name != "shirube-4" {
		t.Fatalf("found %v, %v", list, err)
	}
	want := []string{"labelSelector=app%3Dshirube&limit=500", "continue=2&labelSelector=app%3Dshirube&limit=500", "continue=4&labelSelector=app%3Dshirube&limit=500"}
	if fmt.Sprint(s.asked) != fmt.Sprint(want) {
		t.Errorf("asked was %q; expected %q", s.asked, want)
	}
}

func TestListThatBecomesTooOldIsReadAnew(t *testing.T) {
	for _, c := range []struct {
		gone int // how often the second page is
		want string
	}{{listTries - 1, ""}, {listTries, "the list of pods became too old while it was read"}} {
		gone := 0
		s := newServer(t, func(_ *server, w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Query().Get("continue") == "" || gone >= c.gone {
				return false
			}
			gone++
			w.WriteHeader(http.StatusGone)
			fmt.Fprint(w, `{"kind": "Status", "reason": "Expired"}`)
			return true
		})
		list, err := s.api.Pods(t.Context())
		if c.want == "" && (err != nil || len(list) != 5) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("gone %d times: found %d pods, %v", c.gone, len(list), err)
		}
	}
}

func TestAnswersOfTheAPIThatAreNoneAreErrors(t *testing.T) {
	say := func(status int, text string) func(*server, http.ResponseWriter, *http.Request) bool {
		return func(_ *server, w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(status)
			fmt.Fprint(w, text)
			return true
		}
	}
	for _, c := range []struct {
		answer func(*server, http.ResponseWriter, *http.Request) bool
		change func(*API)
		want   string
	}{
		{change: func(a *API) { a.Namespace = "other" }, want: `/api/v1/namespaces/other/pods: 403 Forbidden: pods is forbidden: User "nobody" cannot list`},
		{answer: say(http.StatusInternalServerError, "<html>"), want: "500 Internal Server Error"},
		{answer: say(http.StatusOK, `{"kind": "NamespaceList"}`), want: `found the kind "NamespaceList"; expected a list of pods`},
		{answer: say(http.StatusOK, "<html>"), want: "a list of pods: invalid character"},
		{answer: say(http.StatusOK, `{"kind": "PodList", "metadata": {"continue": "1"}, "items": []}`), want: "a list of pods that does not come to an end"},
		{answer: say(http.StatusOK, `{"kind": "PodList", "metadata": {"continue": "1"}, "items": [{}]}`), want: "a list of pods that does not come to an end"},
		{answer: func(_ *server, w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, "https://192.0.2.1/", http.StatusFound)
			return true
		}, want: "found a redirection; expected an answer"},
		{change: func(a *API) { a.URL = strings.Replace(a.URL, "https", "http", 1) }, want: "expected https://HOST:PORT"},
		{change: func(a *API) { a.URL = "" }, want: "this is no pod of a cluster"},
		{change: func(a *API) { a.Namespace = "" }, want: "the namespace, which is not given"},
		{change: func(a *API) { a.Namespace = "../nodes" }, want: `found the namespace "../nodes"; expected a name`},
		{change: func(a *API) { a.TokenFile = "no-such-file" }, want: "the token for the API server: open no-such-file"},
		{change: func(a *API) { a.CAFile = a.TokenFile }, want: "has no certificate"},
	} {
		s := newServer(t, c.answer)
		if c.change != nil {
			c.change(&s.api)
		}
		t.Setenv("KUBERNETES_SERVICE_HOST", "")
		if _, err := s.api.Pods(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("found %v; expected %s", err, c.want)
		}
	}
}

func TestAnswersOfTheAPIAreBounded(t *testing.T) {
	s := newServer(t, func(_ *server, w http.ResponseWriter, _ *http.Request) bool {
		fmt.Fprint(w, `{"kind": "PodList", "more": "`)
		junk := []byte(strings.Repeat("x", 1<<20))
		for range maxPage>>20 + 1 {
			if _, err := w.Write(junk); err != nil {
				return true
			}
		}
		return true
	})
	if _, err := s.api.Pods(t.Context()); err == nil || !strings.Contains(err.Error(), "found a list of pods of more than 67108864 octets") {
		t.Errorf("found %v", err)
	}
	page := 0
	s = newServer(t, func(_ *server, w http.ResponseWriter, _ *http.Request) bool {
		page++
		fmt.Fprintf(w, `{"kind": "PodList", "metadata": {"continue": "%d"}, "items": [%s{}]}`, page, strings.Repeat("{},", 999))
		return true
	})
	if _, err := s.api.Pods(t.Context()); err == nil || !strings.Contains(err.Error(), "found more than 20000 pods") {
		t.Errorf("found %v", err)
	}
	if page != maxPods/1000+1 {
		t.Errorf("%d pages were read", page)
	}
}

func TestServersOfAnotherAuthorityAreNotTold(t *testing.T) {
	s, told := newServer(t, nil), false
	other := newServer(t, func(*server, http.ResponseWriter, *http.Request) bool {
		told = true
		return false
	})
	// Both have the certificate of package httptest: a CA file with another's.
	text := []byte(otherAuthority)
	if err := os.WriteFile(s.api.CAFile, text, 0o600); err != nil {
		t.Fatal(err)
	}
	s.api.URL = other.URL
	if _, err := s.api.Pods(t.Context()); err == nil || !strings.Contains(err.Error(), "x509: ") || told {
		t.Errorf("found %v, told: %v", err, told)
	}
}

func TestSilentAPIIsWaitedForNoLongerThanTheContextLasts(t *testing.T) {
	s := newServer(t, func(_ *server, _ http.ResponseWriter, r *http.Request) bool {
		<-r.Context().Done()
		return true
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := s.api.Pods(ctx); err == nil || !strings.Contains(err.Error(), "deadline exceeded") {
		t.Errorf("found %v", err)
	}
}

// otherAuthority has signed nothing.
const otherAuthority = `-----BEGIN CERTIFICATE-----
MIIBdjCCAR2gAwIBAgIUOgebjWtLh1CExZxARTrqkCT9iE0wCgYIKoZIzj0EAwIw
EDEOMAwGA1UEAwwFb3RoZXIwIBcNMjYxMTIyMTg1MDI5WhgPMjEyNjEwMjkxODUw
MjlaMBAxDjAMBgNVBAMMBW90aGVyMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE
0gwC0khxgttAXOcFnA7v0UUAWn+yMHNCk4XpZkAa1Mk9ZnJQFbF72YFJNzFFvBvE
jqaTzfOJBVgVRtkGhvdrb6NTMFEwHQYDVR0OBBYEFN2uk4OTtzT7PQhHhmCuWSvX
/MfiMB8GA1UdIwQYMBaAFN2uk4OTtzT7PQhHhmCuWSvX/MfiMA8GA1UdEwEB/wQF
MAMBAf8wCgYIKoZIzj0EAwIDRwAwRAIgSmLp3O7RAHja74WtdHjUzk7Hpf65DEeW
5GwsnyoynW0CIClirSP6sauFPABuGM4BzZ16kATy/CoRA9WIify0eYck
-----END CERTIFICATE-----
`
