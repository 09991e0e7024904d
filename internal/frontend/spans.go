package frontend

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"shirube/internal/ede"
	"shirube/internal/exchange"
	"shirube/internal/otlp"
	"shirube/internal/wire"
	"shirube/resolver"
)

// traced is a resolution that a collector of traces is to be told of.
type traced struct {
	id      otlp.TraceID
	renewal bool // nobody waits for it

	asked, told time.Time // the fleet was, and has; zero: it was not
	found       string    // what it knew
}

// trace returns what is kept of the resolution of q; nil: nobody is to be told.
// What a client says of traces (W3C Trace Context, which DoH could carry) is not
// heeded: it would let strangers choose what is told, and one resolution is that of
// many clients.
//
// It is no part of its caller, which is on the stack while servers are asked.
//
//go:noinline
func (f *Frontend) trace(q wire.Question, until time.Time) *traced {
	id, ok := f.opt.Spans.Wants(q.Name)
	if !ok {
		return nil
	}
	return &traced{id: id, renewal: !until.IsZero()}
}

// fleet notes what the fleet knew, which was asked since out was begun.
//
//go:noinline
func (t *traced) fleet(out *outcome, found bool, stale *outcome) {
	if t == nil || t.renewal {
		return
	}
	if _, may := out.f.keyOf(out.k); !may {
		return
	}
	t.asked, t.told, t.found = out.begun, time.Now(), "nothing"
	switch {
	case found:
		t.found = "answer"
	case stale != nil:
		t.found = "stale answer"
	}
}

// tellSpans has the collector of traces told of out, which took so long. It is put
// into spans later, by another goroutine, and keeps no answer until then.
func (f *Frontend) tellSpans(out *outcome, took time.Duration) {
	end := time.Now()
	r := resolved{traced: out.traced, q: out.k.q, cd: out.k.cd, begun: end.Add(-took), end: end, steps: out.steps, err: out.err}
	if out.ans != nil {
		r.rcode, r.trust, r.queries = out.ans.Rcode, out.ans.Trust.String(), out.ans.Queries
	}
	f.opt.Spans.Take(r.spans)
}

// resolved is what spans are made of.
type resolved struct {
	*traced
	q          wire.Question
	cd         bool
	begun, end time.Time
	steps      *resolver.Recording
	err        *ede.Error // nil: there is an answer
	rcode      wire.Rcode
	trust      string
	queries    int
}

// The names of attributes. Those without shirube before them are OpenTelemetry's
// (semantic conventions, "DNS", "Server", "Network", "Error", "Database").
const (
	attrName      = "dns.question.name"
	attrServer    = "server.address"
	attrPort      = "server.port"
	attrTransport = "network.transport"
	attrError     = "error.type"
	attrDatabase  = "db.system.name"
	attrOperation = "db.operation.name"

	attrType    = "shirube.question.type"
	attrCD      = "shirube.question.cd"
	attrRenewal = "shirube.renewal"
	attrRcode   = "shirube.response.code"
	attrTrust   = "shirube.dnssec"
	attrEDE     = "shirube.ede"
	attrQueries = "shirube.queries"
	attrFound   = "shirube.found"
	attrZone    = "shirube.zone"
	attrDepth   = "shirube.depth"
	attrOctets  = "shirube.response.octets"
	attrTLS     = "shirube.tls"
	attrDetail  = "shirube.detail"
)

// spans puts r into spans: the resolution, and of what takes time one each.
func (r *resolved) spans() otlp.Trace {
	t := otlp.Trace{ID: r.id, Root: r.root()}
	if !r.asked.IsZero() {
		t.Parts = append(t.Parts, otlp.Span{
			Name: "shared cache get", Kind: otlp.Client, Begun: r.asked, End: r.told,
			Attrs: []otlp.Attr{otlp.Text(attrDatabase, "memcached"), otlp.Text(attrOperation, "get"), otlp.Text(attrFound, r.found)},
		})
	}
	steps, omitted := r.steps.Events()
	t.Root.Omitted = omitted
	for i := range steps {
		e, at := &steps[i], r.steps.Begun().Add(steps[i].At)
		switch e.Step {
		case resolver.StepQuery:
			t.Parts = append(t.Parts, querySpan(e, at))
		case resolver.StepProof:
			t.Parts = append(t.Parts, proofSpan(e, at))
		default:
			t.Root.Events = append(t.Root.Events, otlp.Event{At: at, Name: string(e.Step), Attrs: eventAttrs(e)})
		}
	}
	return t
}

// root is the resolution. That of an answer that is renewed is no client's.
func (r *resolved) root() otlp.Span {
	s := otlp.Span{Name: "resolve " + familiar(r.q.Type), Kind: otlp.Server, Begun: r.begun, End: r.end}
	s.Attrs = append(s.Attrs, otlp.Text(attrName, r.q.Name.String()), otlp.Text(attrType, r.q.Type.String()))
	if r.cd {
		s.Attrs = append(s.Attrs, otlp.Bool(attrCD, true))
	}
	if r.renewal {
		s.Kind = otlp.Internal
		s.Attrs = append(s.Attrs, otlp.Bool(attrRenewal, true))
	}
	if r.err != nil {
		s.Failed, s.Why = true, r.err.Error()
		s.Attrs = append(s.Attrs, otlp.Text(attrRcode, wire.ServFail.String()), otlp.Int(attrEDE, int64(r.err.Code)),
			otlp.Text(attrError, "EDE "+strconv.Itoa(int(r.err.Code))))
		return s
	}
	s.Attrs = append(s.Attrs, otlp.Text(attrRcode, r.rcode.String()), otlp.Text(attrTrust, r.trust), otlp.Int(attrQueries, int64(r.queries)))
	return s
}

// querySpan is the exchange that e tells of, which ended at a time.
func querySpan(e *resolver.Event, end time.Time) otlp.Span {
	s := otlp.Span{Name: "query " + familiar(e.Type), Kind: otlp.Client, Begun: end.Add(-e.RTT), End: end}
	transport := "udp"
	if e.TCP || e.TLS {
		transport = "tcp"
	}
	s.Attrs = append(s.Attrs, otlp.Text(attrName, e.Name.String()), otlp.Text(attrType, e.Type.String()),
		otlp.Text(attrServer, e.Addr.Addr().String()), otlp.Int(attrPort, int64(e.Addr.Port())), otlp.Text(attrTransport, transport),
		otlp.Int(attrDepth, int64(e.Depth)))
	if e.TLS {
		s.Attrs = append(s.Attrs, otlp.Bool(attrTLS, true))
	}
	if !e.Answered {
		s.Failed, s.Why = true, e.Err.Error()
		s.Attrs = append(s.Attrs, otlp.Text(attrError, kindOf(e.Err)))
		return s
	}
	s.Attrs = append(s.Attrs, otlp.Text(attrRcode, e.Rcode.String()), otlp.Int(attrOctets, int64(e.Octets)))
	if e.Rcode != wire.NoError && e.Rcode != wire.NXDomain {
		s.Failed = true
		s.Attrs = append(s.Attrs, otlp.Text(attrError, e.Rcode.String()))
	}
	return s
}

// familiar returns t if it is one of those that names of spans may have: there are
// to be few (OpenTelemetry specification, "Span"), and clients ask for any.
func familiar(t wire.Type) string {
	name := t.String()
	if strings.HasPrefix(name, "TYPE") {
		return "another type"
	}
	return name
}

// kindOf returns what sort of error err is: one of few.
func kindOf(err error) string {
	switch {
	case errors.Is(err, exchange.ErrTimeout):
		return "timeout"
	case errors.Is(err, exchange.ErrMalformed):
		return "malformed"
	}
	return "network"
}

// proofSpan is what e tells was verified.
func proofSpan(e *resolver.Event, end time.Time) otlp.Span {
	s := otlp.Span{
		Name: "verify", Kind: otlp.Internal, Begun: end.Add(-e.Took), End: end,
		Attrs: []otlp.Attr{otlp.Text(attrZone, e.Zone), otlp.Int(attrDepth, int64(e.Depth))},
	}
	if e.Err != nil {
		s.Failed, s.Why = true, e.Err.Error()
		s.Attrs = append(s.Attrs, otlp.Text(attrError, "EDE "+strconv.Itoa(int(ede.Of(e.Err).Code))))
	}
	return s
}

// eventAttrs is what e says that takes no time.
func eventAttrs(e *resolver.Event) []otlp.Attr {
	list := []otlp.Attr{otlp.Int(attrDepth, int64(e.Depth))}
	if e.Question != "" {
		list = append(list, otlp.Text(attrName, e.Name.String()), otlp.Text(attrType, e.Type.String()))
	}
	if e.Zone != "" {
		list = append(list, otlp.Text(attrZone, e.Zone))
	}
	if e.Detail != "" {
		list = append(list, otlp.Text(attrDetail, e.Detail))
	}
	return list
}
