package upstream

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// MaxKept is how many sockets a [Client] keeps between queries, those of both
// families together. Each has a descriptor, beside those of the exchanges under
// way.
const MaxKept = 1024

// maxLeftovers is how many datagrams are taken out of a socket before it is
// kept. One that has more is closed: somebody is flooding it.
const maxLeftovers = 16

// localPortRange is the socket option IP_LOCAL_PORT_RANGE (ip(7), Linux 6.3), of
// both families.
const localPortRange = 51

const (
	// foreignFor is how long a port that another process has is not asked for
	// again in a way that costs a millisecond.
	foreignFor = time.Minute
	// maxSearches is how often that may be found out so dearly meanwhile, before no
	// port is asked for in that way: one part in 500 of a processor's time at most.
	maxSearches = 64
)

// kept are sockets between queries: without a port, without a server, and
// watched by the poller.
//
// To make a socket, have it watched, and take it apart costs 9 µs of CPU time,
// to use one again 3 (BenchmarkExchange, with every port and with none that kept
// sockets can have). A port is for one query all the same: it is drawn from all
// ports each time. The kernel takes one away from a socket only if it has given
// that to it (connect(2) with AF_UNSPEC), and then only from the system's range
// for that (net.ipv4.ip_local_port_range); a range of one port, within that one,
// makes it give the one that was drawn. For the ports beside that range a socket
// is made with bind(2), and not kept. So on a system whose range is all ports
// every socket is kept, and by default 44 % are.
//
// That the drawn port is taken by another process the kernel finds out by looking
// at every other one first, for a millisecond, in which nobody else has the
// processor. So it is asked that once a minute for each of these, its list is read
// when there is one (see foreign), and it is not asked at all after many.
type kept struct {
	ports [2]portRange // that the sockets kept can have, by family

	foreign foreign

	mu     sync.Mutex
	idle   [2][]int // descriptors, by family
	n      int      // of them
	closed bool
}

// portRange is a range of ports; the zero one has none.
type portRange struct{ first, last uint16 }

// has reports whether port is in r.
func (r portRange) has(port uint16) bool { return r.first <= port && port <= r.last && port > 0 }

// find finds out which ports the sockets of each family can have and be kept:
// none where the kernel is too old.
func (k *kept) find() {
	var r portRange
	text, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err != nil {
		return
	}
	if n, err := fmt.Sscan(string(text), &r.first, &r.last); n != 2 || err != nil {
		return
	}
	for family := range k.ports {
		fd, _, err := newSocket(family)
		if err != nil {
			continue
		}
		if choosePort(fd, r.first) == nil {
			k.ports[family] = r
		}
		closeNow(fd)
	}
}

// keeps reports whether a socket for a query from port is one to be kept.
func (k *kept) keeps(family int, port uint16) bool {
	return k.ports[family].has(port) && !k.foreign.has(port)
}

// get returns a socket that was kept, if there is one.
func (k *kept) get(family int) (fd int, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	idle := k.idle[family]
	if len(idle) == 0 {
		return 0, false
	}
	fd = idle[len(idle)-1] // whose memory is in the processor's caches still
	k.idle[family] = idle[:len(idle)-1]
	k.n--
	return fd, true
}

// put keeps fd, if it can be.
func (k *kept) put(fd, family int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed || k.n >= MaxKept {
		closeNow(fd)
		return
	}
	k.idle[family] = append(k.idle[family], fd)
	k.n++
}

// count returns how many sockets are kept now.
func (k *kept) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.n
}

// close closes all that are kept, and from now on all that would be.
func (k *kept) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed, k.n = true, 0
	for family, idle := range k.idle {
		for _, fd := range idle {
			closeNow(fd)
		}
		k.idle[family] = nil
	}
}

// newSocket makes a socket of a family, 0 being IPv4.
//
// Whatever an ICMP "fragmentation needed" says, which anybody can send, it
// neither fragments nor believes it (RFC 9715 §3.1).
func newSocket(family int) (fd int, op string, err error) {
	domain, level, option, value := unix.AF_INET, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_OMIT
	if family != 0 {
		domain, level, option, value = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_OMIT
	}
	fd, err = unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, "open socket", err
	}
	if err := setOption(fd, level, option, value); err != nil {
		closeNow(fd)
		return -1, "set path MTU discovery", err
	}
	return fd, "", nil
}

// choosePort has the kernel give fd the given port, which is in the system's
// range, when it is connected next, or none.
func choosePort(fd int, port uint16) error {
	return setOption(fd, unix.IPPROTO_IP, localPortRange, int(port)|int(port)<<16)
}

// strip takes port and server away from fd, and what it has received. It
// reports false if something is left.
func strip(fd int) bool {
	var none [unix.SizeofSockaddrInet6]byte // AF_UNSPEC
	_, _, errno := syscall.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&none)), unsafe.Sizeof(none))
	if errno != 0 {
		return false
	}
	var b [1]byte
	for range maxLeftovers {
		_, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&b)), 1, 0, 0, 0)
		if errno == unix.EAGAIN {
			return true
		}
	}
	return false
}
