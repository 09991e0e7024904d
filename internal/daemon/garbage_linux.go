package daemon

import (
	"syscall"
	"unsafe"
)

// useHugePages has the system back b, which was not written to yet, with huge pages
// if it may (madvise(2)). It need not: then they are small.
func useHugePages(b []byte) {
	from := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (hugePage - 1))
	if to := from + (len(b)-from)&^(hugePage-1); from < to {
		_ = syscall.Madvise(b[from:to], syscall.MADV_HUGEPAGE) // fails where there are none
	}
}
