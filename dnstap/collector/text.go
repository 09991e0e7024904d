package collector

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"shirube/dnstap"
)

// Quiet is the [Format] of `dnstap -q`: a line with time, type, peer, transport,
// size and question. Of what it has no word for it prints the same as that does,
// but for transports that were added since.
func Quiet(b []byte, r *dnstap.Record) []byte {
	letter := word(typeLetters, r.Type)
	if letter == "" || r.Type >= uint32(len(typeLetters)) {
		return append(b, "[unhandled Message.Type]\n"...)
	}
	direction, peer := "Q ", r.Response
	if r.IsResponse() {
		direction = "R "
	}
	if letter == "C" || letter == "A" {
		peer = r.Query
	}
	b = appendClock(b, r.Time())
	b = append(b, ' ')
	b = append(append(append(b, letter...), direction...), addressWord(peer.Addr())...)
	b = append(append(append(b, ' '), word(protocolWords, r.SocketProtocol)...), ' ')
	msg := r.Message()
	b = append(strconv.AppendInt(b, int64(len(msg)), 10), "b "...)
	m := new(dns.Msg)
	if err := m.Unpack(msg); err != nil || len(m.Question) == 0 {
		return append(b, "X \n"...)
	}
	q := &m.Question[0]
	return fmt.Appendf(b, "\"%s\" %s %s\n", q.Name, dns.Class(q.Qclass), dns.Type(q.Qtype))
}

func appendClock(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, "??:??:??.??????"...)
	}
	return t.Local().AppendFormat(b, "15:04:05.000000")
}

func addressWord(a netip.Addr) string {
	if !a.IsValid() {
		return "MISSING_ADDRESS"
	}
	return a.Unmap().String()
}

// YAML is the [Format] of `dnstap -y`: a document with every field, and the
// message as dig prints it.
func YAML(b []byte, r *dnstap.Record) []byte {
	b = append(b, "type: MESSAGE\n"...)
	if r.Identity != nil {
		b = fmt.Appendf(b, "identity: %q\n", r.Identity)
	}
	if r.Version != nil {
		b = fmt.Appendf(b, "version: %q\n", r.Version)
	}
	b = fmt.Appendf(b, "message:\n  type: %s\n", word(typeWords, r.Type))
	b = appendTimestamp(b, "query_time", r.QueryTime)
	b = appendTimestamp(b, "response_time", r.ResponseTime)
	for _, f := range []struct{ name, value string }{
		{"socket_family", word(familyWords, r.SocketFamily)},
		{"socket_protocol", word(protocolWords, r.SocketProtocol)},
		{"http_protocol", word(httpWords, r.HTTPProtocol)},
	} {
		if f.value != "" {
			b = fmt.Appendf(b, "  %s: %s\n", f.name, f.value)
		}
	}
	if r.Query.IsValid() {
		b = fmt.Appendf(b, "  query_address: %s\n", addressWord(r.Query.Addr()))
	}
	if r.Response.IsValid() {
		b = fmt.Appendf(b, "  response_address: %s\n", addressWord(r.Response.Addr()))
	}
	if r.Query.Port() != 0 {
		b = fmt.Appendf(b, "  query_port: %d\n", r.Query.Port())
	}
	if r.Response.Port() != 0 {
		b = fmt.Appendf(b, "  response_port: %d\n", r.Response.Port())
	}
	b = appendZone(b, r.QueryZone)
	if p := &r.Policy; p.Type != nil {
		b = fmt.Appendf(b, "  policy:\n    type: %q\n", p.Type)
		if p.Action != 0 {
			b = fmt.Appendf(b, "    action: %s\n", word(actionWords, p.Action))
		}
		if p.Match != 0 {
			b = fmt.Appendf(b, "    match: %s\n", word(matchWords, p.Match))
		}
	}
	b = appendMessage(b, "query_message", r.QueryMessage)
	b = appendMessage(b, "response_message", r.ResponseMessage)
	return append(b, "---\n"...)
}

func appendTimestamp(b []byte, name string, t time.Time) []byte {
	if t.IsZero() {
		return b
	}
	b = fmt.Appendf(b, "  %s: !!timestamp ", name)
	return append(t.AppendFormat(b, "2006-01-02 15:04:05.999999999"), '\n')
}

func appendZone(b, zone []byte) []byte {
	if zone == nil {
		return b
	}
	name, _, err := dns.UnpackDomainName(zone, 0)
	if err != nil {
		return fmt.Appendf(b, "  # query_zone: parse failed: %v\n", err)
	}
	return fmt.Appendf(b, "  query_zone: %q\n", name)
}

// appendMessage appends a message as dig prints it, if it is there.
func appendMessage(b []byte, name string, msg []byte) []byte {
	if msg == nil {
		return b
	}
	m := new(dns.Msg)
	if err := m.Unpack(msg); err != nil {
		return fmt.Appendf(b, "  # %s: parse failed: %v\n", name, err)
	}
	text := strings.ReplaceAll(strings.TrimSpace(m.String()), "\n", "\n    ")
	return fmt.Appendf(b, "  %s: |\n    %s\n", name, text)
}
