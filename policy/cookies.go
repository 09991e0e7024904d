package policy

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"shirube/internal/wire"
)

// SecretLen is the length of a secret in octets: SipHash's key (RFC 9018 §4.4).
const SecretLen = 16

// MaxSecrets is how many secrets are live at once: the one that signs, and one
// that still or already verifies, while a new one is rolled out (RFC 9018 §5).
const MaxSecrets = 2

// When a server cookie counts, by the time that is in it (RFC 9018 §4.3).
const (
	cookieLife   = time.Hour
	cookieAhead  = 5 * time.Minute // other servers of the fleet have other clocks
	cookieRenew  = 30 * time.Minute
	cookieFormat = 1 // RFC 9018 §4.1
)

// Where the parts of a cookie are: the client's, then that of RFC 9018 §4.
const (
	versionAt   = wire.ClientCookieLen
	timestampAt = versionAt + 4 // version and reserved octets
	hashAt      = timestampAt + 4
)

// Cookies makes and judges server cookies, those of RFC 9018, which all servers
// that share a secret understand. It is safe for concurrent use.
type Cookies struct {
	secrets atomic.Pointer[[][SecretLen]byte] // the first signs
}

// NewCookies returns Cookies with secrets, as [Cookies.Replace] has them, or with
// a random one if there are none.
func NewCookies(secrets [][]byte) (*Cookies, error) {
	c := new(Cookies)
	if len(secrets) == 0 {
		secrets = [][]byte{make([]byte, SecretLen)}
		_, _ = rand.Read(secrets[0]) // it never fails
	}
	_, err := c.Replace(secrets)
	return c, err
}

// Replace has the first of secrets sign from now on, and all of them verify, and
// reports whether that is new. It is an error when there are none or more than
// [MaxSecrets], or one has not [SecretLen] octets; then nothing changes.
func (c *Cookies) Replace(secrets [][]byte) (changed bool, err error) {
	if len(secrets) == 0 || len(secrets) > MaxSecrets {
		return false, fmt.Errorf("policy: %d secrets for cookies; expected 1 to %d", len(secrets), MaxSecrets)
	}
	keys := make([][SecretLen]byte, len(secrets))
	for i, s := range secrets {
		if copy(keys[i][:], s) != SecretLen || len(s) != SecretLen {
			return false, fmt.Errorf("policy: secret %d for cookies has %d octets; expected %d", i, len(s), SecretLen)
		}
	}
	before := c.secrets.Swap(&keys)
	return before == nil || !slices.Equal(*before, keys), nil
}

// Judge returns what cookie, the data of a COOKIE option that is not malformed,
// says of client at now (RFC 9018 §4). It allocates nothing.
func (c *Cookies) Judge(cookie []byte, client netip.Addr, now time.Time) wire.Cookie {
	switch {
	case len(cookie) == wire.ClientCookieLen:
		return wire.CookieClient
	case len(cookie) != wire.CookieLen || cookie[versionAt] != cookieFormat:
		return wire.CookieUnproven // of another server
	}
	// Serial number arithmetic, which goes on after 2106 (RFC 9018 §4.3).
	age := time.Duration(int32(uint32(now.Unix())-binary.BigEndian.Uint32(cookie[timestampAt:]))) * time.Second
	if age > cookieLife || age < -cookieAhead {
		return wire.CookieUnproven
	}
	hash := binary.LittleEndian.Uint64(cookie[hashAt:])
	secrets := *c.secrets.Load()
	for i := range secrets {
		// One comparison of words, which takes the same time wherever they differ.
		switch {
		case cookieHash(&secrets[i], cookie, client) != hash:
		case i > 0 || age > cookieRenew:
			return wire.CookieOld
		default:
			return wire.CookieValid
		}
	}
	return wire.CookieUnproven
}

// Append appends to dst the client cookie that cookie begins with and a server
// cookie for client, made at now: [wire.CookieLen] octets.
func (c *Cookies) Append(dst, cookie []byte, client netip.Addr, now time.Time) []byte {
	start := len(dst)
	dst = append(dst, cookie[:wire.ClientCookieLen]...)
	dst = append(dst, cookieFormat, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, uint32(now.Unix()))
	return binary.LittleEndian.AppendUint64(dst, cookieHash(&(*c.secrets.Load())[0], dst[start:], client))
}

// cookieHash returns the hash that is in a cookie: of all that is before it, and
// the client's address (RFC 9018 §4.4). The reserved octets count as they are
// (§4.2).
func cookieHash(secret *[SecretLen]byte, cookie []byte, client netip.Addr) uint64 {
	var b [hashAt + 16]byte
	copy(b[:], cookie[:hashAt])
	if client.Is4() || client.Is4In6() {
		a := client.As4()
		return sipHash24(secret, b[:hashAt+copy(b[hashAt:], a[:])])
	}
	a := client.As16()
	copy(b[hashAt:], a[:])
	return sipHash24(secret, b[:])
}
