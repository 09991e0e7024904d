package daemon

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"shirube/internal/config"
	"shirube/internal/simnet"
	"shirube/internal/wire"
)

// TestClockOffsetFileMovesAllThatExpires tells a story in which no real time
// passes: whatever changes, changes because the file says so.
func TestClockOffsetFileMovesAllThatExpires(t *testing.T) {
	const year = 365 * 24 * time.Hour
	path := filepath.Join(t.TempDir(), "offset")
	to := func(offset time.Duration, more ...func(*simnet.Net)) func(*simnet.Net) {
		return func(n *simnet.Net) {
			text := fmt.Sprintf("%.3f\n", offset.Seconds())
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, f := range more {
				f(n)
			}
		}
	}
	www := []string{"www.example.com. A 198.51.100.1", "www.example.com. A 198.51.100.2"}
	expect := func(ttl int) step { return step{ask: "www.example.com. A", answer: www, ttls: []int{ttl, ttl}} }
	at := func(do func(*simnet.Net), s step) step { s.do = do; return s }
	found := func(s step) step { s.none, s.noEDE = true, true; return s }
	way := func(s step, from int) step {
		s.sent = []string{"192.0.2.1 com. A", "192.0.2.2 example.com. A", "192.0.2.11 www.example.com. A"}[from:]
		return s
	}
	play(t, []scenario{
		{name: "moves what is kept", cfg: func(cfg *config.Config) {
			cfg.Debug = config.Debug{Enabled: true, ClockOffsetFile: path}
			cfg.Cache.Prefetch = false
		}, steps: []step{
			at(to(-10*year), way(expect(300), 0)),
			at(to(-10*year+100*time.Second), found(expect(200))),
			at(to(-10*year+300*time.Second), way(expect(300), 2)),          // the cut lives on
			at(to(-10*year+2*24*time.Hour+time.Hour), way(expect(300), 0)), // nor does the cut
			at(to(40*year), way(expect(300), 0)),
			at(to(40*year+299*time.Second), found(expect(1))),
			at(to(0), way(expect(300), 0)), // back: nothing from then is used, nor lives for 40 years
			at(to(-time.Minute), way(expect(300), 0)),
			at(to(time.Hour, silent), step{ask: "www.example.com. A", answer: www, ttls: []int{30, 30}, ede: staleAnswer}),
			{ask: "mail.example.com. A", rcode: wire.ServFail},
			at(to(-10*year, working), way(expect(300), 0)), // neither is the failure remembered
			{ask: "mail.example.com. A", rcode: wire.NXDomain, most: 1},
		}},
	})
}

func TestClockOffsetFileIsWarnedOfAndMayBeMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := scenarioConfig(t)
		cfg.Debug = config.Debug{Enabled: true, ClockOffsetFile: filepath.Join(t.TempDir(), "none")}
		var log strings.Builder
		p, err := NewPipeline(cfg, simnet.New(), slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		defer p.Frontend.Close()
		if now := time.Now(); !p.Clock.At(now).Equal(now) {
			t.Errorf("without its file the clock shows %v at %v", p.Clock.At(now), now)
		}
		if strings.Count(log.String(), "level=WARN") != 2 || !strings.Contains(log.String(), "no such file") || !strings.Contains(log.String(), "THE CLOCK IS MOVED") {
			t.Errorf("the log was told:\n%s", &log)
		}
	})
}
