package daemon

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/simnet"
	"shirube/internal/wire"
)

// The scenarios of published attacks are in files by what they aim at: the
// packets of others (amplification), an end that never comes (loops), the
// memory, what is believed (forgeries), and everybody else's time (floods).

// evil is where forged records lead to: a server that answers everything.
const evil = "192.0.2.66"

// serveEvil puts a server at evil that has an answer for every name of the
// zones of baseWorld.
func serveEvil(n *simnet.Net) {
	for _, zone := range []string{".", "com.", "net.", "example.com.", "other.net."} {
		n.Serve(evil, zone, fmt.Sprintf("*.%s 9999 A 203.0.113.66", strings.TrimPrefix(zone, ".")))
	}
}

// sentTo returns how many queries addr was sent.
func sentTo(n *simnet.Net, addr string) int { return n.Log().PerServer()[netip.MustParseAddr(addr)] }

// mostOfOne returns how often the same question went to the same server over
// the same transport at most.
func mostOfOne(n *simnet.Net) (most int) {
	counts := make(map[string]int)
	for _, e := range n.Log() {
		key := fmt.Sprint(e.Server, e.Question, e.TCP)
		counts[key]++
		most = max(most, counts[key])
	}
	return most
}

// failed checks that m is a SERVFAIL with an Extended DNS Error, ede as in a step.
func failed(t *testing.T, m *dns.Msg, ede int) {
	t.Helper()
	if m == nil {
		t.Error("no response, want SERVFAIL")
		return
	}
	checkResponse(m, step{rcode: wire.ServFail, ede: ede}, func(format string, args ...any) {
		t.Helper()
		t.Errorf(format+"\nresponse: %v", append(args, m)...)
	})
}

// neighbour returns the i-th of many addresses, each in a network of its own,
// that may ask.
func neighbour(i int) string { return fmt.Sprintf("127.%d.%d.1", 1+i/250%250, i%250) }

// flood asks rate questions a second for d, spec(i) the i-th, from clients
// in many networks that do not wait for each other, and returns how many got which rcode when
// all have been served.
func flood(t *testing.T, p *Pipeline, rate int, d time.Duration, spec func(i int) string) map[wire.Rcode]int {
	t.Helper()
	var mu sync.Mutex
	got := make(map[wire.Rcode]int)
	paced(int(d.Seconds()*float64(rate)), rate, func(i int) {
		m := ask(t, p, spec(i)+" +from="+neighbour(i))
		mu.Lock()
		defer mu.Unlock()
		if m != nil {
			got[wire.Rcode(m.Rcode)]++
		}
	})
	return got
}

// paced calls do for so many, that many a second, each on a goroutine of its own, and
// waits for all. Only those that are under way have one: what the race detector takes
// for a goroutine it does not give back.
func paced(n, rate int, do func(i int)) {
	var wg sync.WaitGroup
	begun := time.Now()
	for i := range n {
		time.Sleep(time.Until(begun.Add(time.Duration(i) * time.Second / time.Duration(rate))))
		wg.Go(func() { do(i) })
	}
	wg.Wait()
}

// manyServers returns NS records that give zone count servers, named by host.
func manyServers(zone string, count int, host func(i int) string) string {
	var b strings.Builder
	for i := range count {
		fmt.Fprintf(&b, "%s 3600 NS %s\n", zone, host(i))
	}
	return b.String()
}
