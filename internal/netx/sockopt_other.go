//go:build !linux

package netx

import (
	"errors"
	"net/netip"
)

// canShare: what other systems call SO_REUSEPORT mostly gives all datagrams to
// one of the sockets.
const canShare = false

func prepareUDP(int, netip.Addr, bool) error { return nil }

func setShared(int) error { return nil }

func setFree(int, netip.Addr) error {
	return errors.New("to listen on an address that is not there needs Linux")
}
