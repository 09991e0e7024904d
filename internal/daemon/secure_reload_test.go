package daemon

import (
	"crypto/tls"
	"encoding/base64"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/lab/ca"
	"shirube/transport/clients"
)

// reloadWith reloads s with what change makes of its configuration.
func (s *everywhere) reloadWith(change func(*config.Config)) error {
	cfg := s.Pipeline().Config
	change(&cfg)
	s.Load = func() (config.Config, error) { return cfg, nil }
	_, err := s.Reload(s.ctx)
	return err
}

// shownName returns the first name of the certificate that the server shows.
func (s *everywhere) shownName(t *testing.T) string {
	t.Helper()
	c, err := tls.Dial("tcp", "127.0.0.1:"+strconv.Itoa(int(s.tls)), &tls.Config{RootCAs: s.authority.Pool()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	return c.ConnectionState().PeerCertificates[0].DNSNames[0]
}

// TestReloadBeginsAndEndsEncryption is of a server that begins without a certificate
// and without listeners that need one, gets both by a reload, then another
// certificate, and then neither again.
func TestReloadBeginsAndEndsEncryption(t *testing.T) {
	var full config.Config
	s := serveEverywhere(t, func(cfg *config.Config) {
		full = *cfg
		cfg.TLS.Certificates, cfg.Listen = nil, cfg.Listen[:1]
	})
	msg, err := new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	both := func(cfg *config.Config) { cfg.TLS, cfg.Listen = full.TLS, full.Listen }
	if err := s.reloadWith(func(cfg *config.Config) {
		both(cfg)
		cfg.TLS.Certificates = []config.Certificate{{CertFile: "testdata/none", KeyFile: "testdata/none"}}
	}); err == nil || !strings.Contains(err.Error(), "tls: ") || len(s.Pipeline().Config.Listen) != 1 {
		t.Errorf("a certificate that is not there: %v", err)
	}
	if err := s.reloadWith(both); err != nil {
		t.Fatal(err)
	}
	var open []clients.Asker
	for _, w := range clients.Ways() {
		c := s.dial(t, w, "127.0.0.11")
		if m, _ := askWay(t, c, msg, 10*time.Second); m == nil || m.Rcode != dns.RcodeSuccess {
			t.Fatalf("%s: %v", w.Name, m)
		}
		if w.Proto.Encrypted() && !w.Clear {
			open = append(open, c)
		}
	}
	issued, err := s.authority.Issue(ca.Leaf{Names: []string{"other.example"}, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}})
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := issued.Write(s.dir, "other")
	if err != nil {
		t.Fatal(err)
	}
	if name := s.shownName(t); name != "dns.example" {
		t.Errorf("%s is shown", name)
	}
	if err := s.reloadWith(func(cfg *config.Config) { cfg.TLS.Certificates = []config.Certificate{{CertFile: cert, KeyFile: key}} }); err != nil {
		t.Fatal(err)
	}
	if name := s.shownName(t); name != "other.example" || s.Stats().TLS.Certificates.InUse != 1 {
		t.Errorf("%s is shown: %+v", name, s.Stats().TLS.Certificates)
	}
	for _, c := range open {
		if m, _ := askWay(t, c, msg, 10*time.Second); m == nil {
			t.Errorf("%T: a connection was lost", c)
		}
	}
	if err := s.reloadWith(func(cfg *config.Config) { cfg.TLS.Certificates, cfg.Listen = nil, cfg.Listen[:1] }); err != nil {
		t.Fatal(err)
	}
	if st := s.Stats().TLS.Certificates; st.InUse != 0 || st.Expires != 0 {
		t.Errorf("%+v", st)
	}
}

// TestReloadSharesTickets has two servers get the same secret by a reload: a session
// of one is then resumed by the other.
func TestReloadSharesTickets(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(strings.Repeat("5a", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	one, two := serveEverywhere(t, nil), serveEverywhere(t, nil)
	trusted := one.authority.Pool()
	trusted.AppendCertsFromPEM(two.authority.PEM())
	resumes := func() bool {
		t.Helper()
		client := &tls.Config{RootCAs: trusted, ServerName: "dns.example", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
		resumed := false
		for _, s := range []*everywhere{one, two} {
			c, err := tls.Dial("tcp", "127.0.0.1:"+strconv.Itoa(int(s.tls)), client)
			if err != nil {
				t.Fatal(err)
			}
			if err = (&dns.Conn{Conn: c}).WriteMsg(new(dns.Msg).SetQuestion("localhost.", dns.TypeA)); err == nil {
				_, err = (&dns.Conn{Conn: c}).ReadMsg() // the ticket comes before it
			}
			if err != nil {
				t.Fatal(err)
			}
			resumed = c.ConnectionState().DidResume
			_ = c.Close()
		}
		return resumed
	}
	if resumes() {
		t.Error("a session was resumed without a secret in common")
	}
	for _, s := range []*everywhere{one, two} {
		if err := s.reloadWith(func(cfg *config.Config) { cfg.TLS.TicketSecretFile = secret }); err != nil {
			t.Fatal(err)
		}
	}
	if !resumes() {
		t.Error("no session was resumed with a secret in common")
	}
}

// TestReloadMovesThePathAndTheProxies changes what requests of HTTP go by.
func TestReloadMovesThePathAndTheProxies(t *testing.T) {
	s := serveEverywhere(t, nil)
	msg, err := new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	web := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.authority.Pool()}, ForceAttemptHTTP2: true}
	defer web.CloseIdleConnections()
	get := func(scheme string, port uint16, path, client string) (status int, body []byte, served string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
			scheme+"://127.0.0.1:"+strconv.Itoa(int(port))+path+"?dns="+base64.RawURLEncoding.EncodeToString(msg), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Forwarded-For", client)
		r.Close = scheme == "http" // whether it is a proxy is known of each connection
		rsp, err := web.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = rsp.Body.Close() }()
		b := make([]byte, 512)
		n, _ := rsp.Body.Read(b)
		return rsp.StatusCode, b[:n], rsp.Header.Get("Alt-Svc")
	}
	const refused = dns.RcodeRefused
	check := func(what, path string, wantStatus int, altSvc bool) {
		t.Helper()
		if status, _, served := get("https", s.web, path, ""); status != wantStatus || (served != "") != altSvc {
			t.Errorf("%s: %s: %d, Alt-Svc %q", what, path, status, served)
		}
	}
	check("at first", "/dns-query", 200, true)
	check("at first", "/other", 404, false)
	if err := s.reloadWith(func(cfg *config.Config) {
		cfg.DoH.Path = "/other"
		cfg.Listen = slices.Clone(cfg.Listen)
		cfg.Listen[2].Protocols = []config.Protocol{config.ProtocolDoH}
	}); err != nil {
		t.Fatal(err)
	}
	check("afterwards", "/dns-query", 404, false)
	check("afterwards", "/other", 200, false)
	stranger := accessClients[config.ActionRefuse]
	if _, body, _ := get("http", s.gate, "/other", stranger); len(body) < 4 || body[3]&0xf == refused {
		t.Errorf("somebody is believed who is no proxy: %x", body)
	}
	if err := s.reloadWith(func(cfg *config.Config) {
		cfg.DoH.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	}); err != nil {
		t.Fatal(err)
	}
	// Among the proxies' own addresses nobody is a client: the whole way is theirs.
	if _, body, _ := get("http", s.gate, "/other", "203.0.113.7"); len(body) < 4 || body[3]&0xf != refused {
		t.Errorf("a proxy is not believed: %x", body)
	}
}
