//go:build !linux

package announce

import (
	"context"
	"errors"
)

// Loopback is a [Driver] for Linux.
type Loopback struct{}

// NewLoopback returns an error: addresses are changed by netlink.
func NewLoopback(string) (*Loopback, error) {
	return nil, errors.New("the driver loopback is for Linux")
}

// Apply implements [Driver].
func (*Loopback) Apply(context.Context, []Route) error { return nil }

// Peers implements [Driver].
func (*Loopback) Peers() []Peer { return nil }

// Close implements [Driver].
func (*Loopback) Close() error { return nil }
