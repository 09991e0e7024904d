package collector

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"shirube/dnstap"
	"shirube/internal/wire"
)

// Filter says which records are printed and shown. Of each kind one has to match;
// the zero Filter takes all.
type Filter struct {
	names      []wire.Name    // the question's is within one
	clients    []netip.Prefix // who asked is in one
	rcodes     []string       // of a response
	types      []wire.Type    // of the question
	transports []string       // with the version of HTTP or without
	text       string
}

// ParseFilter reads a filter: words of a kind, a colon and values with commas, as
// in "name:example.com client:192.0.2.0/24,2001:db8::/32 rcode:servfail type:aaaa
// transport:doh,dot".
func ParseFilter(text string) (*Filter, error) {
	words := strings.Fields(text)
	f := &Filter{text: strings.Join(words, " ")}
	for _, word := range words {
		kind, values, _ := strings.Cut(word, ":")
		add := map[string]func(string) error{
			"name": f.addName, "client": f.addClient, "rcode": f.addRcode, "type": f.addType, "transport": f.addTransport,
		}[kind]
		if add == nil || values == "" {
			return nil, fmt.Errorf("found %q; expected name:, client:, rcode:, type: or transport:, and values", word)
		}
		for v := range strings.SplitSeq(values, ",") {
			if err := add(v); err != nil {
				return nil, fmt.Errorf("%s: %w", kind, err)
			}
		}
	}
	return f, nil
}

// String returns f as [ParseFilter] reads it.
func (f *Filter) String() string { return f.text }

func (f *Filter) addName(v string) error {
	n, err := wire.ParseName(v)
	if err != nil {
		return fmt.Errorf("%q is no name: %w", v, err)
	}
	f.names = append(f.names, n)
	return nil
}

func (f *Filter) addClient(v string) error {
	p, err := netip.ParsePrefix(v)
	if err != nil {
		a, aerr := netip.ParseAddr(v)
		if aerr != nil {
			return fmt.Errorf("%q is no address and no prefix", v)
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	f.clients = append(f.clients, p)
	return nil
}

func (f *Filter) addRcode(v string) error {
	for rcode := range wire.Rcode(16) {
		if strings.EqualFold(rcode.String(), v) {
			f.rcodes = append(f.rcodes, rcode.String())
			return nil
		}
	}
	return fmt.Errorf("%q is no code of responses", v)
}

func (f *Filter) addType(v string) error {
	upper := strings.ToUpper(v)
	typ, known := dns.StringToType[upper]
	if !known {
		if _, err := fmt.Sscanf(upper, "TYPE%d", &typ); err != nil {
			return fmt.Errorf("%q is no type of records", v)
		}
	}
	f.types = append(f.types, wire.Type(typ))
	return nil
}

func (f *Filter) addTransport(v string) error {
	upper := strings.ToUpper(v)
	if known := []string{"UDP", "TCP", "DOT", "DOH", "DOH/HTTP1", "DOH/HTTP2", "DOH/HTTP3", "DOQ"}; !slices.Contains(known, upper) {
		return fmt.Errorf("found %q; expected one of %s", v, strings.ToLower(strings.Join(known, ", ")))
	}
	f.transports = append(f.transports, upper)
	return nil
}

// Takes reports whether r is taken. A filter for rcodes takes no queries, one for
// clients only what clients asked and were answered.
func (f *Filter) Takes(r *dnstap.Record) bool {
	if len(f.names)+len(f.types) > 0 && !f.takesQuestion(r) {
		return false
	}
	if len(f.rcodes) > 0 {
		if rcode, ok := r.Rcode(); !ok || !slices.Contains(f.rcodes, rcode.String()) {
			return false
		}
	}
	if len(f.clients) > 0 && !f.takesClient(r) {
		return false
	}
	return len(f.transports) == 0 || slices.Contains(f.transports, transport(r)) ||
		slices.Contains(f.transports, word(protocolWords, r.SocketProtocol))
}

func (f *Filter) takesQuestion(r *dnstap.Record) bool {
	name, typ, _, ok := r.Question()
	if !ok || len(f.types) > 0 && !slices.Contains(f.types, typ) {
		return false
	}
	n, err := wire.FromWire(name)
	return len(f.names) == 0 || err == nil && slices.ContainsFunc(f.names, n.Within)
}

func (f *Filter) takesClient(r *dnstap.Record) bool {
	client := r.Type == uint32(dnstap.ClientQuery) || r.Type == uint32(dnstap.ClientResponse)
	a := r.Query.Addr().Unmap()
	return client && slices.ContainsFunc(f.clients, func(p netip.Prefix) bool { return p.Contains(a) })
}
