package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/miekg/dns"

	"shirube/announce"
	"shirube/internal/config"
	"shirube/internal/lab/ca"
)

// TestAddressThatComesAndGoesIsServedOnEveryTransport has a resolver listen on
// addresses that nobody has, and an announcer add them when it is answered on all
// transports, and take them away when one of them has another authority's
// certificate.
func TestAddressThatComesAndGoesIsServedOnEveryTransport(t *testing.T) {
	t.Parallel()
	inside(t, "TestTransportsInside")
}

// everywhere are all transports of the announcer.
var everywhere = []string{"udp", "tcp", "dot", "doh", "doh3", "doq"}

// TestTransportsInside is the other side.
func TestTransportsInside(t *testing.T) {
	if os.Getenv(insideEnv) == "" {
		return
	}
	l := newLab(t)
	authority, cert := issued(l, "tls")
	resolver := l.resolverWith("", l.listenEverywhere(cert))
	announcer := l.announcer("", fmt.Sprintf(`
driver: loopback
vips:
  - {address: %s, transports: [udp, tcp, dot, doh, doh3, doq], ask_at: [127.0.0.1]}
  - {address: "%s", transports: [udp, tcp, dot, doh, doh3, doq], ask_at: ["::1"]}
probes: {interval: 1s, timeout: 1s, rise: 2, fall: 2, server_name: dns.example, ca_file: %s}
resolver: {admin_socket: %s}
drain: {graceful: 0s}
admin: {socket: %s}
`, vip4, vip6, authority, l.socket(""), filepath.Join(l.dir, "announcer.sock")))
	l.await("the addresses have come", func() bool { return l.has(vip4) && l.has(vip6) })
	for _, vip := range []string{vip4, vip6} {
		for _, transport := range everywhere {
			if err := l.askOver(transport, vip, authority); err != nil {
				t.Errorf("%s over %s: %v", vip, transport, err)
			}
		}
	}

	// The next one has a certificate that nobody trusts: it is answered on in the clear only.
	resolver.end(syscall.SIGTERM)
	_, strange := issued(l, "strange")
	resolver = l.resolverWith("", l.listenEverywhere(strange))
	l.await("the addresses are gone", func() bool { return !l.has(vip4) && !l.has(vip6) })
	l.await("the announcer says why", func() bool {
		up := l.transportsUp(filepath.Join(l.dir, "announcer.sock"))
		for i, transport := range everywhere {
			for _, vip := range []string{vip4, vip6} {
				if ok, known := up[vip+" "+transport]; !known || ok != (i < 2) {
					return false
				}
			}
		}
		return true
	})
	if err := l.askOver("udp", "127.0.0.1", authority); err != nil {
		t.Errorf("the resolver is gone: %v", err)
	}
	announcer.end(syscall.SIGTERM)
	resolver.end(syscall.SIGTERM)
}

// issued makes an authority and a certificate for dns.example, and returns the file of
// the one, and what a configuration has to say of the other.
func issued(l *lab, name string) (authority, certificate string) {
	l.t.Helper()
	a, err := ca.New("Authority " + name)
	if err != nil {
		l.t.Fatal(err)
	}
	leaf, err := a.Issue(ca.Leaf{Names: []string{"dns.example"}})
	if err != nil {
		l.t.Fatal(err)
	}
	cert, key, err := leaf.Write(l.dir, name)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.write(name+"-ca.pem", string(a.PEM())), fmt.Sprintf("{cert_file: %q, key_file: %q}", cert, key)
}

// listenEverywhere returns listeners of loopback and of the service addresses, which
// need not be there, for all transports.
func (l *lab) listenEverywhere(certificate string) string {
	var yaml bytes.Buffer
	for _, at := range []string{"127.0.0.1", "::1", vip4, vip6} {
		for port, protocols := range map[string]string{"53": "udp, tcp", "853": "dot, doq", "443": "doh, doh3"} {
			fmt.Fprintf(&yaml, "  - {address: %q, protocols: [%s], freebind: true}\n", net.JoinHostPort(at, port), protocols)
		}
	}
	fmt.Fprintf(&yaml, "tls: {certificates: [%s]}\n", certificate)
	return yaml.String()
}

// has reports whether this machine has an address.
func (l *lab) has(address string) bool {
	l.t.Helper()
	list, err := net.InterfaceAddrs()
	if err != nil {
		l.t.Fatal(err)
	}
	for _, a := range list {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr() == netip.MustParseAddr(address) {
			return true
		}
	}
	return false
}

// askOver asks an address for localhost over a transport, as the announcer does.
func (l *lab) askOver(transport, address, authority string) error {
	l.t.Helper()
	p := config.Probes{ServerName: "dns.example", CAFile: authority, DNSPort: 53, TLSPort: 853, HTTPSPort: 443}
	exchange, err := newExchange(&p)
	if err != nil {
		l.t.Fatal(err)
	}
	query, err := new(dns.Msg).SetQuestion("localhost.", dns.TypeA).Pack()
	if err != nil {
		l.t.Fatal(err)
	}
	to := vip(&config.VIP{
		Address:    config.Address{AddrPort: netip.AddrPortFrom(netip.MustParseAddr(address), 0)},
		Transports: []config.ProbeTransport{config.ProbeTransport(transport)},
	}, &p)
	ctx, cancel := context.WithTimeout(l.t.Context(), patience)
	defer cancel()
	b, err := exchange(ctx, to.Targets[0], query)
	if err != nil {
		return err
	}
	var r dns.Msg
	if err := r.Unpack(b); err != nil {
		return err
	}
	if len(r.Answer) != 1 {
		return fmt.Errorf("%d answers; expected one:\n%v", len(r.Answer), &r)
	}
	return nil
}

// transportsUp returns what an announcer says at its socket of each address and
// transport.
func (l *lab) transportsUp(socket string) map[string]bool {
	l.t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}
	rsp, err := client.Get("http://announcer/status.json")
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = rsp.Body.Close() }() // it was read
	var s announce.Stats
	if err := json.NewDecoder(rsp.Body).Decode(&s); err != nil {
		l.t.Fatal(err)
	}
	up := map[string]bool{}
	for i := range s.VIPs {
		for _, p := range s.VIPs[i].Transports {
			up[s.VIPs[i].Address+" "+p.Transport] = p.Up
		}
	}
	return up
}
