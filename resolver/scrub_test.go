package resolver

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// kept returns the owners and types of what scrub keeps of the records in text.
func kept(t *testing.T, text, zone string) string {
	t.Helper()
	m := &dns.Msg{Ns: records(t, text)}
	var got []string
	for _, rec := range scrub(m, wire.Root, wire.MustParseName(zone)).authority {
		got = append(got, fmt.Sprint(rec.name, " ", rec.typ))
	}
	return strings.Join(got, "\n")
}

func TestScrubKeepsOnlyWhatTheServerMaySay(t *testing.T) {
	tests := []struct{ name, text, zone, want string }{
		{"in the zone", "example.com 1 A 192.0.2.1\na.b.example.com 1 A 192.0.2.1", "example.com", "example.com. A\na.b.example.com. A"},
		{"above, beside and like the zone", "com 1 A 192.0.2.1\nexample.net 1 A 192.0.2.1\nnotexample.com 1 A 192.0.2.1", "example.com", ""},
		{"of the root", "com 1 A 192.0.2.1\n. 1 NS a.example", ".", "com. A\n. NS"},
		{"in any case", "EXAMPLE.com 1 A 192.0.2.1", "example.com", "example.com. A"},
		{"other classes", "example.com 1 CH TXT x\nexample.com 1 HS A 192.0.2.1\nexample.com 1 CLASS254 TYPE1 \\# 4 c0000201", "example.com", ""},
		{"meta types", "example.com 1 TYPE128 \\# 1 00\nexample.com 1 TYPE255 \\# 1 00\nexample.com 1 TYPE0 \\# 1 00\nexample.com 1 TYPE256 \\# 4 00010001", "example.com", "example.com. URI"},
		{"unknown types, with and without RDATA", "example.com 1 TYPE65280 \\# 2 abcd\nexample.com 1 TYPE65280 \\# 0", "example.com", "example.com. TYPE65280\nexample.com. TYPE65280"},
		{"no RDATA where there has to be some", "example.com A\nexample.com AAAA\nexample.com NS\nexample.com CNAME\nexample.com SOA\nexample.com MX\nexample.com TXT\nexample.com HTTPS\nexample.com RRSIG", "example.com", ""},
		{"no RDATA where there may be none", "example.com APL\nexample.com NULL\nexample.com HIP", "example.com", "example.com. APL\nexample.com. NULL\nexample.com. HIP"},
		{"NSEC within the zone", "a.example.com 1 NSEC b.EXAMPLE.com A\nz.example.com 1 NSEC example.com A", "example.com", "a.example.com. NSEC\nz.example.com. NSEC"},
		{"NSEC beyond the zone", "a.example.com 1 NSEC example.net A\nz.example.com 1 NSEC com A", "example.com", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := kept(t, tt.text, tt.zone); got != tt.want {
				t.Errorf("kept:\n%s\nwant:\n%s", got, tt.want)
			}
		})
	}
}

func TestScrubLooksAtSoManyRecordsOfASection(t *testing.T) {
	var rrs []dns.RR
	for range 5 {
		rrs = append(rrs, records(t, lines(200, "n%d.example.com 300 A 192.0.2.1"))...)
	}
	m := &dns.Msg{Answer: rrs, Ns: rrs, Extra: rrs}
	s := scrub(m, wire.Root, wire.MustParseName("example.com."))
	if len(s.answer) != maxRecords || len(s.authority) != maxRecords || len(s.additional) != maxRecords {
		t.Errorf("kept %d, %d and %d records, want %d each", len(s.answer), len(s.authority), len(s.additional), maxRecords)
	}
}

func TestSetIsBounded(t *testing.T) {
	q := question("www.example.com A")
	for records, want := range map[int]Verdict{maxPerSet: Positive, maxPerSet + 1: Lame, 2*maxPerSet + 50: Lame} {
		r := response{flags: aa, an: lines(records, "www.example.com 300 A 192.0.2.%d")}
		rep := classify(r.msg(t, q), q, testCut("example.com"), testNow, testTTLs)
		if rep.Verdict != want || rep.Fallback != nil {
			t.Errorf("%d records: %+v, want verdict %d", records, rep, want)
		}
	}
	sigs := lines(maxSigs+50, "www.example.com 300 RRSIG A 13 3 300 20261201000000 20261101000000 %d example.com AAAA")
	r := response{flags: aa, an: "www.example.com 300 A 192.0.2.1\n" + sigs}
	if set := classify(r.msg(t, q), q, testCut("example.com"), testNow, testTTLs).Sets[0]; len(set.Sigs) != maxSigs {
		t.Errorf("%d signatures, want %d", len(set.Sigs), maxSigs)
	}
}

func TestSetCountsDuplicatesTowardsItsBound(t *testing.T) {
	q := question("www.example.com A")
	r := response{flags: aa, an: strings.Repeat("www.example.com 300 A 192.0.2.1\n", maxPerSet) + "www.example.com 300 A 192.0.2.2"}
	if rep := classify(r.msg(t, q), q, testCut("example.com"), testNow, testTTLs); rep.Verdict != Lame {
		t.Errorf("%+v, want it lame: to find duplicates is quadratic", rep)
	}
}

func TestProofsAreBounded(t *testing.T) {
	q := question("www.example.com A")
	r := response{flags: aa, rcode: dns.RcodeNameError, ns: soa + lines(50, "n%d.example.com 900 NSEC z.example.com A")}
	rep := classify(r.msg(t, q), q, testCut("example.com"), testNow, testTTLs)
	if len(rep.Denial) != 1+maxProofs {
		t.Errorf("%d sets in the denial, want the SOA record and %d", len(rep.Denial), maxProofs)
	}
}

// TestScrubDropsRecordsWithoutTheirLastField reads messages that miekg/dns
// accepts although RDATA ends early in them.
func TestScrubDropsRecordsWithoutTheirLastField(t *testing.T) {
	files, err := filepath.Glob("testdata/rdata-*.txt")
	if err != nil || len(files) < 4 {
		t.Fatalf("found %d messages, want at least 4: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			m := new(dns.Msg)
			if err := m.Unpack(readHex(t, file)); err != nil {
				t.Fatalf("the parser has become stricter, and scrub need not be: %v", err)
			}
			if len(m.Answer) != 2 {
				t.Fatalf("%d records in the message, want 2", len(m.Answer))
			}
			if got := scrub(m, wire.Root, wire.MustParseName("example.com.")).answer; len(got) != 1 || got[0].typ != wire.TypeTXT {
				t.Errorf("kept %v, want the TXT record alone", got)
			}
		})
	}
}

// readHex reads a file of hexadecimal octets with comments that begin with #.
func readHex(t *testing.T, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var b []byte
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		for f := range strings.FieldsSeq(line) {
			var octets []byte
			if _, err := fmt.Sscanf(f, "%x", &octets); err != nil {
				t.Fatalf("%s: %q: %v", file, f, err)
			}
			b = append(b, octets...)
		}
	}
	return b
}

// seeds are responses to begin fuzzing from: one of each kind.
var seeds = []response{
	{flags: aa, an: "www.example.com 300 A 192.0.2.1\nwww.example.com 300 RRSIG A 13 2 300 20261201000000 20261101000000 7 example.com AAAA", ns: ns + "a.example.com 900 NSEC z.example.com A", ar: nsAddr},
	{flags: aa, an: "www.example.com 300 CNAME a.example.com\na.example.com 300 CNAME b.example.net\nb.example.net 300 A 192.0.2.1"},
	{flags: aa, an: "example.com 300 DNAME a.example.com\nwww.example.com 300 CNAME www.a.example.com"},
	{flags: aa, an: "example.com 300 DNAME com"},
	{flags: aa, rcode: dns.RcodeNameError, ns: soa + soaSig + "a.example.com 900 NSEC z.example.com A"},
	{flags: aa, ns: soa},
	{ns: ns + "example.com 60 NS ns2.example.com\nexample.com 300 DS 1 13 2 AABB", ar: nsAddr + "ns2.example.com 300 AAAA 2001:db8::1"},
	{ns: ". 3600 NS a.root-servers.net"},
	{flags: ra, an: "www.example.com 300 TXT x\nwww.example.com 300 HTTPS 1 . alpn=h2 ipv4hint=192.0.2.1"},
	{flags: aa, rcode: dns.RcodeYXDomain, an: "example.com 300 DNAME example.net"},
}

// FuzzClassify shows that no message makes classify panic, or believe what the
// server may not say.
func FuzzClassify(f *testing.F) {
	for _, r := range seeds {
		for _, typ := range []wire.Type{wire.TypeA, wire.TypeNS, wire.TypeCNAME, wire.TypeDS, wire.TypeRRSIG} {
			q := wire.Question{Name: wire.MustParseName("www.example.com."), Type: typ}
			b, err := r.msg(f, q).Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b, uint16(typ), uint8(1))
		}
	}
	f.Fuzz(func(t *testing.T, b []byte, typ uint16, depth uint8) {
		m := new(dns.Msg)
		if err := m.Unpack(b); err != nil || len(m.Question) == 0 {
			return
		}
		name, err := wire.ParseName(m.Question[0].Name)
		if err != nil {
			return
		}
		q := wire.Question{Name: name, Type: wire.Type(typ)}
		cut := &rrset.Cut{Zone: name.Tail(int(depth)), Until: testNow.Add(12 * time.Hour)}
		checkReply(t, classify(m, q, cut, testNow, testTTLs), q, cut)
	})
}

// checkReply checks what holds of every reply.
func checkReply(t *testing.T, rep *reply, q wire.Question, cut *rrset.Cut) {
	t.Helper()
	if rep.Fallback != nil {
		if rep.Verdict != Lame || rep.Fallback.Verdict == Lame {
			t.Errorf("verdict %v falls back to %v", rep.Verdict, rep.Fallback.Verdict)
		}
		checkReply(t, rep.Fallback, q, cut)
	}
	switch rep.Verdict {
	case Lame:
		if rep.Why == "" || rep.Sets != nil || rep.Denial != nil || rep.Cut != nil || rep.Target != "" {
			t.Errorf("lame: %+v", rep)
		}
	case Positive:
		if last := rep.Sets[len(rep.Sets)-1]; last.Type != q.Type || rep.Target != "" || rep.Rcode != wire.NoError {
			t.Errorf("positive, but the last set is %v %v, the target %q, the rcode %v", last.Name, last.Type, rep.Target, rep.Rcode)
		}
	case Alias:
		if rep.Target == "" || len(rep.Sets) == 0 || rep.aliases() > maxAliases || rep.Rcode != wire.NoError {
			t.Errorf("alias to %q by %d aliases", rep.Target, rep.aliases())
		}
	case Referral:
		checkCut(t, rep.Cut, q, cut)
	}
	if rep.aliases() > maxAliases || len(rep.Denial) > 1+maxProofs {
		t.Errorf("%d aliases, %d sets of denial", rep.aliases(), len(rep.Denial))
	}
	checkChain(t, rep, q)
	for _, s := range rep.Sets {
		checkSet(t, s, cut, testTTLs.Max)
	}
	for _, s := range rep.Denial {
		longest := testTTLs.MaxNegative
		if rep.Verdict != Negative {
			longest = testTTLs.Max // of a wildcard's proof
		}
		checkSet(t, s, cut, longest)
	}
}

// checkChain checks that each set of rep is there because of the one before it.
func checkChain(t *testing.T, rep *reply, q wire.Question) {
	t.Helper()
	name := q.Name
	for i, s := range rep.Sets {
		last := i == len(rep.Sets)-1
		switch target, ok := aliasTarget(s); {
		case last && rep.Verdict == Positive:
			if s.Name != name {
				t.Errorf("data of %v at the end of a chain to %v", s.Name, name)
			}
		case s.Type == wire.TypeDNAME:
			if s.Name == name || !name.Within(s.Name) || len(s.RRs) != 1 || last && rep.Rcode != wire.YXDomain {
				t.Errorf("DNAME of %v for %v", s.Name, name)
			}
		case !ok || s.Name != name:
			t.Errorf("%v %v for %v", s.Name, s.Type, name)
		default:
			name = target
		}
	}
	if rep.Target != "" && rep.Target != name {
		t.Errorf("target %v at the end of a chain to %v", rep.Target, name)
	}
}

func checkCut(t *testing.T, c *rrset.Cut, q wire.Question, above *rrset.Cut) {
	t.Helper()
	if !c.Zone.Within(above.Zone) || c.Zone == above.Zone || !q.Name.Within(c.Zone) {
		t.Errorf("referral from %v to %v for %v", above.Zone, c.Zone, q.Name)
	}
	if len(c.Servers) == 0 || len(c.Servers) > maxServers {
		t.Errorf("%d servers", len(c.Servers))
	}
	for _, s := range c.Servers {
		if len(s.Addrs) > maxAddrs || len(s.Addrs) > 0 && !s.Host.Within(above.Zone) {
			t.Errorf("%d addresses of %v, from %v", len(s.Addrs), s.Host, above.Zone)
		}
	}
	if c.Until.Before(testNow) || c.Until.After(above.Until) || c.Until.After(testNow.Add(testTTLs.Max)) {
		t.Errorf("cut ends after %v", c.Until.Sub(testNow))
	}
}

// checkSet checks that s is of the zone asked, no longer kept than allowed, and
// can be sent to a client as it is.
func checkSet(t *testing.T, s rrset.Set, cut *rrset.Cut, longest time.Duration) {
	t.Helper()
	if !s.Name.Within(cut.Zone) {
		t.Errorf("set of %v, from %v", s.Name, cut.Zone)
	}
	if len(s.RRs) == 0 || len(s.RRs) > maxPerSet || len(s.Sigs) > maxPerSet {
		t.Errorf("%d records, %d signatures", len(s.RRs), len(s.Sigs))
	}
	if s.Until.Before(testNow) || s.Until.After(testNow.Add(longest)) {
		t.Errorf("set of %v kept for %v", s.Name, s.Until.Sub(testNow))
	}
	for _, rr := range s.RRs {
		h := rr.Header()
		if h.Name != s.Name.String() || wire.Type(h.Rrtype) != s.Type || h.Class != dns.ClassINET {
			t.Errorf("%v in the set %v %v", h, s.Name, s.Type)
		}
		buf := make([]byte, dns.Len(rr)+wire.MaxNameLen)
		n, err := dns.PackRR(rr, buf, 0, nil, false)
		if err != nil {
			t.Errorf("%v cannot be packed: %v", rr, err)
			continue
		}
		if back, _, err := dns.UnpackRR(buf[:n], 0); err != nil || !whole(back) {
			t.Errorf("%v is malformed when packed: %v", rr, err)
		}
	}
}

// wholeSamples has a whole record of every type that whole knows by itself.
var wholeSamples = []string{
	"x. A 192.0.2.1", "x. AAAA 2001:db8::1", "x. NS ns.", "x. CNAME y.", "x. SOA ns. mail. 1 2 3 4 5", "x. MX 1 mx.", "x. TXT text",
}

func TestWholeSaysTheSameSooner(t *testing.T) {
	same := func(what string, rr dns.RR) {
		t.Helper()
		if got, want := whole(rr), filled(reflect.ValueOf(rr).Elem()); got != want {
			t.Errorf("%s: whole %v, by its fields %v: %v", what, got, want, rr)
		}
	}
	for _, text := range wholeSamples {
		full, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		same("full", full)
		if !whole(full) {
			t.Errorf("%s is not whole", text)
		}
		fields := reflect.ValueOf(full).Elem()
		for i := range fields.NumField() {
			cut := dns.Copy(full)
			f := reflect.ValueOf(cut).Elem().Field(i)
			f.SetZero()
			same("without "+fields.Type().Field(i).Name, cut)
		}
	}
}

func TestScrubParsesEveryOwner(t *testing.T) {
	var rrs []dns.RR
	for _, text := range []string{
		"a.example. A 192.0.2.1", "a.example. A 192.0.2.2", "b.example. A 192.0.2.3", "other. A 192.0.2.4", "other. A 192.0.2.5", "A.example. A 192.0.2.6", "a.example. A 192.0.2.7",
	} {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		rrs = append(rrs, rr)
	}
	broken := &dns.A{Hdr: dns.RR_Header{Name: "no..name.", Rrtype: dns.TypeA, Class: dns.ClassINET}, A: []byte{192, 0, 2, 8}}
	rrs = append([]dns.RR{broken}, append(rrs, broken)...)
	var got []string
	for _, rec := range scrub(&dns.Msg{Answer: rrs}, wire.Root, wire.MustParseName("example.")).answer {
		got = append(got, rec.name.String()+rec.rr.(*dns.A).A.String())
	}
	want := []string{"a.example.192.0.2.1", "a.example.192.0.2.2", "b.example.192.0.2.3", "a.example.192.0.2.6", "a.example.192.0.2.7"}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

// raw returns a record of the given type whose RDATA, in hexadecimal, makes no
// sense for it, as it comes out of the transport.
func raw(name string, typ uint16, rdata string) dns.RR {
	return &dns.RFC3597{
		Hdr:   dns.RR_Header{Name: name, Rrtype: typ, Class: dns.ClassINET, Ttl: 300, Rdlength: uint16(len(rdata) / 2)},
		Rdata: rdata,
	}
}

func TestMalformedRecordsAreDroppedAloneOrWithTheirSet(t *testing.T) {
	const www, svc = "www.example.com.", "1 . ipv4hint=192.0.2.1"
	for name, tt := range map[string]struct {
		q      string
		an     string
		bad    dns.RR
		want   string
		maimed bool
	}{
		"address among addresses": {
			"www.example.com A", "www.example.com 300 A 192.0.2.1", raw(www, dns.TypeA, "030405"),
			"positive\n= www.example.com. A 5m0s auth 192.0.2.1", true,
		},
		"IPv6 address among addresses": {
			"www.example.com AAAA", "www.example.com 300 AAAA 2001:db8::1", raw(www, dns.TypeAAAA, strings.Repeat("07", 48)),
			"positive\n= www.example.com. AAAA 5m0s auth 2001:db8::1", true,
		},
		"address that is empty": {
			"www.example.com A", "www.example.com 300 A 192.0.2.1", &dns.A{Hdr: dns.RR_Header{Name: www, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 300}},
			"positive\n= www.example.com. A 5m0s auth 192.0.2.1", true,
		},
		"the only address": {
			"www.example.com A", "", raw(www, dns.TypeA, "030405"),
			"lame: answer to another question\nelse negative", false,
		},
		"address of another name": {
			"www.example.com A", "www.example.com 300 A 192.0.2.1", raw("a.example.com.", dns.TypeA, "030405"),
			"positive\n= www.example.com. A 5m0s auth 192.0.2.1", false,
		},
		"signature": {
			"www.example.com A", "www.example.com 300 A 192.0.2.1", raw(www, dns.TypeRRSIG, "0001"),
			"positive\n= www.example.com. A 5m0s auth 192.0.2.1", false,
		},
		"MX among MX":  {"www.example.com MX", "www.example.com 300 MX 1 a.example.com", raw(www, dns.TypeMX, "000a0561"), "lame: malformed record", false},
		"the only TXT": {"www.example.com TXT", "", raw(www, dns.TypeTXT, "0561"), "lame: malformed record", false},
		"alias":        {"www.example.com A", "", raw(www, dns.TypeCNAME, "0561"), "lame: malformed record", false},
		"DNSKEY":       {"example.com DNSKEY", "example.com 300 DNSKEY 257 3 13 AAAA", raw("example.com.", dns.TypeDNSKEY, "0101"), "lame: malformed record", false},
		"service that may be newer than the parser": {
			"www.example.com HTTPS", "www.example.com 300 HTTPS " + svc, raw(www, dns.TypeHTTPS, "000100000100040268"),
			`positive` + "\n" + `= www.example.com. HTTPS 5m0s auth 1 . ipv4hint="192.0.2.1" www.example.com.	300	CLASS1	TYPE65	\# 9 000100000100040268`, false,
		},
		"type that the parser does not know": {
			"www.example.com TYPE65280", "", raw(www, 65280, "00"),
			`positive` + "\n" + `= www.example.com. TYPE65280 5m0s auth www.example.com.	300	CLASS1	TYPE65280	\# 1 00`, false,
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			q := question(tt.q)
			if q.Type == 0 {
				q.Type = 65280
			}
			m := response{flags: aa, an: tt.an}.msg(t, q)
			m.Answer = append(m.Answer, tt.bad)
			rep := classify(m, q, testCut("example.com"), testNow, testTTLs)
			if got := describe(rep); got != tt.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, tt.want)
			}
			if rep.Verdict == Positive && rep.Sets[0].Maimed != tt.maimed {
				t.Errorf("Maimed is %v, want %v", rep.Sets[0].Maimed, tt.maimed)
			}
		})
	}
}

func TestReferralIsOfUseWithoutItsMalformedRecords(t *testing.T) {
	q := question("www.sub.example.com A")
	m := response{
		ns: "sub.example.com 300 NS ns.sub.example.com",
		ar: "ns.sub.example.com 300 A 192.0.2.1\nns.sub.example.com 300 A 192.0.2.2",
	}.msg(t, q)
	m.Ns = append(m.Ns, raw("sub.example.com.", dns.TypeNS, "0561"))
	m.Extra = append(m.Extra, raw("ns.sub.example.com.", dns.TypeA, "030407"))
	const want = "referral\ncut sub.example.com. 5m0s\n@ ns.sub.example.com. 192.0.2.1 192.0.2.2"
	if got := describe(classify(m, q, testCut("example.com"), testNow, testTTLs)); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
