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
	"strings"
	"sync"

	"github.com/miekg/dns"

	"shirube/internal/netx"
)

func echoFlags(fs *flag.FlagSet, set *settings) {
	fs.StringVar(&set.listen, "listen", "127.0.0.1:5354", "`address` and port")
	count(fs, &set.threads, "threads", 2, 1, 64, "sockets, each with a reader")
}

// echo answers all queries over UDP alike until ctx is done: with a record that has
// nothing to do with the name but its length. It neither looks anything up nor decides
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
	b := netx.NewBatch(c, netx.BatchOptions{MaxMessage: 512, GiveWay: true})
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

// The echo's answers: a record for the name of the question (RFC 1035 §4.1.3, with
// the pointer of §4.1.4), with a TTL of a day, as long as the laboratory's of the same
// type. Answers of one length would leave together (UDP_SEGMENT) where a server's
// cannot, and what they take would be no measure of what a server can reach.
var (
	echoA    = echoRecord(dns.TypeA, "\xc6\x12\x00\x01")
	echoAAAA = echoRecord(dns.TypeAAAA, "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01")
	echoMX   = echoRecord(dns.TypeMX, "\x00\x0a\x06target\xc0\x0c")
	echoTXT  = echoRecord(dns.TypeTXT, "\x1ev=spf1 ip4:198.18.100.200 -all")
	// echoRRSIG is as long as a signature with ECDSA P-256. It signs nothing.
	echoRRSIG = echoRecord(dns.TypeRRSIG, strings.Repeat("\x00", 18)+"\x08zone0000\x03com\x00"+strings.Repeat("\x00", 64))
)

// echoOPT offers 1232 octets, and has DO (RFC 6891 §6.1.2 and §6.1.4).
const echoOPT = "\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00"

// echoRecord is a record of the name of the question.
func echoRecord(qtype uint16, data string) string {
	b := []byte{0xc0, headerSize}
	b = binary.BigEndian.AppendUint16(b, qtype)
	b = binary.BigEndian.AppendUint16(b, dns.ClassINET)
	b = binary.BigEndian.AppendUint32(b, zoneTTL)
	b = binary.BigEndian.AppendUint16(b, uint16(len(data)))
	return string(b) + data
}

// echoAnswer returns what answers a question, and how often: every other name has
// two addresses.
func echoAnswer(question []byte) (answer string, times int) {
	switch binary.BigEndian.Uint16(question[len(question)-4:]) {
	case dns.TypeAAAA:
		return echoAAAA, 1
	case dns.TypeMX:
		return echoMX, 1
	case dns.TypeTXT:
		return echoTXT, 1
	}
	var sum byte
	for _, b := range question {
		sum += b
	}
	return echoA, 1 + int(sum&1)
}

// appendEcho appends the response to a query, with a signature if it has an OPT with
// DO. Of what is no query it makes nothing.
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
	answer, answers := echoAnswer(query[headerSize:end])
	at := len(buf)
	buf = append(buf, query[:end]...)
	for range answers {
		buf = append(buf, answer...)
	}
	additional := 0
	if opt := query[end:]; len(opt) >= len(echoOPT) {
		if opt[7]&0x80 != 0 { // DO
			buf = append(buf, echoRRSIG...)
			answers++
		}
		buf = append(buf, echoOPT...)
		additional = 1
	}
	header := buf[at:]
	header[2] |= 0x80                                          // QR
	header[3] = 0x80                                           // RA, NOERROR
	binary.BigEndian.PutUint16(header[6:], uint16(answers))    // ANCOUNT
	binary.BigEndian.PutUint32(header[8:], uint32(additional)) // NSCOUNT, ARCOUNT
	return buf
}

// headerSize is the size of a message's header (RFC 1035 §4.1.1).
const headerSize = 12

func echoVersion(context.Context, string) (string, error) {
	return "echo (recvmmsg, sendmmsg and an answer for each type, in Go)", nil
}

func prepareEcho(_ context.Context, _ *lab, c *contestant) ([][]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return [][]string{{self, "echo", "-listen", c.addr.String() + ":53", "-threads", strconv.Itoa(c.threads)}}, nil
}
