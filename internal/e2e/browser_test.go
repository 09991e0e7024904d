package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"shirube/internal/porttest"
)

// TestStubbyForwardsOverTLS has Stubby, which serves a machine, ask over TLS by name and
// by key, and dig ask Stubby.
func TestStubbyForwardsOverTLS(t *testing.T) {
	t.Parallel()
	s := serveEncrypted(t, "", loopback)
	for i, by := range []struct{ what, identity string }{
		{"name", `tls_auth_name: "dns.example"`},
		{"key", "tls_pubkey_pinset:\n      - digest: \"sha256\"\n        value: " + s.pin},
	} {
		t.Run(by.what, func(t *testing.T) {
			port := int(porttest.Take(t))
			dir := t.TempDir()
			conf := filepath.Join(dir, "stubby.yml")
			writeFile(t, conf, fmt.Sprintf(`resolution_type: GETDNS_RESOLUTION_STUB
dns_transport_list:
  - GETDNS_TRANSPORT_TLS
tls_authentication: GETDNS_AUTHENTICATION_REQUIRED
tls_query_padding_blocksize: 128
edns_client_subnet_private: 1
idle_timeout: 10000
timeout: 20000
appdata_dir: %q
tls_ca_file: %q
listen_addresses:
  - 127.0.0.1@%d
upstream_recursive_servers:
  - address_data: 127.0.0.1
    tls_port: %s
    %s
`, dir, s.trusted, port, s.tls, by.identity))
			p, err := start("stubby", []string{"stubby", "-C", conf, "-l"}, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { p.stop() })
			if _, err := p.await(p.out, "Read config from file", startTimeout); err != nil {
				t.Fatal(err)
			}
			// It passes on no Extended DNS Errors.
			c := client{"dig", []string{"-r", "@127.0.0.1", "-p", strconv.Itoa(port), "+tcp", "+tries=3", "+time=20"}}
			for _, a := range encryptedAnswers(fmt.Sprintf("stubby%d", i)) {
				r := c.one(t, a.name, a.typ, "+dnssec")
				if a.ede != "" {
					a.ede, r.ede = "", nil
				}
				a.check(t, r)
			}
		})
	}
	s.stop()
	if n := counter(t, s.out.String(), "dot", "Received"); n < 2*len(encryptedAnswers("")) {
		t.Errorf("%d queries came over TLS", n)
	}
}

// TestBrowserFindsAPageOverHTTPS has Chromium load a page by a name that only this
// server knows, with DNS over HTTPS and nothing else.
func TestBrowserFindsAPageOverHTTPS(t *testing.T) {
	t.Parallel()
	s := serveEncrypted(t, "", loopback)
	const text = "This is the page."
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "<p>%s %s", text, r.Host)
	}))
	t.Cleanup(page.Close)
	at, err := url.Parse(page.URL)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	state, err := json.Marshal(map[string]any{"dns_over_https": map[string]string{
		"mode": "secure", "templates": "https://127.0.0.1:" + s.web + "/dns-query",
	}})
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "Local State"), string(state))
	ctx, cancel := context.WithTimeout(t.Context(), askTimeout)
	defer cancel()
	load := func(host string) string {
		out, err := exec.CommandContext(ctx, "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
			"--no-first-run", "--disable-background-networking", "--user-data-dir="+dir, "--ignore-certificate-errors-spki-list="+s.pin,
			"--dump-dom", "http://"+host+":"+at.Port()+"/").Output()
		if err != nil {
			t.Fatalf("chromium: %v\n%s", err, out)
		}
		return string(out)
	}
	if dom := load("page.plain.west"); !strings.Contains(dom, text+" page.plain.west") {
		t.Errorf("the page is\n%s", dom)
	}
	if dom := load("nosuch.plain.west"); strings.Contains(dom, text) {
		t.Errorf("a name that is not there has the page\n%s", dom)
	}
	s.stop()
	log := s.out.String()
	if asked := counter(t, log, "doh", "Requests") + counter(t, log, "doh3", "Requests"); asked < 2 {
		t.Errorf("%d requests came over HTTPS", asked)
	}
}
