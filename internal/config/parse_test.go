package config

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"go.yaml.in/yaml/v3"

	"shirube/internal/wire"
)

// with returns the default configuration after a change.
func with(change func(*Config)) Config {
	cfg := Default()
	change(&cfg)
	return cfg
}

func TestParseLaysTheFileOverTheDefaults(t *testing.T) {
	both, direct := []Protocol{ProtocolUDP, ProtocolTCP}, ProxyProtocol{From: []netip.Prefix{}}
	tests := []struct {
		name, file string
		want       Config
	}{
		{"empty file", "", Default()},
		{"comments only", "# nothing\n\n# here\n", Default()},
		{"empty document", "---\n", Default()},
		{"empty root", "{}", Default()},
		{"byte order mark", "\ufefflog:\n  level: warn\n", with(func(c *Config) { c.Log.Level = LevelWarn })},
		{"byte order mark only", "\ufeff", Default()},
		{"line ends of Windows", "log:\r\n  level: warn\r\n", with(func(c *Config) { c.Log.Level = LevelWarn })},
		{"section without keys", "log:\ncache: {}\nlimits: ~\n", Default()},
		{"hyphens in keys", "cache:\n  max-ttl: 1h\n  min-failure_ttl: 2s\n", with(func(c *Config) {
			c.Cache.MaxTTL, c.Cache.MinFailureTTL = time.Hour, 2*time.Second
		})},
		{"a size that is found out", "cache: {answers_size: auto}\n", with(func(c *Config) { c.Cache.AnswersSize = Auto })},
		{"quoted keys and values", "'log': {\"level\": 'warn'}\ncache: {max_ttl: \"1h\", answers_size: '1MiB'}\n", with(func(c *Config) {
			c.Log.Level, c.Cache.MaxTTL, c.Cache.AnswersSize = LevelWarn, time.Hour, 1<<20
		})},
		{"a list replaces the default list", "listen:\n  - address: 192.0.2.1:53\n", with(func(c *Config) {
			c.Listen = []Listener{{netip.MustParseAddrPort("192.0.2.1:53"), both, false, direct}}
		})},
		{"an element has its own defaults", "listen:\n  - {address: \"[::]:53\", protocols: [tcp]}\n  - address: 0.0.0.0:53\n", with(func(c *Config) {
			c.Listen = []Listener{
				{netip.MustParseAddrPort("[::]:53"), []Protocol{ProtocolTCP}, false, direct},
				{netip.MustParseAddrPort("0.0.0.0:53"), both, false, direct},
			}
		})},
		{"one address over each protocol", "listen:\n  - {address: 192.0.2.1:53, protocols: [tcp]}\n  - {address: 192.0.2.1:53, protocols: [udp]}\n", with(func(c *Config) {
			address := netip.MustParseAddrPort("192.0.2.1:53")
			c.Listen = []Listener{{address, []Protocol{ProtocolTCP}, false, direct}, {address, []Protocol{ProtocolUDP}, false, direct}}
		})},
		{"proxies", "listen:\n  - {address: 192.0.2.1:53, proxy_protocol: {from: [10.0.0.0/8, 192.0.2.80, \"2001:db8::/32\"]}}\n", with(func(c *Config) {
			c.Listen = []Listener{{netip.MustParseAddrPort("192.0.2.1:53"), both, false, ProxyProtocol{From: []netip.Prefix{
				netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.80/32"), netip.MustParsePrefix("2001:db8::/32"),
			}}}}
		})},
		{"nobody may ask", "access_control: []", with(func(c *Config) { c.AccessControl = []AccessRule{} })},
		{"prefixes and addresses", "access_control:\n  - {prefix: 0.0.0.0/0, action: deny}\n  - {prefix: 192.0.2.1, action: allow}\n  - {prefix: \"2001:db8::1\", action: refuse}\n", with(func(c *Config) {
			c.AccessControl = []AccessRule{
				{netip.MustParsePrefix("0.0.0.0/0"), ActionDeny},
				{netip.MustParsePrefix("192.0.2.1/32"), ActionAllow},
				{netip.MustParsePrefix("2001:db8::1/128"), ActionRefuse},
			}
		})},
		{"one rule twice", "access_control:\n  - {prefix: 192.0.2.1, action: allow}\n  - {prefix: 192.0.2.1/32, action: allow}\n", with(func(c *Config) {
			rule := AccessRule{netip.MustParsePrefix("192.0.2.1/32"), ActionAllow}
			c.AccessControl = []AccessRule{rule, rule}
		})},
		{"the word off", "resolver:\n  qname_minimisation: off\n", with(func(c *Config) { c.Resolver.QNameMinimisation = MinimisationOff })},
		{"one address family", "resolver:\n  ipv6: false\n  root_hints: /etc/root.hints\n  port: 5300\n", with(func(c *Config) {
			c.Resolver.IPv6, c.Resolver.RootHints, c.Resolver.Port = false, "/etc/root.hints", 5300
		})},
		{"zeros that are allowed", "limits: {drain_timeout: 0, udp_readers: 0}\ncache: {min_ttl: 0s}\n", with(func(c *Config) { c.Limits.DrainTimeout = 0 })},
		{"more waiters than queries", "limits: {in_flight: 10, waiters: 1000}\n", with(func(c *Config) {
			c.Limits.InFlight, c.Limits.Waiters = 10, 1000
		})},
		{"a link's address", "listen: [{address: \"[fe80::1%eth0]:53\"}]", with(func(c *Config) {
			c.Listen = []Listener{{netip.MustParseAddrPort("[fe80::1%eth0]:53"), both, false, direct}}
		})},
		{"a forward zone", "forward_zones:\n  - name: Corp.Example\n    servers:\n      - address: 192.0.2.1\n      - address: 2001:db8::1\n      - address: \"[2001:db8::1]:5353\"\n    first: true\n", with(func(c *Config) {
			c.ForwardZones = []Zone{{
				Name: wire.MustParseName("corp.example."),
				Servers: []Server{
					{Address: Address{netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), 0)}},
					{Address: Address{netip.AddrPortFrom(netip.MustParseAddr("2001:db8::1"), 0)}},
					{Address: Address{netip.MustParseAddrPort("[2001:db8::1]:5353")}},
				},
				First: true,
			}}
		})},
		{"everything over TLS, by a host in a stub zone", "forward_zones: [{name: ., tls: true, hosts: [dns.corp.example]}]\nstub_zones: [{name: corp.example, tcp: true, servers: [{address: 127.0.0.1}]}]\n", with(func(c *Config) {
			c.ForwardZones = []Zone{{Name: wire.Root, TLS: true, Hosts: []wire.Name{wire.MustParseName("dns.corp.example.")}}}
			c.StubZones = []Zone{{
				Name: wire.MustParseName("corp.example."), TCP: true,
				Servers: []Server{{Address: Address{netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), 0)}}},
			}}
		})},
		{"a server over HTTPS", "forward_zones:\n  - name: .\n    doh: true\n    servers: [{address: 192.0.2.1, tls_name: dns.example, doh_path: /q}]\n", with(func(c *Config) {
			c.ForwardZones = []Zone{{Name: wire.Root, DoH: true, Servers: []Server{{
				Address: Address{netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), 0)},
				TLSName: wire.MustParseName("dns.example."), DoHPath: "/q",
			}}}}
		})},
		{"authorities over TLS", "resolver: {opportunistic_encryption: [dot], encrypted_port: 8853}\n", with(func(c *Config) {
			c.Resolver.OpportunisticEncryption, c.Resolver.EncryptedPort = []AuthorityEncryption{"dot"}, 8853
		})},
		{"a server known by its key", "forward_zones:\n  - name: .\n    tls: true\n    servers: [{address: 192.0.2.1, tls_name: \"\", pins: [AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=]}]\n", with(func(c *Config) {
			c.ForwardZones = []Zone{{Name: wire.Root, TLS: true, Servers: []Server{{
				Address: Address{netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), 0)},
				Pins:    []Pin{"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="},
			}}}}
		})},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := Parse("shirube.yaml", []byte(test.file))
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
		})
	}
}

func TestDefaultIsANewValueEachTime(t *testing.T) {
	a := Default()
	a.Listen[0].Protocols[0] = "changed"
	a.AccessControl[0].Action = "changed"
	if b := Default(); b.Listen[0].Protocols[0] != ProtocolUDP || b.AccessControl[0].Action != ActionAllow {
		t.Errorf("a change of one default reached the next: %+v", b)
	}
}

// TestEveryBoundBites writes a value one step outside of each range, and one
// at each end.
func TestEveryBoundBites(t *testing.T) {
	seen := 0
	for _, section := range Keys() {
		for _, k := range section.Keys {
			if k.Kind != KindInteger && k.Kind != KindDuration && k.Kind != KindSize {
				continue
			}
			seen++
			step := int64(1)
			if k.Kind == KindDuration {
				step = int64(time.Microsecond)
			}
			try := func(v int64) string {
				return tryKey(section.Name, k.Name, k.FormatMeasure(v))
			}
			if report := try(k.Min); strings.Contains(report, "expected") {
				t.Errorf("the smallest %s: %s", k.Path, report)
			}
			if report := try(k.Min - step); k.Min > 0 && !strings.Contains(report, k.Path+": found") {
				t.Errorf("one less than the smallest %s: %q", k.Path, report)
			}
			if k.Max == math.MaxInt64 {
				if k.Kind != KindSize {
					t.Errorf("%s has no upper bound", k.Path)
				}
				continue
			}
			if report := try(k.Max); strings.Contains(report, "expected") {
				t.Errorf("the largest %s: %s", k.Path, report)
			}
			if report := try(k.Max + step); !strings.Contains(report, k.Path+": found") {
				t.Errorf("one more than the largest %s: %q", k.Path, report)
			}
		}
	}
	if seen < 20 {
		t.Errorf("%d numbers, which are too few to be all", seen)
	}
}

// tryKey returns the report on a file with one key.
func tryKey(section, name, value string) string {
	_, err := Parse("f", fmt.Appendf(nil, "%s:\n  %s: %s\n", section, name, value))
	return fmt.Sprint(err)
}

func TestLoadReadsAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shirube.yaml")
	if err := os.WriteFile(path, []byte("log:\n  level: warn\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := Load(path)
	if err != nil || cfg.Log.Level != LevelWarn {
		t.Errorf("got level %q, %v", cfg.Log.Level, err)
	}
}

func TestLoadReportsWhatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	loop := filepath.Join(dir, "loop")
	if err := os.Symlink(loop, loop); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "none.yaml"): "cannot be read: no such file or directory",
		dir:                             "cannot be read: is a directory",
		loop:                            "cannot be read: too many levels of symbolic links",
	} {
		_, err := Load(path)
		report, ok := errors.AsType[*Error](err)
		if !ok || report.Error() != path+": "+want {
			t.Errorf("got %v, want %s: %s", err, path, want)
			continue
		}
		if _, ok := errors.AsType[*fs.PathError](err); !ok {
			t.Errorf("%v has lost its cause", err)
		}
	}
}

func TestReadReportsAReaderThatFails(t *testing.T) {
	_, err := Read("stdin", iotest.ErrReader(errors.New("line is dead")))
	if fmt.Sprint(err) != "stdin: cannot be read: line is dead" {
		t.Errorf("got %v", err)
	}
}

// endless is a reader without an end.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '\n'
	}
	e.read += len(p)
	return len(p), nil
}

func TestReadStopsAtTheLargestFile(t *testing.T) {
	r := new(endless)
	_, err := Read("stdin", r)
	if fmt.Sprint(err) != "stdin: larger than 1MiB" {
		t.Errorf("got %v", err)
	}
	if r.read > 2*MaxFileSize {
		t.Errorf("read %d octets", r.read)
	}
	if _, err := Parse("f", []byte(strings.Repeat("\n", MaxFileSize))); err != nil {
		t.Errorf("the largest file: %v", err)
	}
}

// panicReader stands in for a parser that panics.
type panicReader struct{}

func (panicReader) Read([]byte) (int, error) { panic("odd comment") }

func TestAPanicOfTheYAMLParserIsAnError(t *testing.T) {
	err := decode(yaml.NewDecoder(panicReader{}), new(yaml.Node))
	if err == nil || err.Error() != "yaml: the parser gave up: odd comment" {
		t.Errorf("got %v", err)
	}
}

func TestSyntaxProblemsHaveALineOfTheFile(t *testing.T) {
	for named, want := range map[string]int{
		"yaml: found a thing":            1,
		"yaml: line 2: found a thing":    2,
		"yaml: line 9999: found a thing": 3,
		"yaml: line x: found a thing":    1,
	} {
		// Good YAML, so that only the name is left to go by.
		if p := syntaxProblem([]byte("a: 1\nb: 2\nc: 3"), errors.New(named)); p.Line != want {
			t.Errorf("%q: got line %d, want %d", named, p.Line, want)
		}
	}
}

// TestLargeFilesAreReportedQuickly bounds the time for the worst files of the
// largest size. The bound is far above what they take, and far below what
// they would if something grew with the square of the size.
func TestLargeFilesAreReportedQuickly(t *testing.T) {
	for name, unit := range map[string]string{
		"deep list":       "[",
		"deep section":    "{a: ",
		"deep block":      "- ",
		"unknown keys":    "limits_%d: 1\n",
		"duplicate keys":  "log: 1\n",
		"unclosed quotes": "\"\n",
		"anchors":         "- &a%d x\n",
		"comments":        "# c\n",
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			for i := 0; b.Len() < MaxFileSize-20; i++ {
				b.WriteString(strings.ReplaceAll(unit, "%d", fmt.Sprint(i)))
			}
			start := time.Now()
			_, err := Parse("f", []byte(b.String()))
			if took := time.Since(start); took > 30*time.Second {
				t.Errorf("took %v", took)
			}
			if (err == nil) != (name == "comments") {
				t.Errorf("got %.200v", err)
			}
		})
	}
}

func TestReportsOfAThousandProblemsAreCutShort(t *testing.T) {
	var b strings.Builder
	for i := range maxProblems + 5 {
		fmt.Fprintf(&b, "key%d: 1\n", i)
	}
	_, err := Parse("f", []byte(b.String()))
	report, ok := errors.AsType[*Error](err)
	if !ok || len(report.Problems) != maxProblems || report.Omitted != 5 {
		t.Fatalf("got %.200v", err)
	}
	if !strings.HasSuffix(err.Error(), "\nf: and 5 more problems") {
		t.Errorf("the report does not say that it is cut: …%s", err.Error()[len(err.Error())-50:])
	}
}

// FuzzParse looks for files that make Parse panic, and for reports that no
// editor could follow.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	// What parsers have panicked on.
	for _, text := range []string{"#\n-\n-\n0", "0: [:!00 \xef", "#\n-\n{", "#\n - - QI\xd7", "a:\n.\n-\n", "0\r#00\r0"} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := Parse("f", data)
		if err == nil {
			if len(cfg.Listen) == 0 || cfg.Limits.InFlight < 1 || cfg.Cache.MinTTL > cfg.Cache.MaxTTL {
				t.Errorf("accepted %+v", cfg)
			}
			return
		}
		report, ok := errors.AsType[*Error](err)
		if !ok || len(report.Problems) == 0 {
			t.Fatalf("no report but %v", err)
		}
		lines := strings.Count(string(data), "\n") + 1
		last := 0
		for _, p := range report.Problems {
			if p.Line < last || p.Line > lines || p.Message == "" {
				t.Errorf("problem %+v after line %d of %d", p, last, lines)
			}
			last = p.Line
		}
		if text := err.Error(); strings.Count(text, "\n") >= len(report.Problems) && report.Omitted == 0 {
			t.Errorf("a problem takes more than a line: %q", text)
		}
	})
}
