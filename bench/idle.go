package main

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// idleMost is what a connection that waits may cost the server, in octets: 1
	// GiB for 100,000; idleMostDoT what an encrypted one may: 2.5 GiB for as many.
	idleMost, idleMostDoT = 10 << 10, 26 << 10
	// idlePerAddress is how many of them come from one address, for there are not
	// more ports than that in every system's range.
	idlePerAddress = 20_000
	// idleSpare are descriptors for everything but the connections.
	idleSpare = 1000
)

func idleFlags(fs *flag.FlagSet, set *settings) {
	set.peers = "shirube"
	fs.BoolVar(&set.dot, "dot", false, "over DoT instead of TCP")
	count(fs, &set.conns, "connections", 100_000, 1, 1_000_000, "connections to open; both programs need a descriptor for each (ulimit -n)")
}

// idle opens connections to Shirube, has each of them answered once, and looks at
// what it costs to keep them. It fails if that is more than idleMost each, or if
// something is left when they have gone.
func idle(ctx context.Context, dir string, set settings) error {
	if err := enoughDescriptors(set.conns); err != nil {
		return err
	}
	small := set
	small.names, small.zones = 10, 5 // one name is asked for
	l, err := startLab(ctx, dir, small)
	defer l.stop()
	if err != nil {
		return err
	}
	// Twice as many, or they would be told to hurry.
	l.limits = fmt.Sprintf("  tcp_connections: %d\n  tcp_connections_per_client: %d\n  tcp_idle_timeout: 10m\n",
		min(2*set.conns, 1_000_000), min(idlePerAddress, 2*set.conns))
	if set.dot {
		if l.identity, err = newIdentity(dir); err != nil {
			return err
		}
	}
	servers, err := startContestants(ctx, l, set)
	defer func() { stopContestants(servers) }()
	if err != nil {
		return err
	}
	c := servers[0]
	before, err := settled(ctx, c.proc)
	if err != nil {
		return err
	}
	base, err := residentBytes(c.proc.pid())
	if err != nil {
		return err
	}
	each, err := holdIdle(ctx, l, c, set.conns, base)
	if err != nil {
		return err
	}
	after, err := returnTo(ctx, c.proc, before)
	if err != nil {
		return err
	}
	fmt.Printf("after:  %s\n", after)
	most := int64(idleMost)
	if set.dot {
		most = idleMostDoT
	}
	var errs []error
	if each > most {
		errs = append(errs, fmt.Errorf("%d octets for each connection; at most %d are allowed", each, most))
	}
	if after.exceeds(before) {
		errs = append(errs, fmt.Errorf("the server leaks: it had %s and has %s", before, after))
	}
	return errors.Join(errs...)
}

// enoughDescriptors returns an error if this process, and a server that it starts,
// cannot open so many connections.
func enoughDescriptors(conns int) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if need := uint64(conns + idleSpare); limit.Cur < need {
		return fmt.Errorf("%d descriptors are allowed and %d needed: raise them (ulimit -n), or open fewer -connections", limit.Cur, need)
	}
	return nil
}

// holdIdle opens n connections, prints what the server has in memory for them, and
// closes them. It returns the octets of each, of a server that had base without.
func holdIdle(ctx context.Context, l *lab, c *contestant, n int, base int64) (each int64, err error) {
	began := time.Now()
	conns := make([]io.Closer, 0, n)
	defer func() {
		for _, c := range conns {
			_ = c.Close() // nothing is on the way
		}
	}()
	query := soaQuery(l.net.zones[0].name)
	query = append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)
	open := func(from netip.Addr) (io.Closer, error) { return openIdle(from, c.addr, query) }
	if l.identity != nil {
		config := l.shakes(c)
		config.ClientSessionCache = tls.NewLRUClientSessionCache(1) // a full handshake only once
		open = func(from netip.Addr) (io.Closer, error) { return openIdleDoT(ctx, from, c.addr, config, query) }
	}
	for i := range n {
		if ctx.Err() != nil {
			return 0, errors.New("interrupted")
		}
		from := netip.AddrFrom4([4]byte{127, 0, 2, byte(1 + i/idlePerAddress)})
		conn, err := open(from)
		if err != nil {
			return 0, fmt.Errorf("connection %d of %d: %w; the log says:\n%s", i+1, n, err, c.proc.logTail())
		}
		conns = append(conns, conn)
	}
	// Peak: with what the runtime has not collected yet.
	peak, err := residentBytes(c.proc.pid())
	if err != nil {
		return 0, err
	}
	each = (peak - base) / int64(n)
	fmt.Printf("idle:   %d connections, opened and answered once in %.1f s: %d MiB resident, %d octets each\n",
		n, time.Since(began).Seconds(), peak>>20, each)
	return each, nil
}

// openIdleDoT is openIdle over TLS.
func openIdleDoT(ctx context.Context, from, to netip.Addr, config *tls.Config, query []byte) (io.Closer, error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), Timeout: clientTimeout}
	raw, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(to, dotPort).String())
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, config)
	_, err = conn.Write(query)
	var msg []byte
	if err == nil {
		msg, err = readMessage(conn)
	}
	if err == nil {
		err = checkAnswer(msg)
	}
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	return raw, nil
}

// openIdle connects to a server from an address, asks one query and reads the
// answer. The connection is no more than a descriptor.
func openIdle(from, to netip.Addr, query []byte) (conn descriptor, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	defer func() {
		if err != nil {
			_ = unix.Close(fd)
		}
	}()
	patience := unix.Timeval{Sec: 10}
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience),
		unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1), // ports are shared among destinations
		unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()}))
	if err != nil {
		return -1, fmt.Errorf("bind to %s: %w", from, err)
	}
	if err = unix.Connect(fd, &unix.SockaddrInet4{Port: 53, Addr: to.As4()}); err != nil {
		return -1, os.NewSyscallError("connect", err)
	}
	if _, err = unix.Write(fd, query); err != nil {
		return -1, os.NewSyscallError("write", err)
	}
	msg, err := readMessage(descriptor(fd))
	if err != nil {
		return -1, err
	}
	return descriptor(fd), checkAnswer(msg)
}

// readMessage reads a message with its length before it (RFC 1035 §4.2.2).
func readMessage(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	msg := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, msg)
	return msg, err
}

// descriptor is an open socket.
type descriptor int

// Read implements [io.Reader].
func (d descriptor) Read(b []byte) (int, error) {
	n, err := unix.Read(int(d), b)
	for err == unix.EINTR { // Go interrupts its threads
		n, err = unix.Read(int(d), b)
	}
	if n == 0 && err == nil {
		err = io.EOF
	}
	return max(n, 0), err
}

// Close implements [io.Closer].
func (d descriptor) Close() error { return unix.Close(int(d)) }
