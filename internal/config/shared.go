package config

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"shirube/internal/wire"
)

// SharedCache configures the cache that the servers of a fleet have in common,
// on memcached.
type SharedCache struct {
	// Whether to use it. It needs at least one of `servers`, `servers_file` and
	// `service`; with several, all that they list are used. All servers of a fleet
	// need the same ones, by the same names.
	Enabled bool `yaml:"enabled"`
	// memcached servers. What is shared is placed by their names: servers that know
	// one by different names look for its answers in different places.
	Servers []SharedServer `yaml:"servers" range:"0..64"`
	// A file that lists servers, each on a line with its name and its address and
	// port. Empty lines and those that begin with `#` do not count. It is read
	// again within 5 seconds when it has changed. A relative path starts at the
	// directory that the server was started in.
	ServersFile string `yaml:"servers_file"`
	// A name in the DNS whose members are servers.
	Service SharedService `yaml:"service"`
	// `sealed` takes only what somebody wrote who has a secret of `secret_file`,
	// and hides what is written from everybody else. With `none`, whoever can reach
	// a memcached decides what the fleet answers: a warning says so at each start.
	Authentication SharedAuthentication `yaml:"authentication"`
	// A file with the fleet's secrets, of 64 hexadecimal digits each, as `openssl
	// rand -hex 32` prints them, one on each line. The first seals what is written;
	// what any of the two that there may be has sealed is read, so that one can
	// follow the other. A line `names` with one more secret keeps the names of keys
	// when the others change; without it they come from the last one. Empty lines
	// and those that begin with `#` do not count. The file is read again within
	// half a minute when it has changed. A relative path starts at the directory
	// that the server was started in.
	SecretFile string `yaml:"secret_file"`
	// Entries of another number do not exist: to change it, for the whole fleet,
	// forgets all that is shared.
	Generation int `yaml:"generation" range:"0..1000000000"`
	// Whether to share who serves the zones that are busy, and what is proven of
	// their keys, too: a server that has just started then asks one server of a name's
	// zone, and not all that lead to it. Each is used until the parent's word on it
	// ends, as where it was learned.
	Delegations bool `yaml:"delegations"`
	// The longest that a question waits for the shared cache in all, before it is
	// resolved. For another server that is about to answer a popular one it waits
	// for as long as that takes, 100 ms at most.
	Budget time.Duration `yaml:"budget" range:"1ms..100ms"`
	// Time for one operation on a connection, which clients do not wait for:
	// connecting, a request with its answer.
	Timeout time.Duration `yaml:"timeout" range:"10ms..5s"`
	// Requests under way with one server at once. What comes meanwhile waits, and
	// goes together.
	InFlight int `yaml:"in_flight" range:"1..64"`
	// Encryption of the connections.
	TLS SharedTLS `yaml:"tls"`
	// What a server does before it is ready, so that it need not resolve anew what
	// the fleet is asked most.
	WarmStart WarmStart `yaml:"warm_start"`
	// The name to tell memcached (its option `--auth-file`). Empty: none is told.
	Username string `yaml:"username"`
	// A file with the password that goes with `username`, on its first line.
	PasswordFile string `yaml:"password_file"`
}

// SharedServer is a memcached server.
type SharedServer struct {
	// A name that stays when the address changes, such as that of a pod of a
	// StatefulSet. It decides which answers the server has, and with `tls` its
	// certificate has to be for it (for the address, if the name is one).
	Name string `yaml:"name" required:"true"`
	// IP address, with or without a port. Without one it is port 11211.
	Address Address `yaml:"address" required:"true"`
}

// SharedService is a name in the DNS whose members are servers: a headless
// service of Kubernetes.
type SharedService struct {
	// The full name, as `memcached.dns.svc.cluster.local`. If it has SRV records,
	// their targets are the servers, by these names; put the name of the port in
	// front for those: `_memcache._tcp.memcached.dns.svc.cluster.local`. Otherwise
	// each of its addresses is a server. Empty: none.
	Name string `yaml:"name"`
	// Who to ask for it, one after the other until one knows: resolvers that do not
	// ask this server. `name` needs at least one.
	Resolvers []Address `yaml:"resolvers" range:"0..4"`
	// The port of the servers, if no SRV record says it.
	Port uint16 `yaml:"port" range:"1.."`
}

// WarmStart configures how a server that has just started fills its memory.
type WarmStart struct {
	// Whether to put what the fleet is asked most into memory before the server is
	// ready, and to tell those who start later what this server is asked most.
	Enabled bool `yaml:"enabled"`
	// The longest that the server is not ready for it. Who asks meanwhile is
	// answered.
	Timeout time.Duration `yaml:"timeout" range:"100ms..1m"`
	// How many questions to take and to tell.
	Questions int `yaml:"questions" range:"1..10000"`
	// The time between two tellings. What nobody has told again for a quarter of an
	// hour is forgotten.
	Interval time.Duration `yaml:"interval" range:"1s..5m"`
}

// SharedTLS configures the encryption of connections to memcached.
type SharedTLS struct {
	// Connect with TLS (memcached's option `-Z`).
	Enabled bool `yaml:"enabled"`
	// A file with the certificates of the authorities that the servers' come from.
	// Empty: those that this machine trusts.
	CAFile string `yaml:"ca_file"`
	// A file with this server's own certificate, for a memcached that wants one. It
	// is read again for each connection, as is `key_file`.
	CertFile string `yaml:"cert_file"`
	// A file with the key of `cert_file`.
	KeyFile string `yaml:"key_file"`
}

// SharedAuthentication is how entries are told from forged ones.
type SharedAuthentication string

// The ways to authenticate entries.
const (
	SharedSealed SharedAuthentication = "sealed"
	SharedNone   SharedAuthentication = "none"
)

func (SharedAuthentication) values() []string {
	return []string{string(SharedSealed), string(SharedNone)}
}

// sharedCache returns the default of the section shared_cache.
func sharedCache() SharedCache {
	return SharedCache{
		Servers:        []SharedServer{},
		Service:        SharedService{Resolvers: []Address{}, Port: 11211},
		Authentication: SharedSealed,
		Delegations:    true,
		Budget:         5 * time.Millisecond,
		Timeout:        250 * time.Millisecond,
		InFlight:       4,
		WarmStart:      WarmStart{Enabled: true, Timeout: 5 * time.Second, Questions: 10_000, Interval: time.Minute},
	}
}

// sharedCache reports what makes no sense about the shared cache.
func (d *decoder) sharedCache(cfg *Config) {
	const section = "shared_cache"
	s := &cfg.SharedCache
	if s.Username == "" != (s.PasswordFile == "") {
		d.contradiction("found one of username and password_file; expected both or none", section+".username", section+".password_file")
	}
	if strings.ContainsAny(s.Username, " \t\r\n:") {
		d.contradiction("found a space or a colon, which memcached has between name and password", section+".username")
	}
	d.ownCertificate(s.TLS.CertFile, s.TLS.KeyFile, section+".tls")
	if _, err := wire.ParseName(s.Service.Name); s.Service.Name != "" && err != nil {
		d.contradiction(fmt.Sprintf("found %q; expected a domain name", shorten(s.Service.Name)), section+".service.name")
	}
	if s.Service.Name != "" && len(s.Service.Resolvers) == 0 {
		d.contradiction("found a name, and none of resolvers to ask for it; it is not looked up at this server, which may need it to start",
			section+".service.name", section+".service.resolvers")
	}
	d.sharedServers(s.Servers)
	if !s.Enabled {
		return
	}
	if len(s.Servers) == 0 && s.ServersFile == "" && s.Service.Name == "" && !d.failed[section+".servers"] {
		d.contradiction("found true without servers, servers_file and service; expected one of them", section+".enabled")
	}
	switch {
	case s.Authentication == SharedSealed && s.SecretFile == "":
		d.contradiction("found no secret_file; without secrets, whoever can reach a memcached decides what the fleet answers. "+
			"Expected a file, with a line from `openssl rand -hex 32`, or none for authentication", section+".enabled", section+".secret_file")
	case s.Authentication == SharedNone && s.SecretFile != "":
		d.contradiction("found none, and a secret_file, which would not be used", section+".authentication", section+".secret_file")
	}
}

// sharedServers reports names and addresses that are there twice, or cannot be
// names.
func (d *decoder) sharedServers(servers []SharedServer) {
	names, at := map[string]int{}, map[netip.AddrPort]int{}
	for i, s := range servers {
		path := fmt.Sprintf("shared_cache.servers[%d]", i)
		if strings.ContainsAny(s.Name, " \t\r\n") {
			d.contradiction(fmt.Sprintf("found %q; expected a name without spaces", s.Name), path+".name")
		}
		if j, again := names[s.Name]; again && s.Name != "" {
			d.contradiction(fmt.Sprintf("found %s again; shared_cache.servers[%d] has it already", s.Name, j), path+".name")
		}
		names[s.Name] = i
		if !s.Address.IsValid() {
			continue
		}
		address := s.Address.Or(sharedCache().Service.Port)
		if j, again := at[address]; again {
			d.contradiction(fmt.Sprintf("found %s again; shared_cache.servers[%d] has it already", address, j), path+".address")
		}
		at[address] = i
	}
}
