package main

import (
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// partition divides the CPUs that this process may use: the last half of them for
// the server that is measured, as processors does, the rest for all others, so that
// what loads it does not take its time. Of one there is nothing to divide.
func partition() (server, others unix.CPUSet, err error) {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return all, all, os.NewSyscallError("sched_getaffinity", err)
	}
	n := all.Count()
	if n < 2 {
		return all, all, nil
	}
	for cpu, seen := 0, 0; seen < n; cpu++ {
		if !all.IsSet(cpu) {
			continue
		}
		if seen++; seen > n-n/2 {
			server.Set(cpu)
		} else {
			others.Set(cpu)
		}
	}
	return server, others, nil
}

// threads returns the threads of this process, in the order of their numbers: as they
// were started.
func threads() ([]int, error) {
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil, err
	}
	var all []int
	for _, e := range entries {
		tid, err := strconv.Atoi(e.Name())
		if err != nil {
			return nil, err
		}
		all = append(all, tid)
	}
	slices.Sort(all)
	return all, nil
}

// pinAll has all threads of this process, and those that they start, run on cpus.
func pinAll(cpus *unix.CPUSet) error {
	for range 2 { // those that were started meanwhile
		all, err := threads()
		if err != nil {
			return err
		}
		for _, tid := range all {
			if err := unix.SchedSetaffinity(tid, cpus); err != nil && err != unix.ESRCH {
				return os.NewSyscallError("sched_setaffinity", err)
			}
		}
	}
	return nil
}
