package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// shakers is how many clients shake hands at once.
const shakers = 8

// handshakes counts connections of DoT that each shake hands, in full or with a
// session that is resumed, ask one query, and end.
func handshakes(resume bool) loadRun {
	return func(ctx context.Context, _ *encryptedLoad, l *lab, s *contestant, length time.Duration) (*encryptedTally, error) {
		query := soaQuery(l.net.zones[0].name)
		query = append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)
		to := netip.AddrPortFrom(s.addr, dotPort).String()
		return shakeAll(ctx, length, func() func(context.Context) error {
			config := l.shakes(s)
			if resume {
				config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
			}
			known := false
			return func(ctx context.Context) error {
				resumed, err := shake(ctx, to, config, query)
				if err == nil && resume && known && !resumed {
					err = errors.New("a session was not resumed")
				}
				known = true
				return err
			}
		})
	}
}

// shakeAll has shakers shake hands over and over, each in the way that newShaker
// returns.
func shakeAll(ctx context.Context, length time.Duration, newShaker func() func(context.Context) error) (*encryptedTally, error) {
	before, until := selfTime(), time.Now().Add(length)
	var done atomic.Int64
	errs := make([]error, shakers)
	var wg sync.WaitGroup
	for i := range shakers {
		// Owner: shakeAll. Ends with the time, or the first failure. Bound: shakers.
		wg.Go(func() {
			for shake := newShaker(); ctx.Err() == nil && errs[i] == nil && time.Now().Before(until); {
				if errs[i] = shake(ctx); errs[i] == nil {
					done.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return &encryptedTally{done: done.Load(), driver: selfTime() - before}, cmp.Or(errs...)
}

// shakes returns how clients of DoT shake hands with s.
func (l *lab) shakes(s *contestant) *tls.Config {
	return &tls.Config{
		RootCAs: l.identity.Pool(), ServerName: s.addr.String(), NextProtos: []string{"dot"}, MinVersion: tls.VersionTLS13,
		CurvePreferences: []tls.CurveID{tls.X25519}, // what all of them have
	}
}

// shake asks a query on a connection of its own.
func shake(ctx context.Context, to string, config *tls.Config, query []byte) (resumed bool, err error) {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", to)
	if err != nil {
		return false, err
	}
	defer raw.Close()
	_ = raw.(*net.TCPConn).SetLinger(0) // or there would soon be no ports left
	if err := raw.SetDeadline(time.Now().Add(clientTimeout)); err != nil {
		return false, err
	}
	conn := tls.Client(raw, config)
	if _, err := conn.Write(query); err != nil {
		return false, err
	}
	msg, err := readMessage(conn)
	if err != nil {
		return false, err
	}
	return conn.ConnectionState().DidResume, checkAnswer(msg)
}

// selfTime returns the CPU time that this process has used.
func selfTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
