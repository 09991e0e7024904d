package systemd

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// listen has the environment name a manager's socket.
func listen(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return c
}

// next returns the next message, and the descriptors that came along.
func next(t *testing.T, c *net.UnixConn) (string, []int) {
	t.Helper()
	buf, oob := make([]byte, 4096), make([]byte, syscall.CmsgSpace(16*4))
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	n, oobn, _, _, err := c.ReadMsgUnix(buf, oob)
	if err != nil {
		t.Fatal(err)
	}
	var fds []int
	msgs, err := syscall.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		t.Fatal(err)
	}
	for i := range msgs {
		got, err := syscall.ParseUnixRights(&msgs[i])
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, got...)
	}
	return string(buf[:n]), fds
}

func TestNotifierTellsTheManager(t *testing.T) {
	c := listen(t)
	n := NewNotifier()
	if err := n.Notify(Ready, Status("two\nlines")); err != nil {
		t.Fatal(err)
	}
	if got, _ := next(t, c); got != "READY=1\nSTATUS=two lines" {
		t.Errorf("got %q", got)
	}
	before := monotonic()
	if err := n.Notify(Reloading()); err != nil {
		t.Fatal(err)
	}
	got, _ := next(t, c)
	text, ok := strings.CutPrefix(got, "RELOADING=1\nMONOTONIC_USEC=")
	if at, err := strconv.ParseInt(text, 10, 64); !ok || err != nil || at < before.Microseconds() || at > monotonic().Microseconds() {
		t.Errorf("got %q", got)
	}
}

func TestNotifierLeavesSocketsWithTheManager(t *testing.T) {
	c := listen(t)
	n := NewNotifier()
	udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	at := udp.LocalAddr().String()
	if err := n.Store("udp-one", udp, udp); err != nil {
		t.Fatal(err)
	}
	got, fds := next(t, c)
	if got != "FDSTORE=1\nFDPOLL=0\nFDNAME=udp-one" || len(fds) != 2 {
		t.Fatalf("got %q, %v", got, fds)
	}
	_ = udp.Close()
	for _, fd := range fds {
		f := os.NewFile(uintptr(fd), "")
		kept, err := net.FilePacketConn(f)
		if err != nil || kept.LocalAddr().String() != at {
			t.Errorf("got %v, %v", kept, err)
		} else {
			_ = kept.Close()
		}
		_ = f.Close()
	}
	if err := n.Store("udp-one", udp); err == nil {
		t.Error("a closed socket was left")
	}
	if err := n.Forget("udp-one"); err != nil {
		t.Fatal(err)
	}
	if got, fds := next(t, c); got != "FDSTOREREMOVE=1\nFDNAME=udp-one" || len(fds) != 0 {
		t.Errorf("got %q, %v", got, fds)
	}
}

func TestBarrierWaitsForTheManager(t *testing.T) {
	c := listen(t)
	n := NewNotifier()
	done := make(chan error, 1)
	go func() { done <- n.Barrier(5 * time.Second) }() // owner: this test; end: within its patience; bound: one
	got, fds := next(t, c)
	if got != "BARRIER=1" || len(fds) != 1 {
		t.Fatalf("got %q, %v", got, fds)
	}
	select {
	case err := <-done:
		t.Errorf("it does not wait: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	_ = syscall.Close(fds[0])
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := n.Barrier(10 * time.Millisecond); err == nil {
		t.Error("the manager does nothing, and no error")
	}
	_, fds = next(t, c)
	_ = syscall.Close(fds[0])
}

func TestWithoutAManagerNobodyIsTold(t *testing.T) {
	for _, path := range []string{"", "vsock:2:1234"} {
		t.Setenv("NOTIFY_SOCKET", path)
		n := NewNotifier()
		if n != nil {
			t.Errorf("%q: got %v", path, n)
		}
		if err := errors.Join(n.Notify(Ready), n.Barrier(time.Second)); err != nil {
			t.Error(err)
		}
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "none"))
	if err := NewNotifier().Notify(Ready); err == nil {
		t.Error("nobody is there, and no error")
	}
}

func TestWatchdogIsForItsProcess(t *testing.T) {
	own := strconv.Itoa(os.Getpid())
	for _, tt := range []struct {
		usec, pid string
		want      time.Duration
	}{
		{"", "", 0},
		{"10000000", "", 10 * time.Second},
		{"10000000", own, 10 * time.Second},
		{"10000000", "1", 0},
		{"soon", own, 0},
		{"-1", own, 0},
	} {
		t.Setenv("WATCHDOG_USEC", tt.usec)
		t.Setenv("WATCHDOG_PID", tt.pid)
		if got := WatchdogInterval(); got != tt.want {
			t.Errorf("%+v: got %v", tt, got)
		}
	}
}

func TestSocketsForOthersAreLeftAlone(t *testing.T) {
	own := strconv.Itoa(os.Getpid())
	for _, tt := range []struct {
		fds, pid string
		bad      bool
	}{
		{"", "", false},
		{"2", "1", false},
		{"2", "", false},
		{"0", own, false},
		{"two", own, true},
		{"-1", own, true},
		{"1000000", own, true},
	} {
		t.Setenv("LISTEN_FDS", tt.fds)
		t.Setenv("LISTEN_PID", tt.pid)
		t.Setenv("LISTEN_FDNAMES", "a:b")
		got, err := Sockets()
		if len(got) != 0 || (err != nil) != tt.bad {
			t.Errorf("%+v: got %v, %v", tt, got, err)
		}
		for _, key := range []string{"LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"} {
			if _, ok := os.LookupEnv(key); ok {
				t.Errorf("%s is handed on to children", key)
			}
		}
	}
}

func TestNamesAreWhatTheManagerTakes(t *testing.T) {
	for text, want := range map[string]string{
		"udp-[2001:db8::1]:53":   "udp-[2001_db8__1]_53",
		"a b\x00é":               "a_b__",
		strings.Repeat("x", 300): strings.Repeat("x", 255),
	} {
		if got := Name(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
