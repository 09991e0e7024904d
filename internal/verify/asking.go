package verify

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/wire"
	"shirube/transport/clients"
)

// way returns a way of asking, by its name.
func (p *probe) way(name string) clients.Way {
	for _, w := range clients.Ways() {
		if w.Name == name {
			w.Path = p.DoHPath
			return w
		}
	}
	panic("verify: there is no way to ask by the name of " + name) // a name in this package is wrong
}

// port returns where a transport is.
func (p *probe) port(proto wire.Proto) netip.AddrPort {
	port := p.Ports.DNS
	switch proto {
	case wire.DoT, wire.DoQ:
		port = p.Ports.TLS
	case wire.DoH, wire.DoH3:
		port = p.Ports.HTTPS
	}
	return netip.AddrPortFrom(p.target, port)
}

// dial connects by a way.
func (p *probe) dial(ctx context.Context, w clients.Way) (clients.Asker, error) {
	return w.Dial(ctx, netip.Addr{}, p.port(w.Proto), p.tls)
}

// response is what came for a question.
type response struct {
	*dns.Msg
	octets int
	took   time.Duration
}

// ask asks m by a way, over UDP a second and a third time if nothing comes.
func (p *probe) ask(ctx context.Context, w clients.Way, m *dns.Msg) (*response, error) {
	tries := 1
	if w.Proto == wire.UDP {
		tries = maxTries
	}
	var err error
	for range tries {
		var r *response
		if r, err = p.try(ctx, w, m); err == nil {
			return r, nil
		}
		if t, ok := errors.AsType[net.Error](err); !ok || !t.Timeout() || ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("over %s: %w", w.Name, err)
}

// try asks m once, on a connection of its own.
func (p *probe) try(ctx context.Context, w clients.Way, m *dns.Msg) (*response, error) {
	ctx, cancel := context.WithTimeout(ctx, p.QuestionTimeout)
	defer cancel()
	c, err := p.dial(ctx, w)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return exchange(ctx, c, m)
}

// exchange asks m on a connection, and holds the response to being one to it.
func exchange(ctx context.Context, c clients.Asker, m *dns.Msg) (*response, error) {
	query, err := m.Pack()
	if err != nil {
		return nil, err
	}
	begun := time.Now()
	raw, err := c.Ask(ctx, query)
	if err != nil {
		return nil, err
	}
	r := &response{Msg: new(dns.Msg), octets: len(raw), took: time.Since(begun)}
	if err := r.Unpack(raw); err != nil {
		return nil, fmt.Errorf("a response of %d octets: %w", len(raw), err)
	}
	switch {
	case !r.Response || r.Id != m.Id || r.Opcode != m.Opcode:
		return nil, errors.New("found a message that is no response to the question")
	case len(m.Question) == 1 && m.Opcode == dns.OpcodeQuery && r.Rcode != dns.RcodeFormatError &&
		(len(r.Question) != 1 || r.Question[0].Qtype != m.Question[0].Qtype || !strings.EqualFold(r.Question[0].Name, m.Question[0].Name)):
		return nil, errors.New("found a response to another question")
	}
	return r, nil
}

// query returns a message that asks q, with EDNS.
func query(q Question) *dns.Msg {
	m := new(dns.Msg).SetQuestion(dns.Fqdn(q.fill().Name), q.Type)
	m.SetEdns0(ednsSize, false)
	return m
}

// ednsSize is the size of responses over UDP that clients here take, which none has
// to fragment.
const ednsSize = 1232

// fill returns q with labels in place of {random}.
func (q Question) fill() Question {
	for strings.Contains(q.Name, randomLabel) {
		var b [8]byte
		_, _ = rand.Read(b[:]) // it never fails
		q.Name = strings.Replace(q.Name, randomLabel, "v"+hex.EncodeToString(b[:]), 1)
	}
	return q
}

// randomLabel stands for a label that nobody has asked for.
const randomLabel = "{random}"

// want asks m over UDP, and over TCP if that is truncated, and wants a code.
func (p *probe) want(ctx context.Context, m *dns.Msg, code int) (*response, error) {
	r, err := p.ask(ctx, p.way("UDP"), m)
	if err == nil && r.Truncated {
		r, err = p.ask(ctx, p.way("TCP"), m)
	}
	if err != nil {
		return nil, err
	}
	return r, wantCode(r, code)
}

// wantCode returns an error if r has another code.
func wantCode(r *response, code int) error {
	if r.Rcode == code {
		return nil
	}
	text := fmt.Sprintf("found %s; expected %s", rcode(r.Msg), dns.RcodeToString[code])
	for _, e := range errorsOf(r.Msg) {
		text += fmt.Sprintf("; the server says: %d %s %s", e.InfoCode, dns.ExtendedErrorCodeToString[e.InfoCode], e.ExtraText)
	}
	return errors.New(text)
}

// errorsOf returns the Extended DNS Errors of m.
func errorsOf(m *dns.Msg) (list []*dns.EDNS0_EDE) {
	for e := range options[*dns.EDNS0_EDE](m) {
		list = append(list, e)
	}
	return list
}

// options returns the EDNS options of m of a type.
func options[T dns.EDNS0](m *dns.Msg) func(func(T) bool) {
	return func(yield func(T) bool) {
		opt := m.IsEdns0()
		if opt == nil {
			return
		}
		for _, o := range opt.Option {
			if o, ok := o.(T); ok && !yield(o) {
				return
			}
		}
	}
}

// option returns the first EDNS option of m of a type.
func option[T dns.EDNS0](m *dns.Msg) (first T, ok bool) {
	for o := range options[T](m) {
		return o, true
	}
	return first, false
}

// has reports whether a section has a record of a type.
func has(section []dns.RR, typ uint16) bool {
	for _, rr := range section {
		if rr.Header().Rrtype == typ {
			return true
		}
	}
	return false
}
