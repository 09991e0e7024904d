package control

import (
	"bufio"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// estate is an [Estate] that notes what became of it.
type estate struct {
	mu  sync.Mutex
	was []string
}

func (e *estate) note(what string) func() {
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.was = append(e.was, what)
	}
}

func (e *estate) noted() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.was)
}

// left is one with sockets.
func (e *estate) left(sockets ...Inherited) *Estate {
	return &Estate{Sockets: sockets, Serve: e.note("serve"), Leave: e.note("leave"), Keep: e.note("keep")}
}

// pair returns both ends of a connection.
func pair(t *testing.T) (server, heir *net.UnixConn) {
	t.Helper()
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "end")
		c, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close() // c has a duplicate
		ends[i] = c.(*net.UnixConn)
		t.Cleanup(func() { _ = c.Close() })
	}
	return ends[0], ends[1]
}

// TestHeirGetsTheSocketsAndThePlace goes through a whole hand-over.
func TestHeirGetsTheSocketsAndThePlace(t *testing.T) {
	one, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = one.Close() }()
	var e estate
	backend := fake()
	backend.HandOver = func(pid int) (*Estate, error) {
		if pid != os.Getpid() {
			t.Errorf("process %d is said to ask, not %d", pid, os.Getpid())
		}
		return e.left(Inherited{"udp-one", one.(*net.UDPConn)}), nil
	}
	path := serve(t, func(o *Options) { o.Backend = backend }, nil).Path()
	h, err := Inherit(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	got := 0
	if err := h.Sockets(func(name string, fd int) {
		got++
		at, err := syscall.Getsockname(fd)
		if a, ok := at.(*syscall.SockaddrInet4); err != nil || !ok || name != "udp-one" || a.Port != one.LocalAddr().(*net.UDPAddr).Port {
			t.Errorf("%s is %+v, %v", name, at, err)
		}
		_ = syscall.Close(fd)
	}); err != nil || got != 1 {
		t.Fatalf("%d sockets, %v", got, err)
	}
	if err := errors.Join(h.Serve(), h.Leave(), h.Close()); err != nil {
		t.Error(err)
	}
	if got := e.noted(); !slices.Equal(got, []string{"serve", "leave"}) {
		t.Errorf("it was %q", got)
	}
}

// TestHeirThatSaysNothingIsGivenUp, one that says something else, and one that
// goes at any time.
func TestHeirThatSaysNothingIsGivenUp(t *testing.T) {
	for name, tt := range map[string]struct {
		says string
		want []string
	}{
		"nothing":                         {"", []string{"keep"}},
		"something else":                  {"socks\n", []string{"keep"}},
		"a line without end":              {strings.Repeat("x", 8192), []string{"keep"}},
		"that it leaves before it serves": {"next\nleave\n", []string{"keep"}},
		"that it serves, and no more":     {"next\nserve\n", []string{"serve", "keep"}},
	} {
		server, heir := pair(t)
		go func() { // owner: this test; end: when all is written; bound: one for each row
			_, _ = heir.Write([]byte(tt.says))
			if tt.says != "" {
				_ = heir.CloseWrite()
			}
		}()
		if tt.says == "" {
			_ = server.SetDeadline(time.Now().Add(time.Millisecond)) // handOverTime in earnest
		}
		var e estate
		if err := bequeath(server, bufio.NewReader(server), e.left()); err == nil {
			t.Errorf("%s: no error", name)
		}
		if got := e.noted(); !slices.Equal(got, tt.want) {
			t.Errorf("%s: it was %q, want %q", name, got, tt.want)
		}
	}
}

// TestHeirHearsNothingElse: what is not the answer to what it said is an error.
func TestHeirHearsNothingElse(t *testing.T) {
	for _, says := range []string{"serve\n", "next", "next one\n", "next " + strings.Repeat("x", 2*maxWords) + "\n", "\n"} {
		server, heir := pair(t)
		if _, err := server.Write([]byte(says)); err != nil {
			t.Fatal(err)
		}
		if err := (&Heir{heir}).Sockets(func(name string, _ int) { t.Errorf("%q: it is given %s", says, name) }); err == nil {
			t.Errorf("%q: no error", says)
		}
	}
}

func TestInheritSaysWhyItCannot(t *testing.T) {
	dir := t.TempDir()
	if _, err := Inherit(t.Context(), filepath.Join(dir, "none")); !errors.Is(err, ErrNobody) {
		t.Errorf("without a server: %v", err)
	}
	path := serve(t, nil, nil).Path()
	if _, err := Inherit(t.Context(), path); err == nil || errors.Is(err, ErrNobody) || !strings.Contains(err.Error(), "the server is stopping") {
		t.Errorf("one that refuses: %v", err)
	}
	// And it is no request of HTTP like others.
	if _, err := NewClient(path).Do(t.Context(), "POST", handOverPath, nil, nil); err == nil || !strings.Contains(err.Error(), "--take-over") {
		t.Errorf("without the upgrade of the connection: %v", err)
	}
	if _, err := NewClient(path).Do(t.Context(), "GET", handOverPath, nil, nil); err == nil || !strings.Contains(err.Error(), "expected POST") {
		t.Errorf("with another method: %v", err)
	}
}

func TestRetireAnswersWhatIsUnderWay(t *testing.T) {
	backend, begun, goOn := fake(), make(chan struct{}), make(chan struct{})
	backend.Upgrade = func(context.Context) (int, error) {
		close(begun)
		<-goOn
		return 7, nil
	}
	s, err := New(Options{Path: socketPath(t), Group: -1, UID: os.Geteuid(), Backend: backend})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.Start()
	answered := make(chan error, 1)
	go func() { // owner: this test; end: the answer; bound: one
		_, err := NewClient(s.Path()).Do(context.Background(), "POST", upgradePath, nil, nil)
		answered <- err
	}()
	<-begun
	close(goOn)
	if err := s.Retire(); err != nil {
		t.Error(err)
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(s.Path()); err == nil {
		t.Error("the socket is left")
	}
}
