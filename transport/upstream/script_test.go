package upstream

import (
	"bytes"
	"encoding/hex"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// asked is one query as a scripted server got it.
type asked struct {
	raw []byte
	msg *dns.Msg
	tcp bool
}

// cookie returns the cookie in the query, nil without one.
func (a asked) cookie() []byte {
	if opt := a.msg.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if c, ok := o.(*dns.EDNS0_COOKIE); ok {
				b, err := hex.DecodeString(c.Cookie)
				if err != nil {
					panic(err)
				}
				return b
			}
		}
	}
	return nil
}

// spelling returns the name as the query spells it.
func (a asked) spelling() string { return a.msg.Question[0].Name }

// authority is a server that answers over UDP and TCP as its script says, and
// keeps a log.
type authority struct {
	addr   netip.AddrPort
	script func(asked) []byte // nil for silence

	mu  sync.Mutex
	log []asked
}

// answer runs the script.
func (s *authority) answer(query []byte, tcp bool) []byte {
	a := asked{raw: bytes.Clone(query), msg: new(dns.Msg), tcp: tcp}
	if err := a.msg.Unpack(query); err != nil {
		panic(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, a)
	return s.script(a)
}

// set sets a variable of the script's.
func (s *authority) set(v *bool, to bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*v = to
}

// queries returns what was asked since the last call.
func (s *authority) queries() []asked {
	s.mu.Lock()
	defer s.mu.Unlock()
	log := s.log
	s.log = nil
	return log
}

// over returns the transports of what was asked since the last call: "UDP TCP".
func (s *authority) over() string {
	var protos []string
	for _, q := range s.queries() {
		if q.tcp {
			protos = append(protos, "TCP")
		} else {
			protos = append(protos, "UDP")
		}
	}
	return strings.Join(protos, " ")
}

// udp and tcp serve one query each, and all of one connection.
func (s *authority) udp(d datagram) {
	if b := s.answer(d.query, false); b != nil {
		d.reply(b)
	}
}

func (s *authority) tcp(conn net.Conn) {
	for {
		q := readQuery(conn)
		if q == nil {
			return
		}
		if b := s.answer(q, true); b != nil {
			write(conn, frame(b))
		}
	}
}

// serveScript makes an authority over both transports.
func serveScript(t testing.TB, script func(asked) []byte) *authority {
	t.Helper()
	s := &authority{script: script}
	s.addr = serveBoth(t, s.udp, s.tcp)
	return s
}

// serveUDPScript makes an authority that refuses connections.
func serveUDPScript(t testing.TB, script func(asked) []byte) *authority {
	t.Helper()
	s := &authority{script: script}
	s.addr = serveUDP(t, "127.0.0.1", s.udp)
	return s
}

// lowered is f by a server that folds the question: to capital letters if it came, by
// chance, in small ones.
func lowered(f func([]byte) []byte) func([]byte) []byte {
	return func(q []byte) []byte {
		b := f(q)
		asked := b[12 : 12+len(question.Name)]
		folded := bytes.ToLower(asked)
		if bytes.Equal(folded, asked) {
			folded = bytes.ToUpper(asked)
		}
		copy(asked, folded)
		return b
	}
}

// with is an edit that puts options into the reply.
func with(rcode int, options ...dns.EDNS0) func(*dns.Msg) {
	return func(m *dns.Msg) {
		m.SetEdns0(1232, true)
		m.Rcode = rcode
		m.IsEdns0().Option = options
		if rcode != dns.RcodeSuccess {
			m.Answer = nil
		}
	}
}

// baked is a COOKIE option of these octets.
func baked(parts ...[]byte) dns.EDNS0 {
	return &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: hex.EncodeToString(slices.Concat(parts...))}
}

// rcodeOnly answers with an rcode, without EDNS.
func rcodeOnly(rcode int) func([]byte) []byte {
	return answerWith(goodAddr, func(m *dns.Msg) { m.Rcode, m.Answer = rcode, nil })
}
