package upstream

import "sync/atomic"

// portSet is a set of ports, of those that the queries under way have: one that
// is drawn again meanwhile is not worth a system call, and finding out that it is
// taken costs the kernel a millisecond (see kept). It is safe for concurrent use.
type portSet [1 << 16 / 64]atomic.Uint64

// add reports whether port was not in p yet, and puts it there.
func (p *portSet) add(port uint16) bool {
	bit := uint64(1) << (port % 64)
	return p[port/64].Or(bit)&bit == 0
}

// has reports whether port is in p.
func (p *portSet) has(port uint16) bool { return p[port/64].Load()&(1<<(port%64)) != 0 }

// remove takes port, which is in p, out of it.
func (p *portSet) remove(port uint16) { p[port/64].And(^(uint64(1) << (port % 64))) }

// clear takes all ports out of p.
func (p *portSet) clear() {
	for i := range p {
		p[i].Store(0)
	}
}
