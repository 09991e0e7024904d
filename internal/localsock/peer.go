package localsock

import (
	"fmt"
	"net"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"
)

// peer is who is at the other end of a connection, by the kernel's word: as he
// was when he connected.
type peer struct {
	pid    int32
	uid    uint32
	groups []uint32 // all of them
}

// allows says who may use the socket.
type allows struct {
	uid int // the server's own
	gid int // of a group; negative: none
}

// admits reports whether p is root, the server's own user, or of the group.
func (a allows) admits(p peer) bool {
	return p.uid == 0 || int64(p.uid) == int64(a.uid) || a.gid >= 0 && slices.Contains(p.groups, uint32(a.gid))
}

// peerOf asks the kernel who is at the other end of c.
func peerOf(c *net.UnixConn) (p peer, err error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return peer{}, err
	}
	var cred *unix.Ucred
	var groups []uint32
	var credErr, groupsErr error
	err = rc.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		groups, groupsErr = peerGroups(int(fd))
	})
	switch {
	case err != nil:
		return peer{}, err
	case credErr != nil:
		return peer{}, fmt.Errorf("SO_PEERCRED: %w", credErr)
	case groupsErr != nil: // Linux before 4.13: the one group will have to do
		groups = nil
	}
	return peer{pid: cred.Pid, uid: cred.Uid, groups: append(groups, cred.Gid)}, nil
}

// maxPeerGroups is how many supplementary groups are read of a peer. With more,
// none counts: NGROUPS_MAX is 65,536, and nobody who needs that many is an
// administrator of name servers.
const maxPeerGroups = 256

// peerGroups returns the supplementary groups of the peer (SO_PEERGROUPS).
func peerGroups(fd int) ([]uint32, error) {
	var groups [maxPeerGroups]uint32
	size := uint32(unsafe.Sizeof(groups))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
		uintptr(unsafe.Pointer(&groups)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return nil, errno
	}
	return groups[:min(int(size)/4, maxPeerGroups)], nil
}
