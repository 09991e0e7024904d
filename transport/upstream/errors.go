package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"

	"shirube/internal/exchange"
	"shirube/internal/wire"
)

// ErrBusy reports that [Options].MaxInFlight exchanges were under way, or
// [Options].Connections connections in use.
var ErrBusy = errors.New("too many exchanges at once")

// ErrNoPort reports that each port drawn for a query was taken.
var ErrNoPort = errors.New("no free source port")

// ErrClosed reports a question after [Client.Close], or during it.
var ErrClosed = errors.New("the client is closed")

// ErrRequest reports a request that cannot be sent to anyone.
var ErrRequest = errors.New("bad request")

// errStrays ends an exchange that dropped maxStrays datagrams and got another.
// To who asked it is a server that did not answer.
var errStrays = fmt.Errorf("%w: too many replies that do not match", exchange.ErrTimeout)

// Error is a failure of one exchange.
type Error struct {
	Op       string // what was being done: bind, connect, handshake, send, receive, parse
	Over     wire.Proto
	Server   netip.AddrPort
	Question wire.Question
	Err      error
}

// Error implements error.
func (e *Error) Error() string {
	return "ask " + e.Server.String() + " for " + e.Question.String() + " over " + e.Over.String() + ": " + e.Op + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// error returns err with what was being done, and to whom.
func (a *attempt) error(op string, err error) error {
	return &Error{Op: op, Over: a.over(), Server: a.req.Server, Question: a.req.Question, Err: err}
}

// fail counts the network's error err and returns what to report for it.
func (a *attempt) fail(ctx context.Context, op string, err error) error {
	if ended := ended(ctx); ended != nil {
		return ended
	}
	if errors.Is(err, ErrBusy) {
		a.client.complain(err)
		return a.error(op, err)
	}
	if errors.Is(err, ErrClosed) {
		return a.error(op, err)
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		a.client.count.timeouts.Add(1)
		return a.error(op, exchange.ErrTimeout)
	}
	kind := kindOf(err)
	a.client.count.failures[kind].Add(1)
	err = a.error(op, err)
	if kind == exhausted || kind == untrusted {
		a.client.complain(err)
	}
	return err
}

// malformed counts an answer that cannot be parsed and returns what to report
// for it.
func (a *attempt) malformed(err error) error {
	a.client.count.malformed.Add(1)
	return a.error("parse", err)
}

// ended returns why ctx is over, or nil. A socket whose deadline is the
// context's can wake before the context does, so the clock is asked too.
func ended(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return nil
}

// failure is a kind of error of the network.
type failure uint8

// The failures.
const (
	otherFailure failure = iota
	refused              // an ICMP error, or a reset for an answer to a SYN
	unreachable          // no route, or no address of this machine's to use it
	closed               // the server ended the connection
	untrusted            // the server could not prove who it is
	exhausted            // this machine has no descriptors, memory or ports left
	numFailures          // how many there are
)

// kindOf returns which failure err is.
func kindOf(err error) failure {
	if errors.Is(err, ErrNoPort) {
		return exhausted
	}
	if errors.Is(err, io.EOF) || errors.Is(err, errGone) {
		return closed
	}
	if errors.Is(err, errNotHTTP2) {
		return untrusted
	}
	if _, bad := errors.AsType[*tls.CertificateVerificationError](err); bad || errors.Is(err, errPins) {
		return untrusted
	}
	errno, _ := errors.AsType[syscall.Errno](err)
	switch errno {
	case syscall.ECONNREFUSED:
		return refused
	case syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EHOSTDOWN, syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT:
		return unreachable
	case syscall.ECONNRESET, syscall.EPIPE:
		return closed
	case syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM:
		return exhausted
	}
	return otherFailure
}
