package cache

import "golang.org/x/sys/unix"

// smallPages keeps the system from backing memory with pages of 2 MiB (as it
// does where transparent huge pages are set to "always"): the first answer of
// each arena would take one, and an idle server gigabytes.
func smallPages(memory []byte) {
	_ = unix.Madvise(memory, unix.MADV_NOHUGEPAGE) // fails where there are none
}
