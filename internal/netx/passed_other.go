//go:build !unix

package netx

import (
	"errors"
	"net/netip"
)

// boundTo fails: on this system no sockets are passed.
func boundTo(int) (netip.AddrPort, bool, error) {
	return netip.AddrPort{}, false, errors.New("sockets cannot be passed on this system")
}
