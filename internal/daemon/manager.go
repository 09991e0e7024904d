package daemon

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"shirube/internal/config"
	"shirube/internal/netx"
	"shirube/internal/systemd"
)

// Manage has d work with the service manager that has started this process, if
// one has: it takes the sockets that are handed on, tells how it is doing, leaves
// its sockets with the manager for the process after it, and shows that it is
// alive. It is to be called once, before Start.
func (d *Daemon) Manage() error {
	d.manager, d.watchdog = systemd.NewNotifier(), systemd.WatchdogInterval()
	sockets, err := systemd.Sockets()
	if err != nil || len(sockets) == 0 {
		return err
	}
	d.passed = new(netx.Passed)
	for _, s := range sockets {
		if err := d.passed.Pass(s.Name, s.FD); err != nil {
			d.log.Warn("something was handed on that is of no use", "error", err)
		}
	}
	return nil
}

// tell tells the manager. That it cannot be told changes nothing for clients.
func (d *Daemon) tell(assignments ...string) {
	if err := d.notifier().Notify(assignments...); err != nil {
		d.log.Warn("cannot tell the service manager", "error", err)
	}
}

// tellState tells the manager about a change of the state.
func (d *Daemon) tellState(s State) {
	switch s {
	case Ready, Draining:
		d.tell(systemd.Ready, systemd.Status(s.String()))
	case Stopping:
		d.tell(systemd.Stopping, systemd.Status(s.String()))
	case Starting:
	}
}

// store leaves the sockets of list with the manager, so that what comes to them
// while there is no process waits for the next one.
func (d *Daemon) store(list []listening) {
	for _, l := range list {
		if len(l.sockets) == 0 {
			continue
		}
		if err := d.notifier().Store(l.storedAs(), l.sockets...); err != nil {
			d.log.Warn("cannot leave sockets with the service manager: a restart will lose queries", "listen", l.endpoint, "error", err)
		}
	}
}

// unstore takes back what store has left.
func (d *Daemon) unstore(l listening) {
	if len(l.sockets) == 0 {
		return
	}
	if err := d.notifier().Forget(l.storedAs()); err != nil {
		d.log.Warn("cannot take sockets back from the service manager", "listen", l.endpoint, "error", err)
	}
}

// storedAs is what the manager calls the sockets of l.
func (l *listening) storedAs() string { return systemd.Name(fmt.Sprintf("%s-%s", l.proto, l.at)) }

// watch tells the manager that the server is alive for as long as it answers,
// three times within what the manager would wait.
func (d *Daemon) watch(ctx context.Context) {
	interval := d.watchdog / 3
	tick := time.NewTicker(interval)
	defer tick.Stop()
	var before uint64
	told := false
	for {
		alive, seen := d.answers(ctx, interval/2, before)
		if before = seen; alive {
			d.tell(systemd.Watchdog)
		}
		if !alive && !told {
			d.log.Error("the server does not answer itself: the service manager will not hear from it", "interval", d.watchdog)
		}
		told = !alive
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// answers reports whether a reader does: it has answered a question of ours, or
// has received anything since before. What it has received by now is the other
// result. A server that is asked more than it can answer is alive, though ours may
// be among what is lost; and so is one that has no address to be asked at.
func (d *Daemon) answers(ctx context.Context, patience time.Duration, before uint64) (alive bool, seen uint64) {
	silent := false
	for _, e := range d.where() {
		if e.proto != config.ProtocolUDP {
			continue
		}
		switch err := askSelf(ctx, e.at, patience); {
		case err == nil:
			alive = true
		case !errors.Is(err, syscall.EADDRNOTAVAIL): // else it is elsewhere now: listen[].freebind
			silent = true
		}
	}
	seen = d.udp.Stats().Received + d.tcp.Stats().Received
	return alive || !silent || seen > before, seen
}

// askSelf asks the server at addr, which may be a wildcard, for something that it
// knows by itself. Any answer will do.
func askSelf(ctx context.Context, at netip.AddrPort, patience time.Duration) error {
	if at.Addr().IsUnspecified() {
		loopback := netip.IPv6Loopback()
		if at.Addr().Is4() {
			loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})
		}
		at = netip.AddrPortFrom(loopback, at.Port())
	}
	// From there too: if the machine does not have the address, the question must not
	// go to another machine that has.
	from := net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(at.Addr(), 0))}
	c, err := from.DialContext(ctx, "udp", at.String())
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }() // whatever came of it
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	// A header with RD and one question: localhost. A IN.
	q := []byte("\x00\x00\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x09localhost\x00\x00\x01\x00\x01")
	binary.BigEndian.PutUint16(q, uint16(time.Now().UnixNano()))
	if _, err := c.Write(q); err != nil {
		return err
	}
	var rsp [512]byte
	for {
		n, err := c.Read(rsp[:])
		if err != nil {
			return err
		}
		if n >= 12 && slices.Equal(rsp[:2], q[:2]) {
			return nil
		}
	}
}

// managerTime is how long the manager may take to let go of a socket.
const managerTime = 2 * time.Second

// dropPassed lets go of the sockets that were handed on and are not configured, and
// has the manager let go of them: an address cannot be bound while somebody has
// all addresses, nor the other way round.
func (d *Daemon) dropPassed(cfg *config.Config) {
	var keep []netip.AddrPort
	for _, e := range endpoints(cfg) {
		keep = append(keep, e.at)
	}
	dropped := d.passed.Drop(keep)
	if len(dropped) == 0 {
		return
	}
	d.log.Warn("sockets were handed on that are not configured: they are closed", "sockets", dropped)
	var err error
	for _, u := range dropped {
		if d.next.heir != nil {
			d.next.forget = append(d.next.forget, u.Name) // the manager listens to the server before
			continue
		}
		err = errors.Join(err, d.manager.Forget(u.Name))
	}
	if err = errors.Join(err, d.notifier().Barrier(managerTime)); err != nil {
		d.log.Warn("cannot take sockets back from the service manager", "error", err)
	}
}
