package convert

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// named makes a configuration of the statements of a named.conf.
type named struct {
	Result

	acls, tls, http, primaries map[string][]statement
	compiled                   map[string]*matchList
	nesting                    int
	meant                      string // what becomes of those who are in a list and cannot be told

	dir     string // of the options
	options []statement
	start   Source // where the options are
	zones   []statement
	anchors []statement // of trust-anchors, managed-keys and trusted-keys
	port    string      // of the server, and of others
	cert    map[string]bool
	off     map[bool]bool // by whether it is IPv4: servers of the family are not asked
}

// Named translates the named.conf at path, with all that it includes. An error says
// what could not be read.
func Named(path string) (*Result, error) {
	var r namedReader
	list, err := r.file(path, 0)
	if err != nil {
		return nil, err
	}
	return translateNamed(path, list), nil
}

// translateNamed translates statements.
func translateNamed(path string, list []statement) *Result {
	t := &named{
		acls: map[string][]statement{}, tls: map[string][]statement{}, http: map[string][]statement{}, primaries: map[string][]statement{},
		compiled: map[string]*matchList{}, cert: map[string]bool{}, off: map[bool]bool{}, port: "53", start: Source{path, 1},
	}
	var views []statement
	for i := range list {
		t.define(&list[i], &views)
	}
	switch len(views) {
	case 0:
	case 1:
		t.view(&views[0])
	default:
		for i := range views {
			block, _ := views[i].block()
			t.note(views[i].from, "view "+views[i].word(1), true,
				fmt.Sprintf("all clients are served alike, and there are %d views: a server for each; nothing of its %d statements is translated", len(views), len(block)))
		}
	}
	for i := range list {
		t.top(&list[i])
	}
	t.all()
	return &t.Result
}

// define takes what others refer to by name, the options, and the views.
func (t *named) define(s *statement, views *[]statement) {
	block, _ := s.block()
	switch s.name() {
	case "acl":
		t.acls[s.word(1)] = block
	case "tls":
		t.tls[s.word(1)] = block
	case "http":
		t.http[s.word(1)] = block
	case "primaries", "masters", "remote-servers":
		t.primaries[s.word(1)] = block
	case "options":
		t.options, t.start = append(t.options, block...), s.from
	case "view":
		if class := s.word(2); class == "" || strings.EqualFold(class, "in") {
			*views = append(*views, *s)
		} else {
			t.note(s.from, "view "+s.word(1), false, "names of the class "+class+" are identity.id and identity.version")
		}
	}
	if dir, ok := find(t.options, "directory"); ok {
		t.dir = dir.word(1)
	}
}

// view has the statements of the only view take the place of those of the options.
func (t *named) view(s *statement) {
	block, _ := s.block()
	given := map[string]bool{}
	for i := range block {
		given[block[i].name()] = true
	}
	t.options = slices.DeleteFunc(t.options, func(s statement) bool { return given[s.name()] })
	for i := range block {
		switch block[i].name() {
		case "zone", "server", "key", "trust-anchors", "managed-keys", "trusted-keys":
			t.top(&block[i])
		default:
			t.options = append(t.options, block[i])
		}
	}
}

// top translates what is in no section.
func (t *named) top(s *statement) {
	block, _ := s.block()
	switch s.name() {
	case "acl", "tls", "http", "options", "view", "primaries", "masters", "remote-servers": // where they are referred to
	case "zone":
		t.zones = append(t.zones, *s)
	case "trust-anchors", "managed-keys", "trusted-keys":
		t.anchors = append(t.anchors, *s)
	case "server":
		t.server(s, block)
	case "logging":
		t.logging(s, block)
	default:
		t.option(s)
	}
}

// all translates what is known when all was read.
func (t *named) all() {
	if s, ok := find(t.options, "port"); ok {
		t.port = s.word(1)
		t.form(s.option(), "resolver.port", number)
	}
	t.listen()
	t.access()
	for i := range t.options {
		t.option(&t.options[i])
	}
	t.trust()
	t.forwardAll()
	for i := range t.zones {
		t.zone(&t.zones[i])
	}
}

// option translates one of the options by itself.
func (t *named) option(s *statement) {
	o := s.option()
	if p, ok := namedPlain[o.name]; ok {
		t.form(o, p.path, p.form)
		return
	}
	if special, ok := namedSpecial[o.name]; ok {
		special(t, s)
		return
	}
	if _, ok := namedTogether[o.name]; ok {
		return
	}
	if why, ok := namedNeedless[o.name]; ok {
		t.note(o.from, o.name, false, why)
		return
	}
	why, known := namedLost[o.name]
	if !known {
		why = "there is nothing like it"
	}
	if so, ok := namedSame[o.name]; ok {
		if v, err := namedBoolean(o.value()); err == nil && v == so {
			t.note(o.from, o.name, false, "it is so")
			return
		}
	}
	t.note(o.from, o.name, true, why)
}

// file returns a path as named would open it.
func (t *named) file(path string) string {
	if filepath.IsAbs(path) || t.dir == "" {
		return path
	}
	return filepath.Join(t.dir, path)
}

// logging notes where the log goes, and that queries are not in it.
func (t *named) logging(s *statement, block []statement) {
	t.note(s.from, "logging", false, "the log goes to standard error, as log says")
	for i := range block {
		if s := &block[i]; s.name() == "category" && slices.Contains([]string{"queries", "query-errors", "responses", "dnstap"}, s.word(1)) {
			list, _ := s.block()
			if len(list) != 1 || list[0].name() != "null" {
				t.note(s.from, "category "+s.word(1), true, "dnstap tells of every query and response: dnstap.outputs")
			}
		}
	}
}

// everyServer are the prefixes that a family of servers is switched off by.
var everyServer = map[string]string{"0.0.0.0/0": "resolver.ipv4", "::/0": "resolver.ipv6"}

// server translates what is said of one server, or of all.
func (t *named) server(s *statement, block []statement) {
	prefix, err := namedPrefix(s.word(1))
	for i := range block {
		o := block[i].option()
		path := everyServer[prefix.String()]
		switch v, bad := namedBoolean(o.value()); {
		case err == nil && path != "" && o.name == "bogus" && bad == nil && v == "true":
			t.set(o.from, o.name, path, "false")
			t.off[prefix.Addr().Is4()] = true
		case o.name == "keys" || o.name == "notify-source" || o.name == "notify-source-v6" || strings.HasPrefix(o.name, "transfer") || strings.HasSuffix(o.name, "-ixfr") || o.name == "request-expire":
			t.note(o.from, "server "+s.word(1)+": "+o.name, false, "no zones are transferred by it")
		default:
			t.note(o.from, "server "+s.word(1)+": "+o.name, true, "nothing is said of single servers: what they can do is found out")
		}
	}
}

// validation is of dnssec-validation.
func (t *named) validation(s *statement) {
	switch v := s.word(1); v {
	case "auto":
		t.set(s.from, s.name(), "dnssec.validation", "true")
	default:
		t.form(s.option(), "dnssec.validation", namedBoolean)
	}
}

// maxException is for how long an exception is at most.
const maxException = "7d"

// exceptions are of validate-except.
func (t *named) exceptions(s *statement) {
	block, _ := s.block()
	for i := range block {
		t.add(block[i].from, s.name(), "dnssec.negative_trust_anchors", fmt.Sprintf("{name: %q, for: %s, reason: \"validate-except of BIND\"}", block[i].name(), maxException))
	}
	t.note(s.from, s.name(), true, "a negative trust anchor is for 7 days at most, so that none is forgotten")
}

// disabled is of disable-algorithms and disable-ds-digests.
func (t *named) disabled(s *statement) {
	path := map[string]string{"disable-algorithms": "dnssec.disabled_algorithms", "disable-ds-digests": "dnssec.disabled_ds_digests"}[s.name()]
	block, _ := s.block()
	if s.word(1) != "." {
		t.note(s.from, s.name()+" "+s.word(1), true, "an algorithm is disabled for all names, or for none")
		return
	}
	for i := range block {
		t.add(block[i].from, s.name(), path, strconv.Quote(strings.ToUpper(block[i].name())))
	}
}

// cacheSize is of max-cache-size: four parts for answers, one for RRsets.
func (t *named) cacheSize(s *statement) {
	v := strings.ToLower(s.word(1))
	switch {
	case v == "default" || strings.HasSuffix(v, "%"):
		t.note(s.from, s.name(), false, "cache.answers_size is 40 % of the memory there is")
		return
	case v == "unlimited" || v == "0":
		t.note(s.from, s.name(), true, "memory is bounded: cache.answers_size is 40 % of what there is")
		return
	}
	digits := strings.TrimRight(v, "kmg")
	factor, ok := map[string]uint64{"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}[v[len(digits):]]
	n, err := strconv.ParseUint(digits, 10, 40)
	if err != nil || !ok {
		t.note(s.from, s.name(), true, fmt.Sprintf("found %q; expected a size", v))
		return
	}
	n *= factor
	t.set(s.from, s.name(), "cache.answers_size", fmt.Sprintf("%dKiB", n/5*4>>10))
	t.set(s.from, s.name(), "cache.rrsets_size", fmt.Sprintf("%dKiB", n/5>>10))
}

func (t *named) prefetch(s *statement) {
	t.set(s.from, s.name(), "cache.prefetch", strconv.FormatBool(s.word(1) != "0"))
	if s.word(1) != "0" {
		t.note(s.from, s.name(), false, "what is popular is asked for again in the last tenth of its time")
	}
}

func (t *named) minimal(s *statement) {
	if strings.HasPrefix(s.word(1), "no-auth") {
		t.set(s.from, s.name(), "cache.minimal_responses", "true")
		return
	}
	t.form(s.option(), "cache.minimal_responses", namedBoolean)
}

func (t *named) minimisation(s *statement) {
	v := strings.ToLower(s.word(1))
	switch v {
	case "strict", "relaxed":
	case "disabled", "off":
		v = "\"off\""
	default:
		t.note(s.from, s.name(), true, fmt.Sprintf("found %q; expected strict, relaxed, disabled or off", v))
		return
	}
	t.set(s.from, s.name(), "resolver.qname_minimisation", v)
}

func (t *named) staleTimeout(s *statement) {
	if v := s.word(1); v == "off" || v == "disabled" {
		t.note(s.from, s.name(), true, "a stale answer is given after cache.serve_stale.client_timeout, or after a failure")
		return
	}
	t.form(s.option(), "cache.serve_stale.client_timeout", milliseconds)
}

// order is of rrset-order. Only all RRsets can have one.
func (t *named) order(s *statement) {
	block, _ := s.block()
	for i := range block {
		o := block[i].option()
		if o.name != "order" || len(o.values) != 1 {
			t.note(o.from, s.name(), true, "all RRsets take turns, or none: cache.rotate_rrsets")
			continue
		}
		t.set(o.from, s.name(), "cache.rotate_rrsets", strconv.FormatBool(o.values[0] == "cyclic" || o.values[0] == "random"))
	}
}

func (t *named) cookieSecret(s *statement) {
	t.add(s.from, s.name(), "cookies.secrets", strconv.Quote(s.word(1)))
}

func (t *named) emptyZone(s *statement) {
	t.add(s.from, s.name(), "builtin_zones.except", strconv.Quote(s.word(1)))
}

// versionText is of version. none is what it is here.
func (t *named) versionText(s *statement) {
	if s.word(1) != "none" {
		t.set(s.from, s.name(), "identity.version", strconv.Quote(s.word(1)))
	}
}

// identityText is of hostname and server-id, of which the latter is NSID too.
func (t *named) identityText(s *statement) {
	v := s.word(1)
	switch {
	case v == "none":
		return
	case v == "hostname" && s.name() == "server-id" && !s.items[1].quoted:
		t.note(s.from, s.name(), true, "write the name of the machine: identity.id and identity.nsid")
		return
	}
	t.set(s.from, s.name(), "identity.id", strconv.Quote(v))
	if s.name() == "server-id" {
		t.set(s.from, s.name(), "identity.nsid", strconv.Quote(v))
	}
}

func (t *named) recursion(s *statement) {
	v, err := namedBoolean(s.word(1))
	if err != nil || v == "false" {
		t.note(s.from, s.name(), true, "a resolver is all that it is: who may ask for recursion is access_control")
	}
}

// dnstapOutput is `file PATH` or `unix PATH`.
func (t *named) dnstapOutput(s *statement) {
	kind := map[string]string{"file": "file", "unix": "socket"}[s.word(1)]
	if kind == "" || s.word(2) == "" {
		t.note(s.from, s.name(), true, "it is neither a file nor a socket: see dnstap.outputs")
		return
	}
	t.add(s.from, s.name(), "dnstap.outputs", fmt.Sprintf("{%s: %q}", kind, t.file(s.word(2))))
	if len(s.items) > 3 {
		t.note(s.from, s.name(), true, "when a file is complete is in dnstap.outputs[].rotate")
	}
}

func (t *named) dnstapIdentity(s *statement) {
	if v := s.word(1); v != "none" && v != "hostname" {
		t.set(s.from, s.name(), "dnstap.identity", strconv.Quote(v))
	}
}

func (t *named) dnstapVersion(s *statement) {
	t.set(s.from, s.name(), "dnstap.version", strconv.FormatBool(s.word(1) != "none"))
	if s.word(1) != "none" {
		t.note(s.from, s.name(), false, "it is that of Shirube")
	}
}

func (t *named) dnstapKinds(s *statement) {
	t.note(s.from, s.name(), false, "everything is told: dnstap.outputs[].sample and only take from it")
}
