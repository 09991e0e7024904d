package daemon

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"shirube/dnstap"
	"shirube/dnstap/dnstaptest"
	"shirube/internal/config"
	"shirube/internal/control"
	"shirube/internal/porttest"
	"shirube/internal/wire"
	"shirube/transport/clients"
)

// tapConfig returns a configuration whose server tells a file of all messages.
func tapConfig(t *testing.T) (config.Config, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "tap.fstrm")
	cfg, err := config.Parse("test", []byte("dnstap: {identity: tokyo-1, outputs: [{file: "+file+"}]}"))
	if err != nil {
		t.Fatal(err)
	}
	return cfg, file
}

// TestTapKnowsWhichPolicyActed asks a whole server from addresses that it treats
// each in its own way.
func TestTapKnowsWhichPolicyActed(t *testing.T) {
	cfg, file := tapConfig(t)
	port := porttest.TakeWildcard(t)
	cfg.Listen = []config.Listener{{
		Address:   netip.AddrPortFrom(netip.MustParseAddr("0.0.0.0"), port),
		Protocols: []config.Protocol{config.ProtocolUDP},
	}}
	cfg.Resolver.RootHints, cfg.Resolver.PrimeRoot, cfg.Resolver.DoNotQueryLocalhost = "testdata/nobody.hints", false, false
	cfg.DNSSEC.Validation = false // it would ask for the keys of the root
	cfg.Control.Enabled = false
	cfg.AccessControl = nil
	for addr, action := range map[string]config.Action{
		"127.0.0.1": config.ActionAllow, "127.0.0.2": config.ActionDeny, "127.0.0.3": config.ActionRefuse, "127.0.0.4": config.ActionAllowCookie,
	} {
		cfg.AccessControl = append(cfg.AccessControl, config.AccessRule{Prefix: netip.PrefixFrom(netip.MustParseAddr(addr), 32), Action: action})
	}
	d, err := New(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	d.Version = "1.2.3"
	if err := d.Start(); err != nil {
		t.Fatal(err)
	}
	to := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), port)
	for _, tt := range []struct {
		from, query string
		answered    bool
	}{
		{"127.0.0.1", "www.example.com. ANY", true},
		{"127.0.0.1", "localhost. A", true},
		{"127.0.0.2", "www.example.com. A", false},
		{"127.0.0.3", "www.example.com. A", true},
		{"127.0.0.4", "www.example.com. A", true},
	} {
		sendFrom(t, tt.from, to, tt.query, tt.answered)
	}
	if err := d.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range dnstaptest.Read(t, file) {
		words := []string{map[uint32]string{5: "query", 6: "response"}[r.Type], r.Query.Addr().String(), string(r.Policy.Type)}
		got = append(got, strings.Join(words, " "))
		if string(r.Identity) != "tokyo-1" || string(r.Version) != "shirube 1.2.3" || r.Response != to {
			t.Errorf("%+v", r)
		}
	}
	want := []string{
		"query 127.0.0.1 ", "response 127.0.0.1 ", "query 127.0.0.1 BUILTIN", "response 127.0.0.1 BUILTIN", "query 127.0.0.2 ACL",
		"query 127.0.0.3 ACL", "response 127.0.0.3 ACL", "query 127.0.0.4 COOKIE", "response 127.0.0.4 COOKIE",
	}
	for _, line := range want { // readers are many, and each has its own order
		if !slices.Contains(got, line) {
			t.Errorf("no %q in %q", line, got)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%q", got)
	}
	total := d.tap.Stats().Total()
	if total.Emitted != uint64(len(want)) || total.Sent != total.Emitted {
		t.Errorf("%+v", total)
	}
}

func TestTapIsOffWithoutOutputs(t *testing.T) {
	cfg := config.Default()
	tap, err := newTap(&cfg, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for typ := range dnstap.NumTypes {
		if tap.Wants(typ) {
			t.Errorf("messages of type %d are wanted", typ)
		}
	}
}

// Two outputs may have the same collector, and different messages for it: their
// numbers have to be told apart.
func TestTapOutputsHaveNamesOfTheirOwn(t *testing.T) {
	cfg, err := config.Parse("test", []byte(`dnstap: {outputs: [{socket: /run/x}, {socket: /run/x, only: {rcodes: [servfail]}}, {socket: /run/y}]}`))
	if err != nil {
		t.Fatal(err)
	}
	opt, err := tapOptions(&cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"unix:/run/x", "unix:/run/x#2", "unix:/run/y"} {
		if opt.Outputs[i].Name != want {
			t.Errorf("output %d is %q; expected %q", i, opt.Outputs[i].Name, want)
		}
	}
}

// TestReloadChangesWhatCollectorsAreTold adds, changes and removes files while the
// server is asked all the time, over UDP and by the resolver, and wants every
// message to be in one of them.
func TestReloadChangesWhatCollectorsAreTold(t *testing.T) {
	r := startReloadable(t, nil)
	dir := t.TempDir()
	outputs := func(list ...string) {
		t.Helper()
		cfg, err := config.Parse("test", []byte("dnstap: {identity: tokyo-1, outputs: ["+strings.ReplaceAll(strings.Join(list, ", "), "DIR", dir)+"]}"))
		if err != nil {
			t.Fatal(err)
		}
		r.cfg.Dnstap = cfg.Dnstap
		if _, err := r.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	asked := 0
	ask := func() {
		t.Helper()
		for range 10 {
			if _, err := askListener("udp", r.cfg.Listen[0]); err != nil {
				t.Fatal(err)
			}
			asked++
		}
	}
	numbers := func() map[string]dnstap.OutputStats {
		all := map[string]dnstap.OutputStats{}
		for _, s := range r.Stats().Dnstap {
			all[strings.ReplaceAll(s.Name, dir, "DIR")] = s
		}
		return all
	}
	wants := func(emitted map[string]uint64) {
		t.Helper()
		got := numbers()
		for name, want := range emitted {
			if s, ok := got[name]; !ok || s.Emitted != want {
				t.Errorf("%s: %+v; expected %d emitted", name, s, want)
			}
		}
		if len(got) != len(emitted) {
			t.Errorf("%+v; expected %v", got, emitted)
		}
	}
	ask()
	wants(map[string]uint64{})
	outputs("{file: DIR/a}")
	ask()
	wants(map[string]uint64{"file:DIR/a": 20})
	outputs("{file: DIR/a}", "{file: DIR/b, sample: {client_query: 0}}")
	ask()
	wants(map[string]uint64{"file:DIR/a": 40, "file:DIR/b": 10})
	outputs("{file: DIR/a, sample: {client_response: 0}}", "{file: DIR/b, sample: {client_query: 0}}")
	ask()
	wants(map[string]uint64{"file:DIR/a": 50, "file:DIR/b": 20})
	outputs("{file: DIR/b, sample: {client_query: 0}}")
	ask()
	wants(map[string]uint64{"file:DIR/b": 30})
	if err := r.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	frames := map[string]int{}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		frames[filepath.Base(file)[:1]] += len(dnstaptest.Read(t, file))
	}
	if frames["a"] != 50 || frames["b"] != 30 {
		t.Errorf("%v in %q after %d questions", frames, files, asked)
	}
}

func TestTapOutputsAreTranslated(t *testing.T) {
	cfg, err := config.Parse("test", []byte(`dnstap:
  outputs:
    - {socket: /run/x, queue_size: 2MiB, sample: {client_query: 7, client_response: 0, all_servfail: true}}
    - {address: "collector.example.com:6000", tls: {enabled: true}, only: {rcodes: [nxdomain], transports: [doh3], suffixes: [example.org]}}
    - {file: y, rotate: {size: 1MiB, age: 1m, keep: 2}, privacy: {ipv4_bits: 24, ipv6_bits: 56, hash: true}}
`))
	if err != nil {
		t.Fatal(err)
	}
	var got []dnstap.Output
	for i := range cfg.Dnstap.Outputs {
		out, err := tapOutput(&cfg.Dnstap.Outputs[i])
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, out)
	}
	if o := got[0]; o.Name != "unix:/run/x" || o.Stream.Network != "unix" || o.QueueSize != 2<<20 || o.Filter.Sample[dnstap.ClientQuery] != 7 ||
		o.Filter.Sample[dnstap.ClientResponse] != 0 || o.Filter.Sample[dnstap.ForwarderResponse] != 1 || !o.Filter.ServFail {
		t.Errorf("%+v", o)
	}
	if o := got[1]; o.Name != "tls:collector.example.com:6000" || o.Stream.TLS.ServerName != "collector.example.com" ||
		o.Filter.Rcodes[0] != wire.NXDomain || o.Filter.Protos[0] != wire.DoH3 || o.Filter.Suffixes[0] != wire.MustParseName("example.org") {
		t.Errorf("%+v", o)
	}
	if o := got[2]; o.File.MaxSize != 1<<20 || o.File.Keep != 2 || o.Privacy.Bits4 != 24 || o.Privacy.Bits6 != 56 || len(o.Privacy.HashKey) != dnstap.HashKeyLen {
		t.Errorf("%+v", o)
	}
}

func TestTapRefusesFilesThatAreNotThere(t *testing.T) {
	for name, tls := range map[string]string{
		"authorities": "ca_file: nowhere", "certificate": "cert_file: nowhere, key_file: nowhere", "no certificate in it": "ca_file: dnstap_test.go",
	} {
		cfg, err := config.Parse("test", []byte(`dnstap: {outputs: [{address: "192.0.2.1:6000", tls: {enabled: true, `+tls+`}}]}`))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := newTap(&cfg, nil, nil); err == nil || !strings.Contains(err.Error(), "dnstap.outputs[0]: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCountersNameTheOutputsOfTheTap(t *testing.T) {
	s := Stats{Dnstap: dnstap.Stats{{Name: "unix:/x", Emitted: 3, Sent: 1, Dropped: 2, State: dnstap.Stalled}, {Name: "file:y", Emitted: 4}}}
	got, ok := control.Counters(s, counterWords())["dnstap"].(map[string]any)
	if !ok || got["emitted"] != uint64(7) || got["dropped"] != uint64(2) {
		t.Fatalf("%v", got)
	}
	if o, ok := got["outputs"].(map[string]any)["unix:/x"].(map[string]any); !ok || o["state"] != "stalled" || o["sent"] != uint64(1) {
		t.Errorf("%v", got)
	}
}

// sendFrom sends a query from an address of this machine, and waits for the
// response if there is to be one.
func sendFrom(t *testing.T, from string, to netip.AddrPort, query string, answered bool) {
	t.Helper()
	local := net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(from), 0))
	c, err := net.DialUDP("udp", local, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	raw, _ := parseAsk(t, query)
	if _, err := c.Write(raw); err != nil {
		t.Fatal(err)
	}
	if answered {
		if _, err := c.Read(make([]byte, 4096)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTapIsToldOverEveryTransport asks a whole server once in each way.
func TestTapIsToldOverEveryTransport(t *testing.T) {
	file := ""
	s := serveEverywhere(t, func(cfg *config.Config) {
		var tapped config.Config
		tapped, file = tapConfig(t)
		cfg.Dnstap = tapped.Dnstap
	})
	from, query := netip.MustParseAddr("127.0.0.1"), []byte("\x00\x00\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x09localhost\x00\x00\x01\x00\x01")
	want := map[string]int{}
	for _, w := range clients.Ways() {
		to := netip.AddrPortFrom(from, s.port(w))
		c, err := w.Dial(t.Context(), from, to, &tls.Config{RootCAs: s.authority.Pool(), MinVersion: tls.VersionTLS12})
		if err != nil {
			t.Fatal(w.Name, err)
		}
		if _, err := c.Ask(t.Context(), query); err != nil {
			t.Error(w.Name, err)
		}
		if err := c.Close(); err != nil {
			t.Error(w.Name, err)
		}
		http := 0
		for version, name := range []string{1: "HTTP/1.1", 2: "HTTP/2", 3: "DoH3"} {
			if name != "" && strings.Contains(w.Name, name) {
				http = version
			}
		}
		socket := map[wire.Proto]int{wire.UDP: 1, wire.TCP: 2, wire.DoT: 3, wire.DoH: 4, wire.DoH3: 4, wire.DoQ: 7}[w.Proto]
		for typ := range 2 {
			want[fmt.Sprintf("%d: socket %d, HTTP %d, to %v", 5+typ, socket, http, to)]++
		}
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	got := map[string]int{}
	for _, r := range dnstaptest.Read(t, file) {
		if r.Type >= 5 {
			got[fmt.Sprintf("%d: socket %d, HTTP %d, to %v", r.Type, r.SocketProtocol, r.HTTPProtocol, r.Response)]++
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("found    %v\nexpected %v", got, want)
	}
}
