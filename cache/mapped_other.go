//go:build !unix

package cache

// mapped is memory from the heap, on systems without mmap. It has no pointers.
func mapped() source { return onHeap() }
