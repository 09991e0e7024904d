package rpl

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// The sections of a message, in their order.
const (
	sectionQuestion = iota
	sectionAnswer
	sectionAuthority
	sectionAdditional
)

var sections = map[string]int{
	"QUESTION": sectionQuestion, "ANSWER": sectionAnswer, "AUTHORITY": sectionAuthority, "ADDITIONAL": sectionAdditional,
}

// entry reads the entry that begins on this line.
func (r *reader) entry() (*Entry, error) {
	for strings.HasPrefix(r.text, "$") { // between entries, too
		if err := r.directive(); err != nil {
			return nil, err
		}
		if !r.nextFull() {
			return nil, r.ended("ENTRY_BEGIN")
		}
	}
	if w := words(r.text); w[0] != "ENTRY_BEGIN" {
		return nil, fmt.Errorf("ENTRY_BEGIN expected, not %.40q", w[0])
	}
	e := &Entry{Line: r.line}
	b := &builder{reader: r, entry: e}
	b.begin()
	for r.nextFull() {
		if r.text == "ENTRY_END" || strings.HasPrefix(r.text, "ENTRY_END ") {
			return e, b.end()
		}
		if err := b.lineOf(words(r.text)); err != nil {
			return nil, err
		}
	}
	return nil, r.ended("ENTRY_END")
}

// directive reads a line that begins with $. Others than these, $GENERATE above
// all, have no place in a scenario.
func (r *reader) directive() error {
	w := words(r.text)
	if len(w) != 2 {
		return fmt.Errorf("%.40q needs one value", w[0])
	}
	switch w[0] {
	case "$ORIGIN":
		name := dns.Fqdn(w[1])
		if _, ok := dns.IsDomainName(name); !ok {
			return fmt.Errorf("$ORIGIN: %.300q is no name", w[1])
		}
		r.origin = name
	case "$TTL":
		n, err := strconv.ParseUint(w[1], 10, 32)
		if err != nil {
			return fmt.Errorf("$TTL: %.40q is no number of seconds", w[1])
		}
		r.ttl = uint32(n)
	default:
		return fmt.Errorf("unknown directive %.40q", w[0])
	}
	return nil
}

// builder puts an entry together.
type builder struct {
	*reader
	entry   *Entry
	packet  *Packet // the last one of entry
	section int
}

// begin starts a packet.
func (b *builder) begin() {
	p := Packet{Msg: new(dns.Msg), EDNS: b.out.Dialect == Deckard}
	b.entry.Packets = append(b.entry.Packets, p)
	b.packet = &b.entry.Packets[len(b.entry.Packets)-1]
	b.section = sectionQuestion
}

// end checks what was read.
func (b *builder) end() error {
	for i := range b.entry.Packets {
		p := &b.entry.Packets[i]
		p.EDNS = p.EDNS || p.DO || p.CO || p.Options != nil
		msg, err := p.Msg.Pack()
		if err != nil {
			return fmt.Errorf("the entry is no message: %w", err)
		}
		if len(msg) > wire.MaxMsgSize {
			return fmt.Errorf("the entry has %d octets", len(msg))
		}
	}
	return nil
}

// lineOf reads one line of the entry, which has the words w.
func (b *builder) lineOf(w []string) (err error) {
	switch w[0] {
	case "MATCH":
		return each(w[1:], b.match)
	case "REPLY", "FLAGS": // Deckard has two names for it
		return each(w[1:], b.flag)
	case "ADJUST":
		return each(w[1:], b.adjust)
	case "SECTION":
		if len(w) != 2 {
			return errors.New("SECTION and the name of one expected")
		}
		s, ok := sections[w[1]]
		if !ok {
			return fmt.Errorf("unknown section %.40q", w[1])
		}
		b.section = s
	case "EXTRA_PACKET":
		b.begin()
	case "HEX_ANSWER_BEGIN":
		b.packet.Raw, err = b.hex("HEX_ANSWER_END")
	case "HEX_EDNSDATA_BEGIN":
		b.packet.Options, err = b.hex("HEX_EDNSDATA_END")
	case "RAW": // Deckard's: one line
		if !b.nextFull() {
			return b.ended("the data after RAW")
		}
		b.packet.Raw, err = hex.DecodeString(strings.Join(words(b.text), ""))
	default:
		return b.content()
	}
	return err
}

// each calls f for every word.
func each(w []string, f func(word string) error) error {
	for _, word := range w {
		if err := f(word); err != nil {
			return err
		}
	}
	return nil
}

// hex reads octets up to end.
func (b *builder) hex(end string) ([]byte, error) {
	var digits strings.Builder
	for b.next() {
		if b.text == end {
			data, err := hex.DecodeString(digits.String())
			if err != nil {
				return nil, fmt.Errorf("before %s: %w", end, err)
			}
			return append([]byte{}, data...), nil // not nil, even when there is none
		}
		text, _, _ := strings.Cut(b.text, ";")
		digits.WriteString(strings.Join(strings.Fields(text), ""))
	}
	return nil, b.ended(end)
}

// content reads a question or a record of the present section.
func (b *builder) content() error {
	if strings.HasPrefix(b.text, "$") {
		return b.directive()
	}
	m := b.packet.Msg
	if b.section == sectionQuestion {
		q, err := b.question(b.text)
		m.Question = append(m.Question, q)
		return err
	}
	rr, err := b.record(b.text)
	switch b.section {
	case sectionAnswer:
		m.Answer = append(m.Answer, rr)
	case sectionAuthority:
		m.Ns = append(m.Ns, rr)
	default:
		m.Extra = append(m.Extra, rr)
	}
	return err
}

// fields are the words of MATCH that need no value.
var fields = map[string]Field{
	"opcode": Opcode, "qtype": QType, "qname": QName, "qcase": QName | QCase, "subdomain": Subdomain, "flags": Flags,
	"rcode": RCode, "question": Question, "answer": Answer, "authority": Authority, "additional": Additional,
	"all": wholeMessage, "all_noedns": wholeMessage, "ttl": TTLs, "edns": EDNS, "ednsdata": EDNSData, "noedns": NoEDNS,
	"DO": WithDO, "CO": WithCO, "UDP": OverUDP, "TCP": OverTCP, "client_cookie": ClientCookie, "server_cookie": ServerCookie,
}

// match reads a word of MATCH.
func (b *builder) match(word string) error {
	m := &b.entry.Match
	if f, ok := fields[word]; ok {
		m.Fields |= f
		return nil
	}
	key, value, _ := strings.Cut(strings.Replace(word, ":", "=", 1), "=")
	switch n, err := strconv.ParseUint(value, 10, 32); {
	case key == "ede" && value == "any":
		m.Fields |= AnyEDE
	case key == "ede" && err == nil && n <= 0xFFFF:
		m.Fields, m.EDE = m.Fields|EDE, uint16(n)
	case key == "serial" && err == nil:
		m.Fields, m.Serial = m.Fields|Serial, uint32(n)
	default:
		return fmt.Errorf("MATCH: unknown word %.40q", word)
	}
	return nil
}

// opcodes and rcodes are the words of REPLY for the two. Unbound says NOTIMPL.
var (
	opcodes = map[string]int{
		"QUERY": dns.OpcodeQuery, "IQUERY": dns.OpcodeIQuery, "STATUS": dns.OpcodeStatus,
		"NOTIFY": dns.OpcodeNotify, "UPDATE": dns.OpcodeUpdate,
	}
	rcodes = map[string]int{
		"NOERROR": dns.RcodeSuccess, "FORMERR": dns.RcodeFormatError, "SERVFAIL": dns.RcodeServerFailure,
		"NXDOMAIN": dns.RcodeNameError, "NOTIMP": dns.RcodeNotImplemented, "NOTIMPL": dns.RcodeNotImplemented,
		"REFUSED": dns.RcodeRefused, "YXDOMAIN": dns.RcodeYXDomain, "YXRRSET": dns.RcodeYXRrset,
		"NXRRSET": dns.RcodeNXRrset, "NOTAUTH": dns.RcodeNotAuth, "NOTZONE": dns.RcodeNotZone,
		"BADVERS": dns.RcodeBadVers, "BADCOOKIE": dns.RcodeBadCookie,
	}
)

// flag reads a word of REPLY.
func (b *builder) flag(word string) error {
	p := b.packet
	if opcode, ok := opcodes[word]; ok {
		p.Msg.Opcode = opcode
		return nil
	}
	if rcode, ok := rcodes[word]; ok {
		p.Rcode = rcode
		return nil
	}
	bits := map[string]*bool{
		"QR": &p.Msg.Response, "AA": &p.Msg.Authoritative, "TC": &p.Msg.Truncated, "RD": &p.Msg.RecursionDesired,
		"RA": &p.Msg.RecursionAvailable, "AD": &p.Msg.AuthenticatedData, "CD": &p.Msg.CheckingDisabled,
		"DO": &p.DO, "CO": &p.CO,
	}
	bit, ok := bits[word]
	if !ok {
		return fmt.Errorf("REPLY: unknown word %.40q", word)
	}
	*bit = true
	return nil
}

// maxSleep bounds the time that an answer may take.
const maxSleep = 3600 // seconds

// adjust reads a word of ADJUST.
func (b *builder) adjust(word string) error {
	a := &b.entry.Adjust
	switch word {
	case "copy_id", "raw_id":
		a.CopyID = true
		return nil
	case "copy_query":
		a.CopyQuery = true
		return nil
	case "do_not_answer":
		a.Silent = true
		return nil
	case "copy_ednsdata_assume_clientsubnet", "increment_ecs_scope":
		a.Subnet = true
		return nil
	}
	key, value, _ := strings.Cut(word, "=")
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil || n > maxSleep {
		return fmt.Errorf("ADJUST: unknown word %.40q", word)
	}
	switch d := time.Duration(n) * time.Second; key {
	case "sleep":
		a.Sleep = d
	case "packet_sleep":
		b.packet.Sleep = d
	default:
		return fmt.Errorf("ADJUST: unknown word %.40q", word)
	}
	return nil
}
