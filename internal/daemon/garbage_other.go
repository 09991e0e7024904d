//go:build !linux

package daemon

// useHugePages does nothing: how to ask this system for them is not known.
func useHugePages([]byte) {}
