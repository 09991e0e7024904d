package transport

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A deadlineContext does what one of package context's does, whether it is
// waited for or only looked at.
func TestDeadlineContextEndsAsItsModel(t *testing.T) {
	for name, end := range map[string]func(parent, own context.CancelFunc){
		"by its deadline": func(_, _ context.CancelFunc) { time.Sleep(time.Second) },
		"by its parent":   func(parent, _ context.CancelFunc) { parent() },
		"by its owner":    func(_, own context.CancelFunc) { own() },
	} {
		for _, waitedFor := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				parent, cancel := context.WithCancel(t.Context())
				defer cancel()
				model, cancelModel := context.WithTimeout(parent, time.Second)
				defer cancelModel()
				c := &deadlineContext{parent: parent, deadline: time.Now().Add(time.Second)}
				defer c.end()
				if waitedFor {
					child, cancelChild := context.WithCancel(c)
					defer cancelChild()
					defer func() {
						if child.Err() == nil {
							t.Errorf("%s: its child goes on", name)
						}
					}()
				}
				synctest.Wait()
				if err := c.Err(); err != nil {
					t.Errorf("%s: at the beginning: %v", name, err)
				}
				end(cancel, func() { cancelModel(); c.end() })
				synctest.Wait()
				if got, want := c.Err(), model.Err(); !errors.Is(got, want) {
					t.Errorf("%s, waited for %v: %v, want %v", name, waitedFor, got, want)
				}
				select {
				case <-c.Done():
				default:
					t.Errorf("%s, waited for %v: not done", name, waitedFor)
				}
			})
		}
	}
}

func TestDeadlineContextHasTheEarlierDeadline(t *testing.T) {
	now := time.Now()
	parent, cancel := context.WithDeadline(t.Context(), now.Add(time.Minute))
	defer cancel()
	for after, want := range map[time.Duration]time.Duration{time.Second: time.Second, time.Hour: time.Minute} {
		c := &deadlineContext{parent: parent, deadline: now.Add(after)}
		if got, ok := c.Deadline(); !ok || !got.Equal(now.Add(want)) {
			t.Errorf("%v: deadline %v, %v", after, got.Sub(now), ok)
		}
	}
}
