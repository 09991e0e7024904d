package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"syscall"
	"time"
)

// holdings is what a server holds that it could leak.
type holdings struct {
	descriptors int
	goroutines  int
}

func (h holdings) String() string {
	return fmt.Sprintf("%d descriptors, %d goroutines", h.descriptors, h.goroutines)
}

// exceeds reports whether h is more than base in anything.
func (h holdings) exceeds(base holdings) bool {
	return h.descriptors > base.descriptors || h.goroutines > base.goroutines
}

func soakFlags(fs *flag.FlagSet, set *settings) {
	set.peers = "shirube"
	timeFlag(fs, set, time.Minute)
}

// soak loads Shirube with cached names. It fails if a query is lost or gets a
// wrong answer, or if the server holds more afterwards than before.
func soak(ctx context.Context, dir string, set settings) error {
	l, err := startLab(ctx, dir, set)
	defer l.stop()
	if err != nil {
		return err
	}
	servers, err := startContestants(ctx, l, set)
	defer func() { stopContestants(servers) }()
	if err != nil {
		return err
	}
	c := servers[0]
	if err := prime(ctx, l, c, l.all, true); err != nil {
		return err
	}
	before, err := settled(ctx, c.proc)
	if err != nil {
		return err
	}
	fmt.Printf("before: %s\n", before)
	s, err := warmRun(ctx, l, c, set.run)
	if err != nil {
		return err
	}
	fmt.Printf("load:   %d queries in %.0f s, %.0f/s, %.2f µs CPU/query, %d lost, %v\n",
		s.Completed, s.Seconds, s.PerSecond, s.CPU, s.Lost, s.Rcodes)
	after, err := returnTo(ctx, c.proc, before)
	if err != nil {
		return err
	}
	fmt.Printf("after:  %s\n", after)
	if err := verdict(s, before, after); err != nil {
		return err
	}
	fmt.Println("passed: no error, nothing leaked")
	return nil
}

// verdict says what is wrong with a soak, or nil.
func verdict(s *sample, before, after holdings) error {
	var errs []error
	if n := s.errors(); n != 0 {
		errs = append(errs, fmt.Errorf("%d of %d queries failed: %d lost, %v", n, s.Sent, s.Lost, s.Rcodes))
	}
	if after.exceeds(before) {
		errs = append(errs, fmt.Errorf("the server leaks: it had %s and has %s", before, after))
	}
	return errors.Join(errs...)
}

// settled waits until a server's holdings have stayed the same for two seconds,
// so that what the warm-up left is no part of the measure, and returns them.
func settled(ctx context.Context, p *process) (holdings, error) {
	last, err := look(ctx, p)
	for same, tries := 0, 0; err == nil && same < 4; tries++ {
		if tries == 60 {
			return last, fmt.Errorf("%s does not come to rest: now %s", p.name, last)
		}
		if err := sleep(ctx, 500*time.Millisecond); err != nil {
			return last, err
		}
		var now holdings
		if now, err = look(ctx, p); now == last {
			same++
		} else {
			same = 0
		}
		last = now
	}
	return last, err
}

// returnTo waits up to 10 s, longer than a server keeps an idle connection or a
// query, for its holdings to come back to base, and returns the last seen.
func returnTo(ctx context.Context, p *process, base holdings) (holdings, error) {
	now, err := look(ctx, p)
	for range 20 {
		if err != nil || !now.exceeds(base) {
			break
		}
		if err := sleep(ctx, 500*time.Millisecond); err != nil {
			return now, err
		}
		now, err = look(ctx, p)
	}
	return now, err
}

// look asks the server for its holdings. SIGUSR1 makes Shirube log a line of
// statistics.
func look(ctx context.Context, p *process) (holdings, error) {
	fds, err := descriptors(p.pid())
	if err != nil {
		return holdings{}, err
	}
	old, err := os.ReadFile(p.log)
	if err != nil {
		return holdings{}, err
	}
	if err := p.cmd.Process.Signal(syscall.SIGUSR1); err != nil {
		return holdings{}, err
	}
	for range 100 {
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return holdings{}, err
		}
		log, err := os.ReadFile(p.log)
		if err != nil {
			return holdings{}, err
		}
		if n, ok := goroutinesIn(log[min(len(old), len(log)):]); ok {
			return holdings{descriptors: fds, goroutines: n}, nil
		}
	}
	return holdings{}, fmt.Errorf("%s told nothing of its goroutines on SIGUSR1; its log says:\n%s", p.name, p.logTail())
}

var goroutinesAttr = regexp.MustCompile(`\bgoroutines=(\d+)\b.*\n`)

// goroutinesIn finds the number of goroutines in a line of slog's text form
// that is complete.
func goroutinesIn(log []byte) (int, bool) {
	m := goroutinesAttr.FindSubmatch(log)
	if m == nil {
		return 0, false
	}
	n, err := strconv.Atoi(string(m[1]))
	return n, err == nil
}

// sleep waits, or returns the context's error.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
