package daemon

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/lab/ca"
	"shirube/internal/wire"
	"shirube/transport/clients"
)

// ddrClient is a client that knows a resolver by its address, and follows RFC 9462
// §4 to the letter.
type ddrClient struct {
	trusts *x509.CertPool
	asked  netip.AddrPort // the resolver without encryption
}

// found is a designated resolver that passed.
type found struct {
	way    clients.Way
	at     netip.AddrPort
	answer *dns.Msg // to a question that was asked there
}

// errUnverified says that a designation is not to be used.
var errUnverified = errors.New("not verified")

// designations asks for them (RFC 9462 §4).
func (c *ddrClient) designations(t *testing.T) (records []*dns.SVCB, extra []dns.RR) {
	t.Helper()
	m := c.exchange(t, "_dns.resolver.arpa.", dns.TypeSVCB)
	if m.Rcode != dns.RcodeSuccess {
		t.Fatalf("not NODATA: %v", m)
	}
	for _, rr := range m.Answer {
		s := rr.(*dns.SVCB)
		if s.Priority == 0 || s.Target == "." || dns.IsSubDomain("resolver.arpa.", s.Target) { // RFC 9462 §4, §6.3
			t.Errorf("no designation: %v", s)
		}
		records = append(records, s)
	}
	slices.SortFunc(records, func(a, b *dns.SVCB) int { return int(a.Priority) - int(b.Priority) })
	return records, m.Extra
}

func (c *ddrClient) exchange(t *testing.T, name string, typ uint16) *dns.Msg {
	t.Helper()
	m, _, err := (&dns.Client{Timeout: 10 * time.Second}).ExchangeContext(t.Context(), new(dns.Msg).SetQuestion(name, typ), c.asked.String())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// waysOf are the transports that ALPN IDs stand for.
func waysOf(id string) []clients.Way {
	protos := map[string]wire.Proto{"dot": wire.DoT, "doq": wire.DoQ, "h2": wire.DoH, "h3": wire.DoH3}
	return slices.DeleteFunc(clients.Ways(), func(w clients.Way) bool { return w.Proto != protos[id] || w.Clear })
}

// use connects as s has it and asks there. It verifies what it is shown as RFC
// 9462 §4.2 wants it: up to an authority, and for the address of the resolver that
// was asked, wherever it connects to.
func (c *ddrClient) use(t *testing.T, s *dns.SVCB, extra []dns.RR, name string, opportunistic bool) (list []found, err error) {
	t.Helper()
	port := uint16(853)
	var ids []string
	var addresses []netip.Addr
	path := ""
	for _, kv := range s.Value {
		switch v := kv.(type) {
		case *dns.SVCBAlpn:
			ids = v.Alpn
		case *dns.SVCBPort:
			port = v.Port
		case *dns.SVCBIPv4Hint:
			for _, ip := range v.Hint {
				a, _ := netip.AddrFromSlice(ip.To4())
				addresses = append(addresses, a)
			}
		case *dns.SVCBIPv6Hint:
			for _, ip := range v.Hint {
				a, _ := netip.AddrFromSlice(ip)
				addresses = append(addresses, a)
			}
		case *dns.SVCBDoHPath:
			path = v.Template
		}
	}
	if !slices.ContainsFunc(s.Value, func(kv dns.SVCBKeyValue) bool { return kv.Key() == dns.SVCB_PORT }) && slices.Contains(ids, "h2") {
		port = 443
	}
	if http := slices.Contains(ids, "h2") || slices.Contains(ids, "h3"); http != (path == clients.Path+"{?dns}") {
		t.Errorf("the path %q: %v", path, s)
	}
	for _, rr := range extra { // they have to say the same
		a, ok := rr.(*dns.A)
		if ok && a.Hdr.Name == s.Target && !slices.Contains(addresses, netip.AddrFrom4([4]byte(a.A.To4()))) {
			t.Errorf("%v is not among the hints of %v", a, s)
		}
	}
	for _, a := range addresses {
		if opportunistic && a != c.asked.Addr() { // RFC 9462 §4.3
			return nil, errUnverified
		}
		for _, id := range ids {
			for _, w := range waysOf(id) {
				answer, err := c.ask(t, w, netip.AddrPortFrom(a, port), name, opportunistic)
				if err != nil {
					return nil, fmt.Errorf("%s at %v: %w", w.Name, a, err)
				}
				list = append(list, found{w, netip.AddrPortFrom(a, port), answer})
			}
		}
	}
	return list, nil
}

// ask asks for the name by w.
func (c *ddrClient) ask(t *testing.T, w clients.Way, at netip.AddrPort, name string, opportunistic bool) (*dns.Msg, error) {
	t.Helper()
	conf := &tls.Config{
		RootCAs: c.trusts, MinVersion: tls.VersionTLS12, InsecureSkipVerify: true, // VerifyConnection does it
		VerifyConnection: func(state tls.ConnectionState) error {
			if opportunistic {
				return nil
			}
			between := x509.NewCertPool()
			for _, cert := range state.PeerCertificates[1:] {
				between.AddCert(cert)
			}
			leaf := state.PeerCertificates[0]
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: c.trusts, Intermediates: between}); err != nil {
				return errors.Join(errUnverified, err)
			}
			if !slices.ContainsFunc(leaf.IPAddresses, func(ip net.IP) bool { return ip.Equal(c.asked.Addr().AsSlice()) }) {
				return fmt.Errorf("%w: not for %v", errUnverified, c.asked.Addr())
			}
			return nil
		},
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	conn, err := w.Dial(ctx, netip.MustParseAddr("127.0.0.1"), at, conf)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	raw, err := new(dns.Msg).SetQuestion(name, dns.TypeA).Pack()
	if err != nil {
		return nil, err
	}
	out, err := conn.Ask(ctx, raw)
	if err != nil {
		return nil, err
	}
	m := new(dns.Msg)
	return m, m.Unpack(out)
}

// replace has the server use another certificate.
func (s *everywhere) replace(t *testing.T, l ca.Leaf) {
	t.Helper()
	taken := s.Stats().TLS.Certificates.Taken
	i, err := s.authority.Issue(l)
	if err == nil {
		_, _, err = i.Write(s.dir, "tls")
	}
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); s.Stats().TLS.Certificates.Taken == taken; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the new certificate is not taken up")
		}
	}
}

// TestClientsUpgradeToWhatIsAdvertised has a client find the server's encrypted
// transports by its address alone, and use each of them, while the certificate is
// replaced by good ones and bad ones.
func TestClientsUpgradeToWhatIsAdvertised(t *testing.T) {
	t.Parallel() // it waits more than it works
	s := serveEverywhere(t, func(cfg *config.Config) {
		cfg.Discovery.DDR.Ports = config.DDRPorts{} // those that are listened to
	})
	here := netip.MustParseAddr("127.0.0.1")
	c := &ddrClient{trusts: s.authority.Pool(), asked: netip.AddrPortFrom(here, s.dns)}
	upgrade := func(what string) {
		t.Helper()
		records, extra := c.designations(t)
		if len(records) != 3 {
			t.Fatalf("%s: found %v", what, records)
		}
		seen := make(map[wire.Proto]bool)
		for _, r := range records {
			list, err := c.use(t, r, extra, "www.example.com.", false)
			if err != nil {
				t.Fatalf("%s: %v: %v", what, r, err)
			}
			for _, f := range list {
				seen[f.way.Proto] = true
				if f.answer.Rcode != dns.RcodeSuccess || len(f.answer.Answer) == 0 {
					t.Errorf("%s: %s: %v", what, f.way.Name, f.answer)
				}
			}
		}
		for _, proto := range []wire.Proto{wire.DoT, wire.DoH, wire.DoH3, wire.DoQ} {
			if !seen[proto] {
				t.Errorf("%s: %v was not found", what, proto)
			}
		}
	}
	nothing := func(what string, reason string) {
		t.Helper()
		records, _ := c.designations(t)
		if len(records) != 0 {
			t.Errorf("%s: clients are sent where they can verify nobody: %v", what, records)
		}
		counted := s.counters()["discovery"].(map[string]any)["omitted"].(map[string]any)
		for _, proto := range []string{"dot", "doh", "doh3", "doq"} {
			if n := counted[proto].(map[string]any)[reason].(uint64); n == 0 {
				t.Errorf("%s: %s is not counted for %s: %v", what, reason, proto, counted)
			}
		}
	}

	upgrade("its first certificate")
	s.replace(t, ca.Leaf{Names: []string{"dns.example"}})
	nothing("a name only", "address_not_in_certificate")
	s.replace(t, ca.Leaf{Names: []string{"dns.example"}, Addrs: []netip.Addr{here, netip.IPv6Loopback()}})
	upgrade("more addresses")
	s.replace(t, ca.Leaf{Names: []string{"www.example"}, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.80")}})
	nothing("another server's", "address_not_in_certificate")
	s.replace(t, ca.Leaf{Addrs: []netip.Addr{here}})
	nothing("no name", "no_name")
	// One that ends soon is taken up, and advertised only until it does.
	s.replace(t, ca.Leaf{Names: []string{"dns.example"}, Addrs: []netip.Addr{here}, Life: time.Minute + 6*time.Second}) // it begins a minute ago
	for end := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		if records, _ := c.designations(t); len(records) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("an expired certificate is advertised")
		}
	}
	nothing("an expired one", "out_of_time")
	s.replace(t, ca.Leaf{Names: []string{"dns.example"}, Addrs: []netip.Addr{here}})
	upgrade("the right one again")
}

// TestClientsThatWantNoProofAreTold is RFC 9462 §4.3.
func TestClientsThatWantNoProofAreTold(t *testing.T) {
	t.Parallel() // it waits more than it works
	s := serveEverywhere(t, func(cfg *config.Config) {
		cfg.Discovery.DDR.Opportunistic = true
		cfg.Discovery.DDR.Preference = []config.Encrypted{config.Encrypted(config.ProtocolDoT), config.Encrypted(config.ProtocolDoQ)}
	})
	s.replace(t, ca.Leaf{Names: []string{"dns.example"}})
	c := &ddrClient{trusts: s.authority.Pool(), asked: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), s.dns)}
	records, extra := c.designations(t)
	if len(records) != 2 {
		t.Fatalf("found %v", records)
	}
	for _, r := range records {
		if _, err := c.use(t, r, extra, "www.example.com.", false); !errors.Is(err, errUnverified) {
			t.Errorf("a client that wants proof: %v", err)
		}
		if list, err := c.use(t, r, extra, "www.example.com.", true); err != nil || len(list) == 0 {
			t.Errorf("one that wants none: %v", err)
		}
	}
}

// TestEveryTransportSaysWhoTheServerIs asks for the same on all of them.
func TestEveryTransportSaysWhoTheServerIs(t *testing.T) {
	s := serveEverywhere(t, func(cfg *config.Config) {
		cfg.Identity.ID = "tokyo-1"
		cfg.Discovery.Name = wire.MustParseName("dns.example.")
		cfg.Provisioning.HB46PP = []config.HB46PP{{Name: "here", Clients: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, URL: "http://isp.example/", TTL: time.Hour}}
	})
	for _, w := range clients.Ways() {
		t.Run(strings.ReplaceAll(w.Name, " ", "-"), func(t *testing.T) {
			conn := s.dial(t, w, "127.0.0.1")
			for _, tt := range []struct {
				name  string
				typ   uint16
				class uint16
				found int
			}{
				{"_dns.resolver.arpa.", dns.TypeSVCB, dns.ClassINET, 3},
				{"_dns.dns.example.", dns.TypeSVCB, dns.ClassINET, 3},
				{"_dns.resolver.arpa.", dns.TypeA, dns.ClassINET, 0},
				{"resolver.arpa.", dns.TypeRESINFO, dns.ClassINET, 1},
				{"4over6.info.", dns.TypeTXT, dns.ClassINET, 1},
				{"id.server.", dns.TypeTXT, dns.ClassCHAOS, 1},
			} {
				for _, rd := range []bool{true, false} {
					q := new(dns.Msg).SetQuestion(tt.name, tt.typ)
					q.RecursionDesired, q.Question[0].Qclass = rd, tt.class
					raw, err := q.Pack()
					if err != nil {
						t.Fatal(err)
					}
					m, _ := askWay(t, conn, raw, 10*time.Second)
					if m == nil || m.Rcode != dns.RcodeSuccess || !m.Authoritative || m.AuthenticatedData || len(m.Answer) != tt.found {
						t.Errorf("%s, RD %v: %v", tt.name, rd, m)
					}
				}
			}
		})
	}
	if asked := s.Stats().Resolver.Resolutions; asked != 0 {
		t.Errorf("%d of these were resolved", asked)
	}
}

// TestReloadChangesWhatIsAdvertised has listeners come and go.
func TestReloadChangesWhatIsAdvertised(t *testing.T) {
	s := serveEverywhere(t, nil)
	c := &ddrClient{trusts: s.authority.Pool(), asked: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), s.dns)}
	cfg := *s.cfg()
	all := cfg.Listen
	for _, step := range []struct {
		what   string
		change func()
		want   int
	}{
		{"as it was", func() {}, 3},
		{"without DoT and DoQ", func() {
			cfg.Listen = slices.DeleteFunc(slices.Clone(all), func(l config.Listener) bool { return slices.Contains(l.Protocols, config.ProtocolDoT) })
		}, 1},
		{"with all again", func() { cfg.Listen = all }, 3},
		{"without DoH", func() { cfg.Discovery.DDR.Preference = []config.Encrypted{config.Encrypted(config.ProtocolDoT)} }, 1},
		{"switched off", func() { cfg.Discovery.DDR.Enabled = false }, 0},
	} {
		step.change()
		next := cfg
		s.Load = func() (config.Config, error) { return next, nil }
		if _, err := s.Reload(t.Context()); err != nil {
			t.Fatalf("%s: %v", step.what, err)
		}
		if records, _ := c.designations(t); len(records) != step.want {
			t.Errorf("%s: %d designations, want %d: %v", step.what, len(records), step.want, records)
		}
	}
}
