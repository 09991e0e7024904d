package rpl

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/exchange"
	"shirube/internal/rrset"
	"shirube/internal/wire"
	"shirube/transport"
)

// patience is how long a step waits for what it is about, in simulated time:
// longer than a resolver works on one question.
const patience = 30 * time.Second

// Options says how to play a scenario. Zero means the default.
type Options struct {
	// Timeout is how long the resolver may work on one query; default 7 s.
	Timeout time.Duration

	// UDPSize is the longest response over UDP, in octets; default 4096,
	// which is what Deckard's clients offer.
	UDPSize int

	// Forget drops the answer to q from memory, for FLUSH_MESSAGE. Default:
	// such a scenario cannot be played.
	Forget func(q dns.Question)

	outside bool // set by [PlayServer]
}

// Unplayable returns why a scenario cannot be played at all; "" if it can.
func Unplayable(sc *Scenario, opt Options) string {
	for _, st := range sc.Steps {
		switch {
		case st.Kind == Inside:
			return "looks inside of Unbound: STEP " + st.Text
		case st.Kind == FlushMessage && opt.Forget == nil:
			return "needs memory that can forget one answer: STEP " + st.Text
		}
	}
	for _, r := range sc.Ranges {
		for _, e := range r.Entries {
			if e.Adjust.Subnet {
				return "needs EDNS client subnet"
			}
		}
	}
	return ""
}

// player is a scenario being played.
type player struct {
	scenario *Scenario
	world    *World
	stage    stage
	opt      Options

	clients  sync.WaitGroup
	answered chan *answer // what clients got; room for all
	under    int          // queries whose answer was not taken from answered
	waiting  []*answer    // taken, and not checked yet, oldest first
	last     *answer      // checked last
	checked  int          // entries of the log that CHECK_SENT has seen
}

// answer is what came of a client's query.
type answer struct {
	step int // number of the query's
	msg  *dns.Msg
	tcp  bool
	err  error // why there is no msg
	took time.Duration
}

// stage is what a scenario is played on.
type stage interface {
	// settle waits until what goes on has gone on: whoever still waits does so
	// for the clock or for a step.
	settle()
	// ask sends a query from an address and returns the answer, or errNoAnswer.
	ask(ctx context.Context, msg []byte, from netip.AddrPort, tcp bool) ([]byte, error)
	// pass lets d go by, while a number of queries are under way.
	pass(ctx context.Context, d time.Duration, under int) error
}

// Play plays sc to handler, whose resolver has to ask world. Its error names
// the step that does not hold, and why. It has to be called in a bubble of
// testing/synctest; when it returns, none of its goroutines is left.
func Play(ctx context.Context, sc *Scenario, world *World, handler transport.Handler, opt Options) error {
	opt.setDefaults()
	return play(ctx, sc, world, &memory{handler: handler, opt: opt}, opt)
}

func (opt *Options) setDefaults() {
	if opt.Timeout == 0 {
		opt.Timeout = 7 * time.Second
	}
	if opt.UDPSize == 0 {
		opt.UDPSize = deckardSize
	}
}

// play plays sc on st.
func play(ctx context.Context, sc *Scenario, world *World, st stage, opt Options) error {
	ctx, cancel := context.WithCancel(ctx)
	p := &player{scenario: sc, world: world, stage: st, opt: opt, answered: make(chan *answer, len(sc.Steps))}
	defer p.clients.Wait()
	defer cancel()
	for i := range sc.Steps {
		world.step(i)
		p.stage.settle()
		if err := p.step(ctx, i); err != nil {
			return fmt.Errorf("%s:%d: step %s: %w", sc.Name, sc.Steps[i].Line, sc.Steps[i].Text, err)
		}
	}
	p.stage.settle()
	return nil
}

// step does what the step with the given index says.
func (p *player) step(ctx context.Context, index int) error {
	st := &p.scenario.Steps[index]
	switch st.Kind {
	case Query:
		return p.query(ctx, index)
	case CheckAnswer:
		return p.checkAnswer(ctx, st)
	case TimePasses:
		return p.stage.pass(ctx, st.Elapse, p.under-len(p.answered))
	case FlushMessage:
		p.opt.Forget(st.Question)
	case CheckSent:
		return p.checkSent(st)
	case CheckTime:
		return p.checkTime(st)
	}
	if p.scenario.Dialect == Deckard { // the World does it: see its one-time answers
		return nil
	}
	switch st.Kind {
	case CheckOutQuery:
		return p.await(ctx, "no such query was sent", p.world.seen)
	case Reply:
		return p.settle(ctx, st, st.Entry, fate{entry: st.Entry})
	case Timeout:
		return p.settle(ctx, st, nil, fate{err: exchange.ErrTimeout})
	case Error:
		return p.settle(ctx, st, nil, fate{err: errReset})
	}
	return nil
}

// sleep lets d go by.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// settle decides what becomes of an outstanding query that e matches, any if e
// is nil.
func (p *player) settle(ctx context.Context, st *Step, e *Entry, f fate) error {
	return p.await(ctx, "no such query is outstanding", func() bool { return p.world.settle(e, st.Addr, f) })
}

// await waits until done, which it asks again whenever a query is held.
func (p *player) await(ctx context.Context, otherwise string, done func() bool) error {
	end := time.NewTimer(patience)
	defer end.Stop()
	for !done() {
		select {
		case <-p.world.arrived:
		case <-end.C:
			return errors.New(otherwise)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// query sends the query of the step with the given index. Unbound's clients do
// not wait for an answer; Deckard's do.
func (p *player) query(ctx context.Context, index int) error {
	st := &p.scenario.Steps[index]
	msg, err := st.Entry.query(p.scenario.Dialect)
	if err != nil {
		return err
	}
	tcp := st.Entry.Match.has(OverTCP)
	p.under++
	if p.scenario.Dialect == Unbound && index+1 < len(p.scenario.Steps) {
		p.world.step(index + 1) // as in testbound, servers answer as of the step that waits
	}
	// Owner: p. End: with the answer, at the latest opt.Timeout after now or
	// with ctx; Play waits for it. Bound: one a step.
	p.clients.Go(func() {
		begun := time.Now()
		out, err := p.stage.ask(ctx, msg, client(st.Addr), tcp)
		a := &answer{step: st.Number, tcp: tcp, err: err, took: time.Since(begun)}
		if err == nil {
			if a.msg, a.err = rrset.Unpack(out); a.err != nil {
				a.err = fmt.Errorf("the answer does not unpack: %w: %x", a.err, out)
			} else if len(msg) >= 2 && (out[0] != msg[0] || out[1] != msg[1]) {
				a.err = errors.New("the answer has another ID than the query")
			}
		}
		p.answered <- a
	})
	if p.scenario.Dialect == Deckard && st.Entry.Packets[0].Raw == nil {
		return p.take(ctx)
	}
	return nil
}

// query returns the octets of a client's query.
func (e *Entry) query(d Dialect) ([]byte, error) {
	p := &e.Packets[0]
	if p.Raw != nil {
		return p.Raw, nil
	}
	m := p.message(d, nil)
	m.Id = uint16(e.Line) // any will do, as long as it comes back
	return m.Pack()
}

// client returns where a query comes from.
func client(addr netip.Addr) netip.AddrPort {
	if !addr.IsValid() {
		addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.AddrPortFrom(addr, 40000)
}

// The allowances of [PlayServer]: what a client waits longer than the resolver
// works, and for what takes no time in memory.
const (
	answerSlack = time.Second
	timeSlack   = 3 * time.Second
)

// errNoAnswer reports that a query was answered with silence.
var errNoAnswer = errors.New("no answer")

// memory is the stage for a resolver in memory, in simulated time.
type memory struct {
	handler transport.Handler
	opt     Options
}

func (*memory) settle() { synctest.Wait() }

func (*memory) pass(ctx context.Context, d time.Duration, _ int) error { return sleep(ctx, d) }

// ask does with a query what a transport does.
func (m *memory) ask(ctx context.Context, msg []byte, from netip.AddrPort, tcp bool) ([]byte, error) {
	q := &wire.Query{Client: from, Received: time.Now()}
	if tcp {
		q.Proto = wire.TCP
	}
	switch status := q.Parse(msg); status {
	case wire.OK:
	case wire.Malformed:
		return wire.AppendHeader(nil, msg, wire.FormErr), nil
	case wire.UnsupportedOpcode:
		return wire.AppendHeader(nil, msg, wire.NotImp), nil
	case wire.UnsupportedVersion:
		return wire.AppendOPT(wire.AppendReply(nil, q, wire.BadVers), 0, q, uint16(m.opt.UDPSize), wire.BadVers), nil
	default:
		return nil, errNoAnswer
	}
	q.Limit = wire.MaxMsgSize
	if q.Proto == wire.UDP {
		q.Limit = q.UDPLimit(m.opt.UDPSize)
	}
	out, outcome := m.handler.TryServe(nil, q)
	if outcome == transport.Deferred {
		ctx, cancel := context.WithTimeout(ctx, m.opt.Timeout)
		defer cancel()
		out = m.handler.Serve(ctx, nil, q)
	}
	if outcome == transport.Dropped || len(out) == 0 {
		return nil, errNoAnswer
	}
	return out, nil
}

// take waits for an answer.
func (p *player) take(ctx context.Context) error {
	end := time.NewTimer(patience)
	defer end.Stop()
	select {
	case a := <-p.answered:
		p.under--
		p.waiting = append(p.waiting, a)
		return nil
	case <-end.C:
		return fmt.Errorf("no answer after %v", patience)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// checkAnswer looks for the answer that the step wants: in Unbound's dialect
// among all that were not checked yet, in Deckard's it is the last one.
func (p *player) checkAnswer(ctx context.Context, st *Step) error {
	if p.scenario.Dialect == Deckard {
		if len(p.waiting) > 0 {
			p.last = p.waiting[len(p.waiting)-1]
			p.waiting = nil
		}
		if p.last == nil {
			return errors.New("no query was sent before")
		}
		return p.compare(st, p.last)
	}
	var first error
	for seen := 0; ; {
		for ; seen < len(p.waiting); seen++ {
			a := p.waiting[seen]
			err := p.compare(st, a)
			if err == nil {
				p.last = a
				p.waiting = slices.Delete(p.waiting, seen, seen+1)
				return nil
			}
			if first == nil {
				first = fmt.Errorf("step %d: %w", a.step, err)
			}
		}
		switch {
		case p.under > 0:
			if err := p.take(ctx); err != nil {
				return err
			}
		case first == nil:
			return errors.New("there is no answer that was not checked before")
		default:
			return first
		}
	}
}

// compare compares an answer with the entry of a step.
func (p *player) compare(st *Step, a *answer) error {
	if a.err != nil {
		return a.err
	}
	c := comparison{entry: st.Entry, want: &st.Entry.Packets[0], got: a.msg, tcp: a.tcp}
	if s := c.differs(); s != "" {
		return fmt.Errorf("%s\nthe answer, after %v:\n%.4000s", s, a.took, a.msg)
	}
	return nil
}

// checkSent compares the queries that were sent since the last such step.
func (p *player) checkSent(st *Step) error {
	got := p.world.sentSince(p.checked)
	p.checked += len(got)
	same := slices.Equal[[]string]
	if p.opt.outside {
		same = asGood
	}
	if !same(got, st.Sent) {
		return fmt.Errorf("sent\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(st.Sent, "\n  "))
	}
	return nil
}

// asGood reports whether the queries in got are those in want, in this order,
// and none in between asks another question. Those for the root's servers do
// not count.
func asGood(got, want []string) bool {
	wanted := make(map[string]bool)
	var left []string
	for _, query := range want {
		if q := questionIn(query); q != ". NS" {
			wanted[q] = true
			left = append(left, query)
		}
	}
	for _, query := range got {
		if len(left) > 0 && query == left[0] {
			left = left[1:]
		} else if q := questionIn(query); q != ". NS" && !wanted[q] {
			return false
		}
	}
	return len(left) == 0
}

// questionIn returns the name and type of a query as the log has it: behind the
// server, and before what else there is to say.
func questionIn(query string) string {
	words := strings.Fields(query)
	return strings.Join(words[min(1, len(words)):min(3, len(words))], " ")
}

// checkTime looks at how long the last answer took.
func (p *player) checkTime(st *Step) error {
	if p.last == nil {
		return errors.New("no answer was checked before")
	}
	limit := st.Elapse
	if p.opt.outside {
		limit += timeSlack
	}
	if p.last.took > limit {
		return fmt.Errorf("the answer took %v", p.last.took)
	}
	return nil
}
