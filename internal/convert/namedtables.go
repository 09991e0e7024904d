package convert

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// namedPlain are options of named whose values go to a key as they are, in a form.
var namedPlain = map[string]struct {
	path string
	form func(string) (string, error)
}{
	"answer-cookie":         {"cookies.enabled", namedBoolean},
	"send-cookie":           {"resolver.upstream_cookies", namedBoolean},
	"max-cache-ttl":         {"cache.max_ttl", namedDuration},
	"min-cache-ttl":         {"cache.min_ttl", namedDuration},
	"max-ncache-ttl":        {"cache.max_negative_ttl", namedDuration},
	"servfail-ttl":          {"cache.min_failure_ttl", namedDuration},
	"stale-answer-enable":   {"cache.serve_stale.enabled", namedBoolean},
	"max-stale-ttl":         {"cache.serve_stale.max_age", namedDuration},
	"stale-answer-ttl":      {"cache.serve_stale.reply_ttl", namedDuration},
	"stale-refresh-time":    {"cache.serve_stale.recheck", namedDuration},
	"recursive-clients":     {"limits.in_flight", number},
	"max-clients-per-query": {"limits.waiters", number},
	"fetches-per-zone":      {"limits.in_flight_per_zone", firstNumber},
	"tcp-clients":           {"limits.tcp_connections", number},
	"tcp-idle-timeout":      {"limits.tcp_idle_timeout", tenths},
	"tcp-initial-timeout":   {"limits.tcp_first_byte_timeout", tenths},
	"max-udp-size":          {"limits.udp_size", number},
	"edns-udp-size":         {"resolver.edns_size", number},
	"max-recursion-queries": {"resolver.max_queries", number},
	"max-query-count":       {"resolver.max_queries", number},
	"max-query-restarts":    {"resolver.max_aliases", number},
	"resolver-query-timeout": {
		"resolver.timeout", func(v string) (string, error) {
			n, err := strconv.ParseUint(v, 10, 32)
			if err == nil && n <= 300 { // they were seconds once
				return seconds(v)
			}
			return milliseconds(v)
		},
	},
	"synth-from-dnssec":           {"dnssec.aggressive_nsec", namedBoolean},
	"root-key-sentinel":           {"dnssec.sentinel", namedBoolean},
	"trust-anchor-telemetry":      {"dnssec.telemetry", namedBoolean},
	"udp-receive-buffer":          {"udp.receive_buffer", size},
	"udp-send-buffer":             {"udp.send_buffer", size},
	"http-streams-per-connection": {"limits.doh_streams", number},
}

// namedNeedless are options of named that nothing is lost with, by why that is so.
var namedNeedless = reasons(map[string]string{
	"paths are written whole":                                         "directory key-directory managed-keys-directory geoip-directory new-zones-directory",
	"the keys of the root are built in":                               "bindkeys-file",
	"systemd knows the process":                                       "pid-file lock-file",
	"systemd, or the container, confines the server":                  "coresize datasize files stacksize reserved-sockets random-device memstatistics memstatistics-file user",
	"it follows from limits.in_flight":                                "clients-per-query tcp-listen-queue resolver-nonbackoff-tries resolver-retry-interval",
	"it follows from limits.tcp_idle_timeout":                         "tcp-keepalive-timeout tcp-advertised-timeout",
	"the kernel's defaults are used":                                  "tcp-receive-buffer tcp-send-buffer",
	"it is so":                                                        "match-mapped-addresses message-compression no-case-compress reuseport stale-cache-enable keep-response-order auth-nxdomain automatic-interface-scan interface-interval",
	"ANY is answered by RFC 8482":                                     "minimal-any",
	"shirube ctl and shirube cache show it":                           "dump-file recursing-file secroots-file statistics-file zone-statistics",
	"shirube ctl uses a unix socket: control.socket":                  "controls session-keyfile session-keyname session-keyalg",
	"nothing is signed with it by a resolver":                         "key tkey-dhkey tkey-domain tkey-gssapi-credential tkey-gssapi-keytab",
	"it follows from the machine":                                     "transfers-in transfers-out transfers-per-ns serial-query-rate startup-notify-rate fetch-quota-params heartbeat-interval",
	"`shirube ctl nta` says how long":                                 "nta-lifetime nta-recheck",
	"depth is bounded: docs/limits.md":                                "max-recursion-depth",
	"keys are bounded: docs/limits.md":                                "max-rsa-exponent-size max-records-per-type max-types-per-name",
	"responses are padded where it is encrypted":                      "response-padding",
	"the faster family, and the faster server, is chosen":             "v6-bias lame-ttl",
	"version 2 of the protocol, in queues of its own: dnstap.outputs": "fstrm-set-buffer-hint fstrm-set-flush-timeout fstrm-set-input-queue-size fstrm-set-output-notify-threshold fstrm-set-output-queue-model fstrm-set-output-queue-size fstrm-set-reopen-interval",
	"nothing was built into named for it":                             "dnsrps-enable dnsrps-options",
	"built-in zones say nothing of anybody":                           "empty-contact empty-server dns64-contact dns64-server ipv4only-contact ipv4only-server",
	"the secret's length says it":                                     "cookie-algorithm",
	"it does nothing any more":                                        "dscp suppress-initial-notify nsec3-test-zone glue-cache use-alt-transfer-source alt-transfer-source alt-transfer-source-v6",
	"it is for zones that a server has itself": "allow-new-zones allow-notify allow-transfer allow-update allow-update-forwarding also-notify auto-dnssec catalog-zones check-dup-records " +
		"check-integrity check-mx check-mx-cname check-names check-sibling check-spf check-srv-cname check-svcb check-wildcard dialup dnskey-sig-validity dnssec-dnskey-kskonly dnssec-loadkeys-interval dnssec-policy " +
		"dnssec-secure-to-insecure dnssec-update-mode flush-zones-on-shutdown ixfr-from-differences lmdb-mapsize masterfile-format masterfile-style max-ixfr-ratio max-journal-size max-records " +
		"max-refresh-time max-retry-time max-transfer-idle-in max-transfer-idle-out max-transfer-time-in max-transfer-time-out max-zone-ttl min-refresh-time min-retry-time multi-master notify " +
		"notify-delay notify-rate notify-source notify-source-v6 notify-to-soa parental-agents parental-source parental-source-v6 primaries masters remote-servers provide-ixfr request-expire request-ixfr serial-update-method " +
		"sig-signing-nodes sig-signing-signatures sig-signing-type sig-validity-interval transfer-format transfer-message-size transfer-source transfer-source-v6 try-tcp-refresh update-check-ksk update-quota zero-no-soa-ttl",
})

// namedLost are options of named that something is lost with, by what is so in their
// place.
var namedLost = reasons(map[string]string{
	"there is no DNS64":                                           "dns64",
	"there are no response policy zones":                          "response-policy",
	"there is no filter of addresses, nor of aliases, in answers": "deny-answer-addresses deny-answer-aliases",
	"responses are not limited; cookies, and limits.in_flight_per_network, bound what one network can take": "rate-limit",
	"what a client may ask does not depend on the address that it asks":                                     "allow-query-on allow-query-cache-on allow-recursion-on match-destinations match-recursive-only",
	"what one server can take is bounded by limits.in_flight_per_zone":                                      "fetches-per-server",
	"the kernel chooses the address and the port to ask from":                                               "query-source query-source-v6 use-v4-udp-ports use-v6-udp-ports avoid-v4-udp-ports avoid-v6-udp-ports",
	"Prometheus asks at admin.listen":                                                                       "statistics-channels",
	"all connections together are limited by limits.tls_connections":                                        "http-listener-clients",
	"a client without a valid cookie is told to use TCP: allow_cookie in access_control":                    "nocookie-udp-size",
	"the order of answers does not depend on who asks":                                                      "sortlist preferred-glue",
	"a denial is kept for as long as its zone says":                                                         "min-ncache-ttl zero-no-soa-ttl-cache",
	"a name that is not there is told to be so":                                                             "nxdomain-redirect root-delegation-only ipv4only-enable",
	"name servers are not asked for it":                                                                     "request-nsid",
	"other ways to a zone's servers need a forwarder":                                                       "dual-stack-servers attach-cache",
	"dnssec.trust_anchors says what has to be secure":                                                       "dnssec-must-be-secure",
	"what has expired is bogus":                                                                             "dnssec-accept-expired",
	"nothing can be put into the server":                                                                    "plugin dlz dyndb",
	"list the zones in builtin_zones.except":                                                                "empty-zones-enable",
	"dnstap tells of every query":                                                                           "querylog",
})

// namedSame are options of namedLost that nothing is lost with if they have a value.
var namedSame = map[string]string{"dnssec-accept-expired": "false", "empty-zones-enable": "true", "querylog": "false", "request-nsid": "false", "root-delegation-only": "false", "ipv4only-enable": "false", "match-recursive-only": "false"}

// reasons returns why, by option, from lists of options by why.
func reasons(lists map[string]string) map[string]string {
	why := map[string]string{}
	for reason, names := range lists {
		for name := range strings.FieldsSeq(names) {
			why[name] = reason
		}
	}
	return why
}

// namedSpecial are the options that need more than their words in a form.
var namedSpecial = map[string]func(*named, *statement){
	"dnssec-validation":           (*named).validation,
	"validate-except":             (*named).exceptions,
	"disable-algorithms":          (*named).disabled,
	"disable-ds-digests":          (*named).disabled,
	"max-cache-size":              (*named).cacheSize,
	"prefetch":                    (*named).prefetch,
	"minimal-responses":           (*named).minimal,
	"qname-minimization":          (*named).minimisation,
	"stale-answer-client-timeout": (*named).staleTimeout,
	"rrset-order":                 (*named).order,
	"cookie-secret":               (*named).cookieSecret,
	"disable-empty-zone":          (*named).emptyZone,
	"version":                     (*named).versionText,
	"hostname":                    (*named).identityText,
	"server-id":                   (*named).identityText,
	"recursion":                   (*named).recursion,
	"dnstap-output":               (*named).dnstapOutput,
	"dnstap-identity":             (*named).dnstapIdentity,
	"dnstap-version":              (*named).dnstapVersion,
	"dnstap":                      (*named).dnstapKinds,
}

// namedTogether are the options that are translated with others, and not by themselves.
var namedTogether = reasons(map[string]string{
	"access": "allow-query allow-query-cache allow-recursion blackhole match-clients require-server-cookie",
	"listen": "listen-on listen-on-v6 port tls-port http-port https-port",
	"zones":  "forward forwarders",
})

// namedBoolean takes what named calls one.
func namedBoolean(v string) (string, error) {
	switch strings.ToLower(v) {
	case "yes", "true", "1":
		return "true", nil
	case "no", "false", "0":
		return "false", nil
	}
	return "", fmt.Errorf("found %q; expected yes or no", v)
}

// namedTTL is a duration as TTLs are written: 1w2d3h4m5s, or seconds.
var namedTTL = regexp.MustCompile(`^(?:(\d{1,9})w)?(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s?)?$`)

// namedISO is a duration of ISO 8601, with the units that are of one length.
var namedISO = regexp.MustCompile(`^p(?:(\d{1,9})w)?(?:(\d{1,9})d)?(?:t(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?)?$`)

// namedDuration takes either.
func namedDuration(v string) (string, error) {
	m := namedTTL.FindStringSubmatch(strings.ToLower(v))
	if m == nil {
		m = namedISO.FindStringSubmatch(strings.ToLower(v))
	}
	if m == nil || v == "" {
		return "", fmt.Errorf("found %q; expected a duration", v)
	}
	total := uint64(0)
	for i, unit := range []uint64{7 * 86400, 86400, 3600, 60, 1} {
		n, _ := strconv.ParseUint("0"+m[i+1], 10, 64) // digits, if there are any
		total += n * unit
	}
	return strconv.FormatUint(total, 10) + "s", nil
}

// tenths takes a number of 100 milliseconds.
func tenths(v string) (string, error) {
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil {
		return "", fmt.Errorf("found %q; expected a number", v)
	}
	return strconv.FormatUint(n*100, 10) + "ms", nil
}

// firstNumber takes a number and a word that does not matter.
func firstNumber(v string) (string, error) {
	first, _, _ := strings.Cut(v, " ")
	return number(first)
}
