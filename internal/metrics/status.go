package metrics

import (
	"slices"
	"strings"
	"time"

	"shirube/internal/hist"
	"shirube/transport"
)

// Status is a snapshot for people: the document that the status page asks for
// again and again. Counters are as they are; who shows them takes differences.
type Status struct {
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	Now     time.Time `json:"now"`
	Ready   bool      `json:"ready"`

	Responses   map[string]uint64 `json:"responses"` // by transport
	Rcodes      map[string]uint64 `json:"rcodes"`
	Types       map[string]uint64 `json:"types"`
	Sources     map[string]uint64 `json:"sources"` // of answers
	Policy      map[string]uint64 `json:"policy"`  // queries that were not served
	Connections map[string]int    `json:"connections"`
	Skew        float64           `json:"skew"`
	Lost        uint64            `json:"lost"` // datagrams that the kernel threw away

	InFlight      int64 `json:"in_flight"`
	InFlightLimit int64 `json:"in_flight_limit"`

	BoundsSeconds []float64           `json:"bounds_seconds"` // of all histograms
	Latency       map[string][]uint64 `json:"latency"`        // durations in each bucket, the last one without a bound

	Caches   []CacheStatus     `json:"caches"`
	Upstream map[string]uint64 `json:"upstream"`
	Failures map[string]uint64 `json:"server_failures"`
	DNSSEC   map[string]uint64 `json:"dnssec"`
	Shared   map[string]uint64 `json:"shared"` // look-ups in the shared cache, by what came of them
	Limits   map[string]uint64 `json:"limits"`

	Fleet *FleetStatus `json:"fleet"` // nil: nothing is shared

	DeadZones int `json:"dead_zones"`

	CertificateExpires int64 `json:"certificate_expires"` // the first one, in Unix seconds; 0: there is none
}

// FleetStatus is how the cache is that the fleet shares.
type FleetStatus struct {
	Memcached []MemcachedStatus `json:"memcached"`
	Orders    int               `json:"flush_orders"`
	Age       float64           `json:"flush_list_age_seconds"` // 0: it is not followed
	Read      int               `json:"flush_copies_read"`
	Copies    int               `json:"flush_copies"`
	Skew      float64           `json:"clock_skew_seconds"` // by which a writer's clock was ahead, at most
	Warm      string            `json:"warm_start"`         // "": there was none
	Saved     uint64            `json:"saved_queries"`      // to name servers, as far as the average tells
}

// MemcachedStatus is how one server of it is.
type MemcachedStatus struct {
	Name    string  `json:"name"`
	State   string  `json:"state"`
	Lookups uint64  `json:"lookups"`
	Hits    uint64  `json:"hits"`
	Late    uint64  `json:"late"`
	P99     float64 `json:"p99_seconds"`
}

// fleet returns the state of what is shared; nil: nothing is.
func (s *Snapshot) fleet() *FleetStatus {
	if len(s.Shared.Servers) == 0 {
		return nil
	}
	f := &s.Shared.Fleet
	st := &FleetStatus{
		Orders: f.Orders, Age: f.Age.Seconds(), Read: f.Read, Copies: f.Copies,
		Skew: s.Shared.Skew.Seconds(), Warm: s.WarmStart.outcome(), Saved: s.Frontend.Shared.Saved,
	}
	for name, m := range s.Shared.Servers {
		st.Memcached = append(st.Memcached, MemcachedStatus{
			Name: name, State: m.State.String(), Lookups: m.Gets, Hits: m.Hits, Late: m.Late, P99: m.Took.Quantile(0.99).Seconds(),
		})
	}
	slices.SortFunc(st.Memcached, func(a, b MemcachedStatus) int { return strings.Compare(a.Name, b.Name) })
	return st
}

// outcome returns a word for what came of w.
func (w *WarmStart) outcome() string {
	switch {
	case w.TimedOut:
		return "cut"
	case w.Done:
		return "complete"
	case w.Took > 0:
		return "running"
	}
	return ""
}

// CacheStatus is how full a part of memory is.
type CacheStatus struct {
	Name    string `json:"name"`
	Entries int    `json:"entries"`
	Bytes   int64  `json:"bytes"`
	Limit   int64  `json:"limit_bytes,omitempty"` // 0: it is part of another's
}

// Status returns s for people, at now.
func (s *Snapshot) Status(now time.Time) Status {
	st := Status{
		Version: s.Version, Started: s.Started, Now: now, Ready: s.Ready,
		Sources: s.Sources(), Limits: s.Limits(), Skew: s.UDP.Skew, Lost: s.UDP.Overflow,
		InFlight: s.Slots.InUse, InFlightLimit: s.Slots.Limit, DeadZones: s.Resolver.DeadZones, CertificateExpires: s.Certificates.Expires,
		Connections: make(map[string]int), Failures: make(map[string]uint64),
		Policy: map[string]uint64{
			"denied": s.Frontend.Denied, "refused": s.Frontend.Refused, "rejected": s.Frontend.Rejected, "cookieless": s.Frontend.Cookieless,
		},
		Upstream: map[string]uint64{
			"queries": s.Upstream.Queries(),
			"answers": s.Upstream.Answers,
		},
		Shared: map[string]uint64{
			"hit": s.Shared.Hits, "stale": s.Shared.Stale, "failure": s.Shared.Failures, "miss": s.Shared.Misses, "skipped": s.Shared.Skipped,
		},
		Fleet:  s.fleet(),
		DNSSEC: map[string]uint64{"secure": s.Resolver.Secure, "insecure": s.Resolver.Insecure, "bogus": s.Resolver.Bogus},
	}
	for i, n := range s.Resolver.Infra.Failures {
		st.Failures[causeNames[i]] = n
	}
	for i := range s.Streams {
		st.Connections[lower(s.Streams[i].Proto.String())] = s.Streams[i].Open
	}
	for _, l := range s.layers() {
		c := CacheStatus{Name: l.name, Entries: l.Entries, Bytes: l.Bytes}
		switch l.name {
		case "answers":
			c.Limit = s.Answers.Limit
		case "rrsets":
			c.Limit = s.MemoryLimit
		}
		st.Caches = append(st.Caches, c)
	}
	s.responses(&st)
	s.latency(&st)
	return st
}

// responses fills in what the transports have counted.
func (s *Snapshot) responses(st *Status) {
	st.Responses, st.Rcodes, st.Types = make(map[string]uint64), make(map[string]uint64), make(map[string]uint64)
	s.eachTransport(func(label string, c *transport.Counts) {
		for i, n := range c.Rcodes {
			st.Responses[label] += n
			st.Rcodes[transport.RcodeClass(i).String()] += n
		}
		for i, n := range c.Types {
			st.Types[transport.TypeClass(i).String()] += n
		}
	})
}

// latency fills in the histograms.
func (s *Snapshot) latency(st *Status) {
	for i := range hist.NumBounds {
		st.BoundsSeconds = append(st.BoundsSeconds, hist.Bound(i).Seconds())
	}
	var atOnce, later hist.Snapshot
	s.eachTransport(func(_ string, c *transport.Counts) {
		atOnce.Add(c.AtOnce)
		later.Add(c.Later)
	})
	servers := s.Upstream.RTT.UDP
	servers.Add(s.Upstream.RTT.TCP)
	st.Latency = map[string][]uint64{
		"at_once": counts(atOnce), "later": counts(later), "resolution": counts(s.Frontend.Took), "servers": counts(servers),
	}
}

// counts returns the buckets of h.
func counts(h hist.Snapshot) []uint64 {
	list := make([]uint64, hist.NumBounds+1)
	for i := range list {
		list[i] = h.Bucket(i)
	}
	return list
}
