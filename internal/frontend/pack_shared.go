package frontend

import (
	"errors"
	"fmt"
	"time"

	"github.com/miekg/dns"

	"shirube/cache/shared"
	"shirube/internal/rrset"
	"shirube/internal/wire"
	"shirube/resolver"
)

// names returns the names that an answer to a question for name is about: name,
// and where aliases lead.
func names(name wire.Name, ans *resolver.Answer) []wire.Name {
	out := []wire.Name{name}
	for i := range ans.Records {
		s := &ans.Records[i]
		if s.Name != out[len(out)-1] && s.Type != wire.TypeDNAME { // those of its zone follow it
			out = append(out, s.Name)
		}
		if s.Type != wire.TypeCNAME {
			continue
		}
		for _, cname := range rrset.Records[*dns.CNAME](s) {
			if target, err := wire.ParseName(cname.Target); err == nil {
				out = append(out, target)
			}
		}
	}
	return out
}

var errRecord = errors.New("a record that does not belong into an answer")

// unpack returns what pack made e of, as it was at a time by our clock; nothing
// of it lives on after deadline, if that is not zero.
func unpack(e *shared.Entry, at, deadline time.Time) (*resolver.Answer, error) {
	m := new(dns.Msg)
	if err := m.Unpack(e.Msg); err != nil {
		return nil, fmt.Errorf("unpacking: %w", err)
	}
	u := unpacker{at: at, deadline: deadline, trust: e.Trust}
	ans := &resolver.Answer{Rcode: wire.Rcode(m.Rcode), Trust: e.Trust, Note: e.Note}
	var err error
	if ans.Records, err = u.sets(m.Answer); err != nil {
		return nil, err
	}
	authority, err := u.sets(m.Ns)
	if err != nil {
		return nil, err
	}
	for _, s := range authority {
		if s.Type == wire.TypeNS { // it may be left out; see [resolver.Answer]
			ans.Authority = append(ans.Authority, s)
		} else {
			ans.Denial = append(ans.Denial, s)
		}
	}
	ans.Additional, err = u.sets(m.Extra)
	return ans, err
}

// unpacker makes sets of records.
type unpacker struct {
	at, deadline time.Time
	trust        rrset.Trust
}

// sets returns the sets of a section: records of one name and type that follow
// each other, and the signatures behind them.
func (u *unpacker) sets(section []dns.RR) ([]rrset.Set, error) {
	var out []rrset.Set
	for _, rr := range section {
		h := rr.Header()
		name, err := wire.ParseName(h.Name)
		if err != nil || h.Class != dns.ClassINET || wire.Type(h.Rrtype).Meta() {
			return nil, fmt.Errorf("%w: %s %s", errRecord, h.Name, dns.TypeToString[h.Rrtype])
		}
		var last *rrset.Set
		if len(out) > 0 && out[len(out)-1].Name == name {
			last = &out[len(out)-1]
		}
		if sig, ok := rr.(*dns.RRSIG); ok {
			if last == nil || wire.Type(sig.TypeCovered) != last.Type {
				return nil, fmt.Errorf("%w: a signature of nothing", errRecord)
			}
			last.Sigs = append(last.Sigs, sig)
			continue
		}
		if last == nil || last.Type != wire.Type(h.Rrtype) || len(last.Sigs) > 0 {
			out = append(out, rrset.Set{
				Name: name, Type: wire.Type(h.Rrtype), Rank: rrset.AuthAnswer, Trust: u.trust, Until: u.until(h.Ttl),
			})
			last = &out[len(out)-1]
		}
		last.RRs = append(last.RRs, rr)
	}
	return out, nil
}

// until returns when what has this TTL ends.
func (u *unpacker) until(ttl uint32) time.Time {
	end := u.at.Add(time.Duration(ttl) * time.Second)
	if !u.deadline.IsZero() && u.deadline.Before(end) {
		return u.deadline
	}
	return end
}
