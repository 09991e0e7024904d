package config

import (
	"fmt"
	"reflect"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"shirube/internal/wire"
	"shirube/resolver/anchor"
)

// DNSSEC configures validation.
type DNSSEC struct {
	// Validate what is resolved (RFC 4035). Without it nothing else of this
	// section has an effect, and clients cannot tell forged answers from others.
	Validation bool `yaml:"validation"`
	// Trust the root's keys that are built in: KSK-2017 (20326) and KSK-2024
	// (38696). Anchors of the root in `trust_anchors` or `trust_anchor_files`
	// take their place. Switch it off only for name spaces of your own.
	RootTrustAnchor bool `yaml:"root_trust_anchor"`
	// Further trust anchors: DS or DNSKEY records in the form of a zone file, as
	// `corp.example. IN DS 12345 13 2 0123…CDEF`.
	TrustAnchors []TrustAnchor `yaml:"trust_anchors" range:"0..1000"`
	// Files with further trust anchors in the same form, such as those that
	// Unbound keeps for `auto-trust-anchor-file`. They are only read. A relative
	// path starts at the directory that the server was started in.
	TrustAnchorFiles []string `yaml:"trust_anchor_files" range:"0..100"`
	// Follow the zones of the trust anchors when they roll their keys (RFC
	// 5011): a new key is trusted when it has been seen for 30 days, and a
	// revoked one no more.
	AutoTrustAnchor bool `yaml:"auto_trust_anchor"`
	// Directory for what is learned of the trust anchors' zones, a file for each;
	// it is made if it is not there. Each instance needs its own. Empty: the one
	// that systemd gives the service (`StateDirectory=`), if any; else it is
	// kept in memory, and a restart forgets it. A directory that cannot be
	// written to is logged, and validation goes on.
	StateDirectory string `yaml:"state_directory"`
	// Names at and below which nothing is validated for a while, since somebody
	// broke their signatures (RFC 7646). Their answers carry the Extended DNS
	// Error 33.
	NegativeTrustAnchors []NegativeTrustAnchor `yaml:"negative_trust_anchors" range:"0..1000"`
	// The time to check signatures at in place of the present: as in
	// `2026-01-31T12:00:00Z` or `20260131120000`, or in seconds since 1970. `-1`
	// ignores when signatures begin and expire. For tests only: expired
	// signatures pass for good.
	OverrideTime Override `yaml:"override_time"`
	// Tell who asks for `root-key-sentinel-is-ta-NNNNN` and
	// `root-key-sentinel-not-ta-NNNNN` which of the root's keys are trusted here
	// (RFC 8509).
	Sentinel bool `yaml:"sentinel"`
	// Tell the zones of the trust anchors which of their keys are trusted here,
	// whenever `auto_trust_anchor` looks at them (RFC 8145 §5).
	Telemetry bool `yaml:"telemetry"`
	// Give clients bogus answers too, without AD, and only log what would have
	// been withheld. For trying validation out: it protects nobody.
	Permissive bool `yaml:"permissive"`
	// Answer from validated proofs that a name or a type does not exist, and from
	// wildcards, without asking again (RFC 8198). Random names below a signed zone
	// then cost its servers a few queries. Proofs by NSEC3 with opt-out, which most
	// top-level zones have, deny too little to be of use.
	AggressiveNSEC bool `yaml:"aggressive_nsec"`
	// Zones whose NSEC3 records have more iterations are taken as insecure (RFC
	// 9276 §3.2).
	MaxNSEC3Iterations int `yaml:"max_nsec3_iterations" range:"0..150"`
	// Take a validated proof that a name does not exist as one for all names
	// below it (RFC 8020).
	HardenBelowNXDomain bool `yaml:"harden_below_nxdomain"`
	// What is bogus is not asked for again for so long (the bounds are those of
	// RFC 9520 §3.2).
	BogusTTL time.Duration `yaml:"bogus_ttl" range:"1s..5m"`
	// Algorithms of signatures that are taken as unknown: zones that have no
	// other are insecure.
	DisabledAlgorithms []Algorithm `yaml:"disabled_algorithms" range:"0..8"`
	// Digests of DS records that are taken as unknown: zones that have no other
	// are insecure.
	DisabledDSDigests []Digest `yaml:"disabled_ds_digests" range:"0..3"`
}

// NegativeTrustAnchor is a name that is not validated for a while. It has one
// of until and for.
type NegativeTrustAnchor struct {
	// The name.
	Name wire.Name `yaml:"name" required:"true"`
	// When it ends: as in `2026-01-31T12:00:00Z` or `20260131120000`, or in
	// seconds since 1970. Either this or `for` has to be given.
	Until Date `yaml:"until"`
	// How long it lasts from the start of the server, a week at most (RFC 7646
	// §2). Either this or `until` has to be given.
	For time.Duration `yaml:"for" range:"0..7d"`
	// Why it is there, for the log.
	Reason string `yaml:"reason"`
}

// TrustAnchor is a DS or DNSKEY record in the form of a zone file.
type TrustAnchor string

// Date is a point in time, as the file has it; "" is none.
type Date string

// Time returns d, and whether it is any.
func (d Date) Time() (time.Time, bool) { return parseDate(string(d)) }

// Override is a point in time or -1, as the file has it; "" is neither.
type Override string

// ignoreTime is what Unbound calls the absence of time.
const ignoreTime = "-1"

// Time returns o, and whether it is any time.
func (o Override) Time() (time.Time, bool) { return parseDate(string(o)) }

// Ignore reports whether time is to be ignored.
func (o Override) Ignore() bool { return o == ignoreTime }

// parseDate reads a time in the ways that RFC 3339, RRSIG records (RFC 4034
// §3.2) and Unix have.
func parseDate(text string) (time.Time, bool) {
	for _, layout := range []string{time.RFC3339, "20060102150405"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, true
		}
	}
	seconds, err := strconv.ParseUint(text, 10, 32)
	return time.Unix(int64(seconds), 0).UTC(), err == nil
}

// Algorithm is a DNSSEC algorithm by its mnemonic.
type Algorithm string

func (Algorithm) values() []string {
	return []string{
		"RSASHA1", "RSASHA1-NSEC3-SHA1", "RSASHA256", "RSASHA512", "ECDSAP256SHA256", "ECDSAP384SHA384", "ED25519", "ED448",
	}
}

// Number returns the number of a in the IANA registry "DNS Security Algorithm
// Numbers".
func (a Algorithm) Number() uint8 {
	return map[Algorithm]uint8{
		"RSASHA1": 5, "RSASHA1-NSEC3-SHA1": 7, "RSASHA256": 8, "RSASHA512": 10,
		"ECDSAP256SHA256": 13, "ECDSAP384SHA384": 14, "ED25519": 15, "ED448": 16,
	}[a]
}

// Digest is a digest of DS records by its mnemonic.
type Digest string

func (Digest) values() []string { return []string{"SHA-1", "SHA-256", "SHA-384"} }

// Number returns the number of d in the IANA registry "DS RR Type Digest
// Algorithms".
func (d Digest) Number() uint8 {
	return map[Digest]uint8{"SHA-1": 1, "SHA-256": 2, "SHA-384": 4}[d]
}

// setAnchor takes a trust anchor.
func (k *Key) setAnchor(dst reflect.Value, n *yaml.Node) *fault {
	if f := k.setText(dst, n); f != nil {
		return f
	}
	if _, err := anchor.ParseRecord(n.Value); err != nil {
		return faultf("%s", err)
	}
	return nil
}

// setDate takes a time, or nothing.
func (k *Key) setDate(dst reflect.Value, n *yaml.Node) *fault {
	_, ok := parseDate(n.Value)
	if !ok && n.Value != "" && (k.Kind != KindOverride || n.Value != ignoreTime) {
		return k.unexpected(n, "")
	}
	dst.SetString(n.Value)
	return nil
}

// dnssec reports what makes no sense about validation.
func (d *decoder) dnssec(cfg *Config) {
	first := map[wire.Name]int{}
	for i, n := range cfg.DNSSEC.NegativeTrustAnchors {
		path := fmt.Sprintf("dnssec.negative_trust_anchors[%d]", i)
		switch {
		case d.failed[path+".until"] || d.failed[path+".for"]:
		case n.Until == "" && n.For == 0:
			d.contradiction("found a negative trust anchor without an end; expected until or for", path)
		case n.Until != "" && n.For != 0:
			d.contradiction("found both until and for; expected one of them", path+".until", path+".for")
		}
		j, again := first[n.Name]
		switch {
		case n.Name == "": // reported already
		case again:
			d.contradiction(fmt.Sprintf("found %s again; negative_trust_anchors[%d] has it already", n.Name, j), path+".name")
		default:
			first[n.Name] = i
		}
	}
}
