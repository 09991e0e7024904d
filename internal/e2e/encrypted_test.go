package e2e

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"shirube/internal/lab/ca"
)

// TestRealClientsAskEncrypted has kdig, dig, curl and openssl ask over each
// transport that they speak, and looks at what they say of the connection.
func TestRealClientsAskEncrypted(t *testing.T) {
	authority, err := ca.New("Authority of this test")
	if err != nil {
		t.Fatal(err)
	}
	i, err := authority.Issue(ca.Leaf{Names: []string{"dns.example"}, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key, err := i.Write(dir, "tls")
	if err != nil {
		t.Fatal(err)
	}
	trusted := filepath.Join(dir, "ca.pem")
	writeFile(t, trusted, string(authority.PEM()))
	tls, web := strconv.Itoa(freePort(t)), strconv.Itoa(freePort(t))
	serve(t, settings{
		extra: fmt.Sprintf("  - {address: \"127.0.0.1:%s\", protocols: [dot, doq]}\n  - {address: \"127.0.0.1:%s\", protocols: [doh, doh3]}\n", tls, web),
		more:  fmt.Sprintf("tls:\n  certificates: [{cert_file: %q, key_file: %q}]\n", cert, key),
	})

	// kdig 3.2.6 crashes when it is to check a certificate over QUIC.
	for _, c := range []struct {
		what string
		client
		says string // in what it prints
	}{
		{"kdig, TLS", client{"kdig", []string{"-d", "@127.0.0.1", "-p", tls, "+tls-ca=" + trusted, "+tls-hostname=dns.example", "+padding"}}, "TLS session (TLS1.3)"},
		{"kdig, HTTPS by POST", client{"kdig", []string{"-d", "@127.0.0.1", "-p", web, "+tls-ca=" + trusted, "+tls-hostname=dns.example", "+https=/dns-query"}}, "HTTP session (HTTP/2-POST)"},
		{"kdig, HTTPS by GET", client{"kdig", []string{"-d", "@127.0.0.1", "-p", web, "+tls-ca=" + trusted, "+tls-hostname=dns.example", "+https=/dns-query", "+https-get"}}, "HTTP session (HTTP/2-GET)"},
		{"kdig, QUIC", client{"kdig", []string{"-d", "@127.0.0.1", "-p", tls, "+quic"}}, "QUIC session (QUICv1)"},
		{"dig, TLS", client{"dig", []string{"-r", "@127.0.0.1", "-p", tls, "+tls", "+tls-ca=" + trusted, "+tls-hostname=dns.example"}}, "(TLS)"},
		{"dig, HTTPS by POST", client{"dig", []string{"-r", "@127.0.0.1", "-p", web, "+https", "+tls-ca=" + trusted, "+tls-hostname=dns.example"}}, "(HTTPS)"},
		{"dig, HTTPS by GET", client{"dig", []string{"-r", "@127.0.0.1", "-p", web, "+https-get", "+tls-ca=" + trusted, "+tls-hostname=dns.example"}}, "(HTTPS-GET)"},
	} {
		t.Run(c.what, func(t *testing.T) {
			out, code := c.run(t, ".", "SOA")
			if code != 0 || !strings.Contains(out, "NOERROR") || !strings.Contains(out, "SOA") || !strings.Contains(out, c.says) {
				t.Errorf("exit code %d, want %q in:\n%s", code, c.says, out)
			}
			if out, _ := c.run(t, "nosuch.invalid.", "A"); !strings.Contains(out, "NXDOMAIN") {
				t.Errorf("no NXDOMAIN in:\n%s", out)
			}
		})
	}

	msg, err := new(dns.Msg).SetQuestion(".", dns.TypeSOA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	query := filepath.Join(dir, "query")
	writeFile(t, query, string(msg))
	url := "https://127.0.0.1:" + web + "/dns-query"
	for _, version := range []struct{ option, said string }{{"--http1.1", "1.1"}, {"--http2", "2"}} {
		for _, args := range [][]string{
			{"--data-binary", "@" + query, "-H", "Content-Type: application/dns-message", url},
			{url + "?dns=" + base64.RawURLEncoding.EncodeToString(msg)},
		} {
			file := filepath.Join(dir, "answer")
			args = append([]string{"-sS", "--cacert", trusted, version.option, "-o", file, "-w", "%{http_code} %{http_version} %{content_type}"}, args...)
			out, err := exec.Command("curl", args...).CombinedOutput()
			if want := "200 " + version.said + " application/dns-message"; err != nil || string(out) != want {
				t.Errorf("curl %s: %v, %q, want %q", strings.Join(args, " "), err, out, want)
			}
		}
	}

	for _, version := range []struct{ option, said string }{{"-tls1_3", "TLSv1.3"}, {"-tls1_2", "TLSv1.2"}} {
		session := filepath.Join(dir, "session"+version.option)
		for _, args := range [][]string{{"-sess_out", session}, {"-sess_in", session}} {
			args = append([]string{
				"s_client", "-connect", "127.0.0.1:" + tls, "-servername", "dns.example", "-alpn", "dot", "-CAfile", trusted,
				"-verify_return_error", "-ign_eof", version.option,
			}, args...)
			cmd := exec.Command("openssl", args...)
			cmd.Stdin = bytes.NewReader(append([]byte{0, byte(len(msg))}, msg...)) // its ticket comes along with the answer
			out, _ := cmd.CombinedOutput()                                         // it ends when the server closes
			how := "New, "
			if args[len(args)-2] == "-sess_in" {
				how = "Reused, "
			}
			if !bytes.Contains(out, []byte(how+version.said)) || !bytes.Contains(out, []byte("ALPN protocol: dot")) {
				t.Errorf("openssl %s: want %q and ALPN in:\n%s", strings.Join(args, " "), how+version.said, out)
			}
		}
	}
	if out, err := exec.Command("openssl", "s_client", "-connect", "127.0.0.1:"+tls, "-tls1_1").CombinedOutput(); err == nil {
		t.Errorf("TLS 1.1 is spoken:\n%s", out)
	}
	if out, err := exec.Command("openssl", "s_client", "-connect", "127.0.0.1:"+tls, "-alpn", "h2").CombinedOutput(); err == nil {
		t.Errorf("another protocol is spoken:\n%s", out)
	}
}
