package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// dnssecChecks hold the server to validating.
func dnssecChecks() []check {
	return []check{
		{name: "dnssec-good", shows: "what is signed is proven: AD, with signatures for who asks (DO)", missing: needs("good", good), run: dnssecGood},
		{name: "dnssec-ad", shows: "AD without signatures for who asks for no more (RFC 6840)", missing: needs("good", good), run: dnssecAD},
		{name: "dnssec-bogus", shows: "what is signed wrongly is SERVFAIL", missing: needs("bogus", bogus), run: dnssecBogus},
		{name: "dnssec-cd", shows: "and given to who checks itself (CD)", missing: needs("bogus", bogus), run: dnssecCD},
		{name: "dnssec-unsigned", shows: "what is not signed is answered, without AD", missing: needs("unsigned", unsigned), run: dnssecUnsigned},
		{name: "dnssec-denial", shows: "that a name does not exist is proven", missing: needs("denied", denied), run: dnssecDenial},
		{name: "ede", shows: "why something is bogus is said (RFC 8914)", missing: needs("bogus", bogus), run: ede},
	}
}

// secured returns a message that asks q with DO.
func secured(q Question) *dns.Msg {
	m := query(q)
	m.IsEdns0().SetDo()
	return m
}

func dnssecGood(ctx context.Context, p *probe) (string, error) {
	r, err := p.want(ctx, secured(p.Questions.Good), dns.RcodeSuccess)
	switch {
	case err != nil:
		return "", err
	case !r.AuthenticatedData || !has(r.Answer, dns.TypeRRSIG):
		return "", fmt.Errorf("found AD %v and signatures %v; expected both", r.AuthenticatedData, has(r.Answer, dns.TypeRRSIG))
	}
	return "AD", nil
}

func dnssecAD(ctx context.Context, p *probe) (string, error) {
	m := query(p.Questions.Good)
	m.AuthenticatedData = true // RFC 6840 §5.7
	r, err := p.want(ctx, m, dns.RcodeSuccess)
	switch {
	case err != nil:
		return "", err
	case !r.AuthenticatedData || has(r.Answer, dns.TypeRRSIG):
		return "", fmt.Errorf("found AD %v and signatures %v; expected AD alone", r.AuthenticatedData, has(r.Answer, dns.TypeRRSIG))
	}
	return "AD", nil
}

func dnssecBogus(ctx context.Context, p *probe) (string, error) {
	r, err := p.want(ctx, query(p.Questions.Bogus), dns.RcodeServerFailure)
	switch {
	case err != nil:
		return "", err
	case len(r.Answer) > 0:
		return "", fmt.Errorf("found %d records; expected none", len(r.Answer))
	}
	return "SERVFAIL", nil
}

func dnssecCD(ctx context.Context, p *probe) (string, error) {
	m := query(p.Questions.Bogus)
	m.CheckingDisabled = true
	r, err := p.want(ctx, m, dns.RcodeSuccess)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d records", len(r.Answer)), wantAnswer(r)
}

func dnssecUnsigned(ctx context.Context, p *probe) (string, error) {
	r, err := p.want(ctx, secured(p.Questions.Unsigned), dns.RcodeSuccess)
	if err == nil {
		err = wantAnswer(r)
	}
	switch {
	case err != nil:
		return "", err
	case r.AuthenticatedData:
		return "", errors.New("found AD; expected it not to be set")
	}
	return "no AD", nil
}

func dnssecDenial(ctx context.Context, p *probe) (string, error) {
	r, err := p.want(ctx, secured(p.Questions.Denied), dns.RcodeNameError)
	switch {
	case err != nil:
		return "", err
	case !r.AuthenticatedData || !has(r.Ns, dns.TypeNSEC) && !has(r.Ns, dns.TypeNSEC3):
		return "", fmt.Errorf("found AD %v and %d records of authority; expected AD, and NSEC or NSEC3", r.AuthenticatedData, len(r.Ns))
	}
	return "AD", nil
}

func ede(ctx context.Context, p *probe) (string, error) {
	r, err := p.want(ctx, query(p.Questions.Bogus), dns.RcodeServerFailure)
	if err != nil {
		return "", err
	}
	var found []string
	for _, e := range errorsOf(r.Msg) {
		word := fmt.Sprintf("%d %s", e.InfoCode, dns.ExtendedErrorCodeToString[e.InfoCode])
		if slices.Contains(p.Expect.EDE, e.InfoCode) {
			return word, nil
		}
		found = append(found, word)
	}
	return "", fmt.Errorf("found the errors %q; expected one of %v", strings.Join(found, ", "), p.Expect.EDE)
}
