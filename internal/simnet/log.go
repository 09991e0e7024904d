package simnet

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"shirube/internal/wire"
)

// Entry is one query that was sent, answered or not.
type Entry struct {
	At       time.Duration // since the network was made
	Server   netip.Addr
	Question wire.Question
	TCP      bool
	Bare     bool // without EDNS
}

// String returns e on one line, as "1.23s 192.0.2.1 com. NS TCP bare".
func (e Entry) String() string {
	s := fmt.Sprintf("%v %v %v", e.At, e.Server, e.Question)
	if e.TCP {
		s += " TCP"
	}
	if e.Bare {
		s += " bare"
	}
	return s
}

// Log is the queries that were sent, in order.
type Log []Entry

// String returns l with one entry a line.
func (l Log) String() string {
	var b strings.Builder
	for _, e := range l {
		b.WriteString(e.String())
		b.WriteByte('\n')
	}
	return b.String()
}

// Questions returns each entry as "192.0.2.1 com. NS".
func (l Log) Questions() []string {
	out := make([]string, len(l))
	for i, e := range l {
		out[i] = e.Server.String() + " " + e.Question.String()
	}
	return out
}

// PerServer returns how many queries each address was sent.
func (l Log) PerServer() map[netip.Addr]int {
	counts := make(map[netip.Addr]int)
	for _, e := range l {
		counts[e.Server]++
	}
	return counts
}

// PerQuestion returns how many times each question was sent.
func (l Log) PerQuestion() map[wire.Question]int {
	counts := make(map[wire.Question]int)
	for _, e := range l {
		counts[e.Question]++
	}
	return counts
}

// Log returns the queries that were sent so far.
func (n *Net) Log() Log {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.log)
}

// Questions is [Log.Questions] of what was sent so far.
func (n *Net) Questions() []string { return n.Log().Questions() }

// ResetLog forgets the queries that were sent so far. The clock goes on.
func (n *Net) ResetLog() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.log = nil
}
