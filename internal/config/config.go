// Package config is the configuration file: its types, its defaults, its
// checks, and the reference and schema that are generated from them. Only cmd
// and internal/daemon import it; every other package takes an Options struct.
//
// The types are the one description of the file. Of a field, the yaml tag is
// its key; the range tag what its value may be (for a list, how many elements
// it may have), with both ends included; the required tag says that an element
// of a list cannot do without it; the auto tag that a size may be [Auto]; the
// reload tag `restart` that a running server cannot change it, nor what is in it;
// and the doc comment is its text in docs/configuration.md and in the schema. [Keys]
// returns all that but the text, and nothing else reads the tags.
package config

//go:generate go run ./gen .

import (
	"net/netip"
	"time"
)

// Config is a whole configuration file.
type Config struct {
	// Where to listen for clients.
	Listen []Listener `yaml:"listen" range:"1.."`
	// How clients are served over UDP.
	UDP UDP `yaml:"udp"`
	// Certificates for clients that come encrypted.
	TLS TLS `yaml:"tls"`
	// How clients are served over HTTPS.
	DoH DoH `yaml:"doh"`
	// Who may ask. The most specific prefix that holds the client's address
	// decides; a client in none is refused. Giving this list replaces the
	// default one.
	AccessControl []AccessRule `yaml:"access_control"`
	// Cookies for clients, which show who is not where it says it is (RFC 7873).
	Cookies Cookies `yaml:"cookies"`
	// What the server says of itself to who asks.
	Identity Identity `yaml:"identity"`
	// How clients find out what this server can do.
	Discovery Discovery `yaml:"discovery"`
	// What customers' routers are told.
	Provisioning Provisioning `yaml:"provisioning"`
	// What is kept in memory.
	Cache Cache `yaml:"cache"`
	// What is kept in common with other servers of the same fleet, on memcached.
	SharedCache SharedCache `yaml:"shared_cache"`
	// How questions are resolved.
	Resolver Resolver `yaml:"resolver"`
	// Zones whose names are asked of other resolvers. Of the zones here and in
	// `stub_zones`, the most specific one that holds a name decides.
	ForwardZones []Zone `yaml:"forward_zones" range:"0..10000"`
	// Zones whose own servers are given here, in place of those that their
	// parents name. Zones below them are found by following referrals.
	StubZones []Zone `yaml:"stub_zones" range:"0..10000"`
	// Zones that are answered here and never asked for: `localhost`, `test`,
	// `invalid`, `onion`, and the names of private and reserved addresses.
	BuiltinZones BuiltinZones `yaml:"builtin_zones"`
	// A copy of the root zone, to use in place of the root servers (RFC 8806).
	LocalRoot LocalRoot `yaml:"local_root"`
	// How answers are validated.
	DNSSEC DNSSEC `yaml:"dnssec"`
	// What clients may use up.
	Limits Limits `yaml:"limits"`
	// How the server goes.
	Drain Drain `yaml:"drain"`
	// What is told of every query and response, to collectors or files.
	Dnstap Dnstap `yaml:"dnstap"`
	// What a collector of OpenTelemetry's is told of how questions are resolved.
	Tracing Tracing `yaml:"tracing"`
	// What is written to standard error.
	Log Log `yaml:"log"`
	// The socket for `shirube ctl`, which shows and changes what a running
	// server does.
	Control Control `yaml:"control" reload:"restart"`
	// What monitoring and people look at over HTTP: metrics, health, and a page
	// with the server's state.
	Admin Admin `yaml:"admin"`
	// How the server says whether it is ready for clients.
	Health Health `yaml:"health"`
	// What only tests of the server need. Never for production.
	Debug Debug `yaml:"debug" reload:"restart"`
}

// Listener is one address to listen on.
type Listener struct {
	// IP address and port, as `192.0.2.1:53` or `[2001:db8::1]:53`. `0.0.0.0`
	// and `[::]` are all addresses of their family; replies leave from the
	// address that was asked. An IPv6 address needs quotes, for `[` opens a
	// list in YAML.
	Address netip.AddrPort `yaml:"address" required:"true"`
	// Transports to serve on the address: `udp`; `tcp`; `dot`, DNS over TLS, whose
	// port is 853; `doh`, DNS over HTTPS (HTTP/1.1 and HTTP/2), 443; `doh3`, the
	// same over HTTP/3, 443; `doq`, DNS over QUIC, 853; and `doh_cleartext`, DNS
	// over HTTP, for a proxy in front that has the certificate. One of `tcp`,
	// `dot`, `doh` and `doh_cleartext`, and one of `udp`, `doh3` and `doq` can
	// have an address and port.
	Protocols []Protocol `yaml:"protocols" range:"1.."`
	// Listen on the address though this machine does not have it, for somebody
	// else adds it and takes it away: an announcer, VRRP. Clients are served from
	// the moment that it is there. With `false` an address that is not there is an
	// error. On Linux only (IP_FREEBIND); it counts when the address is bound, not
	// for one that is listened on. It is `ip-freebind` of Unbound, which is for all
	// addresses.
	Freebind bool `yaml:"freebind"`
	// Proxies that clients come by.
	ProxyProtocol ProxyProtocol `yaml:"proxy_protocol"`
}

// ProxyProtocol configures who says on whose behalf it asks.
type ProxyProtocol struct {
	// Addresses of the proxies and load balancers that alone may use the
	// listener, as `192.0.2.0/24`. Each connection, and each datagram, has to begin
	// with a header of the PROXY protocol, version 2, of 512 octets at most. It names
	// the client, for `access_control`, limits and cookies; answers go to the
	// proxy. All else is dropped. An address without a length is that address alone.
	// Empty: clients speak for themselves. It is `proxy-protocol-from` of PowerDNS
	// Recursor and `allow-proxy` of BIND; Unbound's `proxy-protocol-port` names
	// ports in its place.
	From []netip.Prefix `yaml:"from" range:"0..64"`
	// The header comes inside of TLS, after the handshake, as dnsdist sends it to
	// servers with `tls`; for `dot` and `doh` only. With `false` it comes before the
	// handshake, as HAProxy sends it (`send-proxy-v2`).
	InsideTLS bool `yaml:"inside_tls"`
}

// Protocol is a transport for clients.
type Protocol string

// The transports that can be configured.
const (
	ProtocolUDP Protocol = "udp"
	ProtocolTCP Protocol = "tcp"
	ProtocolDoT Protocol = "dot"
	ProtocolDoH Protocol = "doh"

	ProtocolDoH3         Protocol = "doh3"
	ProtocolDoQ          Protocol = "doq"
	ProtocolDoHCleartext Protocol = "doh_cleartext" // without TLS, to proxies
)

func (Protocol) values() []string {
	return []string{
		string(ProtocolUDP), string(ProtocolTCP), string(ProtocolDoT), string(ProtocolDoH), string(ProtocolDoH3), string(ProtocolDoQ),
		string(ProtocolDoHCleartext),
	}
}

// AccessRule says what clients of one prefix may do.
type AccessRule struct {
	// Addresses that the rule is for, as `192.0.2.0/24`. An address without a
	// length is that address alone.
	Prefix netip.Prefix `yaml:"prefix" required:"true"`
	// `allow` answers recursive queries and refuses those without RD;
	// `allow_snoop` answers those too, from memory only; `allow_cookie` is
	// `allow` for queries over TCP, and over UDP for those with a valid cookie
	// (see `cookies`): a client whose cookie is not gets BADCOOKIE and a new one,
	// and one without is told to use TCP; `refuse` answers REFUSED; `deny` answers
	// nothing.
	Action Action `yaml:"action" required:"true"`
}

// Action is what an [AccessRule] does, in Unbound's words.
type Action string

// The actions.
const (
	ActionAllow       Action = "allow"
	ActionAllowSnoop  Action = "allow_snoop"
	ActionAllowCookie Action = "allow_cookie"
	ActionRefuse      Action = "refuse"
	ActionDeny        Action = "deny"
)

func (Action) values() []string {
	return []string{
		string(ActionAllow), string(ActionAllowSnoop), string(ActionAllowCookie), string(ActionRefuse), string(ActionDeny),
	}
}

// Cache configures what is kept in memory.
type Cache struct {
	// Memory for finished answers and failures. `auto` is 40 % of what the
	// server may have: the limit of its control group or container, or all
	// memory of the machine. It is reserved at the start, and taken as it is
	// needed. Go's own memory is held to what is left, unless GOMEMLIMIT is set.
	AnswersSize Size `yaml:"answers_size" range:"1MiB.." auto:"true"`
	// Memory for the RRsets, zone cuts, chains of trust and proofs that resolution
	// works with. Denials have a sixteenth of it, 4 MiB at most, so that a flood of names that do
	// not exist drives nothing else out.
	RRsetsSize Size `yaml:"rrsets_size" range:"1MiB.."`
	// Data is kept no longer than this, whatever its TTL. The upper bound is
	// the one that RFC 8767 §4 recommends.
	MaxTTL time.Duration `yaml:"max_ttl" range:"1s..7d"`
	// Data is kept at least this long. Anything but 0 breaks the word of the
	// data's owner. At most `max_ttl`. A denial that comes without a TTL is kept
	// so long, too; with 0 it is not kept (RFC 2308 §5).
	MinTTL time.Duration `yaml:"min_ttl" range:"0..7d"`
	// Proof that a name or type does not exist is kept no longer than this
	// (RFC 2308 §5).
	MaxNegativeTTL time.Duration `yaml:"max_negative_ttl" range:"1s..1d"`
	// A failure to resolve is remembered this long the first time, and twice
	// as long each further time in a row. RFC 9520 §3.2 sets both bounds. At
	// most `max_failure_ttl`.
	MinFailureTTL time.Duration `yaml:"min_failure_ttl" range:"1s..5m"`
	// A failure to resolve is remembered no longer than this, however often
	// it comes back. RFC 9520 §3.2 sets both bounds.
	MaxFailureTTL time.Duration `yaml:"max_failure_ttl" range:"1s..5m"`
	// Renew an answer when a tenth of its life is left, if it is asked for
	// then and was before, so that no client has to wait for what is popular.
	// No client waits for the renewal either. Answers that live less than 9
	// seconds are left to expire. On by default, as in BIND: it costs one
	// query for each that a client would have waited for.
	Prefetch bool `yaml:"prefetch"`
	// Let the addresses of a name take turns at being the first in the answer,
	// at random, so that clients that take the first spread over all of them.
	RotateRRsets bool `yaml:"rotate_rrsets"`
	// Answer with what was asked for, what proves it, and what its type calls
	// for (the addresses of NS and SVCB records) only. With `false`, answers with
	// data also carry what came along with them, as with `minimal-responses: no`
	// in Unbound: in the authority section the NS records of the zone, and in the
	// additional section the addresses of the hosts in these and in the answer.
	// Such an answer is longer, lives no longer than what lives shortest in it,
	// and tells no client anything that it could not ask for.
	MinimalResponses bool `yaml:"minimal_responses"`
	// What to do with answers that have expired and cannot be renewed.
	ServeStale ServeStale `yaml:"serve_stale"`
}

// ServeStale configures the use of answers that have expired (RFC 8767).
type ServeStale struct {
	// Answer with what has expired when nothing better can be had: the name
	// servers do not answer, or not in time. Such an answer carries the
	// Extended DNS Error 3 (Stale Answer) or 19 (Stale NXDOMAIN Answer). On by
	// default, unlike in most resolvers, for it is never in the way of a new
	// answer: the alternative is none at all, and an outage of a zone's
	// servers would be one of all that the zone names.
	Enabled bool `yaml:"enabled"`
	// An answer is of use this long after it has expired. RFC 8767 §5
	// advises one to three days.
	MaxAge time.Duration `yaml:"max_age" range:"1s..30d"`
	// The TTL of what has expired, in whole seconds: how long clients keep it
	// (RFC 8767 §4).
	ReplyTTL time.Duration `yaml:"reply_ttl" range:"1s..1h"`
	// A client that has waited this long for a new answer is given the expired
	// one; the search for the new one goes on (RFC 8767 §5). `0`: at once, and
	// so are clients with `allow_snoop` that do not ask for recursion. At most
	// `limits.udp_discard_timeout`, or the answer would not be sent over UDP.
	ClientTimeout time.Duration `yaml:"client_timeout" range:"0..1m"`
	// After a failure to renew an answer, clients are given the expired one
	// for so long before it is tried again (RFC 8767 §5; the bounds are those
	// of RFC 9520 §3.2).
	Recheck time.Duration `yaml:"recheck" range:"1s..5m"`
}

// Resolver configures how questions are resolved.
type Resolver struct {
	// A zone file with the NS records of the root and the addresses of its
	// servers. A relative path starts at the directory that the server was
	// started in. Empty: the built-in list.
	RootHints string `yaml:"root_hints"`
	// Ask the servers of the hints for the current list at start, and when
	// it expires (RFC 9609).
	PrimeRoot bool `yaml:"prime_root"`
	// Send no name server more of the name than it needs (RFC 9156):
	// `relaxed` shows the full name to a server that fails on a shorter one,
	// `strict` does not, `off` always shows it.
	QNameMinimisation Minimisation `yaml:"qname_minimisation"`
	// Ask servers over IPv4. At least one of `ipv4` and `ipv6` has to be true.
	IPv4 bool `yaml:"ipv4"`
	// Ask servers over IPv6. At least one of `ipv4` and `ipv6` has to be true.
	IPv6 bool `yaml:"ipv6"`
	// Never ask a server on a loopback address. Switch it off only for a
	// laboratory on loopback.
	DoNotQueryLocalhost bool `yaml:"do_not_query_localhost"`
	// Spell each name in a random mix of upper and lower case, and take no
	// answer in another (0x20): what an attacker has to guess more. Servers
	// that cannot are found out and spared.
	UseCapsForID bool `yaml:"use_caps_for_id"`
	// Exchange cookies with name servers that have them (RFC 7873), so that
	// nobody off the path can answer in their place.
	UpstreamCookies bool `yaml:"upstream_cookies"`
	// Take the address of a name server from a referral only if the server that
	// gave it has authority over the name (RFC 2181 §5.4.1); all others are
	// looked up. Without it a server can say where those of foreign zones are,
	// for names below its own: switch it off only for old tests.
	HardenGlue bool `yaml:"harden_glue"`
	// The port that name servers are asked on. For laboratories whose servers
	// cannot have port 53; on the Internet it is always 53.
	Port uint16 `yaml:"port" range:"1.."`
	// Ask name servers encrypted over these transports, where they are seen to
	// have them (RFC 9539), which is against who listens: nobody has to prove who
	// they are, and who cannot be asked so is asked in the clear. Forwarders are
	// not meant; they have `tls` and `doh`.
	OpportunisticEncryption []AuthorityEncryption `yaml:"opportunistic_encryption" range:"0..2"`
	// The port that name servers are asked on over those transports. For
	// laboratories; on the Internet it is always 853.
	EncryptedPort uint16 `yaml:"encrypted_port" range:"1.."`
	// The UDP payload size offered to name servers, in octets (RFC 9715).
	EDNSSize uint16 `yaml:"edns_size" range:"512..4096"`
	// The longest that one question may take.
	Timeout time.Duration `yaml:"timeout" range:"1s..1m"`
	// Queries sent for one client question, those for the addresses of name
	// servers included.
	MaxQueries int `yaml:"max_queries" range:"1..10000"`
	// CNAME and DNAME records followed for one client question.
	MaxAliases int `yaml:"max_aliases" range:"1..100"`
}

// AuthorityEncryption is an encrypted transport of name servers.
type AuthorityEncryption string

func (AuthorityEncryption) values() []string {
	return []string{string(ProtocolDoT), string(ProtocolDoQ)}
}

// Minimisation is a mode of QNAME minimisation.
type Minimisation string

// The modes of QNAME minimisation.
const (
	MinimisationOff     Minimisation = "off"
	MinimisationRelaxed Minimisation = "relaxed"
	MinimisationStrict  Minimisation = "strict"
)

func (Minimisation) values() []string {
	return []string{string(MinimisationOff), string(MinimisationRelaxed), string(MinimisationStrict)}
}

// Limits bounds what clients may use up.
type Limits struct {
	// Client queries being resolved at once. One more gets the stale answer, or
	// SERVFAIL.
	InFlight int `yaml:"in_flight" range:"1..1000000"`
	// How many of the `in_flight` queries may come from one client network, an
	// IPv4 /24 or an IPv6 /56. One more gets the stale answer, or SERVFAIL. 0:
	// one sixteenth of them. If all clients are behind one proxy, set it to `in_flight`.
	InFlightPerNetwork int `yaml:"in_flight_per_network" range:"0..1000000"`
	// How many of the `in_flight` queries may wait for the servers of one zone.
	// One more gets the stale answer, or SERVFAIL. Four times as many may wait
	// for a top-level zone and for one whose servers are configured, and all for
	// the root. 0: one sixteenth of them.
	InFlightPerZone int `yaml:"in_flight_per_zone" range:"0..1000000"`
	// Client queries waiting for the same question at once. One more gets the
	// stale answer, or SERVFAIL.
	Waiters int `yaml:"waiters" range:"1..1000000"`
	// Sockets, each with its reader, for every UDP address. 0: one per CPU. Queries
	// that wait for a socket are lost when it is closed, so that a reload leaves
	// their number as it is.
	UDPReaders int `yaml:"udp_readers" range:"0..1024" reload:"restart"`
	// The largest UDP response sent, in octets (RFC 9715).
	UDPSize uint16 `yaml:"udp_size" range:"512..4096"`
	// A UDP client is sent no answer that took longer than this: it has
	// given up, and answers held back can be made to burst (DNSBomb).
	UDPDiscardTimeout time.Duration `yaml:"udp_discard_timeout" range:"100ms..1m"`
	// TCP connections at once. One more is closed on arrival.
	TCPConnections int `yaml:"tcp_connections" range:"1..1000000"`
	// TCP connections at once from one client: an IPv4 address or an IPv6 /64.
	// At most `tcp_connections`.
	TCPConnectionsPerClient int `yaml:"tcp_connections_per_client" range:"1..1000000"`
	// Queries of one TCP connection being resolved at once. The next ones
	// stay unread.
	TCPInFlight int `yaml:"tcp_in_flight" range:"1..10000"`
	// From a TCP connection's start to its first octet.
	TCPFirstByteTimeout time.Duration `yaml:"tcp_first_byte_timeout" range:"100ms..1m"`
	// From a TCP message's first octet to its last, and for the client to
	// take a response.
	TCPMessageTimeout time.Duration `yaml:"tcp_message_timeout" range:"100ms..1m"`
	// Between two messages of a TCP connection (RFC 7766 §6.2.3). Less, down to
	// half a second, when more than half of `tcp_connections` are open. Clients that
	// ask are told (RFC 7828).
	TCPIdleTimeout time.Duration `yaml:"tcp_idle_timeout" range:"100ms..10m"`
	// Encrypted connections at once: those of DoT, DoH, DoH3 and DoQ together.
	// One more is closed on arrival. (DoT has the limits of TCP besides.)
	TLSConnections int `yaml:"tls_connections" range:"1..10000000"`
	// Encrypted connections at once from one client: an IPv4 address or an IPv6
	// /64. At most `tls_connections`.
	TLSConnectionsPerClient int `yaml:"tls_connections_per_client" range:"1..10000000"`
	// Full TLS handshakes that one client may make in a second on average, and
	// four times as many at once. One more is closed on arrival. Those that
	// resume a session do not count. 0: any number.
	TLSHandshakesPerClient int `yaml:"tls_handshakes_per_client" range:"0..1000000"`
	// Requests of one connection of HTTP/2 or HTTP/3 at once. A reload changes it
	// for connections that come then.
	DoHStreams int `yaml:"doh_streams" range:"1..10000"`
	// Between two requests of a connection of DoH or DoH3. Less, down to half a
	// second, when more than half of `tls_connections` are open. A reload changes it
	// for connections that come then.
	DoHIdleTimeout time.Duration `yaml:"doh_idle_timeout" range:"100ms..1h"`
	// Queries of one DoQ connection at once. A reload changes it for connections
	// that come then.
	DoQStreams int `yaml:"doq_streams" range:"1..10000"`
	// From the first octet of a query or request of DoQ or DoH3 to its last.
	DoQStreamTimeout time.Duration `yaml:"doq_stream_timeout" range:"100ms..1m"`
	// Between two queries of a DoQ connection. Less, down to half a second, when more
	// than half of `tls_connections` are open. A reload changes it for connections
	// that come then.
	DoQIdleTimeout time.Duration `yaml:"doq_idle_timeout" range:"100ms..1h"`
	// How long to wait for queries in flight when the server stops.
	DrainTimeout time.Duration `yaml:"drain_timeout" range:"0..10m"`
}

// Drain configures how the server goes.
type Drain struct {
	// For how long the server goes on to serve everybody after it was told to stop,
	// while it says that it is not ready: as long as load balancers and routers
	// need to notice and to send nobody here any more, which is the interval of
	// their checks times the checks that have to fail, and some seconds. After it
	// comes `limits.drain_timeout`.
	Delay time.Duration `yaml:"delay" range:"0..10m"`
}

// Log configures the log.
type Log struct {
	// The least severe messages to write: `debug`, `info`, `warn` or `error`.
	Level Level `yaml:"level"`
	// The form of a message: `text` is for people, `json` for programs.
	Format Format `yaml:"format" reload:"restart"`
	// Questions that take long to resolve: what was asked meanwhile, of whom, and
	// what came back.
	SlowResolutions SlowResolutions `yaml:"slow_resolutions"`
}

// SlowResolutions configures what is written of questions that take long to
// resolve. It has the names that clients ask for.
type SlowResolutions struct {
	// A question that has taken so long is written with every step, as `shirube
	// trace` prints them, and is an exemplar of the metric
	// `shirube_resolution_seconds`. `0`: none is.
	LongerThan time.Duration `yaml:"longer_than" range:"0..1m"`
	// At most one is written in so much time; the others are counted. `0`: all
	// are, which is a lot of a busy server.
	Interval time.Duration `yaml:"interval" range:"0..1h"`
}

// Level is a severity of log messages.
type Level string

// The severities.
const (
	LevelDebug Level = "debug"
	LevelInfo  Level = "info"
	LevelWarn  Level = "warn"
	LevelError Level = "error"
)

func (Level) values() []string {
	return []string{string(LevelDebug), string(LevelInfo), string(LevelWarn), string(LevelError)}
}

// Format is a form of the log.
type Format string

// The forms.
const (
	FormatText Format = "text"
	FormatJSON Format = "json"
)

func (Format) values() []string { return []string{string(FormatText), string(FormatJSON)} }
