package shared

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
	"github.com/miekg/dns"

	"shirube/internal/clock"
	"shirube/internal/ede"
	"shirube/internal/hist"
	"shirube/internal/wire"
)

// get asks c for k, and gives it time.
func get(t testing.TB, c *Cache, k Key) (Entry, bool) {
	t.Helper()
	return c.Get(t.Context(), k)
}

// set writes e, and waits until it is there or is not going to be.
func set(t testing.TB, c *Cache, k Key, e Entry) {
	t.Helper()
	settled(t, c, func() { c.Set(k, e) })
}

// settled waits until what write has written is there or is not going to be.
func settled(t testing.TB, c *Cache, write func()) {
	t.Helper()
	done := func() (n uint64) {
		for _, s := range c.Stats().Servers {
			n += s.Stored + s.Kept + s.Dropped + s.Errors
		}
		return n
	}
	before := done()
	write()
	eventually(t, "what was written settled", func() bool { return done() > before })
}

func TestOneServersAnswerIsAnothersHit(t *testing.T) {
	m := startMemcached(t, "memcached-0")
	a, b := newTestCache(t, func(o *Options) { o.Writer = "a" }, m.Server), newTestCache(t, nil, m.Server)
	k := keyOf("www.example.com.")
	if _, ok := get(t, b, k); ok {
		t.Fatal("a hit in an empty cache")
	}
	want := fresh(t, k)
	set(t, a, k, want)
	got, ok := get(t, b, k)
	want.Writer, want.Stored = "a", want.Stored.Truncate(time.Millisecond)
	if !ok || !same(&got, &want) {
		t.Errorf("%+v, %v; expected %+v", got, ok, want)
	}
	for name, other := range map[string]Key{
		"name": keyOf("ftp.example.com."), "type": {wire.Question{Name: k.Name, Type: wire.TypeAAAA}, 0}, "scope": {k.Question, 7},
	} {
		if _, ok := get(t, b, other); ok {
			t.Errorf("another %s, and a hit", name)
		}
	}
	generation := newTestCache(t, func(o *Options) { o.Generation = 1 }, m.Server)
	if _, ok := get(t, generation, k); ok {
		t.Error("another generation, and a hit")
	}
	s := b.Stats()
	if s.Hits != 1 || s.Misses != 4 || one(s).Gets != 5 || one(s).Took == (hist.Snapshot{}) {
		t.Errorf("%+v", s)
	}
}

func TestOlderWordDoesNotReplaceANewerOne(t *testing.T) {
	m := startMemcached(t, "memcached-0")
	c := newTestCache(t, nil, m.Server)
	k := keyOf("www.example.com.")
	old, now, later := fresh(t, k), fresh(t, k), fresh(t, k)
	old.Stored = old.Stored.Add(-time.Minute)
	old.Writer, now.Writer = "old", "new"
	later.Stored = later.Stored.Add(time.Second)
	stored := func() int64 { e, _ := get(t, c, k); return e.Stored.UnixMilli() }
	set(t, c, k, now)
	set(t, c, k, old)
	if stored() != now.Stored.UnixMilli() {
		t.Error("an older answer took the place of a newer one")
	}
	set(t, c, k, later)
	if stored() != later.Stored.UnixMilli() {
		t.Error("a newer answer did not take the place of an older one")
	}
}

func TestExpiredAnswerGivesWay(t *testing.T) {
	m := startMemcached(t, "memcached-0")
	c := newTestCache(t, nil, m.Server)
	k := keyOf("www.example.com.")
	expired := fresh(t, k)
	expired.Stored = expired.Stored.Add(-10 * time.Minute) // its life was five, its use is an hour
	set(t, c, k, expired)
	if e, ok := get(t, c, k); !ok || e.Fresh(time.Now()) {
		t.Fatalf("%+v, %v; expected a stale one", e, ok)
	}
	set(t, c, k, fresh(t, k))
	if e, ok := get(t, c, k); !ok || !e.Fresh(time.Now()) {
		t.Errorf("%+v, %v", e, ok)
	}
	if s := c.Stats(); s.Stale != 1 || s.Hits != 1 {
		t.Errorf("%+v", s)
	}
}

// An answer that has ended while it waited to be written is of less use than an
// older one that has not.
func TestAnswerThatHasEndedDoesNotReplaceAGoodOne(t *testing.T) {
	m := startMemcached(t, "memcached-0")
	c := newTestCache(t, nil, m.Server)
	k := keyOf("www.example.com.")
	good, ended := fresh(t, k), fresh(t, k)
	good.Stored, ended.Stored = good.Stored.Add(-time.Minute), ended.Stored.Add(-30*time.Second)
	ended.Life = 5 * time.Second
	set(t, c, k, good)
	set(t, c, k, ended)
	if e, ok := get(t, c, k); !ok || !e.Fresh(time.Now()) {
		t.Errorf("%+v, %v", e, ok)
	}
}

// What is damaged, or from a clock that is ahead, is not kept for being newer.
func TestUnusableValueGivesWay(t *testing.T) {
	m := startMemcached(t, "memcached-0")
	c := newTestCache(t, nil, m.Server)
	k := keyOf("www.example.com.")
	name := keyName(forAnswer, 0, c.ring.digest(k))
	ahead := fresh(t, k)
	ahead.Stored = ahead.Stored.Add(time.Hour)
	for what, value := range map[string]string{
		"nonsense": "nonsense", "nothing": "", "of the future": string(c.ring.seal(name, ahead.appendBody(nil))),
	} {
		m.Tell(t, fmt.Sprintf("set %s 0 0 %d\r\n%s\r\n", name, len(value), value))
		if _, ok := get(t, c, k); ok {
			t.Errorf("%s: a hit", what)
		}
		set(t, c, k, fresh(t, k))
		if _, ok := get(t, c, k); !ok {
			t.Errorf("%s: it stays", what)
		}
	}
	if r := c.Stats().Rejected; r[reason("version")] == 0 || r[reason("future")] == 0 {
		t.Errorf("%v", r)
	}
}

func TestFailuresHideNoAnswer(t *testing.T) {
	m := startMemcached(t, "memcached-0")
	c := newTestCache(t, nil, m.Server)
	k := keyOf("www.example.com.")
	failed := Entry{Stored: time.Now(), Life: time.Hour, Note: &ede.Error{Code: ede.NoReachableAuthority, Text: "why"}}
	set(t, c, k, failed)
	e, ok := get(t, c, k)
	if !ok || !e.Failed() || e.Note == nil || e.Note.Text != "why" || e.Life != MaxFailure {
		t.Errorf("%+v, %v", e, ok)
	}
	second := failed
	second.Note = &ede.Error{Code: ede.Other}
	set(t, c, k, second)
	if e, _ := get(t, c, k); e.Note == nil || e.Note.Text != "why" {
		t.Errorf("a failure took the place of another: %+v", e)
	}
	set(t, c, k, fresh(t, k))
	if e, ok := get(t, c, k); !ok || e.Failed() {
		t.Errorf("a failure hides an answer: %+v, %v", e, ok)
	}
	other := keyOf("other.example.com.")
	set(t, c, other, fresh(t, other))
	set(t, c, other, failed)
	if e, ok := get(t, c, other); !ok || e.Failed() {
		t.Errorf("a failure replaces an answer: %+v, %v", e, ok)
	}
	// What has expired is no word against trying it again; nor is it hidden.
	stale := keyOf("stale.example.com.")
	old := fresh(t, stale)
	old.Stored = old.Stored.Add(-10 * time.Minute)
	set(t, c, stale, old)
	set(t, c, stale, failed)
	if e, ok := get(t, c, stale); !ok || e.Failed() {
		t.Errorf("a failure hides a stale answer: %+v, %v", e, ok)
	}
}

func TestExpiryIsNeitherForEverNorADate(t *testing.T) {
	k := keyOf("www.example.com.")
	c := newTestCache(t, nil)
	for _, tt := range []struct {
		life, stale, age time.Duration
		deadline         time.Duration
		standIn          bool
		want             int32
	}{
		{300 * time.Second, time.Hour, 0, 0, false, 3900},
		{300 * time.Second, time.Hour, 0, 0, true, standInLife},
		{300 * time.Second, time.Hour, 0, time.Minute, false, 60},
		{100 * 24 * time.Hour, 0, 0, 0, false, 2592000},
		{300 * time.Second, 0, 299 * time.Second, 0, false, 1},
		{300 * time.Second, 0, 300 * time.Second, 0, false, 0},
	} {
		e := entryOf(t, k)
		e.Stored, e.Deadline = time.Now().Add(-tt.age+200*time.Millisecond), time.Time{}
		if tt.deadline > 0 {
			e.Deadline = e.Stored.Add(tt.deadline)
		}
		e.Life, e.Stale = tt.life, tt.stale
		value, seconds := c.seal("k", &e, tt.standIn)
		if seconds != tt.want || (value == nil) != (tt.want == 0) {
			t.Errorf("%+v: %d seconds, %d octets", tt, seconds, len(value))
		}
	}
	m := startMemcached(t, "memcached-0")
	c = newTestCache(t, nil, m.Server)
	e := fresh(t, k)
	e.Life, e.Stale = 60*24*time.Hour, 60*24*time.Hour
	set(t, c, k, e)
	if _, ok := get(t, c, k); !ok {
		t.Error("what lives for sixty days is gone at once")
	}
}

func TestLargeEntriesAreNotWritten(t *testing.T) {
	m := startMemcached(t, "memcached-0")
	c := newTestCache(t, nil, m.Server)
	k := keyOf("www.example.com.")
	e := fresh(t, k)
	e.Msg = append(response(t, k, 1), make([]byte, MaxValue)...)
	set(t, c, k, e)
	if s := c.Stats(); s.TooLarge != 1 || one(s).Stored != 0 {
		t.Errorf("%+v", s)
	}
}

func TestClocksMayDifferByTwoSeconds(t *testing.T) {
	m := startMemcached(t, "memcached-0")
	clockOf := func(ahead time.Duration) func(*Options) {
		return func(o *Options) { o.Clock = &clock.Clock{}; o.Clock.Set(ahead) }
	}
	writer := newTestCache(t, nil, m.Server)
	k := keyOf("www.example.com.")
	set(t, writer, k, fresh(t, k)) // life of five minutes, use of an hour more
	for _, tt := range []struct {
		ahead       time.Duration
		ok, isFresh bool
	}{
		{-time.Hour, false, false},
		{-3 * time.Second, false, false},
		{-1500 * time.Millisecond, true, true},
		{2 * time.Second, true, true},
		{time.Hour, true, false},
		{2 * time.Hour, false, false},
	} {
		reader := newTestCache(t, clockOf(tt.ahead), m.Server)
		e, ok := get(t, reader, k)
		if ok != tt.ok || ok && e.Fresh(reader.opt.Clock.Now()) != tt.isFresh {
			t.Errorf("%v ahead: %v, %+v", tt.ahead, ok, e)
		}
		if tt.ahead == -time.Hour && (reader.Stats().Rejected[reason("future")] != 1 || reader.Stats().Skew < 59*time.Minute) {
			t.Errorf("%+v", reader.Stats())
		}
	}
}

// An entry of a version that is not out yet is a miss to those of today, and
// stays: who is newer does not lose what he wrote to who is not.
// What is shown of clocks is how they are: an alert ends when they are right.
func TestSkewIsThatOfTheLastMinutes(t *testing.T) {
	var s skew
	s.note(-time.Hour, 0)
	if s.most(0) != 0 {
		t.Error("a clock that is behind is ahead")
	}
	s.note(time.Hour, skewPeriod-1)
	s.note(time.Second, skewPeriod-1)
	for _, tt := range []struct{ at, want time.Duration }{
		{skewPeriod - 1, time.Hour},
		{skewPeriod, time.Hour},
		{2*skewPeriod - 1, time.Hour},
		{2 * skewPeriod, 0},
	} {
		if got := s.most(tt.at); got != tt.want {
			t.Errorf("after %v it is %v; expected %v", tt.at, got, tt.want)
		}
	}
	s.note(time.Minute, 2*skewPeriod)
	if got := s.most(9 * skewPeriod); got != 0 {
		t.Errorf("long after it is %v", got)
	}
}

func TestOtherVersionsAreAMiss(t *testing.T) {
	m := startMemcached(t, "memcached-0")
	c := newTestCache(t, nil, m.Server)
	k := keyOf("www.example.com.")
	name := keyName(forAnswer, 0, c.ring.digest(k))
	e := fresh(t, k)
	value := c.ring.seal(name, e.appendBody(nil))
	value[0] = version + 1
	m.Tell(t, fmt.Sprintf("set %s 0 0 %d\r\n%s\r\n", name, len(value), value))
	if _, ok := get(t, c, k); ok || c.Stats().Rejected[reason("version")] != 1 {
		t.Errorf("%+v", c.Stats())
	}
}

// Servers of two versions use one memcached. Each has what its own version wrote,
// and loses nothing to the other, whatever it writes, also where both write.
func TestServersOfTwoVersionsKeepToTheirOwn(t *testing.T) {
	m := startMemcached(t, "memcached-0")
	a, b := newTestCache(t, nil, m.Server), newTestCache(t, nil, m.Server)
	k, other := keyOf("www.example.com."), keyOf("other.example.com.")
	name := func(k Key) string { return keyName(forAnswer, 0, a.ring.digest(k)) }
	later := func(name string) string { return "s2" + strings.TrimPrefix(name, "s1") } // as of version 2
	if name(k) == later(name(k)) {
		t.Fatalf("the name of a key has no version: %q", name(k))
	}
	replay(t, m, later(name(k)), "what version 2 has of it")
	set(t, a, k, fresh(t, k))
	if _, ok := get(t, b, k); !ok {
		t.Errorf("those of one version do not share: %+v", b.Stats())
	}
	e := fresh(t, other)
	body := e.appendBody(nil)
	body[0] = 77 // a kind of entry that is to come, sealed by who has the secret
	replay(t, m, name(other), string(a.ring.seal(name(other), body)))
	if _, ok := get(t, b, other); ok || b.Stats().Rejected[reason("form")] != 1 {
		t.Errorf("%v, %+v", ok, b.Stats().Rejected)
	}
	set(t, b, other, e) // it is of no use to anybody of today
	if _, ok := get(t, a, other); !ok {
		t.Errorf("%+v", a.Stats())
	}
	if got := raw(t, m, later(name(k))); got != "what version 2 has of it" {
		t.Errorf("version 2 has lost what it wrote: %q", got)
	}
}

// Each bit of a value that is flipped on its way makes it a miss, and is counted.
func TestEveryFlippedBitIsAMissAndCounted(t *testing.T) {
	m := startMemcached(t, "memcached-0")
	c := newTestCache(t, nil, m.Server)
	k := keyOf("www.example.com.")
	name := keyName(forAnswer, 0, c.ring.digest(k))
	e := fresh(t, k)
	value := c.ring.seal(name, e.appendBody(nil))
	s := (*c.servers.Load())[0]
	for bit := range 8 * len(value) {
		value[bit/8] ^= 1 << (bit % 8)
		if _, ok := c.open(s, k, name, &memcache.Item{Key: name, Value: value}); ok {
			t.Errorf("bit %d is flipped, and it is a hit", bit)
		}
		value[bit/8] ^= 1 << (bit % 8)
	}
	sum := uint64(0)
	for _, n := range c.Stats().Rejected {
		sum += n
	}
	if want := uint64(8 * len(value)); sum != want || c.Stats().Rejected[reason("tag")] < want-8*headLen {
		t.Errorf("%d of %d were counted: %v", sum, want, c.Stats().Rejected)
	}
	if _, ok := c.open(s, k, name, &memcache.Item{Key: name, Value: value}); !ok {
		t.Error("as it was written, it is a miss")
	}
}

func TestSwappedAndOpenValuesAreAMiss(t *testing.T) {
	m := startMemcached(t, "memcached-0")
	c := newTestCache(t, nil, m.Server)
	unsealed := newTestCache(t, func(o *Options) { o.Secrets.Values = nil; o.Secrets.Names = secret(9) }, m.Server)
	a, b := keyOf("a.example.com."), keyOf("b.example.com.")
	name := func(k Key) string { return keyName(forAnswer, 0, c.ring.digest(k)) }
	e := fresh(t, a)
	for what, value := range map[string][]byte{
		"of another key": c.ring.seal(name(a), e.appendBody(nil)),
		"unsealed":       unsealed.ring.seal(name(b), e.appendBody(nil)),
	} {
		m.Tell(t, fmt.Sprintf("set %s 0 0 %d\r\n%s\r\n", name(b), len(value), value))
		if _, ok := get(t, c, b); ok {
			t.Errorf("a value %s is a hit", what)
		}
	}
	if r := c.Stats().Rejected; r[reason("tag")] != 1 || r[reason("secret")] != 1 {
		t.Errorf("%v", r)
	}
}

func TestAuthenticationOfMemcached(t *testing.T) {
	file := filepath.Join(t.TempDir(), "auth")
	if err := os.WriteFile(file, []byte("shirube:hidden-word\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := startMemcached(t, "memcached-0", "-Y", file)
	k := keyOf("www.example.com.")
	known := newTestCache(t, func(o *Options) { o.Auth = Auth{"shirube", "hidden-word"} }, m.Server)
	set(t, known, k, fresh(t, k))
	if _, ok := get(t, known, k); !ok {
		t.Error("a miss, with the right password")
	}
	for _, auth := range []Auth{{}, {"shirube", "wrong"}} {
		c := newTestCache(t, func(o *Options) { o.Auth = auth }, m.Server)
		if _, ok := get(t, c, k); ok || one(c.Stats()).Errors != 1 {
			t.Errorf("%+v: %v, %+v", auth, ok, c.Stats())
		}
	}
}

// certificates writes an authority, and a certificate and its key for each name.
func certificates(t testing.TB, names ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	write := func(name, kind string, der []byte) {
		text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	template := func(name string, serial int64) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
	}
	ca, caKey := template("authority", 1), key()
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	write("ca.pem", "CERTIFICATE", der)
	for i, name := range names {
		k := key()
		der, err := x509.CreateCertificate(rand.Reader, template(name, int64(2+i)), ca, k.Public(), caKey)
		if err != nil {
			t.Fatal(err)
		}
		write(name+".pem", "CERTIFICATE", der)
		pkcs8, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		write(name+".key", "PRIVATE KEY", pkcs8)
	}
	return dir
}

func TestTLSWithCertificatesOnBothSides(t *testing.T) {
	dir := certificates(t, "memcached-0", "client")
	in := func(name string) string { return filepath.Join(dir, name) }
	m := startMemcached(t, "memcached-0", "-Z", "-o", "ssl_chain_cert="+in("memcached-0.pem"), "-o", "ssl_key="+in("memcached-0.key"),
		"-o", "ssl_ca_cert="+in("ca.pem"), "-o", "ssl_verify_mode=2")
	roots := x509.NewCertPool()
	text, err := os.ReadFile(in("ca.pem"))
	if err != nil || !roots.AppendCertsFromPEM(text) {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(in("client.pem"), in("client.key"))
	if err != nil {
		t.Fatal(err)
	}
	config := func(c *tls.Config) func(*Options) {
		c.MinVersion = tls.VersionTLS12
		return func(o *Options) { o.TLS = c }
	}
	k := keyOf("www.example.com.")
	good := newTestCache(t, config(&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}), m.Server)
	set(t, good, k, fresh(t, k))
	if _, ok := get(t, good, k); !ok {
		t.Errorf("a miss: %+v", good.Stats())
	}
	impostor := m.Server
	impostor.Name = "memcached-1"
	for name, c := range map[string]*Cache{
		"without a certificate of ours": newTestCache(t, config(&tls.Config{RootCAs: roots}), m.Server),
		"another server's":              newTestCache(t, config(&tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}), impostor),
		"an authority not ours":         newTestCache(t, config(&tls.Config{RootCAs: x509.NewCertPool(), Certificates: []tls.Certificate{pair}}), m.Server),
		"in the open":                   newTestCache(t, nil, m.Server),
	} {
		if _, ok := get(t, c, k); ok || one(c.Stats()).Errors != 1 {
			t.Errorf("%s: %v, %+v", name, ok, c.Stats())
		}
	}
}

func TestFileOfServersIsFollowed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "servers")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := newTestCache(t, func(o *Options) { o.File = file })
	follow := func(want string) {
		t.Helper()
		err := c.follow(t.Context())
		got := fmt.Sprint(c.Members())
		if got != want {
			t.Errorf("%s, %v; expected %s", got, err, want)
		}
	}
	follow("[]")
	write("a 127.0.0.1:1\nb 127.0.0.1:2\n")
	follow("[a 127.0.0.1:1 b 127.0.0.1:2]")
	write("a 127.0.0.1:1\nc 127.0.0.1")
	follow("[a 127.0.0.1:1 b 127.0.0.1:2]")
	write("")
	follow("[a 127.0.0.1:1 b 127.0.0.1:2]")
	write(strings.Repeat("#", maxFile+1))
	follow("[a 127.0.0.1:1 b 127.0.0.1:2]")
	write("a 127.0.0.1:3\n")
	follow("[a 127.0.0.1:3]")
}

func TestServiceIsLookedUpWhereItIsToldTo(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	records := map[string][]string{
		"memcached.example. SRV": {
			"memcached.example. 30 IN SRV 0 50 11211 memcached-1.memcached.example.",
			"memcached.example. 30 IN SRV 0 50 11212 memcached-0.memcached.example.",
		},
		"memcached-0.memcached.example. A": {"memcached-0.memcached.example. 30 IN A 192.0.2.10"},
		"memcached-1.memcached.example. A": {"memcached-1.memcached.example. 30 IN A 192.0.2.11"},
		"plain.example. A":                 {"plain.example. 30 IN A 192.0.2.2", "plain.example. 30 IN A 192.0.2.1"},
	}
	server := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		found := false
		for name, list := range records {
			owner, typ, _ := strings.Cut(name, " ")
			if owner != strings.ToLower(q.Question[0].Name) {
				continue
			}
			found = true
			if typ == dns.TypeToString[q.Question[0].Qtype] {
				for _, text := range list {
					rr, err := dns.NewRR(text)
					if err != nil {
						panic(err)
					}
					m.Answer = append(m.Answer, rr)
				}
			}
		}
		if !found {
			m.Rcode = dns.RcodeNameError
		}
		_ = w.WriteMsg(m)
	})}
	done := make(chan error, 1)
	go func() { done <- server.ActivateAndServe() }()
	defer func() {
		if err := server.Shutdown(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	at := netip.MustParseAddrPort(pc.LocalAddr().String())
	for name, want := range map[string]string{
		"memcached.example":   "[memcached-0.memcached.example 192.0.2.10:11212 memcached-1.memcached.example 192.0.2.11:11211]",
		"plain.example":       "[192.0.2.1:11211 192.0.2.1:11211 192.0.2.2:11211 192.0.2.2:11211]",
		"nowhere.example":     "[]",
		"nor.nowhere.example": "[]",
	} {
		members, err := Service{Name: name, Port: 11211, Resolvers: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:1"), at}}.members(t.Context())
		if fmt.Sprint(members) != want || (err == nil) != (want != "[]") {
			t.Errorf("%s: %v, %v; expected %s", name, members, err, want)
		}
	}
}

func TestCloseEndsWhatWaits(t *testing.T) {
	f := startFake(t, func(net.Conn, string, *bufio.Reader) bool { return true }) // says nothing
	c := newTestCache(t, func(o *Options) { hurried(o); o.Budget = time.Minute }, f.Server)
	ended := make(chan bool)
	for range 100 {
		go func() {
			_, ok := c.Get(context.Background(), keyOf("www.example.com."))
			ended <- ok
		}()
	}
	eventually(t, "the server was asked", func() bool { return f.lines.Load() > 0 })
	begun := time.Now()
	c.Close()
	for range 100 {
		if <-ended {
			t.Error("a hit")
		}
	}
	if took := time.Since(begun); took > patience {
		t.Errorf("closing took %v", took)
	}
	c.Set(keyOf("www.example.com."), fresh(t, keyOf("www.example.com.")))
	if _, ok := c.Get(t.Context(), keyOf("www.example.com.")); ok {
		t.Error("a hit after the end")
	}
}
