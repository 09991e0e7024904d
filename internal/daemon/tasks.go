package daemon

import "context"

// task is something that is done in the background for as long as the
// configuration asks for it.
type task struct {
	key any // comparable: what has the same key before and after a reload goes on
	run func(ctx context.Context)
}

// tasks are those under way.
type tasks struct{ running map[any]running }

// running is a task under way.
type running struct {
	cancel context.CancelFunc
	done   chan struct{}
}

// follow ends the tasks that are not wanted any more, waits for that, and begins
// those that are not under way yet, which end with ctx at the latest.
func (t *tasks) follow(ctx context.Context, wanted []task) {
	keep := make(map[any]running, len(wanted))
	for _, w := range wanted {
		if r, ok := t.running[w.key]; ok {
			keep[w.key] = r
			delete(t.running, w.key)
		}
	}
	for _, r := range t.running {
		r.cancel()
	}
	for _, r := range t.running {
		<-r.done
	}
	for _, w := range wanted {
		if _, ok := keep[w.key]; ok {
			continue
		}
		ctx, cancel := context.WithCancel(ctx)
		r := running{cancel, make(chan struct{})}
		// Owner: t. End: that of ctx, or when it is not wanted any more. Bound: one
		// for each of what is wanted.
		go func() {
			defer close(r.done)
			defer cancel()
			w.run(ctx)
		}()
		keep[w.key] = r
	}
	t.running = keep
}
