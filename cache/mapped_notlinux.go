//go:build unix && !linux

package cache

// smallPages is for Linux.
func smallPages([]byte) {}
