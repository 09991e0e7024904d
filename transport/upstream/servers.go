package upstream

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// The limits on what is remembered of servers.
const (
	// maxServers is how many servers are remembered. One takes 250 octets or
	// so. One more has the least recently used of a few others forgotten,
	// which costs it no more than being found out again.
	maxServers = 16384

	// serverShards is into how many parts, each with a lock, they are divided.
	serverShards = 16

	// evictionSample is how many servers of a full part are looked at for one
	// to forget.
	evictionSample = 8

	// oddityLife is for how long a server is taken to be unable to echo a
	// spelling, or to be sent a cookie. It is then tried again.
	oddityLife = time.Hour

	// cookieLessLife is for how long a server that stopped sending cookies is
	// sent none (RFC 9018 §3: "for example, five minutes").
	cookieLessLife = 5 * time.Minute
)

// server is what is remembered of one server.
//
// It is learned only from what nobody but the server can have sent, if not who
// sees the queries to it: a message over TCP, or one over UDP that has the
// cookie of the query. What an attacker off the path can make happen by sending
// datagrams changes nothing here, but verifyAt, which has the next question go
// over TCP. All times are in Unix nanoseconds; 0 is long ago.
type server struct {
	cookie   cookie
	foldsTil int64 // until then: does not echo the spelling of names
	shunsTil int64 // until then: is not sent cookies
	verifyAt int64 // from then: has a question asked over TCP, to see whether it fails on cookies; 0 for never
	used     int64 // when this was looked at last

	ways [numWays]wayState // over which it can be asked besides
}

// servers remembers servers. It is used by many at once.
type servers struct {
	seed      maphash.Seed
	known     atomic.Int64
	forgotten atomic.Uint64
	shards    [serverShards]struct {
		mu sync.Mutex
		m  map[netip.AddrPort]*server
	}
}

// newServers returns servers that knows none.
func newServers() *servers {
	s := &servers{seed: maphash.MakeSeed()}
	for i := range s.shards {
		s.shards[i].m = make(map[netip.AddrPort]*server)
	}
	return s
}

// get returns what is remembered of the server at addr, the zero server if
// nothing.
func (s *servers) get(addr netip.AddrPort, now int64) server {
	shard := &s.shards[maphash.Comparable(s.seed, addr)%serverShards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	e := shard.m[addr]
	if e == nil {
		return server{}
	}
	e.used = now
	return *e
}

// update has learn change what is remembered of the server at addr. It runs
// under a lock.
func (s *servers) update(addr netip.AddrPort, now int64, learn func(*server)) {
	shard := &s.shards[maphash.Comparable(s.seed, addr)%serverShards]
	shard.mu.Lock()
	defer shard.mu.Unlock()
	e := shard.m[addr]
	if e == nil {
		if len(shard.m) >= maxServers/serverShards {
			s.forgetOne(shard.m)
		}
		e = new(server)
		shard.m[addr] = e
		s.known.Add(1)
	}
	e.used = now
	learn(e)
}

// forgetOne takes out of m the least recently used of a few that the map's
// random order comes up with.
func (s *servers) forgetOne(m map[netip.AddrPort]*server) {
	var oldest netip.AddrPort
	var used int64
	n := 0
	for addr, e := range m {
		if n == 0 || e.used < used {
			oldest, used = addr, e.used
		}
		if n++; n == evictionSample {
			break
		}
	}
	delete(m, oldest)
	s.known.Add(-1)
	s.forgotten.Add(1)
}
