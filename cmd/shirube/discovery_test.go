package main

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"shirube/internal/lab/ca"
)

// described writes a configuration with the certificate l, and returns its name.
func described(t *testing.T, l ca.Leaf) string {
	t.Helper()
	a, err := ca.New("Authority of this test")
	if err != nil {
		t.Fatal(err)
	}
	i, err := a.Issue(l)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key, err := i.Write(dir, "tls")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "shirube.yaml")
	text := fmt.Sprintf(`
listen:
  - {address: "192.0.2.53:53", protocols: [udp, tcp]}
  - {address: "192.0.2.53:853", protocols: [dot, doq]}
  - {address: "192.0.2.53:443", protocols: [doh, doh3]}
  - {address: "[2001:db8::53]:853", protocols: [dot]}
tls: {certificates: [{cert_file: %q, key_file: %q}]}
`, cert, key)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestDiscoveryPrintsWhatClientsFind(t *testing.T) {
	good := described(t, ca.Leaf{Names: []string{"dns.isp.example"}, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.53")}})
	for _, tt := range []struct {
		args []string
		err  error
		want []string
	}{
		{[]string{"ddr", "-c", good}, nil, []string{
			"; asked at 192.0.2.53", "_dns.resolver.arpa. 300 IN SVCB 1 dns.isp.example. alpn=h3,h2 ipv4hint=192.0.2.53 dohpath=/dns-query{?dns}", "SVCB 3 ",
		}},
		{[]string{"ddr", "-c", good, "--address", "2001:db8::53"}, errNotAdvertised, []string{
			"; not DoT: the certificate has no iPAddress 2001:db8::53 (address_not_in_certificate)", "; not DoQ: no listener for it at 2001:db8::53",
		}},
		{[]string{"dnr", "-c", good}, errNotAdvertised, []string{
			`{"space": "dhcp4", "code": 162, "csv-format": false, "data": "`, "dhcp-option=162,00:", "dhcp-option=option6:144,00:01:00:11:03:64:6e:73:", "# router advertisement",
		}},
	} {
		c := newDiscoveryCommand()
		var out bytes.Buffer
		c.SetOut(&out)
		c.SetArgs(tt.args)
		c.SilenceErrors, c.SilenceUsage = true, true
		if err := c.Execute(); !errors.Is(err, tt.err) {
			t.Errorf("%q: %v", tt.args, err)
		}
		for _, want := range tt.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%q: no %q in:\n%s", tt.args, want, out.String())
			}
		}
		if bad := regexp.MustCompile(`%!`).FindString(out.String()); bad != "" {
			t.Error(out.String())
		}
	}
}
