package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestNetprepPrintsWhatIsMissingAndChangesNothing(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
		code string // what the error says
	}{
		{args: []string{"--interface", "lo", "--reject-ra", "no", "--check"}},
		{args: []string{"--interface", "lo", "--reject-ra", "no", "--address", "192.0.2.77/32", "--dry-run"}, want: "add the address 192.0.2.77/32 to lo\n"},
		{args: []string{"--interface", "lo", "--reject-ra", "no", "--address", "192.0.2.77/32", "--check"}, want: "add the address 192.0.2.77/32 to lo\n", code: "the network is not as wanted"},
		{args: []string{"--interface", "nosuch0", "--check"}, code: "netprep: interface nosuch0: there is no such interface"},
		{args: []string{"--interface", "lo", "--gateway", "192.0.2.1", "--reject-ra", "no", "--dry-run"}, code: "found the gateway 192.0.2.1; expected one in a network of its addresses"},
	} {
		var out bytes.Buffer
		root := newRootCommand()
		root.SetArgs(append([]string{"netprep"}, c.args...))
		root.SetOut(&out)
		err := root.Execute()
		if out.String() != c.want || (err == nil) != (c.code == "") || err != nil && !strings.Contains(err.Error(), c.code) {
			t.Errorf("netprep %q: %v, %q; expected %q, %q", c.args, err, out.String(), c.code, c.want)
		}
	}
}

func TestNetprepTellsMistakesOnItsCommandLine(t *testing.T) {
	for _, args := range [][]string{
		{},
		{"--interface", "net1", "--gateway", "router"},
		{"--interface", "net1", "--address", "192.0.2.1"},
		{"--interface", "net1", "--cluster-route", "10.0.0.0"},
		{"--interface", "net1", "--check", "--dry-run"},
		{"--interface", "net1", "surplus"},
	} {
		if code := run(append([]string{"netprep"}, args...)); code != exitConfig {
			t.Errorf("netprep %q: exit code %d", args, code)
		}
	}
}
