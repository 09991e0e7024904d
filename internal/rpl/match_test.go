package rpl

import (
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
)

// base is an answer that the tables start from.
const base = `REPLY QR RD RA NOERROR
SECTION QUESTION
www.example.com. IN A
SECTION ANSWER
www.example.com. 300 IN A 198.51.100.1
www.example.com. 300 IN A 198.51.100.2
SECTION AUTHORITY
example.com. 300 IN NS ns.example.com.
SECTION ADDITIONAL
ns.example.com. 300 IN A 192.0.2.11
`

// messageOf returns the message with the given lines, as it arrives.
func messageOf(t *testing.T, lines string) *dns.Msg {
	t.Helper()
	octets, err := entryOf(t, lines).Packets[0].message(Unbound, nil).Pack()
	if err != nil {
		t.Fatal(err)
	}
	m, err := rrset.Unpack(octets)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestMatchComparesWhatItNames(t *testing.T) {
	change := func(old, replacement string) string { return strings.Replace(base, old, replacement, 1) }
	for name, tt := range map[string]struct {
		match, want, got, differs string
	}{
		"all of the same":                 {"all", base, base, ""},
		"all in another order":            {"all", base, change("A 198.51.100.1\nwww.example.com. 300 IN A 198.51.100.2", "A 198.51.100.2\nwww.example.com. 300 IN A 198.51.100.1"), ""},
		"all in another spelling":         {"all", base, change("NS ns.example.com.", "NS NS.EXAMPLE.com."), ""},
		"all with another TTL":            {"all", base, change("300 IN A", "299 IN A"), ""},
		"all and TTLs":                    {"all ttl", base, change("300 IN A", "299 IN A"), "answer: no www.example.com. 300 IN A 198.51.100.1"},
		"a flag":                          {"all", base, change("QR RD", "QR AA RD"), "flags QR AA RD RA, want QR RD RA"},
		"a flag that is not asked for":    {"rcode", base, change("QR RD", "QR AA RD"), ""},
		"DO is no flag of the header":     {"all", base, change("QR RD", "QR RD DO"), ""},
		"the rcode":                       {"rcode", base, change("NOERROR", "NXDOMAIN"), "rcode NXDOMAIN, want NOERROR"},
		"an extended rcode":               {"rcode", change("NOERROR", "BADVERS"), change("NOERROR", "BADVERS"), ""},
		"another extended rcode":          {"rcode", base, change("NOERROR", "BADVERS"), "rcode BADVERS, want NOERROR"},
		"the opcode":                      {"opcode", base, change("QR", "QR NOTIFY"), "opcode NOTIFY, want QUERY"},
		"the type":                        {"qtype", base, change("IN A", "IN MX"), "type MX, want A"},
		"the type of another name":        {"qtype", base, change("www", "mail"), ""},
		"the class":                       {"question", base, change("IN A", "CH A"), "class CH, want IN"},
		"the name":                        {"qname", base, change("www", "mail"), "name mail.example.com., want www.example.com."},
		"the name in another spelling":    {"qname", base, change("www", "WWW"), ""},
		"the spelling of the name":        {"qcase", base, change("www", "WWW"), "name WWW.example.com., want www.example.com."},
		"a name below":                    {"subdomain", base, change("www", "a.www"), ""},
		"a name beside":                   {"subdomain", base, change("www", "xwww"), "name xwww.example.com., want www.example.com."},
		"no question":                     {"question", base, change("www.example.com. IN A\n", ""), "0 questions, want 1"},
		"a record that is missing":        {"answer", base, change("www.example.com. 300 IN A 198.51.100.2\n", ""), "answer: no www.example.com. 300 IN A 198.51.100.2"},
		"a record that is too much":       {"answer", base, change("SECTION AUTHORITY", "www.example.com. 300 IN A 198.51.100.3\nSECTION AUTHORITY"), "answer: www.example.com. 300 IN A 198.51.100.3 is too much"},
		"a record twice":                  {"answer", base, change("SECTION AUTHORITY", "www.example.com. 300 IN A 198.51.100.2\nSECTION AUTHORITY"), "answer: www.example.com. 300 IN A 198.51.100.2 is too much"},
		"the authority section":           {"authority", base, change("NS ns", "NS ns2"), "authority: no example.com. 300 IN NS ns.example.com."},
		"authority that is not asked for": {"answer", base, change("NS ns", "NS ns2"), ""},
		"the additional section":          {"additional", base, change("192.0.2.11", "192.0.2.12"), "additional: no ns.example.com. 300 IN A 192.0.2.11"},
		"RDATA that is wrong":             {"answer", change("A 198.51.100.1", `A \# 3 010203`), change("A 198.51.100.1", `A \# 3 010203`), ""},
		"other RDATA that is wrong":       {"answer", change("A 198.51.100.1", `A \# 3 010203`), change("A 198.51.100.1", `A \# 3 010204`), `answer: no www.example.com. 300 CLASS1 TYPE1 \# 3 010203`},
		"DO":                              {"DO", base, change("QR", "QR DO"), ""},
		"no DO":                           {"DO", base, base, "DO is clear"},
		"CO":                              {"CO", base, change("QR", "QR CO"), ""},
		"no CO":                           {"CO", base, change("QR", "QR DO"), "CO is clear"},
		"EDNS":                            {"noedns", base, change("QR", "QR DO"), "has an OPT record"},
		"no EDNS":                         {"noedns", base, base, ""},
		"no EDNS for Deckard":             {"edns", base, base, "other EDNS version or payload size"},
		"the serial number":               {"serial=7", base, change("example.com. 300 IN NS ns.example.com.", "example.com. SOA a. b. 7 1 1 1 1"), ""},
		"another serial number":           {"serial=7", base, base, "serial 0, want 7"},
		"UDP":                             {"UDP", base, base, ""},
		"TCP":                             {"TCP", base, base, "came over the other transport"},
		"an EDE":                          {"ede=6", base, base + options16("000f00020006"), ""},
		"an EDE with text":                {"ede=6", base, base + options16("000f0003000741 000f0003000642"), ""},
		"any EDE":                         {"ede=any", base, base + options16("000f00020006"), ""},
		"another EDE":                     {"ede=6", base, base + options16("000f00020007"), "Extended DNS Errors 7 (Signature Expired): (), want 6"},
		"no EDE":                          {"ede=6", base, base, "no Extended DNS Error, want 6"},
		"a cookie of a client":            {"client_cookie", base, base + options16("000a00080102030405060708"), ""},
		"a cookie that is too short":      {"server_cookie", base, base + options16("000a00080102030405060708"), "no DNS cookie of the right length"},
		"no cookie":                       {"server_cookie", base, base, "no DNS cookie of the right length"},
		"options":                         {"all", base + options16("00030000"), base + options16("00030000"), ""},
		"other options":                   {"all", base + options16("00030000"), base + options16("000300020102"), "EDNS options 000300020102, want 00030000"},
		"options that are not listed":     {"all", base, base + options16("00030000"), ""},
		"options without the EDE":         {"all ede=6", base + options16("00030000"), base + options16("00030000 000f00020006"), ""},
		"options alone":                   {"ednsdata", base + options16("00030000"), base, "EDNS options , want 00030000"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			e := entryOf(t, "MATCH "+tt.match+"\n"+tt.want)
			c := comparison{entry: e, want: &e.Packets[0], got: messageOf(t, tt.got)}
			if got := c.differs(); got != tt.differs {
				t.Errorf("differs %q, want %q", got, tt.differs)
			}
		})
	}
}

// options16 returns the lines of an entry for EDNS options in hexadecimal.
func options16(digits string) string {
	return "HEX_EDNSDATA_BEGIN\n" + digits + "\nHEX_EDNSDATA_END\n"
}

func TestUnpackKeepsRecordsWithWrongRDATA(t *testing.T) {
	m := messageOf(t, base+"ns.example.com. A \\# 5 0102030405\nns.example.com. AAAA 2001:db8::1")
	var got []string
	for _, rr := range m.Extra {
		got = append(got, oneLine(rr))
	}
	if want := []string{
		"ns.example.com. 300 IN A 192.0.2.11", `ns.example.com. 3600 CLASS1 TYPE1 \# 5 0102030405`, "ns.example.com. 3600 IN AAAA 2001:db8::1",
	}; !slices.Equal(got, want) {
		t.Errorf("additional %q, want %q", got, want)
	}
	if len(m.Question) != 1 || len(m.Answer) != 2 || len(m.Ns) != 1 || !m.RecursionAvailable {
		t.Errorf("the rest is %v", m)
	}
}

func TestUnpackRefusesWhatIsNoMessage(t *testing.T) {
	for what, digits := range map[string]string{
		"nothing":               "",
		"a cut header":          "0000",
		"a question that loops": "000000000001000000000000c00c00010001",
		"a record that is cut":  "000000000000000100000000 00 0001 0001 00000000 0004 0102",
		"a record without data": "000000000000000100000000 00 0001 0001",
		"a malformed OPT":       "000000000000000000000001 00 0029 1000 00000000 0001 00",
		"an owner that loops":   "000000000000000100000000 c00c 0001 0001 00000000 0000",
	} {
		octets, err := hex.DecodeString(strings.ReplaceAll(digits, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if m, err := rrset.Unpack(octets); err == nil {
			t.Errorf("%s is a message: %v", what, m)
		}
	}
}
