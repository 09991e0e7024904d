package shared

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"
)

// The pace of connecting to a server that fails: the next try is not made
// before minRedial has passed, twice as much after each further failure, to
// maxRedial, with half as much up or down by chance, so that the servers of a
// fleet do not come back together.
const (
	minRedial = 50 * time.Millisecond
	maxRedial = time.Second
)

// Why no connection is made.
var (
	errPace        = errors.New("shared cache: a connection failed a moment ago")
	errConnections = errors.New("shared cache: as many connections to the server as are allowed")
)

// dialer connects to one server: no more often than it should, and no more
// often than there is use for.
type dialer struct {
	timeout time.Duration // of one operation
	most    int           // connections at once
	tls     *tls.Config   // nil: none
	auth    Auth
	refused func() // see guard
	connect func(ctx context.Context, network, address string) (net.Conn, error)

	mu    sync.Mutex
	open  int
	fails int // in a row
	next  time.Time
	dials uint64
}

// Auth is how we show who we are to memcached (its option -Y). Zero: not at all.
type Auth struct{ User, Password string }

// dial connects, as the client library asks for it.
func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	g, err := d.guarded(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return g, nil
}

// guarded is dial with the type of what it returns.
func (d *dialer) guarded(ctx context.Context, network, address string) (*guard, error) {
	if err := d.begin(time.Now()); err != nil {
		return nil, err
	}
	conn, err := d.connect(ctx, network, address)
	if err != nil {
		d.end(true)
		return nil, err
	}
	secured, err := d.greet(ctx, conn)
	if err != nil {
		_ = conn.Close() // the other error says why
		d.end(true)
		return nil, err
	}
	return &guard{Conn: secured, timeout: d.timeout, ended: d.worked, refused: d.refused, release: d.end}, nil
}

// greet has conn secured and us known, as configured.
func (d *dialer) greet(ctx context.Context, conn net.Conn) (net.Conn, error) {
	if d.tls != nil {
		secure := tls.Client(conn, d.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("shared cache: TLS: %w", err)
		}
		conn = secure
	}
	if d.auth == (Auth{}) {
		return conn, nil
	}
	if until, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(until); err != nil {
			return nil, err
		}
	}
	// memcached's doc/protocol.txt, "Authentication": a set of any key.
	value := d.auth.User + " " + d.auth.Password
	if _, err := fmt.Fprintf(conn, "set auth 0 0 %d\r\n%s\r\n", len(value), value); err != nil {
		return nil, err
	}
	// Nothing more comes, so that nothing that belongs to others is read here.
	line, err := bufio.NewReaderSize(conn, maxLine).ReadSlice('\n')
	if err != nil {
		return nil, err
	}
	if reply := strings.TrimSpace(string(line)); reply != "STORED" {
		return nil, fmt.Errorf("shared cache: the server does not know us: %q", reply)
	}
	return conn, nil
}

// begin takes the place of one connection.
func (d *dialer) begin(now time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case now.Before(d.next):
		return errPace
	case d.open >= d.most:
		return errConnections
	}
	if d.fails > 0 { // one at a time, until it works
		d.next = now.Add(d.pause())
	}
	d.open++
	d.dials++
	return nil
}

// end gives the place of a connection back.
func (d *dialer) end(failed bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open--
	if failed {
		d.fails++
		d.next = time.Now().Add(d.pause())
	}
}

// worked notes that the server has answered.
func (d *dialer) worked() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fails, d.next = 0, time.Time{}
}

// pause returns how long to wait after a failure.
func (d *dialer) pause() time.Duration {
	p := min(minRedial<<min(max(d.fails-1, 0), 8), maxRedial)
	return p/2 + rand.N(p) //nolint:gosec // chance, not a secret
}

// stats returns the connections there are, and the tries to make one.
func (d *dialer) stats() (open int, dials uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open, d.dials
}
