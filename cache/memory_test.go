package cache

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// cutOf returns a cut for host<i>.example. as a parent might describe it.
func cutOf(tb testing.TB, rng *rand.Rand, i int) *rrset.Cut {
	tb.Helper()
	c := &rrset.Cut{Zone: name(fmt.Sprintf("host%d.example.", i)), Until: time.Now().Add(time.Hour)}
	for j := range 1 + rng.IntN(13) {
		s := rrset.Server{Host: name(fmt.Sprintf("ns%d.host%d.example.", j, i))}
		for range rng.IntN(6) {
			s.Addrs = append(s.Addrs, netip.AddrFrom4([4]byte{192, 0, 2, byte(rng.IntN(256))}))
		}
		c.Servers = append(c.Servers, s)
	}
	if n := rng.IntN(4); n > 0 {
		c.DS = &rrset.Set{Name: c.Zone, Type: wire.TypeDS}
		for range n {
			c.DS.RRs = append(c.DS.RRs, rr(tb, "example. 300 IN DS 1 13 2 "+strings.Repeat("AB", 32)))
		}
	}
	return c
}

// linkOf returns a link for host<i>.example.
func linkOf(tb testing.TB, rng *rand.Rand, i int) *rrset.Link {
	tb.Helper()
	l := &rrset.Link{Zone: name(fmt.Sprintf("host%d.example.", i)), Trust: rrset.Secure, Since: time.Now(), Until: time.Now().Add(time.Hour)}
	for range rng.IntN(4) {
		l.Keys = append(l.Keys, rr(tb, "example. 300 IN DNSKEY 257 3 8 "+strings.Repeat("A", 342)+"==").(*dns.DNSKEY))
	}
	return l
}

// zoneCut returns a cut that lives for the given time.
func zoneCut(zone string, life time.Duration) *rrset.Cut {
	return &rrset.Cut{Zone: name(zone), Until: time.Now().Add(life)}
}

func TestCutIsTheClosestOneAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(MemoryOptions{})
		if c := m.Cut(name("www.example.com.")); c != nil {
			t.Fatalf("an empty memory has the cut %v", c)
		}
		root, com, example := zoneCut(".", time.Hour), zoneCut("com.", time.Minute), zoneCut("example.com.", time.Second)
		for _, c := range []*rrset.Cut{root, com, example, zoneCut("ample.com.", time.Hour)} {
			m.PutCut(c)
		}
		want := func(n string, want *rrset.Cut) {
			t.Helper()
			if got := m.Cut(name(n)); got != want {
				t.Errorf("the cut for %s is %v, want %v", n, got, want)
			}
		}
		want("a.b.c.www.example.com.", example)
		want("example.com.", example)
		want("notexample.com.", com) // a label is not a part of one
		want("com.", com)
		want("net.", root)
		want(".", root)
		time.Sleep(time.Second - 1)
		want("www.example.com.", example)
		time.Sleep(time.Nanosecond)
		want("www.example.com.", com)
		time.Sleep(time.Minute)
		want("www.example.com.", root)
		time.Sleep(time.Hour)
		want("www.example.com.", nil)
	})
}

func TestCutWithoutAnEndLivesForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(MemoryOptions{})
		root := &rrset.Cut{Zone: wire.Root} // as root hints are
		m.PutCut(root)
		time.Sleep(10 * 365 * 24 * time.Hour)
		if got := m.Cut(name("www.example.")); got != root {
			t.Errorf("the cut is %v", got)
		}
	})
}

func TestLinkIsTheClosestLiveOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(MemoryOptions{})
		link := func(zone string, life time.Duration) *rrset.Link {
			return &rrset.Link{Zone: name(zone), Trust: rrset.Insecure, Since: time.Now(), Until: time.Now().Add(life)}
		}
		com, example := link("com.", time.Hour), link("example.com.", time.Minute)
		m.PutLink(com)
		m.PutLink(example)
		m.PutLink(link("www.example.com.", 0)) // without life
		for _, tt := range []struct {
			name string
			want *rrset.Link
		}{{"www.example.com.", example}, {"example.com.", example}, {"other.com.", com}, {"com.", com}, {".", nil}, {"net.", nil}} {
			if got := m.Link(name(tt.name)); got != tt.want {
				t.Errorf("%s: the link is %+v, want %+v", tt.name, got, tt.want)
			}
		}
		time.Sleep(time.Minute)
		if got := m.Link(name("www.example.com.")); got != com {
			t.Errorf("the link is %+v, after the closer one has ended", got)
		}
		m.PutLink(&rrset.Link{Zone: com.Zone, Until: time.Now()})
		if got := m.Link(name("www.example.com.")); got != nil {
			t.Errorf("the link is %+v, after it was taken back", got)
		}
	})
}

func TestPutCutReplacesWhatWasKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(MemoryOptions{})
		long := zoneCut("example.", time.Hour)
		long.DS = &rrset.Set{Name: long.Zone, Type: wire.TypeDS, Trust: rrset.Secure}
		short := zoneCut("example.", time.Second)
		m.PutCut(long)
		m.PutCut(short)
		if got := m.Cut(name("www.example.")); got != short {
			t.Errorf("the cut is %v, want the parent's last word", got)
		}
		m.PutCut(zoneCut("example.", 0)) // its last word may be: not any more
		if got := m.Cut(name("www.example.")); got != nil {
			t.Errorf("the cut is %v, after one without life", got)
		}
		if st := m.Stats().Cuts; st.Entries != 0 || st.Bytes != NewMemory(MemoryOptions{}).Stats().Cuts.Bytes {
			t.Errorf("the statistics are %+v", st)
		}
	})
}

// addrSet returns the set of an address that lives for the given time.
func addrSet(tb testing.TB, addr string, rank rrset.Rank, trust rrset.Trust, life time.Duration) rrset.Set {
	tb.Helper()
	return rrset.Set{
		Name: name("www.example."), Type: wire.TypeA, RRs: rrs(tb, "www.example. 300 IN A "+addr),
		Rank: rank, Trust: trust, Until: time.Now().Add(life),
	}
}

// addrIn returns the address in m.
func addrIn(m *Memory) string {
	s, ok := m.Set(name("www.example."), wire.TypeA)
	if !ok || len(s.RRs) != 1 {
		return ""
	}
	return s.RRs[0].(*dns.A).A.String()
}

func TestPutSetNeverLowersRankOrTrustWhileAlive(t *testing.T) { // RFC 2181 §5.4.1
	const oldAddr, newAddr = "192.0.2.1", "192.0.2.2"
	synctest.Test(t, func(t *testing.T) {
		for oldRank := rrset.Additional; oldRank <= rrset.AuthAnswer; oldRank++ {
			for newRank := rrset.Additional; newRank <= rrset.AuthAnswer; newRank++ {
				for oldTrust := rrset.Unchecked; oldTrust <= rrset.Secure; oldTrust++ {
					for newTrust := rrset.Unchecked; newTrust <= rrset.Secure; newTrust++ {
						m := NewMemory(MemoryOptions{Bytes: 1 << 20})
						m.PutSet(addrSet(t, oldAddr, oldRank, oldTrust, time.Second))
						m.PutSet(addrSet(t, newAddr, newRank, newTrust, time.Minute))
						want := newAddr
						if newTrust < oldTrust || newTrust == oldTrust && newRank < oldRank { // what was proven counts for more than where it stood
							want = oldAddr
						}
						if got := addrIn(m); got != want {
							t.Fatalf("rank %d trust %v put over rank %d trust %v: the set is %s", newRank, newTrust, oldRank, oldTrust, got)
						}
					}
				}
			}
		}
	})
}

func TestPutSetReplacesWhatIsExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(MemoryOptions{})
		m.PutSet(addrSet(t, "192.0.2.1", rrset.AuthAnswer, rrset.Secure, time.Minute))
		time.Sleep(time.Minute - 1)
		m.PutSet(addrSet(t, "192.0.2.2", rrset.Additional, rrset.Unchecked, time.Hour))
		if got := addrIn(m); got != "192.0.2.1" {
			t.Errorf("while the better one is alive the set is %s", got)
		}
		time.Sleep(time.Nanosecond)
		if got := addrIn(m); got != "" {
			t.Errorf("at the end of its life the set is %s", got)
		}
		m.PutSet(addrSet(t, "192.0.2.2", rrset.Additional, rrset.Unchecked, time.Hour))
		if got := addrIn(m); got != "192.0.2.2" {
			t.Errorf("after the end of the better one the set is %q", got)
		}
		if st := m.Stats().Sets; st.Entries != 1 {
			t.Errorf("the statistics are %+v", st)
		}
	})
}

func TestPutSetWithoutLifeEndsWhatItMayReplace(t *testing.T) {
	for _, tt := range []struct {
		rank rrset.Rank
		ends bool
	}{{rrset.Additional, false}, {rrset.AuthAnswer, true}} {
		m := NewMemory(MemoryOptions{})
		m.PutSet(addrSet(t, "192.0.2.1", rrset.AuthAnswer, rrset.Insecure, time.Minute))
		s := addrSet(t, "192.0.2.2", tt.rank, rrset.Insecure, 0)
		m.PutSet(s)
		if _, ok := m.Set(s.Name, s.Type); ok == tt.ends {
			t.Errorf("rank %d: the old set is there: %v, want %v", tt.rank, ok, !tt.ends)
		}
	}
}

func TestPutSetKeepsNothingWithoutLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory(MemoryOptions{})
		m.PutSet(addrSet(t, "192.0.2.1", rrset.AuthAnswer, rrset.Secure, 0))
		never := addrSet(t, "192.0.2.1", rrset.AuthAnswer, rrset.Secure, 0)
		never.Until = time.Time{}
		m.PutSet(never)
		if st := m.Stats().Sets; st.Entries != 0 {
			t.Errorf("the statistics are %+v", st)
		}
	})
}

func TestSetComesBackAsItWasPut(t *testing.T) {
	m := NewMemory(MemoryOptions{})
	until := time.Now().Add(time.Hour)
	sig := func(typ string) []*dns.RRSIG {
		return []*dns.RRSIG{rr(t, "www.example. 300 IN RRSIG "+typ+" 13 2 300 20261231000000 20261101000000 1 example. "+strings.Repeat("A", 86)+"==").(*dns.RRSIG)}
	}
	soa := rrset.Set{
		Name: name("example."), Type: wire.TypeSOA, RRs: rrs(t, "example. 300 IN SOA ns.example. root.example. 1 2 3 4 60"),
		Sigs: sig("SOA"), Rank: rrset.AuthAuthority, Trust: rrset.Secure, Until: until,
	}
	nsec := soa
	nsec.Name, nsec.Type = name("a.example."), wire.TypeNSEC
	nsec.RRs = rrs(t, "a.example. 60 IN NSEC z.example. A NS SOA MX TXT AAAA RRSIG NSEC DNSKEY TYPE65280")
	for _, s := range []rrset.Set{
		{Name: name("www.example."), Type: wire.TypeA, RRs: rrs(t, "WWW.example. 300 IN A 192.0.2.1", "www.example. 299 IN A 192.0.2.2"), Sigs: sig("A"), Rank: rrset.AuthAnswer, Trust: rrset.Secure, Until: until},
		{Name: name("www.example."), Type: wire.TypeHTTPS, RRs: rrs(t, "www.example. 300 IN HTTPS 1 . alpn=h2,h3 ipv4hint=192.0.2.1,192.0.2.2"), Rank: rrset.NonAuthAnswer, Until: until},
		{Name: name("www.example."), Type: 65280, RRs: rrs(t, `www.example. 300 IN TYPE65280 \# 3 abcdef`), Rank: rrset.AuthAnswer, Trust: rrset.Insecure, Until: until},
		{Name: name("x.example."), Type: wire.TypeTXT, RRs: rrs(t, `x.example. 300 IN TXT "" "\000\255" "a b"`), Rank: rrset.AuthAnswer, Until: until},
		{Name: name("nodata.example."), Type: wire.TypeA, Rank: rrset.AuthAuthority, Trust: rrset.Secure, Until: until, Denial: &rrset.Denial{Rcode: wire.NoError, Sets: []rrset.Set{soa, nsec}}},
		{Name: name("nx.example."), Type: rrset.AnyType, Rank: rrset.AuthAuthority, Until: until, Denial: &rrset.Denial{Rcode: wire.NXDomain, Sets: []rrset.Set{soa}}},
		{Name: name("bare.example."), Type: wire.TypeA, Rank: rrset.AuthAuthority, Until: until, Denial: &rrset.Denial{Rcode: wire.NXDomain}},
		{Name: wire.Root, Type: wire.TypeNS, RRs: rrs(t, ". 300 IN NS a.root-servers.net."), Rank: rrset.AuthAnswer, Until: until},
	} {
		m.PutSet(s)
		got, ok := m.Set(s.Name, s.Type)
		if !ok {
			t.Errorf("%v %v is not there", s.Name, s.Type)
			continue
		}
		if a, b := describe(got), describe(s); a != b {
			t.Errorf("put:\n%s\ngot:\n%s", b, a)
		}
		var addrs []netip.Addr
		for _, rr := range s.RRs {
			if a, ok := rr.(*dns.A); ok {
				addrs = append(addrs, netip.AddrFrom4([4]byte(a.A.To4())))
			}
		}
		if got := m.AppendAddrs(nil, s.Name, s.Type); !slices.Equal(got, addrs) {
			t.Errorf("the addresses of %v are %v, want %v", s.Name, got, addrs)
		}
	}
	if _, ok := m.Set(name("nx.example."), wire.TypeA); ok {
		t.Error("a denial of the whole name is found under a type")
	}
	if _, ok := m.Set(name("www.example."), wire.TypeAAAA); ok {
		t.Error("another type is found")
	}
	check(t, m.sets)
}

// describe returns all that is in s, as text.
func describe(s rrset.Set) string {
	var b strings.Builder
	fmt.Fprintln(&b, s.Name, s.Type, s.Rank, s.Trust, s.Until.UnixNano(), s.Denial != nil)
	for _, r := range s.RRs {
		fmt.Fprintln(&b, r)
	}
	for _, sig := range s.Sigs {
		fmt.Fprintln(&b, sig)
	}
	if s.Denial != nil {
		fmt.Fprintln(&b, s.Denial.Rcode)
		for _, d := range s.Denial.Sets {
			b.WriteString(describe(d))
		}
	}
	return b.String()
}

func TestSetsAreTheCallersOwn(t *testing.T) {
	m := NewMemory(MemoryOptions{})
	put := addrSet(t, "192.0.2.1", rrset.AuthAnswer, rrset.Secure, time.Hour)
	m.PutSet(put)
	put.RRs[0].(*dns.A).A[3] = 66
	got, _ := m.Set(put.Name, put.Type)
	if addrIn(m) != "192.0.2.1" {
		t.Error("who has put a set can change it")
	}
	got.RRs[0].(*dns.A).A[3] = 66
	if addrIn(m) != "192.0.2.1" {
		t.Error("who has got a set can change it")
	}
}

func TestPutSetRefusesWhatCannotBePackedOrIsTooLong(t *testing.T) {
	long := func(octets int) rrset.Set {
		s := addrSet(t, "192.0.2.1", rrset.AuthAnswer, rrset.Secure, time.Hour)
		s.Type, s.RRs = wire.TypeTXT, nil
		for octets -= 12; octets > 0; {
			n := min(octets, 200)
			if octets-n < 50 {
				n = octets
			}
			head := 12 // pointer, type, class, TTL, RDLENGTH
			if len(s.RRs) == 0 {
				head = 23
			}
			s.RRs = append(s.RRs, &dns.TXT{
				Hdr: dns.RR_Header{Name: "www.example.", Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 300},
				Txt: []string{strings.Repeat("x", n-head-1)},
			})
			octets -= n
		}
		return s
	}
	deny := func(sets ...rrset.Set) rrset.Set {
		s := addrSet(t, "192.0.2.1", rrset.AuthAnswer, rrset.Secure, time.Hour)
		s.RRs, s.Denial = nil, &rrset.Denial{Sets: sets}
		return s
	}
	broken := addrSet(t, "192.0.2.1", rrset.AuthAnswer, rrset.Secure, time.Hour)
	broken.RRs = append(broken.RRs, &dns.TXT{Hdr: dns.RR_Header{Name: "no..name."}})
	empty := addrSet(t, "192.0.2.1", rrset.AuthAnswer, rrset.Secure, time.Hour)
	empty.RRs = []dns.RR{&dns.SOA{Hdr: dns.RR_Header{Name: "www.example.", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 300}}}
	uri := addrSet(t, "192.0.2.1", rrset.AuthAnswer, rrset.Secure, time.Hour)
	uri.RRs = []dns.RR{&dns.URI{Hdr: dns.RR_Header{Name: "www.example.", Rrtype: dns.TypeURI, Class: dns.ClassINET, Ttl: 300}, Target: `x\y`}}
	for _, c := range []struct {
		what string
		set  rrset.Set
		kept bool
	}{
		{"16 KiB", long(MaxAnswer), true},
		{"an octet more", long(MaxAnswer + 1), false},
		{"16 KiB of proof", deny(long(MaxAnswer/2), long(MaxAnswer/2)), true},
		{"an octet more of proof", deny(long(MaxAnswer/2), long(MaxAnswer/2+1)), false},
		{"a broken record", broken, false},
		{"a record without data", empty, false},
		{"a record that is written otherwise than it was read", uri, false},
		{"a broken record in the proof", deny(broken), false},
	} {
		m := NewMemory(MemoryOptions{})
		m.PutSet(c.set)
		if _, ok := m.Set(c.set.Name, c.set.Type); ok != c.kept {
			t.Errorf("%s: kept %v, want %v", c.what, ok, c.kept)
		}
	}
}

func TestSetKeepsNoLongerNameAlive(t *testing.T) {
	m := NewMemory(MemoryOptions{})
	s := addrSet(t, "192.0.2.1", rrset.AuthAnswer, rrset.Secure, time.Hour)
	parent, _ := name(strings.Repeat("x", 63) + ".www.example.").Parent()
	s.Name = parent
	m.PutSet(s)
	got, ok := m.Set(parent, wire.TypeA)
	if !ok || got.Name != parent {
		t.Fatalf("the set is %v", got)
	}
	if unsafe.StringData(string(got.Name)) == unsafe.StringData(string(parent)) {
		t.Error("the set's name is the end of the longer one")
	}
}

func TestMemoryIsBounded(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	const limit = 1 << 20
	m := NewMemory(MemoryOptions{Bytes: limit})
	for i := range 5000 {
		n := fmt.Sprintf("host%d.example.", rng.IntN(3000))
		s := rrset.Set{Name: name(n), Type: wire.TypeTXT, Until: time.Now().Add(time.Hour), Rank: rrset.AuthAnswer}
		for range 1 + rng.IntN(4) {
			s.RRs = append(s.RRs, rr(t, n+" 300 IN TXT "+strings.Repeat("x", 1+rng.IntN(200))))
		}
		m.PutSet(s)
		m.PutCut(cutOf(t, rng, rng.IntN(3000)))
		m.PutLink(linkOf(t, rng, rng.IntN(3000)))
		m.Cut(name(n))
		m.Link(name(n))
		if i%1000 == 0 {
			check(t, m.sets)
			check(t, m.cuts)
			check(t, m.links)
		}
	}
	check(t, m.sets)
	check(t, m.cuts)
	check(t, m.links)
	st := m.Stats()
	if st.Links.Bytes > limit/8 || st.Links.Evicted == 0 || st.Links.Entries == 0 {
		t.Errorf("the statistics of links are %+v", st.Links)
	}
	if st.Sets.Bytes > limit*5/8 || st.Cuts.Bytes > limit/4 || st.Sets.Evicted == 0 || st.Cuts.Evicted == 0 || st.Sets.Entries == 0 || st.Cuts.Entries == 0 {
		t.Errorf("the statistics are %+v", st)
	}
}

// TestDenialsDriveNothingElseOut floods a memory with names that do not exist.
func TestDenialsDriveNothingElseOut(t *testing.T) {
	const limit = 1 << 20
	m := NewMemory(MemoryOptions{Bytes: limit})
	until := time.Now().Add(time.Hour)
	host := func(i int) wire.Name { return name(fmt.Sprintf("host%d.example.", i)) }
	const hosts = 500
	for i := range hosts {
		n := host(i)
		m.PutSet(rrset.Set{Name: n, Type: wire.TypeA, RRs: rrs(t, n.String()+" 300 IN A 192.0.2.1"), Until: until, Rank: rrset.AuthAnswer})
	}
	denial := func(i int) rrset.Set {
		soa := rrset.Set{Name: name("example."), Type: wire.TypeSOA, RRs: rrs(t, "example. 300 IN SOA ns. host. 1 7200 3600 1209600 300"), Until: until}
		return rrset.Set{
			Name: name(fmt.Sprintf("random%d.example.", i)), Type: rrset.AnyType, Until: until, Rank: rrset.AuthAnswer,
			Denial: &rrset.Denial{Rcode: wire.NXDomain, Sets: []rrset.Set{soa}},
		}
	}
	const denials = 10_000
	for i := range denials {
		m.PutSet(denial(i))
		if i == 0 {
			check(t, m.sets)
		}
	}
	check(t, m.sets)
	for i := range hosts {
		if _, ok := m.Set(host(i), wire.TypeA); !ok {
			t.Fatalf("%v was driven out", host(i))
		}
	}
	last := denial(denials - 1)
	if s, ok := m.Set(last.Name, last.Type); !ok || s.Denial == nil {
		t.Error("the last denial is not remembered: its name is asked for with other types at once")
	}
	if st := m.Stats().Sets; st.Entries == hosts || st.Evicted < denials/2 {
		t.Errorf("the statistics are %+v", st)
	}

	// What there is comes in the place of its denial, and the other way round.
	there := rrset.Set{Name: last.Name, Type: rrset.AnyType, RRs: rrs(t, last.Name.String()+" 300 IN A 192.0.2.1"), Until: until, Rank: rrset.AuthAnswer}
	m.PutSet(there)
	check(t, m.sets)
	m.PutSet(last)
	check(t, m.sets)
	if s, ok := m.Set(last.Name, last.Type); !ok || s.Denial == nil {
		t.Errorf("what is remembered is %+v", s)
	}
	m.Resize(limit / 4)
	check(t, m.sets)
	m.Resize(1 << 30)
	for i := range 3 * denials {
		m.PutSet(denial(i))
	}
	check(t, m.sets)
	if st := m.Stats().Sets; st.Bytes > mostYielding+mostYielding/2 { // with the table
		t.Errorf("in memory without end denials take %d bytes, want %d at most", st.Bytes, mostYielding)
	}
	if got := m.Flush(Everything); got.Sets == 0 || m.Stats().Sets.Entries != 0 {
		t.Errorf("after %+v were forgotten there are %+v", got, m.Stats().Sets)
	}
	check(t, m.sets)
}

func TestMemoryServesWhileItIsFilled(t *testing.T) {
	m := NewMemory(MemoryOptions{Bytes: 256 << 10})
	var sets []rrset.Set
	var cuts []*rrset.Cut
	rng := rand.New(rand.NewPCG(11, 12))
	for i := range 200 {
		n := fmt.Sprintf("host%d.example.", i)
		sets = append(sets, rrset.Set{Name: name(n), Type: wire.TypeA, RRs: rrs(t, n+" 300 IN A 192.0.2.1"), Until: time.Now().Add(time.Hour)})
		cuts = append(cuts, cutOf(t, rng, i))
	}
	var wg sync.WaitGroup
	for worker := range 8 { // end with their loops
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(worker), 2))
			for range 1000 {
				s, c := sets[rng.IntN(len(sets))], cuts[rng.IntN(len(cuts))]
				switch rng.IntN(5) {
				case 0:
					m.PutSet(s)
				case 1:
					m.PutCut(c)
				case 2:
					if got := m.Cut(s.Name); got != nil && !s.Name.Within(got.Zone) {
						t.Errorf("the cut for %v is %v", s.Name, got.Zone)
					}
				case 3:
					m.Stats()
				default:
					if got, ok := m.Set(s.Name, s.Type); ok && describe(got) != describe(s) {
						t.Errorf("%v came back as %v", s, got)
					}
				}
			}
		})
	}
	wg.Wait()
	check(t, m.sets)
	check(t, m.cuts)
	if slices.Min([]int{m.Stats().Sets.Entries, m.Stats().Cuts.Entries}) == 0 {
		t.Error("nothing is kept")
	}
}
