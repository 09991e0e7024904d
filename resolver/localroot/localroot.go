// Package localroot keeps a copy of the root zone, so that the root servers
// need not be asked (RFC 8806). The copy comes from a file or by zone transfer,
// is checked against its own digest (RFC 8976), and is used no longer than its
// SOA record allows: whoever asks then is told to ask the root itself.
package localroot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/clock"
	"shirube/internal/wire"
)

// The bounds on how often anything is looked at, whatever the SOA record says.
const (
	pollFile   = 30 * time.Second
	minRefresh = 5 * time.Minute
	maxRefresh = 24 * time.Hour
	minRetry   = time.Minute
	maxRetry   = time.Hour
	maxExpire  = 30 * 24 * time.Hour
)

// Options configures a [Copy]. At least one of File and Servers is needed; with
// both, the newer zone counts.
type Options struct {
	File    string           // a zone file; it is read again when it changes
	Servers []netip.AddrPort // that allow the zone to be transferred
	ZONEMD  ZONEMD
	Clock   *clock.Clock // zones expire by; nil: the real time
	Log     *slog.Logger // told when a copy comes into use, and when one cannot be used; nil: nobody
}

// Copy is a copy of the root zone. It is safe for concurrent use, but [Copy.Run]
// and [Copy.Load] are for one caller at a time.
type Copy struct {
	opt  Options
	dial dialFunc // replaced in tests only

	current atomic.Pointer[version]
	looked  bool      // at the file, at least once
	seen    fileState // of the file then; zero: it was not there
	done    bool      // with that content, good or bad
	expired bool      // that the current version is was told

	count counters
}

// version is a zone with the time that it is good for. It is immutable.
type version struct {
	zone    *zone
	expires time.Time
	file    bool // from the file
}

// fileState tells one content of a file from the next.
type fileState struct {
	modified time.Time
	size     int64
}

type counters struct {
	answers, absent, loads, transfers, checks, failures atomic.Uint64
}

// Stats is a snapshot of what a [Copy] has done.
type Stats struct {
	Serial    uint32 // of the zone in use now; 0: none
	Answers   uint64 // given
	Absent    uint64 // questions while there was no copy that could be used
	Loads     uint64 // of the file, successful
	Transfers uint64 // from servers, successful
	Checks    uint64 // with servers, that the copy is current
	Failures  uint64 // to get a zone, or to find it in order
}

// New returns an empty Copy. It reads nothing and starts nothing.
func New(opt Options) (*Copy, error) {
	if opt.File == "" && len(opt.Servers) == 0 {
		return nil, errors.New("localroot: neither a file nor a server")
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	return &Copy{opt: opt, dial: dialTCP}, nil
}

// Stats returns a snapshot.
func (c *Copy) Stats() Stats {
	s := Stats{
		Answers:   c.count.answers.Load(),
		Absent:    c.count.absent.Load(),
		Loads:     c.count.loads.Load(),
		Transfers: c.count.transfers.Load(),
		Checks:    c.count.checks.Load(),
		Failures:  c.count.failures.Load(),
	}
	if v := c.usable(c.opt.Clock.Now()); v != nil {
		s.Serial = v.zone.soa.Serial
	}
	return s
}

// usable returns the version in use at now, or nil.
func (c *Copy) usable(now time.Time) *version {
	if v := c.current.Load(); v != nil && now.Before(v.expires) && v.expires.Sub(now) <= maxExpire+time.Minute { // more: the clock was set back
		return v
	}
	return nil
}

// Answer returns what a root server would say to q, or nil: the root has to be
// asked itself.
func (c *Copy) Answer(q wire.Question) *dns.Msg {
	v := c.usable(c.opt.Clock.Now())
	if v == nil {
		c.count.absent.Add(1)
		return nil
	}
	m := v.zone.answer(q)
	if m != nil {
		c.count.answers.Add(1)
	}
	return m
}

// Run keeps the copy current until ctx ends. It is the goroutine of its caller.
func (c *Copy) Run(ctx context.Context) {
	t := time.NewTimer(0)
	defer t.Stop()
	var refresh time.Time // when the servers are to be asked
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		c.Load()
		if now := time.Now(); len(c.opt.Servers) > 0 && !now.Before(refresh) {
			refresh = now.Add(c.refresh(ctx))
		}
		c.tellExpiry()
		wait := maxRetry
		if c.opt.File != "" {
			wait = pollFile
		}
		if len(c.opt.Servers) > 0 {
			wait = min(wait, time.Until(refresh))
		}
		t.Reset(wait)
	}
}

// Load reads the file if there is one that was not read yet. What is wrong with
// it is counted and told to the log, once for each content; the zone in use
// stays.
func (c *Copy) Load() {
	if c.opt.File == "" {
		return
	}
	state, err := c.stat()
	same := c.looked && state == c.seen
	if same && c.done {
		return
	}
	c.looked, c.seen = true, state
	if err == nil {
		err = c.load(state)
	}
	_, unread := errors.AsType[*fs.PathError](err)
	c.done = !unread // else it may become readable without a change
	if err != nil && !same {
		c.fail("cannot use the local copy of the root zone", "file", c.opt.File, "error", err)
	}
}

// fail counts a failure and tells the log.
func (c *Copy) fail(message string, args ...any) {
	c.count.failures.Add(1)
	c.opt.Log.Warn(message, args...)
}

// stat returns the state of the file, zero if it cannot be read. What is not a regular file could be read
// for ever.
func (c *Copy) stat() (fileState, error) {
	info, err := os.Stat(c.opt.File)
	switch {
	case err != nil:
		return fileState{}, err
	case !info.Mode().IsRegular():
		return fileState{}, &fs.PathError{Op: "read", Path: c.opt.File, Err: errors.New("not a regular file")}
	}
	return fileState{info.ModTime(), info.Size()}, nil
}

// load reads the file, whose state is given. It is good for as long after it was
// written as the SOA record says.
func (c *Copy) load(state fileState) error {
	f, err := os.Open(c.opt.File)
	if err != nil {
		return err
	}
	defer f.Close()
	rrs, err := parse(f)
	if err != nil {
		return err
	}
	z, err := c.check(rrs)
	if err != nil {
		return err
	}
	now, written := c.opt.Clock.Now(), c.opt.Clock.At(state.modified)
	if written.After(now) {
		written = now
	}
	v := &version{zone: z, expires: written.Add(lifetime(z.soa)), file: true}
	if !now.Before(v.expires) {
		return fmt.Errorf("expired %v ago", now.Sub(v.expires).Round(time.Second))
	}
	if have := c.usable(now); have != nil && !have.file && !newer(z.soa.Serial, have.zone.soa.Serial) {
		return nil // the servers' is at least as new
	}
	c.count.loads.Add(1)
	c.use(v)
	return nil
}

// parse reads a zone file, within the limits of a transfer.
func parse(r io.Reader) ([]dns.RR, error) {
	in := &io.LimitedReader{R: r, N: maxOctets}
	zp := dns.NewZoneParser(in, ".", "")
	var rrs []dns.RR
	for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
		if len(rrs) == maxRecords {
			return nil, errTooMany
		}
		rrs = append(rrs, rr)
	}
	if in.N <= 0 {
		return nil, errTooLarge
	}
	return rrs, zp.Err()
}

// check returns the zone that rrs make up, if it is in order.
func (c *Copy) check(rrs []dns.RR) (*zone, error) {
	z, err := build(rrs)
	if err != nil {
		return nil, err
	}
	return z, verify(rrs, wire.Root, z.soa.Serial, c.opt.ZONEMD)
}

// use puts v into use.
func (c *Copy) use(v *version) {
	have := c.current.Swap(v) // first: who reads the log may ask at once
	c.expired = false
	if have == nil || have.zone != v.zone {
		c.opt.Log.Info("using a local copy of the root zone", "serial", v.zone.soa.Serial, "expires", v.expires)
	}
}

// tellExpiry tells the log once that the copy has expired.
func (c *Copy) tellExpiry() {
	if v := c.current.Load(); v != nil && !c.expired && !c.opt.Clock.Now().Before(v.expires) {
		c.expired = true
		c.fail("the local copy of the root zone has expired; asking the root servers", "serial", v.zone.soa.Serial)
	}
}

// refresh asks the servers, in random order, until one has the zone or confirms
// that it is current (RFC 1034 §4.3.5). It returns how long to wait until the
// next time.
func (c *Copy) refresh(ctx context.Context) time.Duration {
	for _, i := range rand.Perm(len(c.opt.Servers)) {
		server := c.opt.Servers[i]
		err := c.refreshFrom(ctx, server)
		switch {
		case ctx.Err() != nil:
			return maxRetry // never
		case err == nil:
			return clamp(c.current.Load().zone.soa.Refresh, minRefresh, maxRefresh)
		}
		c.fail("cannot get the root zone", "server", server, "error", err)
	}
	if v := c.current.Load(); v != nil {
		return clamp(v.zone.soa.Retry, minRetry, maxRetry)
	}
	return minRetry
}

// refreshFrom asks one server.
func (c *Copy) refreshFrom(ctx context.Context, server netip.AddrPort) error {
	s, end, err := open(ctx, c.dial, server)
	if err != nil {
		return err
	}
	defer end()
	soa, err := s.serial()
	if err != nil {
		return fmt.Errorf("asking for the serial: %w", err)
	}
	if have := c.usable(c.opt.Clock.Now()); have != nil && !newer(soa.Serial, have.zone.soa.Serial) {
		if soa.Serial != have.zone.soa.Serial {
			return fmt.Errorf("its serial %d is older than %d", soa.Serial, have.zone.soa.Serial)
		}
		c.count.checks.Add(1)
		c.use(&version{zone: have.zone, expires: c.opt.Clock.Now().Add(lifetime(have.zone.soa)), file: have.file})
		return nil
	}
	rrs, err := s.transfer()
	if err != nil {
		return fmt.Errorf("transferring the zone: %w", err)
	}
	z, err := c.check(rrs)
	if err != nil {
		return err
	}
	if have := c.usable(c.opt.Clock.Now()); have != nil && !newer(z.soa.Serial, have.zone.soa.Serial) {
		return fmt.Errorf("announced serial %d, and sent %d", soa.Serial, z.soa.Serial)
	}
	c.count.transfers.Add(1)
	c.use(&version{zone: z, expires: c.opt.Clock.Now().Add(lifetime(z.soa))})
	return nil
}

// lifetime returns how long a zone may be used after it was current.
func lifetime(soa *dns.SOA) time.Duration { return clamp(soa.Expire, 0, maxExpire) }

// clamp returns seconds as a duration within bounds.
func clamp(seconds uint32, low, high time.Duration) time.Duration {
	return min(max(time.Duration(seconds)*time.Second, low), high)
}

// newer reports whether serial a comes after b, round the end of the numbers
// (RFC 1982 §3.2).
func newer(a, b uint32) bool { return int32(a-b) > 0 }
