package netx

import (
	"encoding/binary"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Yield lets others run, and those first for whom packets have come. Go runs
// goroutines in turn, and looks for packets only when there is none left to be run:
// with [runtime.Gosched] whoever always has something to do keeps all others from
// being seen that wait for packets, for 10 ms at a time. So who waits for a Yield
// waits for a packet too, one to himself.
//
// One goroutine at a time uses it.
type Yield struct {
	file *os.File // an eventfd(2), under the runtime's poller; nil: there was no descriptor for it
	raw  syscall.RawConn
	read func(fd uintptr) bool // is y.readOn: made once, for a method value allocates
	told bool
}

// NewYield returns a Yield, to be closed. When the process may open no more
// descriptors, it is but [runtime.Gosched].
func NewYield() *Yield {
	y := new(Yield)
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return y
	}
	y.file = os.NewFile(uintptr(fd), "eventfd")
	if y.raw, err = y.file.SyscallConn(); err != nil {
		y.Close()
		return new(Yield)
	}
	y.read = y.readOn
	return y
}

// Wait returns when all have run that could, and packets have been looked for.
func (y *Yield) Wait() {
	if y.file == nil {
		runtime.Gosched()
		return
	}
	y.told = false
	_ = y.raw.Read(y.read) // closed: nobody is waited for
}

// readOn tells the eventfd, and then takes what it was told.
func (y *Yield) readOn(fd uintptr) bool {
	var n [8]byte
	if !y.told {
		y.told = true
		binary.NativeEndian.PutUint64(n[:], 1)
		_, _, errno := unix.RawSyscall(unix.SYS_WRITE, fd, uintptr(unsafe.Pointer(&n)), uintptr(len(n)))
		return errno != 0 // nothing would come
	}
	_, _, errno := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&n)), uintptr(len(n)))
	return errno != unix.EAGAIN
}

// Close ends y.
func (y *Yield) Close() {
	if y.file != nil {
		_ = y.file.Close() // nothing is in it
	}
}
