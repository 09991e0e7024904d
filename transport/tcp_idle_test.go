//go:build linux && !race

package transport

import (
	"encoding/binary"
	"io"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// bareClient is a client's end of a TCP connection that is nothing but a
// descriptor, so that what a test finds in memory is the server's.
type bareClient int

func dialBare(t *testing.T, to netip.AddrPort) bareClient {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
	}
	if err != nil {
		t.Fatal(os.NewSyscallError("connect", err))
	}
	return bareClient(fd)
}

// Read implements [io.Reader].
func (c bareClient) Read(b []byte) (int, error) {
	n, err := unix.Read(int(c), b)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return max(n, 0), err
}

// ask sends a query as it is on the stream, and reads one answer.
func (c bareClient) ask(t *testing.T, query, buf []byte) {
	t.Helper()
	if _, err := unix.Write(int(c), query); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, buf[:prefixLen]); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, buf[:binary.BigEndian.Uint16(buf)]); err != nil {
		t.Fatal(err)
	}
}

// inUse returns what the process has taken of the system's memory and uses,
// stacks and the runtime's own structures included.
func inUse() uint64 {
	for range 3 { // what pools hold goes the second time; stacks shrink
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse + m.MSpanInuse + m.MCacheInuse + m.BuckHashSys + m.GCSys + m.OtherSys
}

// 100,000 idle connections are to fit into 1 GiB.
func TestTCPIdleConnectionsAreSmall(t *testing.T) {
	const n, most = 1500, 10 << 10
	for _, label := range []string{"hit", "miss", "big", "bigmiss"} {
		t.Run(label, func(t *testing.T) {
			s, at := startTCP(t, TCPOptions{
				Handler: newScripted(), MaxConns: 4 * n, MaxConnsPerClient: n, IdleTimeout: time.Hour,
			}, "127.0.0.1:0")
			conns := make([]bareClient, n)
			buf := make([]byte, 1<<16)
			query := frame(packQuery(t, 1, label))
			before := inUse()
			for i := range conns {
				conns[i] = dialBare(t, at)
				conns[i].ask(t, query, buf)
			}
			eventually(t, "nothing is in flight", func() bool { return s.slots.Stats().InUse == 0 })
			each := (int64(inUse()) - int64(before)) / n
			t.Logf("%d octets for each idle connection", each)
			if each > most {
				t.Errorf("%d octets for each idle connection, more than %d", each, most)
			}
			if open := s.Stats().Open; open != n {
				t.Errorf("%d connections are open", open)
			}
			for _, c := range conns {
				_ = unix.Close(int(c))
			}
		})
	}
}
