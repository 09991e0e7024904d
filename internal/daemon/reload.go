package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"shirube/internal/config"
	"shirube/internal/systemd"
)

// part is something that takes part in a reload besides the [Pipeline], which is
// made anew: it lives on, and has to be told of the new configuration.
type part struct {
	name string
	// prepare does all that can fail, and changes nothing that is in force. What
	// does is left to the functions that it hands to r.
	prepare func(r *reload) error
}

// parts lists what takes part in a reload, in the order in which it is prepared
// and put in force.
func (d *Daemon) parts() []part {
	return []part{
		{"cache", d.reloadCaches},
		{"tls", d.reloadCertificates},
		{"listen", d.reloadListeners},
		{"limits", d.reloadLimits},
		{"memory", d.reloadMemory},
		{"log", d.reloadLog},
		{"shared_cache", reloadShared},
		{"dnstap", d.reloadTap},
		{"tracing", d.reloadTracing},
		{"admin", d.reloadAdmin},
	}
}

// reload is a reload under way.
type reload struct {
	ctx      context.Context
	from, to *Pipeline

	commits, retirements, undoings []func()
}

// commit has f called when everything is prepared, just before queries go to the
// new pipeline. It cannot fail, and has to be quick.
func (r *reload) commit(f func()) { r.commits = append(r.commits, f) }

// retire has f called when queries go to the new pipeline: to end what nobody
// needs any more.
func (r *reload) retire(f func()) { r.retirements = append(r.retirements, f) }

// undo has f called in place of the others when another part cannot be prepared.
func (r *reload) undo(f func()) { r.undoings = append(r.undoings, f) }

// errNoFile says that there is nothing to be reloaded.
var errNoFile = errors.New("the server was started without a configuration file")

// Reload reads the configuration anew, has it take effect, and returns the keys
// that have changed. After an error all is as it was.
func (d *Daemon) Reload(ctx context.Context) (changed []string, err error) {
	select {
	case <-d.started:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	d.reloading.Lock()
	defer d.reloading.Unlock()
	begun := time.Now()
	d.tell(systemd.Reloading())
	defer func() { d.tellState(d.State()) }()
	if changed, err = d.reload(ctx); err != nil {
		d.log.Error("cannot reload the configuration; going on with the one before", "error", err)
		return nil, err
	}
	d.log.Info("reloaded", "changed", changed, "listen", d.where(), "took", time.Since(begun).Round(time.Microsecond))
	return changed, nil
}

// reload is Reload for who holds reloading.
func (d *Daemon) reload(ctx context.Context) ([]string, error) {
	switch {
	case d.Load == nil:
		return nil, errNoFile
	case d.State() == Stopping:
		return nil, errStopping
	}
	cfg, err := d.Load()
	if err != nil {
		return nil, err
	}
	from := d.Pipeline()
	changed, err := changes(&from.Config, &cfg)
	if err != nil {
		return nil, err
	}
	to, err := from.next(cfg)
	if err != nil {
		return nil, err
	}
	r := &reload{ctx: ctx, from: from, to: to}
	if err := r.prepare(d.parts()); err != nil {
		return nil, err
	}
	for _, f := range r.commits {
		f()
	}
	to.takeOver()
	d.tasks.follow(d.ctx, d.wanted(to))
	for _, f := range r.retirements {
		f()
	}
	return changed, nil
}

// changes returns the keys that differ. The error names those that need a
// restart.
func changes(from, to *config.Config) ([]string, error) {
	changed, fixed := []string{}, []string(nil)
	for _, c := range config.Changes(*from, *to) {
		changed = append(changed, c.Path)
		if c.Restart {
			fixed = append(fixed, c.Path)
		}
	}
	if len(fixed) > 0 {
		return nil, fmt.Errorf("a change of %s needs a restart of the server", strings.Join(fixed, ", "))
	}
	return changed, nil
}

// prepare prepares parts. After an error all that was prepared is undone.
func (r *reload) prepare(parts []part) error {
	for _, p := range parts {
		if err := p.prepare(r); err != nil {
			for _, f := range slices.Backward(r.undoings) {
				f()
			}
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// reloadListeners binds what is new, and lets go of what is not wanted any more.
// What is the same in both is not touched.
func (d *Daemon) reloadListeners(r *reload) error {
	o, err := d.open(r.ctx, &r.to.Config, d.listening)
	if err != nil {
		return err
	}
	r.undo(o.close)
	r.commit(func() {
		d.rebehind(&r.to.Config)
		if from, to := r.from.Config.UDP, r.to.Config.UDP; from != to {
			d.retune(from, to) // those in o are as they should be
		}
		d.listen(o)
	})
	r.retire(func() {
		ctx, cancel := context.WithTimeout(d.ctx, r.from.Config.Limits.DrainTimeout)
		defer cancel()
		d.unlisten(ctx, &r.to.Config)
	})
	return nil
}

// reloadCaches changes the sizes of what is remembered, and how it is used. What
// is remembered stays as far as there is room for it.
func (d *Daemon) reloadCaches(r *reload) error {
	cfg, answers, now := &r.to.Config, r.from.Answers, r.from.Clock.Now()
	opt, before := answersOptions(cfg.Cache), answers.Stats().Limit
	if opt.Bytes > before { // it may be more than there is
		if err := answers.Resize(opt.Bytes, now); err != nil {
			return err
		}
		r.undo(func() { _ = answers.Resize(before, now) }) // it was there
	}
	r.commit(func() { answers.Configure(opt) })
	r.retire(func() {
		if err := answers.Resize(opt.Bytes, now); err != nil { // less than there was
			d.log.Error("the memory for answers stays as large as it was", "error", err)
		}
		r.from.Memory.Resize(int64(cfg.Cache.RRsetsSize))
		d.limitMemory()
	})
	return nil
}

// reloadMemory forgets what is wrong by the new configuration.
func (d *Daemon) reloadMemory(r *reload) error {
	names := outdated(r.from, r.to)
	if len(names) == 0 {
		return nil
	}
	r.commit(func() { r.from.found.outdated.Store(&names) })
	r.retire(func() {
		for _, n := range names {
			d.log.Info("forgetting what another configuration has found", "at_and_below", n.String())
			d.judgeAnew(n, max(r.from.Config.Resolver.Timeout, r.to.Config.Resolver.Timeout))
		}
	})
	return nil
}

// reloadLimits changes what clients may use up.
func (d *Daemon) reloadLimits(r *reload) error {
	cfg := &r.to.Config
	r.commit(func() {
		d.slots.Resize(cfg.Limits.InFlight, portion(cfg.Limits.InFlightPerNetwork, cfg.Limits.InFlight))
		d.udp.Configure(d.udpOptions(cfg))
		d.tcp.Configure(d.tcpOptions(cfg))
		d.secure.configure(d, cfg)
	})
	if before, need := descriptorsNeeded(&r.from.Config), descriptorsNeeded(cfg); need > before {
		r.commit(func() { checkDescriptors(d.log, need) })
	}
	return nil
}

// reloadLog has the log go by the level of the file, if that is another one than
// before: it may have been changed by order meanwhile.
func (d *Daemon) reloadLog(r *reload) error {
	if level := r.to.Config.Log.Level; level != r.from.Config.Log.Level && d.Level != nil {
		r.commit(func() { _ = d.setLogLevel(string(level)) }) // the configuration has no others
	}
	return nil
}
