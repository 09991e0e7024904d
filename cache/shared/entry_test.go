package shared

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// noon is when the entries of the tests were stored.
var noon = time.UnixMilli(1_750_000_000_123)

// secret returns a secret of which all octets are b.
func secret(b byte) []byte { return bytes.Repeat([]byte{b}, SecretLen) }

// keyOf returns the key of a question for A records.
func keyOf(name string) Key {
	return Key{Question: wire.Question{Name: wire.MustParseName(name), Type: wire.TypeA}}
}

// response returns an answer to k, of so many records.
func response(t testing.TB, k Key, records int) []byte {
	t.Helper()
	m := new(dns.Msg)
	m.SetQuestion(k.Name.String(), uint16(k.Type))
	m.Response, m.RecursionAvailable, m.Id, m.Compress = true, true, 0, true
	for i := range records {
		m.Answer = append(m.Answer, &dns.A{
			Hdr: dns.RR_Header{Name: k.Name.String(), Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 300},
			A:   []byte{192, 0, 2, byte(i)},
		})
	}
	msg, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

// entryOf returns an entry about k.
func entryOf(t testing.TB, k Key) Entry {
	return Entry{
		Stored: noon, Life: 300 * time.Second, Stale: time.Hour, Deadline: noon.Add(2 * time.Hour), Trust: rrset.Secure,
		Note: &ede.Error{Code: ede.Other, Text: "malformed records were left out"}, Writer: "resolver-3", Msg: response(t, k, 2),
	}
}

func newTestRing(t testing.TB, s Secrets) *ring {
	t.Helper()
	r, err := newRing(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// same reports whether two entries say the same.
func same(a, b *Entry) bool {
	notes := a.Note == nil && b.Note == nil ||
		a.Note != nil && b.Note != nil && a.Note.Code == b.Note.Code && a.Note.Text == b.Note.Text
	return a.Stored.Equal(b.Stored) && a.Life == b.Life && a.Stale == b.Stale && a.Deadline.Equal(b.Deadline) &&
		a.Trust == b.Trust && a.Writer == b.Writer && bytes.Equal(a.Msg, b.Msg) && notes
}

func TestEntrySurvivesItsForm(t *testing.T) {
	k := keyOf("www.example.com.")
	full := entryOf(t, k)
	bare := Entry{Stored: noon, Life: time.Second, Trust: rrset.Unchecked, Msg: full.Msg}
	failed := Entry{Stored: noon, Life: time.Second, Note: &ede.Error{Code: ede.NoReachableAuthority}, Writer: "a"}
	for _, s := range []Secrets{{}, {Values: [][]byte{secret(1)}}} {
		r := newTestRing(t, s)
		for _, e := range []Entry{full, bare, failed} {
			body, err := r.open("k", r.seal("k", e.appendBody(nil)))
			if err != nil {
				t.Fatal(err)
			}
			got, err := parseBody(body)
			if err != nil || !same(&got, &e) {
				t.Errorf("%+v became %+v, %v", e, got, err)
			}
			if got.Failed() != (e.Msg == nil) {
				t.Errorf("a failure is no answer, and an answer no failure: %+v", got)
			}
		}
	}
}

func TestEveryFlippedBitIsAMiss(t *testing.T) {
	k := keyOf("www.example.com.")
	e := entryOf(t, k)
	for name, s := range map[string]Secrets{"sealed": {Values: [][]byte{secret(1)}}, "open": {}} {
		r := newTestRing(t, s)
		value := r.seal("key", e.appendBody(nil))
		for bit := range 8 * len(value) {
			value[bit/8] ^= 1 << (bit % 8)
			if _, err := r.open("key", value); err == nil {
				t.Errorf("%s: bit %d of %d can be flipped", name, bit, 8*len(value))
			}
			value[bit/8] ^= 1 << (bit % 8)
		}
		for n := range value {
			if _, err := r.open("key", value[:n]); err == nil {
				t.Errorf("%s: %d octets of %d pass", name, n, len(value))
			}
		}
		if _, err := r.open("key", append(value, 0)); err == nil {
			t.Errorf("%s: an octet may be added", name)
		}
	}
}

func TestValuesAreBoundToTheirKeys(t *testing.T) {
	e := entryOf(t, keyOf("www.example.com."))
	for _, s := range []Secrets{{}, {Values: [][]byte{secret(1)}}} {
		r := newTestRing(t, s)
		if _, err := r.open("other", r.seal("key", e.appendBody(nil))); !errors.Is(err, errTag) {
			t.Errorf("the value of another key: %v", err)
		}
	}
}

func TestSecretsFollowEachOther(t *testing.T) {
	body := []byte("body")
	rings := map[string]*ring{
		"old":      newTestRing(t, Secrets{Values: [][]byte{secret(1)}}),
		"both":     newTestRing(t, Secrets{Values: [][]byte{secret(2), secret(1)}}),
		"new":      newTestRing(t, Secrets{Values: [][]byte{secret(2)}}),
		"unsealed": newTestRing(t, Secrets{}),
	}
	reads := map[string]string{"old": "old both", "both": "both new", "new": "both new", "unsealed": "unsealed"}
	for writer, w := range rings {
		for reader, r := range rings {
			_, err := r.open("k", w.seal("k", body))
			if want := strings.Contains(" "+reads[writer]+" ", " "+reader+" "); (err == nil) != want {
				t.Errorf("%s reads what %s wrote: %v", reader, writer, err)
			} else if err != nil && !errors.Is(err, errSecret) {
				t.Errorf("%s cannot read what %s wrote: %v", reader, writer, err)
			}
		}
	}
}

// A nonce that came twice under one key would give away what was sealed with it.
func TestNoncesAreNotRepeatedWhenSecretsChange(t *testing.T) {
	r := newTestRing(t, Secrets{Values: [][]byte{secret(1)}})
	seen := map[string]bool{}
	for i := range 100 {
		if err := r.use(Secrets{Values: [][]byte{secret(byte(1 + i%2))}}); err != nil {
			t.Fatal(err)
		}
		head := string(r.seal("k", []byte("b"))[:headLen])
		if seen[head] {
			t.Fatal("a writer used a nonce twice")
		}
		seen[head] = true
	}
}

// All servers of a fleet count their nonces from 1, with the same secret: what
// they seal with has to be each one's own.
func TestServersSealWithKeysOfTheirOwn(t *testing.T) {
	of := Secrets{Values: [][]byte{secret(1)}}
	a, b := newTestRing(t, of), newTestRing(t, of)
	one, two := a.seal("k", []byte("the same body")), b.seal("k", []byte("the same body"))
	if !bytes.Equal(nonce(one), nonce(two)) {
		t.Fatalf("the first nonces are %x and %x", nonce(one), nonce(two))
	}
	if bytes.Equal(one[headLen:headLen+13], two[headLen:headLen+13]) {
		t.Error("two servers used one nonce under one key")
	}
}

func TestValuesThatAreTooLongAreNotOpened(t *testing.T) {
	for _, s := range []Secrets{{}, {Values: [][]byte{secret(1)}}} {
		r := newTestRing(t, s)
		overhead := len(r.seal("k", nil))
		for length, want := range map[int]error{MaxValue: nil, MaxValue + 1: errSize} {
			if _, err := r.open("k", r.seal("k", make([]byte, length-overhead))); !errors.Is(err, want) {
				t.Errorf("%d octets: %v; expected %v", length, err, want)
			}
		}
	}
}

func TestNamesOfKeysOutliveSecrets(t *testing.T) {
	k := keyOf("www.example.com.")
	names := func(s Secrets) string { return keyName(forAnswer, 0, newTestRing(t, s).digest(k)) }
	a, b, n := secret(1), secret(2), secret(3)
	if names(Secrets{Values: [][]byte{a}}) != names(Secrets{Values: [][]byte{b, a}}) {
		t.Error("a new secret beside the old one changes the names of keys")
	}
	if names(Secrets{Values: [][]byte{a}, Names: n}) != names(Secrets{Values: [][]byte{b}, Names: n}) {
		t.Error("another secret changes the names of keys, though they have one of their own")
	}
	if names(Secrets{Values: [][]byte{a}}) == names(Secrets{Values: [][]byte{b}}) {
		t.Error("the names of keys can be told without the secret")
	}
}

func TestBadSecretsAreRefused(t *testing.T) {
	for name, s := range map[string]Secrets{
		"short": {Values: [][]byte{secret(1)[1:]}},
		"same":  {Values: [][]byte{secret(1), secret(1)}},
		"three": {Values: [][]byte{secret(1), secret(2), secret(3)}},
		"names": {Values: [][]byte{secret(1)}, Names: []byte("short")},
	} {
		if _, err := newRing(s); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestForgedWritersFillNothing(t *testing.T) {
	r := newTestRing(t, Secrets{Values: [][]byte{secret(1)}})
	value := r.seal("k", []byte("body"))
	for i := range 3 * maxCiphers {
		forged := [2]byte{byte(i), byte(i >> 8)}
		copy(value[secretEnd:], forged[:])
		if _, err := r.open("k", value); err == nil && forged != [2]byte(r.writer[:2]) {
			t.Fatalf("writer %d is taken for another", i)
		}
	}
	if n := len(r.keys.Load().ciphers); n > 1 { // its own number is among those that were tried, at times
		t.Errorf("%d writers are remembered; one has written", n)
	}
	for range maxCiphers + 10 { // servers that start all the time
		w := newTestRing(t, Secrets{Values: [][]byte{secret(1)}})
		if _, err := r.open("k", w.seal("k", []byte("body"))); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.keys.Load().ciphers); n > maxCiphers {
		t.Errorf("%d writers are remembered; expected %d at most", n, maxCiphers)
	}
}

func TestKeysTellQuestionsApart(t *testing.T) {
	r := newTestRing(t, Secrets{Values: [][]byte{secret(1)}})
	seen := map[string]Key{}
	for _, name := range []string{".", "com.", "example.com.", "www.example.com.", `\000.example.com.`, "a." + strings.Repeat("x.", 120)} {
		for _, typ := range []wire.Type{wire.TypeA, wire.TypeAAAA, wire.TypeHTTPS, 256, 65280} {
			for _, scope := range []uint64{0, 1, 1 << 63} {
				k := Key{wire.Question{Name: wire.MustParseName(name), Type: typ}, scope}
				for _, use := range []byte{forAnswer, forFailure} {
					for _, generation := range []uint64{0, 1, 1<<64 - 1} {
						n := keyName(use, generation, r.digest(k))
						if other, again := seen[n]; again {
							t.Errorf("%v and %v have the same key", k, other)
						}
						seen[n] = k
						if len(n) > 64 || strings.ContainsAny(n, " \r\n\t\x00") || strings.Contains(n, "example") {
							t.Errorf("%q is no key for memcached", n)
						}
					}
				}
			}
		}
	}
}

func TestEntryIsCheckedBeforeItIsUsed(t *testing.T) {
	k := keyOf("www.example.com.")
	good := entryOf(t, k)
	with := func(f func(*Entry)) Entry { e := good; f(&e); return e }
	edit := func(at int, bits byte) Entry {
		return with(func(e *Entry) { e.Msg = bytes.Clone(e.Msg); e.Msg[at] ^= bits })
	}
	tests := []struct {
		name string
		e    Entry
		now  time.Time
		want error
	}{
		{"at once", good, noon, nil},
		{"at its last moment", good, noon.Add(time.Hour + 300*time.Second - time.Millisecond), nil},
		{"after it", good, noon.Add(time.Hour + 300*time.Second), errOld},
		{"an hour ahead", good, noon.Add(-time.Hour), errFuture},
		{"two seconds ahead", good, noon.Add(-2 * time.Second), nil},
		{"a bit more", good, noon.Add(-2*time.Second - time.Millisecond), errFuture},
		{"an hour behind", with(func(e *Entry) { e.Stale = 0 }), noon.Add(time.Hour), errOld},
		{"without its delegation", with(func(e *Entry) { e.Deadline = noon.Add(time.Minute) }), noon.Add(time.Minute), errOld},
		{"to another name", with(func(e *Entry) { e.Msg = response(t, keyOf("ftp.example.com."), 1) }), noon, errQuestion},
		{"of another type", edit(12+17+1, 0x1C), noon, errQuestion},
		{"of another class", edit(12+17+3, 0x02), noon, errQuestion},
		{"a query", edit(2, 0x80), noon, errQuestion},
		{"truncated", edit(2, 0x02), noon, errQuestion},
		{"an update", edit(2, 0x28), noon, errQuestion},
		{"a failure in an answer's place", edit(3, 0x02), noon, errQuestion},
		{"a denial", edit(3, 0x03), noon, nil},
		{"two questions", edit(5, 0x03), noon, errQuestion},
		{"cut off", with(func(e *Entry) { e.Msg = e.Msg[:20] }), noon, errQuestion},
	}
	for _, tt := range tests {
		if err := tt.e.check(k, tt.now); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v; expected %v", tt.name, err, tt.want)
		}
	}
	if good.Fresh(noon.Add(300*time.Second)) || !good.Fresh(noon.Add(299*time.Second)) {
		t.Error("an entry is fresh for its life")
	}
	early := with(func(e *Entry) { e.Deadline = noon.Add(time.Minute) })
	if early.Fresh(noon.Add(time.Minute)) || !early.Expires().Equal(noon.Add(time.Minute)) {
		t.Error("an entry lives on after its delegation")
	}
}

func TestWhatNobodySharesIsNoEntry(t *testing.T) {
	k := keyOf("www.example.com.")
	for _, trust := range []rrset.Trust{rrset.Bogus, rrset.Indeterminate, rrset.Secure + 1} {
		e := entryOf(t, k)
		e.Trust = trust
		if _, err := parseBody(e.appendBody(nil)); !errors.Is(err, errForm) {
			t.Errorf("trust %d: %v", trust, err)
		}
	}
	e := entryOf(t, k)
	e.Life = 0
	if _, err := parseBody(e.appendBody(nil)); !errors.Is(err, errForm) {
		t.Errorf("without life: %v", err)
	}
	e = entryOf(t, k)
	e.Note.Text = "\xff"
	if _, err := parseBody(e.appendBody(nil)); !errors.Is(err, errForm) {
		t.Errorf("a text that is none: %v", err)
	}
}

func TestTextsAreCutAtACharacter(t *testing.T) {
	e := Entry{Stored: noon, Life: time.Second, Note: &ede.Error{Text: strings.Repeat("標", 100)}}
	got, err := parseBody(e.appendBody(nil))
	if err != nil || got.Note.Text != strings.Repeat("標", maxText/3) {
		t.Errorf("%q, %v", got.Note.Text, err)
	}
}

func FuzzParseBody(f *testing.F) {
	k := keyOf("www.example.com.")
	e := entryOf(f, k)
	f.Add(e.appendBody(nil))
	e.Msg, e.Note = nil, nil
	f.Add(e.appendBody(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseBody(b)
		if err != nil {
			return
		}
		if again := e.appendBody(nil); !bytes.Equal(again, b) {
			t.Errorf("%x is read as %+v, which is written %x", b, e, again)
		}
		if err := e.check(k, noon); err == nil && !e.Failed() && !answers(e.Msg, k.Question) {
			t.Errorf("an answer to another question passes: %x", b)
		}
	})
}

func FuzzOpen(f *testing.F) {
	e := entryOf(f, keyOf("www.example.com."))
	sealed, unsealed := newTestRing(f, Secrets{Values: [][]byte{secret(1)}}), newTestRing(f, Secrets{})
	f.Add(sealed.seal("k", e.appendBody(nil)))
	f.Add(unsealed.seal("k", e.appendBody(nil)))
	f.Fuzz(func(t *testing.T, b []byte) {
		other := newTestRing(t, Secrets{Values: [][]byte{secret(2)}})
		if _, err := other.open("k", b); err == nil {
			t.Error("what nobody sealed with the secret is opened")
		}
		if body, err := unsealed.open("k", b); err == nil {
			_, _ = parseBody(body)
		}
	})
}
