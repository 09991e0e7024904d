package resolver

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/exchange"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// Step is what an [Event] tells of.
type Step string

// The steps of a resolution.
const (
	StepQuestion Step = "question" // a name is being resolved; an alias is a question of its own
	StepMemory   Step = "memory"   // it was remembered
	StepZone     Step = "zone"     // servers of a zone are about to be asked
	StepLookup   Step = "lookup"   // a name server's address is looked up first
	StepQuery    Step = "query"    // a server was asked, and answered or did not
	StepVerdict  Step = "verdict"  // what the answer means
	StepProof    Step = "proof"    // signatures of a zone were verified, or a denial was
	StepTrust    Step = "trust"    // what was proven of a zone's keys
	StepFailure  Step = "failure"  // the question cannot be answered
)

// Event is one step of a resolution, for people who want to know why it ended
// as it did.
type Event struct {
	At       time.Duration `json:"at_ns"` // since the trace began
	Depth    int           `json:"depth"` // 1 is the client's question, more what is resolved for it
	Step     Step          `json:"step"`
	Question string        `json:"question,omitempty"`
	Zone     string        `json:"zone,omitempty"`
	Server   string        `json:"server,omitempty"`
	Timeout  time.Duration `json:"timeout_ns,omitempty"` // that the server was given
	RTT      time.Duration `json:"rtt_ns,omitempty"`
	Octets   int           `json:"octets,omitempty"`  // received
	Took     time.Duration `json:"took_ns,omitempty"` // of a proof, until At
	Detail   string        `json:"detail,omitempty"`

	// What Detail says in words, for programs.
	Name     wire.Name      `json:"-"` // of Question
	Type     wire.Type      `json:"-"` // of it too
	Addr     netip.AddrPort `json:"-"` // of Server
	TLS, TCP bool           `json:"-"` // how it was asked
	Answered bool           `json:"-"` // there is an Rcode, and no Err
	Rcode    wire.Rcode     `json:"-"`
	Err      error          `json:"-"`
}

// What returns all that e says but for its step and when it was, for people.
func (e *Event) What() string {
	var b strings.Builder
	for _, word := range []string{e.Zone, e.Server, e.Question} {
		if word != "" {
			b.WriteString(" " + word)
		}
	}
	if e.Step == StepQuery {
		fmt.Fprintf(&b, "  rtt %.3f ms of %d ms, %d octets", milliseconds(e.RTT), e.Timeout.Milliseconds(), e.Octets)
	}
	if e.Step == StepProof {
		fmt.Fprintf(&b, "  %.3f ms", milliseconds(e.Took))
	}
	if e.Detail != "" {
		fmt.Fprintf(&b, "  (%s)", e.Detail)
	}
	return b.String()
}

// String returns e on one line.
func (e Event) String() string {
	return fmt.Sprintf("%.3f ms %s%s", milliseconds(e.At), e.Step, e.What())
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// moment is an [Event] before it is put into words, which is done of those alone
// that somebody reads. It holds nothing of a message.
type moment struct {
	at       time.Duration
	depth    int
	step     Step
	question wire.Question
	name     wire.Name // the zone, or what an alias is of
	server   netip.AddrPort
	timeout  time.Duration
	rtt      time.Duration
	octets   int
	counts   [3]uint16 // of a query: answer, authority, additional. Of a zone: addresses, servers to look up
	rcode    wire.Rcode
	verdict  Verdict
	trust    rrset.Trust
	marks    marks
	word     string // one of few, or what an error says anyway
	err      error
}

// marks are what a query was like, and its answer.
type marks uint8

const (
	overTLS marks = 1 << iota
	overTCP
	withoutEDNS
	authoritative
	recursive
	answered // there are an rcode and counts
)

// event puts m into words.
func (m *moment) event() Event {
	e := Event{
		At: m.at, Depth: m.depth, Step: m.step, Name: m.question.Name, Type: m.question.Type, Rcode: m.rcode, Err: m.err,
		TLS: m.marks&overTLS != 0, TCP: m.marks&overTCP != 0, Answered: m.marks&answered != 0,
	}
	if m.question.Name != "" {
		e.Question = m.question.String()
	}
	if m.name != "" && (m.step != StepVerdict && m.step != StepMemory || m.verdict == Referral) {
		e.Zone = m.name.String()
	}
	switch m.step {
	case StepZone:
		if m.word != "" {
			e.Detail = fmt.Sprintf("%s; %d addresses known, %d servers to look up", m.word, m.counts[0], m.counts[1])
		}
	case StepQuery:
		e.Addr, e.Server, e.Timeout, e.RTT, e.Octets = m.server, m.server.String(), m.timeout, m.rtt, m.octets
		e.Detail = m.exchange()
	case StepVerdict, StepMemory:
		e.Detail = m.meaning()
	case StepTrust:
		e.Detail = m.proof()
	case StepProof:
		e.Took = m.rtt
		if m.err != nil {
			e.Detail = m.err.Error()
		}
	case StepFailure:
		e.Detail = m.err.Error()
	case StepQuestion, StepLookup:
	}
	return e
}

// exchange says how a server was asked, and what came back.
func (m *moment) exchange() string {
	var words []string
	say := func(mark marks, word string) {
		if m.marks&mark != 0 {
			words = append(words, word)
		}
	}
	say(overTLS, "TLS")
	say(overTCP, "TCP")
	say(withoutEDNS, "without EDNS")
	if m.marks&answered != 0 {
		words = append(words, m.rcode.String())
		say(authoritative, "aa")
		say(recursive, "ra")
		words = append(words, fmt.Sprintf("%d answer, %d authority, %d additional", m.counts[0], m.counts[1], m.counts[2]))
	} else {
		words = append(words, m.err.Error())
	}
	return strings.Join(words, ", ")
}

// meaning says what an answer was taken to mean.
func (m *moment) meaning() string {
	switch m.verdict {
	case Lame:
		return "of no help: " + m.word
	case Positive:
		return "the data"
	case Negative:
		return "denied: " + m.rcode.String()
	case Referral:
		return fmt.Sprintf("referral to %d servers", m.counts[0])
	case Alias:
		return "alias of " + m.name.String()
	}
	return ""
}

// proof says what was proven of a zone's keys.
func (m *moment) proof() string {
	text := m.trust.String()
	if m.trust == rrset.Secure {
		text = fmt.Sprintf("%v, %d keys", m.trust, m.counts[0])
	}
	if m.err != nil {
		text += ": " + m.err.Error()
	}
	return text
}

// trace is where the steps of one resolution go. A nil trace is off.
type trace struct {
	begun   time.Time
	inOrder bool        // one thing is done after the other, so that it can be told, though it take longer
	say     func(Event) // nil: they are kept
	kept    *Recording

	mu sync.Mutex
}

// Trace is Resolve, and tells what it does. tell is called in order, by one
// goroutine at a time, and must not block.
func (r *Resolver) Trace(ctx context.Context, q Query, tell func(Event)) (*Answer, error) {
	w := r.work(q)
	w.trace = &trace{begun: time.Now(), inOrder: true, say: tell}
	ans, err := r.resolve(ctx, q.Question, w)
	if err != nil {
		err = explain(ctx, q.Question, err)
		w.tellFailure(q.Question, err)
		return nil, err
	}
	return ans, nil
}

// keptSteps is how many steps of each end of a resolution a [Recording] keeps.
const keptSteps = 32

// Recording keeps the steps of one resolution (see [Query]), for who wants to know
// afterwards why it took so long. What it costs is to note them: they are put into
// words when somebody asks.
type Recording struct {
	trace trace
	steps []moment // the first ones, and then a ring of the last
	told  int
}

// NewRecording returns a Recording that begins now.
func NewRecording() *Recording {
	r := new(Recording)
	r.trace.begun, r.trace.kept = time.Now(), r
	return r
}

// keep takes one step.
func (r *Recording) keep(m *moment) {
	switch at := r.told - 2*keptSteps; {
	case at < 0:
		r.steps = append(r.steps, *m)
	default:
		r.steps[keptSteps+at%keptSteps] = *m
	}
	r.told++
}

// Begun returns when the first step can have been.
func (r *Recording) Begun() time.Time { return r.trace.begun }

// Events returns the steps in order, and how many were left out in the middle.
func (r *Recording) Events() (list []Event, omitted int) {
	r.trace.mu.Lock()
	defer r.trace.mu.Unlock()
	omitted = max(r.told-2*keptSteps, 0)
	for i := range r.steps {
		if i >= keptSteps {
			i = keptSteps + (i+omitted)%keptSteps
		}
		list = append(list, r.steps[i].event())
	}
	return list, omitted
}

// tell passes m on with its time and depth, if anybody listens.
func (w *work) tell(m *moment) {
	t := w.trace
	t.mu.Lock() // a late server is overtaken by another goroutine, and keys are asked for early by one
	defer t.mu.Unlock()
	m.at, m.depth = time.Since(t.begun), max(len(w.path), 1)
	if t.say != nil {
		t.say(m.event())
		return
	}
	t.kept.keep(m)
}

// What is told below is put together apart from where it happens, and only if
// somebody listens: a resolution is not to have room for it on its stack, which is
// deepest there.

// tellStep tells of a question, for the sake of zone if that is not "".
func (w *work) tellStep(step Step, q wire.Question, zone wire.Name) {
	if w.trace != nil {
		w.noteStep(step, q, zone)
	}
}

//go:noinline
func (w *work) noteStep(step Step, q wire.Question, zone wire.Name) {
	w.tell(&moment{step: step, question: q, name: zone})
}

// tellFailure tells why q cannot be answered.
func (w *work) tellFailure(q wire.Question, err error) {
	if w.trace != nil {
		w.noteFailure(q, err)
	}
}

//go:noinline
func (w *work) noteFailure(q wire.Question, err error) {
	w.tell(&moment{step: StepFailure, question: q, err: err})
}

// tellZone tells whose servers are about to be asked what.
func (w *work) tellZone(q wire.Question, s *search) {
	if w.trace != nil {
		w.noteZone(q, s)
	}
}

//go:noinline
func (w *work) noteZone(q wire.Question, s *search) {
	kind := "learned"
	if s.conf != nil {
		kind = "stub"
		if s.conf.Forward {
			kind = "forward"
		}
	}
	w.tell(&moment{step: StepZone, question: q, name: s.cut.Zone, word: kind, counts: [3]uint16{uint16(len(s.tries)), uint16(len(s.glueless))}})
}

// tellQuery tells how a server was asked, and what came back.
func (w *work) tellQuery(req *exchange.Request, resp *exchange.Response, err error) {
	if w.trace != nil {
		w.noteQuery(req, resp, err)
	}
}

//go:noinline
func (w *work) noteQuery(req *exchange.Request, resp *exchange.Response, err error) {
	m := moment{
		step: StepQuery, question: req.Question, server: req.Server,
		timeout: req.Timeout, rtt: resp.RTT, octets: resp.Size, err: err,
	}
	mark := func(yes bool, which marks) {
		if yes {
			m.marks |= which
		}
	}
	mark(req.TLS != nil, overTLS)
	mark(req.TLS == nil && (req.TCP || resp.TCP), overTCP)
	mark(req.Bare, withoutEDNS)
	if err == nil {
		msg := resp.Msg
		m.rcode = wire.Rcode(msg.Rcode)
		mark(true, answered)
		mark(msg.Authoritative, authoritative)
		mark(msg.RecursionAvailable, recursive)
		m.counts = [3]uint16{uint16(len(msg.Answer)), uint16(len(msg.Ns)), uint16(len(msg.Extra))} // as wide as in a header
	}
	w.tell(&m)
}

// tellVerdict tells what rep means.
func (w *work) tellVerdict(step Step, q wire.Question, rep *reply) {
	if w.trace != nil {
		w.noteVerdict(step, q, rep)
	}
}

//go:noinline
func (w *work) noteVerdict(step Step, q wire.Question, rep *reply) {
	m := moment{step: step, question: q, verdict: rep.Verdict, rcode: rep.Rcode, word: rep.Why}
	switch rep.Verdict {
	case Referral:
		m.name, m.counts[0] = rep.Cut.Zone, uint16(len(rep.Cut.Servers))
	case Alias:
		m.name = rep.Target
	case Lame, Positive, Negative:
	}
	w.tell(&m)
}

// tellLink tells what was proven of a zone's keys.
func (w *work) tellLink(l *rrset.Link) {
	if w.trace != nil {
		w.noteLink(l)
	}
}

//go:noinline
func (w *work) noteLink(l *rrset.Link) {
	w.tell(&moment{step: StepTrust, name: l.Zone, trust: l.Trust, counts: [3]uint16{uint16(len(l.Keys))}, err: l.Err})
}

// traceTime returns the time since the trace began, if there is one.
func (w *work) traceTime() time.Duration {
	if w.trace == nil {
		return 0
	}
	return time.Since(w.trace.begun)
}

// tellProof tells that something of zone was verified since begun.
func (w *work) tellProof(zone wire.Name, begun time.Duration, err error) {
	if w.trace != nil {
		w.noteProof(zone, begun, err)
	}
}

//go:noinline
func (w *work) noteProof(zone wire.Name, begun time.Duration, err error) {
	w.tell(&moment{step: StepProof, name: zone, rtt: w.traceTime() - begun, err: err})
}

// Lines returns the records of a, one a line in the form of a zone file, as they
// are at now: the answer section, then the authority section.
func (a *Answer) Lines(now time.Time) []string {
	var lines []string
	for _, set := range slices.Concat(a.Records, a.Denial) {
		for _, rr := range set.RRs {
			line := dns.Copy(rr)
			line.Header().Ttl = set.TTL(now)
			lines = append(lines, line.String())
		}
	}
	return lines
}
