package dnstap

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// golangDnstap builds golang-dnstap's own program, which collects dnstap too.
func golangDnstap(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "dnstap")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/dnstap/golang-dnstap/dnstap").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// TestGolangDnstapTakesEveryFrame has the reference's own collector write what it
// is sent, over each kind of connection. It speaks no TLS: that ends before it.
func TestGolangDnstapTakesEveryFrame(t *testing.T) {
	program, socket := golangDnstap(t), socketPath(t)
	open, secure := listenAt(t).String(), listenAt(t).String()
	front, conf := endTLS(t, secure)
	for _, tt := range []struct {
		name   string
		args   []string
		stream Stream
	}{
		{"unix", []string{"-u", socket}, Stream{Network: "unix", Address: socket}},
		{"TCP", []string{"-l", open}, Stream{Network: "tcp", Address: open}},
		{"TLS", []string{"-l", secure}, Stream{Network: "tcp", Address: front, TLS: conf}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "out")
			cmd := exec.CommandContext(t.Context(), program, append(tt.args, "-w", file)...)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			const n = 20_000
			tap := start(t, Options{Outputs: []Output{{Stream: &tt.stream, Filter: all(), QueueSize: 64 << 20}}})
			emitMany(tap, n)
			waitFor(t, tap, "sent", func(s OutputStats) bool { return s.Sent == n })
			shut(t, tap)
			// Its writer has a buffer, and when it is interrupted it leaves that and what
			// is in its two channels, of 32 frames each (outputChannelSize).
			const left = 2*32 + 4096/100
			got := 0
			for until := time.Now().Add(patience); got < n-left; time.Sleep(10 * time.Millisecond) {
				frames, err := readSoFar(t, file)
				if got = len(frames); time.Now().After(until) {
					t.Fatalf("%d frames came of %d: %v\n%s", got, n, err, stderr.String())
				}
			}
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // it is told by signal
			if frames, _ := readSoFar(t, file); len(frames) > n {
				t.Errorf("%d frames came of %d", len(frames), n)
			}
		})
	}
}

// endTLS listens with TLS and hands what it decrypts to an address, until the test
// ends. It returns where, and what clients have to know.
func endTLS(t *testing.T, to string) (at string, client *tls.Config) {
	t.Helper()
	server := httptest.NewUnstartedServer(nil) // for its certificate
	server.StartTLS()
	t.Cleanup(server.Close)
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: server.TLS.Certificates, MinVersion: tls.VersionTLS13})
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { // ends with ln
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { join(conn, to) }) // ends with conn
		}
	})
	t.Cleanup(func() { _ = ln.Close(); serving.Wait() })
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return ln.Addr().String(), &tls.Config{RootCAs: roots, ServerName: "example.com", MinVersion: tls.VersionTLS13}
}

// join hands on what comes on conn to an address, and back.
func join(conn net.Conn, to string) {
	defer conn.Close()
	next, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer next.Close()
	var back sync.WaitGroup
	back.Go(func() { // ends with the connections
		_, _ = io.Copy(conn, next)
		_ = conn.Close()
	})
	_, _ = io.Copy(next, conn)
	_ = next.Close()
	back.Wait()
}
