package config

import (
	"strings"
	"testing"
)

func TestWhatMakesNoSenseBehindProxiesIsReported(t *testing.T) {
	const tls = "tls: {certificates: [{cert_file: a.pem, key_file: a.key}]}\n"
	for _, c := range []struct{ name, file, says string }{
		{"inside TLS", tls + "listen: [{address: 192.0.2.1:853, protocols: [dot], proxy_protocol: {from: [10.0.0.1], inside_tls: true}}]", ""},
		{"inside TLS, DoH", tls + "listen: [{address: 192.0.2.1:443, protocols: [doh], proxy_protocol: {from: [10.0.0.1], inside_tls: true}}]", ""},
		{
			"inside TLS, TCP", tls + "listen: [{address: 192.0.2.1:53, protocols: [tcp], proxy_protocol: {from: [10.0.0.1], inside_tls: true}}]",
			"found tcp, and proxy_protocol.inside_tls; expected dot or doh",
		},
		{
			"inside TLS, cleartext", "listen: [{address: 127.0.0.1:80, protocols: [doh_cleartext], proxy_protocol: {from: [10.0.0.1], inside_tls: true}}]",
			"found doh_cleartext, and proxy_protocol.inside_tls",
		},
		{
			"inside TLS, no proxies", tls + "listen: [{address: 192.0.2.1:853, protocols: [dot], proxy_protocol: {inside_tls: true}}]",
			"found inside_tls, and no proxies",
		},
		{"a socket", "doh: {socket: /run/shirube/doh.sock, group: haproxy}", ""},
		{"a group alone", "doh: {group: haproxy}", "found a group and no socket"},
		{"a certificate is missing", "listen: [{address: 192.0.2.1:853, protocols: [dot]}]", "found dot, and no certificate"},
		{"cleartext for everybody", "listen: [{address: 192.0.2.1:80, protocols: [doh_cleartext]}]", "where everybody could read along"},
		{"QUIC behind proxies", tls + "listen: [{address: 192.0.2.1:853, protocols: [doq], proxy_protocol: {from: [10.0.0.1]}}]", "not spoken over QUIC"},
		{"no path", "doh: {path: dns-query}", "expected a path"},
	} {
		_, err := Parse("a.yaml", []byte(c.file))
		switch {
		case c.says == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%s: got %v, want %q", c.name, err, c.says)
		}
	}
}
