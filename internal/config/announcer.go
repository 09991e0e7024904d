package config

import (
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"

	"shirube/internal/wire"
)

// Announcer is the configuration file of shirube-announce, a program of its own.
type Announcer struct {
	// The service addresses, each of which is announced while the resolver answers
	// on it, whatever becomes of the others.
	VIPs []VIP `yaml:"vips" range:"1..64"`
	// By what the routes are made: `bgp` speaks BGP itself; `loopback` has the
	// addresses on an interface, for FRR or BIRD to redistribute; `bird` writes
	// routes into a file that BIRD includes, and has it read it; `none` only
	// watches and counts.
	Driver AnnounceDriver `yaml:"driver"`
	// What the resolver says of itself.
	Resolver WatchedResolver `yaml:"resolver"`
	// What the resolver is asked, how often, and how many answers count.
	Probes Probes `yaml:"probes"`
	// The others that announce the same addresses, so that the last one stays.
	Fleet Fleet `yaml:"fleet"`
	// How an announcement ends that is wanted to.
	Drain AnnounceDrain `yaml:"drain"`
	// What the driver `bgp` needs to know.
	BGP BGP `yaml:"bgp"`
	// What the driver `loopback` needs to know.
	Loopback LoopbackDriver `yaml:"loopback"`
	// What the driver `bird` needs to know.
	BIRD BIRDDriver `yaml:"bird"`
	// Where Prometheus and people look at what is announced, and why.
	Admin AnnounceAdmin `yaml:"admin"`
	// What is written to standard error.
	Log Log `yaml:"log"`
}

// VIP is an address that several resolvers have.
type VIP struct {
	// The service address, without a port.
	Address Address `yaml:"address" required:"true"`
	// What is announced, as `192.0.2.0/24`; the address has to be in one of them.
	// Empty: the address alone, as a /32 or a /128.
	Prefixes []netip.Prefix `yaml:"prefixes" range:"0..8"`
	// The transports that clients use on the address: `udp`, `tcp`, `dot`, `doh`,
	// `doh3` and `doq`. If one of them fails, the address is not announced.
	Transports []ProbeTransport `yaml:"transports" range:"1.."`
	// Where the resolver is asked, if not at the address itself. The driver
	// `loopback` needs it: an address that it has taken away could not be asked.
	// Empty: the address.
	AskAt []Address `yaml:"ask_at" range:"0..1"`
}

func (VIP) defaults() any {
	return VIP{Transports: []ProbeTransport{ProbeUDP, ProbeTCP}}
}

// ProbeTransport is a transport that a resolver is asked over.
type ProbeTransport string

// The transports.
const (
	ProbeUDP  ProbeTransport = "udp"
	ProbeTCP  ProbeTransport = "tcp"
	ProbeDoT  ProbeTransport = "dot"
	ProbeDoH  ProbeTransport = "doh"
	ProbeDoH3 ProbeTransport = "doh3"
	ProbeDoQ  ProbeTransport = "doq"
)

func (ProbeTransport) values() []string {
	return []string{string(ProbeUDP), string(ProbeTCP), string(ProbeDoT), string(ProbeDoH), string(ProbeDoH3), string(ProbeDoQ)}
}

// AnnounceDriver is what makes the routes.
type AnnounceDriver string

// The drivers.
const (
	DriverBGP      AnnounceDriver = "bgp"
	DriverLoopback AnnounceDriver = "loopback"
	DriverBIRD     AnnounceDriver = "bird"
	DriverNone     AnnounceDriver = "none"
)

func (AnnounceDriver) values() []string {
	return []string{string(DriverBGP), string(DriverLoopback), string(DriverBIRD), string(DriverNone)}
}

// WatchedResolver is the resolver whose word is taken.
type WatchedResolver struct {
	// The resolver's `admin.socket`, which is asked for `/readyz`. The announcer has
	// to be root, the resolver's user, or in its `admin.group`. Empty: the resolver
	// is only asked questions.
	AdminSocket string `yaml:"admin_socket"`
}

// Probes are questions that show whether clients are answered.
type Probes struct {
	// How often every address is asked over each of its transports, each time on
	// a new connection.
	Interval time.Duration `yaml:"interval" range:"100ms..1m"`
	// How long an answer may take, the handshake with it.
	Timeout time.Duration `yaml:"timeout" range:"50ms..1m"`
	// After so many good answers in a row an address is announced.
	Rise int `yaml:"rise" range:"1..100"`
	// After so many failures in a row it is not.
	Fall int `yaml:"fall" range:"1..100"`
	// The name that is asked for, with type A. The answer has to be NOERROR with a
	// record. It should be one that the resolver answers alone: `localhost`, or its
	// `health.name`.
	Name wire.Name `yaml:"name"`
	// Names of others that are asked for over UDP, to see whether the Internet can
	// be asked: NOERROR and NXDOMAIN are good. When too few answer, that is a cause
	// which the fleet may share; see `fleet`. Empty: it is not looked at.
	Canaries []wire.Name `yaml:"canaries" range:"0..16"`
	// So many of the canaries have to be answered. One name of somebody else's
	// should never take a resolver away.
	CanariesNeeded int `yaml:"canaries_needed" range:"1..16"`
	// The port of UDP and TCP.
	DNSPort uint16 `yaml:"dns_port" range:"1..65535"`
	// The port of DoT and DoQ.
	TLSPort uint16 `yaml:"tls_port" range:"1..65535"`
	// The port of DoH and DoH3.
	HTTPSPort uint16 `yaml:"https_port" range:"1..65535"`
	// The name or address that the certificate has to be for, over encrypted
	// transports. Empty: certificates are not checked, only answers.
	ServerName string `yaml:"server_name"`
	// A file with the authorities that may have signed the certificate, in PEM, for
	// `server_name`. Empty: those of the system.
	CAFile string `yaml:"ca_file"`
}

// Fleet is who else announces the addresses.
type Fleet struct {
	// Addresses of the others' own, one or more for each, with a port or port 53,
	// where they are asked the same questions over UDP. When the resolver here fails
	// and fewer than `needed` of those of the address's family are well, then the cause is one that
	// they share, or there is nobody else: the address stays announced, with
	// `bgp.last_resort_med`. Empty: nothing is known of others.
	Members []Address `yaml:"members" range:"0..64"`
	// So many others have to be well before the address is withdrawn here.
	Needed int `yaml:"needed" range:"1..64"`
	// The name that the others are asked for. It should be their `health.name`,
	// which says too that one is draining. Empty: `probes.name`.
	Name wire.Name `yaml:"name"`
	// What is done without `members` when the resolver answers and the Internet
	// cannot be asked (`probes.canaries`, or `no_root` of `/readyz`): `keep`
	// announces the address still, with `bgp.last_resort_med`; `withdraw` does not.
	SharedCauses SharedCauses `yaml:"shared_causes"`
}

// SharedCauses is what is done about a cause that all may share.
type SharedCauses string

// What can be done.
const (
	SharedKeep     SharedCauses = "keep"
	SharedWithdraw SharedCauses = "withdraw"
)

func (SharedCauses) values() []string { return []string{string(SharedKeep), string(SharedWithdraw)} }

// AnnounceDrain is how an announcement ends.
type AnnounceDrain struct {
	// How long an address is announced with the community GRACEFUL_SHUTDOWN (RFC
	// 8326) before it is withdrawn, when the resolver drains, when the announcer
	// ends or when it is told to by `disable_file`: routers look for other paths
	// meanwhile and still have this one.
	Graceful time.Duration `yaml:"graceful" range:"0..5m"`
	// How long the announcer stays after it has withdrawn all addresses, at its end:
	// its sessions last as long, so that the withdrawals arrive.
	Settle time.Duration `yaml:"settle" range:"0..1m"`
	// While this file exists, nothing is announced: for maintenance. Empty: none.
	DisableFile string `yaml:"disable_file"`
}

// BGP is a speaker that never learns a route, and listens nowhere.
type BGP struct {
	// The AS that the announcer is in.
	ASN int `yaml:"asn" range:"0..4294967294"`
	// The BGP identifier: an IPv4 address that no other speaker has.
	RouterID string `yaml:"router_id"`
	// The routers to announce to.
	Peers []BGPPeer `yaml:"peers" range:"0..32"`
	// The next hop of IPv4 routes. Empty: the address that a session over IPv4
	// has here; sessions over IPv6 get no IPv4 routes then.
	NextHopIPv4 string `yaml:"next_hop_ipv4"`
	// The same for IPv6.
	NextHopIPv6 string `yaml:"next_hop_ipv6"`
	// The MED of an address that is well.
	MED int `yaml:"med" range:"0..4294967295"`
	// The MED of an address that is not, and is announced because nobody else is
	// well either, or as far as can be known. Routers compare it between paths from
	// the same AS; for others use `last_resort_communities`.
	LastResortMED int `yaml:"last_resort_med" range:"0..4294967295"`
	// Communities of all routes, as `64512:1` (RFC 1997).
	Communities []string `yaml:"communities" range:"0..32"`
	// Communities of last resort routes besides, such as `65535:0`, by which
	// routers that know RFC 8326 prefer any other path.
	LastResortCommunities []string `yaml:"last_resort_communities" range:"0..32"`
}

// BGPPeer is a router.
type BGPPeer struct {
	// Its address, with a port or port 179.
	Address Address `yaml:"address" required:"true"`
	// Its AS; the announcer's own for iBGP.
	ASN int `yaml:"asn" range:"1..4294967294" required:"true"`
	// A file with the password of the session (TCP MD5, RFC 2385). White space at
	// its end does not count. Empty: none.
	PasswordFile string `yaml:"password_file"`
	// The address to connect from. Empty: the one that the route to the peer has.
	LocalAddress string `yaml:"local_address"`
	// How long the router hears nothing before it takes the session for dead, and
	// the announcer. The smaller of both sides' counts; keepalives are sent three
	// times as often.
	HoldTime time.Duration `yaml:"hold_time" range:"3s..1h"`
	// How long to wait before another try to connect.
	ConnectRetry time.Duration `yaml:"connect_retry" range:"1s..5m"`
	// The TTL of packets to a router of another AS that is not on the same link.
	// `0`: it is.
	Multihop int `yaml:"multihop" range:"0..255"`
	// Take packets only from routers that are on the same link, by their TTL (RFC
	// 5082). The router has to send with TTL 255.
	TTLSecurity bool `yaml:"ttl_security"`
}

func (BGPPeer) defaults() any {
	return BGPPeer{HoldTime: 9 * time.Second, ConnectRetry: 5 * time.Second}
}

// LoopbackDriver has addresses on an interface.
type LoopbackDriver struct {
	// The interface. It needs the capability CAP_NET_ADMIN to change it.
	Interface string `yaml:"interface"`
}

// BIRDDriver has BIRD announce.
type BIRDDriver struct {
	// The file that BIRD's configuration includes. It is replaced by another, so the
	// announcer needs to write to its directory.
	File string `yaml:"file"`
	// BIRD's control socket, to which `configure` is said, as `birdc` does.
	ControlSocket string `yaml:"control_socket"`
	// What the names of the static protocols begin with; `4` and `6` follow.
	Protocol string `yaml:"protocol"`
}

// AnnounceAdmin is where to look at the announcer.
type AnnounceAdmin struct {
	// Path of a unix socket for root and the announcer's user, with `/metrics`,
	// `/status.json`, `/readyz` and `/livez`. Empty: none.
	Socket string `yaml:"socket"`
	// Addresses to listen on over TCP, with the same.
	Listen []AdminListener `yaml:"listen" range:"0..4"`
}

// DefaultAnnouncer returns what holds where a file of shirube-announce says nothing.
func DefaultAnnouncer() Announcer {
	return Announcer{
		VIPs:     []VIP{},
		Driver:   DriverBGP,
		Resolver: WatchedResolver{AdminSocket: "/run/shirube/admin.sock"},
		Probes: Probes{
			Interval: time.Second, Timeout: time.Second, Rise: 3, Fall: 3,
			Name: wire.MustParseName("localhost."), CanariesNeeded: 1,
			DNSPort: 53, TLSPort: 853, HTTPSPort: 443,
		},
		Fleet:    Fleet{Needed: 1, SharedCauses: SharedKeep},
		Drain:    AnnounceDrain{Graceful: 5 * time.Second, Settle: time.Second},
		BGP:      BGP{MED: 100, LastResortMED: 1000},
		Loopback: LoopbackDriver{Interface: "lo"},
		Admin:    AnnounceAdmin{Listen: []AdminListener{}},
		BIRD:     BIRDDriver{ControlSocket: "/run/bird/bird.ctl", Protocol: "shirube"},
		Log:      Default().Log,
	}
}

// AnnouncerKeys describes the keys of a configuration file of shirube-announce.
func AnnouncerKeys() []Key { return sectionKeys(reflect.ValueOf(DefaultAnnouncer()), "", false) }

// LoadAnnouncer is [Load] for a file of shirube-announce.
func LoadAnnouncer(path string) (Announcer, error) { return load(path, ReadAnnouncer) }

// ReadAnnouncer is [Read] for a file of shirube-announce.
func ReadAnnouncer(file string, r io.Reader) (Announcer, error) {
	return read(file, r, ParseAnnouncer)
}

// ParseAnnouncer is [Parse] for a file of shirube-announce.
func ParseAnnouncer(file string, data []byte) (Announcer, error) {
	return parse(file, data, DefaultAnnouncer(), (*decoder).announcer)
}

// announcer reports what is good each for itself and not together.
func (d *decoder) announcer(a *Announcer) {
	if _, given := d.where("vips"); !given {
		d.contradiction("missing; expected the addresses to announce", "vips")
	}
	p := &a.Probes
	if p.Timeout > p.Interval {
		d.exceeds("probes", "timeout", p.Timeout, "interval", p.Interval)
	}
	if n := len(p.Canaries); n > 0 && p.CanariesNeeded > n {
		d.contradiction(fmt.Sprintf("found %d; there are %d canaries", p.CanariesNeeded, n), "probes.canaries_needed", "probes.canaries")
	}
	if p.Name == "" {
		d.contradiction("found nothing; expected a domain name, such as localhost", "probes.name")
	}
	d.admin(a.Admin.Listen)
	d.vips(a)
	d.fleet(a)
	switch a.Driver {
	case DriverBGP:
		d.bgp(a)
	case DriverLoopback:
		if a.Loopback.Interface == "" {
			d.contradiction("found nothing; expected the name of an interface", "loopback.interface")
		}
	case DriverBIRD:
		d.bird(&a.BIRD)
	}
}

// vips reports addresses that cannot be announced.
func (d *decoder) vips(a *Announcer) {
	first := map[netip.Addr]int{}
	for i := range a.VIPs {
		v := &a.VIPs[i]
		at := func(key string) string { return fmt.Sprintf("vips[%d].%s", i, key) }
		addr := v.Address.Addr()
		if !addr.IsValid() {
			continue
		}
		if v.Address.Port() != 0 {
			d.contradiction(fmt.Sprintf("found %s; expected it without a port: those are in probes", v.Address), at("address"))
		}
		if j, again := first[addr]; again {
			d.contradiction(fmt.Sprintf("found %s again; vips[%d] has it already", addr, j), at("address"))
		}
		first[addr] = i
		if len(v.Prefixes) > 0 && !holds(v.Prefixes, addr) {
			d.contradiction(fmt.Sprintf("found no prefix that %s is in", addr), at("prefixes"))
		}
		if a.Driver == DriverLoopback && (len(v.AskAt) == 0 || v.AskAt[0].Addr() == addr) {
			d.contradiction(fmt.Sprintf("found the driver loopback; expected another address to ask at: %s could not be asked while it is taken away", addr), at("ask_at"))
		}
		if a.Driver == DriverLoopback && len(v.Prefixes) > 0 {
			d.contradiction("found prefixes with the driver loopback, which adds addresses", at("prefixes"))
		}
	}
}

func holds(prefixes []netip.Prefix, addr netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// fleet reports families of which nothing could be known.
func (d *decoder) fleet(a *Announcer) {
	count := map[bool]int{} // by whether IPv4
	for _, m := range a.Fleet.Members {
		count[m.Addr().Is4()]++
	}
	if len(a.Fleet.Members) == 0 {
		return
	}
	for i := range a.VIPs {
		addr := a.VIPs[i].Address.Addr()
		if n := count[addr.Is4()]; addr.IsValid() && n < a.Fleet.Needed {
			d.contradiction(fmt.Sprintf("found %d members of the family of %s; expected as many as needed (%d), or it could never be withdrawn",
				n, addr, a.Fleet.Needed), "fleet.members")
			return
		}
	}
}

// bgp reports what keeps a speaker from speaking.
func (d *decoder) bgp(a *Announcer) {
	b := &a.BGP
	if b.ASN == 0 {
		d.contradiction("missing; expected the number of the AS that the announcer is in", "bgp.asn")
	}
	if id, err := netip.ParseAddr(b.RouterID); err != nil || !id.Is4() {
		d.contradiction(fmt.Sprintf("found %q; expected an IPv4 address", shorten(b.RouterID)), "bgp.router_id")
	}
	if len(b.Peers) == 0 {
		d.contradiction("missing; expected the routers to announce to", "bgp.peers")
	}
	if b.LastResortMED < b.MED {
		d.contradiction(fmt.Sprintf("found %d, which routers prefer to med (%d)", b.LastResortMED, b.MED), "bgp.last_resort_med", "bgp.med")
	}
	d.addressOf(b.NextHopIPv4, "bgp.next_hop_ipv4", netip.Addr.Is4)
	d.addressOf(b.NextHopIPv6, "bgp.next_hop_ipv6", netip.Addr.Is6)
	d.communities(b.Communities, "bgp.communities")
	d.communities(b.LastResortCommunities, "bgp.last_resort_communities")
	for i := range b.Peers {
		d.bgpPeer(a, i)
	}
	for i := range a.VIPs {
		d.reaches(a, a.VIPs[i].Address.Addr(), fmt.Sprintf("vips[%d].address", i))
	}
}

func (d *decoder) bgpPeer(a *Announcer, i int) {
	p := &a.BGP.Peers[i]
	at := func(key string) string { return fmt.Sprintf("bgp.peers[%d].%s", i, key) }
	d.addressOf(p.LocalAddress, at("local_address"), func(addr netip.Addr) bool { return addr.Is4() == p.Address.Addr().Is4() })
	if p.Multihop > 0 && p.TTLSecurity {
		d.contradiction("found multihop and ttl_security; expected one of them", at("ttl_security"), at("multihop"))
	}
	if p.Multihop > 0 && p.ASN == a.BGP.ASN {
		d.contradiction("found multihop for a router of the own AS, which needs none", at("multihop"))
	}
}

// addressOf reports text that is there and is no address of a kind.
func (d *decoder) addressOf(text, path string, kind func(netip.Addr) bool) {
	if text == "" {
		return
	}
	if addr, err := netip.ParseAddr(text); err != nil || !kind(addr) {
		d.contradiction(fmt.Sprintf("found %q; expected an IP address of the right family", shorten(text)), path)
	}
}

func (d *decoder) communities(list []string, path string) {
	for i, text := range list {
		if _, err := ParseCommunity(text); err != nil {
			d.contradiction(err.Error(), fmt.Sprintf("%s[%d]", path, i))
		}
	}
}

// ParseCommunity reads a community of RFC 1997, as 64512:1.
func ParseCommunity(text string) (uint32, error) {
	high, low, ok := strings.Cut(text, ":")
	h, herr := strconv.ParseUint(high, 10, 16)
	l, lerr := strconv.ParseUint(low, 10, 16)
	if !ok || herr != nil || lerr != nil {
		return 0, fmt.Errorf("found %q; expected two numbers from 0 to 65535, as 64512:1", shorten(text))
	}
	return uint32(h<<16 | l), nil
}

// reaches reports an address whose routes no session would take.
func (d *decoder) reaches(a *Announcer, addr netip.Addr, path string) {
	hop := a.BGP.NextHopIPv4
	if addr.Is6() {
		hop = a.BGP.NextHopIPv6
	}
	if !addr.IsValid() || hop != "" || len(a.BGP.Peers) == 0 {
		return
	}
	for i := range a.BGP.Peers {
		if p := a.BGP.Peers[i].Address.Addr(); p.IsValid() && p.Is4() == addr.Is4() {
			return
		}
	}
	d.contradiction(fmt.Sprintf("found %s, and no peer of its family; expected one, or bgp.next_hop_ipv4 or next_hop_ipv6 for the other family's sessions", addr), path)
}

func (d *decoder) bird(b *BIRDDriver) {
	for path, text := range map[string]string{"bird.file": b.File, "bird.control_socket": b.ControlSocket} {
		if !strings.HasPrefix(text, "/") {
			d.contradiction(fmt.Sprintf("found %q; expected an absolute path", shorten(text)), path)
		}
	}
	word := func(r rune) bool {
		return r == '_' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
	}
	if b.Protocol == "" || strings.ContainsFunc(b.Protocol, func(r rune) bool { return !word(r) }) || b.Protocol[0] <= '9' {
		d.contradiction(fmt.Sprintf("found %q; expected a name for BIRD, of letters, digits and _", shorten(b.Protocol)), "bird.protocol")
	}
}
