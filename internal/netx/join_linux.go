//go:build linux && (amd64 || arm64)

package netx

import (
	"encoding/binary"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Bounds of what goes to one client in one piece.
const (
	// maxJoined is how long a reply may be that travels with others: it has to fit
	// every path, for what is joined is never fragmented (RFC 8200 §5: 1280 octets
	// with the headers).
	maxJoined = 1232
	// maxSegments is how many replies the kernel takes in one piece (UDP_MAX_SEGMENTS
	// before Linux 6.2), and maxPiece how many octets, the headers included.
	maxSegments = 64
	maxPiece    = 65000
	// apartFor is for how many Flushes nothing is joined after the kernel has refused
	// what was: because of the interface, most likely, which stays.
	apartFor = 10_000
)

// segmentControl is the size in octets of the control message that says how long
// segments are.
var segmentControl = unix.CmsgSpace(2)

var padding [8]byte

// joiner turns replies that go to one client into pieces that the kernel takes
// through its network stack as one datagram and cuts up at the end (UDP_SEGMENT,
// udp(7)). That is what a reply costs, most of all. All segments of a piece have
// one length but the last, which may be shorter; so the replies to a client are
// sorted. A proxy that looks like one client gains most, and where each client
// asks one question at a time nothing is lost.
type joiner struct {
	pieces   []mmsghdr
	iovs     []unix.Iovec
	controls [][ControlSize]byte
	single   []mmsghdr // of the replies in a piece that was refused
	groups   []joinGroup
	next     []int16            // by reply: the next one to the same client, or none
	heads    [joinBuckets]int16 // by port: the first group
	apart    int                // Flushes until replies are joined again
}

// joinGroup is the replies to one client, from one address.
type joinGroup struct {
	first, last int16 // reply
	next        int16 // group with the same hash
}

const (
	joinBuckets = 64
	none        = -1
)

func newJoiner(size int) joiner {
	return joiner{
		pieces:   make([]mmsghdr, size),
		iovs:     make([]unix.Iovec, size),
		controls: make([][ControlSize]byte, size),
		single:   make([]mmsghdr, size),
		groups:   make([]joinGroup, 0, size),
		next:     make([]int16, size),
	}
}

// join returns what is to be sent in place of replies. It borrows both.
func (j *joiner) join(replies []mmsghdr) []mmsghdr {
	if j.apart > 0 {
		j.apart--
		return replies
	}
	if len(replies) < 2 {
		return replies
	}
	j.group(replies)
	if len(j.groups) == len(replies) {
		return replies
	}
	pieces, iovs := j.pieces[:0], j.iovs[:0]
	for _, g := range j.groups {
		from := len(iovs)
		for i := g.first; i != none; i = j.next[i] {
			iovs = insertByLength(iovs, from, *replies[i].hdr.Iov)
		}
		for from < len(iovs) {
			n := segments(iovs[from:])
			pieces = append(pieces, replies[g.first])
			j.address(len(pieces)-1, iovs[from:from+n])
			from += n
		}
	}
	return pieces
}

// group sorts replies by whom they go to, in the order of the first one to each.
func (j *joiner) group(replies []mmsghdr) {
	for i := range j.heads {
		j.heads[i] = none
	}
	j.groups = j.groups[:0]
	for i := range replies {
		j.next[i] = none
		head := &j.heads[int(portOf(&replies[i]))%joinBuckets]
		at := *head
		for at != none && !sameWay(&replies[j.groups[at].first], &replies[i]) {
			at = j.groups[at].next
		}
		if at == none {
			j.groups = append(j.groups, joinGroup{int16(i), int16(i), *head})
			*head = int16(len(j.groups) - 1)
			continue
		}
		g := &j.groups[at]
		j.next[g.last] = int16(i)
		g.last = int16(i)
	}
}

// portOf returns the port that a reply goes to, in whatever order. Both families
// have it at the same place.
func portOf(m *mmsghdr) uint16 {
	return (*unix.RawSockaddrInet4)(unsafe.Pointer(m.hdr.Name)).Port
}

// sameWay reports whether two replies go to one client, from one address.
func sameWay(a, b *mmsghdr) bool {
	if a.hdr.Namelen != b.hdr.Namelen || a.hdr.Controllen != b.hdr.Controllen {
		return false
	}
	return string(unsafe.Slice(a.hdr.Name, a.hdr.Namelen)) == string(unsafe.Slice(b.hdr.Name, b.hdr.Namelen)) &&
		string(unsafe.Slice(a.hdr.Control, a.hdr.Controllen)) == string(unsafe.Slice(b.hdr.Control, b.hdr.Controllen))
}

// insertByLength appends v to iovs, of which those after from are sorted, the
// longest first, and stay so.
func insertByLength(iovs []unix.Iovec, from int, v unix.Iovec) []unix.Iovec {
	iovs = append(iovs, v)
	at := len(iovs) - 1
	for ; at > from && iovs[at-1].Len < v.Len; at-- {
		iovs[at] = iovs[at-1]
	}
	iovs[at] = v
	return iovs
}

// segments returns how many of iovs, the longest of which is the first, go in one
// piece: those as long as the first, and one more.
func segments(iovs []unix.Iovec) int {
	length := iovs[0].Len
	if length == 0 || length > maxJoined {
		return 1
	}
	most := min(len(iovs), maxSegments, maxPiece/int(length))
	n := 1
	for n < most && iovs[n].Len == length {
		n++
	}
	if n < most && iovs[n].Len > 0 {
		n++
	}
	return n
}

// address makes the i-th piece, which is a reply to its client so far, one of
// iovs.
func (j *joiner) address(i int, iovs []unix.Iovec) {
	h := &j.pieces[i].hdr
	h.Iov = &iovs[0]
	h.SetIovlen(len(iovs))
	if len(iovs) == 1 {
		return
	}
	control := append(j.controls[i][:0], unsafe.Slice(h.Control, h.Controllen)...)
	control = append(control, padding[:-len(control)&7]...) // a control message begins at a multiple of 8
	control = appendHeader(control, unix.SOL_UDP, unix.UDP_SEGMENT, 2)
	control = binary.NativeEndian.AppendUint16(control, uint16(iovs[0].Len))
	control = append(control, padding[:segmentControl-unix.CmsgLen(2)]...)
	h.Control = &j.controls[i][0]
	h.SetControllen(len(control))
}

// isJoined reports whether m is more than one reply.
func isJoined(m *mmsghdr) bool { return m.hdr.Iovlen > 1 }

// refused reports whether errno may be because of what m is, and not of whom it
// goes to: an interface that does not compute checksums (EIO), one whose packets
// are shorter than maxJoined allows for (EINVAL, EMSGSIZE), a kernel before 4.18
// (EINVAL).
func refused(errno syscall.Errno) bool {
	return errno == unix.EIO || errno == unix.EINVAL || errno == unix.EMSGSIZE || errno == unix.EOPNOTSUPP
}

// split returns the replies in m, which was refused, and joins none for a while.
func (j *joiner) split(m *mmsghdr) []mmsghdr {
	j.apart = apartFor
	iovs := unsafe.Slice(m.hdr.Iov, m.hdr.Iovlen)
	replies := j.single[:len(iovs)]
	for i := range iovs {
		replies[i] = *m
		h := &replies[i].hdr
		h.Iov = &iovs[i]
		h.SetIovlen(1)
		h.SetControllen(int(h.Controllen) - segmentControl)
	}
	return replies
}
