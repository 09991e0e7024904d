package main

import "testing"

func TestMistakesOnTheCommandLineHaveTheirExitCode(t *testing.T) {
	tests := []struct {
		args []string
		want int
	}{
		{[]string{"version"}, 0},
		{[]string{"sreve"}, exitConfig},
		{[]string{"--no-such-flag"}, exitConfig},
		{[]string{"version", "surplus"}, exitConfig},
		{[]string{"serve", "surplus"}, exitConfig},
		{[]string{"demo", "surplus"}, exitConfig},
		{[]string{"check"}, exitConfig},
		{[]string{"serve", "--config", "no-such-file.yaml"}, exitConfig},
	}
	for _, tt := range tests {
		if got := run(tt.args); got != tt.want {
			t.Errorf("shirube %q: exit code %d, want %d", tt.args, got, tt.want)
		}
	}
}
