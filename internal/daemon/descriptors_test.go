package daemon

import (
	"bytes"
	"log/slog"
	"math"
	"os"
	"strconv"
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

// TestMakeRoomHasTheTableOfDescriptorsGrowAtOnce looks at the size that the kernel
// tells (proc_pid_status(5), FDSize).
func TestMakeRoomHasTheTableOfDescriptorsGrowAtOnce(t *testing.T) {
	const need = 4000 // fewer than the least limit that tests are run with
	makeRoom(need)
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "\nFDSize:")
	size, _, _ := strings.Cut(rest, "\n")
	if n, err := strconv.Atoi(strings.TrimSpace(size)); err != nil || n < need {
		t.Errorf("room for %d (%v), want %d", n, err, need)
	}
}
