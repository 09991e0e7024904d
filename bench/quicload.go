package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"shirube/transport/clients"
)

// wayOf returns the transport of a name of package clients, which has to be one.
func wayOf(name string) clients.Way {
	for _, w := range clients.Ways() {
		if w.Name == name {
			return w
		}
	}
	panic("no transport is called " + name)
}

// The transports over QUIC that are measured. DoH3 is asked by GET, as DoH is.
var (
	wayDoQ  = wayOf("DoQ")
	wayDoH3 = wayOf("DoH3 by GET")
)

// quicQueries asks over connections of QUIC that stay, in a closed loop: as many
// clients as dnsperf has queries on the way over DoT and DoH, shared out among the
// connections, each with a stream for each query.
func quicQueries(way clients.Way, port uint16) loadRun {
	return func(ctx context.Context, ld *encryptedLoad, l *lab, s *contestant, length time.Duration) (*encryptedTally, error) {
		queries, err := buildQueries(l.all.questions)
		if err != nil {
			return nil, err
		}
		// One deadline for all: a time-out of its own for each query is work for the load.
		ctx, cancel := context.WithTimeout(ctx, length+clientTimeout)
		defer cancel()
		conns, err := dialAll(ctx, way, netip.AddrPortFrom(s.addr, port), l.shakes(s), ld.conns, queries[0])
		defer closeAll(conns)
		if err != nil {
			return nil, err
		}
		askers := make([]loopAsker, ld.outstanding())
		for i := range askers {
			askers[i] = streamAsker(ctx, conns[i%len(conns)])
		}
		before := selfTime()
		t, err := runClosedLoop(ctx, queries, length, askers)
		if err != nil {
			return nil, err
		}
		if lost := t.why[outcomeNone]; t.Failed != lost || t.Asked == lost {
			return nil, fmt.Errorf("wrong answers: %v", t.why)
		}
		return &encryptedTally{
			done: int64(t.Asked - t.Failed), lost: int64(t.Failed), driver: selfTime() - before, p50: t.P50, p99: t.P99,
		}, nil
	}
}

// dialAll makes connections, and asks a query over each: what it takes to make them
// is no part of what is measured. The caller closes those returned, also after an
// error.
func dialAll(ctx context.Context, way clients.Way, to netip.AddrPort, config *tls.Config, n int, query []byte) (conns []clients.Asker, err error) {
	for range n {
		c, err := way.Dial(ctx, netip.Addr{}, to, config)
		if err != nil {
			return conns, err
		}
		conns = append(conns, c)
		if _, err := c.Ask(ctx, query); err != nil {
			return conns, err
		}
	}
	return conns, nil
}

func closeAll(conns []clients.Asker) {
	for _, c := range conns {
		_ = c.Close() // nobody asks any more
	}
}

// streamAsker asks over a connection that others use too.
func streamAsker(ctx context.Context, c clients.Asker) loopAsker {
	return func(query []byte) (string, error) {
		msg, err := c.Ask(ctx, query)
		if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
			return outcomeNone, nil
		}
		if err != nil {
			return "", err
		}
		outcome := responseOutcome(msg, query)
		if outcome == "" {
			return "", errors.New("an answer to another question")
		}
		return outcome, nil
	}
}

// Handshakes of DoQ: in full; resumed; and resumed with the query in 0-RTT, by a
// client that has the server's token.
const (
	quicFull = iota
	quicResumed
	quicEarly
)

// errNoEarly is a server that does not offer what is measured.
var errNoEarly = errors.New("takes no queries in 0-RTT")

// quicHandshakes counts connections of DoQ that each shake hands in a way, ask one
// query, and end.
func quicHandshakes(how int) loadRun {
	return func(ctx context.Context, _ *encryptedLoad, l *lab, s *contestant, length time.Duration) (*encryptedTally, error) {
		query := soaQuery(l.net.zones[0].name)
		to := netip.AddrPortFrom(s.addr, dotPort)
		return shakeAll(ctx, length, func() func(context.Context) error {
			way, config := wayDoQ, l.shakes(s)
			if how != quicFull {
				config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			}
			if how == quicEarly {
				way = way.Returning()
			}
			known := false
			return func(ctx context.Context) error {
				got, err := quicShake(ctx, way, to, config, query)
				want := clients.Session{Resumed: known && how != quicFull, Early: known && how == quicEarly}
				switch {
				case err != nil || got == want:
				case got.Resumed && !got.Early:
					err = errNoEarly
				default:
					err = fmt.Errorf("resumed: %v, with 0-RTT: %v; that is not what was to be measured", got.Resumed, got.Early)
				}
				known = true
				return err
			}
		})
	}
}

// quicShake asks a query on a connection of its own.
func quicShake(ctx context.Context, way clients.Way, to netip.AddrPort, config *tls.Config, query []byte) (got clients.Session, err error) {
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	c, err := way.Dial(ctx, netip.Addr{}, to, config)
	if err != nil {
		return got, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	msg, err := c.Ask(ctx, query)
	if err != nil {
		return got, err
	}
	return clients.SessionOf(c), checkAnswer(msg)
}
