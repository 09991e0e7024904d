//go:build !linux

package netprep

import "errors"

// plan returns an error: networks are prepared by netlink.
func plan(Options) ([]Step, error) { return nil, errors.New("networks are prepared on Linux only") }
