package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/porttest"
)

// Where the zone is whose keys are rolled, and its parent.
const (
	addrRolling   = "127.54.66.4"
	rollingParent = "roll."
	rollingZone   = "zone.roll."
)

// rollingText and parentText are these zones. Their TTLs are those that
// testdata/rollover.knot.conf counts on.
const (
	parentText = `$ORIGIN ` + rollingParent + `
$TTL 1
@ SOA ns hostmaster 1 1800 900 604800 1
@ NS ns
ns A ` + addrRolling + `
zone NS ns.zone
ns.zone A ` + addrRolling + `
`
	rollingText = `$ORIGIN ` + rollingZone + `
$TTL 2
@ SOA ns hostmaster 1 1800 900 604800 1
@ NS ns
@ MX 10 www
ns A ` + addrRolling + `
www A 198.51.100.1
a.b.c TXT "below an empty non-terminal"
*.wild A 198.51.100.2
alias 1 CNAME www
`
)

// rollSteps bounds how long the keys may take to be new, and then the algorithm.
const rollSteps = 60 * time.Second

// roller is a Knot that rolls keys.
type roller struct {
	*authority

	at netip.AddrPort
}

// tags returns the keys of the zone: their tags, and whether all are of an
// algorithm.
func (k *roller) tags(algorithm uint8) (tags []uint16, all bool, err error) {
	m, err := askAt(k.at, rollingZone, dns.TypeDNSKEY, false)
	if err != nil {
		return nil, false, err
	}
	all = true
	for _, rr := range m.Answer {
		if key, ok := rr.(*dns.DNSKEY); ok {
			tags = append(tags, key.KeyTag())
			all = all && key.Algorithm == algorithm
		}
	}
	return tags, all && len(tags) > 0, nil
}

// entry returns the tags that the parent has for the zone.
func (k *roller) entry() (tags []uint16, err error) {
	m, err := askAt(k.at, rollingZone, dns.TypeDS, false)
	if err != nil {
		return nil, err
	}
	for _, rr := range m.Answer {
		if ds, ok := rr.(*dns.DS); ok {
			tags = append(tags, ds.KeyTag)
		}
	}
	return tags, nil
}

// await waits until k's keys are as they should be.
func (k *roller) await(t *testing.T, what string, done func() (bool, error)) {
	t.Helper()
	begun := time.Now()
	for {
		ok, err := done()
		switch {
		case ok:
			t.Logf("%s after %v", what, time.Since(begun).Round(100*time.Millisecond))
			return
		case time.Since(begun) > rollSteps:
			t.Fatalf("not yet after %v: %s (%v)\n%s", rollSteps, what, err, tail(k.out.String(), 40))
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// changeAlgorithm has k roll to Ed25519.
func (k *roller) changeAlgorithm(t *testing.T) {
	t.Helper()
	conf := filepath.Join(k.Dir, "knot.conf")
	b, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, conf, strings.ReplaceAll(string(b), "algorithm: ecdsap256sha256", "algorithm: ed25519"))
	k.signal(syscall.SIGHUP)
}

// watcher asks a resolver about the zone all the time.
type watcher struct {
	at netip.AddrPort

	mu    sync.Mutex
	asked int
	bad   []string        // what was said that should not have been
	keys  map[string]bool // that signed what was answered: algorithm and tag
}

// Between two questions of a watcher.
const watchPause = 20 * time.Millisecond

// watch asks what next returns for each number, from 0 on, until done is closed.
func (w *watcher) watch(done <-chan struct{}, next func(n int) (q question, rcode int)) {
	for n := 0; ; n++ {
		select {
		case <-done:
			return
		case <-time.After(watchPause):
		}
		w.ask(next(n))
	}
}

// ask asks one question, and notes what is wrong with the answer.
func (w *watcher) ask(q question, rcode int) {
	m := new(dns.Msg).SetQuestion(q.name, dns.StringToType[q.typ])
	m.SetEdns0(1232, true)
	c := dns.Client{Timeout: 20 * time.Second}
	rsp, _, err := c.Exchange(m, w.at.String())
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	switch {
	case err != nil:
		w.bad = append(w.bad, fmt.Sprintf("%v: %v", q, err))
		return
	case rsp.Rcode != rcode || !rsp.AuthenticatedData:
		w.bad = append(w.bad, fmt.Sprintf("%v %v: expected %s with AD\n%v", time.Now().Format("15:04:05.000"), q, dns.RcodeToString[rcode], rsp))
	}
	for _, rr := range append(rsp.Answer, rsp.Ns...) {
		if sig, ok := rr.(*dns.RRSIG); ok && sig.SignerName == rollingZone {
			w.keys[fmt.Sprintf("%s %d", dns.AlgorithmToString[sig.Algorithm], sig.KeyTag)] = true
		}
	}
}

// keptNames are asked again and again: they are in memory mostly.
var keptNames = []struct {
	question

	rcode int
}{
	{question{"www." + rollingZone, "A"}, dns.RcodeSuccess},
	{question{rollingZone, "MX"}, dns.RcodeSuccess},
	{question{rollingZone, "DNSKEY"}, dns.RcodeSuccess},
	{question{rollingZone, "DS"}, dns.RcodeSuccess},
	{question{"alias." + rollingZone, "A"}, dns.RcodeSuccess},
	{question{"www." + rollingZone, "AAAA"}, dns.RcodeSuccess},
	{question{"b.c." + rollingZone, "TXT"}, dns.RcodeSuccess},
	{question{"nosuch." + rollingZone, "A"}, dns.RcodeNameError},
}

// newName returns a question that nobody has asked before.
func newName(n int) (q question, rcode int) {
	if n%2 == 0 {
		return question{fmt.Sprintf("n%d.wild.%s", n, rollingZone), "A"}, dns.RcodeSuccess
	}
	return question{fmt.Sprintf("n%d.%s", n, rollingZone), "A"}, dns.RcodeNameError
}

// TestAnswersStayProvenWhileKeysAreRolled has Knot roll a zone's keys, of both
// kinds, and then its algorithm, in seconds, and asks all the while.
func TestAnswersStayProvenWhileKeysAreRolled(t *testing.T) {
	t.Parallel()
	port := porttest.Take(t)
	at := netip.AddrPortFrom(netip.MustParseAddr(addrRolling), port)
	knot := software{"knot", map[string]string{"rollover.knot.conf": "knot.conf"}, softwares[1].argv, nil}
	k := &roller{at: at, authority: startAuthority(t, knot, []served{
		{Name: rollingParent, text: parentText, Policy: "own"}, {Name: rollingZone, text: rollingText, Policy: "rolling"},
	}, at)}
	k.await(t, "the parent has a DS record", func() (bool, error) {
		tags, err := k.entry()
		return len(tags) > 0, err
	})
	text, ds := signedDelegation(t, rollingParent, at)
	l := rootOf(t, netip.AddrPortFrom(netip.MustParseAddr(addrLabParents), port), text, ds)
	s := serve(t, settings{
		listen: []string{"127.0.0.1"},
		hints:  ". 3600 NS ns.root.\nns.root. 3600 A " + addrLabParents + "\n",
		port:   int(port),
		cache:  "serve_stale: {enabled: false}", // it would hide a failure
		dnssec: fmt.Sprintf("trust_anchors: [%q]\nauto_trust_anchor: false\n", l.anchor),
	})
	w := &watcher{at: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(s.port)), keys: make(map[string]bool)}
	first, _, err := k.tags(dns.ECDSAP256SHA256)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	end := sync.OnceFunc(func() { close(done); wg.Wait() })
	defer end()
	wg.Go(func() {
		w.watch(done, func(n int) (question, int) { q := keptNames[n%len(keptNames)]; return q.question, q.rcode })
	})
	wg.Go(func() { w.watch(done, newName) })

	k.await(t, "all keys are others", func() (bool, error) {
		now, _, err := k.tags(dns.ECDSAP256SHA256)
		return len(now) > 0 && !slices.ContainsFunc(now, func(tag uint16) bool { return slices.Contains(first, tag) }), err
	})
	k.changeAlgorithm(t)
	k.await(t, "the algorithm is another", func() (bool, error) {
		_, all, err := k.tags(dns.ED25519)
		return all, err
	})
	time.Sleep(3 * time.Second) // until nothing that was said before is remembered
	end()
	w.judge(t)
}

// judge reports what was wrong, and demands that the watcher has seen it all.
func (w *watcher) judge(t *testing.T) {
	t.Helper()
	if len(w.bad) > 0 {
		t.Errorf("%d of %d answers are wrong; the first:\n%s", len(w.bad), w.asked, strings.Join(w.bad[:min(3, len(w.bad))], "\n"))
	}
	byAlgorithm := make(map[string]int)
	for key := range w.keys {
		alg, _, _ := strings.Cut(key, " ")
		byAlgorithm[alg]++
	}
	// Two keys before, one of each kind, two after that, and two of the other.
	if old, other := byAlgorithm["ECDSAP256SHA256"], byAlgorithm["ED25519"]; old < 4 || other < 2 {
		t.Errorf("answers were signed by %d keys of the old algorithm and %d of the new one, want 4 and 2", old, other)
	}
	t.Logf("%d answers, by keys %v", w.asked, byAlgorithm)
}
