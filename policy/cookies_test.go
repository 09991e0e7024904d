package policy

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"testing"
	"time"

	"shirube/internal/wire"
)

// unhex returns the octets that digits spell.
func unhex(t testing.TB, digits string) []byte {
	t.Helper()
	b, err := hex.DecodeString(digits)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// newCookies returns Cookies with these secrets.
func newCookies(t testing.TB, secrets ...string) *Cookies {
	t.Helper()
	var keys [][]byte
	for _, s := range secrets {
		keys = append(keys, unhex(t, s))
	}
	c, err := NewCookies(keys)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestSipHashIsThatOfThePaper has the vectors of the reference implementation:
// of messages 00, 00 01, 00 01 02 … under the key 00 01 … 0f.
func TestSipHashIsThatOfThePaper(t *testing.T) {
	var key [SecretLen]byte
	var msg [64]byte
	for i := range msg {
		msg[i] = byte(i)
		key[i%SecretLen] = byte(i % SecretLen)
	}
	for n, want := range map[int]uint64{
		0:  0x726fdb47dd0e0e31,
		1:  0x74f839c593dc67fd,
		2:  0x0d6c8009d9a94f5a,
		3:  0x85676696d7fb7e2d,
		7:  0xab0200f58b01d137,
		8:  0x93f5f5799a932462,
		15: 0xa129ca6149be45e5, // appendix A of the paper
		16: 0x3f2acc7f57c29bdb,
	} {
		if got := sipHash24(&key, msg[:n]); got != want {
			t.Errorf("of %d octets: %#x, want %#x", n, got, want)
		}
	}
}

// vectors are those of RFC 9018 appendix A.
var vectors = []struct {
	name, client string
	secrets      []string
	now          int64
	sent         string
	judged       wire.Cookie
	answered     string
}{
	{
		"A.1: learning a new server cookie", "198.51.100.100",
		[]string{"e5e973e5a6b2a43f48e7dc849e37bfcf"},
		1559731985,
		"2464c4abcf10c957", wire.CookieClient,
		"2464c4abcf10c957010000005cf79f111f8130c3eee29480",
	},
	{
		"A.2: the same client learning a renewed one", "198.51.100.100",
		[]string{"e5e973e5a6b2a43f48e7dc849e37bfcf"},
		1559734385,
		"2464c4abcf10c957010000005cf79f111f8130c3eee29480", wire.CookieOld,
		"2464c4abcf10c957010000005cf7a871d4a564a1442aca77",
	},
	{
		"A.3: another client learning a renewed one", "203.0.113.203",
		[]string{"e5e973e5a6b2a43f48e7dc849e37bfcf"},
		1559734700,
		"fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5", wire.CookieUnproven, // more than an hour old
		"fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e",
	},
	{
		"A.4: IPv6, with a secret that was rolled over", "2001:db8:220:1:59de:d0f4:8769:82b8",
		[]string{"445536bcd2513298075a5d379663c962", "dd3bdf9344b678b185a6f5cb60fca715"},
		1559741961,
		"22681ab97d52c298010000005cf7c57926556bd0934c72f8", wire.CookieOld,
		"22681ab97d52c298010000005cf7c609a6bb79d16625507a",
	},
}

func TestCookiesAreThoseOfRFC9018(t *testing.T) {
	for _, v := range vectors {
		c, client, now := newCookies(t, v.secrets...), netip.MustParseAddr(v.client), time.Unix(v.now, 0)
		sent := unhex(t, v.sent)
		if got := c.Judge(sent, client, now); got != v.judged {
			t.Errorf("%s: judged %d, want %d", v.name, got, v.judged)
		}
		made := c.Append([]byte("x"), sent, client, now)
		if want := "x" + string(unhex(t, v.answered)); string(made) != want {
			t.Errorf("%s: answered %x, want %x", v.name, made, want)
		}
		if got := c.Judge(made[1:], client, now); got != wire.CookieValid {
			t.Errorf("%s: what was answered is judged %d", v.name, got)
		}
	}
}

// TestReservedOctetsAreHashedAsTheyAre has the cookie of appendix A.3 while it
// counts (RFC 9018 §4.2).
func TestReservedOctetsAreHashedAsTheyAre(t *testing.T) {
	v := vectors[2]
	c, client, sent := newCookies(t, v.secrets...), netip.MustParseAddr(v.client), unhex(t, v.sent)
	made := time.Unix(int64(binary.BigEndian.Uint32(sent[timestampAt:])), 0)
	if got := c.Judge(sent, client, made); got != wire.CookieValid {
		t.Errorf("judged %d, want %d", got, wire.CookieValid)
	}
	sent[versionAt+1] = 0
	if got := c.Judge(sent, client, made); got != wire.CookieUnproven {
		t.Errorf("with other reserved octets judged %d, want %d", got, wire.CookieUnproven)
	}
}

const (
	secretA = "000102030405060708090a0b0c0d0e0f"
	secretB = "101112131415161718191a1b1c1d1e1f"
	secretC = "202122232425262728292a2b2c2d2e2f"
)

var clientCookie = []byte("client's")

func TestCookiesCountForAnHourAndFiveMinutesBefore(t *testing.T) {
	c, client := newCookies(t, secretA), netip.MustParseAddr("192.0.2.1")
	for _, at := range []int64{1_700_000_000, 1<<32 - 100, 1<<32 + 100, 1<<31 - 1, 1 << 31, 0} { // RFC 1982 holds at each
		made := time.Unix(at, 0)
		cookie := c.Append(nil, clientCookie, client, made)
		for after, want := range map[time.Duration]wire.Cookie{
			0:                              wire.CookieValid,
			30 * time.Minute:               wire.CookieValid,
			30*time.Minute + time.Second:   wire.CookieOld,
			time.Hour:                      wire.CookieOld,
			time.Hour + time.Second:        wire.CookieUnproven,
			-5 * time.Minute:               wire.CookieValid,
			-(5*time.Minute + time.Second): wire.CookieUnproven,
			60 * 365 * 24 * time.Hour:      wire.CookieUnproven,
			100 * 365 * 24 * time.Hour:     wire.CookieUnproven,
		} {
			if got := c.Judge(cookie, client, made.Add(after)); got != want {
				t.Errorf("made at %d, %v later: %d, want %d", at, after, got, want)
			}
		}
	}
}

func TestCookieIsGoodForItsClientOnly(t *testing.T) {
	c, now := newCookies(t, secretA), time.Unix(1_700_000_000, 0)
	clients := []netip.Addr{
		netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("::192.0.2.1"),
		netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2"), netip.MustParseAddr("2001:db8:1::1"),
	}
	for _, of := range clients {
		cookie := c.Append(nil, clientCookie, of, now)
		for _, by := range clients {
			if got := c.Judge(cookie, by, now); (got == wire.CookieValid) != (of == by) {
				t.Errorf("%v with the cookie of %v: %d", by, of, got)
			}
		}
	}
	mapped, zoned := netip.MustParseAddr("::ffff:192.0.2.1"), netip.MustParseAddr("fe80::1%eth0")
	if got := c.Judge(c.Append(nil, clientCookie, clients[0], now), mapped, now); got != wire.CookieValid {
		t.Errorf("the same client of IPv4, seen by a socket of IPv6: %d", got)
	}
	if got := c.Judge(c.Append(nil, clientCookie, zoned, now), zoned.WithZone(""), now); got != wire.CookieValid {
		t.Errorf("the same client without its zone: %d", got)
	}
}

func TestEveryOctetOfACookieCounts(t *testing.T) {
	c, client, now := newCookies(t, secretA), netip.MustParseAddr("192.0.2.1"), time.Unix(1_700_000_000, 0)
	cookie := c.Append(nil, clientCookie, client, now)
	for i := range cookie {
		for bit := range 8 {
			forged := bytes.Clone(cookie)
			forged[i] ^= 1 << bit
			if got := c.Judge(forged, client, now); got != wire.CookieUnproven {
				t.Errorf("with bit %d of octet %d turned: %d", bit, i, got)
			}
		}
	}
}

func TestCookiesOfOtherLengthsProveNothing(t *testing.T) {
	c, client, now := newCookies(t, secretA), netip.MustParseAddr("192.0.2.1"), time.Unix(1_700_000_000, 0)
	long := append(c.Append(nil, clientCookie, client, now), make([]byte, 16)...)
	for n := 16; n <= 40; n++ {
		if got := c.Judge(long[:n], client, now); (got == wire.CookieValid) != (n == wire.CookieLen) {
			t.Errorf("%d octets: %d", n, got)
		}
	}
}

// TestSecretsAreRolledOver goes the way of RFC 9018 §5: the new secret is made
// known everywhere, then it signs, then the old one is forgotten.
func TestSecretsAreRolledOver(t *testing.T) {
	client, now := netip.MustParseAddr("192.0.2.1"), time.Unix(1_700_000_000, 0)
	servers := [2]*Cookies{newCookies(t, secretA), newCookies(t, secretA)}
	cookie := servers[0].Append(nil, clientCookie, client, now)
	for _, stage := range [][]string{{secretA, secretB}, {secretB, secretA}, {secretB}, {secretB, secretC}} {
		var secrets [][]byte
		for _, s := range stage {
			secrets = append(secrets, unhex(t, s))
		}
		for i, s := range servers { // one after the other: in between, the fleet is of two minds
			if changed, err := s.Replace(secrets); err != nil || !changed {
				t.Fatal(changed, err)
			}
			if changed, err := s.Replace(secrets); err != nil || changed {
				t.Fatal("the same again:", changed, err)
			}
			for j, s := range servers {
				if got := s.Judge(cookie, client, now); !got.Proven() {
					t.Errorf("server %d has %v: server %d says %d", i, stage, j, got)
				} else if got == wire.CookieOld {
					cookie = s.Append(nil, cookie, client, now)
				}
			}
		}
	}
	if got := newCookies(t, secretA).Judge(cookie, client, now); got != wire.CookieUnproven {
		t.Errorf("a server that missed it all says %d", got)
	}
}

func TestCookiesWithoutASecretAreOfThatServerAlone(t *testing.T) {
	a, b := newCookies(t), newCookies(t)
	client, now := netip.MustParseAddr("2001:db8::1"), time.Unix(1_700_000_000, 0)
	cookie := a.Append(nil, clientCookie, client, now)
	if mine, theirs := a.Judge(cookie, client, now), b.Judge(cookie, client, now); mine != wire.CookieValid || theirs != wire.CookieUnproven {
		t.Errorf("judged %d and %d", mine, theirs)
	}
}

func TestNewCookiesRefusesBadSecrets(t *testing.T) {
	good := make([]byte, SecretLen)
	for _, secrets := range [][][]byte{{good[:15]}, {append(good, 0)}, {good, {}}, {good, good, good}} {
		if _, err := NewCookies(secrets); err == nil {
			t.Errorf("%x was taken", secrets)
		}
	}
	c := newCookies(t, secretA)
	client, now := netip.MustParseAddr("192.0.2.1"), time.Unix(1_700_000_000, 0)
	cookie := c.Append(nil, clientCookie, client, now)
	if _, err := c.Replace(nil); err == nil {
		t.Error("no secret was taken")
	}
	if got := c.Judge(cookie, client, now); got != wire.CookieValid {
		t.Errorf("after that, a cookie is judged %d", got)
	}
}

func TestCookiesAllocateNothing(t *testing.T) {
	c, now := newCookies(t, secretA, secretB), time.Unix(1_700_000_000, 0)
	for _, client := range []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")} {
		buf := make([]byte, 0, wire.CookieLen)
		if avg := testing.AllocsPerRun(100, func() {
			if c.Judge(c.Append(buf, clientCookie, client, now), client, now) != wire.CookieValid {
				t.Fatal("not valid")
			}
		}); avg != 0 {
			t.Errorf("%v: %v allocations", client, avg)
		}
	}
}

func BenchmarkJudgeCookie(b *testing.B) {
	c, now := newCookies(b, secretA), time.Unix(1_700_000_000, 0)
	for _, client := range []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")} {
		b.Run(client.String(), func(b *testing.B) {
			cookie := c.Append(nil, clientCookie, client, now)
			for b.Loop() {
				if c.Judge(cookie, client, now) != wire.CookieValid {
					b.Fatal("not valid")
				}
			}
		})
	}
}
