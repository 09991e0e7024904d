package upstream

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"shirube/internal/netx"
)

// foreign are the ports that sockets beside the queries' have, as far as is known.
// The kernel says it of one port by searching all of them, and of all by a list. So
// the first search that is in vain has that read, and the ports of a program that has
// opened many sockets are not found out one by one.
type foreign struct {
	ports    portSet
	searches atomic.Int64 // in vain, since ports was cleared
	forgetAt atomic.Int64 // when it is, in Unix nanoseconds; 0: there is nothing in it

	mu      sync.Mutex
	looked  time.Time // when the list was last begun to be read
	closed  bool
	looking sync.WaitGroup // look, which is at work once at most
}

const (
	// lookInterval is how far apart readings of the lists are: both together, twice, cost
	// as much as a few searches.
	lookInterval = time.Second
	// mostListed is how many sockets of each family are looked at in a reading of its
	// list: that takes 10 ms then, in pieces of 0.1 to 0.2.
	mostListed = 2048
)

// has reports whether port is known to be another's, or may be and is not to be
// searched for.
func (f *foreign) has(port uint16) bool {
	if at := f.forgetAt.Load(); at != 0 && time.Now().UnixNano() >= at && f.forgetAt.CompareAndSwap(at, 0) {
		f.ports.clear()
		f.searches.Store(0)
	}
	return f.searches.Load() >= maxSearches || f.ports.has(port)
}

// found notes that a search has shown port to be another's.
func (f *foreign) found(port uint16, now time.Time) {
	f.searches.Add(1)
	f.note(port, now)
}

// note notes that port is another's.
func (f *foreign) note(port uint16, now time.Time) {
	f.ports.add(port)
	f.forgetAt.CompareAndSwap(0, now.Add(foreignFor).UnixNano())
}

// look reads which ports are others', unless that was done a moment ago: those that
// are not in own. It does not wait for that.
func (f *foreign) look(own *portSet) {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if f.closed || now.Sub(f.looked) < lookInterval {
		return
	}
	f.looked = now
	// Owner: f. End: that of the list, close. Bound: one each lookInterval.
	f.looking.Go(func() {
		y := netx.NewYield()
		defer y.Close()
		f.readLists(os.Open, own, y)
	})
}

// readLists reads the kernel's lists, each twice. The kernel finds where a reading has
// come to by counting sockets: one that is closed meanwhile has it leave out another.
func (f *foreign) readLists(open func(name string) (*os.File, error), own *portSet, y *netx.Yield) {
	for range 2 {
		for _, list := range []string{"/proc/self/net/udp", "/proc/self/net/udp6"} {
			if file, err := open(list); err == nil { // else ports are found one by one
				f.read(file, own, y)
				file.Close()
			}
		}
	}
}

// read notes the ports in list that are not in own, and lets others run meanwhile.
func (f *foreign) read(list io.Reader, own *portSet, y *netx.Yield) {
	var buf [4096]byte // of which the kernel fills no more at a time
	held := 0
	for lines := 0; lines < mostListed && !f.isClosed(); y.Wait() {
		n, err := list.Read(buf[held:])
		rest, now := buf[:held+n], time.Now()
		for {
			line, after, whole := bytes.Cut(rest, []byte{'\n'})
			if !whole {
				break
			}
			rest, lines = after, lines+1
			if port, ok := listedPort(line); ok && !own.has(port) {
				f.note(port, now)
			}
		}
		if err != nil || len(rest) == len(buf) {
			return
		}
		held = copy(buf[:], rest)
	}
}

// listedPort returns the port of the socket that a line of the kernel's list is about:
//
//	sl  local_address rem_address   st tx_queue ...
//	 77: 0100007F:0035 00000000:0000 07 00000000:00000000 ...
func listedPort(line []byte) (uint16, bool) {
	_, line, _ = bytes.Cut(line, []byte(": "))
	_, line, _ = bytes.Cut(line, []byte{':'})
	hex, _, _ := bytes.Cut(line, []byte{' '})
	port, err := strconv.ParseUint(string(hex), 16, 16)
	return uint16(port), err == nil
}

func (f *foreign) isClosed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed
}

// close ends look.
func (f *foreign) close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.looking.Wait()
}
