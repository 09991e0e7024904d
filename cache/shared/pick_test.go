package shared

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func listOf(n int) []Server {
	var out []Server
	for i := range n {
		out = append(out, Server{Name: fmt.Sprintf("memcached-%d", i), Addr: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(1+i))})
	}
	return out
}

func TestOneMoreServerTakesItsShareOfTheKeysOnly(t *testing.T) {
	const n, keys = 5, 20_000
	c := newTestCache(t, nil, listOf(n)...)
	chance := rand.New(rand.NewPCG(1, 2)) // the same each time
	hashes := make([]uint64, keys)
	before := make([]string, keys)
	load := map[string]int{}
	for i := range hashes {
		hashes[i] = chance.Uint64()
		first, second := nearest(*c.servers.Load(), hashes[i])
		if first == second || second == nil {
			t.Fatal("the runner-up is another server")
		}
		before[i] = first.Name
		load[first.Name]++
	}
	for name, count := range load {
		if count < keys/n*9/10 || count > keys/n*11/10 {
			t.Errorf("%s has %d of %d keys", name, count, keys)
		}
	}
	kept := *c.servers.Load()
	if err := c.SetServers(listOf(n + 1)); err != nil {
		t.Fatal(err)
	}
	moved := 0
	for i, h := range hashes {
		first, _ := nearest(*c.servers.Load(), h)
		if first.Name != before[i] {
			moved++
			if first.Name != "memcached-5" {
				t.Fatalf("a key moved from %s to %s", before[i], first.Name)
			}
		}
	}
	if moved < keys/(n+1)*9/10 || moved > keys/(n+1)*11/10 {
		t.Errorf("%d of %d keys moved", moved, keys)
	}
	for i, s := range *c.servers.Load() {
		if i < n && s != kept[i] {
			t.Errorf("%s was made anew", s.Name)
		}
	}
}

func TestNamePlacesKeysWhateverTheAddress(t *testing.T) {
	a := newTestCache(t, nil, Server{"x", netip.MustParseAddrPort("127.0.0.1:1")}, Server{"y", netip.MustParseAddrPort("127.0.0.1:2")})
	b := newTestCache(t, nil, Server{"y", netip.MustParseAddrPort("127.0.0.1:3")}, Server{"x", netip.MustParseAddrPort("127.0.0.1:4")})
	for i := range uint64(1000) {
		h := i * 0x9e3779b97f4a7c15
		one, _ := nearest(*a.servers.Load(), h)
		other, _ := nearest(*b.servers.Load(), h)
		if one.Name != other.Name {
			t.Fatalf("key %x is at %s and at %s", h, one.Name, other.Name)
		}
	}
}

func TestBadListsOfServersAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"a 127.0.0.1:1\na 127.0.0.1:2":      "twice",
		"a":                                 "1 words",
		"a b c":                             "3 words",
		"a localhost:11211":                 "IP address",
		"a 127.0.0.1":                       "IP address",
		"a 127.0.0.1:0":                     "no address with a port",
		strings.Join(linesOf(65), "\n"):     "65 servers",
		"# nothing\n\n  a  [::1]:11211  \n": "",
	} {
		servers, err := parseMembers(text)
		if want == "" {
			if err != nil || len(servers) != 1 || servers[0].String() != "a [::1]:11211" {
				t.Errorf("%q: %v, %v", text, servers, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func linesOf(n int) (out []string) {
	for _, s := range listOf(n) {
		out = append(out, s.String())
	}
	return out
}

func TestBreakerTripsAndReturns(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	var b breaker
	for range 100 {
		b.note(well, now)
	}
	for i := range tripBad - 1 {
		if b.note(late, now) {
			t.Fatalf("out after %d of 107", i+1)
		}
	}
	now = now.Add(tripTime)
	if !b.note(late, now) || !b.out.Load() || b.admits(0, now) {
		t.Fatal("eight in a row, and still in")
	}
	if b.note(late, now) {
		t.Error("out twice")
	}
	if b.pause() != minOut {
		t.Errorf("out for %v the first time", b.pause())
	}
	for range 10 {
		b.failed(now)
	}
	if b.pause() != maxOut {
		t.Errorf("out for %v at most", b.pause())
	}
	b.letIn(now)
	for _, tt := range []struct {
		after       time.Duration
		least, most int
	}{{0, 8, 12}, {rampTime / 2, 50, 60}, {rampTime, 100, 100}} {
		n := 0
		for h := range uint64(100) {
			if b.admits(h, now.Add(tt.after)) {
				n++
			}
		}
		if n < tt.least || n > tt.most {
			t.Errorf("%d%% after %v", n, tt.after)
		}
	}
	// Half of them bad, never many in a row.
	b = breaker{}
	tripped := false
	for i := range 2 * tripBad {
		tripped = b.note([]verdict{well, late}[i%2], now.Add(time.Duration(i)*tripTime/tripBad)) || tripped
	}
	if !tripped {
		t.Error("every second fails, and it is in")
	}
	// The same number, spread over a long time.
	b = breaker{}
	for i := range 100 {
		if b.note([]verdict{wrong, well}[i%2], now.Add(time.Duration(i)*time.Second)) {
			t.Fatal("what is long past counts")
		}
	}
}

// What is under way when the machine, or this process, stops for a moment is late all
// at once; that is not the server's fault, and a second time soon after is.
func TestMomentThatHoldsUpAllLookupsTripsNothing(t *testing.T) {
	var b breaker
	now := time.Unix(1_000_000, 0)
	hold := func() (tripped bool) {
		for range 10 * tripBad {
			tripped = b.note(late, now) || tripped
		}
		return tripped
	}
	if hold() {
		t.Error("a moment, and it is out")
	}
	if now = now.Add(tripTime / 2); hold() {
		t.Error("half of the time, and it is out")
	}
	b.note(well, now)
	for range 20 { // one that answers in between, and it is long past
		now = now.Add(badPeriod)
		b.note(well, now)
	}
	if hold() {
		t.Error("another moment, and it is out")
	}
	if now = now.Add(tripTime); !b.note(late, now) {
		t.Error("no good look-up for the whole time, and it is in")
	}
	b = breaker{}
	for i := range tripBad {
		if b.note(wrong, now) != (i == tripBad-1) {
			t.Errorf("after %d wrong answers at once", i+1)
		}
	}
}

func TestDialsKeepTheirPace(t *testing.T) {
	now := time.Now()
	d := &dialer{most: 2}
	if d.begin(now) != nil || d.begin(now) != nil {
		t.Fatal("no connection")
	}
	if err := d.begin(now); err != errConnections { //nolint:errorlint // as it is
		t.Errorf("a third connection: %v", err)
	}
	d.end(false)
	d.end(true)
	if err := d.begin(time.Now()); err != errPace { //nolint:errorlint // as it is
		t.Errorf("at once after a failure: %v", err)
	}
	later := time.Now().Add(minRedial * 3 / 2)
	if err := d.begin(later); err != nil {
		t.Errorf("after a pause: %v", err)
	}
	if err := d.begin(later); err != errPace { //nolint:errorlint // as it is
		t.Errorf("two at once, of a server that fails: %v", err)
	}
	for range 20 {
		d.end(true)
		d.open++
	}
	if p := d.pause(); p > maxRedial*3/2 {
		t.Errorf("a pause of %v", p)
	}
	d.worked()
	if err := d.begin(time.Now()); err != nil {
		t.Errorf("of a server that works: %v", err)
	}
}
