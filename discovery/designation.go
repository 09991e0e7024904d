package discovery

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"shirube/internal/wire"
)

// maxPlaces bounds the designations that are remembered: twice the addresses that
// clients ask this server at. When there are more, all are forgotten.
const maxPlaces = 256

// place is what a designation is for.
type place struct {
	asked netip.Addr // the zero Addr: nobody knows
	named bool       // for who knows the name of this server (RFC 9462 §5), not the address (§4)
}

// placeOf returns what q is to be told about.
func placeOf(q *wire.Query, named bool) place {
	return place{asked: q.Local.Addr().Unmap().WithZone(""), named: named}
}

// String returns p as the log has it.
func (p place) String() string {
	switch {
	case p.named:
		return p.asked.String() + ", by name"
	case !p.asked.IsValid():
		return "unknown"
	}
	return p.asked.String()
}

// designation is what is said at a place, for as long as it is so.
type designation struct {
	Saying
	version   uint64
	until     time.Time // the zero Time: for ever
	omissions []Omission
}

// current reports whether d still says what is so.
func (d *designation) current(version uint64, now time.Time) bool {
	return d != nil && d.version == version && (d.until.IsZero() || now.Before(d.until))
}

// version returns that of what changes.
func (o *DDR) version() uint64 {
	if o.Live.Version == nil {
		return 0
	}
	return o.Live.Version()
}

// findDesignation answers a question for typ of the name that has the designations
// at p.
func (d *Directory) findDesignation(p place, typ wire.Type, now time.Time) (Saying, Outcome) {
	if typ != wire.TypeSVCB || !d.opt.DDR.Enabled {
		d.counts.empty.Add(1)
		return nothing(), Said
	}
	known := d.known.Load()
	if known == nil {
		return Saying{}, Later
	}
	at := (*known)[p]
	if !at.current(d.opt.DDR.version(), now) {
		return Saying{}, Later
	}
	return d.designate(at), Said
}

// designate counts and returns what at says.
func (d *Directory) designate(at *designation) Saying {
	if at.Answers > 0 {
		d.counts.designated.Add(1)
	} else {
		d.counts.undesignated.Add(1)
	}
	for _, o := range at.omissions {
		d.counts.omitted[o.Proto-wire.DoT][o.Reason].Add(1)
	}
	return at.Saying
}

// Say works out the answer to q, of which Find has said Later, and remembers it.
func (d *Directory) Say(name []byte, q *wire.Query, now time.Time) Saying {
	p := placeOf(q, string(name) == string(d.dnsName))
	version := d.opt.DDR.version() // first: what changes meanwhile makes it old
	a := d.opt.DDR.Assess(p.asked, p.named, now)
	at := &designation{Saying: a.saying(), version: version, until: a.Until, omissions: a.Omissions}
	d.remember(p, at)
	d.tell(p, a.Omissions)
	s := d.designate(at)
	if !p.named {
		s.Zone = within(name, resolverArpa)
	}
	return s
}

// remember keeps what is said at p.
func (d *Directory) remember(p place, at *designation) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var known map[place]*designation
	if before := d.known.Load(); before != nil && len(*before) < maxPlaces {
		known = maps.Clone(*before)
	} else {
		known = make(map[place]*designation)
	}
	known[p] = at
	d.known.Store(&known)
}

// tell tells the log what is not advertised at p, and why: once for each change,
// and for as many places as are remembered.
func (d *Directory) tell(p place, omissions []Omission) {
	var parts []string
	for _, o := range omissions {
		parts = append(parts, o.Proto.String()+": "+o.Detail)
	}
	why := strings.Join(parts, "; ")
	switch {
	case !d.news(p, why):
	case why == "":
		d.opt.Log.Info("all encrypted transports are advertised", "at", p.String())
	default:
		d.opt.Log.Warn("encrypted transports are not advertised, for clients could not verify them", "at", p.String(), "why", why)
	}
}

// news reports whether the log has not been told that of p, and takes it for told.
func (s *shared) news(p place, why string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told == nil {
		s.told = make(map[place]string)
	}
	before, again := s.told[p]
	if before == why || !again && len(s.told) >= maxPlaces {
		return false
	}
	s.told[p] = why
	return true
}

// saying returns a as an answer.
func (a *Assessment) saying() (s Saying) {
	if len(a.Offers) == 0 {
		return nothing() // RFC 9462 §4: NODATA
	}
	var addresses []netip.Addr
	for i := range a.Offers {
		o := &a.Offers[i]
		s.Answer = appendRecord(s.Answer, question, wire.TypeSVCB, wire.ClassIN, TTL, string(o.appendSVCB(nil)))
		s.Answers++
		for _, addr := range o.Addresses {
			if !slices.Contains(addresses, addr) {
				addresses = append(addresses, addr)
			}
		}
	}
	for _, addr := range addresses { // RFC 9462 §4: saves clients a question
		typ := wire.TypeA
		if addr.Is6() {
			typ = wire.TypeAAAA
		}
		s.Additional = appendRecord(s.Additional, string(a.Offers[0].Target), typ, wire.ClassIN, TTL, string(addr.AsSlice()))
		s.Additionals++
	}
	return s
}
