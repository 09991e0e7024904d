package announce

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// prober asks questions.
type prober struct {
	exchange Exchange
	timeout  time.Duration
}

// ask asks for the address of name, and returns the code of the response and how
// many records it has.
func (p *prober) ask(ctx context.Context, to Target, name string) (rcode, records int, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	query, err := q.Pack()
	if err != nil {
		return 0, 0, err
	}
	b, err := p.exchange(ctx, to, query)
	if err != nil {
		return 0, 0, err
	}
	var r dns.Msg
	if err := r.Unpack(b); err != nil {
		return 0, 0, fmt.Errorf("response: %w", err)
	}
	if r.Id != q.Id || !r.Response || len(r.Question) != 1 || r.Question[0] != q.Question[0] {
		return 0, 0, errors.New("a response to another question")
	}
	return r.Rcode, len(r.Answer), nil
}

// answered reports whether to has an address for name.
func (p *prober) answered(ctx context.Context, to Target, name string) error {
	rcode, records, err := p.ask(ctx, to, name)
	switch {
	case err != nil:
		return err
	case rcode != dns.RcodeSuccess:
		return fmt.Errorf("%s for %s", dns.RcodeToString[rcode], name)
	case records == 0:
		return fmt.Errorf("no record for %s", name)
	}
	return nil
}

// resolved reports whether to could find out about name, which need not exist.
func (p *prober) resolved(ctx context.Context, to Target, name string) bool {
	rcode, _, err := p.ask(ctx, to, name)
	return err == nil && (rcode == dns.RcodeSuccess || rcode == dns.RcodeNameError)
}

// canaries reports whether to could find out about enough of names.
func (p *prober) canaries(ctx context.Context, to Target, names []string, needed int) bool {
	good := make(chan bool, len(names))
	for _, name := range names {
		go func() { good <- p.resolved(ctx, to, name) }() // ends with timeout; awaited below
	}
	n := 0
	for range names {
		if <-good {
			n++
		}
	}
	return n >= needed
}

// findings is what one round brought to light.
type findings struct {
	targets  [][]error // by address and target
	canaries []bool    // by address
	members  []bool
	ready    Readiness
	readyErr error
}

// round asks everything once, and takes it into account unless ctx has ended.
func (a *Announcer) round(ctx context.Context) {
	f := a.askAll(ctx)
	if ctx.Err() == nil {
		a.learn(f)
	}
}

// askAll asks everything at the same time; that takes a timeout at most.
func (a *Announcer) askAll(ctx context.Context) *findings {
	p := &a.opt.Probes
	f := &findings{
		targets: make([][]error, len(a.vips)), canaries: make([]bool, len(a.vips)), members: make([]bool, len(a.members)),
	}
	// Owner: askAll. End: with the timeout. Bound: one for each address and transport,
	// for each address's canaries, and each member.
	var wg sync.WaitGroup
	for i, v := range a.vips {
		f.targets[i] = make([]error, len(v.conf.Targets))
		for j, to := range v.conf.Targets {
			wg.Go(func() { f.targets[i][j] = a.probe.answered(ctx, to, p.Name) })
		}
		if len(p.Canaries) > 0 {
			wg.Go(func() { f.canaries[i] = a.probe.canaries(ctx, v.conf.Targets[0], p.Canaries, p.Needed) })
		}
	}
	for i, m := range a.members {
		wg.Go(func() { f.members[i] = a.askMember(ctx, m) })
	}
	if a.opt.Ready != nil {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, p.Timeout)
			defer cancel()
			f.ready, f.readyErr = a.opt.Ready(ctx)
		})
	}
	wg.Wait()
	return f
}

// askMember reports whether a member of the fleet does what is asked of the
// resolver here.
func (a *Announcer) askMember(ctx context.Context, m *member) bool {
	p, name := &a.opt.Probes, a.opt.Fleet.Name
	if name == "" {
		name = p.Name
	}
	if a.probe.answered(ctx, m.target, name) != nil {
		return false
	}
	return len(p.Canaries) == 0 || a.probe.canaries(ctx, m.target, p.Canaries, p.Needed)
}

// learn takes findings into account.
func (a *Announcer) learn(f *findings) {
	rise, fall := a.opt.Probes.Rise, a.opt.Probes.Fall
	for i, v := range a.vips {
		for j := range v.transports {
			a.learnTransport(v, j, f.targets[i][j])
		}
		v.canaries.saw(f.canaries[i], rise, fall)
	}
	for i, m := range a.members {
		m.last = f.members[i]
		m.check.saw(m.last, rise, fall)
	}
	if a.opt.Ready == nil {
		return
	}
	a.last = f.ready
	// One that drains goes at once, whatever was counted, and has to show anew that
	// it is there: what comes next is most often its end.
	if a.last.leaving() {
		a.ready = check{}
		return
	}
	a.ready.saw(f.readyErr == nil && f.ready.Ready, rise, fall)
}

func (a *Announcer) learnTransport(v *vip, j int, err error) {
	c, s := &v.transports[j], &v.probes[j]
	before := c.condition
	c.saw(err == nil, a.opt.Probes.Rise, a.opt.Probes.Fall)
	if err != nil {
		s.Failures++
	} else {
		s.Successes++
	}
	if before != c.condition && c.condition == down {
		a.opt.Log.Warn("an address is not answered on", "address", v.conf.Addr, "transport", v.conf.Targets[j].Transport, "err", err)
	}
}

// disabled reports whether the operator wants nothing announced. Whatever cannot
// be looked at is not there: a mistake in a path takes no address away.
func (a *Announcer) disabled() bool {
	if a.opt.Drain.DisableFile == "" {
		return false
	}
	_, err := os.Stat(a.opt.Drain.DisableFile)
	return err == nil
}
