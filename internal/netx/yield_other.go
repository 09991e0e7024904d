//go:build !linux

package netx

import "runtime"

// Yield lets others run. Whether those are among them for whom packets have come
// is up to the runtime on this system.
type Yield struct{}

// NewYield returns a Yield, to be closed.
func NewYield() *Yield { return new(Yield) }

// Wait returns when all have run that could.
func (*Yield) Wait() { runtime.Gosched() }

// Close ends y.
func (*Yield) Close() {}
