package verify

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// identityChecks are about who the server says it is.
func identityChecks() []check {
	return []check{
		{name: "version", shows: "the version is the one that is being rolled out (version.bind)", missing: expects("version", func(e *Expect) string { return e.Version }), run: version},
		{name: "id", shows: "the server says who it is (id.server)", missing: expects("id", func(e *Expect) string { return e.ID }), run: id},
		{name: "nsid", shows: "and with each answer to who asks (NSID)", missing: both(needs("good", good), expects("nsid", func(e *Expect) string { return e.NSID })), run: nsid},
	}
}

// expects says that the profile does not say what is expected.
func expects(what string, value func(*Expect) string) func(*Options) string {
	return func(o *Options) string {
		if value(&o.Expect) == "" {
			return "the profile does not say what " + what + " to expect"
		}
		return ""
	}
}

// chaos returns the text that the server has for a name of the class CHAOS.
func (p *probe) chaos(ctx context.Context, name string) (string, error) {
	m := query(Question{name, dns.TypeTXT})
	m.Question[0].Qclass = dns.ClassCHAOS
	r, err := p.want(ctx, m, dns.RcodeSuccess)
	if err != nil {
		return "", err
	}
	for _, rr := range r.Answer {
		if txt, ok := rr.(*dns.TXT); ok {
			return strings.Join(txt.Txt, ""), nil
		}
	}
	return "", fmt.Errorf("found nothing at %s; expected a text", name)
}

func version(ctx context.Context, p *probe) (string, error) {
	got, err := p.chaos(ctx, "version.bind.")
	switch {
	case err != nil:
		return "", err
	case got != p.Expect.Version:
		return "", fmt.Errorf("found %q; expected %q", got, p.Expect.Version)
	}
	return got, nil
}

func id(ctx context.Context, p *probe) (string, error) {
	got, err := p.chaos(ctx, "id.server.")
	if err != nil {
		return "", err
	}
	return got, matches(got, p.Expect.ID)
}

// matches returns an error if text is not like a pattern.
func matches(text, pattern string) error {
	ok, err := regexp.MatchString("^(?:"+pattern+")$", text)
	switch {
	case err != nil:
		return fmt.Errorf("the profile: %w", err)
	case !ok:
		return fmt.Errorf("found %q; expected it to match %s", text, pattern)
	}
	return nil
}

// nsidOf returns what the server calls itself, in text.
func (p *probe) nsidOf(ctx context.Context) (string, error) {
	m := query(p.Questions.Good)
	m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_NSID{Code: dns.EDNS0NSID})
	r, err := p.ask(ctx, p.way("UDP"), m)
	if err != nil {
		return "", err
	}
	o, ok := option[*dns.EDNS0_NSID](r.Msg)
	if !ok {
		return "", errors.New("found no NSID; expected one")
	}
	text, err := hex.DecodeString(o.Nsid)
	return string(text), err
}

func nsid(ctx context.Context, p *probe) (string, error) {
	got, err := p.nsidOf(ctx)
	if err != nil {
		return "", err
	}
	return got, matches(got, p.Expect.NSID)
}

// discoveryChecks are about what the server says that it does.
func discoveryChecks() []check {
	return []check{
		{name: "ddr", shows: "the encrypted transports are designated (RFC 9462)", missing: expectsAny("ddr", func(e *Expect) []string { return e.DDR }), run: ddr},
		{name: "ddr-verified", shows: "each of them answers, with a certificate for the address that was asked", missing: both(needs("good", good), expectsAny("ddr", func(e *Expect) []string { return e.DDR })), run: ddrVerified},
		{name: "resolver-arpa", shows: "nothing else is in resolver.arpa, and nobody is asked for it", run: resolverArpa},
		{name: "resinfo", shows: "the server says what it does (RFC 9606)", missing: expectsAny("resinfo", func(e *Expect) []string { return e.RESINFO }), run: resinfo},
		{name: "hb46pp", shows: "customers' routers are told where IPv4 comes from (HB46PP)", missing: expects("hb46pp", func(e *Expect) string { return e.HB46PP }), run: hb46pp},
	}
}

// expectsAny is expects of a list.
func expectsAny(what string, value func(*Expect) []string) func(*Options) string {
	return expects(what, func(e *Expect) string { return strings.Join(value(e), " ") })
}

// designation is one encrypted transport that DDR names.
type designation struct {
	alpn string
	port uint16
	path string
}

// ways by which designated transports are asked, by ALPN identifier.
var designated = map[string]string{"dot": "DoT", "h2": "DoH by HTTP/2 POST", "h3": "DoH3 by POST", "doq": "DoQ"}

// designations asks for what DDR names.
func (p *probe) designations(ctx context.Context) (list []designation, err error) {
	r, err := p.want(ctx, query(Question{"_dns.resolver.arpa.", dns.TypeSVCB}), dns.RcodeSuccess)
	if err != nil {
		return nil, err
	}
	for _, rr := range r.Answer {
		svcb, ok := rr.(*dns.SVCB)
		if !ok || svcb.Priority == 0 {
			continue
		}
		list = append(list, offered(svcb)...)
	}
	if len(list) == 0 {
		return nil, errors.New("found no designation; expected some")
	}
	return list, nil
}

// offered returns the transports of one record.
func offered(svcb *dns.SVCB) (list []designation) {
	var d designation
	var alpns []string
	for _, v := range svcb.Value {
		switch v := v.(type) {
		case *dns.SVCBAlpn:
			alpns = v.Alpn
		case *dns.SVCBPort:
			d.port = v.Port
		case *dns.SVCBDoHPath:
			d.path, _, _ = strings.Cut(v.Template, "{")
		}
	}
	for _, d.alpn = range alpns {
		at := d
		if at.port == 0 {
			at.port = map[string]uint16{"dot": 853, "doq": 853, "h2": 443, "h3": 443}[at.alpn]
		}
		list = append(list, at)
	}
	return list
}

func ddr(ctx context.Context, p *probe) (string, error) {
	list, err := p.designations(ctx)
	if err != nil {
		return "", err
	}
	var found []string
	for _, d := range list {
		found = append(found, d.alpn)
	}
	for _, want := range p.Expect.DDR {
		if !slices.Contains(found, want) {
			return "", fmt.Errorf("found %v; expected %s among them", found, want)
		}
	}
	return strings.Join(found, " "), nil
}

// ddrVerified does as RFC 9462 §4.2 has clients do that know the address only.
func ddrVerified(ctx context.Context, p *probe) (string, error) {
	list, err := p.designations(ctx)
	if err != nil {
		return "", err
	}
	byAddress := p.at(p.target)
	byAddress.tls.ServerName = p.target.WithZone("").String()
	n := 0
	for _, d := range list {
		way, known := designated[d.alpn]
		if !known {
			continue // RFC 9460 §7.1.2: what clients do not know they leave out
		}
		w := p.way(way)
		w.Path = d.path
		ports := *byAddress.Options
		ports.Ports = Ports{p.Ports.DNS, d.port, d.port}
		there := &probe{&ports, p.target, byAddress.tls}
		r, err := there.ask(ctx, w, query(p.Questions.Good))
		if err == nil {
			err = wantAnswer(r)
		}
		if err != nil {
			return "", fmt.Errorf("%s at port %d: %w", d.alpn, d.port, err)
		}
		n++
	}
	return fmt.Sprintf("%d transports", n), nil
}

func resolverArpa(ctx context.Context, p *probe) (string, error) {
	r, err := p.want(ctx, query(Question{randomLabel + ".resolver.arpa.", dns.TypeA}), dns.RcodeSuccess)
	switch {
	case err != nil:
		return "", err
	case len(r.Answer) > 0:
		return "", fmt.Errorf("found %d records; expected none", len(r.Answer))
	}
	return "no records", wantDenial(r)
}

func resinfo(ctx context.Context, p *probe) (string, error) {
	r, err := p.want(ctx, query(Question{"resolver.arpa.", dns.TypeRESINFO}), dns.RcodeSuccess)
	if err != nil {
		return "", err
	}
	var found []string
	for _, rr := range r.Answer {
		if i, ok := rr.(*dns.RESINFO); ok {
			found = append(found, i.Txt...)
		}
	}
	for _, want := range p.Expect.RESINFO {
		if !slices.ContainsFunc(found, func(s string) bool { return s == want || strings.HasPrefix(s, want+"=") }) {
			return "", fmt.Errorf("found %q; expected %s among them", found, want)
		}
	}
	return strings.Join(found, " "), nil
}

// hb46pp wants exactly one record (HB46PP 1.1 §3.1): with two, or none, routers take
// customers' IPv4 away.
func hb46pp(ctx context.Context, p *probe) (string, error) {
	r, err := p.want(ctx, query(Question{"4over6.info.", dns.TypeTXT}), dns.RcodeSuccess)
	if err != nil {
		return "", err
	}
	var found []string
	for _, rr := range r.Answer {
		if txt, ok := rr.(*dns.TXT); ok {
			found = append(found, strings.Join(txt.Txt, ""))
		}
	}
	if len(found) != 1 || found[0] != p.Expect.HB46PP {
		return "", fmt.Errorf("found %q; expected %q alone", found, p.Expect.HB46PP)
	}
	return found[0], nil
}
