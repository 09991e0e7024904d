package rpl

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/exchange"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

// MaxQueries bounds the queries that a World takes, so that a resolver that
// never gives up fails its scenario instead of running on.
const MaxQueries = 20_000

// ErrFlood reports that a World was sent more than [MaxQueries] queries.
var ErrFlood = errors.New("rpl: too many queries")

// udpSize is the payload size that queries offer, in octets (RFC 9715 §3.1).
const udpSize = 1232

// World is the servers of a scenario, in the place of the upstream transport.
// What a server says takes no time, as in Unbound's testbound: but for what an
// entry sleeps, only time-outs and steps move the clock. A query that no entry
// in force answers is held: until a step answers it, an entry comes into force
// that does, or the resolver's patience ends. It is safe for concurrent use.
type World struct {
	// Minimised says that the resolver minimises names (RFC 9156), and asks
	// for A while it does. Older scenarios have entries for NS only, which RFC
	// 7816 had resolvers ask for. A server that has none for A of a name, but
	// one for NS, then says the same but for the NS set itself: where a name
	// is delegated, denied or empty does not depend on the type. To be set
	// before the first query.
	Minimised bool

	scenario *Scenario
	start    time.Time

	mu      sync.Mutex
	now     int          // index of the present step
	checked bool         // a query was seen that this step wants
	used    map[int]bool // Deckard's one-time answers, by index of their step
	held    []*held      // oldest first; bounded by what the resolver sends at once
	log     []sent
	arrived chan struct{} // has something in it after a query was held
}

// held is a query under way.
type held struct {
	req    exchange.Request
	query  *dns.Msg
	answer chan fate // holds one, so that nobody waits to give it
	given  bool      // something is in answer, or was
}

// fate is what becomes of a query: an answer, or an error.
type fate struct {
	entry *Entry
	asNS  bool // see World.Minimised
	err   error
}

// sent is a query as the log has it.
type sent struct {
	at   time.Duration // since the World was made
	text string
}

// NewWorld returns the servers of sc, before its first step. Its clock starts
// now.
func NewWorld(sc *Scenario) *World {
	return &World{scenario: sc, start: time.Now(), used: make(map[int]bool), arrived: make(chan struct{}, 1)}
}

// Exchange sends the question to the server and returns what it answers, as
// the upstream transport does: replies that are none are dropped and waited
// for, and a truncated one is asked for again over TCP. The port is ignored.
// The errors are [exchange.ErrTimeout], [exchange.ErrMalformed], the context's,
// [ErrFlood], and a broken connection's.
func (w *World) Exchange(ctx context.Context, req exchange.Request) (exchange.Response, error) {
	req.TCP = req.TCP || req.TLS != nil
	return simnet.OverTCPIfTruncated(ctx, req, w.send)
}

// send sends one query, and waits for what becomes of it.
func (w *World) send(ctx context.Context, req exchange.Request) (exchange.Response, error) {
	begun := time.Now()
	timeout := time.NewTimer(req.Timeout)
	defer timeout.Stop()
	h, err := w.accept(req, queryOf(req))
	if err != nil {
		return exchange.Response{}, err
	}
	defer w.release(h)
	var f fate
	select {
	case f = <-h.answer:
	case <-timeout.C:
		return exchange.Response{}, exchange.ErrTimeout
	case <-ctx.Done():
		return exchange.Response{}, ctx.Err()
	}
	if f.err != nil {
		return exchange.Response{}, f.err
	}
	if d := f.entry.Adjust.Sleep + f.entry.Packets[0].Sleep; d > 0 {
		asleep := time.NewTimer(d)
		defer asleep.Stop()
		late := timeout.C
		if req.TCP { // the connection stands, and that is all that Timeout is for
			late = nil
		}
		select {
		case <-asleep.C:
		case <-late:
			return exchange.Response{}, exchange.ErrTimeout
		case <-ctx.Done():
			return exchange.Response{}, ctx.Err()
		}
	}
	msg, size, err := w.reply(h, f)
	if errors.Is(err, errDropped) {
		select {
		case <-timeout.C:
			return exchange.Response{Size: size}, exchange.ErrTimeout
		case <-ctx.Done():
			return exchange.Response{Size: size}, ctx.Err()
		}
	}
	return exchange.Response{Msg: msg, RTT: time.Since(begun), Size: size, TCP: req.TCP}, err
}

// accept logs a query, and answers or holds it.
func (w *World) accept(req exchange.Request, query *dns.Msg) (*held, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.log) == MaxQueries {
		return nil, ErrFlood
	}
	text := req.Server.Addr().String() + " " + req.Question.String()
	for _, word := range [...]struct {
		holds bool
		text  string
	}{{req.TLS != nil, " TLS"}, {req.TCP && req.TLS == nil, " TCP"}, {req.Bare, " bare"}, {req.RD, " RD"}} {
		if word.holds {
			text += word.text
		}
	}
	w.log = append(w.log, sent{time.Since(w.start), text})
	h := &held{req: req, query: query, answer: make(chan fate, 1)}
	w.held = append(w.held, h)
	w.look(h)
	if !h.given {
		select {
		case w.arrived <- struct{}{}:
		default:
		}
	}
	return h, nil
}

// queryOf returns the message that the upstream transport sends for req.
func queryOf(req exchange.Request) *dns.Msg {
	m := new(dns.Msg).SetQuestion(req.Question.Name.String(), uint16(req.Question.Type))
	m.RecursionDesired, m.CheckingDisabled = req.RD, req.CD
	if !req.Bare {
		m.SetEdns0(udpSize, true)
	}
	return m
}

// release forgets a query.
func (w *World) release(h *held) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.held {
		if w.held[i] == h {
			w.held = append(w.held[:i], w.held[i+1:]...)
			return
		}
	}
}

// give decides what becomes of h. w.mu is held.
func (h *held) give(f fate) {
	if !h.given {
		h.given = true
		h.answer <- f
	}
}

// look answers h if the present step, or else an entry in force, does. w.mu is
// held.
func (w *World) look(h *held) {
	if st := &w.scenario.Steps[w.now]; w.scenario.Dialect == Unbound && st.Kind == CheckOutQuery && !w.checked && h.is(st.Entry, st.Addr) {
		w.checked = true
		if st.Entry.Adjust.CopyID { // then it is also the answer
			h.give(fate{entry: st.Entry})
		}
		return // ranges answer it in the next step
	}
	f := fate{entry: w.inForce(h.req.Server.Addr(), h.query, h.req.TCP)}
	if f.entry == nil && w.scenario.Dialect == Deckard {
		f.entry = w.oneTime(h)
	}
	if f.entry == nil && w.Minimised && h.req.Question.Type == wire.TypeA {
		query := h.query.Copy()
		query.Question[0].Qtype = dns.TypeNS
		f = fate{entry: w.inForce(h.req.Server.Addr(), query, h.req.TCP), asNS: true}
	}
	if f.entry != nil {
		h.give(f)
	}
}

// inForce returns the entry that answers query, sent to addr, at the present
// step, or nil. w.mu is held.
func (w *World) inForce(addr netip.Addr, query *dns.Msg, tcp bool) *Entry {
	number := w.scenario.Steps[w.now].Number
	for i := range w.scenario.Ranges {
		r := &w.scenario.Ranges[i]
		if !r.holds(number, addr) {
			continue
		}
		for _, e := range r.Entries {
			if e.matches(query, tcp) {
				return e
			}
		}
	}
	return nil
}

// oneTime returns the entry of the first REPLY, from the present step on, that
// answers h and has not answered before, or nil. w.mu is held.
func (w *World) oneTime(h *held) *Entry {
	for i := w.now; i < len(w.scenario.Steps); i++ {
		if st := &w.scenario.Steps[i]; st.Kind == Reply && !w.used[i] && h.is(st.Entry, st.Addr) {
			w.used[i] = true
			return st.Entry
		}
	}
	return nil
}

// is reports whether e matches h, and addr, unless it is not valid, is the
// server's.
func (h *held) is(e *Entry, addr netip.Addr) bool {
	if addr.IsValid() && addr != h.req.Server.Addr() {
		return false
	}
	return e.matches(h.query, h.req.TCP)
}

// matches reports whether a query is as the MATCH line of e wants it.
func (e *Entry) matches(query *dns.Msg, tcp bool) bool {
	c := comparison{entry: e, want: &e.Packets[0], got: query, tcp: tcp}
	return c.differs() == ""
}

// step goes on to the step with the given index, which may answer queries that
// are held.
func (w *World) step(index int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if index != w.now {
		w.now, w.checked = index, false
	}
	for i := len(w.held) - 1; i >= 0; i-- {
		if !w.held[i].given {
			w.look(w.held[i])
		}
	}
}

// seen reports whether the query that the present step wants was sent.
func (w *World) seen() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.checked
}

// settle decides what becomes of the query that was sent last and is still
// held. Only one that e matches counts, unless e is nil. It reports whether
// there is one.
func (w *World) settle(e *Entry, addr netip.Addr, f fate) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := len(w.held) - 1; i >= 0; i-- {
		h := w.held[i]
		if h.given || addr.IsValid() && addr != h.req.Server.Addr() || e != nil && !h.is(e, addr) {
			continue
		}
		h.give(f)
		return true
	}
	return false
}

// errReset is what is left of a connection when a step breaks it.
var errReset = &net.OpError{Op: "read", Net: "udp", Err: os.NewSyscallError("read", syscall.ECONNREFUSED)}

// Sent returns the queries that were sent so far, one a line: when, since the
// World was made, and what, as CHECK_SENT has it.
func (w *World) Sent() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	for _, s := range w.log {
		fmt.Fprintf(&b, "%v %s\n", s.at, s.text)
	}
	return b.String()
}

// sentSince returns the queries after the first n, as CHECK_SENT has them.
func (w *World) sentSince(n int) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := []string{}
	for _, s := range w.log[n:] {
		out = append(out, s.text)
	}
	return out
}
