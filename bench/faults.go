package main

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// faultyAddrs are the zones' name servers when some are to be faulty: enough
// for one in a hundred to be dead.
var faultyAddrs = addresses("198.18.2.", 200)

// relayTarget is where the slow addresses have their answers from: one more
// address of the zones' NSD.
var relayTarget = netip.MustParseAddrPort("198.18.3.1:53")

const (
	// deadEvery and slowEvery are one in how many addresses.
	deadEvery, slowEvery = 100, 20
	// maxDelayed bounds the datagrams that one slow address holds back; one
	// more is dropped, as a router's queue would.
	maxDelayed = 10_000
)

// isDead and isSlow tell the faulty among the faultyAddrs by their index, such
// that no zone has two of them.
func isDead(i int) bool { return i%deadEvery == deadEvery/2 }
func isSlow(i int) bool { return i%slowEvery == 9 }

// faults are the addresses that behave badly. A dead one takes every packet and
// says nothing: UDP is read and forgotten, TCP connects and stays silent. No
// ICMP error tells of it. A slow one gives the NSD's answers, later, over UDP;
// it refuses TCP, which nothing in this laboratory has reason to use.
type faults struct {
	delay      time.Duration
	port       uint16         // of the faulty addresses
	target     netip.AddrPort // whose answers the slow ones give
	dead, slow []netip.Addr

	conns     []net.PacketConn
	listeners []net.Listener
	wg        sync.WaitGroup
	closed    chan struct{}

	deadPackets atomic.Int64 // came in for a dead address
	slowPackets atomic.Int64 // came in for a slow address
	relayed     atomic.Int64 // of them handed to the NSD so far
	overflow    atomic.Int64 // of them dropped
}

// startFaults opens the faulty addresses. The caller stops them, also after an
// error.
func startFaults(ctx context.Context, delay time.Duration) (*faults, error) {
	f := &faults{delay: delay, port: 53, target: relayTarget, closed: make(chan struct{})}
	for i, a := range faultyAddrs {
		var err error
		switch {
		case isDead(i):
			f.dead = append(f.dead, a)
			err = f.bury(ctx, a)
		case isSlow(i):
			f.slow = append(f.slow, a)
			err = f.slowDown(ctx, a)
		}
		if err != nil {
			return f, err
		}
	}
	return f, nil
}

// healthy returns the addresses that the zones' NSD is to have: those of addrs
// that are not faulty, and the one that the slow ones ask.
func (f *faults) healthy(addrs []netip.Addr) []netip.Addr {
	out := slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool {
		return slices.Contains(f.dead, a) || slices.Contains(f.slow, a)
	})
	return append(out, relayTarget.Addr())
}

// stop closes all addresses and waits for their goroutines.
func (f *faults) stop() {
	close(f.closed)
	for _, c := range f.conns {
		c.Close()
	}
	for _, l := range f.listeners {
		l.Close()
	}
	f.wg.Wait()
}

// open binds the port of addr for UDP.
func (f *faults) open(ctx context.Context, addr netip.Addr) (*net.UDPConn, error) {
	var lc net.ListenConfig
	c, err := lc.ListenPacket(ctx, "udp", netip.AddrPortFrom(addr, f.port).String())
	if err != nil {
		return nil, err
	}
	f.conns = append(f.conns, c)
	return c.(*net.UDPConn), nil
}

// bury makes addr a dead one.
func (f *faults) bury(ctx context.Context, addr netip.Addr) error {
	conn, err := f.open(ctx, addr)
	if err != nil {
		return err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", netip.AddrPortFrom(addr, f.port).String()) // the kernel connects; nobody accepts
	if err != nil {
		return err
	}
	f.listeners = append(f.listeners, l)
	// Owner: f. Ends when stop closes conn. One for each dead address.
	f.wg.Go(func() {
		buf := make([]byte, 1)
		for {
			if _, _, err := conn.ReadFromUDPAddrPort(buf); errors.Is(err, net.ErrClosed) {
				return
			}
			f.deadPackets.Add(1)
		}
	})
	return nil
}

// delayed is a query on its way to a slow server.
type delayed struct {
	due  time.Time
	from netip.AddrPort
	msg  []byte
}

// slowDown makes addr a slow one: queries are held back for the delay, each by
// itself, and answers go back as they come.
func (f *faults) slowDown(ctx context.Context, addr netip.Addr) error {
	conn, err := f.open(ctx, addr)
	if err != nil {
		return err
	}
	queue := make(chan delayed, maxDelayed)
	// Owner: f. Ends when stop closes conn. One for each slow address.
	f.wg.Go(func() {
		defer close(queue)
		buf := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				continue // ICMP for an answer that came too late for its resolver
			}
			f.slowPackets.Add(1)
			select {
			case queue <- delayed{time.Now().Add(f.delay), from, slices.Clone(buf[:n])}:
			default:
				f.overflow.Add(1)
			}
		}
	})
	// Owner: f. Ends when the queue does or stop is called. One for each slow address.
	f.wg.Go(func() {
		for d := range queue {
			select {
			case <-f.closed:
				return
			case <-time.After(time.Until(d.due)):
			}
			f.relayed.Add(1)
			if msg, err := exchangeUDP(f.target, d.msg, time.Second); err == nil {
				_, _ = conn.WriteToUDPAddrPort(msg, d.from) // it may wait no longer
			}
		}
	})
	return nil
}

// exchangeUDP sends one datagram to a server and returns what comes back from
// there.
func exchangeUDP(server netip.AddrPort, msg []byte, timeout time.Duration) ([]byte, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	if _, err := conn.Write(msg); err != nil {
		return nil, err
	}
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	return buf[:n], err
}
