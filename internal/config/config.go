// Package config is the configuration file: its types, its defaults, its
// checks, and the reference and schema that are generated from them. Only cmd
// and internal/daemon import it; every other package takes an Options struct.
//
// The doc comment of a field is its text in docs/configuration.md.
package config

import (
	"net/netip"
	"time"
)

// Config is a whole configuration file.
type Config struct {
	// Where to listen for clients.
	Listen []Listener `yaml:"listen"`
	// Who may ask. The most specific prefix that holds the client's address
	// decides; a client in none is refused. Giving this list replaces the
	// default one.
	AccessControl []AccessRule `yaml:"access_control"`
	// What is kept in memory.
	Cache Cache `yaml:"cache"`
	// How questions are resolved.
	Resolver Resolver `yaml:"resolver"`
	// What clients may use up.
	Limits Limits `yaml:"limits"`
	// What is written to standard error.
	Log Log `yaml:"log"`
}

// Listener is one address to listen on.
type Listener struct {
	// IP address and port, as `192.0.2.1:53` or `[2001:db8::1]:53`. `0.0.0.0`
	// and `[::]` are all addresses of their family; replies leave from the
	// address that was asked.
	Address netip.AddrPort `yaml:"address"`
	// Transports to serve on the address.
	Protocols []Protocol `yaml:"protocols"`
}

// Protocol is a transport for clients.
type Protocol string

// The transports that can be configured.
const (
	ProtocolUDP Protocol = "udp"
	ProtocolTCP Protocol = "tcp"
)

// AccessRule says what clients of one prefix may do.
type AccessRule struct {
	// Addresses that the rule is for, as `192.0.2.0/24`.
	Prefix netip.Prefix `yaml:"prefix"`
	// `allow` answers recursive queries and refuses those without RD;
	// `allow_snoop` answers those too, from memory only; `refuse` answers
	// REFUSED; `deny` answers nothing.
	Action Action `yaml:"action"`
}

// Action is what an [AccessRule] does, in Unbound's words.
type Action string

// The actions.
const (
	ActionAllow      Action = "allow"
	ActionAllowSnoop Action = "allow_snoop"
	ActionRefuse     Action = "refuse"
	ActionDeny       Action = "deny"
)

// Cache configures what is kept in memory.
type Cache struct {
	// Memory for finished answers.
	AnswersSize Size `yaml:"answers_size"`
	// Memory for the RRsets and zone cuts that resolution works with.
	RRsetsSize Size `yaml:"rrsets_size"`
	// Data is kept no longer than this, whatever its TTL.
	MaxTTL time.Duration `yaml:"max_ttl"`
	// Data is kept at least this long. Anything but 0 breaks the word of the
	// data's owner.
	MinTTL time.Duration `yaml:"min_ttl"`
	// Proof that a name or type does not exist is kept no longer than this
	// (RFC 2308 §5).
	MaxNegativeTTL time.Duration `yaml:"max_negative_ttl"`
	// A failure to resolve is remembered this long the first time, and twice
	// as long each further time in a row (RFC 9520 §3.2).
	MinFailureTTL time.Duration `yaml:"min_failure_ttl"`
	// … and never longer than this.
	MaxFailureTTL time.Duration `yaml:"max_failure_ttl"`
}

// Resolver configures how questions are resolved.
type Resolver struct {
	// A zone file with the NS records of the root and the addresses of its
	// servers. Empty: the built-in list.
	RootHints string `yaml:"root_hints"`
	// Ask the servers of the hints for the current list at start, and when
	// it expires (RFC 9609).
	PrimeRoot bool `yaml:"prime_root"`
	// Send no name server more of the name than it needs (RFC 9156):
	// `relaxed` shows the full name to a server that fails on a shorter one,
	// `strict` does not, `off` always shows it.
	QNameMinimisation Minimisation `yaml:"qname_minimisation"`
	// Ask servers over IPv4.
	IPv4 bool `yaml:"ipv4"`
	// Ask servers over IPv6.
	IPv6 bool `yaml:"ipv6"`
	// Never ask a server on a loopback address. Switch it off only for a
	// laboratory on loopback.
	DoNotQueryLocalhost bool `yaml:"do_not_query_localhost"`
	// The port that name servers are asked on. For laboratories whose servers
	// cannot have port 53; on the Internet it is always 53.
	Port uint16 `yaml:"port"`
	// The UDP payload size offered to name servers, in octets (RFC 9715).
	EDNSSize uint16 `yaml:"edns_size"`
	// The longest that one question may take.
	Timeout time.Duration `yaml:"timeout"`
	// Queries sent for one client question, those for the addresses of name
	// servers included.
	MaxQueries int `yaml:"max_queries"`
	// CNAME and DNAME records followed for one client question.
	MaxAliases int `yaml:"max_aliases"`
}

// Minimisation is a mode of QNAME minimisation.
type Minimisation string

// The modes of QNAME minimisation.
const (
	MinimisationOff     Minimisation = "off"
	MinimisationRelaxed Minimisation = "relaxed"
	MinimisationStrict  Minimisation = "strict"
)

// Limits bounds what clients may use up.
type Limits struct {
	// Client queries being resolved at once. One more is answered SERVFAIL.
	InFlight int `yaml:"in_flight"`
	// Client queries waiting for the same question at once. One more is
	// answered SERVFAIL.
	Waiters int `yaml:"waiters"`
	// Sockets, each with its reader, for every UDP address. 0: one per CPU.
	UDPReaders int `yaml:"udp_readers"`
	// The largest UDP response sent, in octets (RFC 9715).
	UDPSize uint16 `yaml:"udp_size"`
	// A UDP client is sent no answer that took longer than this: it has
	// given up, and answers held back can be made to burst (DNSBomb).
	UDPDiscardTimeout time.Duration `yaml:"udp_discard_timeout"`
	// TCP connections at once. One more is closed on arrival.
	TCPConnections int `yaml:"tcp_connections"`
	// TCP connections at once from one client: an IPv4 address or an IPv6 /64.
	TCPConnectionsPerClient int `yaml:"tcp_connections_per_client"`
	// Queries of one TCP connection being resolved at once. The next ones
	// stay unread.
	TCPInFlight int `yaml:"tcp_in_flight"`
	// From a TCP connection's start to its first octet.
	TCPFirstByteTimeout time.Duration `yaml:"tcp_first_byte_timeout"`
	// From a TCP message's first octet to its last, and for the client to
	// take a response.
	TCPMessageTimeout time.Duration `yaml:"tcp_message_timeout"`
	// Between two messages of a TCP connection (RFC 7766 §6.2.3).
	TCPIdleTimeout time.Duration `yaml:"tcp_idle_timeout"`
	// How long to wait for queries in flight when the server stops.
	DrainTimeout time.Duration `yaml:"drain_timeout"`
}

// Log configures the log.
type Log struct {
	// The least severe messages to write: `debug`, `info`, `warn` or `error`.
	Level Level `yaml:"level"`
	// `text` or `json`.
	Format Format `yaml:"format"`
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

// Format is a form of the log.
type Format string

// The forms.
const (
	FormatText Format = "text"
	FormatJSON Format = "json"
)

// Size is an amount of memory in bytes, written as `512MiB`.
type Size int64

// Default returns the configuration of a server without a file: loopback only,
// everything in process. It is the one place where defaults are written.
func Default() Config {
	loopback4 := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	protocols := func() []Protocol { return []Protocol{ProtocolUDP, ProtocolTCP} }
	return Config{
		Listen: []Listener{
			{Address: netip.AddrPortFrom(loopback4, 5353), Protocols: protocols()},
			{Address: netip.AddrPortFrom(netip.IPv6Loopback(), 5353), Protocols: protocols()},
		},
		AccessControl: []AccessRule{
			{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{127}), 8), Action: ActionAllow},
			{Prefix: netip.PrefixFrom(netip.IPv6Loopback(), 128), Action: ActionAllow},
		},
		Cache: Cache{
			AnswersSize:    64 << 20,
			RRsetsSize:     64 << 20,
			MaxTTL:         24 * time.Hour,
			MaxNegativeTTL: time.Hour,
			MinFailureTTL:  time.Second,
			MaxFailureTTL:  5 * time.Minute,
		},
		Resolver: Resolver{
			PrimeRoot:           true,
			QNameMinimisation:   MinimisationRelaxed,
			IPv4:                true,
			IPv6:                true,
			DoNotQueryLocalhost: true,
			Port:                53,
			EDNSSize:            1232,
			Timeout:             6 * time.Second,
			MaxQueries:          100,
			MaxAliases:          11,
		},
		Limits: Limits{
			InFlight:                10_000,
			Waiters:                 100,
			UDPSize:                 1232,
			UDPDiscardTimeout:       1900 * time.Millisecond,
			TCPConnections:          4096,
			TCPConnectionsPerClient: 256,
			TCPInFlight:             32,
			TCPFirstByteTimeout:     3 * time.Second,
			TCPMessageTimeout:       5 * time.Second,
			TCPIdleTimeout:          10 * time.Second,
			DrainTimeout:            5 * time.Second,
		},
		Log: Log{Level: LevelInfo, Format: FormatText},
	}
}
