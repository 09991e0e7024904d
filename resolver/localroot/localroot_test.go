package localroot

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// rig is a Copy under test, with what it works on.
type rig struct {
	*Copy
	t       *testing.T
	path    string // of the file
	primary *primary
	log     *record
	stop    func() // ends Run, and waits for it
}

// record is a log that is read while it is written.
type record struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write implements [io.Writer].
func (l *record) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String returns what was written.
func (l *record) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// newRig makes a Copy in a bubble. Run is left to the test.
func newRig(t *testing.T, opt Options) *rig {
	t.Helper()
	r := &rig{t: t, log: new(record), primary: &primary{rrs: serial(t, 7)}}
	if opt.File != "" {
		r.path = filepath.Join(t.TempDir(), opt.File)
		opt.File = r.path
	}
	opt.Log = slog.New(slog.NewTextHandler(r.log, nil))
	c, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	c.dial = r.primary.open
	r.Copy = c
	return r
}

// run starts Run.
func (r *rig) run() {
	ctx, cancel := context.WithCancel(r.t.Context())
	done := make(chan struct{})
	go func() { // ends with ctx
		defer close(done)
		r.Run(ctx)
	}()
	r.stop = func() {
		cancel()
		<-done
		r.primary.conns.Wait()
	}
	r.wait(0)
}

// wait waits for d, and until nothing moves.
func (r *rig) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// write writes the file as it would be now.
func (r *rig) write(text string) {
	r.t.Helper()
	if err := os.WriteFile(r.path, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Chtimes(r.path, time.Time{}, time.Now()); err != nil {
		r.t.Fatal(err)
	}
}

// expect compares the serial in use; 0 is none.
func (r *rig) expect(serial uint32) {
	r.t.Helper()
	if got := r.Stats().Serial; got != serial {
		r.t.Errorf("at %v: serial %d, want %d\n%s", time.Now(), got, serial, r.log)
	}
	if m := r.Answer(wire.Question{Name: wire.Root, Type: wire.TypeSOA}); (m != nil) != (serial != 0) {
		r.t.Errorf("answer %v", m)
	}
}

// serial returns a root zone with a serial and its digest. Refresh is 30
// minutes, retry 15 minutes, expire a week.
func serial(t *testing.T, n uint32) []dns.RR {
	t.Helper()
	rrs := withDigest(t, nil)
	rrs[0].(*dns.SOA).Serial = n
	md := rrs[len(rrs)-1].(*dns.ZONEMD)
	sum, err := digest(rrs, wire.Root, newHash(hashSHA384))
	if err != nil {
		t.Fatal(err)
	}
	md.Serial, md.Digest = n, hexOf(sum)
	return rrs
}

func hexOf(b []byte) string {
	var s strings.Builder
	for _, c := range b {
		s.WriteString(strconv.FormatUint(uint64(c)+0x100, 16)[1:])
	}
	return s.String()
}

// text returns records as a zone file has them.
func text(rrs []dns.RR) string {
	var b strings.Builder
	for _, rr := range rrs {
		b.WriteString(rr.String() + "\n")
	}
	return b.String()
}

var anyServer = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:53")}

func TestNewNeedsASource(t *testing.T) {
	if c, err := New(Options{}); err == nil {
		t.Errorf("got %v", c)
	}
}

func TestCopyFollowsItsFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{File: "root.zone"})
		r.write(text(serial(t, 7)))
		r.Load()
		r.expect(7)
		r.run()
		defer r.stop()
		if s := r.Stats(); s.Loads != 1 {
			t.Errorf("read %d times", s.Loads)
		}
		r.wait(time.Second)
		r.write(text(serial(t, 8)))
		r.wait(pollFile)
		r.expect(8)
		r.wait(time.Second)
		r.write(text(serial(t, 6))) // the operator's word
		r.wait(pollFile)
		r.expect(6)
		if s := r.Stats(); s.Loads != 3 || s.Failures != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestCopyKeepsWhatItHasWhenTheFileIsBad(t *testing.T) {
	good := text(serial(t, 7))
	for name, bad := range map[string]string{
		"empty":              "",
		"cut off":            good[:len(good)/2],
		"not a zone file":    "<html>\n",
		"digest wrong":       strings.Replace(good, "192.0.2.2", "203.0.113.66", 1),
		"no digest":          text(serial(t, 8)[:len(serial(t, 8))-1]),
		"more than it holds": good + strings.Repeat("; comment\n", maxOctets/10),
		"more records":       good + "$GENERATE 1-65000 a$. NS a.\n$GENERATE 1-65000 b$. NS a.\n$GENERATE 1-65000 c$. NS a.\n$GENERATE 1-65000 d$. NS a.\n",
		"another file":       good + "$INCLUDE /dev/zero\n",
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, Options{File: "root.zone"})
				r.write(good)
				r.run()
				defer r.stop()
				r.expect(7)
				r.wait(time.Second)
				r.write(bad)
				r.wait(10 * pollFile)
				r.expect(7)
				if s := r.Stats(); s.Failures != 1 || strings.Count(r.log.String(), "level=WARN") != 1 {
					t.Errorf("counted %d failures; log:\n%s", s.Failures, r.log)
				}
				r.write(text(serial(t, 8)))
				r.wait(pollFile)
				r.expect(8)
			})
		})
	}
}

func TestCopyTakesAFileWhenItComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{File: "root.zone"})
		r.run()
		defer r.stop()
		r.wait(10 * pollFile)
		r.expect(0)
		if s := r.Stats(); s.Failures != 1 || s.Absent != 1 {
			t.Errorf("%+v", s)
		}
		r.write(text(serial(t, 7)))
		r.wait(pollFile)
		r.expect(7)
		if err := os.Remove(r.path); err != nil {
			t.Fatal(err)
		}
		r.wait(10 * pollFile)
		r.expect(7)
		if s := r.Stats(); s.Failures != 2 {
			t.Errorf("%+v", s)
		}
	})
}

func TestCopyReadsRegularFilesOnly(t *testing.T) {
	r := newRig(t, Options{File: "root.zone"})
	if err := syscall.Mkfifo(r.path, 0o600); err != nil {
		t.Fatal(err)
	}
	r.Load() // does not wait for a writer
	if s := r.Stats(); s.Failures != 1 {
		t.Errorf("%+v", s)
	}
	if _, err := r.stat(); !isPathError(err) {
		t.Errorf("got %v", err)
	}
}

func isPathError(err error) bool {
	_, ok := errors.AsType[*fs.PathError](err)
	return ok
}

func TestCopyExpiresAsTheSOARecordSays(t *testing.T) {
	const week = 7 * 24 * time.Hour
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{File: "root.zone"})
		r.write(text(serial(t, 7)))
		time.Sleep(24 * time.Hour) // it counts from when it was written
		r.run()
		defer r.stop()
		r.wait(week - 25*time.Hour)
		r.expect(7)
		r.wait(time.Hour)
		r.expect(0)
		r.wait(10 * pollFile)
		if s := r.Stats(); s.Failures != 1 || strings.Count(r.log.String(), "expired") != 1 {
			t.Errorf("%+v, log:\n%s", s, r.log)
		}
		r.write(text(serial(t, 7))) // still the current one, says the operator
		r.wait(pollFile)
		r.expect(7)
		if err := os.Chtimes(r.path, time.Time{}, time.Now().Add(-2*week)); err != nil {
			t.Fatal(err)
		}
		r.wait(pollFile) // an old file in place of a newer one
		r.expect(7)
		if !strings.Contains(r.log.String(), "expired 168h0m") {
			t.Errorf("log:\n%s", r.log)
		}
	})
}

func TestCopyRefreshesFromServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Servers: anyServer})
		r.run()
		defer r.stop()
		r.expect(7)
		if asked := r.primary.questions(); asked != "SOA AXFR" {
			t.Errorf("asked %s", asked)
		}
		r.wait(30 * time.Minute) // refresh
		r.expect(7)
		if asked := r.primary.questions(); asked != "SOA" {
			t.Errorf("asked %s", asked)
		}
		r.primary.set(func(p *primary) { p.rrs = serial(t, 8) })
		r.wait(30 * time.Minute)
		r.expect(8)
		if s := r.Stats(); s.Transfers != 2 || s.Checks != 1 || s.Failures != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestCopyLivesAsLongAsItsServersConfirmIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Servers: anyServer})
		r.run()
		defer r.stop()
		r.wait(30 * 24 * time.Hour)
		r.expect(7)
		r.primary.questions()
		r.primary.set(func(p *primary) { p.dial = syscall.ECONNREFUSED })
		r.wait(7*24*time.Hour - time.Hour)
		r.expect(7)
		r.wait(time.Hour)
		r.expect(0)
		failures := r.Stats().Failures
		if low, high := uint64(7*24*4-4), uint64(7*24*4+2); failures < low || failures > high { // retry: 15 minutes
			t.Errorf("%d failures, want %d to %d", failures, low, high)
		}
		r.primary.set(func(p *primary) { p.dial = nil })
		r.wait(15 * time.Minute)
		r.expect(7)
	})
}

func TestCopyAsksNoOftenerThanItsBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Servers: anyServer, ZONEMD: Ignore})
		soa := r.primary.rrs[0].(*dns.SOA)
		soa.Refresh, soa.Retry, soa.Expire = 0, 0, 1<<32-1
		r.run()
		defer r.stop()
		r.wait(time.Hour)
		if got := strings.Count(r.primary.questions(), "SOA"); got != 13 {
			t.Errorf("asked %d times in an hour, want 13", got)
		}
		r.primary.set(func(p *primary) { p.dial = syscall.ECONNREFUSED })
		failures := r.Stats().Failures
		r.wait(time.Hour)
		if got := r.Stats().Failures - failures; got < 55 || got > 60 {
			t.Errorf("tried %d times in an hour, want at most 60", got)
		}
		r.wait(maxExpire)
		r.expect(0)
	})
}

func TestCopyRefusesABadTransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{Servers: anyServer})
		r.run()
		defer r.stop()
		for _, bad := range [][]dns.RR{
			serial(t, 6), // older
			append(serial(t, 8), records(t, ".", "evil. 1 NS ns.evil.")...),
			serial(t, 8)[:20],
		} {
			r.primary.set(func(p *primary) { p.rrs = bad })
			before := r.Stats().Failures
			r.wait(30 * time.Minute)
			r.expect(7)
			if got := r.Stats().Failures - before; got == 0 {
				t.Errorf("no failure counted for %s", section(bad))
			}
		}
		announced, sent := serial(t, 9), serial(t, 7)
		r.primary.set(func(p *primary) { p.rrs = announced })
		r.primary.set(func(p *primary) {
			p.hook = func(typ uint16, messages []*dns.Msg) []*dns.Msg {
				if typ == dns.TypeSOA {
					return messages
				}
				other := &primary{rrs: sent}
				return other.answer(&dns.Msg{MsgHdr: messages[0].MsgHdr, Question: messages[0].Question})
			}
		})
		r.wait(30 * time.Minute)
		r.expect(7)
		if !strings.Contains(r.log.String(), "announced serial 9, and sent 7") {
			t.Errorf("log:\n%s", r.log)
		}
	})
}

func TestCopyTakesTheNewerOfFileAndServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Options{File: "root.zone", Servers: anyServer})
		r.primary.set(func(p *primary) { p.rrs = serial(t, 8) })
		r.write(text(serial(t, 7)))
		r.Load()
		r.expect(7)
		r.run()
		defer r.stop()
		r.expect(8)
		r.wait(time.Second)
		r.write(text(serial(t, 6)))
		r.wait(pollFile)
		r.expect(8)
		r.write(text(serial(t, 9)))
		r.wait(pollFile)
		r.expect(9)
		r.wait(30 * time.Minute) // the servers are behind
		r.expect(9)
		if s := r.Stats(); s.Loads != 2 || s.Transfers != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestNewerComparesSerialsAsRFC1982Does(t *testing.T) {
	for _, test := range []struct {
		a, b uint32
		want bool
	}{{2, 1, true}, {1, 2, false}, {1, 1, false}, {0, 1<<32 - 1, true}, {1<<32 - 1, 0, false}, {1<<31 - 1, 0, true}} {
		if got := newer(test.a, test.b); got != test.want {
			t.Errorf("%d after %d: %v", test.a, test.b, got)
		}
	}
}
