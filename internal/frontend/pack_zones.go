package frontend

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/miekg/dns"

	"shirube/cache/shared"
	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
	"shirube/resolver"
)

// What is told of a zone is a message: of a cut, the NS set in the authority
// section, addresses of servers in the additional section, and in the answer
// section the DS set with its signatures, as the referral had it; of a link, the
// keys that sign the zone in the answer section, and before the message how far
// it is trusted, and what clients are told, with its code.

// packCut returns what the fleet is told of c; nil: nothing.
func packCut(c *rrset.Cut, now time.Time) *shared.Zone {
	owner := c.Zone.String()
	m := zoneMessage(owner)
	for _, srv := range c.Servers {
		host := srv.Host.String()
		m.Ns = append(m.Ns, &dns.NS{Hdr: dns.RR_Header{Name: owner, Rrtype: dns.TypeNS, Class: dns.ClassINET}, Ns: host})
		for _, addr := range srv.Addrs {
			h := dns.RR_Header{Name: host, Rrtype: dns.TypeAAAA, Class: dns.ClassINET}
			if addr.Is4() {
				h.Rrtype = dns.TypeA
				m.Extra = append(m.Extra, &dns.A{Hdr: h, A: addr.AsSlice()})
			} else {
				m.Extra = append(m.Extra, &dns.AAAA{Hdr: h, AAAA: addr.AsSlice()})
			}
		}
	}
	// A denial of keys is large, and needed once: the link says what it proves.
	if c.DS != nil && c.DS.Denial == nil && c.DS.Until.After(now) {
		ttl := c.DS.TTL(c.Since) // what it was when it came
		for _, rr := range c.DS.RRs {
			m.Answer = append(m.Answer, withTTL(rr, ttl))
		}
		for _, sig := range c.DS.Sigs {
			m.Answer = append(m.Answer, withTTL(sig, ttl))
		}
	}
	text, err := m.Pack()
	if err != nil {
		return nil // the others ask for themselves
	}
	return &shared.Zone{Name: c.Zone, Stored: c.Since, Until: c.Until, Text: text}
}

func zoneMessage(owner string) *dns.Msg {
	m := &dns.Msg{Compress: true, Question: []dns.Question{{Name: owner, Qtype: dns.TypeNS, Qclass: dns.ClassINET}}}
	m.Response = true
	return m
}

// withTTL returns rr with another TTL.
func withTTL(rr dns.RR, ttl uint32) dns.RR {
	rr = dns.Copy(rr)
	rr.Header().Ttl = ttl
	return rr
}

// packLink returns what the fleet is told of l; nil: nothing.
func packLink(l *rrset.Link) *shared.Zone {
	text := []byte{byte(l.Trust), 0, 0, 0}
	if l.Err != nil {
		why := ede.Of(l.Err)
		binary.BigEndian.PutUint16(text[1:], uint16(why.Code))
		words := why.Text
		if len(words) > cutAt {
			words = words[:cutAt]
		}
		text[3] = byte(len(words))
		text = append(text, words...)
	}
	m := zoneMessage(l.Zone.String())
	for _, k := range l.Keys {
		m.Answer = append(m.Answer, k)
	}
	msg, err := m.Pack()
	if err != nil {
		return nil
	}
	return &shared.Zone{Name: l.Zone, Keys: true, Stored: l.Since, Until: l.Until, Text: append(text, msg...)}
}

// cutAt is how long the words of a link may be, in octets.
const cutAt = 255

// unpackZone returns what the fleet was told, by our clock.
func unpackZone(z *shared.Zone, now time.Time) (resolver.FleetZone, error) {
	since, until := when(z.Stored, now), when(z.Until, now)
	if z.Keys {
		l, err := unpackLink(z, since, until)
		return resolver.FleetZone{Link: l}, err
	}
	c, err := unpackCut(z, since, until)
	return resolver.FleetZone{Cut: c}, err
}

func unpackCut(z *shared.Zone, since, until time.Time) (*rrset.Cut, error) {
	m := new(dns.Msg)
	if err := m.Unpack(z.Text); err != nil {
		return nil, fmt.Errorf("unpacking: %w", err)
	}
	c := &rrset.Cut{Zone: z.Name, Since: since, Until: until}
	for _, rr := range m.Ns {
		ns, ok := rr.(*dns.NS)
		if !ok {
			return nil, fmt.Errorf("%w: %v", errRecord, rr)
		}
		host, err := wire.ParseName(ns.Ns)
		if err != nil {
			return nil, err
		}
		srv := rrset.Server{Host: host}
		for _, glue := range m.Extra {
			owner, err := wire.ParseName(glue.Header().Name)
			if addr, ok := addressOf(glue); ok && err == nil && owner == host {
				srv.Addrs = append(srv.Addrs, addr)
			}
		}
		c.Servers = append(c.Servers, srv)
	}
	u := unpacker{at: since, deadline: until, trust: rrset.Unchecked}
	sets, err := u.sets(m.Answer)
	if err != nil {
		return nil, err
	}
	if len(sets) == 1 && sets[0].Name == z.Name && sets[0].Type == wire.TypeDS {
		sets[0].Rank = rrset.Authority
		c.DS = &sets[0]
	}
	return c, nil
}

// addressOf returns the address in an address record.
func addressOf(rr dns.RR) (addr netip.Addr, ok bool) {
	switch rr := rr.(type) {
	case *dns.A:
		addr, ok = netip.AddrFromSlice(rr.A.To4())
	case *dns.AAAA:
		addr, ok = netip.AddrFromSlice(rr.AAAA)
	}
	return addr, ok
}

func unpackLink(z *shared.Zone, since, until time.Time) (*rrset.Link, error) {
	const head = 4
	if len(z.Text) < head || len(z.Text) < head+int(z.Text[3]) {
		return nil, fmt.Errorf("%w: too short", errRecord)
	}
	end := head + int(z.Text[3])
	l := &rrset.Link{Zone: z.Name, Trust: rrset.Trust(z.Text[0]), Since: since, Until: until}
	if code := binary.BigEndian.Uint16(z.Text[1:]); code != 0 || z.Text[3] != 0 {
		l.Err = &ede.Error{Code: ede.Code(code), Text: string(z.Text[head:end])}
	}
	m := new(dns.Msg)
	if err := m.Unpack(z.Text[end:]); err != nil {
		return nil, fmt.Errorf("unpacking: %w", err)
	}
	for _, rr := range m.Answer {
		k, ok := rr.(*dns.DNSKEY)
		if !ok {
			return nil, fmt.Errorf("%w: %v", errRecord, rr)
		}
		l.Keys = append(l.Keys, k)
	}
	return l, nil
}
