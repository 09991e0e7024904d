package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/porttest"
)

// silent returns the options to verify a server that takes everything and says
// nothing.
func silent(t *testing.T) Options {
	t.Helper()
	port := porttest.Take(t) // where nobody listens over TCP
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	ask := Question{"www.example.com", dns.TypeA}
	return Options{
		Targets: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Ports: Ports{port, port, port},
		Questions:       Questions{Good: ask, Bogus: ask, Unsigned: ask, Denied: ask, Empty: ask, Big: ask, Health: ask},
		Expect:          Expect{Transports: []string{"udp", "tcp", "dot", "doh", "doh3", "doq"}, Version: "v1", NSID: ".", ID: ".", DDR: []string{"dot"}, RESINFO: []string{"exterr"}, HB46PP: "x", Padding: 468},
		Latency:         Latency{Samples: MaxSamples, Median: time.Second, Worst: time.Second},
		QuestionTimeout: 50 * time.Millisecond, Timeout: time.Second,
	}
}

func TestRunEndsInItsTimeWhateverTheServerDoes(t *testing.T) {
	o := silent(t)
	ended := make(chan *Report, 1)
	go func() { // owner: the test; end: Run's; bound: one
		r, err := Run(context.Background(), o)
		if err != nil {
			t.Error(err)
		}
		ended <- r
	}()
	select {
	case r := <-ended:
		if r.OK() || r.Count(Passed) > 0 || r.Count(Failed) < 40 {
			t.Errorf("%d passed, %d failed", r.Count(Passed), r.Count(Failed))
		}
	case <-time.After(time.Minute):
		t.Fatal("it does not end")
	}
}

func TestRunIsForAsManyServersAsThereAre(t *testing.T) {
	o := silent(t)
	for _, c := range []struct {
		change func(*Options)
		want   string
	}{
		{func(o *Options) { o.Targets = nil }, "there is no target"},
		{func(o *Options) { o.Targets = make([]netip.Addr, MaxTargets+1) }, "found 65 targets; expected 64 at most"},
		{func(o *Options) { o.Instances = make([]netip.Addr, MaxInstances+1) }, "found 65 instances; expected 64 at most"},
		{func(o *Options) { o.Latency.Samples = MaxSamples + 1 }, "found 10001 samples; expected 10000 at most"},
		{func(o *Options) { o.Timeout = 0 }, "there is no time"},
		{func(o *Options) { o.Skip = []string{"udpp"} }, `there is no check "udpp"`},
	} {
		bad := o
		c.change(&bad)
		if _, err := Run(t.Context(), bad); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

func TestOptionalAndSkippedChecksAreNoFailures(t *testing.T) {
	o := silent(t)
	o.Optional, o.Skip = []string{"udp"}, []string{"latency"}
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]Outcome{}
	for _, res := range r.Results {
		got[res.Check] = res.Outcome
	}
	for name, want := range map[string]Outcome{"udp": Warned, "latency": Skipped, "shared-cache": Skipped, "recursion": Failed} {
		if got[name] != want {
			t.Errorf("%s %s, want %s", name, got[name], want)
		}
	}
}

func TestReportIsNotGoodWhenNothingWasChecked(t *testing.T) {
	r := Report{Results: []Result{{Check: "udp", Outcome: Skipped}}}
	if r.OK() {
		t.Error("it is")
	}
	r.Results = append(r.Results, Result{Check: "tcp", Outcome: Passed})
	if !r.OK() {
		t.Error("it is not, and something passed")
	}
}

func TestReportsSayTheSame(t *testing.T) {
	r := Report{Results: []Result{
		{Check: "udp", Target: "192.0.2.1", Outcome: Passed, Detail: "1 records"},
		{Check: "tcp", Target: "192.0.2.1", Outcome: Failed, Detail: `found <nothing> & "no more"`},
		{Check: "dot", Target: "192.0.2.2", Outcome: Warned, Detail: "late"},
	}}
	var text, junit, doc bytes.Buffer
	for _, err := range []error{r.WriteText(&text), r.WriteJUnit(&junit), r.WriteJSON(&doc)} {
		if err != nil {
			t.Error(err)
		}
	}
	if want := "192.0.2.1\n  udp  passed  1 records\n  tcp  failed  found <nothing> & \"no more\"\n192.0.2.2\n  dot  warned  late\n\n1 passed, 1 failed, 1 warned, 0 skipped in 0s\n"; text.String() != want {
		t.Errorf("%q\n%q", text.String(), want)
	}
	for _, want := range []string{
		`<testsuite name="192.0.2.1" tests="2" failures="1" skipped="0"`, `<failure message="found &lt;nothing&gt; &amp; &#34;no more&#34;"`,
		`<testsuite name="192.0.2.2" tests="1" failures="0" skipped="1"`,
	} {
		if !strings.Contains(junit.String(), want) {
			t.Errorf("no %s in\n%s", want, junit.String())
		}
	}
	var back struct {
		OK      bool
		Results []Result
	}
	if err := json.Unmarshal(doc.Bytes(), &back); err != nil || back.OK || len(back.Results) != 3 || back.Results[1] != r.Results[1] {
		t.Errorf("%v: %s", err, doc.String())
	}
}

func TestRandomLabelsDiffer(t *testing.T) {
	q := Question{Name: "{random}.{random}.example"}
	a, b := q.fill().Name, q.fill().Name
	first, rest, _ := strings.Cut(a, ".")
	if a == b || strings.HasPrefix(rest, first) || strings.Contains(a, "{") || !strings.HasSuffix(a, ".example") {
		t.Errorf("%s and %s", a, b)
	}
}
