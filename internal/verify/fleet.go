package verify

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"shirube/dnstap/collector"
)

// The bounds of what the fleet is waited for.
const (
	ageWait     = 2200 * time.Millisecond // until an answer looks older by a second at least
	settleWait  = 5 * time.Second         // until what was told to one server is so at all
	settlePause = 100 * time.Millisecond
	tapWait     = 15 * time.Second // until a collector has what servers tell it
	maxStatus   = 8 << 20          // octets of a collector's status that are read
	maxFlushSay = 1 << 10          // octets of what a command says that are shown
)

// tick is by how much two answers that end at one time may seem to differ: TTLs are
// whole seconds. It is less than [ageWait] by more than one.
const tick = 1100 * time.Millisecond

// clientQuery is what collectors call the queries of clients.
const clientQuery = "CLIENT_QUERY"

// fleetChecks are about what several servers have in common.
func fleetChecks() []check {
	return []check{
		{name: "same-version", fleet: true, shows: "all instances run one version", missing: several, run: sameVersion},
		{name: "distinct-nsid", fleet: true, shows: "instances can be told apart by their NSID", missing: both(several, needs("good", good)), run: distinctNSID},
		{name: "same-answer", fleet: true, shows: "all instances give one answer", missing: both(several, needs("good", good)), run: sameAnswer},
		{name: "shared-cookie", fleet: true, shows: "a cookie of one instance is taken by the others (RFC 9018)", missing: both(several, needs("good", good)), run: sharedCookie},
		{name: "shared-ticket", fleet: true, shows: "a TLS session of one instance goes on at the others", missing: both(several, needs("good", good), asked("dot"), name), run: sharedTicket},
		{name: "shared-cache", fleet: true, shows: "what one instance has resolved another has from the shared cache", missing: both(several, needs("fresh", fresh)), run: sharedCache},
		{name: "flush", fleet: true, shows: "what is flushed is forgotten by all", missing: both(several, needs("fresh", fresh), flushes), run: flush},
		{name: "dnstap", fleet: true, shows: "what instances are asked arrives at the collector", missing: both(needs("good", good), taps), run: tap},
	}
}

func several(o *Options) string {
	if len(o.Instances) < 2 {
		return "it takes two instances at least"
	}
	return ""
}

func name(o *Options) string {
	if o.ServerName == "" {
		return "the profile has no server name, by which sessions are known at all instances"
	}
	return ""
}

func flushes(o *Options) string {
	if len(o.Flush) == 0 {
		return "the profile has no command that flushes"
	}
	return ""
}

func taps(o *Options) string {
	if o.Dnstap == (Dnstap{}) {
		return "the profile does not say where dnstap can be seen"
	}
	return ""
}

// each returns what f says of each instance.
func (p *probe) each(f func(*probe) (string, error)) ([]string, error) {
	var list []string
	for _, at := range p.Instances {
		text, err := f(p.at(at))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", at, err)
		}
		list = append(list, text)
	}
	return list, nil
}

func sameVersion(ctx context.Context, p *probe) (string, error) {
	list, err := p.each(func(p *probe) (string, error) { return p.chaos(ctx, "version.bind.") })
	return same(list, err)
}

// same returns the text that all of a list are.
func same(list []string, err error) (string, error) {
	switch {
	case err != nil:
		return "", err
	case len(slices.Compact(slices.Sorted(slices.Values(list)))) > 1:
		return "", fmt.Errorf("found %q; expected one", list)
	}
	return list[0], nil
}

func distinctNSID(ctx context.Context, p *probe) (string, error) {
	list, err := p.each(func(p *probe) (string, error) { return p.nsidOf(ctx) })
	switch {
	case err != nil:
		return "", err
	case len(slices.Compact(slices.Sorted(slices.Values(list)))) < len(list):
		return "", fmt.Errorf("found %q; expected each to be another", list)
	}
	return strings.Join(list, " "), nil
}

func sameAnswer(ctx context.Context, p *probe) (string, error) {
	list, err := p.each(func(p *probe) (string, error) {
		r, err := p.want(ctx, query(p.Questions.Good), dns.RcodeSuccess)
		if err != nil {
			return "", err
		}
		var lines []string
		for _, rr := range r.Answer {
			rr.Header().Ttl = 0
			lines = append(lines, rr.String())
		}
		slices.Sort(lines)
		return strings.Join(lines, "\n"), nil
	})
	if _, err := same(list, err); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d instances", len(list)), nil
}

// sharedCookie takes the cookie of the first instance to the others. Who takes it
// gives the same one back, while it is new (RFC 9018 §4.3).
func sharedCookie(ctx context.Context, p *probe) (string, error) {
	_, first, err := p.at(p.Instances[0]).withCookie(ctx, newCookie())
	if err != nil {
		return "", fmt.Errorf("%s: %w", p.Instances[0], err)
	}
	for _, at := range p.Instances[1:] {
		r, again, err := p.at(at).withCookie(ctx, first)
		switch {
		case err != nil:
			return "", fmt.Errorf("%s: %w", at, err)
		case r.Rcode != dns.RcodeSuccess || again != first:
			return "", fmt.Errorf("%s: found %s and the cookie %s for that of %s; expected it to be taken", at, rcode(r.Msg), again, p.Instances[0])
		}
	}
	return "taken by all", nil
}

func sharedTicket(ctx context.Context, p *probe) (string, error) {
	first := p.at(p.Instances[0])
	for _, at := range p.Instances[1:] {
		resumed, err := first.resumes(ctx, p.at(at))
		switch {
		case err != nil:
			return "", fmt.Errorf("%s: %w", at, err)
		case !resumed:
			return "", fmt.Errorf("%s: found a new session; expected that of %s to go on", at, p.Instances[0])
		}
	}
	return "resumed by all", nil
}

// ends returns until when the answer to a question at an instance is good, by what
// it says.
func (p *probe) ends(ctx context.Context, q Question) (time.Time, uint32, error) {
	r, err := p.want(ctx, query(q), dns.RcodeSuccess)
	if err == nil {
		err = wantAnswer(r)
	}
	if err != nil {
		return time.Time{}, 0, fmt.Errorf("%s: %w", p.target, err)
	}
	ttl := r.Answer[0].Header().Ttl
	return time.Now().Add(time.Duration(ttl) * time.Second), ttl, nil
}

// aged asks the first instance for a name that nobody knows, and the second one for
// the same when it has aged: one that has it from the first knows its age, and one
// that resolves it anew does not. It returns when the two say that it ends.
func (p *probe) aged(ctx context.Context) (q Question, first, second time.Time, err error) {
	q = p.Questions.Fresh.fill()
	first, ttl, err := p.at(p.Instances[0]).ends(ctx, q)
	switch {
	case err != nil:
		return q, first, second, err
	case ttl < minFreshTTL:
		return q, first, second, fmt.Errorf("the profile's question fresh is answered with a TTL of %d; expected %d at least", ttl, minFreshTTL)
	}
	select {
	case <-time.After(ageWait):
	case <-ctx.Done():
		return q, first, second, ctx.Err()
	}
	second, _, err = p.at(p.Instances[1]).ends(ctx, q)
	return q, first, second, err
}

// minFreshTTL is the TTL, in seconds, that lasts for as long as answers are watched.
const minFreshTTL = 10

func sharedCache(ctx context.Context, p *probe) (string, error) {
	_, first, second, err := p.aged(ctx)
	switch later := second.Sub(first); {
	case err != nil:
		return "", err
	case later > tick:
		return "", fmt.Errorf("found an answer at %s that is good for %s longer than that of %s; expected the same one, from a cache that they share",
			p.Instances[1], later.Round(time.Second), p.Instances[0])
	}
	return "the same, as old", nil
}

// flush has an answer aged at both instances, flushes it, and wants it new at each.
func flush(ctx context.Context, p *probe) (string, error) {
	q, first, second, err := p.aged(ctx)
	if err != nil {
		return "", err
	}
	if err := p.flush(ctx, q.Name); err != nil {
		return "", err
	}
	until := time.Now().Add(settleWait)
	for i, before := range []time.Time{first, second} {
		if err := p.at(p.Instances[i]).renewed(ctx, q, before, until); err != nil {
			return "", err
		}
	}
	return "forgotten by all", nil
}

// renewed waits for an answer that is good for longer than one of before.
func (p *probe) renewed(ctx context.Context, q Question, before, until time.Time) error {
	for {
		end, _, err := p.ends(ctx, q)
		switch {
		case err != nil:
			return err
		case end.Sub(before) > tick:
			return nil
		case time.Now().After(until):
			return fmt.Errorf("found the answer from before the flush at %s, %s after it; expected it to be resolved anew", p.target, settleWait)
		}
		time.Sleep(settlePause)
	}
}

// flush runs the command of the profile.
func (p *probe) flush(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, p.QuestionTimeout+settleWait)
	defer cancel()
	var argv []string
	for _, word := range p.Flush {
		argv = append(argv, strings.ReplaceAll(word, "{name}", name))
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, strings.TrimSpace(string(out[:min(len(out), maxFlushSay)])))
	}
	return nil
}

// tap asks an instance for a name that nobody asks for, and wants to hear of it.
func tap(ctx context.Context, p *probe) (string, error) {
	if p.Dnstap.Listen != "" {
		return p.tapHeard(ctx)
	}
	return p.tapCounted(ctx)
}

// tapHeard is a collector itself, for a while.
func (p *probe) tapHeard(ctx context.Context) (string, error) {
	network, at := "tcp", p.Dnstap.Listen
	if path, ok := strings.CutPrefix(at, "unix:"); ok {
		network, at = "unix", path
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, network, at)
	if err != nil {
		return "", err
	}
	q := Question{randomLabel + ".localhost.", dns.TypeA}.fill() // answered by every resolver itself
	seen := &lookout{name: q.Name, seen: make(chan struct{})}
	c := collector.New(collector.Options{Format: collector.Quiet, Output: seen})
	ctx, cancel := context.WithTimeout(ctx, tapWait)
	var running sync.WaitGroup
	// Owner: tapHeard. End: cancel. Bound: one.
	running.Go(func() { _ = c.Serve(ctx, ln, nil) }) // that it ends is what it is told
	defer func() { cancel(); c.Close(); running.Wait() }()
	for {
		if _, err := p.ask(ctx, p.way("UDP"), query(q)); err != nil {
			return "", err
		}
		select {
		case <-seen.seen:
			return "heard", nil
		case <-ctx.Done():
			return "", fmt.Errorf("nothing of %s came to %s within %s; expected to hear of it", q.Name, p.Dnstap.Listen, tapWait)
		case <-time.After(settlePause * 5): // its sender may only be coming
		}
	}
}

// lookout waits for a name in what is written.
type lookout struct {
	name string
	once sync.Once
	seen chan struct{} // closed when it was there
}

// Write implements [io.Writer].
func (l *lookout) Write(b []byte) (int, error) {
	if strings.Contains(strings.ToLower(string(b)), strings.TrimSuffix(l.name, ".")) {
		l.once.Do(func() { close(l.seen) })
	}
	return len(b), nil
}

// tapCounted looks at what a collector has counted.
func (p *probe) tapCounted(ctx context.Context) (string, error) {
	before, err := p.tapFrames(ctx)
	if err != nil {
		return "", err
	}
	for until := time.Now().Add(tapWait); time.Now().Before(until); time.Sleep(settlePause) {
		if _, err := p.want(ctx, query(p.Questions.Good), dns.RcodeSuccess); err != nil {
			return "", err
		}
		after, err := p.tapFrames(ctx)
		if err != nil {
			return "", err
		}
		if after > before {
			return fmt.Sprintf("%d queries", after), nil
		}
	}
	return "", fmt.Errorf("found %d queries at %s, and no more; expected ours", before, p.Dnstap.Status)
}

// tapFrames returns how many queries of clients a collector has heard of.
func (p *probe) tapFrames(ctx context.Context) (n uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, p.QuestionTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Dnstap.Status, nil)
	if err != nil {
		return 0, err
	}
	if p.Dnstap.TokenFile != "" {
		token, err := os.ReadFile(p.Dnstap.TokenFile)
		if err != nil {
			return 0, fmt.Errorf("token: %w", err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }() // it was read
	var s collector.Stats
	if resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("%s: %s", p.Dnstap.Status, resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxStatus)).Decode(&s); err != nil {
		return 0, fmt.Errorf("%s: %w", p.Dnstap.Status, err)
	}
	for _, c := range s.Counts {
		if c.Type == clientQuery {
			n += c.Frames
		}
	}
	return n, nil
}

// latencyChecks measure.
func latencyChecks() []check {
	return []check{{
		name: "latency", shows: "known answers come fast, the slow ones too",
		missing: both(needs("good", good), func(o *Options) string {
			if o.Latency.Samples == 0 {
				return "the profile measures no latency"
			}
			return ""
		}),
		run: latency,
	}}
}

// latency asks one question after the other on one socket.
func latency(ctx context.Context, p *probe) (string, error) {
	if _, err := p.want(ctx, query(p.Questions.Good), dns.RcodeSuccess); err != nil {
		return "", err // and it is known from now on
	}
	var took []time.Duration
	lost := 0
	for range p.Latency.Samples {
		r, err := p.try(ctx, p.way("UDP"), query(p.Questions.Good))
		if ctx.Err() != nil {
			return "", fmt.Errorf("%d of %d questions were asked: %w", len(took), p.Latency.Samples, ctx.Err())
		}
		if err != nil {
			lost++
			took = append(took, p.QuestionTimeout)
			continue
		}
		took = append(took, r.took)
	}
	slices.Sort(took)
	median, worst := took[len(took)/2], took[(len(took)*99-1)/100]
	text := fmt.Sprintf("median %s, 99 of 100 within %s, %d lost", median.Round(time.Microsecond), worst.Round(time.Microsecond), lost)
	if median > p.Latency.Median || worst > p.Latency.Worst {
		return "", fmt.Errorf("found %s; expected %s and %s", text, p.Latency.Median, p.Latency.Worst)
	}
	return text, nil
}
