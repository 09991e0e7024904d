package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"shirube/internal/porttest"
)

// TestDnstapTellsRealTools has a built server tell fstrm_capture of a cold
// question over UDP and TCP, and dnstap-ldns print what came.
func TestDnstapTellsRealTools(t *testing.T) {
	dir := t.TempDir()
	socket, captured, file := filepath.Join(dir, "sock"), filepath.Join(dir, "captured"), filepath.Join(dir, "own.fstrm")
	collector := exec.CommandContext(t.Context(), "fstrm_capture", "-t", "protobuf:dnstap.Dnstap", "-u", socket, "-w", captured)
	if err := collector.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = collector.Process.Kill() })
	s := serve(t, settings{more: fmt.Sprintf("identity: {nsid: tokyo-1}\ndnstap:\n  outputs: [{socket: %q}, {file: %q}]\n", socket, file)})
	name := "www.plain.west"
	for _, how := range [][]string{{"+notcp"}, {"+tcp"}} {
		s.ask("dig", "127.0.0.1", how...).run(t, name, "A")
	}
	endOf(t, s.process) // it says goodbye to the collector
	if err := collector.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = collector.Wait() // it says how it ended, not whether it wrote
	for _, f := range []string{captured, file} {
		out, err := exec.CommandContext(t.Context(), "dnstap-ldns", "-q", "-r", f).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		lines := string(out)
		for _, want := range []string{
			" CQ 127.0.0.1 UDP ", " CR 127.0.0.1 UDP ", " CQ 127.0.0.1 TCP ", " CR 127.0.0.1 TCP ", " RQ 127.54.", " RR 127.54.",
		} {
			if !strings.Contains(lines, want) {
				t.Errorf("%s: no %q in\n%s", filepath.Base(f), want, lines)
			}
		}
		yaml, err := exec.CommandContext(t.Context(), "dnstap-ldns", "-y", "-r", f).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, yaml)
		}
		for _, want := range []string{`identity: "tokyo-1"`, `version: "shirube ` + buildVersion + `"`, `query_zone: "plain.west."`, `query_zone: "."`} {
			if !strings.Contains(string(yaml), want) {
				t.Errorf("%s: no %s in\n%s", filepath.Base(f), want, yaml)
			}
		}
	}
}

// awaitSocket waits until there is a socket at path.
func awaitSocket(t *testing.T, path string) {
	t.Helper()
	for until := time.Now().Add(startTimeout); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
		if time.Now().After(until) {
			t.Fatal("the collector does not listen")
		}
	}
}

// tapCounts is what `shirube tap --counts` writes at its end.
type tapCounts struct {
	Counts []struct {
		Type, Transport, Rcode string
		Frames                 int
	}
	Malformed, Lost int
	QTypes          map[string]int
}

// countsOf reads what a collector that has ended has written.
func countsOf(t *testing.T, tap *process) (counts tapCounts) {
	t.Helper()
	_, report, ok := strings.Cut(tap.out.String(), "\n{\n")
	if !ok {
		report = strings.TrimPrefix(tap.out.String(), "{\n")
	}
	if err := json.Unmarshal([]byte("{\n"+report), &counts); err != nil {
		t.Fatalf("%v in\n%s", err, tap.out.String())
	}
	return counts
}

// TestTapCountsWhatDnsperfSent has four dnsperf ask at the same time, each over
// another transport and another number of questions, and holds the shares that the
// collector counts to what was sent, to the query.
func TestTapCountsWhatDnsperfSent(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	socket, queries := filepath.Join(dir, "sock"), filepath.Join(dir, "queries")
	writeFile(t, queries, strings.Repeat("www.plain.west A\nnowhere.plain.west AAAA\n", 50))
	tap := launch(t, launched{}, "tap", "--unix", socket, "--format", "none", "--counts")
	awaitSocket(t, socket)
	l := listenEncrypted(t, loopback)
	s := serve(t, settings{extra: l.extra, more: l.more + fmt.Sprintf("dnstap:\n  outputs: [{socket: %q, queue_size: 64MiB}]\n", socket)})
	want, all := map[string]int{}, 0
	t.Run("mixed", func(t *testing.T) {
		for _, w := range []struct {
			transport string
			rounds    int
			args      []string
		}{
			{"UDP", 40, nil},
			{"TCP", 25, []string{"-m", "tcp"}},
			{"DOT", 15, []string{"-m", "dot", "-p", strconv.Itoa(l.dot)}},
			{"DOH/HTTP2", 10, []string{"-m", "doh", "-p", strconv.Itoa(l.doh), "-O", "doh-uri=https://127.0.0.1/dns-query", "-O", "doh-method=GET"}},
		} {
			want["CLIENT_QUERY "+w.transport], want["CLIENT_RESPONSE "+w.transport] = 100*w.rounds, 100*w.rounds
			all += 100 * w.rounds
			t.Run(w.transport, func(t *testing.T) {
				t.Parallel()
				got := dnsperf(t, s, append([]string{"-d", queries, "-n", strconv.Itoa(w.rounds)}, w.args...)...)
				if got.sent != 100*w.rounds || got.completed != got.sent {
					t.Errorf("%+v", got)
				}
			})
		}
	})
	want["CLIENT_RESPONSE NOERROR"], want["CLIENT_RESPONSE NXDOMAIN"], want["CLIENT_QUERY "] = all/2, all/2, all
	endOf(t, s.process)
	endOf(t, tap)
	stats, got := countsOf(t, tap), map[string]int{}
	for _, c := range stats.Counts {
		if strings.HasPrefix(c.Type, "CLIENT_") {
			got[c.Type+" "+c.Transport] += c.Frames
			got[c.Type+" "+c.Rcode] += c.Frames
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("counted %v\nsent    %v", got, want)
	}
	if stats.QTypes["A"] != all/2 || stats.QTypes["AAAA"] != all/2 || stats.Malformed+stats.Lost != 0 {
		t.Errorf("%+v", stats)
	}
}

// tapOutput is what the server tells of an output.
type tapOutput struct {
	State                                  string
	Emitted, Sent, Dropped, Queued, Opened int
}

// TestCollectorsAreKilledFiftyTimesUnderLoad has a server send to a fstrm_capture
// over TCP and a `shirube tap` over TLS with certificates of both sides. They are
// killed and begun anew while dnsperf asks. No query may be lost by it, and no frame
// without being counted.
func TestCollectorsAreKilledFiftyTimesUnderLoad(t *testing.T) {
	t.Parallel()
	dir, l := t.TempDir(), listenEncrypted(t, loopback)
	control, queries := filepath.Join(dir, "control.sock"), filepath.Join(dir, "queries")
	writeFile(t, queries, strings.Repeat("www.plain.west A\nnowhere.plain.west AAAA\n", 50))
	own, key := filepath.Join(dir, "own.pem"), filepath.Join(dir, "own.key")
	if out, code := (client{"openssl", []string{
		"req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1", "-subj", "/CN=dns", "-out", own, "-keyout", key,
	}}).run(t); code != 0 {
		t.Fatal(out)
	}
	tcp, secure := strconv.Itoa(int(porttest.Take(t))), strconv.Itoa(int(porttest.Take(t)))
	sample := "sample: {resolver_query: 0, resolver_response: 0}, queue_size: 1MiB"
	s := serve(t, settings{more: fmt.Sprintf("control: {socket: %q}\ndnstap:\n  outputs:\n"+
		"    - {address: \"127.0.0.1:%s\", %s}\n    - {address: \"127.0.0.1:%s\", %s, tls: {enabled: true, ca_file: %q, cert_file: %q, key_file: %q}}\n",
		control, tcp, sample, secure, sample, l.trusted, own, key)})
	outputs := func() (list [2]tapOutput) {
		t.Helper()
		out, stderr, code := runServer(t, "", "ctl", "--socket", control, "stats", "--json")
		var all struct {
			Dnstap struct{ Outputs map[string]tapOutput }
		}
		if err := json.Unmarshal([]byte(out), &all); err != nil || code != 0 || len(all.Dnstap.Outputs) != 2 {
			t.Fatalf("%d, %s, %v in %s", code, stderr, err, out)
		}
		return [2]tapOutput{all.Dnstap.Outputs["tcp:127.0.0.1:"+tcp], all.Dnstap.Outputs["tls:127.0.0.1:"+secure]}
	}
	until := func(what string, ok func(o tapOutput) bool) {
		t.Helper()
		for late := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			list := outputs()
			if ok(list[0]) && ok(list[1]) {
				return
			}
			if time.Now().After(late) {
				t.Fatalf("not %s: %+v", what, list)
			}
		}
	}
	collect := func(i int) (list [2]*process) {
		t.Helper()
		var err error
		list[0], err = start("fstrm_capture", []string{"fstrm_capture", "-t", "protobuf:dnstap.Dnstap", "-a", "127.0.0.1", "-p", tcp, "-w", filepath.Join(dir, strconv.Itoa(i))}, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		list[1] = launch(t, launched{binary: built.plain}, "tap", "--tls", "127.0.0.1:"+secure, "--cert", l.cert, "--key", l.key, "--client-ca", own, "--format", "none", "--counts")
		return list
	}
	var stop atomic.Bool
	var asked load
	var loading sync.WaitGroup
	defer func() { stop.Store(true); loading.Wait() }()
	loading.Go(func() { // ends with stop
		for !stop.Load() { // each run to its end, so that no answer is under way
			one := dnsperf(t, s, "-d", queries, "-n", "10", "-Q", "1500")
			asked.sent, asked.completed, asked.lost = asked.sent+one.sent, asked.completed+one.completed, asked.lost+one.lost
		}
	})

	const deaths = 50
	for i := range deaths {
		collectors := collect(i)
		until("connected again", func(o tapOutput) bool { return o.Opened > i && o.Sent > 0 })
		for _, c := range collectors {
			c.signal(syscall.SIGKILL)
			if !c.wait(stopTimeout) {
				t.Fatalf("%s does not end", c.name)
			}
		}
	}
	last := collect(deaths)
	until("connected a last time", func(o tapOutput) bool { return o.Opened > deaths && o.State == "connected" })
	stop.Store(true)
	loading.Wait()
	if asked.completed != asked.sent || asked.lost != 0 {
		t.Errorf("%+v", asked)
	}
	until("done", func(o tapOutput) bool { return o.Queued == 0 })
	for _, o := range outputs() {
		if o.Emitted != 2*asked.sent || o.Sent+o.Dropped != o.Emitted {
			t.Errorf("after %d queries: %+v", asked.sent, o)
		}
		t.Logf("%+v", o)
	}
	endOf(t, s.process)
	endOf(t, last[1])
	if c := countsOf(t, last[1]); c.Malformed+c.Lost != 0 || len(c.Counts) == 0 {
		t.Errorf("the last collector has %+v", c)
	}
	last[0].signal(syscall.SIGTERM)
	if !last[0].wait(stopTimeout) {
		t.Error("fstrm_capture does not end")
	}
}
