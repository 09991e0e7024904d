//go:build unix

package cache

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapped is memory from the system, outside of Go's heap: the garbage collector
// neither looks at it nor counts it, and what was never written to is not there.
func mapped() source {
	return source{
		get: func(size int) ([]byte, error) {
			memory, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
			if err != nil {
				return nil, err
			}
			smallPages(memory)
			return memory, nil
		},
		idle: idle,
		put:  func(memory []byte) { _ = unix.Munmap(memory) }, // fails for what was not mapped only
	}
}

// idle gives the whole pages within part back. What the system does not take is
// there until all is put.
func idle(part []byte) {
	page := uintptr(unix.Getpagesize())
	from := uintptr(unsafe.Pointer(unsafe.SliceData(part)))
	start, end := (from+page-1)&^(page-1), (from+uintptr(len(part)))&^(page-1)
	if start < end {
		_ = unix.Madvise(part[start-from:end-from], unix.MADV_DONTNEED)
	}
}
