// Package discovery is what a resolver says about itself to who asks it: which
// encrypted transports it has (DDR, RFC 9462), what it does (RESINFO, RFC 9606),
// who it is (CHAOS TXT), and where customers' routers get their IPv4 from (HB46PP).
// All of it is answered here, is never asked of anybody, and never kept in a cache.
//
// It answers from bytes that are made beforehand. What a transport is worth to a
// client follows from listeners and certificates, which change while the server
// runs: that is worked out when it is first asked for, and again when they have
// changed.
package discovery

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"shirube/internal/ede"
	"shirube/internal/wire"
)

// TTL is for how long clients keep what is said of this server, in seconds. A
// client that could not verify a designation does not ask again for so long (RFC
// 9462 §4.2): short enough for who has just put a certificate right.
const TTL = 300

// Options says what there is to say. The zero Options have resolver.arpa empty.
type Options struct {
	DDR     DDR
	RESINFO RESINFO
	HB46PP  HB46PP
	Chaos   Chaos
	Log     *slog.Logger // of what is not advertised, and why; nil: nowhere
}

// Chaos is what is told of this server in the class CHAOS (RFC 4892 §2). What is
// empty is not told.
type Chaos struct {
	ID      string // to id.server and hostname.bind
	Version string // to version.server and version.bind
}

// Directory is what this server says of itself. It is immutable but for what it
// remembers and counts, and safe for concurrent use. A nil one says nothing.
type Directory struct {
	opt     Options
	resinfo []byte // the record that answers, without its owner; nil: none
	dnsName wire.Name
	chaos   map[string][]byte
	hb46pp  *provisioning

	mu    sync.Mutex // held by who changes known
	known atomic.Pointer[map[place]*designation]
	*shared
}

// shared is what the directories of one server have together.
type shared struct {
	counts counts
	mu     sync.Mutex
	told   map[place]string // what the log has been told
}

// New returns the Directory that o describes. An error names what is wrong.
func New(o Options) (*Directory, error) { return build(o, new(shared)) }

// With returns a Directory that goes by o, and counts where d does.
func (d *Directory) With(o Options) (*Directory, error) { return build(o, d.shared) }

func build(o Options, s *shared) (d *Directory, err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	d = &Directory{opt: o, shared: s}
	if err := o.DDR.Check(); err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	if o.DDR.Name != "" {
		d.dnsName = dnsLabel + o.DDR.Name
	}
	if d.resinfo, err = o.RESINFO.record(); err != nil {
		return nil, err
	}
	if d.hb46pp, err = newProvisioning(o.HB46PP); err != nil {
		return nil, err
	}
	d.chaos, err = o.Chaos.records()
	return d, err
}

// Saying is an answer without its question: everything in wire form. The owner of
// the records in Answer is the name in question.
type Saying struct {
	Rcode       wire.Rcode
	Answer      []byte
	Answers     int
	Additional  []byte // may be left out where it does not fit
	Additionals int
	SOA         []byte     // for the authority section; nil: none
	Zone        int        // offset in the name in question where the SOA record's owner begins
	Why         *ede.Error // nil: none
}

// Outcome is what [Directory.Find] knows of a question.
type Outcome uint8

// The outcomes.
const (
	NotOurs Outcome = iota // somebody else has the word on it
	Said                   // the Saying is the answer
	Later                  // the answer has to be worked out, by [Directory.Say]
)

// resolverArpa is the zone that is each resolver's own (RFC 9462 §8.1).
const (
	resolverArpa = "\x08resolver\x04arpa\x00"
	dnsLabel     = "\x04_dns"
	ddrName      = dnsLabel + resolverArpa
)

// Find returns what is said to q, whose folded name in wire format is name. It
// neither blocks nor allocates.
func (d *Directory) Find(name []byte, q *wire.Query, now time.Time) (Saying, Outcome) {
	switch {
	case d == nil:
		return Saying{}, NotOurs
	case q.Class == wire.ClassCH:
		return d.findChaos(name, q.Type)
	case q.Class != wire.ClassIN || q.Type == 0 || q.Type.Meta() && q.Type != wire.TypeANY:
		return Saying{}, NotOurs // whatever is wrong with it, others say so
	}
	if at := within(name, resolverArpa); at >= 0 {
		return d.findArpa(name, at, q, now)
	}
	switch {
	case d.dnsName != "" && string(name) == string(d.dnsName):
		return d.findDesignation(placeOf(q, true), q.Type, now)
	case d.resinfo != nil && q.Type == wire.TypeRESINFO && string(name) == string(d.opt.DDR.Name): // RFC 9606 §3
		d.counts.resinfo.Add(1)
		return Saying{Answer: d.resinfo, Answers: 1}, Said
	case d.hb46pp != nil && string(name) == hb46ppName:
		return d.findHB46PP(q)
	}
	return Saying{}, NotOurs
}

// within returns the offset in name of zone, or -1 if name is not in it.
func within(name []byte, zone string) int {
	start := len(name) - len(zone)
	if start < 0 || string(name[start:]) != zone {
		return -1
	}
	for i := 0; i <= start; i += 1 + int(name[i]) {
		if i == start {
			return i
		}
	}
	return -1
}

// findArpa answers for resolver.arpa and all below it: this is a locally served
// zone (RFC 9462 §6.4, RFC 6303), where nothing is but a few records, and no name
// does not exist. at is the offset of the zone in name.
func (d *Directory) findArpa(name []byte, at int, q *wire.Query, now time.Time) (Saying, Outcome) {
	switch {
	case string(name) == ddrName:
		s, outcome := d.findDesignation(placeOf(q, false), q.Type, now)
		s.Zone = at
		return s, outcome
	case at > 0:
	case q.Type == wire.TypeRESINFO && d.resinfo != nil: // RFC 9606 §3: the name after discovery by address
		d.counts.resinfo.Add(1)
		return Saying{Answer: d.resinfo, Answers: 1}, Said
	case q.Type == wire.TypeSOA: // RFC 6303 §3
		d.counts.empty.Add(1)
		return Saying{Answer: soaRecord, Answers: 1}, Said
	case q.Type == wire.TypeNS:
		d.counts.empty.Add(1)
		return Saying{Answer: nsRecord, Answers: 1}, Said
	}
	d.counts.empty.Add(1)
	return Saying{SOA: soaRecord, Zone: at}, Said
}

// nothing says that there is no record, of a name that is its own zone.
func nothing() Saying { return Saying{SOA: soaRecord} }

// The records of an empty zone, without their owner: as RFC 6303 §3 suggests.
var (
	soaRecord = record(wire.TypeSOA, wire.ClassIN, TTL, localhost+"\x06nobody\x07invalid\x00"+
		"\x00\x00\x00\x01\x00\x00\x0e\x10\x00\x00\x04\xb0\x00\x09\x3a\x80\x00\x00\x01\x2c") // serial 1, refresh 3600, retry 1200, expire 604800, minimum TTL
	nsRecord = record(wire.TypeNS, wire.ClassIN, TTL, localhost)
)

const localhost = "\x09localhost\x00"

// findChaos answers in the class CHAOS.
func (d *Directory) findChaos(name []byte, typ wire.Type) (Saying, Outcome) {
	if typ != wire.TypeTXT {
		return Saying{}, NotOurs
	}
	answer, ok := d.chaos[string(name)]
	if !ok {
		return Saying{}, NotOurs
	}
	d.counts.chaos.Add(1)
	return Saying{Answer: answer, Answers: 1}, Said
}

// records returns the record of each name that has one.
func (c Chaos) records() (map[string][]byte, error) {
	m := make(map[string][]byte)
	for _, x := range []struct {
		text  string
		names [2]string
	}{
		{c.ID, [2]string{"\x02id\x06server\x00", "\x08hostname\x04bind\x00"}},
		{c.Version, [2]string{"\x07version\x06server\x00", "\x07version\x04bind\x00"}},
	} {
		if len(x.text) > maxString {
			return nil, fmt.Errorf("discovery: a text of %d octets about this server; at most %d are allowed", len(x.text), maxString)
		}
		if x.text == "" {
			continue
		}
		for _, name := range x.names {
			m[name] = record(wire.TypeTXT, wire.ClassCH, 0, characterString(x.text))
		}
	}
	return m, nil
}
