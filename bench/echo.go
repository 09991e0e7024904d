package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"net"
	"net/netip"
	"os"
	"strconv"
	"sync"

	"shirube/internal/netx"
)

func echoFlags(fs *flag.FlagSet, set *settings) {
	fs.StringVar(&set.listen, "listen", "127.0.0.1:5354", "`address` and port")
	count(fs, &set.threads, "threads", 2, 1, 64, "sockets, each with a reader")
}

// echo answers all queries over UDP alike until ctx is done: with an address that
// has nothing to do with the name. It neither looks anything up nor decides
// anything, so that what it reaches is what the machine, the kernel and
// internal/netx leave to a server.
func echo(ctx context.Context, _ string, set settings) error {
	addr, err := netip.ParseAddrPort(set.listen)
	if err != nil {
		return err
	}
	conns, err := netx.ListenUDP(ctx, addr, set.threads)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for _, c := range conns {
		if _, err := netx.SetBuffers(c, netx.Buffers{Receive: echoBuffer, Send: echoBuffer}); err != nil {
			return err
		}
		// Owner: echo. Ends when ctx closes c. One for each socket.
		wg.Go(func() { echoOn(c) })
		context.AfterFunc(ctx, func() { _ = c.Close() })
	}
	<-ctx.Done()
	return nil
}

// echoBuffer is the size of a socket's buffers in octets, as the servers have it.
const echoBuffer = 4 << 20

// echoOn answers what comes on c until it is closed.
func echoOn(c *net.UDPConn) {
	b := netx.NewBatch(c, netx.BatchOptions{MaxMessage: 512})
	b.Attach()
	defer b.Detach()
	replies := make([][]byte, netx.MaxBatch)
	for {
		n, err := b.Receive()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // ICMP for an answer that nobody waits for any more
		}
		for i := range n {
			replies[i] = appendEcho(replies[i][:0], b.Datagram(i).Msg)
			if len(replies[i]) > 0 {
				b.Reply(i, replies[i])
			}
		}
		b.Flush(func(error) {}) // the client counts what it misses
	}
}

// echoAnswer is an A record for the name of the question (RFC 1035 §4.1.3, with
// the pointer of §4.1.4), with a TTL of a day.
const echoAnswer = "\xc0\x0c\x00\x01\x00\x01\x00\x01\x51\x80\x00\x04\xc6\x12\x00\x01"

// appendEcho appends the response to a query. Of what is no query it makes
// nothing.
func appendEcho(buf, query []byte) []byte {
	if len(query) < headerSize || query[2]&0x80 != 0 {
		return buf
	}
	end := headerSize
	for end < len(query) && query[end] != 0 {
		end += int(query[end]) + 1
	}
	end += 1 + 4 // the root's label; type and class
	if end > len(query) {
		return buf
	}
	buf = append(buf, query[:end]...)
	buf[2] |= 0x80                         // QR
	buf[3] = 0x80                          // RA, NOERROR
	binary.BigEndian.PutUint16(buf[6:], 1) // ANCOUNT
	binary.BigEndian.PutUint32(buf[8:], 0) // NSCOUNT, ARCOUNT
	return append(buf, echoAnswer...)
}

// headerSize is the size of a message's header (RFC 1035 §4.1.1).
const headerSize = 12

func echoVersion(context.Context, string) (string, error) {
	return "echo (recvmmsg, sendmmsg and one answer for all, in Go)", nil
}

func prepareEcho(_ context.Context, _ *lab, c *contestant) ([][]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return [][]string{{self, "echo", "-listen", c.addr.String() + ":53", "-threads", strconv.Itoa(c.threads)}}, nil
}
