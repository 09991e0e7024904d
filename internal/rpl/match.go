package rpl

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// comparison is one message beside the entry that it is compared with.
type comparison struct {
	entry *Entry
	want  *Packet
	got   *dns.Msg
	tcp   bool // got came over TCP
}

// differs returns in what the message is not as the entry's MATCH line wants
// it; "" if it is. The order of records, and the spelling of names, mean
// nothing; TTLs do if MATCH says so.
func (c *comparison) differs() string {
	for _, f := range [...]func() string{c.header, c.question, c.edns, c.ede, c.cookie, c.sections} {
		if s := f(); s != "" {
			return s
		}
	}
	return ""
}

// asks reports whether the MATCH line names any of f.
func (c *comparison) asks(f Field) bool { return c.entry.Match.Fields&f != 0 }

// header compares what is outside of the sections.
func (c *comparison) header() string {
	want, got := c.want.Msg, c.got
	switch {
	case c.asks(OverUDP) && c.tcp, c.asks(OverTCP) && !c.tcp:
		return "came over the other transport"
	case c.asks(Opcode) && want.Opcode != got.Opcode:
		return fmt.Sprintf("opcode %s, want %s", dns.OpcodeToString[got.Opcode], dns.OpcodeToString[want.Opcode])
	case c.asks(RCode) && c.want.Rcode != got.Rcode:
		return fmt.Sprintf("rcode %v, want %v", wire.Rcode(got.Rcode), wire.Rcode(c.want.Rcode))
	case c.asks(Flags) && flags(want) != flags(got):
		return fmt.Sprintf("flags%s, want%s", flags(got), flags(want))
	case c.asks(Serial) && serial(got) != c.entry.Match.Serial:
		return fmt.Sprintf("serial %d, want %d", serial(got), c.entry.Match.Serial)
	}
	return ""
}

// flags returns the header's flags as text.
func flags(m *dns.Msg) string {
	var b strings.Builder
	for _, f := range [...]struct {
		set  bool
		name string
	}{
		{m.Response, " QR"},
		{m.Authoritative, " AA"},
		{m.Truncated, " TC"},
		{m.RecursionDesired, " RD"},
		{m.RecursionAvailable, " RA"},
		{m.AuthenticatedData, " AD"},
		{m.CheckingDisabled, " CD"},
		{m.Zero, " Z"},
	} {
		if f.set {
			b.WriteString(f.name)
		}
	}
	return b.String()
}

// serial returns the serial number of the SOA record in the authority section,
// as a query for IXFR has it; 0 without one.
func serial(m *dns.Msg) uint32 {
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return soa.Serial
		}
	}
	return 0
}

// question compares the question section.
func (c *comparison) question() string {
	if !c.asks(QType | QName | QCase | Question | Subdomain) {
		return ""
	}
	want, got := first(c.want.Msg), first(c.got)
	switch {
	case c.asks(Question) && len(c.want.Msg.Question) != len(c.got.Question):
		return fmt.Sprintf("%d questions, want %d", len(c.got.Question), len(c.want.Msg.Question))
	case c.asks(Question|QType) && want.Qtype != got.Qtype:
		return fmt.Sprintf("type %s, want %s", dns.TypeToString[got.Qtype], dns.TypeToString[want.Qtype])
	case c.asks(Question) && want.Qclass != got.Qclass:
		return fmt.Sprintf("class %s, want %s", dns.ClassToString[got.Qclass], dns.ClassToString[want.Qclass])
	case c.asks(Question|QName) && !strings.EqualFold(want.Name, got.Name),
		c.asks(QCase) && want.Name != got.Name,
		c.asks(Subdomain) && !dns.IsSubDomain(want.Name, got.Name):
		return fmt.Sprintf("name %s, want %s", got.Name, want.Name)
	}
	return ""
}

// first returns the first question, which may be nobody's.
func first(m *dns.Msg) dns.Question {
	if len(m.Question) == 0 {
		return dns.Question{}
	}
	return m.Question[0]
}

// edns compares what is in the OPT record. Options are compared where the
// entry lists them (HEX_EDNSDATA), and MATCH names them or the whole message:
// what else a server adds is its own choice.
func (c *comparison) edns() string {
	opt := c.got.IsEdns0()
	switch {
	case c.asks(NoEDNS) && opt != nil:
		return "has an OPT record"
	case c.asks(WithDO) && (opt == nil || !opt.Do()):
		return "DO is clear"
	case c.asks(WithCO) && (opt == nil || !opt.Co()):
		return "CO is clear"
	case c.asks(EDNS) && (opt == nil || opt.Version() != 0 || opt.UDPSize() != deckardSize):
		return "other EDNS version or payload size"
	case c.want.Options == nil || !c.asks(EDNSData) && !c.entry.Match.has(wholeMessage):
		return ""
	}
	if got := options(opt, c.asks(EDE|AnyEDE), c.asks(ClientCookie|ServerCookie)); string(got) != string(c.want.Options) {
		return fmt.Sprintf("EDNS options %x, want %x", got, c.want.Options)
	}
	return ""
}

// deckardSize is the payload size of Deckard's messages, in octets.
const deckardSize = 4096

// options returns the RDATA of an OPT record, without the options that are
// compared elsewhere.
func options(opt *dns.OPT, noEDE, noCookie bool) []byte {
	if opt == nil {
		return nil
	}
	var out []byte
	for _, o := range opt.Option {
		if noEDE && o.Option() == dns.EDNS0EDE || noCookie && o.Option() == dns.EDNS0COOKIE {
			continue
		}
		out = append(out, rdata(&dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}, Option: []dns.EDNS0{o}})...)
	}
	return out
}

// ede compares the Extended DNS Errors (RFC 8914): one of them has to be the
// one of the entry.
func (c *comparison) ede() string {
	if !c.asks(EDE | AnyEDE) {
		return ""
	}
	var seen []string
	if opt := c.got.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			e, ok := o.(*dns.EDNS0_EDE)
			if ok && (c.asks(AnyEDE) || e.InfoCode == c.entry.Match.EDE) {
				return ""
			}
			if ok {
				seen = append(seen, e.String())
			}
		}
	}
	if seen == nil {
		return fmt.Sprintf("no Extended DNS Error, want %d", c.entry.Match.EDE)
	}
	return fmt.Sprintf("Extended DNS Errors %s, want %d", strings.Join(seen, ", "), c.entry.Match.EDE)
}

// cookie looks for a DNS cookie (RFC 7873 §4) of the right length.
func (c *comparison) cookie() string {
	if !c.asks(ClientCookie | ServerCookie) {
		return ""
	}
	if opt := c.got.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			cookie, ok := o.(*dns.EDNS0_COOKIE)
			if !ok {
				continue
			}
			n := hex.DecodedLen(len(cookie.Cookie))
			if c.asks(ClientCookie) && n == 8 || c.asks(ServerCookie) && n == 24 {
				return ""
			}
		}
	}
	return "no DNS cookie of the right length"
}

// sections compares the records.
func (c *comparison) sections() string {
	want, got := c.want.Msg, c.got
	sameTTL := c.asks(TTLs)
	if c.asks(Answer) {
		if s := sameRecords(want.Answer, got.Answer, sameTTL); s != "" {
			return "answer: " + s
		}
	}
	if c.asks(Authority) {
		if s := sameRecords(want.Ns, got.Ns, sameTTL); s != "" {
			return "authority: " + s
		}
	}
	if c.asks(Additional) {
		if s := sameRecords(want.Extra, withoutOPT(got.Extra), sameTTL); s != "" {
			return "additional: " + s
		}
	}
	return ""
}

// withoutOPT returns rrs without the OPT record.
func withoutOPT(rrs []dns.RR) []dns.RR {
	var out []dns.RR
	for _, rr := range rrs {
		if rr.Header().Rrtype != dns.TypeOPT {
			out = append(out, rr)
		}
	}
	return out
}

// sameRecords returns in what two sections differ, whatever the order.
func sameRecords(want, got []dns.RR, sameTTL bool) string {
	left := append([]dns.RR(nil), got...)
	for _, w := range want {
		i := indexOf(left, w, sameTTL)
		if i < 0 {
			return fmt.Sprintf("no %s", oneLine(w))
		}
		left = append(left[:i], left[i+1:]...)
	}
	if len(left) > 0 {
		return fmt.Sprintf("%s is too much", oneLine(left[0]))
	}
	return ""
}

// indexOf returns where a record like w is in rrs, or -1.
func indexOf(rrs []dns.RR, w dns.RR, sameTTL bool) int {
	for i, rr := range rrs {
		if sameRecord(rr, w) && (!sameTTL || rr.Header().Ttl == w.Header().Ttl) {
			return i
		}
	}
	return -1
}

// sameRecord compares two records but for their TTLs and the spelling of names.
func sameRecord(a, b dns.RR) bool {
	_, opaqueA := a.(*dns.RFC3597)
	_, opaqueB := b.(*dns.RFC3597)
	if opaqueA == opaqueB && dns.IsDuplicate(a, b) {
		return true // also those that cannot be packed, and names in another spelling
	}
	ha, hb := a.Header(), b.Header()
	return ha.Rrtype == hb.Rrtype && ha.Class == hb.Class && strings.EqualFold(ha.Name, hb.Name) &&
		rdata(a) != nil && string(rdata(a)) == string(rdata(b)) // digests and hashes have two spellings as text
}

// rdata returns the RDATA of rr; nil if it cannot be packed.
func rdata(rr dns.RR) []byte {
	rr = dns.Copy(rr)
	rr.Header().Name = "."
	buf := make([]byte, dns.MaxMsgSize)
	n, err := dns.PackRR(rr, buf, 0, nil, false)
	if err != nil {
		return nil
	}
	return buf[1+10 : n] // behind the owner, type, class, TTL and length
}

// oneLine returns rr as text, with spaces instead of tabs, and not too long.
func oneLine(rr dns.RR) string {
	return fmt.Sprintf("%.200s", strings.ReplaceAll(rr.String(), "\t", " "))
}
