package daemon

import (
	"log/slog"
	"math"
	"net/netip"
	"runtime/debug"
	"strings"
	"testing"
	"testing/fstest"

	"shirube/internal/config"
)

func TestMemoryAllowedIsTheLeastThatIsSaid(t *testing.T) {
	const total = "MemFree: 1 kB\nMemTotal:        8388608 kB\n"
	for _, tt := range []struct {
		what  string
		files map[string]string
		want  int64
	}{
		{"nothing", nil, 0},
		{"the machine", map[string]string{"proc/meminfo": total}, 8 << 30},
		{"a machine without limits", map[string]string{"proc/meminfo": total, "proc/self/cgroup": "0::/\n"}, 8 << 30},
		{"a container", map[string]string{
			"proc/meminfo": total, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "536870912\n",
		}, 512 << 20},
		{"a container that may have all", map[string]string{
			"proc/meminfo": total, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n",
		}, 8 << 30},
		{"a service within a slice", map[string]string{
			"proc/meminfo": total, "proc/self/cgroup": "0::/system.slice/shirube.service\n",
			"sys/fs/cgroup/system.slice/shirube.service/memory.max": "max\n", "sys/fs/cgroup/system.slice/memory.max": "1073741824\n",
		}, 1 << 30},
		{"version 1, in a container that sees the host's path", map[string]string{
			"proc/meminfo": total, "proc/self/cgroup": "9:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "268435456\n", "sys/fs/cgroup/cpu/x/memory.limit_in_bytes": "1\n",
		}, 256 << 20},
		{"version 1 without a limit", map[string]string{
			"proc/meminfo": total, "proc/self/cgroup": "4:memory:/\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
		}, 8 << 30},
		{"a limit above the machine's memory", map[string]string{
			"proc/meminfo": total, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1099511627776\n",
		}, 8 << 30},
		{"nonsense", map[string]string{
			"proc/meminfo": "MemTotal: many kB\n", "proc/self/cgroup": "nonsense\n0::\n", "sys/fs/cgroup/memory.max": "-5\n",
		}, 0},
	} {
		root := fstest.MapFS{}
		for name, text := range tt.files {
			root[name] = &fstest.MapFile{Data: []byte(text)}
		}
		if got := memoryAllowed(root); got != tt.want {
			t.Errorf("%s: %d bytes, want %d", tt.what, got, tt.want)
		}
	}
}

func TestMemoryIsDividedBetweenAnswersAndHeap(t *testing.T) {
	for _, tt := range []struct {
		configured             config.Size
		allowed, answers, heap int64
		level                  slog.Level
	}{
		{config.Auto, 1000 << 20, 400 << 20, 540 << 20, slog.LevelInfo},
		{config.Auto, 1 << 20, 1 << 20, leastHeap, slog.LevelWarn},
		{config.Auto, 0, 64 << 20, leastHeap, slog.LevelWarn},
		{100 << 20, 1000 << 20, 100 << 20, 810 << 20, slog.LevelInfo},
		{990 << 20, 1000 << 20, 990 << 20, leastHeap, slog.LevelWarn},
	} {
		answers := answersSize(tt.configured, tt.allowed)
		heap := heapSize(tt.allowed, answers)
		if near := func(a, b int64) bool { return math.Abs(float64(a-b)) < 1000 }; !near(answers, tt.answers) || !near(heap, tt.heap) {
			t.Errorf("%v of %d: answers %d, heap %d, want %d and %d", tt.configured, tt.allowed, answers, heap, tt.answers, tt.heap)
		}
		if got := memoryLevel(tt.allowed, answers, heap); got != tt.level {
			t.Errorf("%v of %d: %v", tt.configured, tt.allowed, got)
		}
	}
}

func TestStartLimitsTheHeapUnlessTheOperatorDid(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	start := func() string {
		var out lockedBuffer
		cfg := scenarioConfig(t)
		cfg.Listen = []config.Listener{{Address: netip.MustParseAddrPort("127.0.0.1:0"), Protocols: []config.Protocol{config.ProtocolUDP}}}
		d, err := New(cfg, slog.New(slog.NewTextHandler(&out, nil)))
		if err != nil {
			t.Fatal(err)
		}
		if err := d.Start(); err != nil {
			t.Fatal(err)
		}
		if err := d.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		return out.String()
	}
	debug.SetMemoryLimit(math.MaxInt64)
	t.Setenv("GOMEMLIMIT", "off")
	if start(); debug.SetMemoryLimit(-1) != math.MaxInt64 {
		t.Errorf("the operator's limit became %d", debug.SetMemoryLimit(-1))
	}
	t.Setenv("GOMEMLIMIT", "")
	if log := start(); debug.SetMemoryLimit(-1) == math.MaxInt64 || !strings.Contains(log, "msg=memory") {
		t.Errorf("no limit was set:\n%s", log)
	}
}
