package admin

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"shirube/internal/health"
)

const secret = "a-token-that-nobody-guesses"

// backend is what the tests serve.
func backend(state *health.State) Backend {
	return Backend{
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "metrics\n") }),
		Health:  state,
		Status:  func() any { return map[string]string{"version": "v9"} },
	}
}

// file writes a file of its own, and returns its path.
func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// socketPath returns where a socket may be made.
func socketPath(t *testing.T) string {
	t.Helper()
	return filepath.Join(t.TempDir(), "s")
}

var anyPort = netip.MustParseAddrPort("127.0.0.1:0")

// serve serves what change makes of the options, and returns where.
func serve(t *testing.T, change func(*Options)) []string {
	t.Helper()
	opt := Options{Group: -1, UID: os.Geteuid(), Backend: backend(new(health.State))}
	change(&opt)
	s, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s.Where()
}

// guarded is a listener for those who show the secret.
func guarded(t *testing.T) []Address {
	t.Helper()
	return []Address{{At: anyPort, Token: file(t, "token", secret)}}
}

// showing shows the secret.
func showing(r *http.Request) { r.Header.Set("Authorization", "Bearer "+secret) }

// get asks for a URL; change may edit the request.
func get(t *testing.T, c *http.Client, url string, change func(*http.Request)) (status int, body string, header http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(r)
	}
	rsp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rsp.Body.Close() }()
	b, err := io.ReadAll(rsp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return rsp.StatusCode, string(b), rsp.Header
}

// plain is a client that keeps no connections.
func plain() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
}

func TestWhoShowsTheTokenSeesEverything(t *testing.T) {
	at := "http://" + serve(t, func(opt *Options) { opt.Addresses = guarded(t) })[0]
	for path, want := range map[string]string{
		"/metrics": "metrics\n", "/livez": `{"alive":true}`, "/readyz": `{"ready":true}`, "/status.json": `{"version":"v9"}`, "/": "<!doctype html>",
	} {
		status, body, header := get(t, plain(), at+path, showing)
		if status != http.StatusOK || !strings.HasPrefix(body, want) || header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d, %.80q, %v", path, status, body, header)
		}
	}
	for path, want := range map[string]int{"/none": 404, "/debug/pprof/": 404, "/metrics/": 404} {
		if status, _, _ := get(t, plain(), at+path, showing); status != want {
			t.Errorf("%s: %d", path, status)
		}
	}
	status, _, header := get(t, plain(), at+"/metrics", func(r *http.Request) { showing(r); r.Method = http.MethodPost })
	if status != http.StatusMethodNotAllowed || header.Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d, %v", status, header)
	}
}

func TestReadinessSaysWhyNot(t *testing.T) {
	state, since := new(health.State), time.Now().Add(-time.Minute).Truncate(time.Second).UTC()
	at := "http://" + serve(t, func(opt *Options) { opt.Addresses, opt.Backend = guarded(t), backend(state) })[0]
	state.Begin(health.NoRoot, "no answer", time.Hour, since)
	if status, body, _ := get(t, plain(), at+"/readyz", showing); status != http.StatusOK || !strings.Contains(body, `"counts":false`) {
		t.Errorf("within its grace: %d, %s", status, body)
	}
	state.Begin(health.Draining, "goes away", 0, since)
	status, body, _ := get(t, plain(), at+"/readyz", showing)
	var got Readiness
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	want := []Cause{{health.Draining, "goes away", since, 0, true}, {health.NoRoot, "no answer", since, 3600, false}}
	if status != http.StatusServiceUnavailable || got.Ready || !slices.Equal(got.Causes, want) {
		t.Errorf("%d, %+v; want %+v", status, got, want)
	}
	if status, _, _ := get(t, plain(), at+"/livez", showing); status != http.StatusOK {
		t.Errorf("not alive: %d", status)
	}
}

func TestTokenIsNeededForAllButProbes(t *testing.T) {
	token := file(t, "token", secret+"\n")
	state := new(health.State)
	at := "http://" + serve(t, func(opt *Options) {
		opt.Addresses, opt.Backend = []Address{{At: anyPort, Token: token}}, backend(state)
	})[0]
	state.Begin(health.Draining, "goes away", 0, time.Now())
	for what, tt := range map[string]struct {
		path   string
		change func(*http.Request)
		want   int
	}{
		"none":             {"/metrics", nil, 401},
		"none, no page":    {"/none", nil, 401},
		"none, a probe":    {"/readyz", nil, 503},
		"bearer":           {"/metrics", showing, 200},
		"password":         {"/", func(r *http.Request) { r.SetBasicAuth("anybody", secret) }, 200},
		"another":          {"/metrics", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+secret+"x") }, 401},
		"a part":           {"/metrics", func(r *http.Request) { r.Header.Set("Authorization", "Bearer a-token-that") }, 401},
		"nothing, bearer":  {"/metrics", func(r *http.Request) { r.Header.Set("Authorization", "Bearer ") }, 401},
		"another password": {"/metrics", func(r *http.Request) { r.SetBasicAuth(secret, "") }, 401},
		"by another name":  {"/metrics", func(r *http.Request) { r.Host = "ns1.example"; r.SetBasicAuth("x", secret) }, 200},
	} {
		if status, _, _ := get(t, plain(), at+tt.path, tt.change); status != tt.want {
			t.Errorf("%s: %d; want %d", what, status, tt.want)
		}
	}
	if _, body, _ := get(t, plain(), at+"/readyz", nil); strings.TrimSpace(body) != `{"ready":false}` {
		t.Errorf("without the token a probe is told %s", body)
	}
	if err := os.WriteFile(token, []byte("another-token-for-a-change"), 0o600); err != nil {
		t.Fatal(err)
	}
	for given, want := range map[string]int{secret: 401, "another-token-for-a-change": 200} {
		if status, _, _ := get(t, plain(), at+"/metrics", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+given) }); status != want {
			t.Errorf("after a change %s: %d", given, status)
		}
	}
	if err := os.Remove(token); err != nil {
		t.Fatal(err)
	}
	if status, _, _ := get(t, plain(), at+"/metrics", func(r *http.Request) { r.Header.Set("Authorization", "Bearer ") }); status != 401 {
		t.Errorf("without the file everybody is let in: %d", status)
	}
}

// issue returns the files of a certificate for 127.0.0.1 and of its key, signed
// by ca, or by itself if that is nil.
func issue(t *testing.T, ca *tls.Certificate) (cert, key string, pair tls.Certificate) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: ca == nil, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := tmpl, any(k)
	if ca != nil {
		parent, signer = ca.Leaf, ca.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, k.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	if pair, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	return file(t, "cert.pem", string(certPEM)), file(t, "key.pem", string(keyPEM)), pair
}

func TestMutualTLSLetsInWhoIsSigned(t *testing.T) {
	caFile, _, ca := issue(t, nil)
	cert, key, _ := issue(t, &ca)
	_, _, friend := issue(t, &ca)
	_, _, stranger := issue(t, nil)
	at := "https://" + serve(t, func(opt *Options) {
		opt.Addresses = []Address{{At: anyPort, Cert: cert, Key: key, ClientCA: caFile}}
	})[0]
	roots := x509.NewCertPool()
	roots.AddCert(ca.Leaf)
	client := func(certs ...tls.Certificate) *http.Client {
		return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: certs}, DisableKeepAlives: true}}
	}
	if status, body, _ := get(t, client(friend), at+"/metrics", nil); status != http.StatusOK || body != "metrics\n" {
		t.Errorf("%d, %s", status, body)
	}
	for path, want := range map[string]int{"/livez": 200, "/readyz": 200, "/metrics": 403, "/": 403, "/none": 403} { // the kubelet has no certificate
		if status, _, _ := get(t, client(), at+path, nil); status != want {
			t.Errorf("%s without a certificate: %d; want %d", path, status, want)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at+"/livez", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if rsp, err := client(stranger).Do(r); err == nil {
		_ = rsp.Body.Close()
		t.Errorf("with another's certificate: %s", rsp.Status)
	}
	certText, err := os.ReadFile(caFile) // a new certificate is taken up
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(cert, certText, 0o600); err != nil {
		t.Fatal(err)
	}
	if rsp, err := client(friend).Do(r); err == nil {
		_ = rsp.Body.Close()
		t.Error("a certificate that the key does not belong to is used")
	}
}

func TestWhoHasToShowBothShowsBoth(t *testing.T) {
	caFile, _, ca := issue(t, nil)
	cert, key, _ := issue(t, &ca)
	_, _, friend := issue(t, &ca)
	at := "https://" + serve(t, func(opt *Options) {
		opt.Addresses = []Address{{At: anyPort, Cert: cert, Key: key, ClientCA: caFile, Token: file(t, "token", secret)}}
	})[0]
	roots := x509.NewCertPool()
	roots.AddCert(ca.Leaf)
	client := func(certs ...tls.Certificate) *http.Client {
		return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: certs}, DisableKeepAlives: true}}
	}
	for _, tt := range []struct {
		what   string
		client *http.Client
		change func(*http.Request)
		want   int
	}{{"nothing", client(), nil, 403}, {"the token", client(), showing, 403}, {"the certificate", client(friend), nil, 401}, {"both", client(friend), showing, 200}} {
		if status, _, _ := get(t, tt.client, at+"/metrics", tt.change); status != tt.want {
			t.Errorf("who shows %s: %d; want %d", tt.what, status, tt.want)
		}
		if status, _, _ := get(t, tt.client, at+"/readyz", tt.change); status != 200 {
			t.Errorf("a probe that shows %s: %d", tt.what, status)
		}
	}
}

// overUnix returns a client of the socket at path.
func overUnix(path string) *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
}

func TestUnixSocketIsForItsUsers(t *testing.T) {
	path := socketPath(t)
	serve(t, func(opt *Options) { opt.Socket = path })
	if status, body, _ := get(t, overUnix(path), "http://shirube/metrics", nil); status != http.StatusOK || body != "metrics\n" {
		t.Errorf("%d, %s", status, body)
	}
	group := strangersGroup
	if os.Geteuid() != 0 {
		group = os.Getegid()
	}
	for _, tt := range []struct {
		who   string
		group int
		want  string
	}{{"a stranger", -1, "403"}, {"one of the group", group, "200"}} {
		path := openSocketPath(t)
		serve(t, func(opt *Options) { opt.Socket, opt.UID, opt.Group = path, os.Geteuid()+1, tt.group })
		if err := os.Chmod(path, 0o666); err != nil { // whatever the mode says
			t.Fatal(err)
		}
		for _, page := range []string{"/livez", "/metrics", "/status.json", "/none"} {
			want := tt.want
			if page == "/none" && want == "200" {
				want = "404"
			}
			if got := askAsStranger(t, path, page); got != want {
				t.Errorf("%s: %s: %s; want %s", tt.who, page, got, want)
			}
		}
	}
}

// Who is neither root, nor who runs the tests, if root does.
const (
	strangersUser  = 54321
	strangersGroup = 54322
)

// askAsStranger returns the status that another user than root has for page from the
// socket at path. Tests that root does not run ask as who runs them.
func askAsStranger(t *testing.T, path, page string) (status string) {
	t.Helper()
	c := exec.CommandContext(t.Context(), "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket", path, "http://shirube"+page)
	if os.Geteuid() == 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: strangersUser, Gid: strangersGroup}}
	}
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%v: %v", c, err)
	}
	return string(out)
}

// openSocketPath is socketPath in a directory that everybody may enter.
func openSocketPath(t *testing.T) string {
	t.Helper()
	path := socketPath(t)
	for dir := filepath.Dir(path); dir != filepath.Clean(os.TempDir()); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func TestConnectionsAreBounded(t *testing.T) {
	at := serve(t, func(opt *Options) { opt.Addresses = guarded(t) })[0]
	var conns []net.Conn
	for range maxConnections + 8 {
		c, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		conns = append(conns, c)
	}
	closed := 0
	for end := time.Now().Add(30 * time.Second); closed < 8 && time.Now().Before(end); {
		closed = 0
		for _, c := range conns {
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond)) // a socket has one
			if _, err := c.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				closed++
			}
		}
	}
	if closed != 8 {
		t.Errorf("%d of %d connections were closed", closed, len(conns))
	}
	for _, c := range conns {
		_ = c.Close() // nothing was said on it
	}
	for until := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		rsp, err := plain().Get("http://" + at + "/livez")
		if err == nil {
			_ = rsp.Body.Close()
			return
		}
		if time.Now().After(until) {
			t.Fatalf("the places are not given back: %v", err)
		}
	}
}

func TestProfilesAreServedWhenTheyAreWanted(t *testing.T) {
	at := "http://" + serve(t, func(opt *Options) { opt.Addresses, opt.Profiles = guarded(t), true })[0]
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/goroutine?debug=1", "/debug/pprof/heap", "/debug/pprof/cmdline"} {
		if status, body, _ := get(t, plain(), at+path, showing); status != http.StatusOK || body == "" {
			t.Errorf("%s: %d", path, status)
		}
	}
	for _, seconds := range []string{"3600", "-1", "x"} {
		if status, _, _ := get(t, plain(), at+"/debug/pprof/profile?seconds="+seconds, showing); status != http.StatusBadRequest {
			t.Errorf("%s seconds: %d", seconds, status)
		}
	}
}

func TestOneProfileIsTakenAtATime(t *testing.T) {
	at := "http://" + serve(t, func(opt *Options) { opt.Addresses, opt.Profiles = guarded(t), true })[0]
	ask := func(what string) int {
		status, _, _ := get(t, plain(), at+"/debug/pprof/"+what, showing)
		return status
	}
	first := make(chan int, 1)
	// Owner: this test. End: the profile's second. Bound: one.
	go func() {
		status := 0
		defer func() { first <- status }() // also when ask ends the test
		for range 100 {                    // what is asked below may be there before it
			if status = ask("trace?seconds=1"); status != http.StatusTooManyRequests {
				break
			}
		}
	}()
	for turnedAway := false; !turnedAway; time.Sleep(10 * time.Millisecond) {
		select {
		case status := <-first:
			t.Fatalf("the first: %d; nobody was turned away meanwhile", status)
		default:
			turnedAway = ask("cmdline") == http.StatusTooManyRequests
		}
	}
	if status := <-first; status != http.StatusOK {
		t.Errorf("the first: %d", status)
	}
}

func TestOptionsThatShowEverybodyEverythingAreRefused(t *testing.T) {
	cert, key, _ := issue(t, nil)
	everywhere, short := netip.MustParseAddrPort("0.0.0.0:0"), file(t, "token", "short")
	for what, a := range map[string]Address{
		"no address":                  {},
		"everybody":                   {At: everywhere},
		"everybody on this machine":   {At: anyPort},
		"everybody with TLS":          {At: everywhere, Cert: cert, Key: key},
		"a certificate without a key": {At: anyPort, Cert: cert},
		"clients' without the own":    {At: anyPort, ClientCA: cert},
		"clients' that are none":      {At: anyPort, Cert: cert, Key: key, ClientCA: key},
		"a certificate that is a key": {At: anyPort, Cert: key, Key: key},
		"a token that is too short":   {At: everywhere, Token: short},
		"a token that is not there":   {At: everywhere, Token: short + "x"},
		"clients' that are not there": {At: anyPort, Cert: cert, Key: key, ClientCA: cert + "x"},
	} {
		if _, err := New(Options{Addresses: []Address{a}, Backend: backend(new(health.State))}); err == nil || !strings.HasPrefix(err.Error(), "admin: ") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := New(Options{}); err == nil {
		t.Error("a backend without functions passes")
	}
}

func TestListenOpensAllOrNothing(t *testing.T) {
	path := socketPath(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	s, err := New(Options{Socket: path, Group: -1, Addresses: []Address{{At: netip.MustParseAddrPort(taken.Addr().String()), Token: file(t, "token", secret)}}, Backend: backend(new(health.State))})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(t.Context(), nil); err == nil || !strings.Contains(err.Error(), "another program listens there") {
		t.Errorf("found %v", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket stays: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// TestOtherSitesReadNothing: a page of another site that has a browser ask, be it by a
// name that has become this machine's address (DNS rebinding), is not let in, and
// could not read it (CVE-2026-0397).
func TestOtherSitesReadNothing(t *testing.T) {
	at := "http://" + serve(t, func(opt *Options) {
		opt.Addresses, opt.Backend = []Address{{At: anyPort, Token: file(t, "token", secret+"\n")}}, backend(new(health.State))
	})[0]
	for _, token := range []bool{false, true} {
		for _, method := range []string{http.MethodGet, http.MethodOptions} {
			r, err := http.NewRequestWithContext(t.Context(), method, at+"/status.json", http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = "rebound.attacker.example"
			r.Header.Set("Origin", "http://rebound.attacker.example")
			r.Header.Set("Access-Control-Request-Method", http.MethodGet)
			if token {
				showing(r)
			}
			rsp, err := plain().Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = rsp.Body.Close()
			for name := range rsp.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s: %s is sent", method, name)
				}
			}
			if !token && rsp.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s without a token: %s", method, rsp.Status)
			}
		}
	}
}
