package transport

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"shirube/internal/netx"
	"shirube/internal/wire"
)

// attackedEnv has the tests' binary be a server that others attack: in a process of
// its own, so that what it takes can be told from what they take.
const attackedEnv = "SHIRUBE_TRANSPORT_ATTACKED"

func TestMain(m *testing.M) {
	if os.Getenv(attackedEnv) == "" {
		os.Exit(m.Run()) //nolint:forbidigo // TestMain is main here
	}
	if err := beAttacked(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "attacked:", err)
		os.Exit(1) //nolint:forbidigo // as above
	}
}

// What one address of an attacker may have, and how many there are.
const (
	attackedPerClient = 16
	attackers         = 4
	attackedConns     = attackedPerClient * attackers // that they have together
	attackedTotal     = 4 * attackedConns
)

// attackedSetup is what the process is told first.
type attackedSetup struct {
	Certificate [][]byte
	Key         []byte // PKCS #8

	// Lax leaves out the limits of one client's connections, and of streams and their
	// time: for attacks that are to succeed.
	Lax bool
}

// attackedPlaces is what it says then: where it is.
type attackedPlaces struct{ UDP, TCP, DoT, DoH, DoQ, DoH3 netip.AddrPort }

// attackedState is what it says whenever it is asked.
type attackedState struct {
	Goroutines, Descriptors int
	Memory                  uint64 // octets of heap and stacks

	UDP      UDPStats
	TCP, DoT TCPStats
	DoH      DoHStats
	DoH3     DoH3Stats
	DoQ      DoQStats
	Conns    ConnsStats
	Slots    SlotsStats
}

// attackedServer is all transports, as a daemon has them.
type attackedServer struct {
	udp      *UDP
	tcp, dot *TCP
	doh      *DoH
	doh3     *DoH3
	doq      *DoQ
	conns    *Conns
	slots    *Slots
}

// beAttacked serves until in ends. A line of it asks for the state.
func beAttacked(in io.Reader, out io.Writer) error {
	lines, say := bufio.NewScanner(in), json.NewEncoder(out)
	lines.Buffer(nil, 1<<20)
	lines.Scan()
	var setup attackedSetup
	if err := json.Unmarshal(lines.Bytes(), &setup); err != nil {
		return err
	}
	s, places, err := newAttacked(setup)
	if err != nil {
		return err
	}
	if err := say.Encode(places); err != nil {
		return err
	}
	for lines.Scan() {
		if lines.Text() == "collect" {
			runtime.GC()
		}
		if err := say.Encode(s.state()); err != nil {
			return err
		}
	}
	return lines.Err()
}

// newAttacked starts the server on loopback.
func newAttacked(setup attackedSetup) (*attackedServer, attackedPlaces, error) {
	var places attackedPlaces
	cert := tls.Certificate{Certificate: setup.Certificate}
	var err error
	if cert.PrivateKey, err = x509.ParsePKCS8PrivateKey(setup.Key); err != nil {
		return nil, places, err
	}
	config := func(protocols ...string) *tls.Config {
		return &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: protocols, MinVersion: tls.VersionTLS12}
	}
	ctx, h := context.Background(), newScripted()
	at := netip.MustParseAddrPort("127.0.0.1:0")
	var sockets [3]*net.UDPConn
	var listeners [3]*net.TCPListener
	for i := range sockets {
		conns, err := netx.ListenUDP(ctx, at, 1)
		if err != nil {
			return nil, places, err
		}
		l, err := netx.ListenTCP(ctx, at)
		if err != nil {
			return nil, places, err
		}
		sockets[i], listeners[i] = conns[0], l
	}
	for i, to := range []*netip.AddrPort{&places.UDP, &places.DoQ, &places.DoH3} {
		*to = addrPort(sockets[i].LocalAddr())
	}
	for i, to := range []*netip.AddrPort{&places.TCP, &places.DoT, &places.DoH} {
		*to = addrPort(listeners[i].Addr())
	}
	const idle = 500 * time.Millisecond
	patience := 300 * time.Millisecond
	perClient, streams := attackedPerClient, 0
	if setup.Lax {
		perClient, streams, patience = attackedTotal, 10_000, time.Minute
	}
	s := &attackedServer{
		conns: NewConns(ConnsOptions{Total: attackedTotal, PerClient: perClient, Handshakes: 5}),
		slots: NewSlots(1000, 62),
	}
	s.udp = NewUDP(UDPOptions{Handler: h, Slots: s.slots, Timeout: time.Second}, sockets[0])
	stream := TCPOptions{
		Handler: h, Slots: s.slots, Timeout: time.Second, MaxConns: attackedTotal, MaxConnsPerClient: perClient,
		FirstByteTimeout: patience, MessageTimeout: patience, IdleTimeout: idle,
	}
	s.tcp = NewTCP(stream, listeners[0])
	stream.Proto = wire.DoT
	s.dot = NewTCP(stream, Secure(listeners[1], s.conns, config("dot")))
	s.doh = NewDoH(DoHOptions{
		Handler: h, Slots: s.slots, Conns: s.conns, TLS: config("h2", "http/1.1"), MaxStreams: streams,
		Timeout: time.Second, MessageTimeout: patience, IdleTimeout: idle,
	})
	s.doh.Add(listeners[2], true)
	quic := QUICOptions{
		Handler: h, Slots: s.slots, Conns: s.conns, TLS: config("doq"), MaxStreams: streams, StreamTime: patience,
		Timeout: time.Second, MessageTimeout: patience, IdleTimeout: idle,
	}
	s.doq = NewDoQ(quic)
	s.doq.Add(sockets[1])
	quic.TLS = config("h3")
	s.doh3 = NewDoH3(quic)
	s.doh3.Add(sockets[2])
	for _, t := range []interface{ Start(context.Context) }{s.udp, s.tcp, s.dot, s.doh, s.doh3, s.doq} {
		t.Start(ctx)
	}
	return s, places, nil
}

// state returns what the server takes and has seen.
func (s *attackedServer) state() attackedState {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	open, _ := os.ReadDir("/proc/self/fd") // none is none too many
	return attackedState{
		Goroutines: runtime.NumGoroutine(), Descriptors: len(open), Memory: m.HeapInuse + m.StackInuse,
		UDP: s.udp.Stats(), TCP: s.tcp.Stats(), DoT: s.dot.Stats(), DoH: s.doh.Stats(), DoH3: s.doh3.Stats(), DoQ: s.doq.Stats(),
		Conns: s.conns.Stats(), Slots: s.slots.Stats(),
	}
}

// attackedProcess is such a server, from outside.
type attackedProcess struct {
	at  attackedPlaces
	in  io.Writer
	out *json.Decoder
}

// startAttacked starts one, which ends with the test.
func startAttacked(t *testing.T, lax bool) *attackedProcess {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, "-test.run=^$")
	cmd.Env, cmd.Stderr = append(os.Environ(), attackedEnv+"=1"), os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server under attack: %v", err)
		}
	})
	cert := trusted(t).cert
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	p := &attackedProcess{in: in, out: json.NewDecoder(out)}
	if err := json.NewEncoder(in).Encode(attackedSetup{Certificate: cert.Certificate, Key: key, Lax: lax}); err != nil {
		t.Fatal(err)
	}
	if err := p.out.Decode(&p.at); err != nil {
		t.Fatal(err)
	}
	return p
}

// state asks for the state; after a garbage collection, if collected.
func (p *attackedProcess) state(t *testing.T, collected bool) (s attackedState) {
	t.Helper()
	word := "state\n"
	if collected {
		word = "collect\n"
	}
	if _, err := io.WriteString(p.in, word); err != nil {
		t.Fatal(err)
	}
	if err := p.out.Decode(&s); err != nil {
		t.Fatal(err)
	}
	return s
}
