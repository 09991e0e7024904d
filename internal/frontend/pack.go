package frontend

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"

	"shirube/cache"
	"shirube/internal/deadline"
	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
	"shirube/resolver"
)

// outcome is what a flight brought home. Its two wire forms, with and without
// DNSSEC records, are made when the first client wants them, and put into the
// cache then.
type outcome struct {
	f   *Frontend
	k   flightKey
	at  time.Time
	ans *resolver.Answer
	err *ede.Error // set: there is no ans

	sought   time.Time     // when it was begun to be looked for, by the clock that at is of
	begun    time.Time     // its resolution
	patience time.Duration // how long it may still wait for the fleet
	expired  time.Time     // when it did, if it came from the fleet

	steps *resolver.Recording // nil: nothing is kept of them

	traced *traced // nil: nobody is told of it
	forms  [2]form
	ctx    deadline.Context // of the resolution

	broken bool // the resolution has panicked: somebody may be at it yet
}

// takeOutcome returns an empty outcome; see returnOutcome.
func (f *Frontend) takeOutcome() *outcome {
	if o, ok := f.outcomes.Get().(*outcome); ok {
		return o
	}
	return new(outcome)
}

// returnOutcome has o used for another flight, if only the caller has it: its leader,
// whom nobody has joined. It is empty then, so that whoever uses it still fails.
// With a shared cache, whom it is told of is not followed.
func (f *Frontend) returnOutcome(o *outcome) {
	if o.broken || f.opt.Sharing.Cache != nil || !o.ctx.Free() {
		return
	}
	*o = outcome{}
	f.outcomes.Put(o)
}

type form struct {
	once sync.Once
	a    *cache.Answer
	err  *ede.Error
}

// form returns the answer for clients with or without DO, or why it cannot be
// given.
func (o *outcome) form(do bool) (*cache.Answer, *ede.Error) {
	fm := &o.forms[0]
	if do {
		fm = &o.forms[1]
	}
	fm.once.Do(func() {
		a, err := pack(o.k.q, o.ans, do, o.at)
		if err != nil {
			fm.err = ede.Wrap(err, ede.InvalidData, "the answer cannot be packed")
			o.f.opt.Log.Warn("cannot pack an answer", "question", o.k.q.String(), "error", err)
			o.f.opt.Answers.Fail(o.k.q, o.k.cd, fm.err, o.at)
			return
		}
		fm.a = a
		if !o.ans.NoCache && !o.f.superseded() {
			o.f.opt.Answers.Put(o.k.q, do, o.k.cd, a)
		}
	})
	return fm.a, fm.err
}

// replace puts the outcome in place of what is in the cache and older, also
// where no client waits for it: with and without DNSSEC records, the newest
// word counts, not one that is about to expire or has (RFC 8767 §4). What lives
// on after until was made of what this one is made of.
func (o *outcome) replace(until time.Time) {
	for _, do := range [...]bool{false, true} {
		expires, ok := o.f.opt.Answers.Expires(o.k.q, do, o.k.cd)
		if ok && (!expires.After(o.at) || !expires.After(until)) {
			_, _ = o.form(do) // why not, if not, is logged and remembered there
		}
	}
}

// pack makes the response to q in wire format. Without do it leaves out the
// DNSSEC records that were not asked for (RFC 4035 §3.2.1).
func pack(q wire.Question, ans *resolver.Answer, do bool, now time.Time) (*cache.Answer, error) {
	a, err := packForm(q, ans, do, now)
	if err == nil && plain(ans) {
		a.MarkPlain()
	}
	return a, err
}

// packForm is pack, in the shorter way if there is one.
func packForm(q wire.Question, ans *resolver.Answer, do bool, now time.Time) (*cache.Answer, error) {
	if msg := packCommon(q, ans, do, now); msg != nil {
		return cache.NewAnswer(msg, nil, now, remark(ans))
	}
	return packAny(q, ans, do, now)
}

// plain reports whether ans has no DNSSEC records.
func plain(ans *resolver.Answer) bool {
	signed := func(s rrset.Set) bool { return len(s.Sigs) > 0 }
	return !slices.ContainsFunc(ans.Records, signed) && !slices.ContainsFunc(ans.Authority, signed) && !slices.ContainsFunc(ans.Additional, signed) &&
		!slices.ContainsFunc(ans.Denial, func(s rrset.Set) bool { return signed(s) || s.Type != wire.TypeSOA })
}

// packAny is pack for all answers.
func packAny(q wire.Question, ans *resolver.Answer, do bool, now time.Time) (*cache.Answer, error) {
	m := new(dns.Msg)
	m.Response, m.RecursionAvailable, m.Compress = true, true, true
	m.Rcode = int(ans.Rcode)
	m.AuthenticatedData = ans.Trust == rrset.Secure
	m.Question = []dns.Question{{Name: q.Name.String(), Qtype: uint16(q.Type), Qclass: dns.ClassINET}}
	var ttls []uint32 // of each record, in the order they are packed
	add := func(section []dns.RR, s rrset.Set) []dns.RR {
		ttl := s.TTL(now)
		for _, rr := range s.RRs {
			section, ttls = append(section, rr), append(ttls, ttl)
		}
		for _, sig := range s.Sigs {
			if do {
				section, ttls = append(section, sig), append(ttls, ttl)
			}
		}
		return section
	}
	for _, s := range ans.Records {
		m.Answer = add(m.Answer, s)
	}
	for _, s := range ans.Denial {
		if do || s.Type == wire.TypeSOA {
			m.Ns = add(m.Ns, s)
		}
	}
	required := len(m.Ns)
	for _, s := range ans.Authority {
		m.Ns = add(m.Ns, s)
	}
	for _, s := range ans.Additional {
		m.Extra = add(m.Extra, s)
	}
	msg, err := m.Pack()
	if err != nil {
		return nil, fmt.Errorf("packing the answer to %v: %w", q, err)
	}
	if len(msg) > cache.MaxAnswer && len(m.Extra)+len(ans.Authority) > 0 { // they are optional, and to keep the answer is not
		return packAny(q, lighter(ans), do, now)
	}
	if len(msg) > wire.MaxMsgSize {
		return nil, fmt.Errorf("the answer to %v has %d octets", q, len(msg))
	}
	// The sets are shared and must not be changed: their TTLs go into the bytes.
	a, err := cache.NewAnswer(msg, ttls, now, remark(ans))
	if err == nil {
		a.MarkSpare(len(m.Ns) - required)
	}
	return a, err
}

// lighter returns ans without the next thing that may be left out (RFC 2181 §9).
func lighter(ans *resolver.Answer) *resolver.Answer {
	light := *ans
	if len(light.Additional) == 0 {
		light.Authority = nil
	}
	light.Additional = nil
	return &light
}

// remark returns what is to be said to ans beside the data; nil for nothing.
func remark(ans *resolver.Answer) *ede.Error {
	if ans.Note != nil {
		return ans.Note
	}
	for i := range ans.Records {
		if ans.Records[i].Maimed {
			return ede.Errorf(ede.Other, "malformed records were left out")
		}
	}
	return nil
}

// packCommon makes the response to q if it is what most are: addresses of the
// very name, with signatures or without, and with nothing beside them. Else it
// returns nil. It gives the same octets as packAny, for half the time and memory.
func packCommon(q wire.Question, ans *resolver.Answer, do bool, now time.Time) []byte {
	if len(ans.Records) != 1 || len(ans.Denial)+len(ans.Authority)+len(ans.Additional) > 0 || ans.Rcode != wire.NoError || q.Name == wire.Root {
		return nil
	}
	s := &ans.Records[0]
	if s.Name != q.Name || s.Type != q.Type || len(s.RRs) == 0 || s.Type != wire.TypeA && s.Type != wire.TypeAAAA {
		return nil
	}
	const qr, ra, ad = 0x80, 0x80, 0x20 // RFC 1035 §4.1.1, RFC 4035 §3.2.3
	flags := byte(ra)
	if ans.Trust == rrset.Secure {
		flags |= ad
	}
	sigs := s.Sigs
	if !do {
		sigs = nil // RFC 4035 §3.2.1
	}
	const address, signature = 28, 140 // octets of a record, about
	buf := make([]byte, 0, wire.HeaderLen+len(q.Name)+4+len(s.RRs)*address+len(sigs)*signature)
	n := len(s.RRs) + len(sigs)
	buf = append(buf, 0, 0, qr, flags, 0, 1, byte(n>>8), byte(n), 0, 0, 0, 0)
	buf = append(buf, q.Name...)
	buf = append(buf, byte(q.Type>>8), byte(q.Type), 0, dns.ClassINET)
	const owner = "\xC0\x0C" // RFC 1035 §4.1.4: a pointer to the question's name
	ttl := s.TTL(now)
	var ok bool
	for _, rr := range s.RRs {
		if buf, ok = rrset.AppendRecord(buf, owner, rr, ttl); !ok || wire.Type(rr.Header().Rrtype) != s.Type {
			return nil
		}
	}
	for _, sig := range sigs {
		if buf, ok = rrset.AppendRecord(buf, owner, sig, ttl); !ok {
			return nil
		}
	}
	return buf
}
