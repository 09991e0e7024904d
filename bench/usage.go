package main

import (
	"errors"
	"runtime"
	"time"
)

// usage is what was used up to a moment: CPU time by the server, by all processes
// of the benchmark, and by the whole machine; and datagrams dropped.
type usage struct {
	when              time.Time
	server, own, busy time.Duration
	drops             int64
}

func usageNow(c *contestant) (usage, error) {
	server, err1 := c.cpuClock()
	own, err2 := ownTime()
	busy, err3 := busyTime()
	drops, err4 := udpDrops()
	return usage{when: time.Now(), server: server, own: own, busy: busy, drops: drops}, errors.Join(err1, err2, err3, err4)
}

// spent is what a run took.
type spent struct {
	wall   time.Duration
	server time.Duration // CPU time
	own    time.Duration // likewise, of all processes that are still there
	driver time.Duration // CPU time of a load program that has ended
	// strangers is the share of the machine that was used by what is no part of
	// the benchmark.
	strangers float64
	drops     int64 // datagrams, for want of buffer at any socket of the laboratory
}

// since relates u to an earlier moment. driver is the CPU time of a program that
// started after it and has ended: nothing shows it any more.
func (u usage) since(before usage, driver time.Duration) spent {
	return u.sinceOn(before, driver, runtime.NumCPU())
}

// metered returns what was used while load ran, after which the server has to be
// there. load says how much CPU time a program took that it has started and that
// has ended.
func metered(c *contestant, load func() (driver time.Duration, err error)) (spent, error) {
	before, err := usageNow(c)
	if err != nil {
		return spent{}, err
	}
	driver, err := load()
	if err = errors.Join(err, c.alive()); err != nil {
		return spent{}, err
	}
	after, err := usageNow(c)
	if err != nil {
		return spent{}, err
	}
	return after.since(before, driver), nil
}

// sinceOn is since on a machine of so many cores.
func (u usage) sinceOn(before usage, driver time.Duration, cores int) spent {
	wall := u.when.Sub(before.when)
	// The clocks of /proc are not of one piece, and the difference may be negative.
	strangers := max(0, (u.busy-before.busy)-(u.own-before.own)-driver)
	return spent{
		wall: wall, server: u.server - before.server, own: u.own - before.own, driver: driver, drops: u.drops - before.drops,
		strangers: strangers.Seconds() / wall.Seconds() / float64(cores),
	}
}

// perQuery is the server's CPU time for each of n queries, in µs.
func (s spent) perQuery(n int64) float64 { return float64(s.server.Microseconds()) / float64(n) }

// cores is how many cores a CPU time kept busy.
func (s spent) cores(cpu time.Duration) float64 { return cpu.Seconds() / s.wall.Seconds() }
