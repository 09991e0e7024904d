package daemon

import (
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"shirube/internal/config"
)

// buffersOf returns the sizes of the buffers of the sockets for UDP that clients are
// listened to on, of the first, if they are all the same.
func buffersOf(t *testing.T, d *Daemon) (receive, send int) {
	t.Helper()
	for _, l := range d.listening {
		if l.proto != config.ProtocolUDP {
			continue
		}
		for _, s := range l.sockets {
			r, w := buffersOfSocket(t, s)
			if receive == 0 {
				receive, send = r, w
			}
			if r != receive || w != send {
				t.Errorf("buffers of %d and %d, and of %d and %d", receive, send, r, w)
			}
		}
	}
	return receive, send
}

func buffersOfSocket(t *testing.T, s syscall.Conn) (receive, send int) {
	t.Helper()
	raw, err := s.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := raw.Control(func(fd uintptr) {
		if receive, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF); err == nil {
			send, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF)
		}
	}); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
	return receive, send
}

// The sockets stay, and with them what waits there.
func TestReloadSizesTheBuffersOfSocketsThatAreServed(t *testing.T) {
	r := startReloadable(t, func(cfg *config.Config) {
		cfg.UDP.ReceiveBuffer, cfg.UDP.SendBuffer, cfg.Limits.UDPReaders = 0, 0, 3
	})
	receive, send := buffersOf(t, r.Daemon)
	reload := func() {
		t.Helper()
		if _, err := r.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := askListener("udp", r.cfg.Listen[0]); err != nil {
			t.Error(err)
		}
	}
	r.cfg.UDP.ReceiveBuffer, r.cfg.UDP.SendBuffer = 50_000, 60_000
	reload()
	if got, gotSend := buffersOf(t, r.Daemon); got != 100_000 || gotSend != 120_000 { // socket(7): doubled
		t.Errorf("buffers of %d and %d", got, gotSend)
	}
	r.cfg.UDP.SendBuffer = 0
	reload()
	if got, gotSend := buffersOf(t, r.Daemon); got != 100_000 || gotSend != send {
		t.Errorf("buffers of %d and %d, the system's are %d and %d", got, gotSend, receive, send)
	}
	r.cfg.UDP.ReceiveBuffer = 0
	reload()
	if got, gotSend := buffersOf(t, r.Daemon); got != receive || gotSend != send {
		t.Errorf("buffers of %d and %d, the system's are %d and %d", got, gotSend, receive, send)
	}
}
