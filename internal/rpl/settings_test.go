package rpl

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"shirube/internal/config"
	"shirube/internal/wire"
)

// plan is what the settings of a scenario come to.
type plan struct {
	cfg     config.Config
	hints   []netip.Addr // of the root
	host    string       // their name
	play    Options
	date    time.Time         // the clock of the validator; zero: the present
	files   map[string]string // Scenario.Files
	dir     string            // for files
	reasons []string          // why the scenario is not played
}

// row says what is made of one setting: one of the three.
type row struct {
	apply func(p *plan, s Setting) error
	same  string // why it changes nothing that a scenario could see
	needs string // what is missing here
}

// only returns the row for a switch of which we have one position only.
func only(position bool, same, needs string) row {
	return row{apply: func(p *plan, s Setting) error {
		v, err := flag(s)
		if v != position {
			p.reasons = append(p.reasons, "needs "+needs)
		}
		return err
	}, same: same}
}

// server has the settings of Unbound's clause server: and of Deckard.
var server = map[string]row{
	// What we have too.
	"do-ip4":                  {apply: func(p *plan, s Setting) (err error) { p.cfg.Resolver.IPv4, err = flag(s); return err }},
	"do-ip6":                  {apply: func(p *plan, s Setting) (err error) { p.cfg.Resolver.IPv6, err = flag(s); return err }},
	"do-not-query-localhost":  {apply: func(p *plan, s Setting) (err error) { p.cfg.Resolver.DoNotQueryLocalhost, err = flag(s); return err }},
	"cache-min-ttl":           {apply: func(p *plan, s Setting) (err error) { p.cfg.Cache.MinTTL, err = ttl(s.Values); return err }},
	"cache-max-ttl":           {apply: func(p *plan, s Setting) (err error) { p.cfg.Cache.MaxTTL, err = ttl(s.Values); return err }},
	"prefetch":                {apply: func(p *plan, s Setting) (err error) { p.cfg.Cache.Prefetch, err = flag(s); return err }},
	"serve-expired":           {apply: func(p *plan, s Setting) (err error) { p.cfg.Cache.ServeStale.Enabled, err = flag(s); return err }},
	"serve-expired-ttl":       {apply: func(p *plan, s Setting) (err error) { p.cfg.Cache.ServeStale.MaxAge, err = ttl(s.Values); return err }},
	"serve-expired-reply-ttl": {apply: func(p *plan, s Setting) (err error) { p.cfg.Cache.ServeStale.ReplyTTL, err = ttl(s.Values); return err }},
	"serve-expired-client-timeout": {apply: func(p *plan, s Setting) error {
		ms, err := strconv.ParseUint(strings.Join(s.Values, " "), 10, 31)
		p.cfg.Cache.ServeStale.ClientTimeout = time.Duration(ms) * time.Millisecond
		return err
	}},
	"harden-glue":               {apply: func(p *plan, s Setting) (err error) { p.cfg.Resolver.HardenGlue, err = flag(s); return err }},
	"aggressive-nsec":           {apply: func(p *plan, s Setting) (err error) { p.cfg.DNSSEC.AggressiveNSEC, err = flag(s); return err }},
	"qname-minimisation":        {apply: minimise(config.MinimisationRelaxed)},
	"qname-minimisation-strict": {apply: minimise(config.MinimisationStrict)},
	"query-minimization":        {apply: minimise(config.MinimisationRelaxed)},
	"access-control":            {apply: access},
	"root-hints":                {apply: rootHints},
	"stub-addr":                 {apply: stubAddr},    // Deckard's; Unbound's is in a clause of its own
	"forward-addr":              {apply: forwardAddr}, // Deckard's too: of everything
	"stub-name":                 {apply: func(p *plan, s Setting) error { p.host = strings.Join(s.Values, ""); return nil }},
	"features":                  {apply: features},
	"val-override-date":         {apply: date},
	"val-override-timestamp":    {apply: date},
	"minimal-responses":         {apply: minimal},
	"local-zone":                {apply: localZone},
	"module-config":             {apply: modules},
	"nsid":                      {apply: nsid},
	"answer-cookie":             {apply: func(p *plan, s Setting) (err error) { p.cfg.Cookies.Enabled, err = flag(s); return err }},
	"cookie-secret":             {apply: cookieSecret},

	// What we have in one way only.
	"harden-referral-path":      only(false, "the default; it only adds queries", "harden-referral-path"),
	"harden-unknown-additional": only(false, "additional data is never kept or sent", "harden-unknown-additional"),
	"harden-unverified-glue":    only(false, "the default", "harden-unverified-glue"),
	"harden-below-nxdomain":     only(true, "the default; it speaks of secure denials", "harden-below-nxdomain: no"),
	"iter-scrub-promiscuous":    {same: "nothing is learned from unasked NS sets, ever; whether clients see them is what minimal-responses decides about"},
	"do-nat64":                  only(false, "the default", "NAT64"),
	"dns-error-reporting":       only(false, "the default", "error reporting (RFC 9567)"),
	"force-ipv6":                only(false, "the default", "force-ipv6"),

	// What changes nothing.
	"prefetch-key":                 {same: "whether keys are asked for along with the question, as they always are here; no answer depends on it"},
	"target-fetch-policy":          {same: "how many addresses are looked up beforehand; no answer depends on it"},
	"trust-anchor-signaling":       {apply: func(p *plan, s Setting) (err error) { p.cfg.DNSSEC.Telemetry, err = flag(s); return err }},
	"val-max-restart":              {same: "how many other servers are asked when what one said is bogus; ours is two"},
	"rrset-roundrobin":             {same: "the order of records in answers, which is not compared"},
	"fake-sha1":                    {same: "makes SHA-1 valid for the validator, which it is for ours"},
	"domain-insecure":              {apply: insecure},
	"trust-anchor":                 {apply: trustAnchor},
	"trust-anchor-file":            {apply: trustAnchorFile},
	"auto-trust-anchor-file":       {apply: trustAnchorFile},
	"root-key-sentinel":            {apply: func(p *plan, s Setting) (err error) { p.cfg.DNSSEC.Sentinel, err = flag(s); return err }},
	"val-nsec3-keysize-iterations": {apply: iterations},
	"harden-algo-downgrade":        {same: "how strict the validator is; trust-anchor decides"},
	"ede":                          {same: "Extended DNS Errors are always sent; MATCH asks for them if they matter"},
	"ede-serve-expired":            {same: "an Extended DNS Error of stale answers; serve-expired decides"},
	"discard-timeout":              {same: "the clients of scenarios wait; only real transports discard late answers"},
	"log-servfail":                 {same: "logging"},
	"log-time-ascii":               {same: "logging"},
	"verbosity":                    {same: "logging"},

	// What is missing.
	"cache-min-negative-ttl":       {needs: "cache-min-negative-ttl"},
	"outbound-msg-retry":           {needs: "outbound-msg-retry"},
	"local-data":                   {needs: "local data"},
	"local-data-ptr":               {needs: "local data"},
	"local-zone-tag":               {needs: "local data for tags"},
	"define-tag":                   {needs: "local data for tags"},
	"access-control-tag":           {needs: "local data for tags"},
	"access-control-tag-action":    {needs: "local data for tags"},
	"access-control-tag-data":      {needs: "local data for tags"},
	"response-ip":                  {needs: "answers changed by address"},
	"response-ip-data":             {needs: "answers changed by address"},
	"dns64-prefix":                 {needs: "DNS64"},
	"dns64-ignore-aaaa":            {needs: "DNS64"},
	"nat64-prefix":                 {needs: "NAT64"},
	"send-client-subnet":           {needs: "EDNS client subnet"},
	"max-client-subnet-ipv4":       {needs: "EDNS client subnet"},
	"max-client-subnet-ipv6":       {needs: "EDNS client subnet"},
	"client-subnet-always-forward": {needs: "EDNS client subnet"},
	"version":                      {needs: "CHAOS answers"},
	"identity":                     {needs: "CHAOS answers"},
	"hide-version":                 {needs: "CHAOS answers"},
	"hide-identity":                {needs: "CHAOS answers"},
	"zonemd-permissive-mode":       {needs: "authority zones"},
}

// clauseRows has the clauses of Unbound's dialect that are missing here.
var clauseRows = map[string]row{
	"auth-zone": {needs: "authority zones"},
	"rpz":       {needs: "response policy zones"},
	"view":      {needs: "views"},
}

// planOf works out what to play sc with. The plan says why, if it cannot be
// played here; the error is what is wrong with a setting.
func planOf(t *testing.T, sc *Scenario) (*plan, error) {
	t.Helper()
	p := &plan{cfg: config.Default(), host: "hint.rpl.", files: sc.Files, dir: t.TempDir()}
	p.cfg.Cache.Prefetch, p.cfg.Cache.ServeStale.Enabled = false, false // as in Unbound
	p.cfg.Cache.AnswersSize, p.cfg.Cache.RRsetsSize = 1<<20, 1<<20
	p.cfg.Cookies.Enabled = false                      // as in Unbound
	p.cfg.BuiltinZones.Enabled = sc.Dialect != Deckard // its scenarios use such names like any others
	if sc.Dialect == Deckard {
		p.cfg.Limits.UDPSize = deckardSize
	}
	p.cfg.DNSSEC.Validation = false // until there is an anchor
	p.cfg.DNSSEC.RootTrustAnchor, p.cfg.DNSSEC.AutoTrustAnchor = false, false
	p.cfg.DNSSEC.MaxNSEC3Iterations = 150            // as in Unbound
	p.cfg.Cache.ServeStale.Recheck = 5 * time.Second // Unbound's NORR_TTL
	for _, b := range sc.Config {
		if err := p.block(b); err != nil {
			return nil, fmt.Errorf("%s:%d: %s: %w", sc.Name, b.Line, b.Name, err)
		}
	}
	if why := Unplayable(sc, p.play); why != "" {
		p.reasons = append(p.reasons, why)
	}
	slices.Sort(p.reasons)
	p.reasons = slices.Compact(p.reasons)
	return p, p.writeHints()
}

// block takes one clause.
func (p *plan) block(b Block) error {
	switch r, known := clauseRows[b.Name]; {
	case known && r.needs != "":
		p.reasons = append(p.reasons, "needs "+r.needs)
		return nil
	case b.Name == "stub-zone", b.Name == "forward-zone":
		return p.zone(b)
	case b.Name != "server" && b.Name != "":
		p.reasons = append(p.reasons, "unknown clause "+b.Name+":")
		return nil
	}
	for _, s := range b.Settings {
		switch r, known := server[s.Key]; {
		case !known:
			p.reasons = append(p.reasons, "unknown setting "+s.Key)
		case r.apply != nil:
			if err := r.apply(p, s); err != nil {
				return fmt.Errorf("line %d: %s: %w", s.Line, s.Key, err)
			}
		case r.needs != "":
			p.reasons = append(p.reasons, "needs "+r.needs)
		}
	}
	return nil
}

// zone takes a stub or forward zone. A stub zone for the root is the hints.
func (p *plan) zone(b Block) error {
	kind, _, _ := strings.Cut(b.Name, "-")
	var z config.Zone
	var servers []Setting
	for _, s := range b.Settings {
		value := strings.Join(s.Values, " ")
		var err error
		switch key := strings.TrimPrefix(s.Key, kind+"-"); key {
		case "name":
			z.Name, err = wire.ParseName(value)
		case "addr":
			servers = append(servers, s)
		case "host":
			var host wire.Name
			host, err = wire.ParseName(value)
			z.Hosts = append(z.Hosts, host)
		case "first":
			z.First, err = flag(s)
		case "no-cache":
			z.NoCache, err = flag(s)
		case "tcp-upstream":
			z.TCP, err = flag(s)
		case "prime": // the root is always primed, other zones never are
			var on bool
			if on, err = flag(s); on && z.Name != wire.Root {
				p.reasons = append(p.reasons, "needs stub-prime")
			}
		default:
			p.reasons = append(p.reasons, "unknown setting "+s.Key)
		}
		if err != nil {
			return fmt.Errorf("line %d: %s: %w", s.Line, s.Key, err)
		}
	}
	if kind == "stub" && z.Name == wire.Root && !z.First {
		for _, s := range servers {
			if err := stubAddr(p, s); err != nil {
				return err
			}
		}
		return nil
	}
	for _, s := range servers {
		for _, v := range s.Values {
			addr, err := parseAddr(v)
			if err != nil {
				return err
			}
			z.Servers = append(z.Servers, config.Server{Address: config.Address{AddrPort: netip.AddrPortFrom(addr, 0)}})
		}
	}
	switch {
	case len(z.Servers)+len(z.Hosts) == 0:
		p.reasons = append(p.reasons, "needs a zone without servers: an exception from the one around it")
	case kind == "forward":
		p.cfg.ForwardZones = append(p.cfg.ForwardZones, z)
	default:
		p.cfg.StubZones = append(p.cfg.StubZones, z)
	}
	return nil
}

func stubAddr(p *plan, s Setting) error {
	for _, v := range s.Values {
		addr, err := parseAddr(v)
		if err != nil {
			return err
		}
		p.hints = append(p.hints, addr)
	}
	return nil
}

// forwardAddr takes a server that everything is forwarded to.
func forwardAddr(p *plan, s Setting) error {
	i := slices.IndexFunc(p.cfg.ForwardZones, func(z config.Zone) bool { return z.Name == wire.Root })
	if i < 0 {
		i = len(p.cfg.ForwardZones)
		p.cfg.ForwardZones = append(p.cfg.ForwardZones, config.Zone{Name: wire.Root})
	}
	for _, v := range s.Values {
		addr, err := parseAddr(v)
		if err != nil {
			return err
		}
		z := &p.cfg.ForwardZones[i]
		z.Servers = append(z.Servers, config.Server{Address: config.Address{AddrPort: netip.AddrPortFrom(addr, 0)}})
	}
	return nil
}

// writeHints writes the hints to a file. Without any, the built-in ones serve.
func (p *plan) writeHints() error {
	if p.cfg.Resolver.RootHints != "" || len(p.hints) == 0 {
		return nil
	}
	host := strings.TrimSuffix(p.host, ".") + "."
	var b strings.Builder
	fmt.Fprintf(&b, ". 3600 NS %s\n", host)
	for _, a := range p.hints {
		typ := "A"
		if a.Is6() {
			typ = "AAAA"
		}
		fmt.Fprintf(&b, "%s 3600 %s %s\n", host, typ, a)
	}
	p.cfg.Resolver.RootHints = filepath.Join(p.dir, "hints")
	return os.WriteFile(p.cfg.Resolver.RootHints, []byte(b.String()), 0o600)
}

// rootHints takes the hints from a file of the scenario.
func rootHints(p *plan, s Setting) error {
	if p.cfg.Resolver.RootHints != "" {
		p.reasons = append(p.reasons, "needs a root for each of several classes")
	}
	p.cfg.Resolver.RootHints = filepath.Join(p.dir, "root-hints")
	return os.WriteFile(p.cfg.Resolver.RootHints, []byte(p.files[s.File]), 0o600)
}

// flag reads a switch, in Unbound's words or Deckard's.
func flag(s Setting) (bool, error) {
	switch strings.ToLower(strings.Join(s.Values, " ")) {
	case "yes", "on", "true", "1":
		return true, nil
	case "no", "off", "false", "0":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither yes nor no", s.Values)
}

// ttl reads a number of seconds.
func ttl(values []string) (time.Duration, error) {
	n, err := strconv.ParseUint(strings.Join(values, " "), 10, 31)
	return time.Duration(n) * time.Second, err
}

func minimise(mode config.Minimisation) func(*plan, Setting) error {
	return func(p *plan, s Setting) error {
		on, err := flag(s)
		switch {
		case on:
			p.cfg.Resolver.QNameMinimisation = mode
		case mode == config.MinimisationRelaxed:
			p.cfg.Resolver.QNameMinimisation = config.MinimisationOff
		}
		return err
	}
}

// access takes one rule, as "192.0.2.0/24 allow".
func access(p *plan, s Setting) error {
	if len(s.Values) != 2 {
		return fmt.Errorf("%q is no prefix and action", s.Values)
	}
	prefix, err := netip.ParsePrefix(s.Values[0])
	if addr, no := netip.ParseAddr(s.Values[0]); no == nil {
		prefix, err = netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	action := config.Action(s.Values[1])
	switch action {
	case config.ActionAllow, config.ActionAllowSnoop, config.ActionAllowCookie, config.ActionRefuse, config.ActionDeny:
	default:
		p.reasons = append(p.reasons, "needs access-control: "+s.Values[1])
	}
	rule := config.AccessRule{Prefix: prefix.Masked(), Action: action}
	same := func(r config.AccessRule) bool { return r.Prefix == rule.Prefix }
	p.cfg.AccessControl = append(slices.DeleteFunc(p.cfg.AccessControl, same), rule)
	return err
}

// features takes Deckard's list, as "min_ttl = 5; dns64_prefix = fe80::". What
// has no "=" is a comment.
func features(p *plan, s Setting) (err error) {
	for item := range strings.SplitSeq(strings.Join(s.Values, " "), ";") {
		key, value, _ := strings.Cut(item, "=")
		switch key, value := strings.TrimSpace(key), strings.TrimSpace(value); {
		case value == "":
		case key == "min_ttl":
			p.cfg.Cache.MinTTL, err = ttl([]string{value})
		case key == "max_ttl":
			p.cfg.Cache.MaxTTL, err = ttl([]string{value})
		case key == "dns64_prefix":
			p.reasons = append(p.reasons, "needs DNS64")
		default:
			p.reasons = append(p.reasons, "unknown feature "+key)
		}
	}
	return err
}

// date takes the validator's clock: YYYYMMDDHHMMSS, or seconds since 1970.
func date(p *plan, s Setting) (err error) {
	v := strings.Join(s.Values, "")
	p.cfg.DNSSEC.OverrideTime = config.Override(v)
	if v == "-1" {
		return nil
	}
	if p.date, err = time.Parse("20060102150405", v); err == nil {
		return nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	p.date = time.Unix(n, 0).UTC()
	return err
}

// trustAnchor takes one DS or DNSKEY record.
func trustAnchor(p *plan, s Setting) error {
	p.cfg.DNSSEC.Validation = true
	p.cfg.DNSSEC.TrustAnchors = append(p.cfg.DNSSEC.TrustAnchors, config.TrustAnchor(strings.Join(s.Values, " ")))
	return nil
}

// trustAnchorFile takes the anchors in a file of the scenario.
func trustAnchorFile(p *plan, s Setting) error {
	p.cfg.DNSSEC.Validation = true
	name := filepath.Join(p.dir, fmt.Sprintf("anchors%d", len(p.cfg.DNSSEC.TrustAnchorFiles)))
	p.cfg.DNSSEC.TrustAnchorFiles = append(p.cfg.DNSSEC.TrustAnchorFiles, name)
	return os.WriteFile(name, []byte(p.files[s.File]), 0o600)
}

// insecure takes a name that is not validated.
func insecure(p *plan, s Setting) error {
	name, err := wire.ParseName(strings.Join(s.Values, ""))
	p.cfg.DNSSEC.NegativeTrustAnchors = append(p.cfg.DNSSEC.NegativeTrustAnchors, config.NegativeTrustAnchor{Name: name, For: 7 * 24 * time.Hour})
	return err
}

// iterations takes pairs of key size and iterations, of which the first speaks
// for all: ours is one number.
func iterations(p *plan, s Setting) error {
	pair := strings.Fields(strings.Join(s.Values, " "))
	if len(pair) < 2 {
		return fmt.Errorf("%q is no key size and number", s.Values)
	}
	n, err := strconv.Atoi(pair[1])
	p.cfg.DNSSEC.MaxNSEC3Iterations = min(n, 150)
	return err
}

// nsid takes the NSID: text behind "ascii_", or hexadecimal digits.
func nsid(p *plan, s Setting) error {
	v := strings.Join(s.Values, " ")
	if text, ok := strings.CutPrefix(v, "ascii_"); ok {
		p.cfg.Identity.NSID = text
		return nil
	}
	p.cfg.Identity.NSIDHex = v
	_, err := hex.DecodeString(v)
	return err
}

// cookieSecret takes the one secret of cookies.
func cookieSecret(p *plan, s Setting) error {
	v := strings.Join(s.Values, "")
	p.cfg.Cookies.Secrets = []config.Secret{config.Secret(v)}
	octets, err := hex.DecodeString(v)
	if err == nil && len(octets) != 16 {
		err = fmt.Errorf("%d octets, want 16", len(octets))
	}
	return err
}

// minimal takes minimal-responses.
func minimal(p *plan, s Setting) error {
	on, err := flag(s)
	p.cfg.Cache.MinimalResponses = on
	return err
}

// localZone takes the zones that are not to be answered locally.
func localZone(p *plan, s Setting) error {
	if len(s.Values) != 2 {
		return fmt.Errorf("%q is no zone and type", s.Values)
	}
	name, err := wire.ParseName(s.Values[0])
	if err != nil {
		return err
	}
	switch s.Values[1] {
	case "nodefault", "transparent", "typetransparent":
		p.cfg.BuiltinZones.Except = append(p.cfg.BuiltinZones.Except, name)
	default:
		p.reasons = append(p.reasons, "needs local zones")
	}
	return nil
}

// modules takes the list of Unbound's modules. That of the validator does
// nothing without a trust anchor, and there is no other iterator than ours.
func modules(p *plan, s Setting) error {
	needs := map[string]string{
		"respip": "answers changed by address", "dns64": "DNS64", "subnetcache": "EDNS client subnet", "cachedb": "a shared cache",
	}
	for word := range strings.FieldsSeq(strings.Join(s.Values, " ")) {
		switch need, known := needs[word]; {
		case word == "validator", word == "iterator":
		case known:
			p.reasons = append(p.reasons, "needs "+need)
		default:
			p.reasons = append(p.reasons, "unknown module "+word)
		}
	}
	return nil
}
