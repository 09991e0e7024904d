package frontend

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"shirube/internal/ede"
	"shirube/internal/health"
	"shirube/internal/wire"
	"shirube/policy"
	"shirube/transport"
)

// HealthAnswer is what a server that is not ready answers to its health name.
type HealthAnswer uint8

// The answers. Silence is the last resort: a monitor waits for its time to be up.
const (
	HealthServFail HealthAnswer = iota
	HealthRefused
	HealthNXDomain
	HealthNoData
	HealthSilence
)

// Health is a name that load balancers ask for to see whether a server is ready.
// It is answered from here, over every transport, however busy the resolver is.
type Health struct {
	Name      wire.Name      // with its own addresses, while the server is ready
	Addresses []netip.Addr   // one of each family at most
	Clients   []netip.Prefix // who may ask for it whatever policy says; nobody else is shut out
	State     *health.State
	NotReady  HealthAnswer

	octets [2]string // of Addresses, IPv4 and IPv6: "" for none
}

// maxHealthClients bounds the prefixes of a [Health], which are looked through
// one by one.
const maxHealthClients = 64

// prepared returns h as it is used, or what is wrong with it. A nil h is none.
func (h *Health) prepared() (*Health, error) {
	if h == nil {
		return nil, nil
	}
	own, families := *h, [2]int{}
	for _, a := range h.Addresses {
		i := a.BitLen() / 128
		families[i]++
		own.octets[i] = string(a.AsSlice())
	}
	switch {
	case h.State == nil || h.Name == "" || h.Name == wire.Root:
		return nil, errors.New("frontend: a health name needs a name that is not the root's, and a state")
	case families[0] > 1 || families[1] > 1:
		return nil, fmt.Errorf("frontend: the health name has %d addresses; one of each family is allowed", len(h.Addresses))
	case len(h.Clients) > maxHealthClients:
		return nil, fmt.Errorf("frontend: %d prefixes may ask for the health name; at most %d are allowed", len(h.Clients), maxHealthClients)
	}
	return &own, nil
}

// asked reports whether q is about h, which may be nil. It allocates nothing.
func (h *Health) asked(q *wire.Query) bool {
	if h == nil || len(q.RawName()) != len(h.Name) || q.Class != wire.ClassIN {
		return false
	}
	var b [wire.MaxNameLen]byte
	return string(wire.AppendFolded(b[:0], q.RawName())) == string(h.Name)
}

// errNotReady goes with SERVFAIL for the health name (RFC 8914 §4.15).
var errNotReady = ede.Error{Code: ede.NotReady, Text: "not ready for clients"}

// health answers q, which is about the health name. It allocates nothing.
func (f *Frontend) health(buf []byte, q *wire.Query) ([]byte, transport.Outcome) {
	h, client := f.opt.Health, q.Client.Addr().Unmap()
	if !slices.ContainsFunc(h.Clients, func(p netip.Prefix) bool { return p.Contains(client) }) {
		if out, outcome, ok := f.admit(buf, q, f.opt.Policy.Admit(client)); !ok {
			return out, outcome
		}
	}
	if out, ok := f.unproven(buf, q, policy.Allow); ok {
		return out, transport.Answered
	}
	f.counts.of(q).local.Add(1)
	q.Policy = wire.PolicyBuiltin
	if h.State.Ready(q.Received) {
		return f.healthData(buf, q, h.data(q.Type), wire.NoError), transport.Answered
	}
	switch h.NotReady {
	case HealthRefused:
		return f.reply(buf, q, wire.Refused, &errNotReady), transport.Answered
	case HealthNXDomain:
		return f.healthData(buf, q, "", wire.NXDomain), transport.Answered
	case HealthNoData:
		return f.healthData(buf, q, "", wire.NoError), transport.Answered
	case HealthSilence:
		return buf, transport.Dropped
	}
	return f.reply(buf, q, wire.ServFail, &errNotReady), transport.Answered
}

// healthText is the TXT record of the health name of a server that is ready.
const healthText = "\x05ready"

// data returns the RDATA of the one record of typ; "" if there is none.
func (h *Health) data(typ wire.Type) string {
	switch typ {
	case wire.TypeA:
		return h.octets[0]
	case wire.TypeAAAA:
		return h.octets[1]
	case wire.TypeTXT:
		return healthText
	case wire.TypeSOA:
		return builtinSOA
	}
	return ""
}

// healthData appends a response to q that has the record with rdata, or, if that
// is "", the SOA record that says that there is none. Nobody is to remember it.
func (f *Frontend) healthData(buf []byte, q *wire.Query, rdata string, rcode wire.Rcode) []byte {
	const ttl = 0
	start := len(buf)
	buf = wire.AppendReply(buf, q, rcode)
	buf[start+flagsAt] |= flagAA // nobody else's word counts here
	if rdata != "" {
		buf[start+ancount] = 1
		return f.finish(appendRecord(buf, 0, q.Type, ttl, rdata), start, q, nil)
	}
	buf[start+nscount] = 1 // RFC 2308 §3
	return f.finish(appendRecord(buf, 0, wire.TypeSOA, ttl, builtinSOA), start, q, nil)
}
