package main

import "testing"

func TestMistakesOnTheCommandLineHaveTheirExitCode(t *testing.T) {
	tests := []struct {
		args []string
		want int
	}{
		{[]string{"version"}, 0},
		{[]string{"--version"}, 0},
		{[]string{"sreve"}, exitConfig},
		{[]string{"--no-such-flag"}, exitConfig},
		{[]string{"version", "surplus"}, exitConfig},
		{[]string{"serve", "surplus"}, exitConfig},
		{[]string{"demo", "surplus"}, exitConfig},
		{[]string{"check"}, exitConfig},
		{[]string{"serve", "--config", "no-such-file.yaml"}, exitConfig},
		{[]string{"convert", "no-such-file.conf"}, exitConfig},
		{[]string{"verify", "192.0.2.53:53"}, exitConfig},
		{[]string{"verify", "[2001:db8::53]"}, exitConfig},
		{[]string{"verify", "--instance", "dns..example", "192.0.2.53"}, exitConfig},
		{[]string{"verify", "https://dns.example/dns-query"}, exitConfig},
		{[]string{"ctl", "sttaus"}, exitConfig},
		{[]string{"ctl", "status", "surplus"}, exitConfig},
		{[]string{"ctl", "trace"}, exitConfig},
		{[]string{"ctl", "trace", "a..b"}, exitConfig},
		{[]string{"ctl", "flush"}, exitConfig},
		{[]string{"ctl", "flush", "--all", "example.com"}, exitConfig},
		{[]string{"ctl", "nta", "add", "example.com", "--for", "long"}, exitConfig},
		{[]string{"ctl", "log-level", "loud"}, exitConfig},
		{[]string{"ctl", "--socket", "no-such-socket", "status"}, exitNobody},
	}
	for _, tt := range tests {
		if got := run(tt.args); got != tt.want {
			t.Errorf("shirube %q: exit code %d, want %d", tt.args, got, tt.want)
		}
	}
}
