package convert

import (
	"encoding/hex"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// translator makes a configuration of options.
type translator struct {
	Result

	port, tlsPort, httpsPort, quicPort string
	interfaces                         []option
	threads                            int
	off                                map[string]bool // of udp and tcp
	automatic, free                    bool
	cert, key                          option
	identity, version                  option
	hidden                             map[string]bool // of identity and version
}

// translate translates options.
func translate(options []option) *Result {
	t := &translator{port: "53", tlsPort: "853", httpsPort: "443", quicPort: "853", threads: 1, off: map[string]bool{}, hidden: map[string]bool{}}
	zones := map[int][]option{} // by block
	var order []int
	for _, o := range options {
		switch {
		case sections[o.name] && len(o.values) == 0:
		case o.section == "server":
			t.server(o)
		case o.section == "forward-zone" || o.section == "stub-zone" || o.section == "auth-zone" || o.section == "dnstap":
			if zones[o.block] == nil {
				order = append(order, o.block)
			}
			zones[o.block] = append(zones[o.block], o)
		default:
			t.others(o)
		}
	}
	t.listen()
	t.self()
	for _, block := range order {
		t.block(zones[block])
	}
	return &t.Result
}

// others notes the sections that have no counterpart.
func (t *translator) others(o option) {
	switch o.section {
	case "":
		t.note(o.from, o.name, true, "it is in no section")
	case "remote-control":
		t.note(o.from, o.name, false, "shirube ctl uses a unix socket: control.socket")
	case "cachedb":
		t.note(o.from, o.name, true, "a cache that servers share is on memcached here: shared_cache")
	case "rpz", "view", "python", "dynlib", "dnscrypt", "ipset":
		t.note(o.from, o.section+": "+o.name, true, "there is nothing like it")
	}
}

// value returns the one value of o.
func (o *option) value() string { return strings.Join(o.values, " ") }

// plain are options of section server whose values go to a key as they are, in a
// form.
var plain = map[string]struct {
	path string
	form func(string) (string, error)
}{
	"prefetch":                     {"cache.prefetch", boolean},
	"cache-max-ttl":                {"cache.max_ttl", seconds},
	"cache-min-ttl":                {"cache.min_ttl", seconds},
	"cache-max-negative-ttl":       {"cache.max_negative_ttl", seconds},
	"msg-cache-size":               {"cache.answers_size", size},
	"rrset-cache-size":             {"cache.rrsets_size", size},
	"rrset-roundrobin":             {"cache.rotate_rrsets", boolean},
	"minimal-responses":            {"cache.minimal_responses", boolean},
	"serve-expired":                {"cache.serve_stale.enabled", boolean},
	"serve-expired-reply-ttl":      {"cache.serve_stale.reply_ttl", seconds},
	"serve-expired-client-timeout": {"cache.serve_stale.client_timeout", milliseconds},
	"root-hints":                   {"resolver.root_hints", text},
	"do-ip4":                       {"resolver.ipv4", boolean},
	"do-ip6":                       {"resolver.ipv6", boolean},
	"do-not-query-localhost":       {"resolver.do_not_query_localhost", boolean},
	"use-caps-for-id":              {"resolver.use_caps_for_id", boolean},
	"harden-glue":                  {"resolver.harden_glue", boolean},
	"edns-buffer-size":             {"resolver.edns_size", number},
	"max-query-restarts":           {"resolver.max_aliases", number},
	"max-udp-size":                 {"limits.udp_size", number},
	"discard-timeout":              {"limits.udp_discard_timeout", milliseconds},
	"tcp-idle-timeout":             {"limits.tcp_idle_timeout", milliseconds},
	"http-max-streams":             {"limits.doh_streams", number},
	"http-endpoint":                {"doh.path", text},
	"so-rcvbuf":                    {"udp.receive_buffer", size},
	"so-sndbuf":                    {"udp.send_buffer", size},
	"aggressive-nsec":              {"dnssec.aggressive_nsec", boolean},
	"harden-below-nxdomain":        {"dnssec.harden_below_nxdomain", boolean},
	"val-permissive-mode":          {"dnssec.permissive", boolean},
	"val-bogus-ttl":                {"dnssec.bogus_ttl", seconds},
	"val-override-date":            {"dnssec.override_time", text},
	"root-key-sentinel":            {"dnssec.sentinel", boolean},
	"trust-anchor-signaling":       {"dnssec.telemetry", boolean},
	"answer-cookie":                {"cookies.enabled", boolean},
	"cookie-secret-file":           {"cookies.secret_file", text},
}

// lists are options whose values are elements of a list.
var lists = map[string]string{
	"trust-anchor": "dnssec.trust_anchors", "trust-anchor-file": "dnssec.trust_anchor_files", "cookie-secret": "cookies.secrets",
}

// needless are options that nothing is lost with, and why.
var needless = map[string]string{
	"directory": "paths are as they are written", "chroot": "systemd, or the container, confines the server", "username": "systemd, or the container, says who the server is",
	"pidfile": "systemd knows the process", "do-daemonize": "systemd keeps it", "use-syslog": "the log goes to standard error", "logfile": "the log goes to standard error",
	"log-time-ascii": "times are in the log", "log-time-iso": "times are in the log", "log-identity": "the journal has the name",
	"msg-cache-slabs": "it follows from the machine", "rrset-cache-slabs": "it follows from the machine", "infra-cache-slabs": "it follows from the machine",
	"key-cache-slabs": "it follows from the machine", "key-cache-size": "keys are kept with the RRsets", "neg-cache-size": "denials are kept with the RRsets",
	"infra-host-ttl": "what is known of servers is kept while it is used", "infra-cache-numhosts": "it follows from the memory", "so-reuseport": "it is so",
	"outgoing-range": "it follows from limits.in_flight", "outgoing-num-tcp": "connections to servers are bounded by themselves", "msg-buffer-size": "there is none",
	"harden-short-bufsize": "it is so", "harden-large-queries": "it is so", "harden-dnssec-stripped": "it is so", "harden-referral-path": "what is asked is decided by what is needed",
	"harden-algo-downgrade": "every algorithm that is there counts for itself (RFC 6840 §5.11)", "harden-unknown-additional": "it is so", "unwanted-reply-threshold": "it is so without a threshold",
	"deny-any": "ANY is answered by RFC 8482", "extended-statistics": "it is so: see docs/metrics.md", "statistics-interval": "Prometheus asks: admin.listen",
	"statistics-cumulative": "it is so", "ede": "it is so", "ede-serve-expired": "it is so", "edns-tcp-keepalive": "it is so", "pad-responses": "it is so, where it is encrypted",
	"pad-queries": "it is so, where it is encrypted", "pad-responses-block-size": "468 octets (RFC 8467)", "pad-queries-block-size": "128 octets (RFC 8467)",
	"auto-trust-anchor-file": "the keys of the root are built in, and followed (RFC 5011) in dnssec.state_directory", "hide-trustanchor": "such questions are refused",
	"prefetch-key": "keys are fetched with what they are for", "val-clean-additional": "it is so", "jostle-timeout": "it follows from limits.in_flight",
	"fast-server-permil": "servers are chosen by their time", "fast-server-num": "servers are chosen by their time", "tls-ciphers": "Go chooses", "tls-ciphersuites": "Go chooses",
	"http-nodelay": "it is so", "use-systemd": "it is found out", "verbosity": "see log.level", "disable-dnssec-lame-check": "it is not",
}

// server translates an option of section server.
func (t *translator) server(o option) {
	if p, ok := plain[o.name]; ok {
		t.form(o, p.path, p.form)
		return
	}
	if path, ok := lists[o.name]; ok {
		t.add(o.from, o.name, path, strconv.Quote(o.value()))
		return
	}
	if why, ok := needless[o.name]; ok && o.name != "verbosity" {
		t.note(o.from, o.name, false, why)
		return
	}
	switch o.name {
	case "interface", "ip-address":
		t.interfaces = append(t.interfaces, o)
	case "interface-automatic":
		t.automatic = o.value() == "yes"
	case "ip-freebind":
		t.free = o.value() == "yes"
	case "port":
		t.port = o.value()
	case "tls-port", "ssl-port":
		t.tlsPort = o.value()
	case "https-port":
		t.httpsPort = o.value()
	case "quic-port":
		t.quicPort = o.value()
	case "tls-service-pem", "ssl-service-pem":
		t.cert = o
	case "tls-service-key", "ssl-service-key":
		t.key = o
	case "do-udp", "do-tcp":
		t.off[strings.TrimPrefix(o.name, "do-")] = o.value() == "no"
	case "num-threads":
		t.threads, _ = strconv.Atoi(o.value())
		t.note(o.from, o.name, false, "it follows from the processors")
	case "incoming-num-tcp":
		t.times(o, "limits.tcp_connections")
	case "num-queries-per-thread":
		t.times(o, "limits.in_flight")
	default:
		t.words(o)
	}
}

// form sets a key to the value of o, in a form.
func (r *Result) form(o option, path string, form func(string) (string, error)) {
	value, err := form(o.value())
	if err != nil {
		r.note(o.from, o.name, true, err.Error())
		return
	}
	r.set(o.from, o.name, path, value)
}

// times sets a key to a number that is one of each thread.
func (t *translator) times(o option, path string) {
	t.form(o, path, func(v string) (string, error) {
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 || n > math.MaxInt32 {
			return "", fmt.Errorf("found %q; expected a number", v)
		}
		return strconv.Itoa(n * max(t.threads, 1)), nil
	})
}

// words translates options whose values are words.
func (t *translator) words(o option) {
	switch o.name {
	case "access-control":
		t.access(o)
	case "module-config":
		t.modules(o)
	case "verbosity":
		n, _ := strconv.Atoi(o.value())
		t.set(o.from, o.name, "log.level", map[bool]string{true: "debug", false: "info"}[n > 2])
	case "qname-minimisation":
		t.set(o.from, o.name, "resolver.qname_minimisation", map[bool]string{true: "relaxed", false: "\"off\""}[o.value() == "yes"])
	case "qname-minimisation-strict":
		if o.value() == "yes" {
			t.set(o.from, o.name, "resolver.qname_minimisation", "strict")
		}
	case "serve-expired-ttl":
		if o.value() == "0" {
			t.set(o.from, o.name, "cache.serve_stale.max_age", "30d")
			t.note(o.from, o.name, true, "for ever is 30 days here")
			return
		}
		t.form(o, "cache.serve_stale.max_age", seconds)
	case "serve-expired-ttl-reset":
		t.off[o.name] = o.value() == "yes"
		t.note(o.from, o.name, o.value() == "yes", "what is stale is not made younger by being answered")
	case "domain-insecure":
		t.add(o.from, o.name, "dnssec.negative_trust_anchors", fmt.Sprintf("{name: %q, for: 7d, reason: \"domain-insecure of Unbound\"}", o.value()))
		t.note(o.from, o.name, true, "a negative trust anchor is for 7 days at most, so that none is forgotten")
	case "val-nsec3-keysize-iterations":
		most := 0
		for i, w := range strings.Fields(o.value()) {
			if n, err := strconv.Atoi(w); err == nil && i%2 == 1 {
				most = max(most, n)
			}
		}
		t.set(o.from, o.name, "dnssec.max_nsec3_iterations", strconv.Itoa(most))
	case "nsid":
		t.nsid(o)
	case "identity":
		t.identity = o
	case "version":
		t.version = o
	case "hide-identity", "hide-version":
		t.hidden[strings.TrimPrefix(o.name, "hide-")] = o.value() == "yes"
	case "local-zone":
		t.localZone(o)
	default:
		t.lost(o)
	}
}

// lost notes an option that something is lost with.
func (t *translator) lost(o option) {
	why, known := map[string]string{
		"local-data": "records of your own need a server of their own, in stub_zones", "local-data-ptr": "records of your own need a server of their own, in stub_zones",
		"private-address": "there is no filter of private addresses", "private-domain": "there is no filter of private addresses",
		"ratelimit": "limits.in_flight_per_zone bounds what one zone can take", "ip-ratelimit": "limits.in_flight_per_network bounds what one network can take",
		"log-queries": "dnstap tells of every query", "log-replies": "dnstap tells of every response", "outgoing-interface": "the kernel chooses the address to ask from",
		"proxy-protocol-port": "listen[].proxy_protocol.from names the proxies", "tls-cert-bundle": "authorities are those that the system trusts",
		"tls-upstream": "each of forward_zones has tls", "send-client-subnet": "there is no client subnet", "dns64-prefix": "there is no DNS64",
		"prefer-ip6": "the faster family is preferred", "prefer-ip4": "the faster family is preferred",
	}[o.name]
	if !known {
		why = "there is nothing like it"
	}
	t.note(o.from, o.name, true, why)
}

// localZone keeps the zones that are not to be answered by themselves.
func (t *translator) localZone(o option) {
	if len(o.values) == 2 && slices.Contains([]string{"nodefault", "transparent", "typetransparent"}, o.values[1]) {
		t.add(o.from, o.name, "builtin_zones.except", strconv.Quote(o.values[0]))
		return
	}
	t.note(o.from, o.name, true, "zones of your own need a server of their own, in stub_zones")
}

// access translates who may ask.
func (t *translator) access(o option) {
	if len(o.values) != 2 {
		t.note(o.from, o.name, true, "it is not a prefix and an action")
		return
	}
	prefix, err := netip.ParsePrefix(o.values[0])
	if addr, err2 := netip.ParseAddr(o.values[0]); err2 == nil {
		prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	if err != nil {
		t.note(o.from, o.name, true, err.Error())
		return
	}
	action := o.values[1]
	if !slices.Contains([]string{"allow", "allow_snoop", "allow_cookie", "refuse", "deny"}, action) {
		t.note(o.from, o.name, true, "there is no action "+action+"; nobody of "+prefix.String()+" may ask")
		action = "refuse"
	}
	value := fmt.Sprintf("{prefix: %q, action: %s}", prefix.Masked(), action)
	for i := range t.entries { // the last word on a prefix counts
		if e := &t.entries[i]; e.path == "access_control" && strings.HasPrefix(e.value, fmt.Sprintf("{prefix: %q,", prefix.Masked())) {
			e.value, e.from = value, o.from
			return
		}
	}
	t.add(o.from, o.name, "access_control", value)
}

// modules looks at which modules there are.
func (t *translator) modules(o option) {
	list := strings.Fields(o.value())
	if !slices.Contains(list, "validator") {
		t.set(o.from, o.name, "dnssec.validation", "false")
	}
	for _, m := range list {
		if m != "validator" && m != "iterator" {
			t.note(o.from, o.name, true, "there is no module "+m)
		}
	}
}

// nsid is `ascii_text`, or hexadecimal digits.
func (t *translator) nsid(o option) {
	if ascii, ok := strings.CutPrefix(o.value(), "ascii_"); ok {
		t.set(o.from, o.name, "identity.nsid", strconv.Quote(ascii))
		return
	}
	if _, err := hex.DecodeString(o.value()); err != nil {
		t.note(o.from, o.name, true, "it is not ascii_ and a text, nor hexadecimal digits")
		return
	}
	t.set(o.from, o.name, "identity.nsid_hex", strconv.Quote(o.value()))
}

// self says who the server is, unless that was hidden.
func (t *translator) self() {
	for _, x := range []struct {
		o        option
		key, has string
	}{{t.identity, "identity", "identity.id"}, {t.version, "version", "identity.version"}} {
		if x.o.value() != "" && !t.hidden[x.key] {
			t.set(x.o.from, x.key, x.has, strconv.Quote(x.o.value()))
		}
	}
	switch {
	case len(t.cert.values) > 0 && len(t.key.values) > 0:
		t.add(t.cert.from, t.cert.name, "tls.certificates", fmt.Sprintf("{cert_file: %q, key_file: %q}", t.cert.value(), t.key.value()))
	case len(t.cert.values) > 0:
		t.note(t.cert.from, t.cert.name, true, "there is no tls-service-key")
	case len(t.key.values) > 0:
		t.note(t.key.from, t.key.name, true, "there is no tls-service-pem")
	}
}

// listen translates the interfaces. The port says what is spoken there.
func (t *translator) listen() {
	from := Source{"unbound.conf", 0}
	if t.automatic {
		t.interfaces = []option{{from: from, name: "interface-automatic", values: []string{"0.0.0.0"}}, {from: from, name: "interface-automatic", values: []string{"::0"}}}
	}
	if len(t.interfaces) == 0 { // Unbound's default
		t.interfaces = []option{{from: from, name: "interface", values: []string{"127.0.0.1"}}, {from: from, name: "interface", values: []string{"::1"}}}
	}
	for _, o := range t.interfaces {
		host, port, given := strings.Cut(o.value(), "@")
		if !given {
			port = t.port
		}
		addr, err := netip.ParseAddr(host)
		n, err2 := strconv.ParseUint(port, 10, 16)
		if err != nil || err2 != nil {
			t.note(o.from, o.name, true, "it is not an address: name the addresses of "+host)
			continue
		}
		t.add(o.from, o.name, "listen", fmt.Sprintf("{address: %q, protocols: [%s]%s}", netip.AddrPortFrom(addr, uint16(n)), t.protocols(port), map[bool]string{true: ", freebind: true"}[t.free]))
	}
}

// protocols returns what is spoken at a port.
func (t *translator) protocols(port string) string {
	secure := len(t.cert.values) > 0 && len(t.key.values) > 0
	switch {
	case secure && port == t.tlsPort && port == t.quicPort:
		return "dot, doq"
	case secure && port == t.tlsPort:
		return "dot"
	case secure && port == t.quicPort:
		return "doq"
	case secure && port == t.httpsPort:
		return "doh"
	case t.off["udp"]:
		return "tcp"
	case t.off["tcp"]:
		return "udp"
	}
	return "udp, tcp"
}

// block translates a zone, or dnstap.
func (t *translator) block(options []option) {
	switch first := options[0]; first.section {
	case "dnstap":
		t.dnstap(options)
	case "auth-zone":
		t.authZone(options)
	default:
		t.zone(options)
	}
}

// zone translates a zone whose servers are given.
func (t *translator) zone(options []option) {
	prefix, path := "forward-", "forward_zones"
	if options[0].section == "stub-zone" {
		prefix, path = "stub-", "stub_zones"
	}
	var name string
	var from Source
	var servers, hosts, more []string
	tls := slices.ContainsFunc(options, func(o option) bool {
		return (o.name == prefix+"tls-upstream" || o.name == prefix+"ssl-upstream") && o.value() == "yes"
	})
	for _, o := range options {
		switch strings.TrimPrefix(o.name, prefix) {
		case "name":
			name, from = o.value(), o.from
		case "addr":
			if s, err := upstream(o.value(), tls); err != nil {
				t.note(o.from, o.name, true, err.Error())
			} else {
				servers = append(servers, s)
			}
		case "host":
			host, _, _ := strings.Cut(o.value(), "#")
			hosts = append(hosts, strconv.Quote(host))
		case "first", "no-cache", "tcp-upstream":
			key := map[string]string{"first": "first", "no-cache": "no_cache", "tcp-upstream": "tcp"}[strings.TrimPrefix(o.name, prefix)]
			if o.value() == "yes" {
				more = append(more, key+": true")
			}
		case "tls-upstream", "ssl-upstream":
		case "prime":
			t.note(o.from, o.name, false, "what the servers say of themselves is not asked for")
		default:
			t.note(o.from, o.name, true, "there is nothing like it")
		}
	}
	if name == "" || len(servers)+len(hosts) == 0 {
		t.note(options[0].from, options[0].section, true, "it has no name, or no server")
		return
	}
	if tls {
		more = append(more, "tls: true")
	}
	value := fmt.Sprintf("{name: %q", name)
	if len(servers) > 0 {
		value += ", servers: [" + strings.Join(servers, ", ") + "]"
	}
	if len(hosts) > 0 {
		value += ", hosts: [" + strings.Join(hosts, ", ") + "]"
	}
	t.add(from, options[0].section, path, strings.Join(append([]string{value}, more...), ", ")+"}")
}

// upstream translates `address[@port][#name]`.
func upstream(v string, tls bool) (string, error) {
	host, tlsName, _ := strings.Cut(v, "#")
	host, port, given := strings.Cut(host, "@")
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return "", fmt.Errorf("%q is not an address", host)
	}
	at := addr.String()
	if given {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return "", fmt.Errorf("%q is not a port", port)
		}
		at = netip.AddrPortFrom(addr, uint16(n)).String()
	}
	switch {
	case tls && tlsName == "":
		return "", fmt.Errorf("%s has no name that its certificate is for, as %s#dns.example: whoever is in the way could answer", v, v)
	case tls:
		return fmt.Sprintf("{address: %q, tls_name: %q}", at, tlsName), nil
	}
	return fmt.Sprintf("{address: %q}", at), nil
}

// authZone keeps a copy of the root zone; others are for an authoritative server.
func (t *translator) authZone(options []option) {
	root := false
	for _, o := range options {
		root = root || o.name == "name" && o.value() == "."
	}
	if !root {
		t.note(options[0].from, "auth-zone", true, "zones of your own need a server of their own, in stub_zones")
		return
	}
	t.set(options[0].from, "auth-zone", "local_root.enabled", "true")
	for _, o := range options {
		if addr, err := netip.ParseAddr(o.value()); err == nil && (o.name == "primary" || o.name == "master") {
			t.add(o.from, o.name, "local_root.servers", strconv.Quote(addr.String()))
		}
	}
}

// dnstap translates where to tell, and what.
func (t *translator) dnstap(options []option) {
	on := slices.ContainsFunc(options, func(o option) bool { return o.name == "dnstap-enable" && o.value() == "yes" })
	for _, o := range options {
		switch {
		case o.name == "dnstap-enable" || !on:
		case o.name == "dnstap-socket-path":
			t.add(o.from, o.name, "dnstap.outputs", fmt.Sprintf("{socket: %q}", o.value()))
		case o.name == "dnstap-ip" && o.value() != "":
			t.add(o.from, o.name, "dnstap.outputs", fmt.Sprintf("{address: %q}", strings.Replace(o.value(), "@", ":", 1)))
		case o.name == "dnstap-identity":
			t.set(o.from, o.name, "dnstap.identity", strconv.Quote(o.value()))
		case o.name == "dnstap-bidirectional" || strings.HasPrefix(o.name, "dnstap-log-") && o.value() == "yes":
			t.note(o.from, o.name, false, "it is so: dnstap.outputs[].sample and only take from it")
		default:
			t.note(o.from, o.name, true, "see dnstap.outputs")
		}
	}
}

// boolean takes what Unbound calls one.
func boolean(v string) (string, error) {
	switch v {
	case "yes":
		return "true", nil
	case "no":
		return "false", nil
	}
	return "", fmt.Errorf("found %q; expected yes or no", v)
}

func number(v string) (string, error) {
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil {
		return "", fmt.Errorf("found %q; expected a number", v)
	}
	return strconv.FormatUint(n, 10), nil
}

func seconds(v string) (string, error) {
	n, err := number(v)
	return n + "s", err
}

func milliseconds(v string) (string, error) {
	n, err := number(v)
	return n + "ms", err
}

func text(v string) (string, error) { return strconv.Quote(v), nil }

// size takes a number of bytes, or of powers of 1024 with k, m or g.
func size(v string) (string, error) {
	unit := map[string]string{"k": "KiB", "m": "MiB", "g": "GiB"}
	digits := strings.TrimRight(strings.ToLower(v), "bkmg")
	suffix := strings.TrimSuffix(strings.ToLower(v)[len(digits):], "b")
	n, err := number(digits)
	switch {
	case err != nil || suffix != "" && unit[suffix] == "":
		return "", fmt.Errorf("found %q; expected a size", v)
	case suffix == "":
		return n + "B", nil
	}
	return n + unit[suffix], nil
}
