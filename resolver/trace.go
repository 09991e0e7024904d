package resolver

import (
	"context"
	"fmt"
	"slices"
	"strings"
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
	Octets   int           `json:"octets,omitempty"` // received
	Detail   string        `json:"detail,omitempty"`
}

// trace collects the events of one resolution. A nil trace is off.
type trace struct {
	begun time.Time
	tell  func(Event)
}

// Trace is Resolve, and tells what it does. tell is called in order, by one
// goroutine at a time, and must not block.
func (r *Resolver) Trace(ctx context.Context, q Query, tell func(Event)) (*Answer, error) {
	w := r.work(q)
	w.trace = &trace{time.Now(), tell}
	ans, err := r.resolve(ctx, q.Question, w)
	if err != nil {
		err = explain(ctx, q.Question, err)
		w.tell(Event{Step: StepFailure, Question: q.String(), Detail: err.Error()})
		return nil, err
	}
	return ans, nil
}

// tell passes e on with its time and depth, if anybody listens.
func (w *work) tell(e Event) {
	if w.trace == nil {
		return
	}
	w.mu.Lock() // a late server is overtaken by another goroutine
	defer w.mu.Unlock()
	e.At, e.Depth = time.Since(w.trace.begun), max(len(w.path), 1)
	w.trace.tell(e)
}

// tellStep tells of a question, for the sake of zone if that is not "".
func (w *work) tellStep(step Step, q wire.Question, zone wire.Name) {
	if w.trace == nil {
		return
	}
	e := Event{Step: step, Question: q.String()}
	if zone != "" {
		e.Zone = zone.String()
	}
	w.tell(e)
}

// tellZone tells whose servers are about to be asked what.
func (w *work) tellZone(q wire.Question, s *search) {
	if w.trace == nil {
		return
	}
	kind := "learned"
	if s.conf != nil {
		kind = "stub"
		if s.conf.Forward {
			kind = "forward"
		}
	}
	w.tell(Event{
		Step: StepZone, Zone: s.cut.Zone.String(), Question: q.String(),
		Detail: fmt.Sprintf("%s; %d addresses known, %d servers to look up", kind, len(s.tries), len(s.glueless)),
	})
}

// tellQuery tells how a server was asked, and what came back.
func (w *work) tellQuery(req exchange.Request, resp exchange.Response, err error) {
	if w.trace == nil {
		return
	}
	e := Event{
		Step: StepQuery, Question: req.Question.String(), Server: req.Server.String(),
		Timeout: req.Timeout, RTT: resp.RTT, Octets: resp.Size,
	}
	var words []string
	say := func(yes bool, word string) {
		if yes {
			words = append(words, word)
		}
	}
	say(req.TLS != nil, "TLS")
	say(req.TLS == nil && (req.TCP || resp.TCP), "TCP")
	say(req.Bare, "without EDNS")
	if err != nil {
		words = append(words, err.Error())
	} else {
		m := resp.Msg
		words = append(words, wire.Rcode(m.Rcode).String())
		say(m.Authoritative, "aa")
		say(m.RecursionAvailable, "ra")
		words = append(words, fmt.Sprintf("%d answer, %d authority, %d additional", len(m.Answer), len(m.Ns), len(m.Extra)))
	}
	e.Detail = strings.Join(words, ", ")
	w.tell(e)
}

// tellVerdict tells what rep means.
func (w *work) tellVerdict(step Step, q wire.Question, rep *reply) {
	if w.trace == nil {
		return
	}
	e := Event{Step: step, Question: q.String()}
	switch rep.Verdict {
	case Lame:
		e.Detail = "of no help: " + rep.Why
	case Positive:
		e.Detail = "the data"
	case Negative:
		e.Detail = "denied: " + rep.Rcode.String()
	case Referral:
		e.Zone = rep.Cut.Zone.String()
		e.Detail = fmt.Sprintf("referral to %d servers", len(rep.Cut.Servers))
	case Alias:
		e.Detail = "alias of " + rep.Target.String()
	}
	w.tell(e)
}

// tellLink tells what was proven of a zone's keys.
func (w *work) tellLink(l *rrset.Link) {
	if w.trace == nil {
		return
	}
	e := Event{Step: StepTrust, Zone: l.Zone.String(), Detail: l.Trust.String()}
	if l.Trust == rrset.Secure {
		e.Detail = fmt.Sprintf("%v, %d keys", l.Trust, len(l.Keys))
	}
	if l.Err != nil {
		e.Detail += ": " + l.Err.Error()
	}
	w.tell(e)
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
