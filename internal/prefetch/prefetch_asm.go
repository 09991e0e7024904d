//go:build amd64 || arm64

// Package prefetch has the processor fetch memory that will be read soon, so that
// what is fetched for one thing arrives while another is begun.
package prefetch

// Line has the processor fetch the cache line at address p into its nearest cache,
// and does not wait. It is a hint: an address where there is no memory, or none any
// more, does no harm.
//
//go:noescape
func Line(p uintptr)
