package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// fleetCaches is how many memcached a fleet has, and fleetCacheMiB what each may
	// keep.
	fleetCaches   = 3
	fleetCacheMiB = 256
	// fleetTelling is the time between two tellings of what a server is asked most:
	// shorter than by default, so that a run need not wait for a minute.
	fleetTelling = 5 * time.Second
	// fleetReady is how long a server may take until it is ready.
	fleetReady = 30 * time.Second
)

// fleet is some Shirube that have memcached in common.
type fleet struct {
	lab     *lab
	set     settings
	secret  string // the file
	caches  []*process
	members []*contestant
}

// startFleet starts a fleet of so many servers, all of which know nothing. The
// caller stops it, also after an error.
func startFleet(ctx context.Context, l *lab, set settings, members int) (*fleet, error) {
	f := &fleet{lab: l, set: set, secret: filepath.Join(l.dir, "secret"), caches: make([]*process, fleetCaches)}
	if err := writeFiles(map[string]string{f.secret: strings.Repeat("5e", 32) + "\n"}); err != nil {
		return f, err
	}
	for i := range f.caches {
		if err := f.startCache(ctx, i); err != nil {
			return f, err
		}
	}
	for range members {
		if _, err := f.join(ctx, sharing); err != nil {
			return f, err
		}
	}
	return f, nil
}

// stop stops all of f.
func (f *fleet) stop() {
	stopContestants(f.members)
	for _, p := range f.caches {
		if p != nil {
			p.stop()
		}
	}
}

// cacheAddr is where the i-th memcached is.
func cacheAddr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 10, 7, byte(i + 1)}), 11211)
}

// startCache starts the i-th memcached, which has nothing.
func (f *fleet) startCache(ctx context.Context, i int) (err error) {
	at := cacheAddr(i)
	// In here everybody is root (sandbox.go).
	f.caches[i], err = start(f.lab.dir, fmt.Sprintf("memcached-%d", i), []string{
		"memcached", "-l", at.Addr().String(), "-p", fmt.Sprint(at.Port()), "-U", "0", "-u", "root", "-t", "1", "-m", fmt.Sprint(fleetCacheMiB),
	})
	if err != nil {
		return err
	}
	var d net.Dialer
	for range 200 {
		conn, err := d.DialContext(ctx, "tcp", at.String())
		if err == nil {
			return conn.Close()
		}
		if err := f.caches[i].alive(); err != nil {
			return err
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("memcached-%d does not listen; its log says:\n%s", i, f.caches[i].logTail())
}

// each does something with all memcached at once.
func (f *fleet) each(do func(i int) error) error {
	errs := make([]error, len(f.caches))
	var wg sync.WaitGroup
	for i := range f.caches {
		// Owner: each, which waits. One for each memcached.
		wg.Go(func() { errs[i] = do(i) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// signal sends a signal to all memcached.
func (f *fleet) signal(s syscall.Signal) error {
	return f.each(func(i int) error { return f.caches[i].cmd.Process.Signal(s) })
}

// kill ends all memcached, without a word.
func (f *fleet) kill() error {
	if err := f.signal(syscall.SIGKILL); err != nil {
		return err
	}
	return f.each(func(i int) error { <-f.caches[i].ended; return nil })
}

// part is what a server takes from its fleet.
type part string

const (
	sharing part = "warm_start: {interval: " // with fleetTelling
	empty   part = "warm_start: {enabled: false}"
	alone   part = ""
)

// join starts one more server, and waits until it is ready.
func (f *fleet) join(ctx context.Context, as part) (*contestant, error) {
	set := f.set
	set.peers = "shirube"
	all, err := newContestants(ctx, set)
	if err != nil {
		return nil, err
	}
	c, i := all[0], len(f.members)
	c.name, c.addr = fmt.Sprintf("shirube-%d", i+1), netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)})
	c.kind.prepare = func(_ context.Context, l *lab, c *contestant) ([][]string, error) {
		admin, err := adminLines(f.lab.dir, adminOf(c))
		if err != nil {
			return nil, err
		}
		return shirubeWith(l, c, admin+f.configuration(c, as))
	}
	f.members = append(f.members, c)
	if err := c.start(ctx, f.lab); err != nil {
		return nil, err
	}
	if err := c.proc.awaitAlive(ctx, c.addr); err != nil {
		return nil, err
	}
	return c, f.awaitReady(ctx, c)
}

// configuration is what a server's has besides.
func (f *fleet) configuration(c *contestant, as part) string {
	var b strings.Builder
	fmt.Fprintf(&b, "identity:\n  nsid: %s\ncontrol:\n  socket: %q\n", c.name, filepath.Join(f.lab.dir, c.name+".sock"))
	if as == alone {
		return b.String()
	}
	if as == sharing {
		as += part(fleetTelling.String() + "}")
	}
	fmt.Fprintf(&b, "shared_cache:\n  enabled: true\n  secret_file: %q\n  %s\n  servers:\n", f.secret, as)
	for i := range f.caches {
		fmt.Fprintf(&b, "    - {name: memcached-%d, address: %q}\n", i, cacheAddr(i))
	}
	return b.String()
}

// adminOf is where a server of a fleet has its metrics.
func adminOf(c *contestant) string { return netip.AddrPortFrom(c.addr, 9153).String() }

// awaitReady waits until a server is ready for clients.
func (f *fleet) awaitReady(ctx context.Context, c *contestant) error {
	var err error
	for end := time.Now().Add(fleetReady); time.Now().Before(end); {
		if _, err = fetchAdmin(ctx, adminOf(c), "/readyz"); err == nil {
			return nil
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s is not ready: %w; its log says:\n%s", c.name, err, c.proc.logTail())
}

// cacheTime is the CPU time of all memcached.
func (f *fleet) cacheTime() (time.Duration, error) { return sumOf(f.caches, cpuClock) }

// sources is where the answers of a server have come from.
type sources struct {
	misses   float64            // that its own memory did not have
	shared   float64            // of them, that the fleet had
	gets     float64            // look-ups at memcached
	loaded   float64            // before it was ready
	rejected float64            // values that were not as they should be
	conns    float64            // connections to memcached now
	why      map[string]float64 // limits that bit, and Extended DNS Errors of answers, by their metrics
}

// sourcesOf reads them.
func sourcesOf(ctx context.Context, c *contestant) (s sources, err error) {
	m, err := scrapeAt(ctx, adminOf(c))
	if err != nil {
		return s, err
	}
	s.misses, s.shared = m["shirube_misses_total"], m[`shirube_shared_answers_total{kind="good"}`]
	s.why = make(map[string]float64)
	s.loaded = m[`shirube_warm_start_answers{state="loaded"}`]
	for name, v := range m {
		switch {
		case strings.HasPrefix(name, "shirube_shared_server_lookups_total{") && strings.Contains(name, `outcome="all"`):
			s.gets += v
		case strings.HasPrefix(name, "shirube_shared_server_connections{"):
			s.conns += v
		case strings.HasPrefix(name, "shirube_shared_rejected_total{"):
			s.rejected += v
		case strings.HasPrefix(name, "shirube_limits_total{"), strings.HasPrefix(name, "shirube_extended_errors_total{"):
			s.why[name] = v
		}
	}
	return s, nil
}

// minus returns what came since.
func (s sources) minus(before sources) sources {
	why := make(map[string]float64)
	for name, v := range s.why {
		if more := v - before.why[name]; more > 0 {
			why[name] = more
		}
	}
	return sources{
		misses: s.misses - before.misses, shared: s.shared - before.shared, gets: s.gets - before.gets,
		loaded: s.loaded, conns: s.conns, rejected: s.rejected - before.rejected, why: why,
	}
}
