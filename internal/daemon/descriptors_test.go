package daemon

import (
	"bytes"
	"log/slog"
	"math"
	"strings"
	"testing"

	"shirube/internal/config"
)

func TestCheckDescriptorsWarnsOfTooFew(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out, nil))
	checkDescriptors(log, 1)
	if out.Len() != 0 {
		t.Errorf("warned of a need for one: %s", out.String())
	}
	checkDescriptors(log, math.MaxUint64)
	if !strings.Contains(out.String(), "needed=18446744073709551615") {
		t.Errorf("did not warn: %q", out.String())
	}
}

func TestDescriptorsNeededFollowTheLimits(t *testing.T) {
	cfg := config.Default()
	if got := descriptorsNeeded(&cfg); got != 10_000+4096+1024+256 {
		t.Errorf("got %d", got)
	}
}
