package verify

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/dns"
)

// ednsChecks are about EDNS (RFC 6891) and its options.
func ednsChecks() []check {
	return []check{
		{name: "edns", shows: "EDNS is answered with EDNS, and what has none without", missing: needs("good", good), run: edns},
		{name: "edns-version", shows: "a later version of EDNS is BADVERS", missing: needs("good", good), run: ednsVersion},
		{name: "keepalive", shows: "clients over TCP are told how long to stay (RFC 7828)", missing: both(needs("good", good), asked("tcp")), run: keepalive},
		{name: "padding", shows: "encrypted responses are padded for who pads (RFC 8467)", missing: both(needs("good", good), asked("dot"), pads), run: padding},
		{name: "no-padding", shows: "those over UDP are not (RFC 7830)", missing: needs("good", good), run: noPadding},
	}
}

func edns(ctx context.Context, p *probe) (string, error) {
	m := query(p.Questions.Good)
	with, err := p.ask(ctx, p.way("UDP"), m)
	if err != nil {
		return "", err
	}
	opt := with.IsEdns0()
	if opt == nil || opt.Version() != 0 || opt.UDPSize() < dns.MinMsgSize {
		return "", fmt.Errorf("found %v; expected EDNS of version 0 and %d octets or more", opt, dns.MinMsgSize)
	}
	m.Extra = nil
	without, err := p.ask(ctx, p.way("UDP"), m)
	switch {
	case err != nil:
		return "", err
	case without.IsEdns0() != nil:
		return "", errors.New("found EDNS; expected none for a question without")
	}
	return fmt.Sprintf("takes %d octets", opt.UDPSize()), nil
}

func ednsVersion(ctx context.Context, p *probe) (string, error) {
	m := query(p.Questions.Good)
	m.IsEdns0().SetVersion(1)
	r, err := p.ask(ctx, p.way("UDP"), m)
	if err != nil {
		return "", err
	}
	if err := wantCode(r, dns.RcodeBadVers); err != nil {
		return "", err
	}
	if opt := r.IsEdns0(); opt == nil || opt.Version() != 0 {
		return "", fmt.Errorf("found %v; expected the version that there is", opt)
	}
	return "BADVERS", nil
}

func keepalive(ctx context.Context, p *probe) (string, error) {
	m := query(p.Questions.Good)
	m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_TCP_KEEPALIVE{Code: dns.EDNS0TCPKEEPALIVE})
	r, err := p.ask(ctx, p.way("TCP"), m)
	if err != nil {
		return "", err
	}
	o, ok := option[*dns.EDNS0_TCP_KEEPALIVE](r.Msg)
	if !ok || o.Timeout == 0 {
		return "", errors.New("found no edns-tcp-keepalive of more than 0; expected one")
	}
	return fmt.Sprintf("%d ms", int(o.Timeout)*100), nil // RFC 7828 §3.1: units of 100 ms
}

// padded returns the good question with padding.
func padded(p *probe) *dns.Msg {
	m := query(p.Questions.Good)
	m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_PADDING{Padding: make([]byte, 16)})
	return m
}

func pads(o *Options) string {
	if o.Expect.Padding == 0 {
		return "the profile expects no padding"
	}
	return ""
}

func padding(ctx context.Context, p *probe) (string, error) {
	r, err := p.ask(ctx, p.way("DoT"), padded(p))
	if err != nil {
		return "", err
	}
	if _, ok := option[*dns.EDNS0_PADDING](r.Msg); !ok || r.octets%p.Expect.Padding != 0 {
		return "", fmt.Errorf("found padding %v and %d octets; expected it, and a multiple of %d", ok, r.octets, p.Expect.Padding)
	}
	return fmt.Sprintf("%d octets", r.octets), nil
}

func noPadding(ctx context.Context, p *probe) (string, error) {
	r, err := p.ask(ctx, p.way("UDP"), padded(p))
	if err != nil {
		return "", err
	}
	if _, ok := option[*dns.EDNS0_PADDING](r.Msg); ok {
		return "", errors.New("found padding; expected none, for everybody can read it and it amplifies")
	}
	return fmt.Sprintf("%d octets", r.octets), nil
}

// The lengths of cookies in hexadecimal digits (RFC 7873 §4, RFC 9018 §4).
const (
	clientCookie = 16
	wholeCookie  = clientCookie + 32
)

// cookieChecks are about cookies (RFC 7873, RFC 9018).
func cookieChecks() []check {
	return []check{
		{name: "cookie", shows: "who has a cookie gets the server's", missing: needs("good", good), run: cookie},
		{name: "cookie-forged", shows: "a cookie that the server did not make is not taken for one", missing: needs("good", good), run: cookieForged},
	}
}

// withCookie asks the good question with a cookie in hexadecimal digits, and
// returns the one that comes back.
func (p *probe) withCookie(ctx context.Context, c string) (*response, string, error) {
	m := query(p.Questions.Good)
	m.IsEdns0().Option = append(m.IsEdns0().Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: c})
	r, err := p.ask(ctx, p.way("UDP"), m)
	if err != nil {
		return nil, "", err
	}
	o, ok := option[*dns.EDNS0_COOKIE](r.Msg)
	switch {
	case !ok:
		return nil, "", errors.New("found no cookie; expected the server's")
	case len(o.Cookie) != wholeCookie || !strings.HasPrefix(o.Cookie, c[:clientCookie]):
		return nil, "", fmt.Errorf("found the cookie %q; expected %s and 32 digits", o.Cookie, c[:clientCookie])
	}
	return r, o.Cookie, nil
}

// newCookie returns a client's cookie.
func newCookie() string {
	return hex.EncodeToString([]byte(Question{Name: randomLabel}.fill().Name)[1:9])
}

func cookie(ctx context.Context, p *probe) (string, error) {
	_, first, err := p.withCookie(ctx, newCookie())
	if err != nil {
		return "", err
	}
	r, _, err := p.withCookie(ctx, first)
	if err != nil {
		return "", err
	}
	return "taken again", wantCode(r, dns.RcodeSuccess)
}

// cookieForged gives the server a cookie of its own that was changed. It says
// BADCOOKIE, or makes another one.
func cookieForged(ctx context.Context, p *probe) (string, error) {
	_, first, err := p.withCookie(ctx, newCookie())
	if err != nil {
		return "", err
	}
	forged := first[:wholeCookie-8] + "00000000"
	r, again, err := p.withCookie(ctx, forged)
	switch {
	case err != nil:
		return "", err
	case again == forged:
		return "", errors.New("found the forged cookie to be taken; expected another one")
	}
	return rcode(r.Msg), nil
}
