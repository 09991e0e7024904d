package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"shirube/internal/lab"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// demoCommand is a command to try, as the demo and its help print it.
var demoCommand = regexp.MustCompile(`(?m)^  (dig @\S+ -p \d+ (\S+?)\.?(?: (\S+))?)$`)

// TestDemoShowsWhatItPromises starts the demo, and runs in a shell what it says
// to try.
func TestDemoShowsWhatItPromises(t *testing.T) {
	in := ownNetwork(t)
	if in != nil { // else others want its ports, too
		t.Parallel()
	}
	awaitDefaultPort(t, in)
	tmp := t.TempDir()
	stdout := &output{}
	p := launch(t, launched{in: in, env: []string{"TMPDIR=" + tmp}, stdout: stdout}, "demo")
	if _, err := p.await(stdout, "Ctrl-C", startTimeout); err != nil {
		t.Fatal(err)
	}
	if _, err := p.await(p.out, "msg=ready", startTimeout); err != nil {
		t.Fatal(err)
	}
	if files := entries(t, tmp); len(files) == 0 {
		t.Error("the demo has no file of root hints where this test looks for it")
	}

	commands := demoCommand.FindAllStringSubmatch(stdout.String(), -1)
	if len(commands) != 7 {
		t.Errorf("%d commands to try, want 7:\n%s", len(commands), stdout)
	}
	help, _, _ := runServer(t, "", "demo", "--help")
	inHelp := demoCommand.FindAllStringSubmatch(help, -1)
	if len(inHelp) == 0 {
		t.Errorf("no command to try in demo --help:\n%s", help)
	}
	for _, c := range append(commands, inHelp...) {
		tryDemo(t, in, c[1], question{c[2] + ".", orA(c[3])})
	}
	askDelv(t, in)
	tryEncryptedDemo(t, in, stdout.String())

	p.signal(os.Interrupt)
	if !p.wait(stopTimeout) || p.exitCode() != 0 {
		t.Errorf("after SIGINT: %s, want exit status 0", p.state())
	}
	if files := entries(t, tmp); len(files) != 0 {
		t.Errorf("the demo leaves %q behind", files)
	}
}

// askDelv has another validator look at what the demo answers with CD, and
// compares what it says of each kind of zone with what its zones deserve.
func askDelv(t *testing.T, in *network) {
	t.Helper()
	world := lab.NewSignedWorld(1)
	names, err := world.Names()
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(world.Anchor()) // ". 3600 IN DS tag algorithm type digest"
	anchors := filepath.Join(t.TempDir(), "anchors")
	text := fmt.Sprintf("trust-anchors { . static-ds %s %s %s %q; };\n", f[4], f[5], f[6], strings.Join(f[7:], ""))
	if err := os.WriteFile(anchors, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, n := range names {
		verdict := "; fully validated"
		switch {
		case strings.HasPrefix(n.Why, "bogus"):
			verdict = "resolution failed"
		case n.Rcode != wire.NoError || len(n.Answers) == 0:
			continue
		case n.Trust != rrset.Secure:
			verdict = "; unsigned answer"
		}
		if seen[n.Why]++; seen[n.Why] > 2 || seen[verdict] > 40 {
			continue
		}
		seen[verdict]++
		ctx, cancel := context.WithTimeout(t.Context(), askTimeout)
		argv := append(in.enter("delv"), "@127.0.0.1", "-p", "5353", "-a", anchors, "+root", "+tcp", n.Question.Name.String(), n.Question.Type.String())
		out, _ := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput() // its exit status says nothing of the verdict
		cancel()
		if !strings.Contains(string(out), verdict) {
			t.Errorf("%v (%s): delv does not say %q:\n%s", n.Question, n.Why, verdict, out)
		}
	}
	for _, verdict := range []string{"; fully validated", "; unsigned answer", "resolution failed"} {
		if seen[verdict] < 10 {
			t.Errorf("delv was asked for %d names of which it should say %q", seen[verdict], verdict)
		}
	}
}

// encryptedDemoCommand is a command to try that is not about what the zones hold.
var encryptedDemoCommand = regexp.MustCompile(`(?m)^  ((?:kdig|curl) .*)$`)

// tryEncryptedDemo runs what the demo says to try encrypted, and looks for what
// shows that it was, and for the answer.
func tryEncryptedDemo(t *testing.T, in *network, said string) {
	t.Helper()
	shows := [][]string{
		{"TLS session (TLS1.3)", "status: NOERROR", "www.shirube.lab.", "198.18."},
		{"QUIC session (QUICv1)", "status: NOERROR", "www.shirube.lab.", "198.18."},
		{"HTTP session (HTTP/2-POST)", "status: 200", "status: NOERROR", "198.18."},
		{"00 00 81 80 00 01 00 01", "04 c6 12"}, // RA, one answer; 198.18.0.0/15
		{"dns.shirube.lab. alpn=h3,h2 port=8443", "dns.shirube.lab. alpn=dot port=8853", "dns.shirube.lab. alpn=doq port=8853"},
	}
	commands := encryptedDemoCommand.FindAllStringSubmatch(said, -1)
	if len(commands) != len(shows) {
		t.Fatalf("%d commands to try, want %d:\n%s", len(commands), len(shows), said)
	}
	for i, c := range commands {
		ctx, cancel := context.WithTimeout(t.Context(), askTimeout)
		argv := in.enter("bash")
		out, err := exec.CommandContext(ctx, argv[0], append(argv[1:], "-o", "pipefail", "-c", c[1])...).CombinedOutput()
		cancel()
		for _, want := range shows[i] {
			if err != nil || !strings.Contains(strings.ReplaceAll(string(out), "\n", " "), want) {
				t.Errorf("%s: %v, want %q in:\n%s", c[1], err, want, out)
			}
		}
	}
}

func orA(typ string) string {
	if typ == "" {
		return "A"
	}
	return typ
}

// entries returns the names of what is in a directory.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	es, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range es {
		names = append(names, e.Name())
	}
	return names
}

// tryDemo runs a command and compares what it prints with what the zones of the
// demo hold.
func tryDemo(t *testing.T, in *network, command string, q question) {
	t.Helper()
	names, err := lab.NewSignedWorld(1).Names()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(names, func(n lab.Name) bool {
		return n.Question.Name.String() == q.name && n.Question.Type.String() == q.typ
	})
	if i < 0 {
		t.Errorf("%s: the demo's zones have no answer to that", command)
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), askTimeout)
	defer cancel()
	argv := in.enter("bash")
	cmd := exec.CommandContext(ctx, argv[0], append(argv[1:], "-c", command)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v\n%s", command, err, out)
		return
	}
	// Servers that are out of order must not make the client ask twice: dig and
	// kdig say so when they do.
	if strings.Contains(string(out), "timed out") || strings.Contains(string(out), "response timeout") {
		t.Errorf("%s: no answer at first\n%s", command, head(string(out), 10))
	}
	rs := parseResponses(t, string(out))
	if len(rs) != 1 {
		t.Errorf("%s: %d responses:\n%s", command, len(rs), out)
		return
	}
	var rrs []dns.RR
	for _, rec := range rs[0].sections["ANSWER"] {
		rr, err := dns.NewRR(rec.text)
		if err != nil {
			t.Fatal(err)
		}
		rrs = append(rrs, rr)
	}
	if rs[0].status != names[i].Rcode.String() || len(rrs) == 0 != (names[i].Rcode == wire.ServFail) {
		t.Errorf("%s: %s and %d records, want %v and some", command, rs[0].status, len(rrs), names[i].Rcode)
	}
	if proven := names[i].Trust == rrset.Secure; strings.Contains(" "+rs[0].flags+" ", " ad ") != proven {
		t.Errorf("%s: flags %q; proven %v", command, rs[0].flags, proven)
	}
	if d := difference(lab.Lines(rrs), names[i].Answers); d != "" {
		t.Errorf("%s: the answer differs:%s", command, d)
	}
}
