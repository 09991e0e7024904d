package deadline

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// A Context does what one of package context's does, whether it is
// waited for or only looked at.
func TestContextEndsAsItsModel(t *testing.T) {
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
				c := New(parent, time.Now().Add(time.Second))
				defer c.End()
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
				end(cancel, func() { cancelModel(); c.End() })
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

func TestContextHasTheEarlierDeadline(t *testing.T) {
	now := time.Now()
	parent, cancel := context.WithDeadline(t.Context(), now.Add(time.Minute))
	defer cancel()
	for after, want := range map[time.Duration]time.Duration{time.Second: time.Second, time.Hour: time.Minute} {
		c := New(parent, now.Add(after))
		if got, ok := c.Deadline(); !ok || !got.Equal(now.Add(want)) {
			t.Errorf("%v: deadline %v, %v", after, got.Sub(now), ok)
		}
	}
}

// ring returns an alarm, and how often it rang.
func ring() (*Alarm, *int) {
	n := 0
	return &Alarm{Ring: func() { n++ }}, &n
}

func TestAlarmRingsForTheEndOfEachContextOnTheWayUp(t *testing.T) {
	for name, pick := range map[string]func(outer, inner *Context) *Context{
		"the inner": func(_, inner *Context) *Context { return inner },
		"the outer": func(outer, _ *Context) *Context { return outer },
	} {
		for _, before := range []bool{false, true} {
			outer := New(t.Context(), time.Now().Add(time.Hour))
			inner := New(outer, time.Time{})
			a, rang := ring()
			if before {
				pick(outer, inner).End()
			}
			done := a.Attend(inner)
			if done != t.Context().Done() {
				t.Errorf("%s: what is waited for is not the parent's end", name)
			}
			if a.Rung() != before {
				t.Errorf("%s, ended before %v: rung %v", name, before, a.Rung())
			}
			pick(outer, inner).End()
			if !a.Rung() || *rang == 0 {
				t.Errorf("%s, ended before %v: it did not ring", name, before)
			}
			if inner.made != nil || outer.made != nil {
				t.Errorf("%s: a context was made", name)
			}
			a.Leave(inner)
			if outer.alarm != nil || inner.alarm != nil {
				t.Errorf("%s: a context still has the alarm", name)
			}
		}
	}
}

func TestAlarmIsNotRungAfterLeave(t *testing.T) {
	c := New(t.Context(), time.Time{})
	a, rang := ring()
	a.Attend(c)
	a.Leave(c)
	c.End()
	if a.Rung() || *rang != 0 {
		t.Error("it rang")
	}
	if a.Attend(New(t.Context(), time.Time{})); a.Rung() {
		t.Error("it has rung for what it attends to next")
	}
}

func TestSecondAlarmOfAContextIsToldByDone(t *testing.T) {
	outer := New(t.Context(), time.Now().Add(time.Hour))
	one, other := New(outer, time.Time{}), New(outer, time.Time{})
	first, _ := ring()
	second, rang := ring()
	first.Attend(one)
	done := second.Attend(other)
	outer.End()
	select {
	case <-done:
	default:
		t.Error("it is not told")
	}
	other.End()
	if !first.Rung() || !second.Rung() || *rang != 1 {
		t.Errorf("the first rang: %v, the second %d times", first.Rung(), *rang)
	}
	second.Leave(other)
	first.Leave(one)
	if outer.alarm != nil {
		t.Error("the alarm that was left goes on")
	}
}

func TestContextIsFreeWhenNobodyCanWaitForIt(t *testing.T) {
	var c Context
	c.Begin(t.Context(), time.Now().Add(-time.Second))
	if c.End(); !c.Free() {
		t.Fatal("nobody has it")
	}
	c.Begin(t.Context(), time.Time{})
	if err := c.Err(); err != nil {
		t.Errorf("begun anew: %v", err)
	}
	a, rings := ring()
	a.Attend(&c)
	if c.Free() {
		t.Error("an alarm is left")
	}
	a.Leave(&c)
	child, cancel := context.WithCancel(&c)
	defer cancel()
	if c.Free() {
		t.Error("a child waits")
	}
	c.End()
	<-child.Done()
	if c.Free() || *rings != 0 {
		t.Errorf("a child has it, %d rings", *rings)
	}
}
