package e2e

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"shirube/internal/lab/ca"
	"shirube/internal/porttest"
)

// encryptedListeners are the listeners of a server for encrypted transports, and its
// certificate.
type encryptedListeners struct {
	dot, doh    int    // ports, for DoQ and DoH3 too
	extra, more string // for settings
	cert, key   string
	trusted     string // file with the authority
}

// loopback is where encrypted servers listen.
var loopback = netip.MustParseAddr("127.0.0.1")

// listenEncrypted returns some on free ports, with a certificate for dns.example and
// for addrs.
func listenEncrypted(t *testing.T, addrs ...netip.Addr) (l encryptedListeners) {
	t.Helper()
	authority, err := ca.New("Authority of this test")
	if err != nil {
		t.Fatal(err)
	}
	issued, err := authority.Issue(ca.Leaf{Names: []string{"dns.example"}, Addrs: addrs})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if l.cert, l.key, err = issued.Write(dir, "tls"); err != nil {
		t.Fatal(err)
	}
	l.trusted = filepath.Join(dir, "ca.pem")
	writeFile(t, l.trusted, string(authority.PEM()))
	l.dot, l.doh = int(porttest.Take(t)), int(porttest.Take(t))
	l.extra = fmt.Sprintf("  - {address: \"127.0.0.1:%d\", protocols: [dot, doq]}\n  - {address: \"127.0.0.1:%d\", protocols: [doh, doh3]}\n", l.dot, l.doh)
	l.more = fmt.Sprintf("tls:\n  certificates: [{cert_file: %q, key_file: %q}]\n", l.cert, l.key)
	return l
}

// TestRealClientsAskEncrypted has kdig, dig, curl and openssl ask over each
// transport that they speak, and looks at what they say of the connection.
func TestRealClientsAskEncrypted(t *testing.T) {
	t.Parallel()
	s := serveEncrypted(t, "", loopback)
	dir, trusted, tls, web := s.dir, s.trusted, s.tls, s.web

	// kdig 3.2.6 crashes when it is to check a certificate over QUIC.
	for i, c := range []struct {
		what string
		client
		says string // in what it prints
	}{
		{"kdig, TCP", client{"kdig", []string{"-d", "@127.0.0.1", "-p", strconv.Itoa(s.port), "+tcp"}}, "(TCP)"},
		{"dig, TCP", client{"dig", []string{"-r", "@127.0.0.1", "-p", strconv.Itoa(s.port), "+tcp"}}, "(TCP)"},
		{"dig, UDP", client{"dig", []string{"-r", "@127.0.0.1", "-p", strconv.Itoa(s.port)}}, "(UDP)"}, // and TCP for what is long
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
			for _, a := range encryptedAnswers(strconv.Itoa(i)) {
				a.check(t, c.one(t, a.name, a.typ, "+dnssec"))
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
	versions := curlVersions(t)
	for _, version := range versions {
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

	for _, a := range encryptedAnswers("curl") {
		for _, version := range versions {
			a.check(t, curlAsk(t, dir, a.question, version.option, "--cacert", trusted, url))
		}
	}
	encryptedLoad(t, dir, tls, web, url+"?dns="+base64.RawURLEncoding.EncodeToString(msg))

	for _, v := range opensslVersions {
		session := filepath.Join(dir, "session"+v.option)
		opensslAsks(t, s, v, "New", "-sess_out", session)
		opensslAsks(t, s, v, "Reused", "-sess_in", session)
	}
	if out, err := exec.Command("openssl", "s_client", "-connect", "127.0.0.1:"+tls, "-tls1_1").CombinedOutput(); err == nil {
		t.Errorf("TLS 1.1 is spoken:\n%s", out)
	}
	if out, err := exec.Command("openssl", "s_client", "-connect", "127.0.0.1:"+tls, "-alpn", "h2").CombinedOutput(); err == nil {
		t.Errorf("another protocol is spoken:\n%s", out)
	}
}

// opensslVersions are versions of TLS, as openssl is told and as it tells.
var opensslVersions = []struct{ option, said string }{{"-tls1_3", "TLSv1.3"}, {"-tls1_2", "TLSv1.2"}}

// opensslAsks has openssl ask s over DoT, with options about its session, which is
// to be New or Reused.
func opensslAsks(t *testing.T, s *encryptedServer, version struct{ option, said string }, how string, options ...string) {
	t.Helper()
	msg, err := new(dns.Msg).SetQuestion(".", dns.TypeSOA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{
		"s_client", "-connect", "127.0.0.1:" + s.tls, "-servername", "dns.example", "-alpn", "dot", "-CAfile", s.trusted,
		"-verify_return_error", "-ign_eof", version.option,
	}, options...)
	cmd := exec.Command("openssl", args...)
	cmd.Stdin = bytes.NewReader(append([]byte{0, byte(len(msg))}, msg...)) // its ticket comes along with the answer
	out, _ := cmd.CombinedOutput()                                         // it ends when the server closes
	if !bytes.Contains(out, []byte(how+", "+version.said)) || !bytes.Contains(out, []byte("ALPN protocol: dot")) {
		t.Errorf("openssl %s: want %q and ALPN in:\n%s", strings.Join(args, " "), how+", "+version.said, out)
	}
}

// TestNextServerOfAFleetResumesSessions has openssl take its session from one
// server to another, which has the same secret, and to one that has another.
func TestNextServerOfAFleetResumesSessions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	with := func(digits string) *encryptedServer {
		file := filepath.Join(dir, digits)
		writeFile(t, file, strings.Repeat(digits, 32)+"\n")
		return serveEncrypted(t, fmt.Sprintf("  ticket_secret_file: %q\nlimits:\n  tcp_idle_timeout: 1s\n", file), loopback) // openssl waits that long each time
	}
	one, two, stranger := with("0f"), with("0f"), with("1e")
	for _, v := range opensslVersions {
		session := filepath.Join(dir, "session"+v.option)
		opensslAsks(t, one, v, "New", "-sess_out", session)
		opensslAsks(t, two, v, "Reused", "-sess_in", session)
		opensslAsks(t, stranger, v, "New", "-sess_in", session)
	}
}

// curlVersion is a version of HTTP, as curl is told and as it tells.
type curlVersion struct{ option, said string }

// curlVersions returns those that this curl speaks. Debian's has no HTTP/3.
func curlVersions(t *testing.T) []curlVersion {
	t.Helper()
	versions := []curlVersion{{"--http1.1", "1.1"}, {"--http2", "2"}}
	out, err := exec.Command("curl", "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(out, []byte("HTTP3")) {
		versions = append(versions, curlVersion{"--http3-only", "3"})
	}
	return versions
}

// encryptedServer is a server with all encrypted transports at 127.0.0.1.
type encryptedServer struct {
	*server

	trusted  string // file with the certificate of who issued the server's
	pin      string // of the server's key, in base64
	tls, web string // ports: of DoT and DoQ, of DoH and DoH3
}

// serveEncrypted starts a server with a certificate for dns.example and for addrs.
// more is YAML to put at the end of its file.
func serveEncrypted(t *testing.T, more string, addrs ...netip.Addr) *encryptedServer {
	t.Helper()
	l := listenEncrypted(t, addrs...)
	return &encryptedServer{
		server:  serve(t, settings{extra: l.extra, resolver: "timeout: 1500ms", more: l.more + more}),
		trusted: l.trusted, pin: pinOf(t, l.cert), tls: strconv.Itoa(l.dot), web: strconv.Itoa(l.doh),
	}
}

// pinOf returns the hash of the key of the first certificate in a file, in base64
// (RFC 7858 §4.2).
func pinOf(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return (&certified{Certificate: cert}).pin()
}

// encryptedAnswer is a question, and what there is to be in the response to it.
type encryptedAnswer struct {
	question
	status  string
	answers int    // records at least
	ede     string // what the error begins with; empty: there is none
	signed  bool   // signatures are among the records
	long    bool   // it would not fit into a datagram
}

// encryptedAnswers are of every sort. Nobody has asked for one of them who is not
// called client.
func encryptedAnswers(client string) []encryptedAnswer {
	return []encryptedAnswer{
		{question: question{"www.plain.west.", "A"}, status: "NOERROR", answers: 1},
		{question: question{"client" + client + ".wild.plain.west.", "A"}, status: "NOERROR", answers: 1},
		{question: question{"nosuch.plain.west.", "A"}, status: "NXDOMAIN"},
		{question: question{"www.lame.west.", "A"}, status: "SERVFAIL", ede: "22 No Reachable Authority"},
		{question: question{"many.big.east.", "TXT"}, status: "NOERROR", answers: 1, long: true},
		{question: question{"www.signed.west.", "A"}, status: "NOERROR", answers: 2, signed: true},
	}
}

// check compares a response with what there is to be.
func (a *encryptedAnswer) check(t *testing.T, r *response) {
	t.Helper()
	answers := strings.Join(r.texts("ANSWER"), "\n")
	if r.status != a.status || len(r.sections["ANSWER"]) < a.answers || strings.Contains(answers, "RRSIG") != a.signed || strings.Contains(" "+r.flags+" ", " tc ") {
		t.Errorf("%v: %s, flags %q, want %s and signatures: %v in\n%s", a.question, r.status, r.flags, a.status, a.signed, answers)
	}
	if a.long && len(answers) < 1232 {
		t.Errorf("%v: an answer of %d characters", a.question, len(answers))
	}
	if len(r.ede) > 0 != (a.ede != "") || a.ede != "" && !strings.HasPrefix(r.ede[0], a.ede) {
		t.Errorf("%v: EDE %q, want %q", a.question, r.ede, a.ede)
	}
}

// curlAsk posts a question with curl, and returns the response.
func curlAsk(t *testing.T, dir string, q question, args ...string) *response {
	t.Helper()
	m := new(dns.Msg).SetQuestion(q.name, dns.StringToType[q.typ])
	m.SetEdns0(1232, true)
	raw, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	in, answer := filepath.Join(dir, "asked"), filepath.Join(dir, "answered")
	writeFile(t, in, string(raw))
	args = append([]string{"-sS", "-o", answer, "--data-binary", "@" + in, "-H", "Content-Type: application/dns-message"}, args...)
	if out, err := exec.Command("curl", args...).CombinedOutput(); err != nil {
		t.Fatalf("curl %s: %v: %s", strings.Join(args, " "), err, out)
	}
	if raw, err = os.ReadFile(answer); err == nil {
		err = m.Unpack(raw)
	}
	if err != nil {
		t.Fatalf("%v: %v", q, err)
	}
	r := &response{status: dns.RcodeToString[m.Rcode], sections: map[string][]record{"ANSWER": records(t, m.Answer)}}
	if m.Truncated {
		r.flags = "tc"
	}
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				r.ede = append(r.ede, fmt.Sprintf("%d %s", e.InfoCode, dns.ExtendedErrorCodeToString[e.InfoCode]))
			}
		}
	}
	return r
}

// encryptedLoad has those clients ask that ask many questions at once, and wants all
// of them answered.
func encryptedLoad(t *testing.T, dir, tls, web, url string) {
	t.Helper()
	names := filepath.Join(dir, "names")
	// No long answers: dnsperf 2.10 does not always survive them over HTTPS.
	writeFile(t, names, "www.plain.west. A\nnosuch.plain.west. A\nwww.signed.west. A\n")
	for _, argv := range [][]string{
		{"dnsperf", "-m", "dot", "-p", tls},
		{"dnsperf", "-m", "doh", "-p", web, "-O", "doh-uri=https://127.0.0.1/dns-query", "-O", "doh-method=POST"},
		{"dnsperf", "-m", "doh", "-p", web, "-O", "doh-uri=https://127.0.0.1/dns-query", "-O", "doh-method=GET"},
	} {
		argv = append(argv, "-s", "127.0.0.1", "-d", names, "-c", "5", "-q", "50", "-n", "200", "-t", "30", "-D")
		out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("Queries completed:    600 (100.00%)")) {
			t.Errorf("%s: %v\n%s", strings.Join(argv, " "), err, out)
		}
	}
	out, err := exec.Command("h2load", "-n", "2000", "-c", "5", "-m", "50", url).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("2000 succeeded, 0 failed, 0 errored, 0 timeout")) {
		t.Errorf("h2load: %v\n%s", err, out)
	}
}
