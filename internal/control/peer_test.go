package control

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestPeersAreAdmittedByUserAndGroup(t *testing.T) {
	for _, tt := range []struct {
		allows allows
		peer   peer
		want   bool
	}{
		{allows{uid: 10, gid: -1}, peer{uid: 0}, true},
		{allows{uid: 10, gid: -1}, peer{uid: 10}, true},
		{allows{uid: 10, gid: -1}, peer{uid: 11, groups: []uint32{10}}, false},
		{allows{uid: 10, gid: -1}, peer{uid: 1<<32 - 1, groups: []uint32{1<<32 - 1}}, false}, // −1
		{allows{uid: 10, gid: 20}, peer{uid: 11, groups: []uint32{5, 20}}, true},
		{allows{uid: 10, gid: 20}, peer{uid: 20, groups: []uint32{5}}, false},
		{allows{uid: 10, gid: 0}, peer{uid: 11, groups: []uint32{0}}, true},
		{allows{uid: 10, gid: 20}, peer{uid: 11}, false},
	} {
		if got := tt.allows.admits(tt.peer); got != tt.want {
			t.Errorf("%+v admits %+v: %v", tt.allows, tt.peer, got)
		}
	}
}

func TestPeerIsWhoConnected(t *testing.T) {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socketPath(t), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	accepted, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = accepted.Close() }()
	p, err := peerOf(accepted)
	if err != nil {
		t.Fatal(err)
	}
	if int(p.pid) != os.Getpid() || int(p.uid) != os.Geteuid() || !slices.Contains(p.groups, uint32(os.Getegid())) {
		t.Errorf("%+v", p)
	}
	groups, err := os.Getgroups()
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range groups {
		if !slices.Contains(p.groups, uint32(g)) {
			t.Errorf("%+v lacks the group %d", p, g)
		}
	}
	_ = accepted.Close() // then there is no peer to be asked of
	if _, err := peerOf(accepted); err == nil {
		t.Error("a closed connection has a peer")
	}
}

// asStranger asks for the status as somebody who is not admitted to s: as another
// user if this one is root, else as himself.
func asStranger(t *testing.T, s *Server, ask func(c net.Conn)) {
	t.Helper()
	connect := func() {
		c, err := net.Dial("unix", s.opt.Path)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = c.Close() }()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second)) // a unix socket has one
		ask(c)
	}
	if os.Geteuid() != 0 {
		connect()
		return
	}
	asSomeone(t, connect)
}

// open makes s's socket one that everybody may connect to, and s one that does
// not admit this user.
func open(t *testing.T, s *Server) {
	t.Helper()
	if err := os.Chmod(s.opt.Path, 0o666); err != nil {
		t.Fatal(err)
	}
}

const getStatus = "GET /v1/status HTTP/1.1\r\nHost: shirube\r\n\r\n"

func TestStrangersAreTurnedAwayByTheKernelsWord(t *testing.T) {
	s := serve(t, func(opt *Options) { opt.UID = os.Geteuid() + 1 }, nil)
	open(t, s)
	asStranger(t, s, func(c net.Conn) {
		_, err := io.WriteString(c, getStatus)
		b, rerr := io.ReadAll(c) // the server closes
		if text := string(b); err != nil || rerr != nil || !strings.HasPrefix(text, "HTTP/1.1 403 ") || !strings.Contains(text, "control.group") || strings.Contains(text, "v9") {
			t.Errorf("%v, %v, got %s", err, rerr, text)
		}
	})
}

func TestMembersOfTheGroupAreAdmitted(t *testing.T) {
	gid := os.Getegid()
	if os.Geteuid() == 0 {
		gid = someGroup
	}
	s := serve(t, func(opt *Options) { opt.UID, opt.Group = os.Geteuid()+1, gid }, nil)
	asStranger(t, s, func(c net.Conn) { // the file mode lets the group in
		_, err := io.WriteString(c, getStatus)
		b := make([]byte, 15)
		_, rerr := io.ReadFull(c, b)
		if err != nil || rerr != nil || string(b) != "HTTP/1.1 200 OK" {
			t.Errorf("%v, %v, got %s", err, rerr, b)
		}
	})
}

// TestStrangersDoNotTakeThePlacesOfOthers opens connections as a stranger until
// they are closed on arrival, and then asks as one who may.
func TestStrangersDoNotTakeThePlacesOfOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("not root: strangers and others are the same user, who is let in or not by the gate alone")
	}
	s := serve(t, func(opt *Options) { opt.UID = os.Geteuid() + 1 }, nil)
	open(t, s)
	var conns []net.Conn
	asStranger(t, s, func(first net.Conn) {
		conns = append(conns, first)
		for range maxConnections + maxStrangers {
			c, err := net.Dial("unix", s.opt.Path)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = c.Close() }()
			conns = append(conns, c)
		}
		if os.Geteuid() == 0 {
			asked := make(chan error, 1)
			// Owner: this test. End: the answer's. Bound: one.
			go func() {
				_, err := NewClient(s.opt.Path).Do(t.Context(), http.MethodGet, "/v1/status", nil, nil)
				asked <- err
			}()
			if err := <-asked; err != nil {
				t.Error(err)
			}
		}
		closed := 0
		for _, c := range conns {
			_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)) // a unix socket has one
			if _, err := c.Read(make([]byte, 1)); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
				closed++
			}
		}
		if want := len(conns) - maxStrangers; closed != want {
			t.Errorf("%d of %d connections were closed, want %d", closed, len(conns), want)
		}
	})
}
