package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/lab"
	"shirube/internal/wire"
)

// loadNames is how many different questions dnsperf asks.
const loadNames = 10_000

// TestDnsperfGetsEveryAnswer asks 10,000 questions of the lab, first each of
// them once and unknown to the server, then as fast as it goes for a few
// seconds. The minute of load is `make soak`.
func TestDnsperfGetsEveryAnswer(t *testing.T) {
	l, err := lab.Start(t.Context(), lab.Options{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	queries, want := loadFile(t, l)
	s := serve(t, settings{hints: l.Hints(), port: int(l.Port())})

	cold := dnsperf(t, s, "-d", queries, "-n", "1", "-q", "50")
	if cold.sent != loadNames || cold.completed != loadNames || cold.lost != 0 {
		t.Errorf("cold: %+v, want %d sent, all of them answered", cold, loadNames)
	}
	if got := fmt.Sprint(cold.rcodes); got != fmt.Sprint(want) {
		t.Errorf("cold: %s, want %v", got, want)
	}
	warm := dnsperf(t, s, "-d", queries, "-l", "3", "-q", "50")
	if warm.completed != warm.sent || warm.lost != 0 || warm.sent < loadNames {
		t.Errorf("warm: %+v, want all answered, and more than %d", warm, loadNames)
	}
	for rcode := range warm.rcodes {
		if _, ok := want[rcode]; !ok {
			t.Errorf("warm: %d answers %s", warm.rcodes[rcode], rcode)
		}
	}
	t.Logf("warm: %d answers in 3 s, with the race detector", warm.completed)
}

// loadFile writes a file of questions for dnsperf, and returns how many of
// which rcode their answers have.
func loadFile(t *testing.T, l *lab.Lab) (path string, rcodes map[string]int) {
	t.Helper()
	names, err := l.Names()
	if err != nil {
		t.Fatal(err)
	}
	truth := make(map[wire.Question]wire.Rcode, len(names))
	for _, n := range names {
		truth[n.Question] = n.Rcode
	}
	qs := l.Questions()
	if len(qs) < loadNames {
		t.Fatalf("the lab has %d questions, want %d", len(qs), loadNames)
	}
	var file strings.Builder
	rcodes = make(map[string]int)
	for _, q := range qs[:loadNames] {
		rcodes[truth[q].String()]++
		fmt.Fprintln(&file, q)
	}
	path = filepath.Join(t.TempDir(), "queries")
	writeFile(t, path, file.String())
	return path, rcodes
}

// load is what dnsperf says of a run.
type load struct {
	sent, completed, lost int
	rcodes                map[string]int
}

var (
	dnsperfCount = regexp.MustCompile(`(?m)^ *Queries (sent|completed|lost): +(\d+)`)
	dnsperfCodes = regexp.MustCompile(`(?m)^ *Response codes: +(.*)$`)
	dnsperfCode  = regexp.MustCompile(`(\w+) (\d+) \(`)
)

// dnsperf runs dnsperf and returns what it counted.
func dnsperf(t *testing.T, s *server, args ...string) load {
	t.Helper()
	c := client{"dnsperf", append([]string{"-s", "127.0.0.1", "-p", strconv.Itoa(s.port), "-c", "8", "-T", "1", "-e"}, args...)}
	out, code := c.run(t)
	l := load{rcodes: make(map[string]int)}
	for _, m := range dnsperfCount.FindAllStringSubmatch(out, -1) {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		*map[string]*int{"sent": &l.sent, "completed": &l.completed, "lost": &l.lost}[m[1]] = n
	}
	codes := dnsperfCodes.FindStringSubmatch(out)
	if code != 0 || codes == nil {
		t.Fatalf("dnsperf: exit code %d:\n%s", code, out)
	}
	for _, m := range dnsperfCode.FindAllStringSubmatch(codes[1], -1) {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			t.Fatal(err)
		}
		l.rcodes[m[1]] = n
	}
	return l
}

// TestNothingIsLeftOpen asks 2,000 questions of all kinds, and then looks for
// descriptors and goroutines that the server did not have before.
func TestNothingIsLeftOpen(t *testing.T) {
	t.Parallel()
	s := serve(t, settings{resolver: "timeout: 4s", limits: "udp_discard_timeout: 20s\ntcp_idle_timeout: 1s\ntcp_message_timeout: 1s"})
	askMany(t, s, "before", 50) // until it has all that it keeps
	fds, goroutines := settled(t, s, 0, 0)
	sockets, workers := keeps(t, s)
	askMany(t, s, "after", 2000)
	afterFDs, afterGoroutines := settled(t, s, len(fds), goroutines)
	afterSockets, afterWorkers := keeps(t, s) // as many as were busy at once, at most
	fds, goroutines = append(fds, make([]string, max(afterSockets-sockets, 0))...), goroutines+max(afterWorkers-workers, 0)
	if len(afterFDs) > len(fds) {
		t.Errorf("%d descriptors before and %d after 2,000 questions:\n%s", len(fds), len(afterFDs), strings.Join(afterFDs, "\n"))
	}
	if afterGoroutines > goroutines {
		t.Errorf("%d goroutines before and %d after 2,000 questions", goroutines, afterGoroutines)
	}
}

// keeps returns how many sockets towards name servers the server keeps for later,
// and how many goroutines for queries that take longer.
func keeps(t *testing.T, s *server) (sockets, workers int) {
	t.Helper()
	log := statistics(t, s)
	for field, n := range map[string]*int{"Kept:": &sockets, "Resting:": &workers} {
		_, rest, ok := cutLast(log, field)
		if _, err := fmt.Sscanf(rest, "%d", n); !ok || err != nil {
			t.Fatalf("no %s in the statistics: %v", field, err)
		}
	}
	return sockets, workers
}

// settled waits until the server has at most as many descriptors and
// goroutines as given, or for 10 s, and returns what it has then; without them
// until it has the same for a second.
func settled(t *testing.T, s *server, mostFDs, mostGoroutines int) (fds []string, goroutines int) {
	t.Helper()
	stable := 0
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		lastFDs, lastGoroutines := len(fds), goroutines
		fds, goroutines = descriptors(t, s), countGoroutines(t, s)
		if mostFDs > 0 && len(fds) <= mostFDs && goroutines <= mostGoroutines {
			return fds, goroutines
		}
		if stable++; len(fds) != lastFDs || goroutines != lastGoroutines {
			stable = 0
		}
		if mostFDs == 0 && stable == 15 {
			return fds, goroutines
		}
	}
	return fds, goroutines
}

// descriptors returns what the server has open.
func descriptors(t *testing.T, s *server) []string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", s.pid())
	var open []string
	for _, name := range entries(t, dir) {
		target, err := os.Readlink(filepath.Join(dir, name))
		if err == nil { // else it was closed in between
			open = append(open, name+" "+target)
		}
	}
	slices.Sort(open)
	return open
}

// countGoroutines asks the server by SIGUSR1 how many goroutines it has.
func countGoroutines(t *testing.T, s *server) int {
	t.Helper()
	log := statistics(t, s)
	_, rest, _ := cutLast(log, "msg=statistics goroutines=")
	n, err := strconv.Atoi(strings.Fields(rest + " ?")[0])
	if err != nil {
		t.Fatalf("no goroutines in the statistics: %v", err)
	}
	return n
}

// statistics makes the server write its statistics, and returns its log.
func statistics(t *testing.T, s *server) string {
	t.Helper()
	before := strings.Count(s.out.String(), "msg=statistics")
	s.signal(syscall.SIGUSR1)
	for deadline := time.Now().Add(startTimeout); s.running() && time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if log := s.out.String(); strings.Count(log, "msg=statistics") > before && strings.HasSuffix(log, "\n") {
			return log
		}
	}
	t.Fatalf("no statistics after SIGUSR1; the server is %s", s.state())
	return ""
}

// askMany asks n questions, of all kinds and over all transports, by several
// clients at once. The names that are not to be found are new ones for every
// label.
func askMany(t *testing.T, s *server, label string, n int) {
	t.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	var mu sync.Mutex
	var wrong []error
	for range 20 {
		// Owner: askMany. End: when all are asked. Bound: 20.
		wg.Go(func() {
			for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
				if err := askOne(t.Context(), s, label, i); err != nil {
					mu.Lock()
					wrong = append(wrong, fmt.Errorf("question %d: %w", i, err))
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	// Other tests say what the answers have to be. Here a few may be lost to a
	// machine so busy that a name server does not get to answer in time.
	if len(wrong) > max(n/50, 5) {
		t.Errorf("%d questions of %d: %v", len(wrong), n, errors.Join(wrong...))
	}
}

// askOne asks the i-th question of a label.
func askOne(ctx context.Context, s *server, label string, i int) error {
	kinds := []struct {
		name  string
		typ   uint16
		rcode int
	}{
		{"www.plain.west.", dns.TypeA, dns.RcodeSuccess},
		{"many.big.east.", dns.TypeTXT, dns.RcodeSuccess},
		{fmt.Sprintf("%s%d.wild.plain.west.", label, i), dns.TypeA, dns.RcodeSuccess},
		{fmt.Sprintf("%s%d.plain.east.", label, i), dns.TypeA, dns.RcodeNameError},
		{fmt.Sprintf("%s%d.six.east.", label, i), dns.TypeA, dns.RcodeNameError},
		{fmt.Sprintf("%s%d.down.west.", label, i), dns.TypeA, dns.RcodeServerFailure},
		{fmt.Sprintf("%s%d.lame.west.", label, i), dns.TypeA, dns.RcodeServerFailure},
		{"n0.plain.west.", dns.TypeA, dns.RcodeSuccess},
		{"zero.plain.west.", dns.TypeA, dns.RcodeSuccess},
	}
	kind := kinds[i%len(kinds)]
	if i%100 == 0 { // takes all the time there is
		kind.name, kind.rcode = fmt.Sprintf("%s%d.silent.west.", label, i), dns.RcodeServerFailure
	}
	network, at := "udp", "127.0.0.1"
	if i/len(kinds)%2 == 0 {
		network = "tcp"
	}
	if i/len(kinds)%4 < 2 {
		at = "[::1]"
	}
	c := dns.Client{Net: network, Timeout: 15 * time.Second}
	m := new(dns.Msg).SetQuestion(kind.name, kind.typ)
	r, _, err := c.ExchangeContext(ctx, m, fmt.Sprintf("%s:%d", at, s.port))
	if err != nil {
		return fmt.Errorf("%s over %s: %w", kind.name, network, err)
	}
	if r.Rcode != kind.rcode {
		return fmt.Errorf("%s over %s: %s, want %s", kind.name, network, dns.RcodeToString[r.Rcode], dns.RcodeToString[kind.rcode])
	}
	return nil
}
