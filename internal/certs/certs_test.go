package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"shirube/internal/lab/ca"
)

// authority returns a new one.
func authority(t *testing.T) *ca.Authority {
	t.Helper()
	a, err := ca.New("Authority of this test")
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// issue writes a pair for l into dir.
func issue(t *testing.T, a *ca.Authority, dir, name string, l ca.Leaf) Pair {
	t.Helper()
	i, err := a.Issue(l)
	if err != nil {
		t.Fatal(err)
	}
	var p Pair
	if p.Certificate, p.Key, err = i.Write(dir, name); err != nil {
		t.Fatal(err)
	}
	return p
}

func newStore(t *testing.T, opt Options) *Store {
	t.Helper()
	s, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// run has s kept current until the test, or its bubble, is about to end.
func run(t *testing.T, s *Store) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()
	return func() { cancel(); <-done }
}

// handshake connects client to s in memory, and returns what the client saw.
func handshake(t *testing.T, s *Store, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	return handshakeWith(s.Config("dot"), client)
}

func handshakeWith(server, client *tls.Config) (state tls.ConnectionState, err error) {
	a, b := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() { _ = a.Close() }()
		c := tls.Server(a, server)
		if c.Handshake() == nil {
			_, _ = c.Write([]byte{1}) // brings the client its ticket
		}
	})
	c := tls.Client(b, client)
	if err = c.Handshake(); err == nil {
		_, err = c.Read(make([]byte, 1))
		state = c.ConnectionState()
	}
	_ = b.Close()
	wg.Wait()
	return state, err
}

func TestCertificateIsChosenByNameAndDefault(t *testing.T) {
	a, dir := authority(t), t.TempDir()
	s := newStore(t, Options{Pairs: []Pair{
		issue(t, a, dir, "first", ca.Leaf{Names: []string{"first.example"}}),
		issue(t, a, dir, "second", ca.Leaf{Names: []string{"second.example", "*.wild.example"}}),
		issue(t, a, dir, "third", ca.Leaf{Names: []string{"third.example"}, Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("2001:db8::53")}}),
	}})
	for _, c := range []struct{ asked, want string }{
		{"first.example", "first.example"},
		{"second.example", "second.example"},
		{"SECOND.example", "second.example"},
		{"a.wild.example", "second.example"},
		{"a.b.wild.example", "first.example"}, // RFC 9525 §6.3
		{"wild.example", "first.example"},
		{"nobody.example", "first.example"},
		{"", "first.example"},
	} {
		state, err := handshake(t, s, &tls.Config{ServerName: c.asked, InsecureSkipVerify: true})
		if err != nil {
			t.Fatalf("%q: %v", c.asked, err)
		}
		if got := state.PeerCertificates[0].DNSNames[0]; got != c.want {
			t.Errorf("%q: %s, want %s", c.asked, got, c.want)
		}
	}
}

// localConn is a connection to addr.
type localConn struct {
	net.Conn
	addr net.Addr
}

func (c localConn) LocalAddr() net.Addr { return c.addr }

func TestCertificateWithoutANameIsThatOfTheAddress(t *testing.T) {
	a, dir := authority(t), t.TempDir()
	s := newStore(t, Options{Pairs: []Pair{
		issue(t, a, dir, "first", ca.Leaf{Names: []string{"first.example"}}),
		issue(t, a, dir, "addr", ca.Leaf{Names: []string{"addr.example"}, Addrs: []netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("2001:db8::53")}}),
	}})
	for _, c := range []struct {
		name, want string
		to         net.Addr
	}{
		{"", "addr.example", &net.TCPAddr{IP: net.ParseIP("192.0.2.53")}},
		{"", "addr.example", &net.UDPAddr{IP: net.ParseIP("2001:db8::53")}},
		{"", "first.example", &net.TCPAddr{IP: net.ParseIP("192.0.2.54")}},
		{"", "first.example", &net.UnixAddr{}},
		{"2001:db8::53", "addr.example", &net.UnixAddr{}}, // not allowed, but clear
	} {
		hello := &tls.ClientHelloInfo{
			ServerName: c.name, Conn: localConn{addr: c.to}, SupportedVersions: []uint16{tls.VersionTLS13},
			SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256},
		}
		if got, err := s.shown.Load().choose(hello); err != nil || got.Leaf.DNSNames[0] != c.want {
			t.Errorf("%q at %v: %v, %v, want %s", c.name, c.to, got, err, c.want)
		}
	}
}

func TestOnlyAEADAndTheHybridKeyExchangeByDefault(t *testing.T) {
	s := newStore(t, Options{Pairs: []Pair{issue(t, authority(t), t.TempDir(), "a", ca.Leaf{Names: []string{"a.example"}})}})
	client := func() *tls.Config { return &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"dot"}} }
	state, err := handshake(t, s, client())
	if err != nil || state.Version != tls.VersionTLS13 || state.CurveID != tls.X25519MLKEM768 || state.NegotiatedProtocol != "dot" {
		t.Errorf("%x, %v, %q: %v", state.Version, state.CurveID, state.NegotiatedProtocol, err)
	}
	old := client()
	old.MaxVersion = tls.VersionTLS12
	if state, err = handshake(t, s, old); err != nil || state.Version != tls.VersionTLS12 {
		t.Errorf("TLS 1.2: %v", err)
	}
	old.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA}
	if _, err = handshake(t, s, old); err == nil {
		t.Error("a suite without AEAD was taken")
	}
	old = client()
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if _, err = handshake(t, s, old); err == nil {
		t.Error("TLS 1.1 was taken")
	}
	other := client()
	other.NextProtos = []string{"h2"}
	if _, err = handshake(t, s, other); err == nil {
		t.Error("a client of another protocol was taken") // RFC 7301 §3.2
	}
}

func TestNewNamesWhatItCannotUse(t *testing.T) {
	a, dir := authority(t), t.TempDir()
	one := issue(t, a, dir, "one", ca.Leaf{Names: []string{"one.example"}})
	two := issue(t, a, dir, "two", ca.Leaf{Names: []string{"two.example"}})
	long, empty, short := filepath.Join(dir, "long"), filepath.Join(dir, "empty"), filepath.Join(dir, "short")
	write(t, long, strings.Repeat("\n", maxFile+1))
	write(t, empty, "# nothing\n")
	write(t, short, "# a secret\n"+strings.Repeat("ab", minSecret-1)+"\n")
	for _, c := range []struct {
		opt  Options
		want string
	}{
		{Options{Pairs: []Pair{{filepath.Join(dir, "none.pem"), one.Key}}}, "none.pem"},
		{Options{Pairs: []Pair{one, {two.Certificate, one.Key}}}, "two.pem with the key " + one.Key},
		{Options{Pairs: []Pair{{long, one.Key}}}, "too long"},
		{Options{Pairs: []Pair{one}, SecretFile: filepath.Join(dir, "none")}, "none"},
		{Options{Pairs: []Pair{one}, SecretFile: empty}, "found 0 secrets"},
		{Options{Pairs: []Pair{one}, SecretFile: short}, "line 2: found 62 characters"},
	} {
		if _, err := New(c.opt); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// lockedBuffer is a buffer for several writers.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.b.String(), s)
}

func TestFilesAreFollowed(t *testing.T) {
	a, dir := authority(t), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var log lockedBuffer
		p := issue(t, a, dir, "a", ca.Leaf{Names: []string{"one.example"}})
		s := newStore(t, Options{Pairs: []Pair{p}, Log: slog.New(slog.NewTextHandler(&log, nil))})
		defer run(t, s)()
		shows := func(want string) {
			t.Helper()
			time.Sleep(2*DefaultPoll + DefaultPoll/2)
			if got := s.Leaves()[0].Leaf.DNSNames[0]; got != want {
				t.Errorf("%s is shown, want %s", got, want)
			}
		}
		shows("one.example")

		issue(t, a, dir, "a", ca.Leaf{Names: []string{"two.example"}}) // renamed into its place
		shows("two.example")

		i, err := a.Issue(ca.Leaf{Names: []string{"three.example"}})
		if err != nil {
			t.Fatal(err)
		}
		write(t, p.Certificate, string(i.Certificate)) // written over, and the key later
		time.Sleep(DefaultPoll / 2)
		write(t, p.Key, string(i.Key))
		shows("three.example")
		if st := s.Stats(); st.Taken != 3 || st.Failed != 0 {
			t.Errorf("%+v", st)
		}

		write(t, p.Key, "no key")
		shows("three.example")
		shows("three.example")
		if st := s.Stats(); st.Failed != 1 || st.Failing != 1 {
			t.Errorf("a bad key: %+v", st)
		}
		if err := os.Remove(p.Certificate); err != nil {
			t.Fatal(err)
		}
		shows("three.example")
		issue(t, a, dir, "a", ca.Leaf{Names: []string{"expired.example"}, From: time.Now().Add(-2 * time.Hour), Life: time.Hour})
		shows("three.example")
		if st := s.Stats(); st.Failed != 3 || st.Failing != 1 || st.Expires != s.Leaves()[0].Leaf.NotAfter.Unix() {
			t.Errorf("no file, then an expired one: %+v", st)
		}
		if n := log.count("cannot use a new certificate"); n != 3 {
			t.Errorf("%d lines in the log, want one for each change", n)
		}
		issue(t, a, dir, "a", ca.Leaf{Names: []string{"four.example"}})
		shows("four.example")
		if st := s.Stats(); st.Failed != 3 || st.Failing != 0 {
			t.Errorf("all is well again: %+v", st)
		}
	})
}

// TestDirectoryLinkIsFollowed replaces files as Kubernetes does: the directory
// that they are in is a link, which is renamed over.
// TestCertificateOfTomorrowIsShownTomorrow: one that is put in place before it is good
// takes nothing away from the one that is.
func TestCertificateOfTomorrowIsShownTomorrow(t *testing.T) {
	a, dir := authority(t), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var log lockedBuffer
		p := issue(t, a, dir, "a", ca.Leaf{Names: []string{"today.example"}, Life: 24 * time.Hour})
		s := newStore(t, Options{Pairs: []Pair{p}, Log: slog.New(slog.NewTextHandler(&log, nil))})
		defer run(t, s)()
		issue(t, a, dir, "a", ca.Leaf{Names: []string{"tomorrow.example"}, From: time.Now().Add(time.Minute), Life: 24 * time.Hour})
		for _, step := range []struct {
			after           time.Duration
			shown           string
			failing, failed int
		}{
			{50 * time.Second, "today.example", 1, 1},
			{20 * time.Second, "tomorrow.example", 0, 1},
		} {
			time.Sleep(step.after)
			st := s.Stats()
			if got := s.Leaves()[0].Leaf.DNSNames[0]; got != step.shown || st.Failing != step.failing || st.Failed != uint64(step.failed) {
				t.Errorf("%s is shown, want %s: %+v", got, step.shown, st)
			}
		}
		if n := log.count("good from"); n != 1 {
			t.Errorf("%d lines in the log, want one", n)
		}

		// Where nothing good is lost, it is shown at once: clients' clocks may be ahead.
		issue(t, a, dir, "b", ca.Leaf{Names: []string{"expired.example"}, From: time.Now().Add(-time.Hour), Life: time.Minute})
		expired := newStore(t, Options{Pairs: []Pair{{Certificate: strings.Replace(p.Certificate, "a.pem", "b.pem", 1), Key: strings.Replace(p.Key, "a.key", "b.key", 1)}}})
		defer run(t, expired)()
		issue(t, a, dir, "b", ca.Leaf{Names: []string{"soon.example"}, From: time.Now().Add(time.Minute)})
		time.Sleep(3 * DefaultPoll)
		if got := expired.Leaves()[0].Leaf.DNSNames[0]; got != "soon.example" {
			t.Errorf("%s is shown in place of an expired one", got)
		}
	})
}

func TestDirectoryLinkIsFollowed(t *testing.T) {
	a, dir := authority(t), t.TempDir()
	swap := func(name string) {
		t.Helper()
		at := filepath.Join(dir, name)
		if err := os.Mkdir(at, 0o700); err != nil {
			t.Fatal(err)
		}
		issue(t, a, at, "tls", ca.Leaf{Names: []string{name + ".example"}})
		if err := os.Symlink(name, filepath.Join(dir, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	swap("one")
	for _, file := range []string{"tls.pem", "tls.key"} {
		if err := os.Symlink(filepath.Join("..data", file), filepath.Join(dir, file)); err != nil {
			t.Fatal(err)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		s := newStore(t, Options{Pairs: []Pair{{filepath.Join(dir, "tls.pem"), filepath.Join(dir, "tls.key")}}})
		defer run(t, s)()
		for _, name := range []string{"two", "three"} {
			swap(name)
			time.Sleep(2*DefaultPoll + DefaultPoll/2)
			if got := s.Leaves()[0].Leaf.DNSNames[0]; got != name+".example" {
				t.Errorf("%s is shown, want %s.example", got, name)
			}
		}
	})
}

func TestLateRenewalIsToldOnce(t *testing.T) {
	a, dir := authority(t), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var log lockedBuffer
		p := issue(t, a, dir, "a", ca.Leaf{Names: []string{"a.example"}, From: time.Now(), Life: 100 * time.Hour})
		s := newStore(t, Options{Pairs: []Pair{p}, Log: slog.New(slog.NewTextHandler(&log, nil))})
		defer run(t, s)()
		for _, c := range []struct {
			after time.Duration
			lines int
		}{{89 * time.Hour, 0}, {2 * time.Hour, 1}, {10 * time.Hour, 1}} {
			time.Sleep(c.after)
			if n := log.count("expires soon"); n != c.lines {
				t.Errorf("%d lines in the log after %v more, want %d", n, c.after, c.lines)
			}
		}
	})
}

// resumes reports whether a second handshake resumes the session of the first.
func resumes(t *testing.T, first, second *Store) bool {
	t.Helper()
	client := &tls.Config{InsecureSkipVerify: true, ServerName: "a.example", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	if _, err := handshakeWith(first.Config("dot"), client); err != nil {
		t.Fatal(err)
	}
	state, err := handshakeWith(second.Config("doq", "dot"), client)
	if err != nil {
		t.Fatal(err)
	}
	return state.DidResume
}

func TestTicketsAreTakenByAllWithTheSecret(t *testing.T) {
	a, dir := authority(t), t.TempDir()
	pairs := []Pair{issue(t, a, dir, "a", ca.Leaf{Names: []string{"a.example"}})}
	ours, ours2, theirs := filepath.Join(dir, "ours"), filepath.Join(dir, "ours2"), filepath.Join(dir, "theirs")
	write(t, ours, strings.Repeat("ab", minSecret))
	write(t, ours2, "# the next one\n"+strings.Repeat("12", maxSecret)+"\n\n"+strings.Repeat("ab", minSecret)+"\n")
	write(t, theirs, strings.Repeat("cd", minSecret))
	store := func(file string) *Store { return newStore(t, Options{Pairs: pairs, SecretFile: file}) }
	for _, c := range []struct {
		what          string
		first, second *Store
		want          bool
	}{
		{"of one secret", store(ours), store(ours), true},
		{"of the old secret beside a new one", store(ours), store(ours2), true},
		{"of a secret that is unknown", store(ours), store(theirs), false},
		{"of two servers without a secret", store(""), store(""), false},
	} {
		if got := resumes(t, c.first, c.second); got != c.want {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
	alone := store("")
	if !resumes(t, alone, alone) {
		t.Error("a server does not take its own tickets")
	}
	derive := func(file, label string) [32]byte {
		key, ok := store(file).Derive(label)
		if ok != (file != "") {
			t.Errorf("of %q: a secret is there: %v", file, ok)
		}
		return key
	}
	if x := derive(ours, "x"); x != derive(ours, "x") || x == derive(ours, "y") || x == derive(theirs, "x") || x == derive("", "x") {
		t.Error("what is derived does not follow from the secret and the label")
	}
}

// TestTicketKeysRotate holds instances whose clocks differ to each other's tickets,
// and to an end of each key.
func TestTicketKeysRotate(t *testing.T) {
	a, dir := authority(t), t.TempDir()
	pairs := []Pair{issue(t, a, dir, "a", ca.Leaf{Names: []string{"a.example"}, Life: 1000 * time.Hour})}
	file := filepath.Join(dir, "secret")
	write(t, file, strings.Repeat("ab", minSecret))
	for _, secret := range []string{file, ""} {
		synctest.Test(t, func(t *testing.T) {
			s := newStore(t, Options{Pairs: pairs, SecretFile: secret, Poll: time.Minute})
			defer run(t, s)()
			config := s.Config("dot")
			client := func() *tls.Config {
				return &tls.Config{InsecureSkipVerify: true, ServerName: "a.example", ClientSessionCache: tls.NewLRUClientSessionCache(1)}
			}
			for _, c := range []struct {
				age  time.Duration
				want bool
			}{
				{time.Hour, true},
				{ticketsKept * ticketPeriod, true},
				{(ticketsKept + 2) * ticketPeriod, false},
			} {
				session := client()
				if _, err := handshakeWith(config, session); err != nil {
					t.Fatal(err)
				}
				time.Sleep(c.age)
				state, err := handshakeWith(config, session)
				if err != nil || state.DidResume != c.want {
					t.Errorf("secret %q, after %v: resumed %v, want %v (%v)", secret, c.age, state.DidResume, c.want, err)
				}
			}
		})
	}
	period := periodOf(time.Now())
	secrets := [][]byte{bytes.Repeat([]byte{1}, minSecret)}
	now, ahead := deriveKeys(secrets, period), deriveKeys(secrets, period+1)
	contains := func(keys [][32]byte, k [32]byte) bool {
		for _, have := range keys {
			if have == k {
				return true
			}
		}
		return false
	}
	if !contains(now, ahead[0]) || !contains(ahead, now[0]) || now[0] == ahead[0] {
		t.Error("instances on both sides of a rotation do not take each other's tickets")
	}
}

func TestSecretFollowsItsFile(t *testing.T) {
	a, dir := authority(t), t.TempDir()
	pairs := []Pair{issue(t, a, dir, "a", ca.Leaf{Names: []string{"a.example"}})}
	file := filepath.Join(dir, "secret")
	synctest.Test(t, func(t *testing.T) {
		write(t, file, strings.Repeat("ab", minSecret))
		s := newStore(t, Options{Pairs: pairs, SecretFile: file})
		defer run(t, s)()
		s.Config("dot")
		before := s.keys[0]
		write(t, file, "no secret")
		time.Sleep(4 * DefaultPoll)
		if st := s.Stats(); s.keys[0] != before || st.Failed != 1 {
			t.Errorf("a bad file: %+v", st)
		}
		write(t, file, strings.Repeat("cd", minSecret)+"\n"+strings.Repeat("ab", minSecret))
		time.Sleep(4 * DefaultPoll)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.keys[0] == before || s.keys[2+ticketsKept] != before {
			t.Error("the new secret does not make tickets, or the old one does not read them")
		}
	})
}

// TestCertificatesAreReplacedUnderLoad replaces the certificate a hundred times
// while clients come, stay and resume: none fails.
func TestCertificatesAreReplacedUnderLoad(t *testing.T) {
	const replacements = 100
	a, dir := authority(t), t.TempDir()
	p := issue(t, a, dir, "a", ca.Leaf{Names: []string{"a.example"}})
	s := newStore(t, Options{Pairs: []Pair{p}, Poll: time.Millisecond})
	defer run(t, s)()
	config := s.Config("dot")

	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	var serving, asking sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { _, _ = io.Copy(c, c); _ = c.Close() })
		}
	})
	var done atomic.Bool
	var handshakes, resumed, failed atomic.Uint64
	seen := sync.Map{}
	for range 4 {
		session := &tls.Config{RootCAs: a.Pool(), ServerName: "a.example", ClientSessionCache: tls.NewLRUClientSessionCache(1), MinVersion: tls.VersionTLS12}
		asking.Go(func() {
			stays, err := tls.Dial("tcp", l.Addr().String(), session)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = stays.Close() }()
			for i := 0; !done.Load(); i++ {
				if i%2 == 0 {
					session.ClientSessionCache = tls.NewLRUClientSessionCache(1)
				}
				c, err := tls.Dial("tcp", l.Addr().String(), session)
				if err == nil {
					seen.Store(string(c.ConnectionState().PeerCertificates[0].Raw), true)
					if c.ConnectionState().DidResume {
						resumed.Add(1)
					}
					err = echo(c)
					_ = c.Close()
				}
				if err == nil {
					err = echo(stays)
				}
				if err != nil {
					failed.Add(1)
					t.Error(err)
					return
				}
				handshakes.Add(1)
			}
		})
	}
	for i := range replacements {
		issue(t, a, dir, "a", ca.Leaf{Names: []string{"a.example"}})
		for end := time.Now().Add(10 * time.Second); s.Stats().Taken < uint64(i+2); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("replacement %d was not taken up", i)
			}
		}
	}
	done.Store(true)
	asking.Wait()
	_ = l.Close()
	serving.Wait()
	certificates := 0
	seen.Range(func(any, any) bool { certificates++; return true })
	// What was met half written was not used, and does not count here.
	if failed.Load() > 0 || resumed.Load() == 0 || certificates < 10 || s.Stats().Failing != 0 {
		t.Errorf("%d handshakes, %d resumed, %d failed, %d certificates seen, %+v", handshakes.Load(), resumed.Load(), failed.Load(), certificates, s.Stats())
	}
}

// echo sends an octet and waits for it to come back.
func echo(c net.Conn) error {
	b := []byte{42}
	if _, err := c.Write(b); err != nil {
		return err
	}
	_, err := io.ReadFull(c, b)
	return err
}
