package upstream

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"shirube/internal/netx"
)

// mostWoken is how many sockets are told in a round that something has come. Answers
// come many at a time, as whoever sends them gets a processor for a while, and each
// has its resolution go on for some ten microseconds. Go would run them all, before it
// looks for clients' packets again.
const mostWoken = 8

// poller tells sockets when there is something to be read from them.
//
// The runtime has a poller of its own, made for files that are open for long:
// to put a socket under it and to take it out again costs two system calls more
// than are needed, a finaliser, seven allocations, and a timer for each deadline.
// So it watches only one descriptor for us, that of an epoll instance, which
// watches all sockets.
//
// A word from it is a hint. Whoever gets one tries to read, and finds perhaps
// nothing: it was meant for who had the descriptor before.
type poller struct {
	epoll  *os.File // under the runtime's poller
	raw    syscall.RawConn
	events [mostWoken]unix.EpollEvent // of the last look
	yield  *netx.Yield                // between two looks

	// By descriptor, in blocks that are made when they are needed and never
	// go away.
	sockets [descriptorBlocks]atomic.Pointer[descriptorBlock]
	kept    kept
	inUse   portSet // of all queries under way
	closed  atomic.Bool
	done    chan struct{} // closed when run has ended
}

// The table of sockets: as many as Linux lets a process open unless told
// otherwise (fs.nr_open).
const (
	descriptorBlocks = 1024
	descriptorsEach  = 1024
)

type descriptorBlock [descriptorsEach]atomic.Pointer[socket]

// newPoller returns a poller, and starts it.
func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make an epoll instance: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // else the runtime's poller does not take it
		unix.Close(fd)
		return nil, fmt.Errorf("make an epoll instance non-blocking: %w", err)
	}
	p := &poller{epoll: os.NewFile(uintptr(fd), "epoll"), done: make(chan struct{})}
	if p.raw, err = p.epoll.SyscallConn(); err != nil {
		p.epoll.Close()
		return nil, err
	}
	p.kept.find()
	p.yield = netx.NewYield()
	// Owner: the Client. End: close. Bound: one.
	go func() {
		defer close(p.done)
		defer p.yield.Close()
		p.raw.Read(p.wakeAll) //nolint:errcheck // it ends when the file is closed, and only then
	}()
	return p, nil
}

// wakeAll wakes all sockets that have something, few at a time: those who wait for
// them run, and packets are looked for, before the next ones are woken. It never says
// that it is done: the runtime calls it again when there is more.
func (p *poller) wakeAll(fd uintptr) (done bool) {
	for {
		n := epollNow(int(fd), p.events[:])
		for i := range p.events[:n] {
			if s := p.slot(int(p.events[i].Fd)).Load(); s != nil {
				s.wake()
			}
		}
		if n < len(p.events) { // whatever comes after this makes the runtime call again
			return false
		}
		p.yield.Wait()
	}
}

// slot returns the place of descriptor fd, which was watched before.
func (p *poller) slot(fd int) *atomic.Pointer[socket] {
	return &p.sockets[fd/descriptorsEach].Load()[fd%descriptorsEach]
}

// attach has s woken when something comes, from when its descriptor is watched.
func (p *poller) attach(s *socket) {
	if s.fd >= descriptorBlocks*descriptorsEach {
		return
	}
	block := &p.sockets[s.fd/descriptorsEach]
	if block.Load() == nil {
		block.CompareAndSwap(nil, new(descriptorBlock))
	}
	p.slot(s.fd).Store(s)
}

// watch has the descriptor of s, which is attached, watched from now on: s is
// woken once for what is there already, and then each time that something more
// comes.
func (p *poller) watch(s *socket) error {
	if s.fd >= descriptorBlocks*descriptorsEach {
		return syscall.EMFILE
	}
	if p.raw.Control(s.add) != nil {
		return ErrClosed
	}
	return s.err
}

// forget undoes attach. The kernel stops to watch a descriptor when it is closed.
func (p *poller) forget(s *socket) {
	if s.fd < descriptorBlocks*descriptorsEach {
		p.slot(s.fd).Store(nil)
	}
}

// close ends p, and every wait.
func (p *poller) close() {
	p.closed.Store(true)
	p.epoll.Close()
	<-p.done
	p.kept.foreign.close()
	p.kept.close()
	for i := range p.sockets {
		block := p.sockets[i].Load()
		if block == nil {
			continue
		}
		for j := range block {
			if s := block[j].Load(); s != nil {
				s.wake()
			}
		}
	}
}

// pollers makes the poller of a Client when it is needed for the first time.
type pollers struct {
	the    atomic.Pointer[poller]
	mu     sync.Mutex
	closed bool
}

// get returns the poller.
func (p *pollers) get() (*poller, error) {
	if the := p.the.Load(); the != nil {
		return the, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if the := p.the.Load(); the != nil {
		return the, nil
	}
	if p.closed {
		return nil, ErrClosed
	}
	the, err := newPoller()
	if err == nil {
		p.the.Store(the)
	}
	return the, err
}

// kept returns how many sockets are kept now.
func (p *pollers) kept() int {
	if the := p.the.Load(); the != nil {
		return the.kept.count()
	}
	return 0
}

// close ends the poller, if there is one, and sees to it that there will be none.
func (p *pollers) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	first := !p.closed
	p.closed = true
	if the := p.the.Load(); the != nil && first {
		the.close()
	}
}
