package upstream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/exchange"
	"shirube/internal/wire"
)

// hostile builds a reply of records as long as a message can be.
type hostile struct {
	b []byte
	n int // records
}

// newHostile starts a reply with the test's question.
func newHostile() *hostile {
	h := &hostile{b: make([]byte, 12, 65535)}
	h.b[2], h.b[5] = 0x80, 1
	h.b = append(h.b, question.Name...)
	h.b = append(h.b, 0, 1, 0, 1)
	return h
}

// record appends a record if it still fits, and reports whether it did.
func (h *hostile) record(owner []byte, typ uint16, rdata []byte) bool {
	if len(h.b)+len(owner)+10+len(rdata) > 65535 {
		return false
	}
	h.b = append(h.b, owner...)
	h.b = binary.BigEndian.AppendUint16(h.b, typ)
	h.b = append(h.b, 0, 1, 0, 0, 0, 60)
	h.b = binary.BigEndian.AppendUint16(h.b, uint16(len(rdata)))
	h.b = append(h.b, rdata...)
	h.n++
	binary.BigEndian.PutUint16(h.b[6:], uint16(h.n))
	return true
}

// fill appends records while they fit, at most limit of them.
func (h *hostile) fill(limit int, owner []byte, typ uint16, rdata []byte) []byte {
	for range limit {
		if !h.record(owner, typ, rdata) {
			break
		}
	}
	return h.b
}

// room is how long RDATA can be in the only record of a reply.
const room = 65000

// pointerTo returns a compression pointer.
func pointerTo(off int) []byte { return []byte{0xC0 | byte(off>>8), byte(off)} }

// withLongName starts a reply whose first record's owner is as long as a name
// can be, of octets that each take four when written out, and returns a
// pointer to it.
func withLongName() (*hostile, []byte) {
	h := newHostile()
	at := len(h.b)
	name := bytes.Repeat(append([]byte{62}, bytes.Repeat([]byte{0xFF}, 62)...), 4)
	h.record(append(name, 0), dns.TypeA, make([]byte, 4))
	return h, pointerTo(at)
}

// withChain starts a reply with a chain of pointers to pointers, of 16,000
// octets, in RDATA that nothing looks into, and returns where its links are.
func withChain() (*hostile, []int) {
	h := newHostile()
	at := len(h.b) + 1 + 10
	rdata := []byte{}
	links := []int{}
	for i := range 8000 {
		to := 12
		if i > 0 {
			to = at + 2*i - 2
		}
		links = append(links, at+2*i)
		rdata = append(rdata, pointerTo(to)...)
	}
	h.record([]byte{0}, dns.TypeNULL, rdata)
	return h, links
}

// hostileMessages returns the worst replies that are known, by what is in them.
func hostileMessages() map[string][]byte {
	m := map[string][]byte{}
	root := []byte{0}
	h, long := withLongName()
	m["pointers to a long name as owners"] = h.fill(1<<16, long, dns.TypeA, make([]byte, 4))
	h, long = withLongName()
	m["512 times a long name"] = h.fill(maxRecords-1, long, dns.TypeNS, long)
	h, long = withLongName()
	m["SOA of long names"] = h.fill(1<<16, long, dns.TypeSOA, append(bytes.Repeat(long, 2), make([]byte, 20)...))
	h, long = withLongName()
	m["HIP of long names"] = h.fill(1, root, dns.TypeHIP, append([]byte{1, 2, 0, 1, 'x', 'y'}, bytes.Repeat(long, room/2)...))
	h, links := withChain()
	m["pointers to pointers"] = h.fill(1<<16, pointerTo(links[120]), dns.TypeNS, pointerTo(links[120]))
	h, links = withChain()
	m["8000 pointers in a row"] = h.fill(1<<16, pointerTo(links[7999]), dns.TypeA, make([]byte, 4))
	h = newHostile()
	m["pointer to itself"] = h.fill(1<<16, pointerTo(len(h.b)), dns.TypeA, make([]byte, 4))
	m["smallest records"] = newHostile().fill(1<<16, root, dns.TypeNULL, nil)
	m["5000 addresses"] = newHostile().fill(1<<16, root, dns.TypeA, make([]byte, 4))
	m["TXT of empty strings"] = newHostile().fill(1, root, dns.TypeTXT, make([]byte, room))
	m["512 TXT of empty strings"] = newHostile().fill(maxRecords, root, dns.TypeTXT, make([]byte, 110))
	m["TXT of octets to escape"] = newHostile().fill(1, root, dns.TypeTXT, bytes.Repeat(append([]byte{255}, bytes.Repeat([]byte{0xFF}, 255)...), room/256))
	bitmap := []byte{}
	for w := range 256 {
		bitmap = append(append(bitmap, byte(w), 32), bytes.Repeat([]byte{0xFF}, 32)...)
	}
	m["NSEC with all types"] = newHostile().fill(7, root, dns.TypeNSEC, append([]byte{0}, bitmap...))
	m["CSYNC with all types"] = newHostile().fill(7, root, dns.TypeCSYNC, append(make([]byte, 6), bitmap...))
	m["NSEC3 with all types"] = newHostile().fill(7, root, dns.TypeNSEC3, append([]byte{1, 0, 0, 0, 0, 1, 'x'}, bitmap...))
	m["an OPT of empty options"] = newHostile().fill(1, root, dns.TypeOPT, make([]byte, room))
	m["512 OPT"] = newHostile().fill(maxRecords, root, dns.TypeOPT, make([]byte, 100))
	m["APL of empty prefixes"] = newHostile().fill(1, root, dns.TypeAPL, bytes.Repeat([]byte{0, 1, 0, 0}, room/4))
	params := []byte{0, 1, 0}
	for k := range room / 4 {
		params = append(params, byte((k+100)>>8), byte(k+100), 0, 0)
	}
	m["SVCB of empty parameters"] = newHostile().fill(1, root, dns.TypeSVCB, params)
	alpn := append([]byte{0, 1, 0, 0, 1, 0xFD, 0}, make([]byte, 0xFD00)...)
	m["HTTPS of empty protocols"] = newHostile().fill(1, root, dns.TypeHTTPS, alpn)
	m["DNSKEY of 65 kB"] = newHostile().fill(1, root, dns.TypeDNSKEY, make([]byte, room))
	m["unknown type of 65 kB"] = newHostile().fill(1, root, 65280, make([]byte, room))
	return m
}

// A reply takes at most this much of us, whatever is in it.
const (
	mostTime   = time.Millisecond
	mostMemory = 1 << 20
)

// cost returns the least time, of some rounds, and the memory that parse takes.
func cost(msg []byte) (least time.Duration, memory uint64) {
	const rounds = 20
	least = time.Hour
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range rounds {
		start := time.Now()
		parse(msg) //nolint:errcheck // either way
		least = min(least, time.Since(start))
	}
	runtime.ReadMemStats(&after)
	return least, (after.TotalAlloc - before.TotalAlloc) / rounds
}

func TestParseTakesLittleTimeAndMemoryForHostileReplies(t *testing.T) {
	for name, msg := range hostileMessages() {
		took, memory := cost(msg)
		_, err := parse(msg)
		t.Logf("%-35s %6d octets: %8v, %7d octets of memory, %v", name, len(msg), took, memory, err)
		if took > mostTime*slowness {
			t.Errorf("%s: takes %v", name, took)
		}
		if memory > mostMemory {
			t.Errorf("%s: takes %d octets of memory", name, memory)
		}
	}
}

// The worst that vet lets pass, in each way: just below a limit.
func TestParseTakesLittleTimeAndMemoryJustBelowTheLimits(t *testing.T) {
	root := []byte{0}
	h, long := withLongName()
	// 255 octets of name, and 1 for the pointer, each time.
	names := h.fill(maxExpansion/256-1, root, dns.TypeNS, long)
	h = newHostile()
	owners := h.fill(maxRecords, append(bytes.Repeat([]byte{1, 0xFF}, 50), 0), dns.TypeA, make([]byte, 4))
	strs := newHostile().fill(1, root, dns.TypeTXT, make([]byte, maxExpansion/growthOfString-1))
	h, long = withLongName()
	hip := h.fill(1, root, dns.TypeHIP, append([]byte{1, 2, 0, 1, 'x', 'y'}, bytes.Repeat(long, (maxExpansion/growthOfHIP-10)/2)...))
	bitmap := []byte{0}
	for w := range (maxExpansion/growthOfDense - 40) / 34 {
		bitmap = append(append(bitmap, byte(w), 32), bytes.Repeat([]byte{0xFF}, 32)...)
	}
	nsec := newHostile().fill(1, root, dns.TypeNSEC, bitmap)
	apl := newHostile().fill(1, root, dns.TypeAPL, bytes.Repeat([]byte{0, 1, 0, 0}, maxExpansion/growthOfDense/4-1))
	txt := newHostile().fill(1, root, dns.TypeTXT, bytes.Repeat(append([]byte{255}, bytes.Repeat([]byte{0xFF}, 255)...), room/256))
	h, long = withLongName()
	h.fill(200, root, dns.TypeNS, long)
	all := h.fill(1, root, dns.TypeTXT, bytes.Repeat(append([]byte{255}, bytes.Repeat([]byte{0xFF}, 255)...), (room-len(h.b))/256))
	for name, msg := range map[string][]byte{
		"much of it all": all, "long names": names, "owners": owners, "empty strings": strs, "HIP": hip, "NSEC": nsec, "APL": apl, "escaped": txt,
	} {
		took, memory := cost(msg)
		t.Logf("%-20s %6d octets: %8v, %7d octets of memory", name, len(msg), took, memory)
		if _, err := parse(msg); err != nil {
			t.Errorf("%s: %v, and it ought to be just below the limit", name, err)
		}
		if took > mostTime*slowness || memory > mostMemory {
			t.Errorf("%s: takes %v and %d octets of memory", name, took, memory)
		}
	}
}

func TestVetNamesWhatIsWrong(t *testing.T) {
	m := hostileMessages()
	for name, want := range map[string]error{
		"smallest records":         errRecords,
		"8000 pointers in a row":   errRecords,
		"512 times a long name":    errExpansion,
		"HIP of long names":        errExpansion,
		"TXT of empty strings":     errExpansion,
		"NSEC with all types":      errExpansion,
		"SVCB of empty parameters": errExpansion,
		"an OPT of empty options":  errOPT,
	} {
		if _, err := vet(m[name]); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	root := []byte{0}
	chain, links := withChain()
	loop := newHostile()
	forward := newHostile()
	header := newHostile()
	two := newHostile()
	two.record(root, dns.TypeOPT, nil)
	two.record(root, dns.TypeOPT, []byte{0, 1, 0, 0})
	two.record(root, dns.TypeOPT, []byte{0, 1, 0, 0})
	for name, test := range map[string]struct {
		msg  []byte
		want error
	}{
		"33 pointers":           {chain.fill(1, pointerTo(links[maxPointers-1]), dns.TypeA, make([]byte, 4)), errPointer},
		"pointer to itself":     {loop.fill(1, pointerTo(len(loop.b)), dns.TypeA, make([]byte, 4)), errPointer},
		"pointer ahead":         {forward.fill(1, pointerTo(len(forward.b)+20), dns.TypeA, make([]byte, 20)), errPointer},
		"pointer to the header": {header.fill(1, pointerTo(4), dns.TypeA, make([]byte, 4)), errPointer},
		"label of type 01":      {newHostile().fill(1, []byte{0x41, 'x', 0}, dns.TypeA, make([]byte, 4)), errNameForm},
		"256 octets of name":    {newHostile().fill(1, append(bytes.Repeat([]byte{4, 'a', 'b', 'c', 'd'}, 51), 0), dns.TypeA, make([]byte, 4)), errNameForm},
		"two OPT":               {two.b, errOPT},
		"33 options":            {newHostile().fill(1, root, dns.TypeOPT, make([]byte, 4*33)), errOPT},
		"option cut short":      {newHostile().fill(1, root, dns.TypeOPT, []byte{0, 3, 0, 5, 'x'}), errShort},
		"half an option":        {newHostile().fill(1, root, dns.TypeOPT, []byte{0, 3}), errShort},
		"NS without a name":     {newHostile().fill(1, root, dns.TypeNS, nil), errRDATA},
		"name past its RDATA":   {newHostile().fill(1, root, dns.TypeNS, []byte{5, 'a'}), errShort},
		"SOA of one name":       {newHostile().fill(1, root, dns.TypeSOA, root), errShort},
	} {
		if _, err := vet(test.msg); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
		if _, err := parse(test.msg); !errors.Is(err, exchange.ErrMalformed) {
			t.Errorf("%s: parse returns %v", name, err)
		}
	}
	if _, err := parse(newHostile().fill(1, root, dns.TypeOPT, make([]byte, 4*wire.MaxOptions))); err != nil {
		t.Errorf("32 options: %v", err)
	}
	if _, err := parse(newHostile().fill(maxRecords, root, dns.TypeA, make([]byte, 4))); err != nil {
		t.Errorf("%d records: %v", maxRecords, err)
	}
	unknown := newHostile()
	unknown.record(root, 65280, nil)
	unknown.record(root, dns.TypeNULL, nil)
	if _, err := parse(unknown.b); err != nil {
		t.Errorf("RDATA that may be empty: %v", err)
	}
	chain, links = withChain()
	if _, err := vet(chain.fill(1, pointerTo(links[maxPointers-2]), dns.TypeA, make([]byte, 4))); err != nil {
		t.Errorf("%d pointers: %v", maxPointers, err)
	}
}

// ordinary are records of every type that is looked into, and some that are not.
// IPSECKEY is last because miekg/dns cannot read what comes after it.
const ordinary = `
www.example.com. 60 IN A 192.0.2.1
www.example.com. 60 IN AAAA 2001:db8::1
example.com. 60 IN NS ns1.example.com.
example.com. 60 IN SOA ns1.example.com. hostmaster.example.com. 1 2 3 4 5
alias.example.com. 60 IN CNAME www.example.com.
old.example.com. 60 IN DNAME example.net.
1.2.0.192.in-addr.arpa. 60 IN PTR www.example.com.
example.com. 60 IN MX 10 mail.example.com.
example.com. 60 IN TXT "v=spf1 -all" "" "another"
_sip._tcp.example.com. 60 IN SRV 0 5 5060 sip.example.com.
example.com. 60 IN NAPTR 100 10 "u" "sip+E2U" "!^.*$!sip:x@example.com!" .
example.com. 60 IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D
example.com. 60 IN DNSKEY 257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==
example.com. 60 IN RRSIG A 13 2 60 20300101000000 20200101000000 12345 example.com. mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==
example.com. 60 IN NSEC www.example.com. A NS SOA MX RRSIG NSEC DNSKEY TYPE65534
0p9mhaveqvm6t7vbl5lop2u3t2rp3tom.example.com. 60 IN NSEC3 1 1 12 aabbccdd 2T7B4G4VSA5SMI47K61MV5BV1A22BOJR A RRSIG
example.com. 60 IN NSEC3PARAM 1 0 0 -
example.com. 60 IN SVCB 1 svc.example.com. alpn="h2,h3" port="853" ipv4hint="192.0.2.1,192.0.2.2"
example.com. 60 IN HTTPS 1 . alpn="h2" ipv6hint="2001:db8::1"
example.com. 60 IN CAA 0 issue "ca.example.net"
example.com. 60 IN RP mbox.example.com. txt.example.com.
example.com. 60 IN APL 1:192.0.2.0/24 !2:2001:db8::/32
example.com. 60 IN LP 10 l64-subnet1.example.com.
example.com. 60 IN PX 10 map822.example.com. mapx400.example.com.
example.com. 60 IN AMTRELAY 0 0 3 amt.example.com.
example.com. 60 IN CSYNC 66 3 A NS AAAA
example.com. 60 IN TYPE65280 \# 3 abcdef
example.com. 60 IN HIP 2 200100107b1a74df365639cc39f1d578 AwEAAbdxyhNuSutc5EMzxTs9LBPCIkOFH8cIvM4p rvs.example.com.
example.com. 60 IN IPSECKEY 10 3 2 gateway.example.com. AQNRU3mG7TVTO2BkR47usntb102uFJtugbo6BSGvgqt4AQ==
`

// ordinaryReply packs them all into one reply.
func ordinaryReply(t testing.TB) ([]byte, *dns.Msg) {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion("www.example.com.", dns.TypeANY)
	m.Response, m.Compress = true, true
	zp := dns.NewZoneParser(strings.NewReader(ordinary), "", "")
	for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
		m.Answer = append(m.Answer, rr)
	}
	if err := zp.Err(); err != nil {
		t.Fatal(err)
	}
	m.SetEdns0(1232, true)
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b, m
}

func TestParseTakesOrdinaryRecordsOfEveryType(t *testing.T) {
	b, want := ordinaryReply(t)
	got, err := parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Answer) != strings.Count(ordinary, "\n")-1 {
		t.Errorf("%d records", len(got.Answer))
	}
	for i, rr := range want.Answer {
		if i < len(got.Answer) && got.Answer[i].String() != rr.String() {
			t.Errorf("got %v, want %v", got.Answer[i], rr)
		}
	}
}

func TestParseTakesTheLargestSetsThatAreKept(t *testing.T) {
	m := new(dns.Msg)
	m.SetQuestion("www.example.com.", dns.TypePTR)
	m.Response, m.Compress = true, true
	for i := range 400 {
		m.Answer = append(m.Answer, &dns.PTR{
			Hdr: dns.RR_Header{Name: m.Question[0].Name, Rrtype: dns.TypePTR, Class: dns.ClassINET},
			Ptr: fmt.Sprintf("a-host-with-a-rather-long-name-%d.some-network.region-1.compute.example.net.", i),
		})
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parse(b); err != nil {
		t.Errorf("400 names: %v", err)
	}
}

// The attempt's memory is used again, so an answer must not point into it.
func TestParseKeepsNothingOfTheMessage(t *testing.T) {
	b, _ := ordinaryReply(t)
	m, err := parse(b)
	if err != nil {
		t.Fatal(err)
	}
	before := m.String()
	for i := range b {
		b[i] ^= 0x55
	}
	if after := m.String(); after != before {
		t.Errorf("the answer was\n%s\nand is now\n%s", before, after)
	}
}
