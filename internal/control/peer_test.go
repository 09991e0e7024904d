package control

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

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
