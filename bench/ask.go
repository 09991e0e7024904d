package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// ask asks a server for the SOA record of name over UDP, and returns nil if it
// answers with one within a second. It is how bench waits for servers to be
// ready; everything else is asked by dnsperf.
func ask(ctx context.Context, server netip.Addr, name string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "udp", netip.AddrPortFrom(server, 53).String())
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return err
	}
	if _, err := conn.Write(soaQuery(name)); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	n, err := conn.Read(buf)
	if err != nil {
		return err
	}
	return checkAnswer(buf[:n])
}

// soaQuery returns a query for the SOA record of name, which ends in a dot.
func soaQuery(name string) []byte { return newQuery(0x5151, name, 6) }

// newQuery returns a query with RD set (RFC 1035 §4.1) for a name, whose last
// dot may be missing.
func newQuery(id uint16, name string, qtype uint16) []byte {
	q := []byte{byte(id >> 8), byte(id), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		if label != "" {
			q = append(q, byte(len(label)))
			q = append(q, label...)
		}
	}
	return append(q, 0, byte(qtype>>8), byte(qtype), 0, 1) // root, type, IN
}

// validates returns nil if a server says of the SOA record of name that it is
// authentic when it is asked to say so (RFC 6840 §5.7), and signed says that it
// is; or neither.
func validates(server netip.AddrPort, name string, signed bool) error {
	const ad = 0x20 // of the header's fourth octet
	query := soaQuery(name)
	query[3] |= ad
	msg, err := exchangeUDP(server, query, clientTimeout)
	if err != nil {
		return err
	}
	if err := checkAnswer(msg); err != nil {
		return err
	}
	if authentic := msg[3]&ad != 0; authentic != signed {
		return fmt.Errorf("%s: said to be authentic: %v; signed: %v", name, authentic, signed)
	}
	return nil
}

// checkAnswer returns nil for a response without error that has an answer.
func checkAnswer(msg []byte) error {
	if len(msg) < 12 || msg[2]&0x80 == 0 {
		return errors.New("not a response")
	}
	if rcode := msg[3] & 0x0f; rcode != 0 {
		return fmt.Errorf("rcode %d", rcode)
	}
	if binary.BigEndian.Uint16(msg[6:]) == 0 {
		return errors.New("no answer")
	}
	return nil
}
