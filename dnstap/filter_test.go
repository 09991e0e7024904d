package dnstap

import (
	"math"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"shirube/internal/wire"
)

func TestFilterTakesWhatItNames(t *testing.T) {
	only := func(edit func(*Filter)) Filter { f := all(); edit(&f); return f }
	servFail := message(ClientResponse, 1)
	servFail.Msg = response(1, wire.ServFail)
	overTCP := message(ClientQuery, 1)
	overTCP.Proto = wire.TCP
	upstreamTCP := message(ResolverQuery, 1)
	upstreamTCP.Proto = wire.TCP
	garbage := message(ClientQuery, 1)
	garbage.Msg = []byte("\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\xff")
	names := func(s ...string) (out []wire.Name) {
		for _, n := range s {
			out = append(out, wire.MustParseName(n))
		}
		return out
	}
	for _, tt := range []struct {
		name   string
		filter Filter
		m      *Message
		want   bool
	}{
		{"nothing", Filter{}, message(ClientQuery, 1), false},
		{"all", all(), message(ClientQuery, 1), true},
		{"another type", only(func(f *Filter) { f.Sample[ClientQuery] = 0 }), message(ClientQuery, 1), false},
		{"rcode", only(func(f *Filter) { f.Rcodes = []wire.Rcode{wire.NXDomain, wire.ServFail} }), servFail, true},
		{"another rcode", only(func(f *Filter) { f.Rcodes = []wire.Rcode{wire.NXDomain} }), servFail, false},
		{"a query has no rcode", only(func(f *Filter) { f.Rcodes = []wire.Rcode{wire.NXDomain} }), message(ClientQuery, 1), true},
		{"SERVFAIL always", only(func(f *Filter) { f.Rcodes, f.ServFail = []wire.Rcode{wire.NXDomain}, true }), servFail, true},
		{"SERVFAIL always, of no sample", only(func(f *Filter) { f.Sample[ClientResponse], f.ServFail = math.MaxUint32, true }), servFail, true},
		{"SERVFAIL of a type that is off", only(func(f *Filter) { f.Sample[ClientResponse], f.ServFail = 0, true }), servFail, false},
		{"transport", only(func(f *Filter) { f.Protos = []wire.Proto{wire.TCP, wire.DoQ} }), overTCP, true},
		{"another transport", only(func(f *Filter) { f.Protos = []wire.Proto{wire.DoT} }), overTCP, false},
		{"transports are clients'", only(func(f *Filter) { f.Protos = []wire.Proto{wire.UDP} }), upstreamTCP, true},
		{"suffix", only(func(f *Filter) { f.Suffixes = names("org.", "example.com.") }), message(ClientQuery, 1), true},
		{"the name itself", only(func(f *Filter) { f.Suffixes = names("www.example.com.") }), servFail, true},
		{"root", only(func(f *Filter) { f.Suffixes = names(".") }), message(ClientQuery, 1), true},
		{"another suffix", only(func(f *Filter) { f.Suffixes = names("example.org.") }), message(ClientQuery, 1), false},
		{"half a label", only(func(f *Filter) { f.Suffixes = names("ample.com.") }), message(ClientQuery, 1), false},
		{"longer", only(func(f *Filter) { f.Suffixes = names("a.www.example.com.") }), message(ClientQuery, 1), false},
		{"garbage has no name", only(func(f *Filter) { f.Suffixes = names(".") }), garbage, false},
		{"garbage", all(), garbage, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFilter(&tt.filter)
			if got := f.takes(tt.m, 1); got != tt.want {
				t.Errorf("taken: %v", got)
			}
		})
	}
}

// TestSamplesHoldQueriesAndTheirResponses also asks as DoH clients do: with one
// port and ID 0.
func TestSamplesHoldQueriesAndTheirResponses(t *testing.T) {
	const n, in = 40_000, 100
	f := all()
	for typ := range f.Sample {
		f.Sample[typ] = in
	}
	path := filepath.Join(t.TempDir(), "x")
	tap := start(t, Options{Outputs: []Output{{File: &File{Path: path}, Filter: f}}})
	for i := range n {
		at := time.Now()
		id := uint16(0)
		if i%2 == 0 {
			id = uint16(i)
		}
		for _, typ := range []Type{ClientQuery, ClientResponse} {
			m := message(typ, id)
			m.QueryTime, m.ResponseTime = at, at.Add(time.Duration(i))
			m.Query = netip.AddrPortFrom(m.Query.Addr(), uint16(5+i%2*i))
			tap.Emit(i, m)
		}
		if i%1000 == 0 { // or a writer that does not get to run would drop half a pair
			waitFor(t, tap, "written all", func(s OutputStats) bool { return s.Queued == 0 })
		}
	}
	shut(t, tap)
	frames := readFile(t, path)
	if got := len(frames); got < n*2/in*8/10 || got > n*2/in*12/10 { // six standard deviations
		t.Errorf("%d frames of %d messages, one in %d", got, n*2, in)
	}
	for i := 0; i+1 < len(frames); i += 2 {
		q, r := frames[i].GetMessage(), frames[i+1].GetMessage()
		if q.GetQueryTimeNsec() != r.GetQueryTimeNsec() || q.GetType() == r.GetType() {
			t.Fatalf("%v is without its response", q)
		}
	}
}
