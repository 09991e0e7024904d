package upstream

import (
	"net/netip"
	"sync/atomic"

	"shirube/internal/hist"
	"shirube/internal/wire"
)

// Stats is what a [Client] has done since it was made. All but InFlight only
// grow.
type Stats struct {
	InFlight int64  // exchanges under way
	Busy     uint64 // exchanges refused over MaxInFlight

	UDP      Sent   // queries sent over UDP
	TCP      Sent   // queries sent over TCP, with TLS on it or not
	DoH, DoQ Sent   // queries sent over HTTPS, and over QUIC
	Received uint64 // datagrams, and whole messages over TCP
	Octets   uint64 // octets received, those of dropped datagrams included

	Answers   uint64 // exchanges that ended with an answer
	RTT       RTT    // of their answers
	Timeouts  uint64 // attempts that ended without one in time
	GaveUp    uint64 // attempts that ended after too many stray datagrams
	Malformed uint64 // attempts whose matching answer could not be parsed
	Truncated uint64 // answers over UDP that had TC set, asked again over TCP
	PortTaken uint64 // source ports drawn in vain

	Sockets     Sockets
	Dropped     Dropped
	Errors      Errors
	Connections Connections
	Spoofing    Spoofing
	Cookies     Cookies
	Servers     Servers
	Encryption  Encryption
}

// Encryption counts what became of asking authorities over encrypted transports
// ([Options].Opportunistic).
type Encryption struct {
	Probes   uint64 // connections made to find out whether a server has one
	Worked   uint64 // of them, that a server has one
	Failed   uint64 // of them, that it has none, or not now
	Deferred uint64 // probes put off, because too many were under way
	Answers  uint64 // that came encrypted
	FellBack uint64 // questions that were asked in the clear after all
	GivenUp  uint64 // servers given up whose encrypted transport did not answer any more
}

// RTT is how long servers took to answer.
type RTT struct{ UDP, TCP hist.Snapshot }

// Sockets counts those of UDP.
type Sockets struct {
	Kept   int    // between queries, now
	Reused uint64 // queries sent from one that was kept
}

// Sent counts queries by the family of the server's address.
type Sent struct{ IPv4, IPv6 uint64 }

// Dropped counts what was received and did not match, by the first thing that
// was wrong with it.
type Dropped struct {
	Source   uint64 // not the server's, from before the socket was connected
	Long     uint64 // longer than offered
	Short    uint64 // empty, or no whole header
	ID       uint64
	Header   uint64 // no response, or another opcode
	Question uint64 // right ID, other question
	Spelling uint64 // right question, in another spelling
	Cookie   uint64 // another cookie than was sent
	NoCookie uint64 // no cookie, from a server that sends them
	ICMP     uint64 // "fragmentation needed", which is ignored
}

// Connections counts connections, with TLS and without.
type Connections struct {
	Open    int64  // now, those being made among them
	Made    uint64 // connected, and with TLS, authenticated
	Secured uint64 // of them with TLS
	Resumed uint64 // of those in a TLS session begun before
	Idle    uint64 // closed after IdleTimeout, or what the server asked for
	Evicted uint64 // closed while idle to make room for others
	Shed    uint64 // questions refused because too many were open
	Waited  uint64 // questions that had to wait for a place on one
	Retried uint64 // questions asked again because the server closed one
	Late    uint64 // answers that nobody waited for any more
}

// Spoofing counts what was done about replies that may have been forged.
type Spoofing struct {
	NearMisses uint64 // attempts over UDP that were left for TCP because of one
	Folding    uint64 // servers found to change the spelling of names
	Respelled  uint64 // questions asked again over UDP of one that cannot be asked over TCP
}

// Cookies counts cookies.
type Cookies struct {
	Sent    uint64 // queries with one
	Proven  uint64 // replies with the one that was sent
	Learned uint64 // server cookies remembered
	Bad     uint64 // replies that the server wants to see another one (BADCOOKIE)
	Without uint64 // queries sent again without, because the server may fail on them
	Shunned uint64 // servers found to fail on them, or to have ceased to send them
}

// Servers counts servers that something is remembered of.
type Servers struct {
	Known     int64  // now
	Forgotten uint64 // to make room for others
}

// Errors counts attempts that the network, or this machine, made end.
type Errors struct {
	Refused     uint64 // ICMP errors, and refused connections
	Unreachable uint64 // no route, or no address of this machine's to use it
	Closed      uint64 // connections ended by the server
	Untrusted   uint64 // servers that could not prove who they are
	Exhausted   uint64 // no descriptors, memory or ports left
	Other       uint64
}

// counters is what [Stats] is a snapshot of.
type counters struct {
	busy, received, octets, answers, timeouts, gaveUp, malformed, truncated, portTaken, reused, icmp atomic.Uint64

	nearMisses, folds, respelled               atomic.Uint64
	cookiesSent, cookiesProven, cookiesLearned atomic.Uint64
	badCookies, withoutCookie, cookieless      atomic.Uint64

	open                                                                atomic.Int64
	made, secured, resumed, idled, evicted, shed, waited, retried, late atomic.Uint64

	sent [wire.NumProtos][2]atomic.Uint64 // by transport, DoT among TCP, and family

	probes, probesWorked, probesFailed, probesDeferred    atomic.Uint64
	encryptedAnswers, encryptedFellBack, encryptedGivenUp atomic.Uint64
	dropped                                               [numVerdicts]atomic.Uint64
	failures                                              [numFailures]atomic.Uint64

	rttUDP, rttTCP hist.Histogram
}

// Answers returns how many exchanges have ended with an answer.
func (c *Client) Answers() uint64 { return c.count.answers.Load() }

// Stats returns a snapshot. Its counters are read one after the other, while
// exchanges go on.
func (c *Client) Stats() Stats {
	n := &c.count
	return Stats{
		InFlight:  c.inFlight.Load(),
		Busy:      n.busy.Load(),
		UDP:       n.sentOver(wire.UDP),
		TCP:       n.sentOver(wire.TCP),
		DoH:       n.sentOver(wire.DoH),
		DoQ:       n.sentOver(wire.DoQ),
		Received:  n.received.Load(),
		Octets:    n.octets.Load(),
		Answers:   n.answers.Load(),
		RTT:       RTT{UDP: n.rttUDP.Snapshot(), TCP: n.rttTCP.Snapshot()},
		Timeouts:  n.timeouts.Load(),
		GaveUp:    n.gaveUp.Load(),
		Malformed: n.malformed.Load(),
		Truncated: n.truncated.Load(),
		PortTaken: n.portTaken.Load(),
		Sockets:   Sockets{Kept: c.pollers.kept(), Reused: n.reused.Load()},
		Dropped: Dropped{
			Source:   n.dropped[wrongSource].Load(),
			Long:     n.dropped[tooLong].Load(),
			Short:    n.dropped[tooShort].Load(),
			ID:       n.dropped[wrongID].Load(),
			Header:   n.dropped[wrongHeader].Load(),
			Question: n.dropped[wrongQuestion].Load(),
			Spelling: n.dropped[wrongSpelling].Load(),
			Cookie:   n.dropped[wrongCookie].Load(),
			NoCookie: n.dropped[noCookie].Load(),
			ICMP:     n.icmp.Load(),
		},
		Errors: Errors{
			Refused:     n.failures[refused].Load(),
			Unreachable: n.failures[unreachable].Load(),
			Closed:      n.failures[closed].Load(),
			Untrusted:   n.failures[untrusted].Load(),
			Exhausted:   n.failures[exhausted].Load(),
			Other:       n.failures[otherFailure].Load(),
		},
		Connections: Connections{
			Open:    n.open.Load(),
			Made:    n.made.Load(),
			Secured: n.secured.Load(),
			Resumed: n.resumed.Load(),
			Idle:    n.idled.Load(),
			Evicted: n.evicted.Load(),
			Shed:    n.shed.Load(),
			Waited:  n.waited.Load(),
			Retried: n.retried.Load(),
			Late:    n.late.Load(),
		},
		Spoofing: Spoofing{
			NearMisses: n.nearMisses.Load(),
			Folding:    n.folds.Load(),
			Respelled:  n.respelled.Load(),
		},
		Cookies: Cookies{
			Sent:    n.cookiesSent.Load(),
			Proven:  n.cookiesProven.Load(),
			Learned: n.cookiesLearned.Load(),
			Bad:     n.badCookies.Load(),
			Without: n.withoutCookie.Load(),
			Shunned: n.cookieless.Load(),
		},
		Servers: Servers{Known: c.servers.known.Load(), Forgotten: c.servers.forgotten.Load()},
		Encryption: Encryption{
			Probes:   n.probes.Load(),
			Worked:   n.probesWorked.Load(),
			Failed:   n.probesFailed.Load(),
			Deferred: n.probesDeferred.Load(),
			Answers:  n.encryptedAnswers.Load(),
			FellBack: n.encryptedFellBack.Load(),
			GivenUp:  n.encryptedGivenUp.Load(),
		},
	}
}

// Queries returns how many were sent, over whatever transport.
func (s *Stats) Queries() (n uint64) {
	for _, sent := range [...]Sent{s.UDP, s.TCP, s.DoH, s.DoQ} {
		n += sent.IPv4 + sent.IPv6
	}
	return n
}

// sentOver returns the queries that were sent over a transport.
func (n *counters) sentOver(p wire.Proto) Sent {
	return Sent{IPv4: n.sent[p][0].Load(), IPv6: n.sent[p][1].Load()}
}

// family returns the index of the server's family in an array of counters.
func (a *attempt) family() int { return familyOf(a.req.Server) }

// familyOf returns 0 for an address of IPv4, else 1.
func familyOf(server netip.AddrPort) int {
	if server.Addr().Is4() {
		return 0
	}
	return 1
}

// took counts n octets received.
func (a *attempt) took(n int) {
	a.octets += n
	a.client.count.octets.Add(uint64(n))
}
