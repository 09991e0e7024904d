package rpl

import (
	"bytes"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// mustRead reads a scenario that is right.
func mustRead(t *testing.T, text string) *Scenario {
	t.Helper()
	sc, err := Read("test.rpl", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return sc
}

// nothing is a step that makes a scenario whole.
const nothing = "STEP 1 NOTHING\nSCENARIO_END\n"

// entryOf returns the entry with the given lines.
func entryOf(t *testing.T, lines string) *Entry {
	t.Helper()
	sc := mustRead(t, "CONFIG_END\nSCENARIO_BEGIN x\nSTEP 1 QUERY\nENTRY_BEGIN\n"+lines+"\nENTRY_END\nSCENARIO_END\n")
	return sc.Steps[0].Entry
}

func TestReadWholeScenario(t *testing.T) {
	sc := mustRead(t, `
; a comment
server:
	do-ip6: no # another
stub-zone: name: "." stub-addr: 192.0.2.1
CONFIG_END
; one more
SCENARIO_BEGIN A title; not a comment
RANGE_BEGIN 0 10
	ADDRESS 192.0.2.1
	ADDRESS 2001:db8::1@5353
$ORIGIN example.com.
$TTL 60
ENTRY_BEGIN
MATCH opcode qtype qname ; as usual
MATCH ede=7 serial=9 TCP
ADJUST copy_id copy_query sleep=2 packet_sleep=1
REPLY QR AA
REPLY NXDOMAIN DO
SECTION QUESTION
www IN A
SECTION ANSWER
www IN CNAME web
@ 30 CH TXT "a;b"
SECTION AUTHORITY
SECTION ADDITIONAL
EXTRA_PACKET
REPLY QR
HEX_ANSWER_BEGIN
00 01 ; a comment
0203
HEX_ANSWER_END
ENTRY_END
RANGE_END
RANGE_BEGIN 5 6
RANGE_END
STEP 1 QUERY ADDRESS 198.51.100.1
ENTRY_BEGIN
REPLY RD
SECTION QUESTION
www.example.org IN TYPE65
HEX_EDNSDATA_BEGIN
HEX_EDNSDATA_END
ENTRY_END
STEP 2 TIME_PASSES ELAPSE 1.5
STEP 3 FLUSH_MESSAGE www.example.com. IN AAAA
STEP 4 CHECK_SENT
192.0.2.1   www.example.com. A TCP
SENT_END
STEP 5 CHECK_TIME WITHIN 0.25
STEP 6 CHECK_AUTOTRUST id
FILE_BEGIN
STEP is no step here
FILE_END
STEP 7 ASSIGN t = ${time}
SCENARIO_END
what follows is not read
`)
	if sc.Title != "A title; not a comment" || sc.Dialect != Unbound || sc.Name != "test.rpl" {
		t.Errorf("read %q, %v, %q", sc.Title, sc.Dialect, sc.Name)
	}
	wantConfig := []Block{
		{Name: "server", Line: 3, Settings: []Setting{{Key: "do-ip6", Values: []string{"no"}, Line: 4}}},
		{Name: "stub-zone", Line: 5, Settings: []Setting{
			{Key: "name", Values: []string{"."}, Line: 5}, {Key: "stub-addr", Values: []string{"192.0.2.1"}, Line: 5},
		}},
	}
	if !reflect.DeepEqual(sc.Config, wantConfig) {
		t.Errorf("config %+v, want %+v", sc.Config, wantConfig)
	}
	if len(sc.Ranges) != 2 || sc.Ranges[0].From != 5 { // the last one first
		t.Fatalf("ranges %+v", sc.Ranges)
	}
	checkEntry(t, &sc.Ranges[1])
	var steps []string
	for _, st := range sc.Steps {
		steps = append(steps, fmt.Sprintf("%d %d %v %v %v %v", st.Number, st.Kind, st.Addr, st.Elapse, st.Question, st.Sent))
	}
	if want := []string{
		fmt.Sprintf("1 %d 198.51.100.1 0s { 0 0} []", Query),
		fmt.Sprintf("2 %d invalid IP 1.5s { 0 0} []", TimePasses),
		fmt.Sprintf("3 %d invalid IP 0s {www.example.com. 28 1} []", FlushMessage),
		fmt.Sprintf("4 %d invalid IP 0s { 0 0} [192.0.2.1 www.example.com. A TCP]", CheckSent),
		fmt.Sprintf("5 %d invalid IP 250ms { 0 0} []", CheckTime),
		fmt.Sprintf("6 %d invalid IP 0s { 0 0} []", Inside),
		fmt.Sprintf("7 %d invalid IP 0s { 0 0} []", Inside),
	}; !slices.Equal(steps, want) {
		t.Errorf("steps\n%s\nwant\n%s", strings.Join(steps, "\n"), strings.Join(want, "\n"))
	}
	q := sc.Steps[0].Entry.Packets[0]
	if got := q.Msg.Question[0]; got.Name != "www.example.org.example.com." || got.Qtype != dns.TypeHTTPS {
		t.Errorf("the question is %v", got)
	}
	if q.Options == nil || len(q.Options) != 0 || !q.EDNS {
		t.Errorf("empty EDNS data were read as %v", q.Options)
	}
}

// checkEntry checks the one entry of TestReadWholeScenario's range.
func checkEntry(t *testing.T, r *Range) {
	t.Helper()
	if want := []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}; !slices.Equal(r.Addrs, want) {
		t.Errorf("addresses %v, want %v", r.Addrs, want)
	}
	e := r.Entries[0]
	if want := (Match{Fields: Opcode | QType | QName | EDE | Serial | OverTCP, EDE: 7, Serial: 9}); e.Match != want {
		t.Errorf("match %+v, want %+v", e.Match, want)
	}
	if want := (Adjust{CopyID: true, CopyQuery: true, Sleep: 2 * time.Second}); e.Adjust != want {
		t.Errorf("adjust %+v, want %+v", e.Adjust, want)
	}
	p := e.Packets[0]
	if m := p.Msg; !m.Response || !m.Authoritative || p.Rcode != dns.RcodeNameError || !p.DO || !p.EDNS || p.Sleep != time.Second {
		t.Errorf("packet %+v, message %v", p, m)
	}
	var answer []string
	for _, rr := range p.Msg.Answer {
		answer = append(answer, rr.String())
	}
	if want := []string{
		"www.example.com.\t60\tIN\tCNAME\tweb.example.com.", "example.com.\t30\tCH\tTXT\t\"a;b\"",
	}; !slices.Equal(answer, want) {
		t.Errorf("answer %q, want %q", answer, want)
	}
	if len(e.Packets) != 2 || !bytes.Equal(e.Packets[1].Raw, []byte{0, 1, 2, 3}) {
		t.Errorf("packets %+v", e.Packets)
	}
}

func TestReadDeckard(t *testing.T) {
	sc := mustRead(t, `stub-addr: 192.0.2.1 	# the root
features: min_ttl = 5 ; dns64_prefix = fe80::
val-override-date: "20170401000000" ; then
CONFIG_END
SCENARIO_BEGIN x
RANGE_BEGIN 0 10 192.0.2.1
RANGE_END
RANGE_BEGIN 0 10
RANGE_END
STEP 1 QUERY
ENTRY_BEGIN
FLAGS RD
RAW
0102 ; two octets
ENTRY_END
`) // without SCENARIO_END
	want := []Block{{Line: 1, Settings: []Setting{
		{Key: "stub-addr", Values: []string{"192.0.2.1"}, Line: 1},
		{Key: "features", Values: []string{"min_ttl = 5 ; dns64_prefix = fe80::"}, Line: 2},
		{Key: "val-override-date", Values: []string{"20170401000000"}, Line: 3},
	}}}
	if sc.Dialect != Deckard || !reflect.DeepEqual(sc.Config, want) {
		t.Errorf("%v: %+v, want %+v", sc.Dialect, sc.Config, want)
	}
	if len(sc.Ranges) != 2 || len(sc.Ranges[0].Addrs) != 1 { // the first one first
		t.Errorf("ranges %+v", sc.Ranges)
	}
	if e := sc.Steps[0].Entry; !bytes.Equal(e.Packets[0].Raw, []byte{1, 2}) || !e.Packets[0].EDNS {
		t.Errorf("packet %+v", e.Packets[0])
	}
}

func TestReadFilesOfSettings(t *testing.T) {
	sc := mustRead(t, `server:
	root-hints:
TEMPFILE_NAME hints
TEMPFILE_CONTENTS hints
. NS a.
	a. A 192.0.2.1
TEMPFILE_END
AUTOTRUST_FILE anchor
; as it is
AUTOTRUST_END
	local-data: 'a. TXT "b: c"' local-zone: a. static
CONFIG_END
SCENARIO_BEGIN x
`+nothing)
	if want := map[string]string{"hints": ". NS a.\n\ta. A 192.0.2.1\n", "anchor": "; as it is\n"}; !reflect.DeepEqual(sc.Files, want) {
		t.Errorf("files %q, want %q", sc.Files, want)
	}
	var got []string
	for _, b := range sc.Config {
		for _, s := range b.Settings {
			got = append(got, fmt.Sprintf("%s %s %q %q", b.Name, s.Key, s.Values, s.File))
		}
	}
	if want := []string{
		`server root-hints [] "hints"`,
		`server auto-trust-anchor-file [] "anchor"`,
		`server local-data ["a. TXT \"b: c\""] ""`,
		`server local-zone ["a." "static"] ""`,
	}; !slices.Equal(got, want) {
		t.Errorf("settings\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestReadForgivesRecordsWhatUnboundForgives(t *testing.T) {
	e := entryOf(t, `SECTION ANSWER
a. NSEC b. RRSIG A NSEC A
a. ANY TXT any
a. A \# 3 010203
a. RRSIG A 8 1 60 20200101000000 20190101000000 1 a. QUJD'R`)
	var got []string
	for _, rr := range e.Packets[0].Msg.Answer {
		got = append(got, strings.Join(strings.Fields(rr.String()), " "))
	}
	if want := []string{
		"a. 3600 IN NSEC b. A RRSIG NSEC",
		`a. 3600 CLASS255 TXT "any"`,
		`a. 3600 CLASS1 TYPE1 \# 3 010203`,
		"a. 3600 IN RRSIG A 8 1 60 20200101000000 20190101000000 1 a. QUJD",
	}; !slices.Equal(got, want) {
		t.Errorf("read\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestReadNamesFileAndLineOfWhatIsWrong(t *testing.T) {
	begin := "CONFIG_END\nSCENARIO_BEGIN x\n"
	entry := begin + "STEP 1 QUERY\nENTRY_BEGIN\n" // four lines
	for name, tt := range map[string]struct{ text, want string }{
		"nothing":                   {"", `0: the file ends before CONFIG_END`},
		"no configuration":          {"SCENARIO_BEGIN x\n", `1: CONFIG_END expected`},
		"no scenario":               {"CONFIG_END\n\nSTEP 1 NOTHING\n", `3: SCENARIO_BEGIN expected`},
		"no steps":                  {begin + "SCENARIO_END\n", `3: a scenario without steps shows nothing`},
		"no end":                    {begin + "STEP 1 NOTHING\n", `3: the file ends before SCENARIO_END`},
		"unknown line":              {begin + "STOP\n", `3: RANGE_BEGIN, STEP or SCENARIO_END expected, not "STOP"`},
		"key outside of a clause":   {"do-ip6: no\nserver:\nCONFIG_END\n", `1: "do-ip6:" is in no clause`},
		"value without a key":       {"server: no\nCONFIG_END\n", `1: the value "no" has no key`},
		"open quotation mark":       {"server:\n\tname: \"x\nCONFIG_END\n", `2: a quotation mark is never closed`},
		"file of no setting":        {"server:\nTEMPFILE_NAME x\nCONFIG_END\n", `2: TEMPFILE_NAME belongs to no setting`},
		"file without an end":       {"server:\nTEMPFILE_CONTENTS x\n", `2: the file ends before TEMPFILE_END`},
		"Deckard without a colon":   {"qmin\nCONFIG_END\n", `1: "qmin" is no "key: value"`},
		"range without numbers":     {begin + "RANGE_BEGIN 0\n", `3: RANGE_BEGIN from to`},
		"range with a word":         {begin + "RANGE_BEGIN 0 all\n", `3: RANGE_BEGIN: "all" is no number`},
		"range with a bad address":  {begin + "RANGE_BEGIN 0 1\nADDRESS a.b\n", `4: ADDRESS: "a.b" is none`},
		"range without an end":      {begin + "RANGE_BEGIN 0 1\n", `3: the file ends before RANGE_END`},
		"step without a kind":       {begin + "STEP 1\n", `3: STEP number kind`},
		"step of no kind":           {begin + "STEP 1 DANCE\n", `3: STEP: unknown kind "DANCE"`},
		"step without a number":     {begin + "STEP one QUERY\n", `3: STEP: "one" is no number`},
		"steps out of order":        {begin + "STEP 2 NOTHING\nSTEP 2 NOTHING\n", `4: step 2 comes after step 2`},
		"step at a bad address":     {begin + "STEP 1 QUERY TO you\n", `3: ADDRESS and one address expected, not "TO"`},
		"too much time":             {begin + "STEP 1 TIME_PASSES ELAPSE 1e12\n", `3: ELAPSE: "1e12" is no number of seconds, or too many`},
		"time that is none":         {begin + "STEP 1 TIME_PASSES ELAPSE NaN\n", `3: ELAPSE: "NaN" is no number of seconds, or too many`},
		"time backwards":            {begin + "STEP 1 TIME_PASSES ELAPSE -1\n", `3: ELAPSE: "-1" is no number of seconds, or too many`},
		"no time":                   {begin + "STEP 1 TIME_PASSES\n", `3: ELAPSE and a number of seconds expected`},
		"queries without an end":    {begin + "STEP 1 CHECK_SENT\n192.0.2.1 a. A\n", `4: the file ends before SENT_END`},
		"query without a type":      {begin + "STEP 1 CHECK_SENT\n192.0.2.1 a.\n", `4: address, name and type of a query expected`},
		"flush of no type":          {begin + "STEP 1 FLUSH_MESSAGE a. IN BOGUS\n", `3: "BOGUS" is no class or type`},
		"step without an entry":     {begin + "STEP 1 QUERY\nSTEP 2 NOTHING\n", `4: ENTRY_BEGIN expected, not "STEP"`},
		"entry without an end":      {entry + "REPLY RD\n", `5: the file ends before ENTRY_END`},
		"unknown match":             {entry + "MATCH opcode smell\n", `5: MATCH: unknown word "smell"`},
		"EDE out of range":          {entry + "MATCH ede=65536\n", `5: MATCH: unknown word "ede=65536"`},
		"unknown flag":              {entry + "REPLY XX\n", `5: REPLY: unknown word "XX"`},
		"unknown adjustment":        {entry + "ADJUST jump\n", `5: ADJUST: unknown word "jump"`},
		"too long a sleep":          {entry + "ADJUST sleep=99999\n", `5: ADJUST: unknown word "sleep=99999"`},
		"unknown section":           {entry + "SECTION COMMENTS\n", `5: unknown section "COMMENTS"`},
		"hexadecimal that is none":  {entry + "HEX_ANSWER_BEGIN\n0\nHEX_ANSWER_END\n", `7: before HEX_ANSWER_END: encoding/hex: odd length hex string`},
		"hexadecimal without end":   {entry + "HEX_EDNSDATA_BEGIN\n00\n", `6: the file ends before HEX_EDNSDATA_END`},
		"question without a type":   {entry + "SECTION QUESTION\nwww.\n", `6: name, class and type of a question expected, not "www."`},
		"question of a bad name":    {entry + "SECTION QUESTION\na..b. A\n", `6: "a..b." is no name`},
		"record that is none":       {entry + "SECTION ANSWER\nwww. A here\n", `6: dns: bad A A: "here" at line: 1:11`},
		"record without an owner":   {entry + "SECTION ANSWER\n( ) A 192.0.2.1\n", `6: "( ) A 192.0.2.1" is no record`},
		"OPT record":                {entry + "SECTION ADDITIONAL\n. CLASS4096 OPT \\# 0\n", `6: an OPT or TSIG record cannot be written as text`},
		"malformed OPT record":      {entry + "SECTION ADDITIONAL\n. CLASS4096 OPT \\# 1 00\n", `6: dns: OPT.Option: dns: overflow unpacking opt: " " at line: 1:16`},
		"directive that multiplies": {entry + "SECTION ANSWER\n$GENERATE 1-65535 $ A 192.0.2.1\n", `6: "$GENERATE" needs one value`},
		"other directive":           {entry + "SECTION ANSWER\n$INCLUDE /etc/passwd\n", `6: unknown directive "$INCLUDE"`},
		"bad origin":                {entry + "$ORIGIN a..b\n", `5: $ORIGIN: "a..b" is no name`},
		"bad TTL":                   {entry + "$TTL 1h\n", `5: $TTL: "1h" is no number of seconds`},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			sc, err := Read("a.rpl", strings.NewReader(tt.text))
			if want := "a.rpl:" + tt.want; sc != nil || err == nil || err.Error() != want {
				t.Errorf("got %v, error %v, want %s", sc, err, want)
			}
		})
	}
}

func TestReadIsBounded(t *testing.T) {
	begin := "CONFIG_END\nSCENARIO_BEGIN x\n"
	for name, tt := range map[string]struct{ text, want string }{
		"line":  {begin + strings.Repeat("x", maxLine+1), "token too long"},
		"file":  {begin + strings.Repeat("; filling\n", maxFile/10) + nothing, errTooLong.Error()},
		"entry": {begin + "STEP 1 QUERY\nENTRY_BEGIN\nSECTION ANSWER\n" + strings.Repeat("a. TXT "+strings.Repeat("x", 200)+"\n", 350) + "ENTRY_END\n", "octets"},
	} {
		if _, err := Read("a.rpl", strings.NewReader(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %s", name, err, tt.want)
		}
	}
}
