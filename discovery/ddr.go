package discovery

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"shirube/internal/wire"
)

// DDR is how clients find the encrypted transports (RFC 9462).
type DDR struct {
	Enabled bool
	// Name of this server, which clients may know (RFC 9462 §5). "": none, and the
	// first name of the certificate stands in where one is needed.
	Name wire.Name
	// Addresses that clients know this server by, where these are not those that it
	// is asked at. None: they are.
	Addresses []netip.Addr
	// Preference has the transports that are advertised, the best first.
	Preference []wire.Proto
	// Ports that clients reach, where these are not those that are listened to.
	Ports [wire.NumProtos]uint16
	// Path of DoH, without `{?dns}`.
	Path string
	// Opportunistic has transports advertised at private addresses whatever the
	// certificate says: who wants no proof there (RFC 9462 §4.3) can use them.
	Opportunistic bool
	Live          Live
}

// Live tells what changes while the server runs. All of it is called concurrently.
// What is nil has nothing to tell.
type Live struct {
	// Version is another number whenever one of the others answers otherwise.
	Version func() uint64
	// Listeners returns where clients are listened to, for every transport.
	Listeners func() []Listener
	// Certificate returns the certificate that a client is shown who has connected
	// to local and names that server, or none for ""; nil: there is none.
	Certificate func(local netip.Addr, server string) *x509.Certificate
}

// Listener is where clients are listened to.
type Listener struct {
	At    netip.AddrPort
	Proto wire.Proto
}

// covers reports whether a client that connects to a gets to l.
func (l Listener) covers(a netip.Addr) bool {
	return a.IsValid() && (l.At.Addr() == a || l.At.Addr().IsUnspecified() && l.At.Addr().Is4() == a.Is4())
}

// Offer is a designation: one SVCB record.
type Offer struct {
	Protos    []wire.Proto // one, or DoH3 and DoH
	Priority  uint16
	Target    wire.Name
	ALPN      []string
	Port      uint16
	Path      string // of HTTP, with {?dns}
	Addresses []netip.Addr

	Unproven bool // only for clients that want no proof (RFC 9462 §4.3)
}

// usualPort returns the port that needs not be said (RFC 9461 §4.2).
func (o *Offer) usualPort() uint16 {
	if o.http() {
		return 443
	}
	return 853
}

func (o *Offer) http() bool { return o.Protos[0] == wire.DoH || o.Protos[0] == wire.DoH3 }

// Reason is why a transport is not advertised.
type Reason uint8

// The reasons.
const (
	NotListening    Reason = iota // at that address, but at others
	UnknownAddress                // nobody knows which one was asked
	NoCertificate                 // to show
	OutOfTime                     // the certificate has expired, or is not good yet
	AddressUnproven               // not in the certificate
	NameUnproven                  // not in the certificate
	NoName                        // neither configured, nor in the certificate
	NumReasons                    // how many there are, for arrays of counters
)

var reasonNames = [NumReasons]string{
	"not_listening", "unknown_address", "no_certificate", "out_of_time", "address_not_in_certificate", "name_not_in_certificate", "no_name",
}

// String returns r as metrics and the log have it.
func (r Reason) String() string { return reasonNames[r] }

// Omission is a transport that is not advertised.
type Omission struct {
	Proto  wire.Proto
	Reason Reason
	Detail string // for people
}

// Assessment is what there is for the clients that ask at one address.
type Assessment struct {
	Offers    []Offer
	Omissions []Omission
	Until     time.Time // when a certificate begins or ends; the zero Time: never
}

// alpns are IANA's names (RFC 7858, RFC 9250, RFC 9113, RFC 9114).
var alpns = [wire.NumProtos]string{wire.DoT: "dot", wire.DoH: "h2", wire.DoH3: "h3", wire.DoQ: "doq"}

// Check returns what is wrong with o.
func (o *DDR) Check() error {
	for _, p := range o.Preference {
		if p >= wire.NumProtos || alpns[p] == "" {
			return fmt.Errorf("%v cannot be advertised: it is not encrypted", p)
		}
	}
	switch {
	case o.Name == wire.Root || o.Name != "" && o.Name.Within(resolverArpa): // RFC 9462 §4, §6.3
		return fmt.Errorf("%v cannot be this server's name", o.Name)
	case o.Name != "" && len(o.Name) > wire.MaxNameLen-len(dnsLabel):
		return errors.New("the name of this server is so long that none can be below it")
	}
	return nil
}

// Assess works out what this server is worth to clients that ask it at asked: who
// knows it by that address (RFC 9462 §4), or by its name (§5).
func (o *DDR) Assess(asked netip.Addr, named bool, now time.Time) (a Assessment) {
	if !o.Enabled || o.Live.Listeners == nil {
		return a
	}
	s := site{DDR: o, listeners: o.Live.Listeners(), asked: asked}
	verdict := s.prove(named, now)
	a.Until = s.until
	for _, proto := range o.Preference {
		ports := s.ports(proto, asked)
		switch {
		case len(ports) == 0:
			if s.somewhere(proto) {
				a.Omissions = append(a.Omissions, Omission{proto, NotListening, fmt.Sprintf("no listener for it at %v", asked)})
			}
			continue
		case verdict.bad && !verdict.excused:
			a.Omissions = append(a.Omissions, Omission{proto, verdict.Reason, verdict.Detail})
			continue
		}
		for _, port := range ports {
			a.add(s.offer(proto, port, named, verdict.bad))
		}
	}
	return a
}

// add adds next, or what it has to an offer before it that differs in nothing else:
// HTTP/2 and HTTP/3 are two versions of one thing.
func (a *Assessment) add(next Offer) {
	if n := len(a.Offers); n > 0 {
		last := &a.Offers[n-1]
		if last.http() && next.http() && last.Port == next.Port && slices.Equal(last.Addresses, next.Addresses) {
			last.Protos, last.ALPN = append(last.Protos, next.Protos...), append(last.ALPN, next.ALPN...)
			return
		}
	}
	next.Priority = uint16(len(a.Offers) + 1)
	a.Offers = append(a.Offers, next)
}

// site is what one address is about.
type site struct {
	*DDR
	listeners []Listener
	asked     netip.Addr
	target    wire.Name // "": there is none
	until     time.Time
}

// verdict is whether a certificate proves what it has to.
type verdict struct {
	bad     bool
	excused bool // nobody can prove that (RFC 9462 §4.3)
	Omission
}

func bad(r Reason, format string, args ...any) verdict {
	return verdict{bad: true, Omission: Omission{Reason: r, Detail: fmt.Sprintf(format, args...)}}
}

// translated reports whether a is no address of this host, as far as listeners say:
// clients come from there by somebody who writes another one in its place.
func (s *site) translated(a netip.Addr) bool {
	return !slices.ContainsFunc(s.listeners, func(l Listener) bool { return l.covers(a) })
}

// maxPorts bounds the ports of one transport that are advertised for an address.
const maxPorts = 4

// ports returns the ports that are listened to for clients of a, the first of them.
func (s *site) ports(proto wire.Proto, a netip.Addr) (ports []uint16) {
	all := s.translated(a)
	for _, l := range s.listeners {
		if len(ports) < maxPorts && l.Proto == proto && (l.covers(a) || all && !l.At.Addr().IsLoopback()) && !slices.Contains(ports, l.At.Port()) {
			ports = append(ports, l.At.Port())
		}
	}
	return ports
}

// somewhere reports whether there is a listener for proto at all.
func (s *site) somewhere(proto wire.Proto) bool {
	return slices.ContainsFunc(s.listeners, func(l Listener) bool { return l.Proto == proto })
}

// knownAs returns the addresses of which one is that by which the clients know this
// server: the certificate has to have all of them.
func (s *site) knownAs() []netip.Addr {
	switch {
	case slices.Contains(s.Addresses, s.asked), len(s.Addresses) == 0 && s.asked.IsValid():
		return []netip.Addr{s.asked}
	}
	var same []netip.Addr // what translates addresses seldom translates families
	for _, a := range s.Addresses {
		if a.Is4() == s.asked.Is4() {
			same = append(same, a)
		}
	}
	if !s.asked.IsValid() || len(same) == 0 {
		return s.Addresses
	}
	return same
}

// certificate returns the one that clients of a are shown who name that server.
func (s *site) certificate(a netip.Addr, server string) *x509.Certificate {
	if s.Live.Certificate == nil {
		return nil
	}
	return s.Live.Certificate(a, server)
}

// prove judges whether the client can verify this server, and finds the target.
func (s *site) prove(named bool, now time.Time) verdict {
	s.target = s.Name
	unnamed := s.certificate(s.asked, "")
	if v := s.inTime(unnamed, now); unnamed == nil {
		return v
	}
	if s.target == "" {
		s.target = firstName(unnamed)
	}
	if s.target == "" { // RFC 9462 §4: it must not be "."
		return bad(NoName, "neither discovery.name is set nor has the certificate a name")
	}
	host := strings.TrimSuffix(s.target.String(), ".")
	other := s.certificate(s.asked, host) // RFC 9462 says not which name is to be in the handshake
	if named {
		if v := s.inTime(other, now); v.bad {
			return v
		}
		if err := other.VerifyHostname(host); err != nil { // RFC 9462 §5
			return bad(NameUnproven, "the certificate is not for %s", host)
		}
		return verdict{}
	}
	known := s.knownAs()
	if len(known) == 0 {
		return bad(UnknownAddress, "a proxy does not tell, and discovery.addresses is empty")
	}
	for _, c := range []*x509.Certificate{unnamed, other} {
		v := s.inTime(c, now)
		if !v.bad {
			v = proves(c, known)
		}
		if v.bad {
			v.excused = s.Opportunistic && len(known) == 1 && known[0] == s.asked && private(s.asked)
			return v
		}
	}
	return verdict{}
}

// firstName returns the first name of c that is a server's.
func firstName(c *x509.Certificate) wire.Name {
	for _, text := range c.DNSNames {
		if n, err := wire.ParseName(text); err == nil && n != wire.Root && !strings.HasPrefix(text, "*") {
			return n
		}
	}
	return ""
}

// inTime judges whether c is good now.
func (s *site) inTime(c *x509.Certificate, now time.Time) verdict {
	if c == nil {
		return bad(NoCertificate, "there is no certificate")
	}
	for _, t := range []time.Time{c.NotBefore, c.NotAfter} {
		if t.After(now) && (s.until.IsZero() || t.Before(s.until)) {
			s.until = t
		}
	}
	switch {
	case now.After(c.NotAfter):
		return bad(OutOfTime, "the certificate has expired at %s", c.NotAfter.Format(time.RFC3339))
	case now.Before(c.NotBefore):
		return bad(OutOfTime, "the certificate is good from %s on", c.NotBefore.Format(time.RFC3339))
	}
	return verdict{}
}

// proves judges whether c has all addresses (RFC 9462 §4.2).
func proves(c *x509.Certificate, addresses []netip.Addr) verdict {
	for _, a := range addresses {
		if !slices.ContainsFunc(c.IPAddresses, func(ip net.IP) bool { return ip.Equal(a.AsSlice()) }) {
			return bad(AddressUnproven, "the certificate has no iPAddress %v", a)
		}
	}
	return verdict{}
}

// private reports whether no authority issues certificates for a.
func private(a netip.Addr) bool { return a.IsPrivate() || a.IsLinkLocalUnicast() || a.IsLoopback() }

// offer returns the offer of a transport on a port.
func (s *site) offer(proto wire.Proto, port uint16, named, unproven bool) Offer {
	o := Offer{
		Protos: []wire.Proto{proto}, Target: s.target, ALPN: []string{alpns[proto]}, Port: port,
		Addresses: s.reachable(proto, port, named, unproven), Unproven: unproven,
	}
	if p := s.Ports[proto]; p != 0 {
		o.Port = p
	}
	if o.http() {
		o.Path = s.Path + "{?dns}" // RFC 9461 §5
	}
	return o
}

// reachable returns the addresses that clients reach that port at, the one they
// have asked first.
func (s *site) reachable(proto wire.Proto, port uint16, named, unproven bool) []netip.Addr {
	switch {
	case unproven: // RFC 9462 §4.3: no other
		return []netip.Addr{s.asked}
	case len(s.Addresses) == 0 && s.asked.IsValid():
		return []netip.Addr{s.asked}
	case !slices.Contains(s.Addresses, s.asked): // which one it was before it was translated nobody knows
		return s.Addresses
	}
	list := []netip.Addr{s.asked}
	for _, a := range s.Addresses {
		if a == s.asked || !slices.Contains(s.ports(proto, a), port) {
			continue
		}
		c := s.certificate(a, "")
		if named || c != nil && !proves(c, list[:1]).bad { // what is shown there has to prove the address asked
			list = append(list, a)
		}
	}
	return list
}
