package lab

import (
	"fmt"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestConnectionEndsWhenIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, conn := net.Pipe()
		defer client.Close()
		ended := make(chan time.Duration, 1)
		began := time.Now()
		go func() { // ends when serveConn does; waited for below
			(&server{}).serveConn(conn)
			conn.Close()
			ended <- time.Since(began)
		}()
		if got := <-ended; got != idleTimeout {
			t.Errorf("ended after %v, want %v", got, idleTimeout)
		}
	})
}

func TestNoIPv6IsToldFromOtherErrors(t *testing.T) {
	for err, want := range map[error]bool{
		syscall.EAFNOSUPPORT:  true,
		syscall.EADDRNOTAVAIL: true,
		syscall.EADDRINUSE:    false,
		nil:                   false,
	} {
		wrapped := err
		if err != nil {
			wrapped = fmt.Errorf("listen: %w", err)
		}
		if got := noIPv6(wrapped); got != want {
			t.Errorf("%v: got %v", err, got)
		}
	}
}
