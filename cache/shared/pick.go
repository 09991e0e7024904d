package shared

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Server is one memcached server.
type Server struct {
	// Name picks the keys that the server has, so that all who share it have to
	// know it by the same one, and it keeps its keys when its address changes.
	Name string
	Addr netip.AddrPort
}

// MaxServers bounds the servers: all are looked at to place one key.
const MaxServers = 64

// checkServers returns what is wrong with a list of servers.
func checkServers(servers []Server) error {
	if len(servers) > MaxServers {
		return fmt.Errorf("found %d servers; expected %d at most", len(servers), MaxServers)
	}
	names := make(map[string]bool)
	for _, s := range servers {
		switch {
		case s.Name == "":
			return errors.New("found a server without a name")
		case !s.Addr.IsValid() || s.Addr.Port() == 0:
			return fmt.Errorf("server %q: found no address with a port", s.Name)
		case names[s.Name]:
			return fmt.Errorf("found the server %q twice", s.Name)
		}
		names[s.Name] = true
	}
	return nil
}

// seedOf returns what stands for the name of a server.
func seedOf(name string) uint64 {
	sum := sha256.Sum256([]byte(name))
	return binary.BigEndian.Uint64(sum[:])
}

// weight is how much a server is drawn to a key (rendezvous hashing, Thaler and
// Ravishankar 1998). The mixing is the last step of SplitMix64.
func weight(seed, hash uint64) uint64 {
	x := seed ^ hash
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// nearest returns the two servers that a key is drawn to most, as far as there
// are so many.
func nearest(servers []*server, hash uint64) (first, second *server) {
	var most, next uint64
	for _, s := range servers {
		switch w := weight(s.seed, hash); {
		case first == nil || w > most:
			first, second, most, next = s, first, w, most
		case second == nil || w > next:
			second, next = s, w
		}
	}
	return first, second
}

// pick returns the server for the key with the given hash: the one it belongs
// to, or the runner-up while that is out; then what is written must not last. Nil:
// none is of use, or the list of flushes is not known. When most are out, nobody is asked: rather than the servers,
// the way to them is broken, and what is left would not carry the load.
func (c *Cache) pick(hash uint64, now time.Time) (s *server, standIn bool) {
	servers := *c.servers.Load()
	if c.behind(now) {
		c.fleet.behind.Add(1)
		return nil, false
	}
	out := 0
	for _, s := range servers {
		if s.breaker.out.Load() {
			out++
		}
	}
	if 2*out > len(servers) {
		return nil, false
	}
	first, second := nearest(servers, hash)
	spread := hash >> 32 // bits that placed the key are as good as others here
	switch {
	case first == nil:
		return nil, false
	case first.breaker.admits(spread, now):
		return first, false
	case second != nil && second.breaker.admits(spread, now):
		return second, true
	}
	return nil, false
}

// SetServers has the cache use these servers from now on. Those that it used
// before keep their connections, if their name and address are the same; a key
// moves only if its server went, or a new one is closer to it.
func (c *Cache) SetServers(servers []Server) error {
	if err := checkServers(servers); err != nil {
		return fmt.Errorf("shared cache: %w", err)
	}
	c.changing.Lock()
	defer c.changing.Unlock()
	if c.closed {
		return nil
	}
	old := *c.servers.Load()
	var next []*server
	for _, want := range servers {
		i := slices.IndexFunc(old, func(s *server) bool { return s.Server == want })
		if i >= 0 {
			next = append(next, old[i])
		} else {
			next = append(next, newServer(want, &c.opt))
		}
	}
	c.servers.Store(&next)
	for _, s := range old {
		if !slices.Contains(next, s) {
			s.close()
		}
	}
	return nil
}
