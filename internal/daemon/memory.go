package daemon

import (
	"bufio"
	"bytes"
	"context"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path"
	"runtime/debug"
	"strconv"
	"strings"

	"shirube/internal/config"
)

const (
	// answersShare is the part of all memory that answers get by themselves, in
	// percent. The rest is for what resolution works with, for the kernel's
	// buffers of sockets, and for garbage.
	answersShare = 40
	// unknownAnswers is what they get when nobody says how much there is.
	unknownAnswers = 64 << 20
	// leastAnswers is the least they get, as in the configuration.
	leastAnswers = 1 << 20

	// heapShare is the part of what is left that Go may have, in percent. The
	// rest is for what it does not count: the program itself, and the kernel's
	// buffers, which control groups do count.
	heapShare = 90
	// leastHeap is what Go gets however much the answers take: with less, it
	// would do little but collect garbage.
	leastHeap = 64 << 20
)

// answersSize returns how much memory answers get of what is allowed; 0 is
// unknown.
func answersSize(configured config.Size, allowed int64) int64 {
	switch {
	case configured != config.Auto:
		return int64(configured)
	case allowed == 0:
		return unknownAnswers
	}
	return max(allowed/100*answersShare, leastAnswers)
}

// heapSize returns how much memory Go may have, when answers, which it does not
// count, have got theirs.
func heapSize(allowed, answers int64) int64 {
	return max((allowed-answers)/100*heapShare, leastHeap)
}

// limitMemory makes Go collect garbage before the system ends the process for
// want of memory. The operator's word counts more.
func (d *Daemon) limitMemory() {
	allowed := memoryAllowed(os.DirFS("/"))
	answers := answersSize(d.cfg().Cache.AnswersSize, allowed)
	if allowed == 0 || os.Getenv("GOMEMLIMIT") != "" {
		d.log.Info("memory", "allowed", allowed, "answers", answers, "heap", debug.SetMemoryLimit(-1))
		return
	}
	heap := heapSize(allowed, answers)
	debug.SetMemoryLimit(heap)
	d.log.Log(context.Background(), memoryLevel(allowed, answers, heap), "memory", "allowed", allowed, "answers", answers, "heap", heap)
}

// memoryLevel is a warning if all together is more than is allowed.
func memoryLevel(allowed, answers, heap int64) slog.Level {
	if answers+heap > allowed {
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// memoryAllowed returns how many bytes of memory the process may have: the least
// of what its control groups and the machine say. 0: neither says anything.
// root is that of the file system.
func memoryAllowed(root fs.FS) int64 {
	least := int64(math.MaxInt64)
	for _, file := range limitFiles(root) {
		if n, ok := readNumber(root, file); ok {
			least = min(least, n)
		}
	}
	if n := memTotal(root); n > 0 {
		least = min(least, n)
	}
	if least == math.MaxInt64 {
		return 0
	}
	return least
}

// limitFiles returns the files that may limit this process: those of its control
// groups and all above them. In a container the path may be that of the host,
// while only the container's own group is to be seen, at the top.
func limitFiles(root fs.FS) []string {
	groups, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return nil
	}
	var files []string
	for line := range strings.Lines(string(groups)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3) // cgroups(7): hierarchy, controllers, path
		if len(fields) < 3 {
			continue
		}
		top, name := "sys/fs/cgroup", "memory.max"
		if fields[0] != "0" { // version 1
			if !strings.Contains(","+fields[1]+",", ",memory,") {
				continue
			}
			top, name = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		}
		for p := path.Clean("/" + fields[2]); ; p = path.Dir(p) {
			files = append(files, path.Join(top, p, name))
			if p == "/" {
				break
			}
		}
	}
	return files
}

// readNumber returns the number in a file; none if it is missing or says "max".
func readNumber(root fs.FS, file string) (int64, bool) {
	text, err := fs.ReadFile(root, file)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil && n > 0
}

// memTotal returns the memory of the machine in bytes, or 0 if it is unknown.
func memTotal(root fs.FS) int64 {
	text, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return 0
	}
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) == 3 && fields[0] == "MemTotal:" && fields[2] == "kB" {
			n, _ := strconv.ParseInt(fields[1], 10, 53)
			return n << 10
		}
	}
	return 0
}
