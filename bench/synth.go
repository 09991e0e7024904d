package main

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"shirube/internal/netx"
	"shirube/internal/wire"
)

// synth is an authority that makes its answers up: there is nothing to load, and
// it answers faster than any server asks.
type synth struct {
	conns   []*net.UDPConn
	batches []*netx.Batch
	asked   atomic.Int64
	closing atomic.Bool
	ended   chan struct{} // closed by stop
	wg      sync.WaitGroup
}

// synthetic appends the answer to q to buf; what it returns is not longer if
// there is none.
type synthetic func(buf []byte, q *wire.Query) []byte

// maxHeld bounds the answers that a slow authority has on the way.
const maxHeld = 100_000

// startSynth starts an authority at an address, which answers after delay. The
// caller stops it.
func startSynth(ctx context.Context, addr netip.Addr, delay time.Duration, answer synthetic) (*synth, error) {
	return startSynthAt(ctx, netip.AddrPortFrom(addr, 53), delay, answer)
}

func startSynthAt(ctx context.Context, at netip.AddrPort, delay time.Duration, answer synthetic) (*synth, error) {
	conns, err := netx.ListenUDP(ctx, at, 1)
	if err != nil {
		return nil, err
	}
	s := &synth{conns: conns, ended: make(chan struct{})}
	for _, c := range conns {
		_ = c.SetReadBuffer(4 << 20) // as much as the system lets it have
		b := netx.NewBatch(c, netx.BatchOptions{MaxMessage: 512})
		s.batches = append(s.batches, b)
		var later chan held
		if delay > 0 {
			later = make(chan held, maxHeld)
			// Owner: s. End: stop. Bound: one for each socket.
			s.wg.Go(func() { s.hold(b, later) })
		}
		// Owner: s. End: stop. Bound: one for each socket.
		s.wg.Go(func() { s.run(b, delay, later, answer) })
	}
	return s, nil
}

// stop ends s.
func (s *synth) stop() {
	s.closing.Store(true)
	close(s.ended)
	for _, b := range s.batches {
		b.Interrupt()
	}
	s.wg.Wait()
	for _, c := range s.conns {
		_ = c.Close()
	}
}

// held is an answer to be sent at a time.
type held struct {
	at  time.Time
	to  netx.Return
	msg []byte
}

// hold sends answers when it is time for them.
func (s *synth) hold(b *netx.Batch, later <-chan held) {
	for {
		select {
		case h := <-later:
			select {
			case <-time.After(time.Until(h.at)):
				_ = b.Send(h.msg, h.to) // who does not get it asks again
			case <-s.ended:
				return
			}
		case <-s.ended:
			return
		}
	}
}

// run answers what comes by b until s is stopped.
func (s *synth) run(b *netx.Batch, delay time.Duration, later chan<- held, answer synthetic) {
	b.Attach()
	defer b.Detach()
	var q wire.Query
	tx := make([]byte, 0, 64<<10)
	for !s.closing.Load() {
		n, err := b.Receive()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			continue
		}
		now := time.Now()
		tx = tx[:0]
		for i := range n {
			d := b.Datagram(i)
			if q.Parse(d.Msg) != wire.OK {
				continue
			}
			s.asked.Add(1)
			start := len(tx)
			tx = answer(tx, &q)
			switch {
			case len(tx) == start:
			case later == nil:
				b.Reply(i, tx[start:])
			default:
				select {
				case later <- held{now.Add(delay), b.Return(i), append([]byte(nil), tx[start:]...)}:
				default: // as a router's queue would
				}
				tx = tx[:start]
			}
		}
		b.Flush(func(error) {}) // who does not get it asks again
	}
}

// silence is the answer of those who say nothing.
func silence(buf []byte, _ *wire.Query) []byte { return buf }

// authoritative appends the header and the question of an answer with so many
// records in its sections.
func authoritative(buf []byte, q *wire.Query, rcode wire.Rcode, answers, authorities int) []byte {
	buf = append(buf, byte(q.ID()>>8), byte(q.ID()), 0x84, byte(rcode), 0, 1, 0, byte(answers), 0, byte(authorities), 0, 0)
	return append(buf, q.RawQuestion()...)
}

// appendRecord appends a record of the name at an offset of the message.
func appendRecord(buf []byte, owner uint16, typ wire.Type, data ...[]byte) []byte {
	buf = binary.BigEndian.AppendUint16(buf, 0xC000|owner)
	buf = binary.BigEndian.AppendUint16(buf, uint16(typ))
	buf = binary.BigEndian.AppendUint16(buf, wire.ClassIN)
	buf = binary.BigEndian.AppendUint32(buf, zoneTTL)
	size := 0
	for _, d := range data {
		size += len(d)
	}
	buf = binary.BigEndian.AppendUint16(buf, uint16(size))
	for _, d := range data {
		buf = append(buf, d...)
	}
	return buf
}

// soaData is the data of an SOA record: two names that are the root, and five
// numbers.
var soaData = []byte{0, 0, 0, 0, 0, 1, 0, 0, 28, 32, 0, 0, 14, 16, 0, 18, 117, 0, 0, 0, 14, 16}

// denying returns what says of every name below zone, which has so many octets,
// that it does not exist, and of the zone's own that it has no data.
func denying(zone wire.Name) synthetic {
	return func(buf []byte, q *wire.Query) []byte {
		rcode := wire.NXDomain
		if len(q.RawName()) == len(zone) {
			rcode = wire.NoError
		}
		buf = authoritative(buf, q, rcode, 0, 1)
		return appendRecord(buf, uint16(wire.HeaderLen+len(q.RawName())-len(zone)), wire.TypeSOA, soaData)
	}
}

// delegate adds records to the root and the TLDs, by their names: see delegation.
func (n *internet) delegate(records map[string]string) {
	n.root.text += records["."]
	for i := range n.tlds {
		n.tlds[i].text += records[n.tlds[i].name]
	}
}

// delegation returns the records by which a zone with one server is delegated.
func delegation(zone string, addr netip.Addr) string {
	return record(zone, "NS", "ns."+zone) + record("ns."+zone, "A", addr.String())
}
