package e2e

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"shirube/internal/lab/ca"
	"shirube/internal/porttest"
)

// inFront is a way through a proxy to a listener of the server.
type inFront struct {
	name    string
	proxy   string // of balancers, or nginx
	conf    string // of it; {front} is where clients come, {between} another free address, {back} the listener, {socket} that of DoH
	listen  string // the listener, in YAML, without its address; "": it is the socket
	clients []string
}

// The clients, which come from {from} to {front}. Whatever they print says whether
// they got an answer.
const (
	viaTCP = "dig -r @{addr} -p {port} -b {from} +tcp +tries=1 +timeout=20 {question}"
	viaDoT = "kdig @{addr} -p {port} -b {from} +tls-ca={ca} +tls-hostname=dns.example +timeout=20 {question}"
	viaDoH = "kdig @{addr} -p {port} -b {from} +https=/dns-query +tls-ca={ca} +tls-hostname=dns.example +timeout=20 {question}"
	viaWeb = "curl -sS --interface {from} --cacert {ca} {version} https://{front}/dns-query?dns=AAABAAABAAAAAAAAA3d3dwVwbGFpbgR3ZXN0AAABAAE | od -A n -t x1 -N 4 | sed 's/.*80$/status: NOERROR/; s/.*85$/status: REFUSED/'"
	viaH2C = "curl -sS --interface {from} --http2-prior-knowledge http://{front}/dns-query?dns=AAABAAABAAAAAAAAA3d3dwVwbGFpbgR3ZXN0AAABAAE | od -A n -t x1 -N 4 | sed 's/.*80$/status: NOERROR/; s/.*85$/status: REFUSED/'"
)

func version(command, option string) string {
	return strings.ReplaceAll(command, "{version}", option)
}

// before is what the configurations of a proxy begin with.
var before = map[string]string{
	"haproxy": "defaults\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n",
	"dnsdist": "setLocal('{front}')\nsetSecurityPollSuffix('')\nsetACL({'0.0.0.0/0', '::/0'})\n",
}

// proxiesOfTLS are the ways.
var proxiesOfTLS = []inFront{
	{
		"DoT, the header outside", "haproxy",
		"listen front\n  mode tcp\n  bind {front}\n  server shirube {back} send-proxy-v2\n",
		"protocols: [dot], proxy_protocol: {from: [127.0.0.1]}",
		[]string{viaDoT},
	},
	{
		"DoT, the header inside", "haproxy",
		"listen front\n  mode tcp\n  bind {front}\n  server next {between} send-proxy-v2\n" +
			"listen between\n  mode tcp\n  bind {between}\n  server shirube {back} ssl ca-file {ca} verifyhost dns.example alpn dot\n",
		"protocols: [dot], proxy_protocol: {from: [127.0.0.1], inside_tls: true}",
		[]string{viaTCP},
	},
	{
		"DoT, the header inside", "dnsdist",
		"newServer({address='{back}', tls='openssl', caStore='{ca}', subjectName='dns.example', useProxyProtocol=true}):setUp()\n",
		"protocols: [dot], proxy_protocol: {from: [127.0.0.1], inside_tls: true}",
		[]string{viaTCP},
	},
	{
		"DoH, the header outside", "haproxy",
		"listen front\n  mode tcp\n  bind {front}\n  server shirube {back} send-proxy-v2\n",
		"protocols: [doh], proxy_protocol: {from: [127.0.0.1]}",
		[]string{viaDoH, version(viaWeb, "--http1.1"), version(viaWeb, "--http2")},
	},
	{
		"DoH, the header inside", "haproxy",
		"listen front\n  mode tcp\n  bind {front}\n  server next {between} send-proxy-v2\n" +
			"listen between\n  mode tcp\n  bind {between}\n  server shirube {back} ssl ca-file {ca} verifyhost dns.example alpn h2\n",
		"protocols: [doh], proxy_protocol: {from: [127.0.0.1], inside_tls: true}",
		[]string{viaH2C},
	},
	{
		"DoH, the header inside", "dnsdist",
		"newServer({address='{back}', tls='openssl', caStore='{ca}', subjectName='dns.example', dohPath='/dns-query', useProxyProtocol=true}):setUp()\n",
		"protocols: [doh], proxy_protocol: {from: [127.0.0.1], inside_tls: true}",
		[]string{viaTCP},
	},
	{
		"h2c on loopback, X-Forwarded-For", "haproxy",
		"listen front\n  mode http\n  bind {front} ssl crt {crt} alpn h2,http/1.1\n  option forwardfor\n  server shirube {back} proto h2\n",
		"protocols: [doh_cleartext]",
		[]string{viaDoH, version(viaWeb, "--http1.1"), version(viaWeb, "--http2")},
	},
	{
		"h2c on loopback, a header about the client's TLS", "haproxy",
		"listen front\n  mode http\n  bind {front} ssl crt {crt} alpn h2,http/1.1\n  server shirube {back} proto h2 send-proxy-v2-ssl-cn\n",
		"protocols: [doh_cleartext], proxy_protocol: {from: [127.0.0.1]}",
		[]string{viaDoH, version(viaWeb, "--http2")},
	},
	{
		"DoT, a header about the client's TLS and TLS again", "haproxy",
		"listen front\n  mode tcp\n  bind {front} ssl crt {crt} alpn dot\n  server shirube {back} send-proxy-v2-ssl ssl ca-file {ca} verifyhost dns.example alpn dot\n",
		"protocols: [dot], proxy_protocol: {from: [127.0.0.1]}",
		[]string{viaDoT},
	},
	{
		"h2c on a unix socket", "haproxy",
		"listen front\n  mode http\n  bind {front} ssl crt {crt} alpn h2,http/1.1\n  option forwardfor\n  server shirube unix@{socket} proto h2\n",
		"",
		[]string{viaDoH, version(viaWeb, "--http1.1"), version(viaWeb, "--http2")},
	},
	{
		"HTTP/1.1 on a unix socket", "haproxy",
		"listen front\n  mode http\n  bind {front} ssl crt {crt} alpn h2,http/1.1\n  option forwardfor\n  server shirube unix@{socket}\n",
		"",
		[]string{viaDoH, version(viaWeb, "--http2")},
	},
	{
		"HTTP/1.1 on a unix socket, connections kept", "nginx",
		nginxWeb("upstream shirube { server unix:{socket}; keepalive 8; }", "proxy_pass http://shirube; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_set_header X-Forwarded-For $remote_addr;"),
		"",
		[]string{viaDoH, version(viaWeb, "--http1.1"), version(viaWeb, "--http2")},
	},
	{
		"HTTP/1.0, as nginx has it by default, on loopback", "nginx",
		nginxWeb("", "proxy_pass http://{back}; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"),
		"protocols: [doh_cleartext]",
		[]string{viaDoH, version(viaWeb, "--http1.1"), version(viaWeb, "--http2")},
	},
	{
		"h2c on a unix socket", "nginx",
		nginxWeb("", "grpc_pass grpc://unix:{socket}; grpc_set_header X-Forwarded-For $remote_addr;"),
		"",
		[]string{viaDoH, version(viaWeb, "--http1.1"), version(viaWeb, "--http2")},
	},
}

// nginx speaks the first version of the PROXY protocol only, so it is no balancer
// for what is not HTTP.
var nginx = balancer{name: "nginx", argv: func(conf string) []string { return []string{"nginx", "-c", conf} }}

// nginxWeb returns a configuration of nginx that terminates TLS, and passes on what
// is for the path of DoH.
func nginxWeb(upstream, pass string) string {
	return "daemon off; master_process off; error_log stderr; pid {dir}/{free}.pid; events { }\n" +
		"http {\n  access_log off; " + upstream +
		"\n  server {\n    listen {front} ssl http2; ssl_certificate {crt}; ssl_certificate_key {crt};\n    location /dns-query { " + pass + " }\n  }\n}\n"
}

// TestClientsBehindARealProxyWithTLSAreKnown: of the clients in 127.0.0.0/8 one may
// ask, and the proxies themselves may not.
func TestClientsBehindARealProxyWithTLSAreKnown(t *testing.T) {
	t.Parallel()
	authority, err := ca.New("Authority of this test")
	if err != nil {
		t.Fatal(err)
	}
	issued, err := authority.Issue(ca.Leaf{Names: []string{"dns.example"}, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key, err := issued.Write(dir, "tls")
	if err != nil {
		t.Fatal(err)
	}
	trusted, both, socket := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "both.pem"), filepath.Join(dir, "doh.sock")
	writeFile(t, trusted, string(authority.PEM()))
	writeFile(t, both, string(issued.Certificate)+string(issued.Key))
	at := func() netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), porttest.Take(t))
	}
	var listeners strings.Builder
	backs := make([]netip.AddrPort, len(proxiesOfTLS))
	for i, f := range proxiesOfTLS {
		if backs[i] = at(); f.listen != "" {
			fmt.Fprintf(&listeners, "  - {address: %q, %s}\n", backs[i], f.listen)
		}
	}
	serve(t, settings{
		extra:    listeners.String(),
		resolver: "timeout: 15s",
		limits:   unhurriedLimits,
		access:   "- {prefix: 127.0.0.0/8, action: refuse}\n- {prefix: 127.0.0.5, action: allow}",
		more: fmt.Sprintf("tls:\n  certificates: [{cert_file: %q, key_file: %q}]\ndoh:\n  trusted_proxies: [127.0.0.1]\n  socket: %q\n",
			cert, key, socket),
	})
	for i, f := range proxiesOfTLS {
		t.Run(f.name+", "+f.proxy, func(t *testing.T) {
			front, between := at(), at()
			words := strings.NewReplacer("{front}", front.String(), "{between}", between.String(), "{back}", backs[i].String(), "{socket}", socket,
				"{crt}", both, "{ca}", trusted, "{dir}", dir, "{free}", fmt.Sprint(between.Port()), "{addr}", front.Addr().String(), "{port}", fmt.Sprint(front.Port()), "{question}", "www.plain.west A")
			conf := before[f.proxy] + f.conf
			for _, b := range append(balancers, nginx) {
				if b.name == f.proxy {
					b.start(t, words.Replace(conf), front)
				}
			}
			for _, c := range f.clients {
				for from, want := range map[string]string{"127.0.0.5": "status: NOERROR", "127.0.0.6": "status: REFUSED", "127.0.0.1": "status: REFUSED"} {
					command := strings.ReplaceAll(words.Replace(c), "{from}", from)
					out, _ := client{"bash", []string{"-c", command}}.run(t)
					if !strings.Contains(out, want) {
						t.Errorf("%s: want %q in:\n%s", command, want, out)
					}
				}
			}
		})
	}
}
