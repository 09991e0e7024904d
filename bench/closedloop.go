package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// clientTimeout is how long a client waits for an answer: longer than the
// servers try. It asks once; a client that asks again would hide what the
// server made of the first time.
const clientTimeout = 15 * time.Second

// loopTally is what the clients of a closed loop saw.
type loopTally struct {
	Asked     int     `json:"asked"`
	NoError   int     `json:"noerror"`
	NXDomain  int     `json:"nxdomain"`
	Failed    int     `json:"failed"` // another rcode, or no answer in time
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"per_second"`
	P50       float64 `json:"p50_ms"`
	P90       float64 `json:"p90_ms"`
	P99       float64 `json:"p99_ms"`
	P999      float64 `json:"p99_9_ms"`
	Max       float64 `json:"max_ms"`

	why map[string]int // of failures
}

// closedLoop asks a server each of the questions ("name type") once over UDP, by
// clients with a socket each.
func closedLoop(ctx context.Context, server netip.AddrPort, questions []string, clients int) (*loopTally, error) {
	queries, err := buildQueries(questions)
	if err != nil {
		return nil, err
	}
	askers := make([]loopAsker, clients)
	for i := range askers {
		conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server))
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		buf := make([]byte, 4096)
		askers[i] = func(query []byte) (string, error) { return askOnce(conn, query, buf), nil }
	}
	return runClosedLoop(ctx, queries, 0, askers)
}

// loopAsker is a client of a closed loop. It asks a query and returns what became
// of it: an outcome, or what went wrong. After an error nothing can be asked.
type loopAsker func(query []byte) (outcome string, err error)

// runClosedLoop has each of askers ask its next query when it has the answer to the
// last. All queries are asked once; or, if there is a length, for so long, again from
// the first after the last.
func runClosedLoop(ctx context.Context, queries [][]byte, length time.Duration, askers []loopAsker) (*loopTally, error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	outcomes, latencies := make([][]string, len(askers)), make([][]time.Duration, len(askers))
	errs := make([]error, len(askers))
	began := time.Now()
	for c, ask := range askers {
		// Owner: runClosedLoop. Ends with the queries, the time, ctx, or an error. As many
		// as askers.
		wg.Go(func() {
			for ctx.Err() == nil && errs[c] == nil {
				i := int(next.Add(1) - 1)
				sent := time.Now()
				if length == 0 && i >= len(queries) || length > 0 && sent.Sub(began) >= length {
					return
				}
				var outcome string
				outcome, errs[c] = ask(queries[i%len(queries)])
				outcomes[c], latencies[c] = append(outcomes[c], outcome), append(latencies[c], time.Since(sent))
			}
		})
	}
	wg.Wait()
	wall := time.Since(began)
	if err := errors.Join(append(errs, ctx.Err())...); err != nil {
		return nil, err
	}
	return newLoopTally(slices.Concat(outcomes...), slices.Concat(latencies...), wall), nil
}

// Outcomes: the first two are no failures.
const (
	outcomeNoError  = "NOERROR"
	outcomeNXDomain = "NXDOMAIN"
	outcomeNone     = "no answer"
)

// askOnce sends a query and returns what became of it: an outcome, or what went
// wrong. Datagrams that are no answer to it are passed over.
func askOnce(conn *net.UDPConn, query, buf []byte) string {
	if err := conn.SetDeadline(time.Now().Add(clientTimeout)); err != nil {
		return err.Error()
	}
	if _, err := conn.Write(query); err != nil {
		return err.Error()
	}
	for {
		n, err := conn.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return outcomeNone
		}
		if err != nil {
			return err.Error()
		}
		if n < headerSize || binary.BigEndian.Uint16(buf) != binary.BigEndian.Uint16(query) {
			continue
		}
		if outcome := responseOutcome(buf[:n], query); outcome != "" {
			return outcome
		}
	}
}

// responseOutcome returns what a response to query says; it is empty if msg has
// another question, or is no response. The ID is the caller's business.
func responseOutcome(msg, query []byte) string {
	if len(msg) < len(query) || msg[2]&0x80 == 0 || string(msg[headerSize:len(query)]) != string(query[headerSize:]) {
		return ""
	}
	switch rcode := msg[3] & 0x0f; rcode {
	case 0:
		return outcomeNoError
	case 3:
		return outcomeNXDomain
	default:
		return fmt.Sprintf("rcode %d", rcode)
	}
}

// buildQueries makes a query of each question.
func buildQueries(questions []string) ([][]byte, error) {
	queries := make([][]byte, len(questions))
	for i, q := range questions {
		var err error
		if queries[i], err = parseQuestion(uint16(i), q); err != nil {
			return nil, err
		}
	}
	return queries, nil
}

var questionTypes = map[string]uint16{"A": 1, "AAAA": 28, "MX": 15, "TXT": 16}

// parseQuestion makes a query of "name type".
func parseQuestion(id uint16, q string) ([]byte, error) {
	name, typ, _ := strings.Cut(q, " ")
	code, ok := questionTypes[typ]
	if !ok {
		return nil, fmt.Errorf("question %q: no type that is known", q)
	}
	return newQuery(id, name, code), nil
}

// newLoopTally counts outcomes and orders latencies. It sorts latency.
func newLoopTally(outcome []string, latency []time.Duration, wall time.Duration) *loopTally {
	t := &loopTally{
		Asked: len(outcome), Seconds: wall.Seconds(), PerSecond: float64(len(outcome)) / wall.Seconds(),
		why: make(map[string]int),
	}
	for _, o := range outcome {
		switch o {
		case outcomeNoError:
			t.NoError++
		case outcomeNXDomain:
			t.NXDomain++
		case "": // of an open loop
			t.Failed++
			t.why[outcomeNone]++
		default:
			t.Failed++
			t.why[o]++
		}
	}
	slices.Sort(latency)
	ms := func(p float64) float64 { return milliseconds(percentile(latency, p)) }
	t.P50, t.P90, t.P99, t.P999, t.Max = ms(50), ms(90), ms(99), ms(99.9), ms(100)
	return t
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// percentile returns the smallest of sorted values that at least p percent of
// them do not exceed (nearest rank).
func percentile(sorted []time.Duration, p float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(p/100*float64(len(sorted)) + 0.999999)
	return sorted[min(max(rank, 1), len(sorted))-1]
}
