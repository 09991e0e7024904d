package localsock

import (
	"net"
	"os"
	"slices"
	"testing"
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
