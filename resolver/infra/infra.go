// Package infra remembers how name servers have behaved, and chooses among
// them. It knows each server by its address and the zone it was asked about:
// one address may serve a thousand zones, and be lame for one of them.
//
// # What is believed
//
// Nothing about a server is learned from an error alone that anybody could
// have sent. An ICMP error that names the port of a socket which is open for
// one round trip takes about as many packets to forge as an answer does, and
// answers have an ID and the spelling of the name besides. So it ends the one
// question that it came for, and counts here as no more than the silence that
// it stands for: [DeadAfter] in a row, each at least one timeout after the
// last, put a server out of use (TuDoor, CVE-2023-26437). That there is no
// route for a whole family is believed after several servers in a row, whose
// ports would all have to be guessed, and means no more than that the other
// family goes first. REFUSED, FORMERR and the like come in an answer, with its
// ID, port and spelling; they are believed as answers are.
package infra

import (
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"shirube/internal/wire"
)

// The figures of server selection.
const (
	// FirstTimeout is how long to wait for a server nothing is known of
	// (Unbound 376 ms, Knot Resolver 400 ms).
	FirstTimeout = 400 * time.Millisecond
	// MinTimeout and MaxTimeout bound what is derived from measured RTTs.
	MinTimeout = 50 * time.Millisecond
	MaxTimeout = 4 * time.Second
	// FirstLate and MinLate are when an answer is late, from a server nothing
	// is known of and from the fastest ones: most servers on the Internet are
	// closer than the first, and a busy machine may be slow by the second.
	FirstLate = FirstTimeout / 2
	MinLate   = 20 * time.Millisecond
	// Band is how much slower than the best a server may be and still be
	// chosen as readily (Unbound's RTT_BAND). An unknown server counts as
	// FirstTimeout, so it lies within the band of a good one and is explored
	// without being looked for.
	Band = 400 * time.Millisecond
	// explore is one in how many choices falls on any server that is not
	// backed off, whatever its RTT.
	explore = 20
	// DeadAfter is how many silences in a row put a server out of use, first
	// for MinBackoff, then for twice as long each time, to MaxBackoff.
	DeadAfter  = 5
	MinBackoff = 5 * time.Second
	MaxBackoff = time.Minute
	// LameFor is how long a server that refused or failed to answer for a
	// zone is only a last resort for it.
	LameFor = time.Minute
	// BareFor is how many questions a server that failed on EDNS is asked
	// without it, before EDNS is tried again: servers get mended, and without
	// EDNS there is no DNSSEC (RFC 4035 §4.1). TCPFor is the same for a server
	// that is silent over UDP.
	BareFor = 50
	TCPFor  = 50
	// BareAgain is within what time a server has to fail on EDNS again when
	// the first failure may have been forged. Whoever forged both had to guess
	// the port, the ID and the spelling twice in that time.
	BareAgain = time.Minute
	// After tcpAfter silences in a row the next question to a server that was
	// never heard over UDP goes over TCP, and then one in tcpEvery for as long
	// as the silence lasts. Other servers have to be dead first.
	tcpAfter = 2
	tcpEvery = 4
	// mostSilences is where the count of them starts over, in the middle:
	// both are whole turns of tcpEvery.
	mostSilences = 50 * tcpEvery
	// maxCandidates is how many servers are chosen from: DESIGN §6 has 13 of
	// 6 addresses.
	maxCandidates = 80
)

// What is added to the cost of a server that nothing much is to be expected
// of. Each is more than all before it together.
const (
	lameCost   = time.Minute
	deadCost   = time.Hour
	familyCost = 24 * time.Hour
)

// Cause is a way for an exchange to fail.
type Cause uint8

// The causes.
const (
	Timeout     Cause = iota // no acceptable answer in time
	Unreachable              // port closed, connection refused
	NoRoute                  // no route to the host, or no address to use one
	Malformed                // an answer that cannot be parsed
	Lame                     // an answer that is of no use: REFUSED, SERVFAIL, a referral upwards
	numCauses
)

// Options configures a [Table]. Zero means the default.
type Options struct {
	Servers int          // most (address, zone) pairs remembered; default 100,000
	Log     *slog.Logger // told when a family of addresses fails and recovers; default: nobody is
}

// Table is what is known of all servers. It is safe for concurrent use.
type Table struct {
	limit int
	log   *slog.Logger

	mu       sync.Mutex
	servers  map[key]*server
	families [2]family // IPv4, IPv6
	troubled ring
	stats    Stats
}

// Stats is a snapshot of what a [Table] has seen.
type Stats struct {
	Servers   int    // pairs remembered now
	Evicted   uint64 // pairs forgotten for want of room
	Failures  [numCauses]uint64
	Late      uint64    // servers that another one overtook
	FamilyOut [2]uint64 // times that IPv4 and IPv6 were put last
}

type key struct {
	addr netip.AddrPort
	zone wire.Name
}

// server is what is known of one address for one zone. Times are compared, not
// flagged: a state that has an end needs nobody to end it.
type server struct {
	srtt, rttvar time.Duration // RFC 6298 §2; srtt 0: never answered
	backoff      time.Duration // the last one imposed
	deadUntil    time.Time
	triedUntil   time.Time // a question finds out whether it is still dead
	firstUntil   time.Time // the first questions to it wait for their answers
	lameUntil    time.Time
	sameUntil    time.Time // a silence before belongs to the last one counted
	heard        time.Time // the last time that anything came from it
	silences     uint8     // in a row
	bare         uint8     // questions yet to be asked without EDNS
	bareSeen     time.Time // the last time that it seemed to fail on EDNS
	tcp          uint8     // questions yet to be asked over TCP
	triedTCP     bool      // since the last silence that counted
	tcpWorks     bool      // when UDP did not
}

// New returns an empty table.
func New(opt Options) *Table {
	if opt.Servers == 0 {
		opt.Servers = 100_000
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	return &Table{limit: opt.Servers, log: opt.Log, servers: make(map[key]*server)}
}

// Stats returns a snapshot.
func (t *Table) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.stats
	s.Servers = len(t.servers)
	return s
}

// at returns the record of addr for zone, making room for it if need be. Which
// one is forgotten does not matter much: to forget is to explore.
func (t *Table) at(addr netip.AddrPort, zone wire.Name) *server {
	k := key{addr, zone}
	s := t.servers[k]
	if s == nil {
		if len(t.servers) >= t.limit {
			for old := range t.servers { // in random order
				delete(t.servers, old)
				t.stats.Evicted++
				break
			}
		}
		s = new(server)
		t.servers[k] = s
	}
	return s
}

// timeout returns how long an answer may take (RFC 6298 §2).
func (s *server) timeout() time.Duration {
	rto := FirstTimeout
	if s.srtt > 0 {
		rto = s.srtt + max(4*s.rttvar, MinTimeout/2)
	}
	doublings := min(s.silences, DeadAfter-1) // one more failure, one more backoff
	return min(max(rto<<doublings, MinTimeout), MaxTimeout)
}

// late returns when an answer is late: earlier than it is too late, but not so
// early that a server which is as fast as ever would often be late.
func (s *server) late() time.Duration {
	if s.srtt == 0 {
		return FirstLate
	}
	late := max(s.srtt*3/2, s.srtt+2*s.rttvar, MinLate)
	if s.silences > 0 { // it has used up some patience
		return min(late, FirstLate)
	}
	return late
}

// Hint says how to ask a chosen server.
type Hint struct {
	Timeout time.Duration
	Late    time.Duration // when another server should be asked as well
	Bare    bool          // without EDNS
	TCP     bool          // not over UDP
	Last    bool          // it is dead, lame, or of a family that fails: nothing much is to be expected
}

// Choose returns the index of the candidate to ask about zone next, and how.
// It needs at least one candidate, and looks at the first 80. A server within
// [Band] of the best is as likely as the best; one that is dead or lame for
// the zone is chosen only when all are, and one of a family that fails after
// them.
func (t *Table) Choose(zone wire.Name, candidates []netip.AddrPort, now time.Time) (int, Hint) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var costs [maxCandidates]time.Duration
	candidates = candidates[:min(len(candidates), maxCandidates)]
	last := t.lastFamily(candidates, now)
	best := time.Duration(1<<63 - 1)
	for i, a := range candidates {
		costs[i] = t.servers[key{a, zone}].cost(now)
		if last[familyOf(a.Addr())] {
			costs[i] += familyCost
		}
		best = min(best, costs[i])
	}
	limit := best + Band
	if rand.IntN(explore) == 0 {
		limit = max(limit, lameCost-1)
	}
	chosen, seen := 0, 0
	for i := range candidates {
		if costs[i] <= limit {
			seen++
			if rand.IntN(seen) == 0 { // each of those seen with the same probability
				chosen = i
			}
		}
	}
	hint := t.at(candidates[chosen], zone).hint(now)
	hint.Last = costs[chosen] >= lameCost
	return chosen, hint
}

// pending reports whether something that ends at until and lasts no longer than
// most goes on at now. What would last longer, and not because another question
// was a little ahead, began before the clock was set back.
func pending(until, now time.Time, most time.Duration) bool {
	left := until.Sub(now)
	return left > 0 && left <= most+time.Second
}

// cost orders s, which may be nil, among the candidates.
func (s *server) cost(now time.Time) time.Duration {
	if s == nil {
		return FirstTimeout
	}
	cost := s.timeout()
	if s.srtt == 0 && pending(s.firstUntil, now, MaxTimeout) {
		cost += Band // after those that are good, and those nobody has tried: one question finds out
	}
	if pending(s.lameUntil, now, LameFor) {
		cost += lameCost // after every server that may answer
	}
	if pending(s.deadUntil, now, MaxBackoff) || pending(s.triedUntil, now, MaxTimeout) {
		cost += deadCost
	}
	return cost
}

// hint returns how to ask s, and counts that it is asked so.
func (s *server) hint(now time.Time) Hint {
	hint := Hint{Timeout: s.timeout(), Late: s.late(), Bare: s.bare > 0, TCP: s.tcp > 0}
	if hint.Bare {
		s.bare--
	}
	if s.srtt == 0 {
		s.firstUntil = now.Add(hint.Timeout)
	}
	switch {
	case hint.TCP:
		s.tcp--
		hint.Late *= 2 // RFC 9293 §3.5: the handshake takes a round trip of its own
	case s.silences%tcpEvery == tcpAfter && !s.triedTCP && (s.srtt == 0 || s.tcpWorks || s.silences > DeadAfter):
		s.triedTCP, hint.TCP = true, true
	}
	// A dead server whose time has come is tried by one question, not by all
	// that come along until its answer does.
	if s.backoff > 0 && !pending(s.deadUntil, now, MaxBackoff) {
		s.triedUntil = now.Add(hint.Timeout)
	}
	return hint
}

// Answered records that the server answered usefully at now, after rtt; rtt 0
// says that it was not measured.
func (t *Table) Answered(addr netip.AddrPort, zone wire.Name, rtt time.Duration, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reached(addr.Addr(), now)
	s := t.at(addr, zone)
	s.revive(now)
	s.lameUntil = time.Time{}
	s.measure(rtt)
}

// measure takes rtt into the average.
func (s *server) measure(rtt time.Duration) {
	switch {
	case rtt <= 0:
	case s.srtt == 0: // RFC 6298 §2.2
		s.srtt, s.rttvar = rtt, rtt/2
	default: // RFC 6298 §2.3
		s.rttvar += ((s.srtt - rtt).Abs() - s.rttvar) / 4
		s.srtt += (rtt - s.srtt) / 8
	}
}

// revive records that s is alive.
func (s *server) revive(now time.Time) {
	s.silences, s.triedTCP, s.backoff, s.heard = 0, false, 0, now
	s.deadUntil, s.triedUntil, s.sameUntil = time.Time{}, time.Time{}, time.Time{}
}

// Failed records that the server did not answer usefully. Questions that were
// under way together and time out together count once: it is one silence,
// however busy the server was.
func (t *Table) Failed(addr netip.AddrPort, zone wire.Name, cause Cause, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stats.Failures[cause]++
	s := t.at(addr, zone)
	switch cause {
	case Lame: // and alive
		t.reached(addr.Addr(), now)
		s.revive(now)
		t.lame(s, addr, zone, now)
	case Malformed:
		t.reached(addr.Addr(), now)
		s.heard = now
		t.lame(s, addr, zone, now)
	case NoRoute:
		t.unrouted(addr.Addr(), now)
		t.silent(s, addr, zone, now)
	case Timeout:
		t.unanswered(addr.Addr(), now)
		t.silent(s, addr, zone, now)
	default:
		t.silent(s, addr, zone, now)
	}
}

// lame records that s, which is addr for zone, is of no use for a while.
func (t *Table) lame(s *server, addr netip.AddrPort, zone wire.Name, now time.Time) {
	if !pending(s.lameUntil, now, LameFor) {
		t.troubled.put(key{addr, zone})
	}
	s.lameUntil = now.Add(LameFor)
}

// silent records that s, which is addr for zone, has not answered.
func (t *Table) silent(s *server, addr netip.AddrPort, zone wire.Name, now time.Time) {
	before := s.deadUntil
	if s.silence(now); !s.deadUntil.Equal(before) {
		t.troubled.put(key{addr, zone})
	}
}

// Late records that another server answered usefully before this one had, which
// was asked waited ago. It is a silence, and its RTT is known to be no less.
func (t *Table) Late(addr netip.AddrPort, zone wire.Name, waited time.Duration, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stats.Late++
	t.unanswered(addr.Addr(), now)
	s := t.at(addr, zone)
	if waited > s.srtt {
		s.measure(waited)
	}
	t.silent(s, addr, zone, now)
}

// silence counts a silence, unless it is still the one counted last, or as
// expected of a dead server.
func (s *server) silence(now time.Time) {
	if pending(s.sameUntil, now, MaxTimeout) || pending(s.deadUntil, now, MaxBackoff) {
		return
	}
	s.sameUntil = now.Add(s.timeout()) // when the last question sent until now, with that timeout, is over
	s.triedTCP = false
	if s.silences++; s.silences == mostSilences {
		s.silences /= 2
	}
	if s.silences >= DeadAfter {
		s.bury(now)
	}
}

// bury puts s out of use, for twice as long as the last time.
func (s *server) bury(now time.Time) {
	s.backoff = min(max(2*s.backoff, MinBackoff), MaxBackoff)
	s.deadUntil = now.Add(s.backoff)
}

// Bare records that the server failed on EDNS at now, and answered without. A
// failure that is not proven to be the server's own counts when it is the second
// within BareAgain: that it answers without EDNS proves nothing, as all servers
// do.
func (t *Table) Bare(addr netip.AddrPort, zone wire.Name, proven bool, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.at(addr, zone)
	if proven || !s.bareSeen.IsZero() && now.Sub(s.bareSeen) <= BareAgain {
		s.bare = BareFor
	}
	s.bareSeen = now
}

// TCPOnly records that the server answers over TCP, having been silent over
// UDP.
func (t *Table) TCPOnly(addr netip.AddrPort, zone wire.Name) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.at(addr, zone)
	s.tcpWorks = true
	if s.tcp == 0 {
		s.tcp = TCPFor
	}
}

// Heard reports whether anything came from one of servers about zone after
// since.
func (t *Table) Heard(zone wire.Name, servers []netip.AddrPort, since time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range servers {
		if s := t.servers[key{a, zone}]; s != nil && s.heard.After(since) {
			return true
		}
	}
	return false
}
