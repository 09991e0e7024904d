//go:build !linux

package netx

import "net"

// Steer does nothing: on this system no sockets share an address.
func Steer([]*net.UDPConn, Steering) error { return nil }
