package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"shirube/internal/config"
	"shirube/internal/control"
	"shirube/internal/netx"
	"shirube/internal/systemd"
)

// succession is how a Daemon takes the place of another process, and is followed by
// the next one. Both serve clients on the same sockets, as the one before does until
// the other is ready: nobody waits for a process that is not there.
type succession struct {
	heir *control.Heir // of the server whose place this one takes; nil: of none
	// silent is whether the manager does not listen to this process: not yet, or no
	// more.
	silent atomic.Bool
	forget []string // names of sockets that the manager is to let go of, when it listens

	superseded chan struct{} // closed when the next process serves
	upgrading  sync.Mutex
	child      atomic.Int64 // ID of the process that upgrade has started; 0: none
}

// quicGrace is how long queries that came by QUIC may take when the next process is
// ready: two processes cannot share a socket of QUIC, for the packets of a
// connection would go to either.
const quicGrace = time.Second

// TakeOver has d take the place of the server whose control socket is where d's is
// to be: Start begins with its sockets, and has it end when d serves. If there is no
// such server, d starts as usual. It is to be called once, after Manage.
func (d *Daemon) TakeOver(ctx context.Context) error {
	path := controlPath(d.cfg().Control)
	if path == "" {
		return errors.New("take over: the configuration has no control.socket, which is where the other server is asked")
	}
	h, err := control.Inherit(ctx, path)
	if errors.Is(err, control.ErrNobody) {
		d.log.Info("there is nobody to take over from", "control_socket", path)
		return nil
	}
	if err != nil {
		return fmt.Errorf("take over: %w", err)
	}
	if d.passed == nil {
		d.passed = new(netx.Passed)
	}
	err = h.Sockets(func(name string, fd int) {
		if err := d.passed.Pass(name, fd); err != nil {
			d.log.Warn("something was handed on that is of no use", "error", err)
		}
	})
	if err != nil {
		return errors.Join(fmt.Errorf("take over: %w", err), h.Close())
	}
	d.next.heir = h
	d.next.silent.Store(true)
	return nil
}

// notifier returns who tells the manager, if it listens to this process.
func (d *Daemon) notifier() *systemd.Notifier {
	if d.next.silent.Load() {
		return nil
	}
	return d.manager
}

// mayServe returns when the server before, if d takes its place, has ended what two
// cannot do at once.
func (d *Daemon) mayServe() error {
	if d.next.heir == nil {
		return nil
	}
	if err := d.next.heir.Serve(); err != nil {
		return fmt.Errorf("take over: %w", err)
	}
	return nil
}

// renounce gives up taking over, if d does.
func (d *Daemon) renounce() {
	if d.next.heir != nil {
		_ = d.next.heir.Close() // which says it
	}
}

// succeed has the server before end, if d takes its place, and opens what only one
// can have. d serves clients, whatever becomes of that. The caller holds reloading.
func (d *Daemon) succeed() {
	h := d.next.heir
	if h == nil {
		return
	}
	if err := errors.Join(h.Leave(), h.Close()); err != nil {
		d.log.Error("the server before may not end: end it", "error", err)
	}
	d.next.silent.Store(false)
	d.next.heir = nil
	for _, name := range d.next.forget {
		if err := d.notifier().Forget(name); err != nil {
			d.log.Warn("cannot take sockets back from the service manager", "error", err)
		}
	}
	d.next.forget = nil
	d.store(d.listening)
	d.tellState(d.State())
	if err := d.openLocal(d.cfg()); err != nil {
		d.log.Error("no control socket, or no admin listener", "error", err)
	}
	o, err := d.open(d.ctx, d.cfg(), d.listening)
	if err != nil {
		d.log.Error("no socket of DoH", "error", err)
		return
	}
	d.listen(o)
}

// openLocal opens the control socket and the admin listener.
func (d *Daemon) openLocal(cfg *config.Config) (err error) {
	if err = d.control.open(d.ctx, d); err != nil {
		return err
	}
	d.admin, err = d.openAdmin(d.ctx, cfg.Admin)
	return err
}

// handOver returns what the process pid gets that is to take d's place. Nothing is
// reloaded until it has that, or has given up.
func (d *Daemon) handOver(pid int) (*control.Estate, error) {
	switch {
	case os.Getpid() == 1:
		return nil, errors.New("the server is the first process of a container, which ends with it")
	case d.manager != nil && int64(pid) != d.next.child.Load():
		return nil, errors.New("the service manager has started this server, and would not know the other process: use `shirube ctl upgrade`")
	case !d.reloading.TryLock():
		return nil, errors.New("the server is being reloaded, or hands over to another process")
	case d.State() == Stopping:
		d.reloading.Unlock()
		return nil, errStopping
	}
	e := &control.Estate{
		Serve: d.endQUIC,
		Leave: func() {
			defer d.reloading.Unlock()
			d.leave(pid)
		},
		Keep: func() {
			defer d.reloading.Unlock()
			d.resume()
		},
	}
	for _, l := range d.listening {
		for _, s := range l.sockets {
			e.Sockets = append(e.Sockets, control.Inherited{Name: l.storedAs(), Socket: s})
		}
	}
	return e, nil
}

// endQUIC ends what is served by QUIC. The caller holds reloading.
func (d *Daemon) endQUIC() {
	ctx, cancel := context.WithTimeout(d.ctx, quicGrace)
	defer cancel()
	var ending sync.WaitGroup
	d.listening = slices.DeleteFunc(d.listening, func(l listening) bool {
		if l.proto != config.ProtocolDoQ && l.proto != config.ProtocolDoH3 {
			return false
		}
		ending.Go(func() { // one each, end with ctx
			if err := l.stop(ctx); err != nil {
				d.log.Warn("a listener did not end in order", "listen", l.endpoint, "error", err)
			}
		})
		return true
	})
	ending.Wait()
}

// endSocket accepts no more on the unix socket of DoH, which only one process can
// have. Connections that are open go on. The caller holds reloading.
func (d *Daemon) endSocket() {
	d.listening = slices.DeleteFunc(d.listening, func(l listening) bool {
		if l.socket == "" {
			return false
		}
		if err := l.stop(d.ctx); err != nil {
			d.log.Warn("a listener did not end in order", "listen", l.endpoint, "error", err)
		}
		return true
	})
}

// resume serves again what endQUIC has ended, if it has. The caller holds reloading.
func (d *Daemon) resume() {
	cfg := d.cfg()
	o, err := d.open(d.ctx, cfg, d.listening)
	if err != nil {
		d.log.Error("a listener that was to be handed over is gone", "error", err)
		return
	}
	if len(o) > 0 {
		d.listen(o)
	}
}

// leave leaves d's place to the process pid, which serves. The caller holds
// reloading.
func (d *Daemon) leave(pid int) {
	d.log.Info("another process has taken over", "pid", pid)
	// What is said afterwards is its business: that this one stops above all.
	d.tell(systemd.MainPID(pid))
	if err := d.manager.Barrier(managerTime); err != nil {
		d.log.Warn("cannot tell the service manager", "error", err)
	}
	d.next.silent.Store(true)
	close(d.next.superseded)
	d.endSocket()
	if err := errors.Join(d.control.retire(), d.closeAdmin()); err != nil {
		d.log.Warn("the control socket or the admin listener was not closed well", "error", err)
	}
	d.admin = nil
}

// upgrade starts the program anew, which may be another version of it by now, and
// returns when that serves in d's place.
func (d *Daemon) upgrade(ctx context.Context) (pid int, err error) {
	n := &d.next
	if d.Successor == nil {
		return 0, errors.New("the server was not started by a command line that could be repeated")
	}
	if !n.upgrading.TryLock() {
		return 0, errors.New("an upgrade is under way")
	}
	defer n.upgrading.Unlock()
	c, err := d.Successor()
	if err != nil {
		return 0, err
	}
	// The manager wants to hear from whoever is the main process.
	c.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "WATCHDOG_PID=") })
	if err := c.Start(); err != nil {
		return 0, err
	}
	n.child.Store(int64(c.Process.Pid))
	defer n.child.Store(0)
	d.log.Info("starting the process that is to take over", "pid", c.Process.Pid, "program", c.Path)
	ended := make(chan error, 1)
	// Owner: upgrade. End: the new process's, or this one's, which it outlives. Bound: one.
	go func() { ended <- c.Wait() }()
	select {
	case <-n.superseded:
		return c.Process.Pid, nil
	case err := <-ended:
		return 0, fmt.Errorf("the new process did not take over, and the log has why: %w", exit(err))
	case <-ctx.Done():
		err := c.Process.Kill()
		return 0, errors.Join(errors.New("the new process did not take over in time"), err)
	}
}

// exit says how a process ended.
func exit(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}
