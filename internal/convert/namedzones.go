package convert

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// access translates who may ask: who is in all the lists that named goes by.
func (t *named) access() {
	t.meant = "who is meant may not ask"
	from, a := t.start, asking{action: "allow"}
	given := map[string]*matchList{}
	list := func(names ...string) *matchList {
		for _, name := range names {
			if s, ok := find(t.options, name); ok {
				from = s.from
				if block, _ := s.block(); given[name] == nil {
					given[name] = t.compile(block)
				}
				return given[name]
			}
		}
		return nil
	}
	if m := list("match-clients"); m != nil {
		a.all = append(a.all, m)
	}
	if m := list("allow-query"); m != nil {
		a.all = append(a.all, m)
	}
	// What is not given is as the others are (named.conf: allow-recursion).
	recursion, cache := list("allow-recursion", "allow-query-cache", "allow-query"), list("allow-query-cache", "allow-recursion", "allow-query")
	if recursion == nil {
		recursion = t.compile([]statement{
			{from: t.start, items: []item{{text: "localnets"}}}, {from: t.start, items: []item{{text: "localhost"}}},
		})
		cache = recursion
	}
	a.all = append(a.all, recursion, cache)
	t.meant = "who is meant is told so"
	if s, ok := find(t.options, "blackhole"); ok {
		block, _ := s.block()
		a.ignore = t.compile(block)
	}
	if s, ok := find(t.options, "require-server-cookie"); ok {
		if v, err := namedBoolean(s.word(1)); err == nil && v == "true" {
			a.action = "allow_cookie"
		}
	}
	rules, err := a.rules()
	if err != nil {
		t.note(from, "allow-recursion", true, err.Error()+"; only this machine may ask")
		return
	}
	if len(rules) == 0 {
		t.set(from, "allow-recursion", "access_control", "[]")
	}
	for _, r := range rules {
		t.add(from, "allow-recursion", "access_control", r)
	}
}

// listen translates where to listen.
func (t *named) listen() {
	t.meant = "it is not listened to"
	n := 0
	for _, family := range []struct{ name, wildcard string }{{"listen-on", "0.0.0.0"}, {"listen-on-v6", "::"}} {
		given, wildcard := false, netip.MustParseAddr(family.wildcard)
		for i := range t.options {
			if s := &t.options[i]; s.name() == family.name {
				given = true
				n += t.listenOn(s, wildcard)
			}
		}
		if !given { // named's default
			n += t.listenAt(&statement{from: t.start, items: []item{{text: family.name}}}, wildcard, t.port, "udp, tcp")
		}
	}
	if n == 0 {
		t.note(t.start, "listen-on", true, "it listens nowhere: the default of listen is used")
	}
}

// listenOn translates one of its statements, and returns how many listeners it makes.
func (t *named) listenOn(s *statement, wildcard netip.Addr) (n int) {
	protocols, port, ok := t.spoken(s)
	if !ok {
		return 0
	}
	block, _ := s.block()
	for i := range block {
		for _, e := range t.element(&block[i]) {
			addrs := e.addresses(wildcard, map[*matchList]bool{})
			if len(addrs) == 0 && block[i].name() != "none" && (e.prefix.IsValid() || e.list != nil) {
				t.note(block[i].from, s.name(), true, "it is not an address: name those of the machine")
			}
			for _, addr := range addrs {
				n += t.listenAt(s, addr, port, protocols)
			}
		}
	}
	return n
}

// addresses returns those that e names one by one, and the wildcard for all. Lists
// that were seen are not looked at again.
func (e matchElement) addresses(wildcard netip.Addr, seen map[*matchList]bool) (list []netip.Addr) {
	switch {
	case e.not:
	case e.list != nil && seen[e.list]:
	case e.list != nil:
		seen[e.list] = true
		for _, inner := range e.list.elements {
			list = append(list, inner.addresses(wildcard, seen)...)
		}
	case e.prefix.Addr().Is4() != wildcard.Is4():
	case e.prefix.Bits() == 0:
		list = append(list, wildcard)
	case e.prefix.IsSingleIP() || e.prefix.Addr() == netip.MustParseAddr("127.0.0.0"):
		list = append(list, map[bool]netip.Addr{true: e.prefix.Addr(), false: netip.MustParseAddr("127.0.0.1")}[e.prefix.IsSingleIP()])
	}
	return list
}

// listenAt adds a listener.
func (t *named) listenAt(s *statement, addr netip.Addr, port, protocols string) int {
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.note(s.from, s.name(), true, fmt.Sprintf("found the port %q; expected a number", port))
		return 0
	}
	t.add(s.from, s.name(), "listen", fmt.Sprintf("{address: %q, protocols: [%s]}", netip.AddrPortFrom(addr, uint16(n)), protocols))
	return 1
}

// spoken returns what is spoken by a statement's listeners, and at which port.
func (t *named) spoken(s *statement) (protocols, port string, ok bool) {
	secure, web := s.after("tls"), s.after("http")
	protocols, key, port := "udp, tcp", "", t.port
	switch {
	case web != "" && secure == "none":
		protocols, key, port = "doh_cleartext", "http-port", "80"
	case web != "":
		protocols, key, port = "doh", "https-port", "443"
	case secure != "" && secure != "none":
		protocols, key, port = "dot", "tls-port", "853"
	}
	if global, given := find(t.options, key); given && key != "" {
		port = global.word(1)
	}
	if own := s.after("port"); own != "" {
		port = own
	}
	if p := s.after("proxy"); p != "" {
		t.note(s.from, s.name(), true, "name the proxies in listen[].proxy_protocol.from")
		return "", "", false
	}
	if web != "" {
		t.web(s, web)
	}
	if protocols == "dot" || protocols == "doh" {
		return protocols, port, t.certificate(s, secure)
	}
	return protocols, port, true
}

// web takes the path of DoH.
func (t *named) web(s *statement, name string) {
	block, ok := t.http[name]
	if !ok { // "default"
		return
	}
	for i := range block {
		switch inner, _ := block[i].block(); {
		case block[i].name() != "endpoints":
			t.option(&block[i])
		case len(inner) == 1:
			t.set(block[i].from, "endpoints", "doh.path", strconv.Quote(inner[0].name()))
		case len(inner) > 1:
			t.set(block[i].from, "endpoints", "doh.path", strconv.Quote(inner[0].name()))
			t.note(block[i].from, "endpoints", true, "there is one path: doh.path")
		}
	}
}

// certificate takes the certificate of a listener, and reports whether there is one.
func (t *named) certificate(s *statement, name string) bool {
	block, known := t.tls[name]
	cert, ok := find(block, "cert-file")
	key, ok2 := find(block, "key-file")
	if !known || !ok || !ok2 {
		t.note(s.from, s.name(), true, fmt.Sprintf("tls %q has no certificate and key: one that nobody can check protects nobody", name))
		return false
	}
	if t.cert[name] {
		return true
	}
	t.cert[name] = true
	t.add(cert.from, "cert-file", "tls.certificates", fmt.Sprintf("{cert_file: %q, key_file: %q}", t.file(cert.word(1)), t.file(key.word(1))))
	for i := range block {
		switch n := block[i].name(); n {
		case "cert-file", "key-file":
		case "dhparam-file", "ciphers", "cipher-suites", "prefer-server-ciphers", "protocols":
			t.note(block[i].from, n, false, "Go chooses")
		case "session-tickets":
			t.note(block[i].from, n, false, "tickets are there; see tls.ticket_secret_file")
		default:
			t.note(block[i].from, n, true, "clients are not asked for certificates")
		}
	}
	return true
}

// forwardAll translates the forwarders of all names.
func (t *named) forwardAll() {
	s, ok := find(t.options, "forwarders")
	if !ok {
		if f, given := find(t.options, "forward"); given {
			t.note(f.from, "forward", true, "there are no forwarders")
		}
		return
	}
	t.forward(".", s, t.options)
}

// forward adds a zone of forward_zones, for what a statement names of servers. The
// list has the statement `forward` beside it.
func (t *named) forward(name string, s *statement, list []statement) {
	servers, tls := t.servers(s)
	if len(servers) == 0 {
		return
	}
	more := ""
	if f, ok := find(list, "forward"); !ok || f.word(1) != "only" {
		more = ", first: true"
	}
	if tls {
		more += ", tls: true"
	}
	t.add(s.from, s.name(), "forward_zones", fmt.Sprintf("{name: %q, servers: [%s]%s}", name, strings.Join(servers, ", "), more))
}

// servers returns what a statement names of servers, as elements of YAML.
func (t *named) servers(s *statement) (list []string, tls bool) {
	block, _ := s.block()
	for i := range block {
		if secure := block[i].after("tls"); s.after("tls") != "" || secure != "" {
			tls = true
		}
	}
	for i := range block {
		e := &block[i]
		at := e.name()
		if port := firstOf(e.after("port"), s.after("port"), t.port); port != "53" {
			at += "@" + port
		}
		if secure := firstOf(e.after("tls"), s.after("tls")); secure != "" {
			if host, ok := find(t.tls[secure], "remote-hostname"); ok {
				at += "#" + host.word(1)
			}
		}
		if addr, err := netip.ParseAddr(e.name()); err == nil && t.off[addr.Is4()] {
			t.note(e.from, s.name()+" "+e.name(), false, "servers of its family are not asked: see server")
			continue
		}
		if yaml, err := upstream(at, tls); err != nil {
			t.note(e.from, s.name()+" "+e.name(), true, err.Error())
		} else {
			list = append(list, yaml)
		}
	}
	return list, tls
}

// firstOf returns the first word that there is.
func firstOf(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}

// builtinNames are zones that are answered here (RFC 6303, RFC 6761).
var builtinNames = []string{"localhost", "0.in-addr.arpa", "127.in-addr.arpa", "0.0.127.in-addr.arpa", "255.in-addr.arpa", "1.0.0.127.in-addr.arpa"}

// zone translates a zone.
func (t *named) zone(s *statement) {
	block, _ := s.block()
	name := strings.ToLower(strings.TrimSuffix(s.word(1), "."))
	kind := ""
	if k, ok := find(block, "type"); ok {
		kind = k.word(1)
	}
	known := []string{"type", "file"}
	switch kind {
	case "hint":
		t.hint(s, name, block)
	case "forward":
		known = append(known, "forward", "forwarders")
		t.forwardZone(s, block)
	case "static-stub", "stub":
		known = append(known, "server-addresses", "server-names", "primaries", "masters")
		t.stub(s, block)
	case "secondary", "slave", "mirror":
		if name == "" {
			known = append(known, "primaries", "masters", "forwarders")
			t.localRoot(s, block)
			break
		}
		t.own(s, name, block)
		return
	default:
		t.own(s, name, block)
		return
	}
	for i := range block {
		if n := block[i].name(); !slices.Contains(known, n) {
			why, needless := namedNeedless[n]
			if !needless {
				why = "there is nothing like it for one zone"
			}
			t.note(block[i].from, "zone "+s.word(1)+": "+n, !needless, why)
		}
	}
}

// own notes a zone that named has itself.
func (t *named) own(s *statement, name string, block []statement) {
	what := "zone " + s.word(1)
	if slices.Contains(builtinNames, name) {
		t.note(s.from, what, false, "it is answered here (RFC 6303)")
		return
	}
	if f, ok := find(block, "file"); ok && strings.HasSuffix(name, ".arpa") && strings.Contains(filepath.Base(f.word(1)), "empty") {
		t.note(s.from, what, false, "private zones that are empty are built in (RFC 6303): builtin_zones")
		return
	}
	t.note(s.from, what, true, "zones of your own need a server of their own, in stub_zones")
}

func (t *named) hint(s *statement, name string, block []statement) {
	f, ok := find(block, "file")
	if name != "" || !ok {
		t.note(s.from, "zone "+s.word(1), true, "hints are those of the root, in a file")
		return
	}
	t.set(f.from, "zone . hint", "resolver.root_hints", strconv.Quote(t.file(f.word(1))))
}

// forwardZone translates one of type forward. Without servers it is not forwarded,
// where more is.
func (t *named) forwardZone(s *statement, block []statement) {
	f, ok := find(block, "forwarders")
	if ok {
		if list, _ := f.block(); len(list) > 0 {
			t.forward(s.word(1), f, block)
			return
		}
	}
	_, all := find(t.options, "forwarders")
	t.note(s.from, "zone "+s.word(1), all, "a zone that is not forwarded, in one that is, needs its servers in stub_zones")
}

// stub translates one whose servers are known.
func (t *named) stub(s *statement, block []statement) {
	var servers, hosts []string
	for i := range block {
		b := &block[i]
		switch list, _ := b.block(); b.name() {
		case "server-names":
			for j := range list {
				hosts = append(hosts, strconv.Quote(list[j].name()))
			}
		case "primaries", "masters":
			servers = append(servers, t.remote(b, 0)...)
		case "server-addresses":
			more, _ := t.servers(b)
			servers = append(servers, more...)
		}
	}
	if len(servers)+len(hosts) == 0 {
		t.note(s.from, "zone "+s.word(1), true, "it has no server")
		return
	}
	value := fmt.Sprintf("{name: %q", s.word(1))
	if len(servers) > 0 {
		value += ", servers: [" + strings.Join(servers, ", ") + "]"
	}
	if len(hosts) > 0 {
		value += ", hosts: [" + strings.Join(hosts, ", ") + "]"
	}
	t.add(s.from, "zone "+s.word(1), "stub_zones", value+"}")
}

// remote returns the servers of a list that may name other lists.
func (t *named) remote(s *statement, depth int) (servers []string) {
	block, _ := s.block()
	if depth > maxNesting || t.nesting > maxRemote {
		t.note(s.from, s.name(), true, "it names lists in lists without an end")
		return nil
	}
	for i := range block {
		if list, ok := t.primaries[block[i].name()]; ok {
			t.nesting++
			servers = append(servers, t.remote(&statement{from: block[i].from, items: append(slices.Clone(s.items[:1]), item{block: list, braces: true})}, depth+1)...)
			continue
		}
		more, _ := t.servers(&statement{from: s.from, items: append(slices.Clone(s.items[:1]), item{block: block[i : i+1], braces: true})})
		servers = append(servers, more...)
	}
	return servers
}

// maxRemote bounds how many lists of servers are looked into.
const maxRemote = 1000

// localRoot translates a copy of the root zone.
func (t *named) localRoot(s *statement, block []statement) {
	t.set(s.from, "zone "+s.word(1), "local_root.enabled", "true")
	for i := range block {
		if n := block[i].name(); n != "primaries" && n != "masters" {
			continue
		}
		list, _ := block[i].block()
		for j := range list {
			if addr, err := netip.ParseAddr(list[j].name()); err == nil {
				t.add(list[j].from, "zone "+s.word(1), "local_root.servers", strconv.Quote(addr.String()))
			} else {
				t.note(list[j].from, "zone "+s.word(1)+": "+block[i].name(), true, "name the addresses in local_root.servers")
			}
		}
	}
}

// trust translates the trust anchors.
func (t *named) trust() {
	followed, static := 0, 0
	for i := range t.anchors {
		s := &t.anchors[i]
		block, _ := s.block()
		for j := range block {
			if t.anchor(s.name(), &block[j]) {
				followed++
			} else {
				static++
			}
		}
	}
	switch {
	case static > 0 && followed == 0:
		t.set(t.anchors[0].from, t.anchors[0].name(), "dnssec.auto_trust_anchor", "false")
	case static > 0:
		t.note(t.anchors[0].from, t.anchors[0].name(), true, "keys are followed (RFC 5011) for all zones or for none: also for those that are static")
	}
}

// anchor translates one, and reports whether its zone is to be followed.
func (t *named) anchor(section string, s *statement) (followed bool) {
	words := make([]string, 0, len(s.items))
	for i := range s.items {
		words = append(words, s.word(i))
	}
	kind := "static-key"
	if section != "trusted-keys" && len(words) > 1 {
		kind = words[1]
		words = slices.Delete(words, 1, 2)
	}
	if len(words) != 5 {
		t.note(s.from, section+" "+s.name(), true, "it is not a name, three numbers and a key or digest")
		return false
	}
	typ := "DNSKEY"
	if strings.HasSuffix(kind, "-ds") {
		typ = "DS"
	}
	data := strings.Join(strings.Fields(words[4]), "")
	t.add(s.from, section+" "+s.name(), "dnssec.trust_anchors",
		strconv.Quote(fmt.Sprintf("%s IN %s %s %s %s %s", absolute(words[0]), typ, words[1], words[2], words[3], data)))
	return strings.HasPrefix(kind, "initial-")
}

// absolute returns a name with its last dot.
func absolute(name string) string { return strings.TrimSuffix(name, ".") + "." }
