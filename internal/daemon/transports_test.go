package daemon

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/config"
	"shirube/internal/lab/ca"
	"shirube/internal/porttest"
	"shirube/internal/simnet"
	"shirube/internal/wire"
	"shirube/transport/clients"
)

// everywhere is a server on all transports, in a signed world of its own.
type everywhere struct {
	*Daemon

	authority *ca.Authority
	dir       string // where its certificate is
	dns, tls  uint16 // the ports without and with TLS
	web, gate uint16 // those of DoH, with and without TLS
}

// serveEverywhere starts one, after change.
func serveEverywhere(t *testing.T, change func(*config.Config)) *everywhere {
	t.Helper()
	s := &everywhere{dir: t.TempDir(), dns: porttest.Take(t), tls: porttest.Take(t), web: porttest.Take(t), gate: porttest.Take(t)}
	var err error
	if s.authority, err = ca.New("Authority of this test"); err != nil {
		t.Fatal(err)
	}
	cert, key := s.issue(t)
	cfg := scenarioConfig(t)
	cfg.DNSSEC.Validation, cfg.DNSSEC.RootTrustAnchor, cfg.DNSSEC.AutoTrustAnchor = true, false, false
	cfg.DNSSEC.TrustAnchors = []config.TrustAnchor{config.TrustAnchor(simnet.NewKey(".", simnet.KeyOptions{}).Record().ToDS(dns.SHA256).String())}
	cfg.TLS.Certificates = []config.Certificate{{CertFile: cert, KeyFile: key}}
	at := func(port uint16, protocols ...config.Protocol) config.Listener {
		return config.Listener{Address: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), Protocols: protocols}
	}
	cfg.Listen = []config.Listener{
		at(s.dns, config.ProtocolUDP, config.ProtocolTCP), at(s.tls, config.ProtocolDoT, config.ProtocolDoQ),
		at(s.web, config.ProtocolDoH, config.ProtocolDoH3), at(s.gate, config.ProtocolDoHCleartext),
	}
	for action, addr := range accessClients {
		if action != "" {
			cfg.AccessControl = append(cfg.AccessControl, config.AccessRule{Prefix: netip.PrefixFrom(netip.MustParseAddr(addr), 32), Action: action})
		}
	}
	if change != nil {
		change(&cfg)
	}
	log := slog.New(slog.DiscardHandler)
	if s.Daemon, err = New(cfg, log); err != nil {
		t.Fatal(err)
	}
	world := simnet.New()
	signedWorld(world)
	siteWithDS(simnet.Signing{}, simnet.NewKey("site.com.", simnet.KeyOptions{Label: "another"}).DS())(world) // bogus
	world.ServeSigned(exampleCom, "example.com.", strings.ReplaceAll(siteText, "@", "example.com.")+
		"big.example.com. 300 TXT "+strings.Repeat(`"`+strings.Repeat("x", 250)+`" `, 16)+"\n", simnet.Signing{})
	p, err := NewPipeline(cfg, world, log)
	if err != nil {
		t.Fatal(err)
	}
	s.Pipeline().Frontend.Close() // which asks the Internet
	p.current = s.current
	p.takeOver()
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

// issue writes a new certificate for the server.
func (s *everywhere) issue(t *testing.T) (cert, key string) {
	t.Helper()
	i, err := s.authority.Issue(ca.Leaf{Names: []string{"dns.example"}, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}})
	if err == nil {
		cert, key, err = i.Write(s.dir, "tls")
	}
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// port returns the port for w.
func (s *everywhere) port(w clients.Way) uint16 {
	switch {
	case w.Clear:
		return s.gate
	case w.Proto == wire.UDP || w.Proto == wire.TCP:
		return s.dns
	case w.Proto == wire.DoT || w.Proto == wire.DoQ:
		return s.tls
	}
	return s.web
}

// dial connects by w from an address.
func (s *everywhere) dial(t *testing.T, w clients.Way, from string) clients.Asker {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, err := w.Dial(ctx, netip.MustParseAddr(from), netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), s.port(w)),
		&tls.Config{RootCAs: s.authority.Pool(), MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatalf("%s from %s: %v", w.Name, from, err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// ask sends a message, and returns the answer; nil if there is none.
func askWay(t *testing.T, c clients.Asker, msg []byte, patience time.Duration) (*dns.Msg, []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	raw, err := c.Ask(ctx, msg)
	if err != nil {
		return nil, nil
	}
	m := new(dns.Msg)
	if err := m.Unpack(raw); err != nil {
		t.Fatalf("%x: %v", raw, err)
	}
	return m, raw
}

// TestEveryTransportAnswersAlike asks one table of questions over all transports.
func TestEveryTransportAnswersAlike(t *testing.T) {
	s := serveEverywhere(t, nil)
	type want struct {
		rcode, answers int
		ad             bool
		sigs           bool
		ede            uint16 // plus 1; 0: none
		big            bool   // TC over UDP
		padded         bool   // on encrypted transports
		silent         bool
	}
	for _, w := range clients.Ways() {
		t.Run(w.Name, func(t *testing.T) {
			unique := strings.ToLower(strings.NewReplacer(" ", "-", "/", "-", ".", "-").Replace(w.Name))
			c := s.dial(t, w, "127.0.0.11")
			for _, q := range []struct {
				what, name string
				typ        uint16
				edit       func(m *dns.Msg)
				raw        func(msg []byte) []byte
				from       string
				want       want
			}{
				{what: "a miss", name: unique + ".wild.example.com.", typ: dns.TypeTXT, want: want{answers: 1}},
				{what: "the same, a hit", name: unique + ".wild.example.com.", typ: dns.TypeTXT, want: want{answers: 1}},
				{what: "AD is asked for", name: "www.example.com.", typ: dns.TypeA, edit: func(m *dns.Msg) { m.AuthenticatedData = true }, want: want{answers: 1, ad: true}},
				{what: "DNSSEC", name: "www.example.com.", typ: dns.TypeA, edit: func(m *dns.Msg) { m.IsEdns0().SetDo() }, want: want{answers: 2, ad: true, sigs: true}},
				{what: "no such name", name: "nosuch-" + unique + ".example.com.", typ: dns.TypeA, want: want{rcode: dns.RcodeNameError}},
				{what: "no such type", name: "www.example.com.", typ: dns.TypeMX, want: want{}},
				{what: "another class", name: "www.example.com.", typ: dns.TypeA, edit: func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }, want: want{rcode: dns.RcodeRefused, ede: 1 + dns.ExtendedErrorCodeNotSupported}},
				{what: "a failure", name: "www.site.com.", typ: dns.TypeA, want: want{rcode: dns.RcodeServerFailure, ede: 1 + dns.ExtendedErrorCodeDNSKEYMissing}},
				{what: "a big answer", name: "big.example.com.", typ: dns.TypeTXT, want: want{answers: 1, big: true}},
				{what: "padding", name: "www.example.com.", typ: dns.TypeA, edit: func(m *dns.Msg) {
					m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_PADDING{Padding: make([]byte, 20)})
				}, want: want{answers: 1, padded: true}},
				{what: "two questions", name: "www.example.com.", typ: dns.TypeA, raw: func(msg []byte) []byte { msg[5] = 2; return msg }, want: want{rcode: dns.RcodeFormatError}},
				{what: "cut off", name: "www.example.com.", typ: dns.TypeA, raw: func(msg []byte) []byte { return msg[:20] }, want: want{rcode: dns.RcodeFormatError}},
				{what: "an update", name: "www.example.com.", typ: dns.TypeSOA, raw: func(msg []byte) []byte { msg[2] |= 5 << 3; return msg }, want: want{rcode: dns.RcodeNotImplemented}},
				{what: "who is refused", name: "www.example.com.", typ: dns.TypeA, from: "127.0.0.13", want: want{rcode: dns.RcodeRefused, ede: 1 + dns.ExtendedErrorCodeProhibited}},
				{what: "who is denied", name: "www.example.com.", typ: dns.TypeA, from: "127.0.0.14", want: want{silent: true}},
			} {
				m := new(dns.Msg).SetQuestion(q.name, q.typ)
				m.SetEdns0(1232, false)
				if q.edit != nil {
					q.edit(m)
				}
				msg, err := m.Pack()
				if err != nil {
					t.Fatal(err)
				}
				if q.raw != nil {
					msg = q.raw(msg)
				}
				asker, patience := c, 30*time.Second
				if q.from != "" {
					asker = s.dial(t, w, q.from)
				}
				if q.want.silent {
					patience = 200 * time.Millisecond
				}
				rsp, raw := askWay(t, asker, msg, patience)
				if (rsp == nil) != q.want.silent {
					t.Errorf("%s: answered %v", q.what, rsp != nil)
				}
				if rsp == nil {
					continue
				}
				cut := q.want.big && w.Proto == wire.UDP
				answers := q.want.answers
				if cut {
					answers = 0
				}
				padded := q.want.padded && w.Proto.Encrypted()
				if rsp.Id != m.Id || rsp.Rcode != q.want.rcode || rsp.Truncated != cut || len(rsp.Answer) != answers ||
					rsp.AuthenticatedData != q.want.ad || hasSig(rsp) != q.want.sigs || edeCode(rsp) != q.want.ede || padded != (len(raw)%wire.PaddingBlock == 0) {
					t.Errorf("%s: %d octets, want %+v\n%v", q.what, len(raw), q.want, rsp)
				}
			}
		})
	}
	st := s.Stats()
	for _, n := range []struct {
		name     string
		received uint64
	}{
		{"UDP", st.UDP.Received}, {"TCP", st.TCP.Received}, {"DoT", st.DoT.Received}, {"DoH", st.DoH.Received}, {"DoH3", st.DoH3.Received}, {"DoQ", st.DoQ.Received},
	} {
		if n.received < 14 {
			t.Errorf("%s has received %d messages", n.name, n.received)
		}
	}
}

func hasSig(m *dns.Msg) bool {
	for _, rr := range m.Answer {
		if rr.Header().Rrtype == dns.TypeRRSIG {
			return true
		}
	}
	return false
}

// edeCode returns the code of m's Extended DNS Error plus 1; 0: there is none.
func edeCode(m *dns.Msg) uint16 {
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if e, ok := o.(*dns.EDNS0_EDE); ok {
				return e.InfoCode + 1
			}
		}
	}
	return 0
}

// TestCookiesAreIgnoredWhereTheyAreOfNoUse sends good and bad ones over encrypted
// transports.
func TestCookiesAreIgnoredWhereTheyAreOfNoUse(t *testing.T) {
	s := serveEverywhere(t, nil)
	for _, w := range clients.Ways() {
		if !w.Proto.Encrypted() {
			continue
		}
		for _, from := range []string{"127.0.0.11", "127.0.0.16"} { // allow, allow_cookie
			c := s.dial(t, w, from)
			for _, cookie := range []string{"0123456789abcdef", "0123456789abcdef0123456789abcdef", "01"} {
				m := new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA)
				m.SetEdns0(1232, false)
				m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: cookie}}
				msg, err := m.Pack()
				if err != nil {
					t.Fatal(err)
				}
				rsp, _ := askWay(t, c, msg, 10*time.Second)
				if rsp == nil || rsp.Rcode != dns.RcodeSuccess || len(rsp.Answer) != 1 || len(rsp.IsEdns0().Option) != 0 {
					t.Errorf("%s, cookie %s: %v", w.Name, cookie, rsp)
				}
			}
		}
	}
}

// TestCertificatesAreReplacedUnderQueries replaces the certificate a hundred times
// while clients ask over connections that they keep, and over new ones, each time
// some: no query fails.
func TestCertificatesAreReplacedUnderQueries(t *testing.T) {
	s := serveEverywhere(t, func(cfg *config.Config) { cfg.Limits.TLSHandshakesPerClient = 0 })
	msg, err := new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	var asking sync.WaitGroup
	var done atomic.Bool
	var asked atomic.Uint64
	for _, w := range clients.Ways() {
		if !w.Proto.Encrypted() || w.Clear || strings.Contains(w.Name, "GET") {
			continue
		}
		stays := s.dial(t, w, "127.0.0.11")
		asking.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			for !done.Load() {
				c, err := w.Dial(ctx, netip.MustParseAddr("127.0.0.11"), netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), s.port(w)),
					&tls.Config{RootCAs: s.authority.Pool(), MinVersion: tls.VersionTLS12})
				if err == nil {
					_, err = c.Ask(ctx, msg)
					_ = c.Close()
				}
				if err == nil {
					_, err = stays.Ask(ctx, msg)
				}
				if err != nil {
					t.Errorf("%s: %v", w.Name, err)
					return
				}
				asked.Add(2)
			}
		})
	}
	begin := s.Stats().TLS.Certificates.Taken
	const replacements = 100
	end := time.Now().Add(90 * time.Second)
	for i := range uint64(replacements) {
		before := asked.Load()
		s.issue(t)
		for (s.Stats().TLS.Certificates.Taken <= begin+i || asked.Load() == before) && time.Now().Before(end) && !t.Failed() {
			s.secure.certs.Look() // not only each second
			time.Sleep(time.Millisecond)
		}
	}
	done.Store(true)
	asking.Wait()
	if st := s.Stats().TLS; st.Certificates.Taken < begin+replacements || st.Certificates.Failing != 0 || asked.Load() < replacements {
		t.Errorf("%d queries, %+v", asked.Load(), st)
	}
}

// TestListenersForEncryptedClientsComeAndGo reloads a server that listens for none
// at first, then for all, then for none.
func TestListenersForEncryptedClientsComeAndGo(t *testing.T) {
	var all, plain []config.Listener
	s := serveEverywhere(t, func(cfg *config.Config) {
		all, plain = cfg.Listen, cfg.Listen[:1]
		cfg.Listen = plain
	})
	for i, listen := range [][]config.Listener{all, plain, all} {
		cfg := s.Pipeline().Config
		cfg.Listen = listen
		s.Load = func() (config.Config, error) { return cfg, nil }
		if _, err := s.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, w := range clients.Ways() {
			if !w.Proto.Encrypted() {
				continue
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			c, err := w.Dial(ctx, netip.MustParseAddr("127.0.0.11"), netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), s.port(w)),
				&tls.Config{RootCAs: s.authority.Pool(), MinVersion: tls.VersionTLS12})
			if err == nil {
				var msg []byte
				if msg, err = new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA).Pack(); err == nil {
					_, err = c.Ask(ctx, msg)
				}
				_ = c.Close()
			}
			cancel()
			if (err == nil) != (len(listen) > 1) {
				t.Errorf("reload %d, %s: %v", i, w.Name, err)
			}
		}
	}
}

func TestBadCertificatesKeepTheServerFromStarting(t *testing.T) {
	cfg := scenarioConfig(t)
	file := t.TempDir() + "/tls.pem"
	if err := os.WriteFile(file, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg.TLS.Certificates = []config.Certificate{{CertFile: file, KeyFile: file}}
	if _, err := New(cfg, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("tls: %s", file)) {
		t.Errorf("got %v", err)
	}
}
