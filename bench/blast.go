package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"
	"unsafe"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

func blastFlags(fs *flag.FlagSet, set *settings) {
	fs.StringVar(&set.listen, "server", "127.0.0.1:53", "`address` and port")
	fs.StringVar(&set.file, "questions", "", "`file` with questions, as dnsperf reads them")
	timeFlag(fs, set, 10*time.Second)
}

// blast asks a server over UDP as fast as it answers, for less CPU time than
// dnsperf takes, so that on a core of its own it is quicker than the server: with
// one thread, from as many sockets and with as many queries on the way. It prints
// a tally as JSON.
func blast(ctx context.Context, _ string, set settings) error {
	addr, err := netip.ParseAddrPort(set.listen)
	if err != nil {
		return err
	}
	questions, err := readLines(set.file)
	if err != nil {
		return err
	}
	t, err := runBlast(ctx, addr, questions, set.run)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(t)
}

func readLines(path string) (lines []string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	for s.Scan() {
		lines = append(lines, s.Text())
	}
	if len(lines) == 0 {
		err = fmt.Errorf("%s: no questions", path)
	}
	return lines, errors.Join(err, s.Err())
}

const (
	blastSockets = 20
	// blastWindow is how many queries of a socket are on the way at once: 160 of
	// all, for which a socket's buffer has room that is as small as Linux makes it.
	blastWindow = 8
	// blastPatience is how long a socket hears nothing until its queries are lost.
	blastPatience = 2 * time.Second
	// blastMessage is the room for a response: no question is asked that would be
	// answered with more.
	blastMessage = 1500
)

// blaster is a load under way. One goroutine has it.
type blaster struct {
	epoll   int
	sockets []*blastSocket
	queries [][]byte
	next    int // of queries
	tally   tally
	octets  int64 // of responses
	rcodes  [16]int64
}

// blastSocket is a connected socket with the queries that it has on the way: as
// many slots as the window, the slot's number being the low bits of the ID.
type blastSocket struct {
	fd    int
	heard time.Time // last, or when it asked first
	slots [blastWindow]blastSlot

	rx, tx   [blastWindow]blastHeader
	iov      [2 * blastWindow]unix.Iovec
	received [blastWindow][blastMessage]byte
}

// blastSlot is a query on the way, or one that is not.
type blastSlot struct {
	busy  bool
	turn  uint16 // how often the slot was used: the high bits of the ID
	query []byte
	sent  [512]byte
}

// blastHeader is struct mmsghdr of 64-bit systems (recvmmsg(2)).
type blastHeader struct {
	hdr unix.Msghdr
	n   uint32
	_   [4]byte
}

// runBlast asks the questions, again from the first after the last.
func runBlast(ctx context.Context, server netip.AddrPort, questions []string, length time.Duration) (*tally, error) {
	b := &blaster{epoll: -1}
	defer b.close()
	var err error
	if b.queries, err = buildQueries(questions); err != nil {
		return nil, err
	}
	if b.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	for i := range blastSockets {
		if err := b.open(i, server); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	if err := b.run(ctx, began.Add(length)); err != nil {
		return nil, err
	}
	return b.finish(time.Since(began)), nil
}

// open connects the socket of that index.
func (b *blaster) open(i int, server netip.AddrPort) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	s := &blastSocket{fd: fd}
	b.sockets = append(b.sockets, s)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(server.Port()), Addr: server.Addr().As4()}); err != nil {
		return os.NewSyscallError("connect", err)
	}
	for k := range blastWindow {
		s.iov[k].Base = &s.received[k][0]
		s.iov[k].SetLen(blastMessage)
		s.rx[k].hdr = unix.Msghdr{Iov: &s.iov[k], Iovlen: 1}
		s.tx[k].hdr = unix.Msghdr{Iov: &s.iov[blastWindow+k], Iovlen: 1}
	}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(b.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}))
}

func (b *blaster) close() {
	for _, s := range b.sockets {
		_ = unix.Close(s.fd) // nothing is on the way that anybody waits for
	}
	if b.epoll >= 0 {
		_ = unix.Close(b.epoll)
	}
}

// run asks until end, and then waits for the last answers.
func (b *blaster) run(ctx context.Context, end time.Time) error {
	now := time.Now()
	for _, s := range b.sockets {
		if err := b.ask(s, now); err != nil {
			return err
		}
	}
	var ready [blastSockets]unix.EpollEvent
	for ctx.Err() == nil {
		n, err := unix.EpollWait(b.epoll, ready[:], 100) // ms; to see what is lost
		if err != nil && !errors.Is(err, unix.EINTR) {
			return os.NewSyscallError("epoll_wait", err)
		}
		now = time.Now()
		over := now.After(end)
		for _, e := range ready[:max(n, 0)] {
			s := b.sockets[e.Fd]
			if err := b.hear(s, now); err != nil {
				return err
			}
			if !over {
				if err := b.ask(s, now); err != nil {
					return err
				}
			}
		}
		if left, err := b.giveUp(now, over); err != nil || over && left == 0 {
			return err
		}
	}
	return ctx.Err()
}

// ask fills the window of s.
func (b *blaster) ask(s *blastSocket, now time.Time) error {
	n := 0
	for k := range s.slots {
		slot := &s.slots[k]
		if slot.busy {
			continue
		}
		slot.query = b.queries[b.next]
		if b.next++; b.next == len(b.queries) {
			b.next = 0
		}
		slot.busy, slot.turn = true, slot.turn+1
		size := copy(slot.sent[:], slot.query)
		binary.BigEndian.PutUint16(slot.sent[:], slot.turn<<4|uint16(k))
		iov := &s.iov[blastWindow+n]
		iov.Base = &slot.sent[0]
		iov.SetLen(size)
		n++
	}
	for sent := 0; sent < n; {
		m, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.tx[sent])), uintptr(n-sent), unix.MSG_DONTWAIT, 0, 0)
		if errno != 0 {
			return os.NewSyscallError("sendmmsg", errno)
		}
		sent += int(m)
	}
	if n == blastWindow { // all of them are new
		s.heard = now
	}
	b.tally.Sent += int64(n)
	return nil
}

// hear takes the answers that have come on s.
func (b *blaster) hear(s *blastSocket, now time.Time) error {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(s.fd), uintptr(unsafe.Pointer(&s.rx[0])), blastWindow, unix.MSG_DONTWAIT, 0, 0)
	if errno == unix.EAGAIN || errno == unix.EINTR {
		return nil
	}
	if errno != 0 {
		return os.NewSyscallError("recvmmsg", errno)
	}
	for i := range int(n) {
		b.take(s, s.received[i][:s.rx[i].n])
	}
	s.heard = now
	return nil
}

// take counts an answer, if it is one to a query on the way.
func (b *blaster) take(s *blastSocket, msg []byte) {
	if len(msg) < headerSize {
		return
	}
	id := binary.BigEndian.Uint16(msg)
	if id&0x0f >= blastWindow {
		return
	}
	slot := &s.slots[id&0x0f]
	if !slot.busy || slot.turn<<4 != id&^0x0f || msg[2]&0x80 == 0 || len(msg) < len(slot.query) || string(msg[headerSize:len(slot.query)]) != string(slot.query[headerSize:]) {
		return
	}
	slot.busy = false
	b.tally.Completed++
	b.octets += int64(len(msg))
	b.rcodes[msg[3]&0x0f]++
}

// giveUp counts what waits for too long as lost, and returns how many are still
// on the way. Where it has lost some, and the run is not over, it asks others.
func (b *blaster) giveUp(now time.Time, over bool) (left int, err error) {
	for _, s := range b.sockets {
		late := now.Sub(s.heard) > blastPatience
		for k := range s.slots {
			switch slot := &s.slots[k]; {
			case slot.busy && late:
				slot.busy = false
				b.tally.Lost++
			case slot.busy:
				left++
			}
		}
		if late && !over {
			err = errors.Join(err, b.ask(s, now))
		}
	}
	return left, err
}

// finish returns the tally of a run.
func (b *blaster) finish(took time.Duration) *tally {
	t := b.tally
	t.Seconds = took.Seconds()
	t.PerSecond = float64(t.Completed) / t.Seconds
	t.Rcodes = make(map[string]int64)
	for code, n := range b.rcodes {
		if n > 0 {
			t.Rcodes[strings.ToUpper(dns.RcodeToString[code])] = n
		}
	}
	if t.Completed > 0 {
		t.ResponseSize = float64(b.octets) / float64(t.Completed)
	}
	return &t
}
