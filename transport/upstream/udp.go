package upstream

import (
	"context"
	"errors"
	"syscall"
	"time"

	"shirube/internal/exchange"
)

// udp asks over UDP. The error is errTruncated when the answer is.
//
// An ICMP error that the kernel found to be about this very socket ends the
// attempt at once: a server that is down costs a round trip and not a timeout.
// To forge one takes the source port, as a forged answer does, and it wins less:
// one attempt fails, and the resolver asks the next server. Unbound decides
// alike. "Fragmentation needed" is the exception: it says nothing that matters
// here, and anybody on the path of an earlier packet has reason to send it.
func (a *attempt) udp(ctx context.Context) (exchange.Response, error) {
	q, sent, err := a.send(ctx)
	if err != nil {
		return exchange.Response{}, err
	}
	s := &a.scratch.socket
	defer s.close()
	if err := s.wakeAt(sent.Add(a.req.Timeout)); err != nil {
		return exchange.Response{}, a.fail(ctx, "receive", err)
	}
	// One goroutine at most, of context's, that ends at once: it only moves the
	// deadline. A deadline of ctx's comes to us the same way. It may still run
	// when the socket's memory is used again, so it has the file and not s.
	file := s.file
	defer context.AfterFunc(ctx, func() {
		file.SetReadDeadline(longAgo) //nolint:errcheck // fails when closed, and is not needed then
	})()

	msg, err := a.await(s, q)
	rtt := time.Since(sent)
	switch {
	case errors.Is(err, errStrays):
		a.client.count.gaveUp.Add(1)
		return exchange.Response{}, a.error("receive", err)
	case err != nil:
		return exchange.Response{}, a.fail(ctx, "receive", err)
	case truncated(msg):
		a.client.count.truncated.Add(1)
		return exchange.Response{}, errTruncated
	}
	m, err := parse(msg)
	if err != nil {
		return exchange.Response{}, a.malformed(err)
	}
	a.client.count.answers.Add(1)
	return exchange.Response{Msg: m, RTT: rtt}, nil
}

// send draws port and ID and sends the query from there. A port that is taken
// is drawn again; the kernel is not asked to choose one, as it would from half
// of the range, and by rules of its own.
func (a *attempt) send(ctx context.Context) (q query, sent time.Time, err error) {
	for range maxPortDraws {
		port, id := a.client.draw()
		q = a.scratch.build(&a.req, id, a.client.ednsSize)
		sent = time.Now()
		op, err := a.scratch.socket.send(a.req.Server, port, q.msg)
		if op == "bind" && errors.Is(err, syscall.EADDRINUSE) {
			a.client.count.portTaken.Add(1)
			continue
		}
		if err != nil {
			return q, sent, a.fail(ctx, op, err)
		}
		a.client.count.udp[a.family()].Add(1)
		return q, sent, nil
	}
	return q, sent, a.fail(ctx, "bind", ErrNoPort)
}

// longAgo is a deadline that is over.
var longAgo = time.Unix(1, 0)

// receiver is what await waits on: a [socket], but in tests.
type receiver interface {
	// receive returns the length of a datagram, of which buf gets what fits,
	// and whether it came from the server.
	receive(buf []byte) (n int, fromServer bool, err error)
}

// await returns the reply to q, in the attempt's memory. Up to maxStrays
// datagrams that are no reply to it do not end the wait: the next one may be.
func (a *attempt) await(from receiver, q query) ([]byte, error) {
	in := a.scratch.in[:q.limit+1]
	for range 1 + maxStrays {
		n, fromServer, err := from.receive(in)
		if errors.Is(err, syscall.EMSGSIZE) { // RFC 9715 §3.1
			a.client.count.icmp.Add(1)
			continue
		}
		if err != nil {
			return nil, err
		}
		a.took(n)
		a.client.count.received.Add(1)
		var v verdict
		switch {
		case !fromServer:
			v = wrongSource
		case n > q.limit:
			v = tooLong
		default:
			v = q.judge(in[:n])
		}
		if v == matches {
			return in[:n], nil
		}
		a.client.count.dropped[v].Add(1)
	}
	return nil, errStrays
}
