//go:build !race

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// asBench has the test's program be the benchmark.
const asBench = "SHIRUBE_TEST_AS_BENCH"

func TestMain(m *testing.M) {
	if os.Getenv(asBench) != "" {
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// pullLoads are how many questions a second a server is asked, until there is a load
// that its machine carries: one that is busy may not carry the first.
var pullLoads = []int{20_000, 20_000, 5000, 2000}

// pullBlamed is how often clients may notice something while they notice nothing in
// the control: the machine may have been busy just then, but not each time.
const pullBlamed = 3

// No client notices that all memcached freeze, go, and come again, under as much
// load as this machine carries: no rcode is another one, no answer is missing, and
// the 99th percentile is higher by no more than the budget. It is `bench shared
// -works pull`, for some seconds. A machine that is busy does the same
// to clients while memcached are there: if anything is noticed, a control tells, in
// which nothing is done to them, whether it is added by the pull.
func TestNobodyNoticesThatAllMemcachedGo(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "shirube")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "shirube/cmd/shirube")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	blamed := 0
	for _, load := range pullLoads {
		err := pulled(t, binary, sharedPull, load)
		if err == nil {
			return
		}
		t.Logf("%d questions a second: %v", load, err)
		if err := pulled(t, binary, sharedControl, load); err != nil {
			t.Logf("%d questions a second, and nothing is done to memcached: %v", load, err)
			continue
		}
		if blamed++; blamed == pullBlamed {
			break
		}
	}
	t.Errorf("with no load did clients notice nothing; %d times they noticed nothing in the control", blamed)
}

// pulled measures with one load, and returns what clients noticed. A server that does
// not get as far as to be measured has done nothing, but on a machine that is too
// busy for the load.
func pulled(t *testing.T, binary, work string, load int) error {
	t.Helper()
	out := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "shared", "-works", work, "-time", "5s", "-names", "600", "-load", fmt.Sprint(load), "-shirube", binary, "-out", out)
	cmd.Env = append(os.Environ(), asBench+"=1", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	_ = cmd.Run() // its verdict is read below
	found, err := filepath.Glob(filepath.Join(out, "*-shared.json"))
	if err != nil || len(found) != 1 { // not even what memory is to have was resolved
		return fmt.Errorf("nothing was measured: %s", said.String())
	}
	data, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	var r sharedReport
	if err := json.Unmarshal(data, &r); err != nil || r.Pull == nil {
		t.Fatalf("%v: %s", err, data)
	}
	if err := r.Pull.verdict(); err != nil {
		return err
	}
	t.Logf("%s, %d questions a second, killed: %v", work, load, &r.Pull.Phases[3])
	return nil
}
