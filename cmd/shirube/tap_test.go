package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"shirube/dnstap"
	"shirube/dnstap/collector"
	"shirube/internal/lab/ca"
	"shirube/internal/porttest"
)

// tapFile writes a file of n queries and returns its path.
func tapFile(t *testing.T, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "in.fstrm")
	emit(t, dnstap.Output{File: &dnstap.File{Path: path}}, n)
	return path
}

// emit tells an output of n queries.
func emit(t *testing.T, out dnstap.Output, n int) {
	t.Helper()
	out.Filter.Sample[dnstap.ClientQuery] = 1
	tap, err := dnstap.New(dnstap.Options{Identity: "tokyo-1", Outputs: []dnstap.Output{out}})
	if err != nil {
		t.Fatal(err)
	}
	tap.Start()
	for i := range n {
		tap.Emit(i, &dnstap.Message{
			Type: dnstap.ClientQuery, Query: netip.MustParseAddrPort("192.0.2.1:4711"), QueryTime: time.Now(),
			Msg: []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x03com\x00\x00\x01\x00\x01"),
		})
	}
	if err := tap.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// runTap runs `shirube tap` and returns what it wrote.
func runTap(ctx context.Context, args ...string) (stdout, stderr string, err error) {
	c := newTapCommand()
	var out, errs bytes.Buffer
	c.SetOut(&out)
	c.SetErr(&errs)
	c.SetArgs(args)
	c.SilenceUsage, c.SilenceErrors = true, true
	err = c.ExecuteContext(ctx)
	return out.String(), errs.String(), err
}

func TestTapPrintsFiles(t *testing.T) {
	in := tapFile(t, 3)
	for format, want := range map[string]string{
		"quiet": ` CQ 192.0.2.1 UDP 33b "www.example.com." IN A`, "json": `"identity":"tokyo-1"`, "yaml": "identity: \"tokyo-1\"\n",
	} {
		out, _, err := runTap(t.Context(), "--format", format, in)
		if err != nil || strings.Count(out, want) != 3 {
			t.Errorf("%s: %v\n%s", format, err, out)
		}
	}
	file := filepath.Join(t.TempDir(), "out")
	for range 2 {
		if out, _, err := runTap(t.Context(), "-f", "json", "-o", file, in); err != nil || out != "" {
			t.Error(out, err)
		}
	}
	if text, err := os.ReadFile(file); err != nil || bytes.Count(text, []byte("\n")) != 6 {
		t.Errorf("%s %v", text, err)
	}
}

func TestTapPrintsWhatTheFilterTakes(t *testing.T) {
	in := tapFile(t, 3)
	for only, want := range map[string]int{"name:example.com type:a": 3, "name:example.org": 0, "rcode:servfail": 0} {
		if out, _, err := runTap(t.Context(), "--only", only, in); err != nil || strings.Count(out, "\n") != want {
			t.Errorf("%s: %v\n%s", only, err, out)
		}
	}
}

// TestTapTellsPrometheus asks a collector for its counts while it collects.
func TestTapTellsPrometheus(t *testing.T) {
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), porttest.Take(t)).String()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	socket, ended := filepath.Join(t.TempDir(), "s"), make(chan error, 1)
	const token = "a-token-that-nobody-guesses"
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with ctx
		_, _, err := runTap(ctx, "--format", "none", "--unix", socket, "--metrics", at, "--metrics-token", file, "--top", "1")
		ended <- err
	}()
	waitForSocket(t, socket)
	emit(t, dnstap.Output{Stream: &dnstap.Stream{Network: "unix", Address: socket}}, 5)
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o660 { // a sender was served: it has its mode
		t.Errorf("%v, %v: what clients ask is not everybody's business", info, err)
	}
	for path, want := range map[string]string{
		"/metrics":     `shirube_tap_top_name_queries{name="www.example.com."} 5`,
		"/status.json": `"top":{"names":[{"key":"www.example.com.","queries":5}],"clients":[{"key":"192.0.2.1","queries":5}]}`,
	} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		rsp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(rsp.Body)
		_ = rsp.Body.Close()
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %v\n%s", path, err, text)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// waitForSocket waits until a socket is there.
func waitForSocket(t *testing.T, path string) {
	t.Helper()
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return
		}
		if time.Now().After(until) {
			t.Fatal("no socket")
		}
	}
}

// TestTapCollectsKeepsAndSendsOn is a chain of two collectors.
func TestTapCollectsKeepsAndSendsOn(t *testing.T) {
	dir := t.TempDir()
	first, second, kept := filepath.Join(dir, "1"), filepath.Join(dir, "2"), filepath.Join(dir, "kept.fstrm")
	type ended struct {
		stderr string
		err    error
	}
	run := func(ctx context.Context, args ...string) chan ended {
		done := make(chan ended, 1)
		go func() { // ends with ctx
			_, stderr, err := runTap(ctx, args...)
			done <- ended{stderr, err}
		}()
		waitForSocket(t, args[1])
		return done
	}
	ctx2, stop2 := context.WithCancel(t.Context())
	archive := run(ctx2, "--unix", second, "--format", "none", "--write", kept, "--counts")
	ctx1, stop1 := context.WithCancel(t.Context())
	relay := run(ctx1, "--unix", first, "--format", "none", "--forward", "unix:"+second)
	const n = 1000
	emit(t, dnstap.Output{Stream: &dnstap.Stream{Network: "unix", Address: first}}, n)
	stop1()
	if e := <-relay; e.err != nil {
		t.Error(e.err, e.stderr)
	}
	stop2()
	e := <-archive
	var s collector.Stats
	if err := json.Unmarshal([]byte(e.stderr), &s); e.err != nil || err != nil || s.Frames != n || s.Output.Total().Sent != n {
		t.Errorf("%v, %v: %s", e.err, err, e.stderr)
	}
	if out, _, err := runTap(t.Context(), kept); err != nil || strings.Count(out, "\n") != n {
		t.Errorf("%v: %d lines are kept", err, strings.Count(out, "\n"))
	}
}

// Who reads files wants all of them handed on, or to know of it.
func TestTapFailsIfAFileIsNotHandedOn(t *testing.T) {
	in, dir := tapFile(t, 3), t.TempDir()
	for want, args := range map[string][]string{
		"3 messages could not be printed":                  {"-o", "/dev/full"},
		dir + "/nowhere/x: 3 of 3 frames were not taken":   {"-f", "none", "--write", dir + "/nowhere/x"},
		"unix:" + dir + "/s: 3 of 3 frames were not taken": {"-f", "none", "--forward", "unix:" + dir + "/s"},
	} {
		_, _, err := runTap(t.Context(), append(args, in)...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", args, err)
		}
	}
}

// TestTapOverTLSKnowsItsSenders has one without a certificate, and renews that of
// the collector while it runs.
func TestTapOverTLSKnowsItsSenders(t *testing.T) {
	authority, err := ca.New("ours")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	issue := func(name string) (file, key string) {
		leaf, err := authority.Issue(ca.Leaf{Names: []string{name}, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Client: true})
		if err != nil {
			t.Fatal(err)
		}
		if file, key, err = leaf.Write(dir, "collector"); err != nil {
			t.Fatal(err)
		}
		return file, key
	}
	file, key := issue("first.example")
	clientCA := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(clientCA, authority.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	at := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), porttest.Take(t)).String()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var stderr string
	ended := make(chan error, 1)
	go func() { // ends with ctx
		var err error
		_, stderr, err = runTap(ctx, "-f", "none", "--counts", "--tls", at, "--cert", file, "--key", key, "--client-ca", clientCA)
		ended <- err
	}()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.PEM())
	dial := func(certs ...tls.Certificate) (*tls.Conn, error) {
		return tls.Dial("tcp", at, &tls.Config{RootCAs: roots, Certificates: certs, MinVersion: tls.VersionTLS13})
	}
	served := func(name string) bool {
		conn, err := dial()
		if err != nil {
			return false
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := dnstap.ReadControl(conn); err == nil {
			t.Error("a sender without a certificate is heard")
		}
		return conn.ConnectionState().PeerCertificates[0].DNSNames[0] == name
	}
	waitFor := func(what string, holds func() bool) {
		t.Helper()
		for until := time.Now().Add(20 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(until) {
				t.Fatalf("it has not come true: %s", what)
			}
		}
	}
	waitFor("the collector is there", func() bool { return served("first.example") })
	issue("second.example")
	waitFor("it shows its new certificate", func() bool { return served("second.example") })
	pair, err := tls.LoadX509KeyPair(file, key)
	if err != nil {
		t.Fatal(err)
	}
	emit(t, dnstap.Output{Stream: &dnstap.Stream{
		Network: "tcp", Address: at,
		TLS: &tls.Config{RootCAs: roots, ServerName: "127.0.0.1", Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13},
	}}, 5)
	cancel()
	if err := <-ended; err != nil || !strings.Contains(stderr, `"frames": 5,`) {
		t.Errorf("%v\n%s", err, stderr)
	}
}

func TestTapTakesASocketThatNobodyListensOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if _, stderr, err := runTap(ctx, "--unix", path); err != nil {
			t.Error(err, stderr)
		}
		cancel()
	}
	if err := os.WriteFile(path, []byte("not a socket"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := runTap(t.Context(), "--unix", path); err == nil {
		t.Error("a file was removed")
	}
}

func TestTapRefusesWhatMakesNoSense(t *testing.T) {
	in := tapFile(t, 1)
	for _, args := range [][]string{
		{},
		{"--format", "xml", in},
		{"--only", "color:red", in},
		{"--live", "-"},
		{"--top", "-1", in},
		{"--metrics", "localhost:1", in},
		{"--metrics", "127.0.0.1:0", in},
		{"--metrics-token", "x", in},
		{"--tls", "127.0.0.1:0"},
		{"--forward", "udp:x", in},
		{"--forward", "tls:x", in},
		{"--write", "x", "--rotate-size", "1", "--rotate-age", "1", in},
		{"nowhere"},
		{"tap_test.go"},
		{"--keep", "-1", in},
		{"--forward-cert", "x", in},
		{"--tls", "127.0.0.1:0", "--cert", "x", "--key", "y"},
	} {
		if _, _, err := runTap(t.Context(), args...); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
}
