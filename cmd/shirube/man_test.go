package main

import (
	"os"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func TestManualPageIsFresh(t *testing.T) {
	got, err := os.ReadFile("../../docs/man/shirube.1")
	if err != nil || string(got) != manualPage(newRootCommand()) {
		t.Errorf("docs/man/shirube.1 is stale (%v); run go generate ./cmd/shirube", err)
	}
}

func TestManualPageHasEveryCommandAndFlag(t *testing.T) {
	page := strings.ReplaceAll(manualPage(newRootCommand()), `\-`, "-")
	all := commands(newRootCommand())
	if len(all) < 15 {
		t.Errorf("found %d commands", len(all))
	}
	for _, c := range all {
		_, section, ok := strings.Cut(page, "\n.SS \""+c.CommandPath())
		section, _, _ = strings.Cut(section, "\n.SS")
		if !ok {
			t.Errorf("there is no %s", c.CommandPath())
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !strings.Contains(section, "--"+f.Name+`\fR`) {
				t.Errorf("%s has no --%s", c.CommandPath(), f.Name)
			}
		})
	}
}
