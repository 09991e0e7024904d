package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"shirube/internal/localsock"
)

// access is what a request may see.
type access uint8

const (
	nothing access = iota // turned away
	probes                // whether the server is alive and ready, not why
	all
)

// admitLocal is for the unix socket.
func admitLocal(r *http.Request) access {
	if localsock.Admitted(r.Context()) {
		return all
	}
	return nothing
}

// admit is for a over TCP. Load balancers and the kubelet can show neither a
// certificate nor a token: whoever reaches the address may know whether the server
// is ready.
func (a *Address) admit(r *http.Request) access {
	if a.ClientCA != "" && !certified(r) || a.Token != "" && !shown(r, a.Token) {
		return probes
	}
	return all
}

// certified reports whether r came from a client with a certificate. One that
// nobody known has signed has not come so far.
func certified(r *http.Request) bool { return r.TLS != nil && len(r.TLS.VerifiedChains) > 0 }

// The bounds of a token, in octets. 16 random ones cannot be guessed.
const (
	minToken = 16
	maxToken = 1024
)

// readToken returns what is in a file, without the space around it. It is read
// for each request, so that it can be changed at any time.
func readToken(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(f, maxToken+1))
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if len(token) < minToken || len(text) > maxToken {
		return "", fmt.Errorf("token: %s: found %d octets; expected %d to %d", file, len(token), minToken, maxToken)
	}
	return token, nil
}

// shown reports whether r shows the token in a file: as a bearer (RFC 6750 §2.1),
// or as the password of anybody (RFC 7617), which browsers ask for.
func shown(r *http.Request, file string) bool {
	given, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		_, given, ok = r.BasicAuth()
	}
	if !ok {
		return false
	}
	token, err := readToken(file)
	if err != nil {
		return false // it was read at the start: somebody is changing it
	}
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(token)) // of the same length, whatever they are
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// tlsFiles are the files of a listener with TLS. They are read for each
// connection, of which there are few, so that they can be replaced at any time.
type tlsFiles struct{ cert, key, clientCA string }

// config returns the configuration of a listener.
func (f *tlsFiles) config() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{"http/1.1"},
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return f.load() },
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { // never: but net/http wants one
			return nil, errors.New("no certificate")
		},
	}
}

// load returns the configuration for a connection.
func (f *tlsFiles) load() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	c := &tls.Config{
		MinVersion:             tls.VersionTLS12,
		NextProtos:             []string{"http/1.1"},
		Certificates:           []tls.Certificate{cert},
		SessionTicketsDisabled: true, // a session would outlive a client's certificate
	}
	if f.clientCA == "" {
		return c, nil
	}
	text, err := os.ReadFile(f.clientCA)
	if err != nil {
		return nil, fmt.Errorf("certificates of clients: %w", err)
	}
	c.ClientAuth, c.ClientCAs = tls.VerifyClientCertIfGiven, x509.NewCertPool() // who gives none may probe
	if !c.ClientCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("certificates of clients: %s has none", f.clientCA)
	}
	return c, nil
}
