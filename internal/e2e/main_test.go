// Package e2e tests the program as those meet it who run it: the built binary,
// NSD and Knot as the Internet, dig, kdig and dnsperf as its clients, and the
// manual read as a reader would who tries everything in it.
//
// Nothing here knows the server's inside. All traffic is on loopback: the name
// servers are in 127.54.0.0/16 and at ::1, on one free port.
package e2e

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// needs are the programs that the tests run, and the packages of Debian that
// have them.
var needs = []struct{ program, apt string }{
	{"gcc", "gcc and libc6-dev (go build -race wants a C compiler)"},
	{"bash", "bash"},
	{"nsenter", "util-linux"},
	{"ip", "iproute2"},
	{"dig", "bind9-dnsutils"},
	{"kdig", "knot-dnsutils"},
	{"curl", "curl"},
	{"openssl", "openssl"},
	{"dnsperf", "dnsperf"},
	{"h2load", "nghttp2-client"},
	{"stubby", "stubby"},
	{"chromium", "chromium"},
	{"nsd", "nsd"},
	{"knotd", "knot"},
	{"keymgr", "knot"},
	{"named", "bind9"},
	{"pdns_server", "pdns-server and pdns-backend-bind"},
	{"unbound", "unbound"},
	{"ldns-keygen", "ldnsutils"},
	{"ldns-signzone", "ldnsutils"},
	{"dnssec-keygen", "bind9-utils"},
	{"dnssec-signzone", "bind9-utils"},
	{"delv", "bind9-dnsutils"},
	{"dnsdist", "dnsdist"},
	{"haproxy", "haproxy"},
	{"nginx", "nginx"},
	{"dnstap-ldns", "dnstap-ldns"},
	{"fstrm_capture", "fstrm-bin"},
}

// built holds what TestMain made for all tests.
var built struct {
	race, plain string // the server's binary, with and without the race detector
	world       *world // its Internet
}

func TestMain(m *testing.M) {
	flag.Parse()
	// The tests wait for other programs most of the time.
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = f.Value.Set(strconv.Itoa(2 * runtime.GOMAXPROCS(0))) // it is a number
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code) //nolint:forbidigo // TestMain is main here: returning would be success
}

// run prepares what the tests share, runs them, and cleans up.
func run(m *testing.M) (code int, err error) {
	// Name servers are in sbin, which not everybody's PATH has.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return 1, err
	}
	if err := installed(); err != nil {
		return 1, err
	}
	dir, err := os.MkdirTemp("", "shirube-e2e-")
	if err != nil {
		return 1, err
	}
	defer func() { _ = os.RemoveAll(dir) }() // a rest in /tmp fails no test
	built.race, built.plain = filepath.Join(dir, "shirube-race"), filepath.Join(dir, "shirube")

	var raceErr, plainErr, worldErr error
	var wg sync.WaitGroup
	wg.Go(func() { raceErr = build(built.race, "CGO_ENABLED=1", "-race") })
	wg.Go(func() { plainErr = build(built.plain, "CGO_ENABLED=0", "-trimpath") })
	wg.Go(func() { built.world, worldErr = startWorld(filepath.Join(dir, "world")) })
	wg.Wait()
	if worldErr == nil {
		defer built.world.stop()
	}
	for _, err := range []error{raceErr, plainErr, worldErr} {
		if err != nil {
			return 1, err
		}
	}
	return m.Run(), nil
}

// installed returns an error that names every package that is missing.
func installed() error {
	var missing []string
	for _, n := range needs {
		if _, err := exec.LookPath(n.program); err != nil {
			missing = append(missing, fmt.Sprintf("%s is not installed; on Debian it is in %s", n.program, n.apt))
		}
	}
	if missing != nil {
		return fmt.Errorf("these tests run real programs:\n  %s\ntools/install-test-deps (or make test) installs them, as root",
			strings.Join(missing, "\n  "))
	}
	return nil
}

// buildVersion is the version that the binaries say they are.
const buildVersion = "e2e-test"

// build compiles the server into the file out.
func build(out, env string, flags ...string) error {
	args := append([]string{"build", "-o", out, "-ldflags", "-X main.version=" + buildVersion}, flags...)
	cmd := exec.Command("go", append(args, "shirube/cmd/shirube")...)
	cmd.Env = append(os.Environ(), env)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(text))
	}
	return nil
}
