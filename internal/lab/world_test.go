package lab_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/exchange"
	"shirube/internal/lab"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

// indexed is a line of the index of zone files.
type indexed struct {
	zone, file string
	addrs      []netip.Addr
}

// writeZones writes the zones of a world, and reads the index.
func writeZones(t *testing.T, w *lab.World) (dir string, index []indexed) {
	t.Helper()
	dir = t.TempDir()
	if err := w.WriteZones(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, lab.IndexFile))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 3 {
			t.Fatalf("line of the index: %q", line)
		}
		z := indexed{zone: f[0], file: f[1]}
		for a := range strings.SplitSeq(f[2], ",") {
			z.addrs = append(z.addrs, netip.MustParseAddr(a))
		}
		index = append(index, z)
	}
	return dir, index
}

func readFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(b)
	}
	return files
}

func TestWorldFollowsFromItsSeed(t *testing.T) {
	write := func(seed uint64) map[string]string {
		dir, _ := writeZones(t, lab.NewWorld(seed))
		return readFiles(t, dir)
	}
	first, second, other := write(1), write(1), write(2)
	if len(first) != len(second) {
		t.Fatalf("%d files, then %d", len(first), len(second))
	}
	for name, text := range first {
		if second[name] != text {
			t.Errorf("%s differs between two worlds of one seed", name)
		}
	}
	if first[lab.IndexFile] == other[lab.IndexFile] {
		t.Error("two seeds make the same zones")
	}
	if !slices.Equal(lab.NewWorld(1).Questions(), lab.NewWorld(1).Questions()) {
		t.Error("the questions differ between two worlds of one seed")
	}
}

func TestWorldIsOfThePromisedSize(t *testing.T) {
	for seed := range uint64(3) {
		w := lab.NewWorld(seed)
		_, index := writeZones(t, w)
		perDepth := make(map[int]int)
		addrs := make(map[netip.Addr]bool)
		for _, z := range index {
			perDepth[wire.MustParseName(z.zone).Labels()]++
			for _, a := range z.addrs {
				addrs[a] = true
				if !netip.MustParsePrefix("127.53.0.0/16").Contains(a) && a != netip.IPv6Loopback() {
					t.Errorf("%s is served at %s", z.zone, a)
				}
			}
		}
		// in-addr.arpa. is the 201st zone of two labels.
		if perDepth[0] != 1 || perDepth[1] != 5 || perDepth[2] != 201 {
			t.Errorf("seed %d: zones by number of labels: %v", seed, perDepth)
		}
		if len(addrs) < 20 || len(addrs) > 40 {
			t.Errorf("seed %d: %d addresses", seed, len(addrs))
		}
		if n := len(w.Questions()); n < 10_000 {
			t.Errorf("seed %d: %d questions for load", seed, n)
		}
	}
}

func TestZoneFilesAreAcceptedByNSD(t *testing.T) {
	path, err := exec.LookPath("nsd-checkzone")
	if err != nil {
		path = "/usr/sbin/nsd-checkzone"
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("nsd-checkzone is needed (Debian: nsd): %v", err)
	}
	dir, index := writeZones(t, lab.NewWorld(1))
	for _, z := range index {
		out, err := exec.CommandContext(t.Context(), path, z.zone, filepath.Join(dir, z.file)).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", z.zone, err, out)
		}
	}
}

func TestWriteZonesReportsDirectoryThatIsNot(t *testing.T) {
	if err := lab.NewWorld(1).WriteZones(filepath.Join(t.TempDir(), "nosuch")); err == nil {
		t.Error("no error")
	}
}

// parsed returns the zones of a world, read back from its files.
func parsed(t *testing.T, w *lab.World) map[string]*simnet.Zone {
	t.Helper()
	dir, index := writeZones(t, w)
	zones := make(map[string]*simnet.Zone)
	for _, z := range index {
		text, err := os.ReadFile(filepath.Join(dir, z.file))
		if err != nil {
			t.Fatal(err)
		}
		if zones[z.zone], err = simnet.ParseZone(z.zone, string(text)); err != nil {
			t.Fatal(err)
		}
	}
	return zones
}

func TestDelegationsAreWhatTheZonesSay(t *testing.T) {
	zones := parsed(t, lab.NewWorld(1))
	hosts := func(rrs []dns.RR) (names []string) {
		for _, rr := range rrs {
			if ns, ok := rr.(*dns.NS); ok {
				names = append(names, ns.Ns)
			}
		}
		return names
	}
	for origin, zone := range zones {
		if origin == "." {
			continue
		}
		_, above, _ := strings.Cut(origin, ".")
		parent := zones[above]
		if parent == nil {
			parent = zones["."]
		}
		query := new(dns.Msg).SetQuestion(origin, dns.TypeNS)
		referral := simnet.NewServer(parent).Answer(query)
		apex := simnet.NewServer(zone).Answer(query)
		if got, want := hosts(referral.Ns), hosts(apex.Answer); !slices.Equal(got, want) || len(want) == 0 {
			t.Errorf("%s: delegated to %v, says %v", origin, got, want)
		}
		for _, glue := range referral.Extra {
			host := glue.Header().Name
			if dns.IsSubDomain(origin, host) {
				own := simnet.NewServer(zone).Answer(new(dns.Msg).SetQuestion(host, glue.Header().Rrtype))
				if !slices.Contains(lab.Lines(own.Answer), lab.Lines([]dns.RR{glue})[0]) {
					t.Errorf("%s: glue %v, the zone says %v", origin, glue, own.Answer)
				}
			}
		}
	}
}

func TestEveryZoneIsServedAtItsAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := lab.NewWorld(1)
		_, index := writeZones(t, w)
		n := simnet.New()
		if err := w.Install(n); err != nil {
			t.Fatal(err)
		}
		for _, z := range index {
			for _, a := range z.addrs {
				resp, err := n.Exchange(t.Context(), exchange.Request{
					Server:   netip.AddrPortFrom(a, lab.DefaultPort),
					Question: wire.Question{Name: wire.MustParseName(z.zone), Type: wire.TypeSOA},
					Timeout:  time.Second,
				})
				if err != nil || !resp.Msg.Authoritative || len(resp.Msg.Answer) != 1 {
					t.Errorf("%s at %s: got %v, %v", z.zone, a, resp.Msg, err)
				}
			}
		}
	})
}

func TestNamesTellTheTruth(t *testing.T) {
	names, err := lab.NewWorld(7).Names()
	if err != nil {
		t.Fatal(err)
	}
	byQuestion := make(map[string]lab.Name)
	for _, n := range names {
		if _, twice := byQuestion[n.Question.String()]; twice {
			t.Errorf("%s is there twice", n.Question)
		}
		if n.Why == "" || n.Rcode == wire.Refused || n.Rcode == wire.ServFail && n.Answers != nil {
			t.Errorf("%+v", n)
		}
		byQuestion[n.Question.String()] = n
	}
	long := strings.Repeat(strings.Repeat("x", 63)+".", 3) + strings.Repeat("y", 37)
	const archive = "archive.of.the.old.site.relocated.mura."
	for _, tt := range []struct {
		question string
		rcode    wire.Rcode
		answers  []string // with the data of addresses left out
	}{
		{"www.shirube.lab. A", wire.NoError, []string{"www.shirube.lab. A"}},
		{"www.shirube.lab. MX", wire.NoError, nil},
		{"nosuch.shirube.lab. A", wire.NXDomain, nil},
		{"home.shirube.lab. AAAA", wire.NoError, []string{
			"blog.shirube.lab. CNAME www.shirube.lab.", "home.shirube.lab. CNAME blog.shirube.lab.", "www.shirube.lab. AAAA",
		}},
		{"n3.hop4.shima. A", wire.NoError, []string{
			"n0.hop1.lab. A", "n1.hop2.mura. CNAME n0.hop1.lab.", "n2.hop3.machi. CNAME n1.hop2.mura.",
			"n3.hop4.shima. CNAME n2.hop3.machi.",
		}},
		{"n1.hop2.mura. MX", wire.NoError, []string{"n1.hop2.mura. CNAME n0.hop1.lab."}},
		{"n12.hop1.lab. A", wire.ServFail, nil},
		{"loop.hop1.lab. A", wire.ServFail, nil},
		{"dangling.hop3.machi. A", wire.NXDomain, []string{"dangling.hop3.machi. CNAME nosuch.hop4.shima."}},
		{"www.legacy.lab. A", wire.NoError, []string{
			"legacy.lab. DNAME " + archive, "www." + archive + " A", "www.legacy.lab. CNAME www." + archive,
		}},
		{long + ".legacy.lab. A", wire.YXDomain, []string{"legacy.lab. DNAME " + archive}},
		{"a.b.c.wild.machi. MX", wire.NoError, []string{"a.b.c.wild.machi. MX 10 mail.wild.machi."}},
		{"x.exists.wild.machi. A", wire.NXDomain, nil},
		{"c.d.ent.shima. A", wire.NoError, nil},
		{"x.c.d.ent.shima. A", wire.NXDomain, nil},
		{"www.zero.mura. A", wire.NoError, []string{"www.zero.mura. A"}},
		{"www.glueless2.mura. A", wire.NoError, []string{"www.glueless2.mura. A"}},
		{"www.lame.lab. A", wire.NoError, []string{"www.lame.lab. A"}},
		{"www.dead.minato. A", wire.ServFail, nil},
		{"www.circle1.lab. A", wire.ServFail, nil},
		{"www.six.shima. A", wire.NoError, []string{"www.six.shima. A"}},
		{"1.0.53.127.in-addr.arpa. PTR", wire.NoError, []string{"1.0.53.127.in-addr.arpa. PTR a.root.lab."}},
	} {
		n, ok := byQuestion[tt.question]
		if !ok {
			t.Errorf("%s is not there", tt.question)
			continue
		}
		var answers []string
		for _, line := range n.Answers {
			if f := strings.Fields(line); f[1] == "A" || f[1] == "AAAA" {
				line = f[0] + " " + f[1]
			}
			answers = append(answers, line)
		}
		if n.Rcode != tt.rcode || !slices.Equal(answers, tt.answers) {
			t.Errorf("%s: got %s %q, want %s %q", tt.question, n.Rcode, answers, tt.rcode, tt.answers)
		}
	}
	if n := len(byQuestion["many.large.minato. TXT"].Answers); n != 64 {
		t.Errorf("%d TXT records, want 64", n)
	}
}

func TestQuestionsForLoadCanBeAnswered(t *testing.T) {
	w := lab.NewWorld(1)
	names, err := w.Names()
	if err != nil {
		t.Fatal(err)
	}
	answerable := make(map[wire.Question]bool)
	for _, n := range names {
		answerable[n.Question] = n.Rcode == wire.NoError || n.Rcode == wire.NXDomain
	}
	for _, q := range w.Questions() {
		if !answerable[q] {
			t.Errorf("%s", q)
		}
	}
}

func TestSamplesAreInEveryWorld(t *testing.T) {
	for seed := range uint64(3) {
		w := lab.NewWorld(seed)
		names, err := w.Names()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range w.Samples() {
			if !slices.ContainsFunc(names, func(n lab.Name) bool { return n.Question == s.Question }) {
				t.Errorf("seed %d: %s is not", seed, s.Question)
			}
		}
	}
}

func TestDescribePrintsEachSample(t *testing.T) {
	var out bytes.Buffer
	w := lab.NewWorld(1)
	if err := w.Describe(&out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != len(w.Samples()) || len(lines) < 5 {
		t.Fatalf("%d lines:\n%s", len(lines), out.String())
	}
	for i, s := range w.Samples() {
		if f := strings.Fields(lines[i]); f[0]+" "+f[1] != s.Question.String() || !strings.HasSuffix(lines[i], s.Shows) {
			t.Errorf("line %q, want %s and %q", lines[i], s.Question, s.Shows)
		}
	}
}

func TestHintsAreWhatTheRootSays(t *testing.T) {
	w := lab.NewWorld(1)
	zp := dns.NewZoneParser(strings.NewReader(w.Hints()), ".", "hints")
	var hints []dns.RR
	for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
		hints = append(hints, rr)
	}
	if err := zp.Err(); err != nil {
		t.Fatal(err)
	}
	priming := simnet.NewServer(parsed(t, w)["."]).Answer(new(dns.Msg).SetQuestion(".", dns.TypeNS))
	want := lab.Lines(slices.Concat(priming.Answer, priming.Extra))
	if got := lab.Lines(hints); !slices.Equal(got, want) || len(got) != 5 {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLinesCompareAnswers(t *testing.T) {
	a := simnet.RRs("b.example. 1 A 192.0.2.1\nA.example. 2 CNAME B.example.")
	b := simnet.RRs("a.example. 3 CNAME B.example.\nb.example. 4 A 192.0.2.1")
	if !slices.Equal(lab.Lines(a), lab.Lines(b)) {
		t.Errorf("%q and %q", lab.Lines(a), lab.Lines(b))
	}
	if c := simnet.RRs("a.example. 3 CNAME c.example."); slices.Equal(lab.Lines(a), lab.Lines(c)) {
		t.Errorf("%q and %q are the same", lab.Lines(a), lab.Lines(c))
	}
	if got := fmt.Sprint(lab.Lines(a)); got != "[a.example. CNAME B.example. b.example. A 192.0.2.1]" {
		t.Errorf("got %s", got)
	}
}
