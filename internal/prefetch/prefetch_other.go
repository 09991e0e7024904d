//go:build !amd64 && !arm64

// Package prefetch has the processor fetch memory that will be read soon, so that
// what is fetched for one thing arrives while another is begun.
package prefetch

// Line does nothing on this kind of processor.
func Line(uintptr) {}
