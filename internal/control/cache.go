package control

import (
	"net/http"
	"strconv"
	"time"

	"shirube/internal/wire"
)

// CacheLayers is how the layers of the cache are doing.
type CacheLayers struct {
	Memory []Cache       `json:"memory"`
	Given  CacheGiven    `json:"answers"`
	Shared *SharedLayer  `json:"shared,omitempty"` // absent: there is no shared cache
	Fleet  *FleetFlushes `json:"fleet,omitempty"`  // absent, too
}

// CacheGiven is where answers came from, of all queries since the start.
type CacheGiven struct {
	Memory   uint64 `json:"from_memory"`
	Shared   uint64 `json:"from_shared"`
	Resolved uint64 `json:"resolved"` // questions, each for one client or several
}

// SharedLayer is how the shared cache is doing.
type SharedLayer struct {
	Hits     uint64            `json:"hits"`
	Stale    uint64            `json:"stale"`
	Failures uint64            `json:"failures"`
	Misses   uint64            `json:"misses"`
	Skipped  uint64            `json:"skipped"` // not looked up: servers are out, or the flushes of the fleet are not known
	Rejected map[string]uint64 `json:"rejected"`
	SkewMS   int64             `json:"skew_ms"` // the most that another server's clock was ahead, in the last five to ten minutes
	Servers  []SharedServer    `json:"servers"`
}

// SharedServer is one memcached.
type SharedServer struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	State   string `json:"state"` // "in", "ramping" or "out"
	Gets    uint64 `json:"gets"`
	Hits    uint64 `json:"hits"`
	Late    uint64 `json:"late"`
	Errors  uint64 `json:"errors"`
	Stored  uint64 `json:"stored"`
}

// FleetFlushes is what is known of the fleet, and of its flushes.
type FleetFlushes struct {
	ID        string     `json:"id"` // the same on all servers that find each other's answers, and no others
	Orders    int        `json:"orders"`
	Octets    int        `json:"octets"`
	Epoch     *time.Time `json:"all_flushed,omitempty"` // when everything was flushed last, about; absent: never
	AgeMillis int64      `json:"age_ms"`                // since the list was read last
	Read      int        `json:"copies_read"`
	Copies    int        `json:"copies"`
}

// CacheEntry is what the layers of the cache have about a question.
type CacheEntry struct {
	Name   string        `json:"name"`
	Type   string        `json:"type"`
	Memory []MemoryEntry `json:"memory"`
	Shared *SharedEntry  `json:"shared,omitempty"` // absent: there is no shared cache, or such questions are not shared
}

// MemoryEntry is one form of an answer in this server's memory.
type MemoryEntry struct {
	Form        string  `json:"form"`   // "plain" or "dnssec", for whom DO is not set or set; with "+cd" for who judges himself
	Status      string  `json:"status"` // "fresh", "stale" or "expired"
	Rcode       string  `json:"rcode"`
	AgeSeconds  float64 `json:"age_seconds"`
	LeftSeconds float64 `json:"ttl_left_seconds"` // less than 0: it has expired
	Octets      int     `json:"octets"`
}

// SharedEntry is what is in the shared cache.
type SharedEntry struct {
	Server      string  `json:"server"`          // the memcached that it belongs to; "": most are out
	Status      string  `json:"status"`          // "fresh", "stale", "failure", "none", "unused" or "unknown"
	Why         string  `json:"why,omitempty"`   // it is not used, or not known
	Rcode       string  `json:"rcode,omitempty"` // of an answer
	Trust       string  `json:"trust,omitempty"`
	Writer      string  `json:"writer,omitempty"`
	AgeSeconds  float64 `json:"age_seconds,omitempty"`
	LeftSeconds float64 `json:"ttl_left_seconds,omitempty"` // less than 0: it has expired
	Octets      int     `json:"octets,omitempty"`
}

// FleetFlushed is to whom an order was given.
type FleetFlushed struct {
	Servers int    `json:"servers"`           // memcached servers that have it
	Of      int    `json:"of"`                // that there are for it
	Problem string `json:"problem,omitempty"` // what is wrong with that; absent: nothing
}

// Asked is a question, and about how often it was asked lately.
type Asked struct {
	Name  string `json:"name"`
	Type  string `json:"type"`
	Count uint32 `json:"count"`
}

func (s *Server) entry(r *http.Request) (any, error) {
	v, err := params(r, "name", "type")
	if err != nil {
		return nil, err
	}
	n, err := parseName("name", v.Get("name"))
	if err != nil {
		return nil, err
	}
	typ, err := parseType(v.Get("type"), wire.TypeA)
	if err != nil {
		return nil, err
	}
	return s.opt.Backend.Entry(r.Context(), wire.Question{Name: n, Type: typ}), nil
}

// maxTop is how many questions are listed at most, and usualTop unless another
// number is asked for.
const (
	maxTop   = 10_000
	usualTop = 20
)

func (s *Server) top(r *http.Request) (any, error) {
	v, err := params(r, "count")
	if err != nil {
		return nil, err
	}
	most := usualTop
	if text := v.Get("count"); text != "" {
		if most, err = strconv.Atoi(text); err != nil || most < 1 || most > maxTop {
			return nil, refusef(http.StatusBadRequest, "count: found %q; expected 1 to %d", text, maxTop)
		}
	}
	return s.opt.Backend.Top(most), nil
}
