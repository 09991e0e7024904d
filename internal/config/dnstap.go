package config

import (
	"fmt"
	"net"
	"strconv"
	"time"

	"shirube/internal/wire"
)

// Dnstap configures what collectors are told (dnstap.info).
type Dnstap struct {
	// Who the server says it is, as text of 255 octets at most. Empty: the name of
	// `identity`, and without that the name of this machine.
	Identity string `yaml:"identity"`
	// Say which version of Shirube this is.
	Version bool `yaml:"version"`
	// Where to send or write messages. Each output has a queue and a filter of its
	// own. None: nothing is told, and nothing spent on it.
	Outputs []DnstapOutput `yaml:"outputs" range:"0..8"`
	// Who asks most, and for what, on the status page of the admin listener.
	Top DnstapTop `yaml:"top"`
}

// DnstapTop configures the names that clients ask for most lately, and the clients
// that ask most. It costs what an output costs that is told the same queries. The
// names and addresses are on the status page and in its document, and nowhere else.
type DnstapTop struct {
	// Whether to look for them.
	Enabled bool `yaml:"enabled"`
	// One in so many queries is looked at.
	Sample int `yaml:"sample" range:"1..1000000000"`
	// How many names, and how many clients, are shown.
	Entries int `yaml:"entries" range:"1..100"`
	// How much of clients' addresses is shown. Clients with the same prefix, or the
	// same hash, are one.
	Privacy DnstapPrivacy `yaml:"privacy"`
}

// DnstapOutput is one collector, or one series of files.
type DnstapOutput struct {
	// The unix socket that a collector listens on. One of `socket`, `address` and
	// `file` has to be given.
	Socket string `yaml:"socket"`
	// Where a collector listens over TCP: host and port, as `192.0.2.1:6000`,
	// `[2001:db8::1]:6000` or `collector.example.com:6000`. A name is looked up by
	// the system, which should not ask this server.
	Address string `yaml:"address"`
	// The file to write. A relative path starts at the directory that the server
	// was started in. A file of this name from before gets the time into its name.
	File string `yaml:"file"`
	// TLS to the collector at `address`.
	TLS DnstapTLS `yaml:"tls"`
	// When a `file` is complete.
	Rotate DnstapRotate `yaml:"rotate"`
	// Memory for what the collector has not taken yet. What finds no room in it is
	// dropped, and counted.
	QueueSize Size `yaml:"queue_size" range:"1MiB..4GiB"`
	// Which messages, and how many of them.
	Sample DnstapSample `yaml:"sample"`
	// What else a message has to be.
	Only DnstapOnly `yaml:"only"`
	// How much of clients' addresses is shown.
	Privacy DnstapPrivacy `yaml:"privacy"`
}

// DnstapTLS configures TLS to a collector.
type DnstapTLS struct {
	// Use TLS 1.3.
	Enabled bool `yaml:"enabled"`
	// Name that the collector's certificate has to be for. Empty: the host of
	// `address`.
	Name string `yaml:"name"`
	// File with the certificates of the authorities that the collector's may be
	// from, in PEM. Empty: those that this machine trusts.
	CAFile string `yaml:"ca_file"`
	// File with this server's certificate, in PEM, for a collector that asks for
	// one. Needs `key_file`.
	CertFile string `yaml:"cert_file"`
	// File with the key of `cert_file`, in PEM.
	KeyFile string `yaml:"key_file"`
}

// DnstapRotate configures when a file is complete. It then gets the time into its
// name, before the extension, and another one is begun.
type DnstapRotate struct {
	// A file is complete when it is so long. `0`: whatever its length.
	Size Size `yaml:"size" range:"0.."`
	// A file is complete when it is so old. `0`: whatever its age.
	Age time.Duration `yaml:"age" range:"0..366d"`
	// How many complete files are kept; older ones are removed. `0`: all.
	Keep int `yaml:"keep" range:"0..1000000"`
}

// DnstapSample says of each type of message that one in so many is told: `1`
// all, `0` none. A response is told whenever its query is, if both numbers are
// the same.
type DnstapSample struct {
	// Queries of clients.
	ClientQuery int `yaml:"client_query" range:"0..1000000000"`
	// Responses to clients.
	ClientResponse int `yaml:"client_response" range:"0..1000000000"`
	// Queries to authoritative servers.
	ResolverQuery int `yaml:"resolver_query" range:"0..1000000000"`
	// Responses of authoritative servers, those that were believed.
	ResolverResponse int `yaml:"resolver_response" range:"0..1000000000"`
	// Queries to servers in `forward_zones`.
	ForwarderQuery int `yaml:"forwarder_query" range:"0..1000000000"`
	// Responses of servers in `forward_zones`, those that were believed.
	ForwarderResponse int `yaml:"forwarder_response" range:"0..1000000000"`
	// Tell every response with SERVFAIL, of the types that are told at all,
	// whatever these numbers and `only` say.
	AllServFail bool `yaml:"all_servfail"`
}

// DnstapOnly narrows down what is told. Empty lists narrow down nothing.
type DnstapOnly struct {
	// Responses with one of these codes only. It says nothing about queries.
	Rcodes []Rcode `yaml:"rcodes" range:"0..7"`
	// Questions for names in or below one of these only.
	Suffixes []wire.Name `yaml:"suffixes" range:"0..256"`
	// Queries of clients, and responses to them, over one of these only.
	Transports []ClientTransport `yaml:"transports" range:"0..6"`
}

// Rcode is a response code that dnstap can be narrowed down to.
type Rcode string

func (Rcode) values() []string {
	return []string{"noerror", "formerr", "servfail", "nxdomain", "notimp", "refused", "yxdomain"}
}

// Number returns the code itself (RFC 1035 §4.1.1, RFC 2136 §2.2).
func (r Rcode) Number() wire.Rcode {
	for i, word := range r.values() {
		if word == string(r) {
			return wire.Rcode(i)
		}
	}
	return 0 // it was checked when it was read
}

// ClientTransport is a transport between clients and this server.
type ClientTransport string

func (ClientTransport) values() []string { return []string{"udp", "tcp", "dot", "doh", "doh3", "doq"} }

// Proto returns the transport itself.
func (t ClientTransport) Proto() wire.Proto {
	for i, word := range t.values() { // in the order of wire's
		if word == string(t) {
			return wire.Proto(i)
		}
	}
	return 0 // it was checked when it was read
}

// DnstapPrivacy says how much of a client's address is shown. Messages are shown
// whole, with the names in them.
type DnstapPrivacy struct {
	// How many bits of an IPv4 address are shown; the others are zero.
	IPv4Bits int `yaml:"ipv4_bits" range:"1..32"`
	// How many bits of an IPv6 address are shown; the others are zero.
	IPv6Bits int `yaml:"ipv6_bits" range:"1..128"`
	// Show a keyed hash of that instead, which looks like an address, and is the
	// same for the same client.
	Hash bool `yaml:"hash"`
	// The key, of 32 hexadecimal digits. Servers with the same key show a client
	// alike, and who has it can find out the addresses. Empty: a random one, which
	// is this process's alone.
	HashKey Secret `yaml:"hash_key"`
}

// defaultDnstap returns the default of dnstap.
func defaultDnstap() Dnstap {
	return Dnstap{
		Version: true, Outputs: []DnstapOutput{},
		Top: DnstapTop{Sample: 16, Entries: 10, Privacy: DnstapPrivacy{IPv4Bits: 32, IPv6Bits: 128}},
	}
}

// defaults returns what an element of dnstap.outputs is before its keys are read.
func (DnstapOutput) defaults() any {
	return DnstapOutput{
		Rotate:    DnstapRotate{Size: 1 << 30, Age: time.Hour, Keep: 24},
		QueueSize: 16 << 20,
		Sample: DnstapSample{
			ClientQuery: 1, ClientResponse: 1, ResolverQuery: 1, ResolverResponse: 1, ForwarderQuery: 1, ForwarderResponse: 1,
		},
		Only:    DnstapOnly{Rcodes: []Rcode{}, Suffixes: []wire.Name{}, Transports: []ClientTransport{}},
		Privacy: DnstapPrivacy{IPv4Bits: 32, IPv6Bits: 128},
	}
}

// The limits of what is said of dnstap.
const (
	maxTapIdentity = 255
	maxSocketPath  = 107 // octets of a unix socket's path (unix(7))
)

// dnstap reports what makes no sense about outputs.
func (d *decoder) dnstap(cfg *Config) {
	if n := len(cfg.Dnstap.Identity); n > maxTapIdentity {
		d.contradiction(fmt.Sprintf("found %d octets; expected %d at most", n, maxTapIdentity), "dnstap.identity")
	}
	places := map[string]string{}
	for i := range cfg.Dnstap.Outputs {
		o, path := &cfg.Dnstap.Outputs[i], fmt.Sprintf("dnstap.outputs[%d]", i)
		d.dnstapPlace(o, path)
		d.dnstapTLS(o, path)
		for key, place := range map[string]string{"socket": o.Socket, "address": o.Address, "file": o.File} {
			if place == "" {
				continue
			}
			if before, again := places[key+place]; again && key == "file" {
				d.contradiction(fmt.Sprintf("found the file of %s; expected another one", before), path+".file")
			}
			places[key+place] = path
		}
		d.dnstapPrivacy(&o.Privacy, path+".privacy")
	}
	d.dnstapPrivacy(&cfg.Dnstap.Top.Privacy, "dnstap.top.privacy")
}

// dnstapPrivacy reports a key that is of no use.
func (d *decoder) dnstapPrivacy(p *DnstapPrivacy, path string) {
	if p.HashKey != "" && !p.Hash {
		d.contradiction("found a hash_key, and false for hash", path+".hash_key")
	}
}

// dnstapPlace reports an output that is not at exactly one place.
func (d *decoder) dnstapPlace(o *DnstapOutput, path string) {
	given := 0
	for _, place := range []string{o.Socket, o.Address, o.File} {
		if place != "" {
			given++
		}
	}
	switch {
	case given != 1:
		d.contradiction(fmt.Sprintf("found %d of socket, address and file; expected one of them", given), path)
	case len(o.Socket) > maxSocketPath:
		d.contradiction(fmt.Sprintf("found a path of %d octets; a unix socket's has %d at most", len(o.Socket), maxSocketPath), path+".socket")
	case o.Address != "" && !hostAndPort(o.Address):
		d.contradiction(fmt.Sprintf("found %q; expected host and port, such as 192.0.2.1:6000", shorten(o.Address)), path+".address")
	}
}

// hostAndPort reports whether text is a host and a port in digits.
func hostAndPort(text string) bool {
	host, port, err := net.SplitHostPort(text)
	if err != nil || host == "" {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// dnstapTLS reports TLS that cannot be.
func (d *decoder) dnstapTLS(o *DnstapOutput, path string) {
	path += ".tls"
	switch t := &o.TLS; {
	case t.Enabled && o.Address == "":
		d.contradiction("found true; TLS is for an output with an address", path+".enabled")
	case !t.Enabled && (t.Name != "" || t.CAFile != "" || t.CertFile != "" || t.KeyFile != ""):
		d.contradiction("found more about TLS, and false for enabled", path)
	default:
		d.ownCertificate(t.CertFile, t.KeyFile, path)
	}
}
