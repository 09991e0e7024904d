package discovery

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/lab/ca"
	"shirube/internal/wire"
)

// fake is a server whose listeners and certificates a test makes up.
type fake struct {
	version   uint64
	listeners []Listener
	unnamed   func(netip.Addr) *x509.Certificate
	named     *x509.Certificate // nil: as unnamed
}

func (f *fake) live() Live {
	return Live{
		Version:   func() uint64 { return f.version },
		Listeners: func() []Listener { return f.listeners },
		Certificate: func(local netip.Addr, server string) *x509.Certificate {
			if server != "" && f.named != nil {
				return f.named
			}
			return f.unnamed(local)
		},
	}
}

// shows has f show everybody the same.
func (f *fake) shows(c *x509.Certificate) *fake {
	f.unnamed = func(netip.Addr) *x509.Certificate { return c }
	f.version++
	return f
}

func addrs(list ...string) (out []netip.Addr) {
	for _, a := range list {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// certificate issues one.
func certificate(t *testing.T, l ca.Leaf) *x509.Certificate {
	t.Helper()
	a, err := ca.New("Authority of this test")
	if err != nil {
		t.Fatal(err)
	}
	i, err := a.Issue(l)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(i.Certificate)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// everything listens to all transports on the usual ports of each address.
func everything(at ...string) (list []Listener) {
	for _, a := range addrs(at...) {
		for proto, port := range map[wire.Proto]uint16{wire.UDP: 53, wire.TCP: 53, wire.DoT: 853, wire.DoQ: 853, wire.DoH: 443, wire.DoH3: 443} {
			list = append(list, Listener{netip.AddrPortFrom(a, port), proto})
		}
	}
	return list
}

// preference is the default one.
var preference = []wire.Proto{wire.DoH3, wire.DoH, wire.DoT, wire.DoQ}

func ddr(f *fake) DDR {
	return DDR{Enabled: true, Preference: preference, Path: "/dns-query", Live: f.live()}
}

func directory(t *testing.T, o Options) *Directory {
	t.Helper()
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// ask asks d at an address, and returns the answer as a message.
func ask(t *testing.T, d *Directory, at, name string, typ uint16, now time.Time) *dns.Msg {
	t.Helper()
	q := queryAt(t, at, name, typ)
	folded := wire.AppendFolded(nil, q.RawName())
	s, outcome := d.Find(folded, q, now)
	switch outcome {
	case NotOurs:
		return nil
	case Later:
		first := d.Say(folded, q, now)
		if s, outcome = d.Find(folded, q, now); outcome != Said || !bytes.Equal(s.Answer, first.Answer) || s.Zone != first.Zone {
			t.Fatalf("%s: worked out, and not remembered: %v, %v", name, outcome, s)
		}
	}
	return message(t, q, &s)
}

func queryAt(t *testing.T, at, name string, typ uint16) *wire.Query {
	t.Helper()
	raw, err := new(dns.Msg).SetQuestion(name, typ).Pack()
	if err != nil {
		t.Fatal(err)
	}
	q := &wire.Query{Client: netip.MustParseAddrPort("127.0.0.1:4000")}
	if at != "" {
		q.Local = netip.AddrPortFrom(netip.MustParseAddr(at), 53)
	}
	if q.Parse(raw) != wire.OK {
		t.Fatal("a query that is none")
	}
	return q
}

// message puts s behind the question, as a frontend does.
func message(t *testing.T, q *wire.Query, s *Saying) *dns.Msg {
	t.Helper()
	b := wire.AppendReply(nil, q, s.Rcode)
	b[7], b[11] = byte(s.Answers), byte(s.Additionals)
	b = append(b, s.Answer...)
	if s.SOA != nil {
		b[9] = 1
		soa := bytes.Clone(s.SOA)
		soa[1] = byte(wire.HeaderLen + s.Zone)
		b = append(b, soa...)
	}
	m := new(dns.Msg)
	if err := m.Unpack(append(b, s.Additional...)); err != nil {
		t.Fatalf("%x: %v", b, err)
	}
	return m
}

// lines are records without what they have in common.
func lines(rrs []dns.RR) (out []string) {
	for _, rr := range rrs {
		text := strings.ReplaceAll(strings.Join(strings.Fields(rr.String()), " "), fmt.Sprintf(" %d IN ", TTL), " ")
		out = append(out, strings.ReplaceAll(strings.TrimPrefix(text, "_dns.resolver.arpa. SVCB "), `"`, ""))
	}
	return out
}

const name = "dns.isp.example"

func TestDesignationsAreWhatCertificatesProve(t *testing.T) {
	now := time.Now()
	good := ca.Leaf{Names: []string{name}, Addrs: addrs("192.0.2.53", "2001:db8::53")}
	other := ca.Leaf{Names: []string{"www.isp.example"}, Addrs: addrs("192.0.2.80")}
	v4, v6 := "192.0.2.53", "2001:db8::53"
	for _, tt := range []struct {
		what  string
		leaf  ca.Leaf
		asked string
		ddr   func(*DDR)
		fake  func(*fake)
		want  []string // the SVCB records
		extra []string // the addresses
		why   Reason   // without any
	}{
		{
			what: "address and name", leaf: good, asked: v4,
			want: []string{
				"1 dns.isp.example. alpn=h3,h2 ipv4hint=192.0.2.53 dohpath=/dns-query{?dns}",
				"2 dns.isp.example. alpn=dot ipv4hint=192.0.2.53", "3 dns.isp.example. alpn=doq ipv4hint=192.0.2.53",
			},
			extra: []string{"dns.isp.example. A 192.0.2.53"},
		},
		{
			what: "IPv6", leaf: good, asked: v6, ddr: func(o *DDR) { o.Preference = []wire.Proto{wire.DoT} },
			want: []string{"1 dns.isp.example. alpn=dot ipv6hint=2001:db8::53"}, extra: []string{"dns.isp.example. AAAA 2001:db8::53"},
		},
		{
			what: "IPv4 as IPv6", leaf: good, asked: "::ffff:192.0.2.53", ddr: func(o *DDR) { o.Preference = []wire.Proto{wire.DoT} },
			want: []string{"1 dns.isp.example. alpn=dot ipv4hint=192.0.2.53"}, extra: []string{"dns.isp.example. A 192.0.2.53"},
		},
		{
			what: "other ports", leaf: good, asked: v4,
			fake: func(f *fake) {
				for i, l := range f.listeners {
					f.listeners[i].At = netip.AddrPortFrom(l.At.Addr(), l.At.Port()+8000)
				}
			},
			want: []string{
				"1 dns.isp.example. alpn=h3,h2 port=8443 ipv4hint=192.0.2.53 dohpath=/dns-query{?dns}",
				"2 dns.isp.example. alpn=dot port=8853 ipv4hint=192.0.2.53", "3 dns.isp.example. alpn=doq port=8853 ipv4hint=192.0.2.53",
			},
			extra: []string{"dns.isp.example. A 192.0.2.53"},
		},
		{
			what: "ports that a load balancer changes", leaf: good, asked: v4,
			ddr: func(o *DDR) {
				o.Preference = []wire.Proto{wire.DoQ, wire.DoH, wire.DoT}
				o.Ports = [wire.NumProtos]uint16{wire.DoT: 53853, wire.DoH: 443}
			},
			fake: func(f *fake) {
				for i, l := range f.listeners {
					f.listeners[i].At = netip.AddrPortFrom(l.At.Addr(), l.At.Port()+8000)
				}
			},
			want: []string{
				"1 dns.isp.example. alpn=doq port=8853 ipv4hint=192.0.2.53",
				"2 dns.isp.example. alpn=h2 ipv4hint=192.0.2.53 dohpath=/dns-query{?dns}",
				"3 dns.isp.example. alpn=dot port=53853 ipv4hint=192.0.2.53",
			},
			extra: []string{"dns.isp.example. A 192.0.2.53"},
		},
		{
			what: "HTTP/3 on a port of its own", leaf: good, asked: v4, ddr: func(o *DDR) { o.Preference = preference[:2]; o.Ports[wire.DoH3] = 8443 },
			want: []string{
				"1 dns.isp.example. alpn=h3 port=8443 ipv4hint=192.0.2.53 dohpath=/dns-query{?dns}",
				"2 dns.isp.example. alpn=h2 ipv4hint=192.0.2.53 dohpath=/dns-query{?dns}",
			},
			extra: []string{"dns.isp.example. A 192.0.2.53"},
		},
		{
			what: "all addresses listened to", leaf: good, asked: v4, fake: func(f *fake) { f.listeners = everything("0.0.0.0", "::") },
			ddr:  func(o *DDR) { o.Preference = []wire.Proto{wire.DoQ} },
			want: []string{"1 dns.isp.example. alpn=doq ipv4hint=192.0.2.53"}, extra: []string{"dns.isp.example. A 192.0.2.53"},
		},
		{what: "all of the other family listened to", leaf: good, asked: v4, fake: func(f *fake) {
			f.listeners = append(everything("::"), Listener{netip.MustParseAddrPort("0.0.0.0:53"), wire.UDP})
		}, why: NotListening},
		{what: "name only", leaf: ca.Leaf{Names: []string{name}}, asked: v4, why: AddressUnproven},
		{what: "another address", leaf: good, asked: "198.51.100.1", fake: func(f *fake) { f.listeners = everything("0.0.0.0") }, why: AddressUnproven},
		{what: "another server's", leaf: other, asked: v4, why: AddressUnproven},
		{what: "address only", leaf: ca.Leaf{Addrs: good.Addrs}, asked: v4, why: NoName},
		{what: "a wildcard only", leaf: ca.Leaf{Names: []string{"*.isp.example"}, Addrs: good.Addrs}, asked: v4, why: NoName},
		{
			what: "address, and a name configured", leaf: ca.Leaf{Addrs: good.Addrs}, asked: v4,
			ddr:  func(o *DDR) { o.Name, o.Preference = wire.MustParseName("here.example."), []wire.Proto{wire.DoT} },
			want: []string{"1 here.example. alpn=dot ipv4hint=192.0.2.53"}, extra: []string{"here.example. A 192.0.2.53"},
		},
		{what: "expired", leaf: ca.Leaf{Names: good.Names, Addrs: good.Addrs, From: now.Add(-2 * time.Hour), Life: time.Hour}, asked: v4, why: OutOfTime},
		{what: "not good yet", leaf: ca.Leaf{Names: good.Names, Addrs: good.Addrs, From: now.Add(time.Hour)}, asked: v4, why: OutOfTime},
		{what: "none", leaf: good, asked: v4, fake: func(f *fake) { f.shows(nil) }, why: NoCertificate},
		{what: "who names the server sees another", leaf: good, asked: v4, fake: func(f *fake) { f.named = certificate(t, other) }, why: AddressUnproven},
		{what: "nobody knows the address", leaf: good, why: UnknownAddress},
		{
			what: "behind a load balancer that changes addresses", leaf: good, asked: "10.0.0.5",
			ddr:  func(o *DDR) { o.Addresses, o.Preference = good.Addrs, []wire.Proto{wire.DoT} },
			fake: func(f *fake) { f.listeners = everything("10.0.0.5") },
			want: []string{"1 dns.isp.example. alpn=dot ipv4hint=192.0.2.53 ipv6hint=2001:db8::53"}, extra: []string{"dns.isp.example. A 192.0.2.53", "dns.isp.example. AAAA 2001:db8::53"},
		},
		{
			what: "behind one of IPv4 alone", leaf: ca.Leaf{Names: good.Names, Addrs: addrs(v4)}, asked: "10.0.0.5",
			ddr:  func(o *DDR) { o.Addresses, o.Preference = addrs(v4), []wire.Proto{wire.DoT} },
			fake: func(f *fake) { f.listeners = everything("10.0.0.5") },
			want: []string{"1 dns.isp.example. alpn=dot ipv4hint=192.0.2.53"}, extra: []string{"dns.isp.example. A 192.0.2.53"},
		},
		{
			what: "behind one with an address that the certificate has not", leaf: good, asked: "10.0.0.5",
			ddr:  func(o *DDR) { o.Addresses = addrs(v4, "192.0.2.54") },
			fake: func(f *fake) { f.listeners = everything("10.0.0.5") }, why: AddressUnproven,
		},
		{
			what: "behind one that does not tell", leaf: good,
			ddr:  func(o *DDR) { o.Addresses, o.Preference = good.Addrs, []wire.Proto{wire.DoT} },
			want: []string{"1 dns.isp.example. alpn=dot ipv4hint=192.0.2.53 ipv6hint=2001:db8::53"}, extra: []string{"dns.isp.example. A 192.0.2.53", "dns.isp.example. AAAA 2001:db8::53"},
		},
		{
			what: "the PROXY protocol tells an address of somebody else", leaf: good, asked: v4,
			ddr:  func(o *DDR) { o.Preference = []wire.Proto{wire.DoT} },
			fake: func(f *fake) { f.listeners = everything("10.0.0.5", "127.0.0.1") },
			want: []string{"1 dns.isp.example. alpn=dot ipv4hint=192.0.2.53"}, extra: []string{"dns.isp.example. A 192.0.2.53"},
		},
		{
			what: "direct server return, both families", leaf: good, asked: v6,
			ddr:  func(o *DDR) { o.Addresses, o.Preference = good.Addrs, []wire.Proto{wire.DoT} },
			want: []string{"1 dns.isp.example. alpn=dot ipv4hint=192.0.2.53 ipv6hint=2001:db8::53"}, extra: []string{"dns.isp.example. AAAA 2001:db8::53", "dns.isp.example. A 192.0.2.53"},
		},
		{
			what: "direct server return, the other address not listened to", leaf: good, asked: v6,
			ddr: func(o *DDR) { o.Addresses, o.Preference = good.Addrs, []wire.Proto{wire.DoT} },
			fake: func(f *fake) {
				f.listeners = append(everything(v6), Listener{netip.MustParseAddrPort("192.0.2.53:53"), wire.UDP})
			},
			want: []string{"1 dns.isp.example. alpn=dot ipv6hint=2001:db8::53"}, extra: []string{"dns.isp.example. AAAA 2001:db8::53"},
		},
		{
			what: "direct server return, with a certificate for each address", leaf: good, asked: v6,
			ddr: func(o *DDR) { o.Addresses, o.Preference = good.Addrs, []wire.Proto{wire.DoT} },
			fake: func(f *fake) {
				one, two := certificate(t, ca.Leaf{Names: good.Names, Addrs: addrs(v4)}), certificate(t, ca.Leaf{Names: good.Names, Addrs: addrs(v6)})
				f.unnamed = func(a netip.Addr) *x509.Certificate {
					if a.Is4() {
						return one
					}
					return two
				}
			},
			want: []string{"1 dns.isp.example. alpn=dot ipv6hint=2001:db8::53"}, extra: []string{"dns.isp.example. AAAA 2001:db8::53"},
		},
		{what: "private", leaf: good, asked: "10.0.0.5", fake: func(f *fake) { f.listeners = everything("10.0.0.5") }, why: AddressUnproven},
		{
			what: "private, for who wants no proof", leaf: good, asked: "10.0.0.5",
			ddr:  func(o *DDR) { o.Opportunistic, o.Preference = true, []wire.Proto{wire.DoT} },
			fake: func(f *fake) { f.listeners = everything("10.0.0.5") },
			want: []string{"1 dns.isp.example. alpn=dot ipv4hint=10.0.0.5"}, extra: []string{"dns.isp.example. A 10.0.0.5"},
		},
		{
			what: "public, for who wants no proof", leaf: other, asked: v4,
			ddr: func(o *DDR) { o.Opportunistic = true }, why: AddressUnproven,
		},
		{
			what: "private behind another address, for who wants no proof", leaf: good, asked: "10.0.0.5",
			ddr:  func(o *DDR) { o.Opportunistic, o.Addresses = true, addrs("10.1.1.1") },
			fake: func(f *fake) { f.listeners = everything("10.0.0.5") }, why: AddressUnproven, // RFC 9462 §4.3: not another address
		},
	} {
		t.Run(tt.what, func(t *testing.T) {
			f := (&fake{listeners: everything(v4, v6)}).shows(certificate(t, tt.leaf))
			if tt.fake != nil {
				tt.fake(f)
			}
			o := ddr(f)
			if tt.ddr != nil {
				tt.ddr(&o)
			}
			d := directory(t, Options{DDR: o})
			m := ask(t, d, tt.asked, "_dns.resolver.arpa.", dns.TypeSVCB, now)
			if got := lines(m.Answer); !slices.Equal(got, tt.want) || m.Rcode != dns.RcodeSuccess {
				t.Errorf("found %q; want %q", got, tt.want)
			}
			if got := lines(m.Extra); !slices.Equal(got, tt.extra) {
				t.Errorf("found the addresses %q; want %q", got, tt.extra)
			}
			s := d.Stats() // ask has asked twice
			if len(tt.want) > 0 {
				if s.Designated != 2 || s.Undesignated != 0 || len(m.Ns) != 0 {
					t.Errorf("%+v, %v", s, m.Ns)
				}
				return
			}
			if soa := lines(m.Ns); len(soa) != 1 || !strings.HasPrefix(soa[0], "resolver.arpa. SOA") {
				t.Errorf("no proof that there is nothing: %q", soa)
			}
			for _, proto := range o.Preference {
				var want [NumReasons]uint64
				if want[tt.why] = 2; s.Omitted[proto-wire.DoT] != want {
					t.Errorf("%v was left out for %v; want %v", proto, s.Omitted[proto-wire.DoT], tt.why)
				}
			}
		})
	}
}

func TestTransportsThatAreNotThereAreNotMissed(t *testing.T) {
	f := (&fake{listeners: everything("192.0.2.53")}).shows(nil)
	f.listeners = slices.DeleteFunc(f.listeners, func(l Listener) bool { return l.Proto.Encrypted() })
	d := directory(t, Options{DDR: ddr(f)})
	if m := ask(t, d, "192.0.2.53", "_dns.resolver.arpa.", dns.TypeSVCB, time.Now()); len(m.Answer) != 0 || len(m.Ns) != 1 {
		t.Error(m)
	}
	if s := d.Stats(); s.Omitted != (Stats{}).Omitted || s.Undesignated != 2 {
		t.Errorf("%+v", s)
	}
}

func TestDesignationsFollowWhatChanges(t *testing.T) {
	var log bytes.Buffer
	now := time.Now()
	leaf := ca.Leaf{Names: []string{name}, Addrs: addrs("192.0.2.53"), From: now.Add(time.Hour), Life: time.Hour}
	nameless := certificate(t, ca.Leaf{Names: []string{name}})
	f := (&fake{listeners: everything("192.0.2.53")}).shows(nameless)
	d := directory(t, Options{DDR: ddr(f), Log: slog.New(slog.NewTextHandler(&log, nil))})
	told := 0
	expect := func(what string, at time.Time, records int, logs int) {
		t.Helper()
		for range 3 { // asked again, nothing is told again
			if m := ask(t, d, "192.0.2.53", "_dns.resolver.arpa.", dns.TypeSVCB, at); len(m.Answer) != records {
				t.Errorf("%s: %v", what, m)
			}
		}
		if told += logs; strings.Count(log.String(), "\n") != told {
			t.Errorf("%s: %d lines were to be told:\n%s", what, told, log.String())
		}
	}
	expect("a certificate without the address", now, 0, 1)
	f.shows(certificate(t, leaf))
	expect("one that is not good yet", now, 0, 1)
	expect("it begins", now.Add(90*time.Minute), 3, 1)
	expect("it ends", now.Add(3*time.Hour), 0, 1)
	f.shows(certificate(t, ca.Leaf{Names: []string{name}, Addrs: addrs("192.0.2.53"), Life: 24 * time.Hour}))
	expect("another one", now.Add(3*time.Hour), 3, 1)
	f.listeners = slices.DeleteFunc(f.listeners, func(l Listener) bool { return l.Proto == wire.DoQ })
	f.version++
	expect("a listener less", now.Add(3*time.Hour), 2, 0)
	f.shows(nameless)
	expect("the first certificate again", now, 0, 1)
	if text := log.String(); !strings.Contains(text, "DoH: the certificate has no iPAddress 192.0.2.53") || !strings.Contains(text, "expired") {
		t.Error(text)
	}

	next, err := d.With(Options{DDR: DDR{Enabled: false}, Log: d.opt.Log})
	if err != nil {
		t.Fatal(err)
	}
	before := d.Stats()
	if m := ask(t, next, "192.0.2.53", "_dns.resolver.arpa.", dns.TypeSVCB, now); len(m.Answer) != 0 || len(m.Ns) != 1 {
		t.Errorf("switched off: %v", m)
	}
	if s := next.Stats(); s.Empty != before.Empty+1 || s.Designated != before.Designated {
		t.Errorf("%+v after %+v", s, before)
	}
}

func TestPlacesAndLogLinesAreBounded(t *testing.T) {
	var log bytes.Buffer
	f := (&fake{listeners: everything("::")}).shows(certificate(t, ca.Leaf{Names: []string{name}}))
	d := directory(t, Options{DDR: ddr(f), Log: slog.New(slog.NewTextHandler(&log, nil))})
	for i := range 3 * maxPlaces {
		ask(t, d, fmt.Sprintf("2001:db8::%x", i), "_dns.resolver.arpa.", dns.TypeSVCB, time.Now())
		if n := len(*d.known.Load()); n > maxPlaces {
			t.Fatalf("%d places are remembered", n)
		}
	}
	if n := strings.Count(log.String(), "\n"); n != maxPlaces {
		t.Errorf("the log was told %d times, want %d", n, maxPlaces)
	}
}

func TestWhoKnowsTheNameAsksForIt(t *testing.T) {
	now := time.Now()
	f := (&fake{listeners: everything("192.0.2.53")}).shows(certificate(t, ca.Leaf{Names: []string{"*.isp.example"}})) // the address is not needed (RFC 9462 §5)
	o := ddr(f)
	o.Name, o.Preference = wire.MustParseName(name+"."), []wire.Proto{wire.DoT}
	d := directory(t, Options{DDR: o})
	m := ask(t, d, "192.0.2.53", "_DNS.dns.isp.example.", dns.TypeSVCB, now)
	if got := lines(m.Answer); !slices.Equal(got, []string{"_DNS.dns.isp.example. SVCB 1 dns.isp.example. alpn=dot ipv4hint=192.0.2.53"}) {
		t.Errorf("found %q", got)
	}
	if m := ask(t, d, "192.0.2.53", "_dns.dns.isp.example.", dns.TypeA, now); len(m.Answer) != 0 || len(m.Ns) != 1 || m.Ns[0].Header().Name != "_dns.dns.isp.example." {
		t.Errorf("another type: %v", m)
	}
	f.shows(certificate(t, ca.Leaf{Names: []string{"www.isp.example"}, Addrs: addrs("192.0.2.53")}))
	if m := ask(t, d, "192.0.2.53", "_dns.dns.isp.example.", dns.TypeSVCB, now); len(m.Answer) != 0 || len(m.Ns) != 1 || d.Stats().Omitted[0][NameUnproven] != 2 {
		t.Errorf("of another name: %v", m)
	}
	for _, other := range []string{"dns.isp.example.", "x._dns.dns.isp.example.", "_dns.www.isp.example."} {
		if m := ask(t, d, "192.0.2.53", other, dns.TypeSVCB, now); m != nil {
			t.Errorf("%s is answered here: %v", other, m)
		}
	}
	if m := ask(t, directory(t, Options{DDR: ddr(f)}), "192.0.2.53", "_dns.www.isp.example.", dns.TypeSVCB, now); m != nil {
		t.Errorf("a name that only the certificate has is answered here: %v", m)
	}
}

func TestNothingElseIsInResolverArpa(t *testing.T) {
	f := (&fake{listeners: everything("192.0.2.53")}).shows(certificate(t, ca.Leaf{Names: []string{name}, Addrs: addrs("192.0.2.53")}))
	d := directory(t, Options{DDR: ddr(f)})
	for _, name := range []string{"_dns.resolver.arpa.", "resolver.arpa.", "x._dns.resolver.arpa.", "RESOLVER.ARPA.", "a.b.resolver.arpa.", "_dot.resolver.arpa."} {
		for _, typ := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS, dns.TypeTXT, dns.TypeDS, dns.TypeANY, dns.TypeDNSKEY, dns.TypeRRSIG, 261, dns.TypeSVCB} {
			if typ == dns.TypeSVCB && name == "_dns.resolver.arpa." {
				continue
			}
			m := ask(t, d, "192.0.2.53", name, typ, time.Now())
			if m == nil || m.Rcode != dns.RcodeSuccess || len(m.Answer) != 0 || len(m.Extra) != 0 || len(m.Ns) != 1 || !strings.EqualFold(m.Ns[0].Header().Name, "resolver.arpa.") {
				t.Errorf("%s, type %d: %v", name, typ, m)
			}
		}
	}
	for typ, want := range map[uint16]string{
		dns.TypeSOA: "resolver.arpa. SOA localhost. nobody.invalid. 1 3600 1200 604800 300", dns.TypeNS: "resolver.arpa. NS localhost.",
	} {
		if got := lines(ask(t, d, "192.0.2.53", "resolver.arpa.", typ, time.Now()).Answer); !slices.Equal(got, []string{want}) {
			t.Errorf("found %q; want %q", got, want)
		}
	}
	for _, other := range []string{"arpa.", "xresolver.arpa.", "resolver.arpa.example.", `x\008resolver.arpa.`, ".", "_dns.arpa."} {
		if m := ask(t, d, "192.0.2.53", other, dns.TypeSVCB, time.Now()); m != nil {
			t.Errorf("%s is taken for ours: %v", other, m)
		}
	}
	for _, typ := range []uint16{dns.TypeAXFR, dns.TypeIXFR, dns.TypeOPT, 0} {
		if m := ask(t, d, "192.0.2.53", "resolver.arpa.", typ, time.Now()); m != nil {
			t.Errorf("type %d: %v", typ, m)
		}
	}
}

func TestADirectoryRefusesWhatCannotBeSaid(t *testing.T) {
	for what, o := range map[string]Options{
		"the root as name":          {DDR: DDR{Name: wire.Root}},
		"resolver.arpa as name":     {DDR: DDR{Name: resolverArpa}},
		"a name in resolver.arpa":   {DDR: DDR{Name: ddrName}},
		"a name too long":           {DDR: DDR{Name: wire.MustParseName(strings.Repeat("1234567.", 31) + "a.")}},
		"cleartext":                 {DDR: DDR{Preference: []wire.Proto{wire.TCP}}},
		"a long identity":           {Chaos: Chaos{ID: strings.Repeat("x", 256)}},
		"a page without encryption": {RESINFO: RESINFO{Enabled: true, InfoURL: "http://isp.example/"}},
		"a page that is none":       {RESINFO: RESINFO{Enabled: true, InfoURL: "https:///x y"}},
		"a page too long":           {RESINFO: RESINFO{Enabled: true, InfoURL: "https://isp.example/" + strings.Repeat("x", 240)}},
		"provisioning without URL":  {HB46PP: HB46PP{Views: []View{{Name: "x"}}}},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s passes", what)
		}
	}
}

func TestFindingAllocatesNothing(t *testing.T) {
	f := (&fake{listeners: everything("192.0.2.53")}).shows(certificate(t, ca.Leaf{Names: []string{name}, Addrs: addrs("192.0.2.53")}))
	d := directory(t, Options{DDR: ddr(f)})
	now := time.Now()
	ask(t, d, "192.0.2.53", "_dns.resolver.arpa.", dns.TypeSVCB, now)
	for _, name := range []string{"_dns.resolver.arpa.", "www.example.com.", "x.resolver.arpa."} {
		q := queryAt(t, "192.0.2.53", name, dns.TypeSVCB)
		folded := wire.AppendFolded(nil, q.RawName())
		if n := testing.AllocsPerRun(100, func() { d.Find(folded, q, now) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
