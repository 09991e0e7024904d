package verify

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// tlsChecks are about certificates and sessions.
func tlsChecks() []check {
	return []check{
		{name: "certificate", shows: "the certificate stays good for long enough", missing: asked("dot"), run: certificate},
		{name: "tls-version", shows: "TLS 1.1 is not spoken (RFC 8996)", missing: asked("dot"), run: oldTLS},
		{name: "doh-path", shows: "DNS over HTTPS has nothing at other paths", missing: both(needs("good", good), asked("doh")), run: dohPath},
	}
}

// handshake connects to the port of DNS over TLS.
func (p *probe) handshake(ctx context.Context, conf *tls.Config) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, p.QuestionTimeout)
	defer cancel()
	conf.NextProtos = []string{"dot"}
	d := tls.Dialer{NetDialer: &net.Dialer{}, Config: conf}
	c, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(p.target, p.Ports.TLS).String())
	if err != nil {
		return nil, err
	}
	conn, ok := c.(*tls.Conn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("a connection of type %T", c), c.Close())
	}
	return conn, conn.SetDeadline(time.Now().Add(p.QuestionTimeout))
}

func certificate(ctx context.Context, p *probe) (string, error) {
	c, err := p.handshake(ctx, p.tls.Clone())
	if err != nil {
		return "", err
	}
	defer c.Close()
	leaf := c.ConnectionState().PeerCertificates[0]
	left := time.Until(leaf.NotAfter)
	if left < p.Expect.Life {
		return "", fmt.Errorf("found one that ends at %s; expected %s of life", leaf.NotAfter.UTC().Format(time.RFC3339), p.Expect.Life)
	}
	return "until " + leaf.NotAfter.UTC().Format(time.RFC3339), nil
}

func oldTLS(ctx context.Context, p *probe) (string, error) {
	if _, err := p.answers(ctx, "DoT"); p.Questions.Good != (Question{}) && err != nil {
		return "", fmt.Errorf("nothing can be told while DoT is not there: %w", err)
	}
	conf := p.tls.Clone()
	conf.MinVersion, conf.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	c, err := p.handshake(ctx, conf)
	if err != nil {
		return "refused", nil
	}
	defer c.Close()
	return "", fmt.Errorf("found %s; expected it to be refused", tls.VersionName(c.ConnectionState().Version))
}

// dohPath asks at a path that is none of the profile's.
func dohPath(ctx context.Context, p *probe) (string, error) {
	if _, err := p.answers(ctx, "DoH by HTTP/2 POST"); err != nil {
		return "", fmt.Errorf("nothing can be told while DoH is not there: %w", err)
	}
	w := p.way("DoH by HTTP/2 POST")
	w.Path = "/" + Question{Name: randomLabel}.fill().Name
	r, err := p.ask(ctx, w, query(p.Questions.Good))
	if err == nil {
		return "", fmt.Errorf("found an answer, %s; expected none", rcode(r.Msg))
	}
	return "nothing there", nil
}

// resumes reports whether a server continues a session that another one began.
func (p *probe) resumes(ctx context.Context, other *probe) (bool, error) {
	conf := p.tls.Clone()
	conf.ServerName = p.sessionName()
	conf.ClientSessionCache = &oneSession{}
	first, err := p.handshake(ctx, conf)
	if err != nil {
		return false, err
	}
	err = askOn(first, p) // its ticket comes along with the answer
	if err = errors.Join(err, first.Close()); err != nil {
		return false, err
	}
	again, err := other.handshake(ctx, conf)
	if err != nil {
		return false, err
	}
	defer again.Close()
	return again.ConnectionState().DidResume, nil
}

// sessionName returns the name that sessions are for: the same at all instances.
func (p *probe) sessionName() string { return p.tls.ServerName }

// askOn asks the good question on a connection that is there.
func askOn(c net.Conn, p *probe) error {
	b, err := query(p.Questions.Good).Pack()
	if err != nil {
		return err
	}
	if _, err := c.Write(append([]byte{byte(len(b) >> 8), byte(len(b))}, b...)); err != nil {
		return err
	}
	m, err := readFramed(c)
	if err == nil && m.Rcode != dns.RcodeSuccess {
		err = fmt.Errorf("found %s", rcode(m))
	}
	return err
}

// oneSession is a [tls.ClientSessionCache] of one session, of whatever server.
type oneSession struct{ state *tls.ClientSessionState }

// Get implements [tls.ClientSessionCache].
func (s *oneSession) Get(string) (*tls.ClientSessionState, bool) { return s.state, s.state != nil }

// Put implements [tls.ClientSessionCache].
func (s *oneSession) Put(_ string, state *tls.ClientSessionState) { s.state = state }
