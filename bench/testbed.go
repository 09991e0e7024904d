package main

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"
)

// testbed is when and on what something was measured.
type testbed struct {
	Date   time.Time `json:"date"`
	CPU    string    `json:"cpu"`
	Cores  int       `json:"cores"`
	Kernel string    `json:"kernel"`
	NSD    string    `json:"nsd"`
}

func newTestbed(ctx context.Context, now time.Time) (testbed, error) {
	nsd, err := firstLine(ctx, "nsd", "-v")
	return testbed{Date: now, CPU: cpuModel(), Cores: runtime.NumCPU(), Kernel: kernel(), NSD: nsd}, err
}

// describe names the machine and the programs; load is empty or ends in a space.
func (t *testbed) describe(load string, servers []string) string {
	return fmt.Sprintf("Machine: %s, %d cores, Linux %s. %sAuthorities: %s. Servers: %s.\n",
		t.CPU, t.Cores, t.Kernel, load, t.NSD, strings.Join(servers, ", "))
}

// noiseRule says what was done about strangers, and how to read a spread.
func noiseRule() string {
	return fmt.Sprintf("a run in which they used more than %g %% was tried up to %d times, and the quietest kept. A difference smaller than\n"+
		"the spread says nothing.\n\n", 100*strangersAllowed, attempts)
}
