package collector

import (
	"strconv"

	"shirube/dnstap"
)

// The words of dnstap.proto (commit 6412261).
var (
	typeWords = []string{
		1: "AUTH_QUERY", 2: "AUTH_RESPONSE", 3: "RESOLVER_QUERY", 4: "RESOLVER_RESPONSE", 5: "CLIENT_QUERY", 6: "CLIENT_RESPONSE",
		7: "FORWARDER_QUERY", 8: "FORWARDER_RESPONSE", 9: "STUB_QUERY", 10: "STUB_RESPONSE", 11: "TOOL_QUERY", 12: "TOOL_RESPONSE",
		13: "UPDATE_QUERY", 14: "UPDATE_RESPONSE",
	}
	typeLetters   = []string{1: "A", 2: "A", 3: "R", 4: "R", 5: "C", 6: "C", 7: "F", 8: "F", 9: "S", 10: "S", 11: "T", 12: "T", 13: "U", 14: "U"}
	familyWords   = []string{1: "INET", 2: "INET6"}
	protocolWords = []string{1: "UDP", 2: "TCP", 3: "DOT", 4: "DOH", 5: "DNSCryptUDP", 6: "DNSCryptTCP", 7: "DOQ"}
	httpWords     = []string{1: "HTTP1", 2: "HTTP2", 3: "HTTP3"}
	actionWords   = []string{1: "NXDOMAIN", 2: "NODATA", 3: "PASS", 4: "DROP", 5: "TRUNCATE", 6: "LOCAL_DATA"}
	matchWords    = []string{1: "QNAME", 2: "CLIENT_IP", 3: "RESPONSE_IP", 4: "NS_NAME", 5: "NS_IP"}
)

// word returns the word for n: its digits if there is none, nothing for 0.
func word(words []string, n uint32) string {
	switch {
	case n == 0:
		return ""
	case int64(n) < int64(len(words)):
		return words[n]
	}
	return strconv.FormatUint(uint64(n), 10)
}

// transport returns the transport of r, with the version of HTTP if it is said.
func transport(r *dnstap.Record) string {
	if r.HTTPProtocol != 0 {
		return word(protocolWords, r.SocketProtocol) + "/" + word(httpWords, r.HTTPProtocol)
	}
	return word(protocolWords, r.SocketProtocol)
}
