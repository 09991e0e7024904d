// Package verify asks a resolver what its clients would, over every transport that
// they use, and judges the answers: the gate that a roll-out has to pass. It knows
// the server from outside only.
package verify

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// The bounds of a run.
const (
	MaxTargets   = 64     // addresses that are checked
	MaxInstances = 64     // servers of the fleet that are compared
	MaxSamples   = 10_000 // questions whose latency is measured, at each target
	parallel     = 4      // checks under way at once
	maxTries     = 3      // sends of one question over UDP
)

// Options says what to verify, and what is expected. The zero value of what is
// expected is: nothing.
type Options struct {
	Targets   []netip.Addr // what clients are told to ask: VIPs, mostly
	Instances []netip.Addr // single servers behind them, for what they have in common
	Ports     Ports
	DoHPath   string

	ServerName string         // that the certificates are for; "": the address that is asked
	Roots      *x509.CertPool // who signs them; nil: whom the system trusts

	Questions Questions
	Expect    Expect
	Latency   Latency
	Flush     []string // command that flushes {name} from the whole fleet; nil: there is none
	Dnstap    Dnstap

	Required []string // checks that fail if they cannot be made
	Optional []string // checks whose failure is told, and is none of the run
	Skip     []string // checks that are not made

	QuestionTimeout time.Duration // for one question, connecting included
	Timeout         time.Duration // for all
}

// Ports is where the transports are listened to.
type Ports struct{ DNS, TLS, HTTPS uint16 }

// Question is a name and a type. In Name, {random} stands for a label that nobody
// has asked for. The zero Question is not asked.
type Question struct {
	Name string
	Type uint16
}

// Questions are asked for what is known of their answers.
type Questions struct {
	Good     Question // answered, signed, and kept for a minute at least
	Bogus    Question // answered, and signed wrongly
	Unsigned Question // answered, and not signed
	Denied   Question // of a name that does not exist in a signed zone
	Empty    Question // of a type that a name does not have
	Big      Question // answered with more than a datagram takes
	Fresh    Question // with {random}: answered from a wildcard of a zone that is not signed, with a TTL of 10 s at least
	Health   Question // the name that load balancers ask for
}

// Expect is what the servers are expected to say.
type Expect struct {
	Version    string        // exactly, to version.bind
	NSID       string        // a regular expression
	ID         string        // a regular expression, to id.server
	EDE        []uint16      // one of which a bogus answer has
	DDR        []string      // ALPN identifiers that are designated
	RESINFO    []string      // strings of the record
	HB46PP     string        // the TXT record of 4over6.info
	Padding    int           // octets that encrypted responses are a multiple of
	Life       time.Duration // of certificates, at least
	UDPSize    int           // the largest response over UDP
	Transports []string      // of udp, tcp, dot, doh, doh3 and doq; what is not in it is not asked
}

// Latency is how fast known answers come over UDP.
type Latency struct {
	Samples       int           // 0: it is not measured
	Median, Worst time.Duration // the 50th and the 99th percentile, at most
}

// Dnstap is where what servers tell can be seen: Listen, at an address that they are
// told to send to, or Status, the URL of a collector's /status.json, with TokenFile,
// where the token is that it wants.
type Dnstap struct{ Listen, Status, TokenFile string }

// Outcome is what became of a check.
type Outcome string

// The outcomes.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Warned  Outcome = "warned"  // it failed, and is optional
	Skipped Outcome = "skipped" // there is not what it needs
)

// Result is what a check found at a target.
type Result struct {
	Check   string        `json:"check"`
	Target  string        `json:"target"` // an address, or "fleet"
	Outcome Outcome       `json:"outcome"`
	Detail  string        `json:"detail"` // what was found; of a failure, what was expected too
	Took    time.Duration `json:"took_ns"`
}

// Report is what a run found: by target, in the order of the checks.
type Report struct {
	Begun   time.Time     `json:"begun"`
	Took    time.Duration `json:"took_ns"`
	Version string        `json:"version"` // that was expected
	Results []Result      `json:"results"`
}

// Count returns how many results have an outcome.
func (r *Report) Count(o Outcome) (n int) {
	for i := range r.Results {
		if r.Results[i].Outcome == o {
			n++
		}
	}
	return n
}

// OK reports whether nothing failed, and something passed.
func (r *Report) OK() bool { return r.Count(Failed) == 0 && r.Count(Passed) > 0 }

// fleet is the target of checks that are about several servers.
const fleet = "fleet"

// check is one thing that is looked at.
type check struct {
	name  string
	shows string // for people
	fleet bool   // made once, among the instances

	// missing says what the check needs and o has not; "": nothing.
	missing func(o *Options) string
	// run returns what was found, or an error with what was expected.
	run func(ctx context.Context, p *probe) (string, error)
}

// Check is a check as people see it.
type Check struct {
	Name  string `json:"name"`
	Shows string `json:"shows"`
	Fleet bool   `json:"fleet"`
}

// Checks returns all that there are, in their order.
func Checks() []Check {
	var list []Check
	for _, c := range checks() {
		list = append(list, Check{c.name, c.shows, c.fleet})
	}
	return list
}

// checks are all there are, in the order of the report.
func checks() []check {
	return slices.Concat(transportChecks(), messageChecks(), dnssecChecks(), ednsChecks(), cookieChecks(), identityChecks(),
		discoveryChecks(), tlsChecks(), fleetChecks(), latencyChecks())
}

// Validate returns what is wrong with o.
func (o *Options) Validate() error {
	switch {
	case len(o.Targets) == 0:
		return errors.New("there is no target")
	case len(o.Targets) > MaxTargets:
		return fmt.Errorf("found %d targets; expected %d at most", len(o.Targets), MaxTargets)
	case len(o.Instances) > MaxInstances:
		return fmt.Errorf("found %d instances; expected %d at most", len(o.Instances), MaxInstances)
	case o.Latency.Samples > MaxSamples:
		return fmt.Errorf("found %d samples; expected %d at most", o.Latency.Samples, MaxSamples)
	case o.Timeout <= 0 || o.QuestionTimeout <= 0:
		return errors.New("there is no time")
	}
	var names []string
	for _, c := range checks() {
		names = append(names, c.name)
	}
	for _, name := range slices.Concat(o.Required, o.Optional, o.Skip) {
		if !slices.Contains(names, name) {
			return fmt.Errorf("there is no check %q", name)
		}
	}
	return nil
}

// Run makes all checks. It ends within o.Timeout: what has not ended by then has
// failed.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	r := &Report{Begun: time.Now(), Version: o.Expect.Version}
	for _, t := range o.Targets {
		r.Results = append(r.Results, o.checkAll(ctx, o.probe(t), false)...)
	}
	all := o.Targets
	if len(o.Instances) > 0 {
		all = o.Instances
	}
	r.Results = append(r.Results, o.checkAll(ctx, o.probe(all[0]), true)...)
	r.Took = time.Since(r.Begun)
	return r, nil
}

// checkAll makes the checks that are about one server, or those of the fleet.
func (o *Options) checkAll(ctx context.Context, p *probe, ofFleet bool) []Result {
	var list []check
	for _, c := range checks() {
		if c.fleet == ofFleet {
			list = append(list, c)
		}
	}
	results := make([]Result, len(list))
	slots := make(chan struct{}, parallel)
	if ofFleet { // they flush what others have asked for
		slots = make(chan struct{}, 1)
	}
	var running sync.WaitGroup
	for i := range list {
		slots <- struct{}{}
		// Owner: checkAll. End: when the check does, which ctx bounds. Bound: parallel;
		// the next waits.
		running.Go(func() {
			defer func() { <-slots }()
			results[i] = o.check(ctx, p, &list[i])
		})
	}
	running.Wait()
	return results
}

// check makes one check.
func (o *Options) check(ctx context.Context, p *probe, c *check) Result {
	r := Result{Check: c.name, Target: p.target.String(), Outcome: Skipped}
	if c.fleet {
		r.Target = fleet
	}
	if slices.Contains(o.Skip, c.name) {
		r.Detail = "the profile skips it"
		return r
	}
	if c.missing != nil {
		r.Detail = c.missing(o)
	}
	if r.Detail != "" {
		if slices.Contains(o.Required, c.name) {
			r.Outcome, r.Detail = Failed, "it is required, and "+r.Detail
		}
		return r
	}
	begun := time.Now()
	detail, err := c.run(ctx, p)
	r.Took = time.Since(begun)
	switch {
	case err == nil:
		r.Outcome, r.Detail = Passed, detail
	case slices.Contains(o.Optional, c.name):
		r.Outcome, r.Detail = Warned, err.Error()
	default:
		r.Outcome, r.Detail = Failed, err.Error()
	}
	return r
}

// probe asks one server.
type probe struct {
	*Options
	target netip.Addr
	tls    *tls.Config
}

// probe returns one for a target.
func (o *Options) probe(target netip.Addr) *probe {
	conf := &tls.Config{RootCAs: o.Roots, ServerName: o.ServerName, MinVersion: tls.VersionTLS12}
	if conf.ServerName == "" {
		conf.ServerName = target.WithZone("").String()
	}
	return &probe{Options: o, target: target, tls: conf}
}

// at returns p for another server.
func (p *probe) at(target netip.Addr) *probe { return p.probe(target) }

// needs says of a question that the profile does not have that it is missing.
func needs(what string, q func(*Options) Question) func(*Options) string {
	return func(o *Options) string {
		if q(o) == (Question{}) {
			return "the profile has no question " + what
		}
		return ""
	}
}

// named returns the questions of o by their names in the profile, for needs.
func good(o *Options) Question     { return o.Questions.Good }
func bogus(o *Options) Question    { return o.Questions.Bogus }
func unsigned(o *Options) Question { return o.Questions.Unsigned }
func denied(o *Options) Question   { return o.Questions.Denied }
func empty(o *Options) Question    { return o.Questions.Empty }
func big(o *Options) Question      { return o.Questions.Big }
func fresh(o *Options) Question    { return o.Questions.Fresh }

// both returns what the first of several finds missing.
func both(list ...func(*Options) string) func(*Options) string {
	return func(o *Options) string {
		for _, missing := range list {
			if text := missing(o); text != "" {
				return text
			}
		}
		return ""
	}
}

// rcode returns the code of m in words.
func rcode(m *dns.Msg) string { return dns.RcodeToString[m.Rcode] }
