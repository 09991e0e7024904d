//go:build linux

package transport

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// segmentsIn returns how many segments with data have come to c. On loopback each
// write makes one, if it is no longer than 64 KiB.
func segmentsIn(t *testing.T, c net.Conn) int {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var info *unix.TCPInfo
	if ctlErr := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); ctlErr != nil {
		t.Fatal(ctlErr)
	}
	if err != nil {
		t.Fatal(err)
	}
	return int(info.Data_segs_in)
}

// As TestTCPAnswersPipelinedHitsInOneWrite, but on a connection that is read and
// written at the least cost.
func TestTCPAnswersWhatOneReadBroughtInOneSegment(t *testing.T) {
	_, at := startTCP(t, TCPOptions{Handler: newScripted()}, "127.0.0.1:0")
	c := dial(t, "tcp", at)
	for _, n := range []int{1, 10, 60} {
		var all [][]byte
		for id := range n {
			all = append(all, packQuery(t, uint16(id), "hit"))
		}
		stream := frame(all...)
		if len(stream) > prefixLen+maxQuery {
			t.Fatalf("%d queries are %d octets: more than one read", n, len(stream))
		}
		before := segmentsIn(t, c)
		write(t, c, stream)
		for id := range n {
			if m := unpack(t, receiveTCP(t, c)); m.Id != uint16(id) {
				t.Errorf("ID %d, not %d", m.Id, id)
			}
		}
		if got := segmentsIn(t, c) - before; got != 1 {
			t.Errorf("%d queries were answered in %d segments", n, got)
		}
	}
}
