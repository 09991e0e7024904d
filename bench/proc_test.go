package main

import (
	"os"
	"testing"
	"time"
)

func TestStatIsReadPastAProgramNameWithSpacesAndParentheses(t *testing.T) {
	line := "4242 (nsd: (x) 1 2) S 1 4242 4242 0 -1 4194560 1000 0 0 0 1234 567 0 0 20 0 3 0 100 1000000 500\n"
	got, err := parseStat([]byte(line))
	if want := 18010 * time.Millisecond; err != nil || got != want {
		t.Errorf("parseStat = %v, %v; want %v", got, err, want)
	}
}

func TestStatThatIsCutShortIsAnError(t *testing.T) {
	for _, line := range []string{"", "1 (x", "1 (x) S 1 2 3", "1 (x) S 1 1 1 0 -1 1 1 0 0 0 a 5 0 0"} {
		if got, err := parseStat([]byte(line)); err == nil {
			t.Errorf("parseStat(%q) = %v", line, got)
		}
	}
}

func TestBusyTimeLeavesOutIdleAndGuests(t *testing.T) {
	got, err := parseBusy([]byte("cpu  100 10 200 99999 5000 7 20 3 50 60\ncpu0 1 1 1 1 1 1 1 1 1 1\n"))
	if want := 3400 * time.Millisecond; err != nil || got != want {
		t.Errorf("parseBusy = %v, %v; want %v", got, err, want)
	}
	if got, err := parseBusy([]byte("intr 1 2 3\n")); err == nil {
		t.Errorf("parseBusy of another line = %v", got)
	}
}

func TestResidentMemoryIsInOctets(t *testing.T) {
	got, err := parseMemory([]byte("Name:\tunbound\nVmPeak:\t  9 kB\nVmRSS:\t   29396 kB\nThreads:\t2\n"), "VmRSS")
	if err != nil || got != 29396<<10 {
		t.Errorf("parseMemory = %d, %v", got, err)
	}
	if got, err := parseMemory([]byte("Pss: 7 kB\nPss_Dirty: 3 kB\n"), "Pss"); err != nil || got != 7<<10 {
		t.Errorf("Pss = %d, %v", got, err)
	}
	if got, err := parseMemory([]byte("Name:\tkthreadd\n"), "VmRSS"); err == nil {
		t.Errorf("parseMemory without VmRSS = %d", got)
	}
}

// The kernel's own files, for this process.
func TestProcOfThisMachineIsUnderstood(t *testing.T) {
	if _, err := cpuTime(os.Getpid()); err != nil {
		t.Error(err)
	}
	if busy, err := busyTime(); err != nil || busy <= 0 {
		t.Errorf("busyTime = %v, %v", busy, err)
	}
	if rss, err := residentBytes(os.Getpid()); err != nil || rss <= 0 {
		t.Errorf("residentBytes = %d, %v", rss, err)
	}
	before, err := descriptors(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if after, err := descriptors(os.Getpid()); err != nil || after != before+1 {
		t.Errorf("descriptors: %d, with one more open file %d, %v", before, after, err)
	}
}
