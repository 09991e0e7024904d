package transport

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/netx"
	"shirube/internal/wire"
)

// selfSigned returns a certificate that only its maker believes.
func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, about, about, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// startTLS starts a server whose listener yields TLS connections, behind proxies
// if there are any. It returns what clients connect by.
func startTLS(t *testing.T, opt TCPOptions, p *Proxies) (*TCP, netip.AddrPort, *tls.Config) {
	t.Helper()
	cert := selfSigned(t)
	l, err := netx.ListenTCP(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().(*net.TCPAddr).AddrPort()
	opt.Proto = wire.DoT
	s := NewTCP(unhurried(opt), tls.NewListener(p.Listener(l), &tls.Config{Certificates: []tls.Certificate{cert}}))
	s.Start(context.Background())
	shutDown(t, s)
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	return s, at, &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"}
}

func TestTCPServesWhatATLSListenerYields(t *testing.T) {
	for _, from := range []string{"", "127.0.0.0/8"} {
		p := newProxies(t)
		if from != "" {
			p = newProxies(t, from)
		}
		s, at, config := startTLS(t, TCPOptions{Handler: echo{newScripted()}}, p)
		raw := dial(t, "tcp", at)
		want := raw.LocalAddr().String()
		if from != "" {
			write(t, raw, proxyHeader(0x21, 0x21, proxyInet6))
			want = "[2001:db8::7]:4660"
		}
		c := tls.Client(raw, config)
		for id := range uint16(3) { // the same connection, idle in between
			write(t, c, frame(packQuery(t, id, "hit"), packQuery(t, id, "miss"), packQuery(t, id, "hit")))
			for range 3 {
				m := unpack(t, receiveTCP(t, c))
				if got := edeOf(t, m); m.Id != id || got != want {
					t.Errorf("proxies %q: ID %d, client %s, want %s", from, m.Id, got, want)
				}
			}
		}
		big := padded(t, 7, maxQuery+1)
		write(t, c, frame(big, packQuery(t, 8, "hit")))
		wantRcode(t, unpack(t, receiveTCP(t, c)), dns.RcodeFormatError)
		if m := unpack(t, receiveTCP(t, c)); m.Id != 8 {
			t.Errorf("ID %d", m.Id)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		eventually(t, "it is closed", func() bool { return s.Stats().Closed[ClosedByClient] == 1 })
	}
}

// A deadline that moves does not end a TLS connection, and one that comes does.
func TestTCPIdleTimeOfATLSConnection(t *testing.T) {
	t.Parallel()
	const idle = 2 * time.Second
	s, at, config := startTLS(t, TCPOptions{Handler: newScripted(), IdleTimeout: idle}, nil)
	c := tls.Client(dial(t, "tcp", at), config)
	start := time.Now()
	for time.Since(start) < idle*3/2 { // longer than the first deadline
		askTCP(t, c, 1, "hit")
		time.Sleep(idle / 10)
	}
	s.conns.each((*tcpConn).hurry)
	askTCP(t, c, 2, "hit")
	wantClosed(t, c)
	eventually(t, "it is counted", func() bool { return s.Stats().Closed[ClosedIdle] == 1 })
}

func TestTCPHandshakeHasTheFirstBytesTime(t *testing.T) {
	t.Parallel()
	s, at, config := startTLS(t, TCPOptions{Handler: newScripted(), FirstByteTimeout: 2 * time.Second}, nil)
	silent, shaken := dial(t, "tcp", at), tls.Client(dial(t, "tcp", at), config)
	if err := shaken.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantClosed(t, silent)
	wantClosed(t, shaken)
	eventually(t, "they are counted", func() bool { return s.Stats().Closed[ClosedFirstByte] == 2 })
}
