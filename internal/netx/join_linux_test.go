//go:build linux && (amd64 || arm64)

package netx

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// replied is what the clients of a test were sent.
type replied struct {
	clients []*net.UDPConn
	want    [][]string // by client
}

// reply has each client ask as often as there are lengths, and b reply to the
// questions, which came mixed, with replies of these lengths that all differ.
func reply(t *testing.T, b *Batch, clients []*net.UDPConn, lengths []int) replied {
	t.Helper()
	r := replied{clients, make([][]string, len(clients))}
	for range lengths {
		for i, c := range clients {
			mustWrite(t, c, string(rune(i)))
		}
	}
	all := len(clients) * len(lengths)
	if n, err := b.Receive(); n != all || err != nil {
		t.Fatalf("%d, %v; want %d", n, err, all)
	}
	for i := range all {
		client := int(b.Datagram(i).Msg[0])
		msg := fmt.Sprintf("%04d", i)
		if length := lengths[len(r.want[client])]; length >= len(msg) {
			msg += strings.Repeat("x", length-len(msg))
		} else {
			msg = msg[:length]
		}
		r.want[client] = append(r.want[client], msg)
		b.Reply(i, []byte(msg))
	}
	return r
}

// arrive wants all replies to have come, in whatever order.
func (r replied) arrive(t *testing.T) {
	t.Helper()
	buf := make([]byte, 2000)
	for i, c := range r.clients {
		var got []string
		for range r.want[i] {
			n, err := c.Read(buf)
			if err != nil {
				t.Fatalf("client %d: %v after %d of %d", i, err, len(got), len(r.want[i]))
			}
			got = append(got, string(buf[:n]))
		}
		slices.Sort(got)
		if want := slices.Sorted(slices.Values(r.want[i])); !slices.Equal(got, want) {
			t.Errorf("client %d got %q, want %q", i, got, want)
		}
	}
}

// counting has b's system calls counted, by how many pieces they were given.
func counting(b *Batch) *[]int {
	var calls []int
	b.sendmmsg = func(fd uintptr, msgs []mmsghdr) (int, syscall.Errno) {
		calls = append(calls, len(msgs))
		return sendmmsg(fd, msgs)
	}
	return &calls
}

func TestFlushJoinsRepliesToOneClient(t *testing.T) {
	tests := []struct {
		name    string
		clients int
		lengths []int
		pieces  int // for each client
	}{
		{"one each", 5, []int{60}, 1},
		{"of one length", 3, []int{60, 60, 60, 60}, 1},
		{"the last shorter", 3, []int{50, 60, 60}, 1},
		{"the longer ones first", 2, []int{40, 60, 50, 60, 40}, 2}, // 60 60 50, 40 40
		{"all different", 2, []int{20, 30, 40, 50}, 2},
		{"empty ones", 2, []int{0, 60, 0, 60}, 3},
		{"too long for some paths", 1, []int{maxJoined + 1, maxJoined + 1, maxJoined, maxJoined}, 3},
		{"too many", 1, slices.Repeat([]int{10}, maxSegments+2), 2},
		{"too much", 1, slices.Repeat([]int{1200}, maxPiece/1200+3), 2},
	}
	for _, at := range []string{"127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"} {
		for _, tt := range tests {
			t.Run(at+" "+tt.name, func(t *testing.T) {
				b, at := newBatch(t, at, BatchOptions{Size: MaxBatch})
				if at.Addr().IsUnspecified() { // where the address to reply from is said
					at = netip.AddrPortFrom(netip.MustParseAddr(map[bool]string{true: "127.0.0.9", false: "::1"}[at.Addr().Is4()]), at.Port())
				}
				calls := counting(b)
				var clients []*net.UDPConn
				for range tt.clients {
					clients = append(clients, dialUDP(t, at))
				}
				r := reply(t, b, clients, tt.lengths)
				b.Flush(func(err error) { t.Error(err) })
				r.arrive(t)
				if want := tt.clients * tt.pieces; !slices.Equal(*calls, []int{want}) {
					t.Errorf("pieces by system call: %d, want %d", *calls, want)
				}
				if got, want := b.Joined(), tt.clients*(len(tt.lengths)-tt.pieces); got != uint64(want) {
					t.Errorf("joined %d, want %d", got, want)
				}
			})
		}
	}
}

// TestFlushSendsApartWhatCannotBeJoined has the kernel refuse pieces, as it does on
// an interface that cannot have them.
func TestFlushSendsApartWhatCannotBeJoined(t *testing.T) {
	for _, errno := range []syscall.Errno{unix.EIO, unix.EINVAL, unix.EMSGSIZE, unix.EOPNOTSUPP} {
		b, at := newBatch(t, "0.0.0.0:0", BatchOptions{Size: MaxBatch})
		refusals := 0
		b.sendmmsg = func(fd uintptr, msgs []mmsghdr) (int, syscall.Errno) {
			if isJoined(&msgs[0]) {
				refusals++
				return -1, errno
			}
			single := slices.IndexFunc(msgs, func(m mmsghdr) bool { return isJoined(&m) })
			if single < 0 {
				single = len(msgs)
			}
			return sendmmsg(fd, msgs[:single])
		}
		at = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), at.Port())
		clients := []*net.UDPConn{dialUDP(t, at), dialUDP(t, at)}
		for range 3 {
			r := reply(t, b, clients, []int{30, 60, 60, 20, 1300})
			b.Flush(func(err error) { t.Error(err) })
			r.arrive(t)
		}
		if refusals != len(clients) || b.Joined() != 0 {
			t.Errorf("%v: refused %d times, joined %d", errno, refusals, b.Joined())
		}
		b.joiner.apart = 0 // as if many had been sent meanwhile
		b.sendmmsg = sendmmsg
		r := reply(t, b, clients, []int{60, 60})
		b.Flush(func(err error) { t.Error(err) })
		if r.arrive(t); b.Joined() != 2 {
			t.Errorf("afterwards: joined %d", b.Joined())
		}
	}
}

func TestFlushLosesAPieceWhole(t *testing.T) {
	b, at := newBatch(t, "127.0.0.1:0", BatchOptions{})
	first := true
	b.sendmmsg = func(fd uintptr, msgs []mmsghdr) (int, syscall.Errno) {
		if first {
			first = false
			return -1, unix.ENOBUFS
		}
		return sendmmsg(fd, msgs)
	}
	clients := []*net.UDPConn{dialUDP(t, at), dialUDP(t, at)}
	r := reply(t, b, clients, []int{60, 60, 60})
	var lost []error
	b.Flush(func(err error) { lost = append(lost, err) })
	if want := slices.Repeat([]error{unix.ENOBUFS}, 3); !slices.Equal(lost, want) || b.Joined() != 2 {
		t.Errorf("lost %v, joined %d", lost, b.Joined())
	}
	r.want[0] = nil
	r.arrive(t)
}

// TestJoinKeepsEveryReply joins replies of random lengths to random clients.
func TestJoinKeepsEveryReply(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	j := newJoiner(MaxBatch)
	for range 2000 {
		n := 1 + rng.IntN(MaxBatch)
		names := make([]unix.RawSockaddrInet4, n)
		bodies, iovs, replies := make([][2000]byte, n), make([]unix.Iovec, n), make([]mmsghdr, n)
		for i := range replies {
			names[i] = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: uint16(rng.IntN(5) * joinBuckets), Addr: [4]byte{byte(rng.IntN(2))}}
			iovs[i].Base = &bodies[i][0]
			iovs[i].SetLen(rng.IntN(1 + rng.IntN(1400)))
			h := &replies[i].hdr
			h.Name, h.Namelen, h.Iov = (*byte)(unsafe.Pointer(&names[i])), unix.SizeofSockaddrInet4, &iovs[i]
			h.SetIovlen(1)
		}
		left := make(map[*byte]unix.RawSockaddrInet4, n)
		for i := range replies {
			left[iovs[i].Base] = names[i]
		}
		for _, p := range j.join(replies) {
			to := *(*unix.RawSockaddrInet4)(unsafe.Pointer(p.hdr.Name))
			parts := unsafe.Slice(p.hdr.Iov, p.hdr.Iovlen)
			total := 0
			for i, v := range parts {
				if at, ok := left[v.Base]; !ok || at != to {
					t.Fatal("a reply to another client, or one twice")
				}
				delete(left, v.Base)
				if v.Len > parts[0].Len || i < len(parts)-1 && v.Len != parts[0].Len || len(parts) > 1 && (v.Len == 0 || v.Len > maxJoined) {
					t.Fatalf("a piece of %v", parts)
				}
				total += int(v.Len)
			}
			if len(parts) > maxSegments || total > maxPiece {
				t.Fatalf("a piece of %d octets in %d segments", total, len(parts))
			}
		}
		if len(left) > 0 {
			t.Fatalf("%d replies of %d are not sent", len(left), n)
		}
	}
}
