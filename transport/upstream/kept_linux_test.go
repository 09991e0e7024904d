package upstream

import (
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// keepingPort returns a port that a kept socket of c can have.
func keepingPort(t *testing.T, c *Client, family int) uint16 {
	t.Helper()
	p, err := c.pollers.get()
	if err != nil {
		t.Fatal(err)
	}
	for range 10_000 {
		if port, _ := drawPortAndID(); p.kept.keeps(family, port) {
			return port
		}
	}
	t.Fatalf("no port is kept, of %+v", p.kept.ports)
	return 0
}

func TestSocketIsUsedAgainFromThePortThatWasDrawn(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		from := make(chan netip.AddrPort, 1)
		server := serveUDP(t, host, func(d datagram) { from <- d.from; d.reply(good(d.query)) })
		c := newClient(t, Options{})
		family := familyOf(server)
		var drawn uint16
		c.draw = func() (port, id uint16) {
			drawn = keepingPort(t, c, family)
			_, id = drawPortAndID()
			return drawn, id
		}
		fds := 0
		const queries = 100
		for i := range queries {
			exchangeOK(t, c, request(server))
			if got := (<-from).Port(); got != drawn {
				t.Errorf("%s: asked from port %d, drew %d", host, got, drawn)
			}
			if i == 0 {
				fds = descriptors(t)
			}
		}
		if got := c.Stats(); got.Sockets.Kept != 1 || got.Sockets.Reused != queries-1 {
			t.Errorf("%s: %+v", host, got)
		}
		settles(t, "descriptors after all queries to "+host, fds, func() int { return descriptors(t) })
	}
}

// A port that no kept socket can have is had by one that is not kept.
func TestSocketBesideTheSystemsPortsIsNotKept(t *testing.T) {
	from := make(chan netip.AddrPort, 1)
	server := serveUDP(t, "127.0.0.1", func(d datagram) { from <- d.from; d.reply(good(d.query)) })
	c := newClient(t, Options{})
	p, err := c.pollers.get()
	if err != nil {
		t.Fatal(err)
	}
	var drawn uint16
	c.draw = func() (port, id uint16) {
		for {
			if drawn, id = drawPortAndID(); !p.kept.keeps(0, drawn) {
				return drawn, id
			}
		}
	}
	if p.kept.ports[0] == (portRange{1024, 65535}) { // then there is none
		p.kept.ports[0].last = 60999
	}
	for range 10 {
		exchangeOK(t, c, request(server))
		if got := (<-from).Port(); got != drawn {
			t.Errorf("asked from port %d, drew %d", got, drawn)
		}
	}
	if got := c.Stats().Sockets; got != (Sockets{}) {
		t.Errorf("%+v", got)
	}
}

func TestSocketBringsNothingToTheNextQuery(t *testing.T) {
	late := make(chan datagram, 1)
	first := serveUDP(t, "127.0.0.1", func(d datagram) {
		d.reply(good(d.query))
		for range maxLeftovers / 2 {
			d.reply(good(d.query)) // nobody reads these
		}
		late <- d
	})
	second := serveUDP(t, "127.0.0.1", replies(good))
	c := newClient(t, Options{TCPOnMismatch: true})
	port := keepingPort(t, c, 0)
	c.draw = func() (uint16, uint16) { _, id := drawPortAndID(); return port, id }
	for i, server := range []netip.AddrPort{first, second, first, first, second} {
		exchangeOK(t, c, request(server))
		if server == first {
			d := <-late
			d.reply(good(d.query)) // to a port that is nobody's now
		}
		if got := c.Stats(); got.Dropped != (Dropped{}) || got.TCP != (Sent{}) || got.Answers != uint64(i+1) {
			t.Fatalf("after %d queries: %+v", i+1, got)
		}
	}
	if got := c.Stats().Sockets; got.Kept != 1 {
		t.Errorf("%+v", got)
	}
}

func TestSocketThatIsFloodedIsNotKept(t *testing.T) {
	flooded := make(chan struct{})
	server := serveUDP(t, "127.0.0.1", func(d datagram) {
		for range 2 * maxLeftovers {
			d.reply(d.query)
		}
		close(flooded)
	})
	c := newClient(t, Options{})
	port := keepingPort(t, c, 0)
	p, err := c.pollers.get()
	if err != nil {
		t.Fatal(err)
	}
	s := &newScratch(1232).socket
	if op, err := s.open(p, server, port); err != nil {
		t.Fatal(op, err)
	}
	if op, err := s.send([]byte("anything")); err != nil {
		t.Fatal(op, err)
	}
	<-flooded
	s.close()
	if got := c.Stats().Sockets; got != (Sockets{}) {
		t.Errorf("%+v", got)
	}
	if p.inUse.has(port) {
		t.Error("the port is in use still")
	}
}

func TestNoMoreThanMaxKeptSocketsAreKept(t *testing.T) {
	var k kept
	made := make(map[int]bool) // what is closed makes room for the next one of the same number
	put := func(family int) {
		fd, op, err := newSocket(family)
		if err != nil {
			t.Fatal(op, err)
		}
		made[fd] = true
		k.put(fd, family)
	}
	open := func() (n int) {
		for fd := range made {
			if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
				n++
			}
		}
		return n
	}
	for i := range MaxKept + 10 {
		put(i % 2)
	}
	if n := k.count(); n != MaxKept || open() != MaxKept {
		t.Errorf("%d kept, %d open", n, open())
	}
	k.close()
	put(0) // of an exchange that ended later
	if n := k.count(); n != 0 || open() != 0 {
		t.Errorf("after close %d kept, %d open", n, open())
	}
}

func TestPortOfAQueryUnderWayIsNotAskedForAgain(t *testing.T) {
	held := make(chan datagram, 1)
	server := serveUDP(t, "127.0.0.1", func(d datagram) { held <- d })
	c := newClient(t, Options{})
	port := keepingPort(t, c, 0)
	other := port
	for other == port {
		other = keepingPort(t, c, 0)
	}
	var mu sync.Mutex
	draws := []uint16{port, port, port, other}
	c.draw = func() (uint16, uint16) {
		mu.Lock()
		defer mu.Unlock()
		next := draws[0]
		draws = draws[1:]
		return next, 7
	}
	var both sync.WaitGroup
	ask := func() {
		if _, err := c.Exchange(t.Context(), request(server)); err != nil {
			t.Error(err)
		}
	}
	both.Go(ask)
	d := <-held
	both.Go(ask)
	e := <-held
	if d.from.Port() != port || e.from.Port() != other || c.Stats().PortTaken != 2 {
		t.Errorf("asked from %v and %v, drew %d and %d; %d in vain", d.from, e.from, port, other, c.Stats().PortTaken)
	}
	d.reply(good(d.query))
	e.reply(good(e.query))
	both.Wait()
}

// The kernel takes a millisecond to say that a port is another's.
func TestPortsOfOthersAreSearchedForSeldom(t *testing.T) {
	var k kept
	f := &k.foreign
	k.ports[0] = portRange{1024, 65535}
	start := time.Now()
	f.found(4000, start)
	for i := range 2 * maxSearches { // in the list: they cost no search
		f.note(uint16(5000+i), start)
	}
	if k.keeps(0, 4000) || !k.keeps(0, 4001) || k.keeps(0, 5000) || f.searches.Load() != 1 {
		t.Errorf("%d searches", f.searches.Load())
	}
	for i := range maxSearches - 1 {
		f.found(uint16(6000+i), start)
	}
	if k.keeps(0, 4001) {
		t.Error("a port is asked for so after many searches")
	}
	f.forgetAt.Store(start.Add(-time.Second).UnixNano()) // a minute later
	if !k.keeps(0, 4000) || !k.keeps(0, 4001) || !k.keeps(0, 5000) || f.searches.Load() != 0 {
		t.Errorf("%d searches are remembered for longer", f.searches.Load())
	}
}

func TestPortOfAnotherProcessIsNoted(t *testing.T) {
	var port uint16
	c := newClient(t, Options{})
	p, err := c.pollers.get()
	if err != nil {
		t.Fatal(err)
	}
	for { // one of the system's range, which need not be that of kept sockets in every family
		conn, err := net.ListenUDP("udp4", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if port = conn.LocalAddr().(*net.UDPAddr).AddrPort().Port(); p.kept.keeps(0, port) {
			break
		}
	}
	s := &newScratch(1232).socket
	op, err := s.open(p, netip.MustParseAddrPort("127.0.0.1:53"), port)
	if op != "bind" || err != unix.EADDRINUSE { //nolint:errorlint // as it comes
		t.Errorf("%s: %v", op, err)
	}
	if p.kept.keeps(0, port) || p.inUse.has(port) {
		t.Error("the port is not noted as another's, or as ours")
	}
	if op, err = s.open(p, netip.MustParseAddrPort("127.0.0.1:53"), port); op != "bind" || err != unix.EADDRINUSE { //nolint:errorlint // as it comes
		t.Errorf("a second time: %s: %v", op, err)
	}
}
