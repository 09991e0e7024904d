package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"shirube/internal/porttest"
)

// raceEnv makes the race detector end the server at its first finding, with an
// exit code of its own, and does not make every end take a second.
const raceEnv = "GORACE=halt_on_error=1 exitcode=66 atexit_sleep_ms=0"

// settings is what a test wants different from the default configuration. Each
// field after the empty line is YAML to put below the key it is named after.
type settings struct {
	binary string   // default: the one with the race detector
	listen []string // addresses; default 127.0.0.1 and ::1
	hints  string   // of another world, whose servers are on
	port   int      // this port; default: those of the world
	extra  string   // YAML of further listeners
	behind string   // prefixes of the proxies that alone may use the listeners; default: none

	access, cache, resolver, limits, dnssec string

	more string   // YAML to put at the end
	env  []string // to add to the environment
}

// yaml returns the configuration file of a server on port, with the root hints
// in the file hints.
func (c settings) yaml(hints string, port int) string {
	var b strings.Builder
	b.WriteString("listen:\n")
	for _, a := range c.listen {
		fmt.Fprintf(&b, "  - address: %q\n    proxy_protocol: {from: [%s]}\n", netip.AddrPortFrom(netip.MustParseAddr(a), uint16(port)), c.behind)
	}
	b.WriteString(c.extra)
	b.WriteString("builtin_zones:\n  except: [127.in-addr.arpa]\n") // where the lab is
	if c.dnssec == "" {
		c.dnssec = "validation: false" // what is asked for is compared with what the servers say
	}
	fmt.Fprintf(&b, "resolver:\n  root_hints: %q\n  port: %d\n  do_not_query_localhost: false\n", hints, c.port)
	for _, section := range []struct{ name, lines string }{
		{"", c.resolver}, {"access_control:\n", c.access}, {"cache:\n", c.cache}, {"limits:\n", c.limits}, {"dnssec:\n", c.dnssec},
	} {
		if section.lines != "" {
			fmt.Fprintf(&b, "%s  %s\n", section.name, strings.ReplaceAll(strings.TrimSpace(section.lines), "\n", "\n  "))
		}
	}
	return b.String() + c.more
}

// server is a running server.
type server struct {
	*process

	port    int
	readyAt time.Time
	dir     string // its files
}

// serve starts a server in the world, and waits until it is ready. At the end
// of the test it is told to stop, and has to do so well.
func serve(t *testing.T, c settings) *server {
	t.Helper()
	s := &server{dir: t.TempDir()}
	hints := filepath.Join(s.dir, "root.hints")
	if c.hints == "" {
		c.hints, c.port = built.world.hints(), built.world.port
	}
	writeFile(t, hints, c.hints)
	if c.listen == nil {
		c.listen = []string{"127.0.0.1", "::1"}
	}
	take := porttest.Take
	if slices.ContainsFunc(c.listen, func(a string) bool { return netip.MustParseAddr(a).IsUnspecified() }) {
		take = porttest.TakeWildcard
	}
	// Servers take random ports to ask from, and now and then one that is about to
	// be listened on at all addresses.
	for try := range 3 {
		s.port = int(take(t))
		conf := filepath.Join(s.dir, "shirube.yaml")
		writeFile(t, conf, c.yaml(hints, s.port))
		s.process = launch(t, launched{binary: c.binary, env: c.env}, "serve", "--config", conf)
		at, err := s.await(s.out, "msg=ready", startTimeout)
		if err == nil {
			s.readyAt = at
			return s
		}
		if try == 2 || !strings.Contains(err.Error(), syscall.EADDRINUSE.Error()) {
			t.Fatal(err)
		}
	}
	return s
}

// launched says how to launch the server; the zero value is the usual.
type launched struct {
	binary string   // default: the one with the race detector
	in     *network // default: the machine's own
	env    []string // to add to the environment
	stdout *output  // default: to where standard error goes
}

// launch starts the server's binary with args and does not wait. If it still
// runs at the end of the test it is told to stop, and has to exit with 0. It
// must not have raced or panicked in any case.
func launch(t *testing.T, how launched, args ...string) *process {
	t.Helper()
	if how.binary == "" {
		how.binary = built.race
	}
	argv := append(how.in.enter(how.binary), args...)
	p, err := start("shirube", argv, append(how.env, raceEnv), how.stdout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { endOf(t, p) })
	return p
}

// endOf stops p, judges how it ended, and shows what everybody wrote if the
// test has failed.
func endOf(t *testing.T, p *process) {
	t.Helper()
	if p.running() {
		switch stopped := p.stop(); {
		case !stopped:
			t.Errorf("the server does not stop within %v of SIGTERM", stopTimeout)
		case p.exitCode() != 0:
			t.Errorf("after SIGTERM: %s, want exit status 0", p.state())
		}
	}
	if log := p.out.String(); strings.Contains(log, "DATA RACE") || strings.Contains(log, "panic") {
		t.Errorf("the server raced or panicked")
	}
	if t.Failed() {
		t.Logf("--- %s (%s)\n%s", strings.Join(p.cmd.Args, " "), p.state(), tail(p.out.String(), 100))
		t.Logf("%s", built.world.logs())
	}
}

// writeFile writes a file, or ends the test.
func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
