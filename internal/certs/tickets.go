package certs

import (
	"bufio"
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The keys of session tickets change every ticketPeriod, and those of the
// ticketsKept periods before are taken too: a ticket is good for a day at least.
// RFC 9325 §4.4.3 wants keys changed at least every week.
const (
	ticketPeriod = 8 * time.Hour
	ticketsKept  = 3
)

// A secret has minSecret to maxSecret octets; its file has one or two of them.
const (
	minSecret  = 32
	maxSecret  = 64
	maxSecrets = 2
)

// tickets makes the keys of session tickets.
type tickets struct {
	file   string // "": the keys are random
	seen   files  // when secrets were read, or tried in vain
	next   files  // that were there at the last look
	secret [][]byte
	first  []byte // what derive works with
	period int64  // that keys are for
	keys   [][32]byte
}

func newTickets(file string, now time.Time) (*tickets, error) {
	t := &tickets{file: file, period: periodOf(now)}
	if file == "" {
		t.first = make([]byte, minSecret)
		rand.Read(t.first)
		t.keys = [][32]byte{randomKey()}
		return t, nil
	}
	t.seen = stat(Pair{Certificate: file})
	var err error
	if t.secret, err = readSecrets(file); err != nil {
		return nil, err
	}
	t.first = t.secret[0]
	t.keys = deriveKeys(t.secret, t.period)
	return t, nil
}

func periodOf(now time.Time) int64 { return now.Unix() / int64(ticketPeriod/time.Second) }

func randomKey() (k [32]byte) {
	rand.Read(k[:])
	return k
}

// follow makes the keys for now. It reports whether they are others than before,
// and tells an error once for each change of the file.
func (t *tickets) follow(now time.Time) (changed bool, err error) {
	if t.file != "" {
		changed, err = t.read()
	}
	period := periodOf(now)
	if period == t.period && !changed {
		return false, err
	}
	if t.file != "" {
		t.period, t.keys = period, deriveKeys(t.secret, period)
		return true, err
	}
	t.period = period
	// What nothing is derived from cannot be derived by who steals it later.
	t.keys = append([][32]byte{randomKey()}, t.keys[:min(len(t.keys), ticketsKept)]...)
	return true, nil
}

// read takes up the secrets in the file, if they are others and good.
func (t *tickets) read() (changed bool, err error) {
	found := stat(Pair{Certificate: t.file})
	settled := found.same(t.next)
	t.next = found
	if found.same(t.seen) || !settled {
		return false, nil
	}
	t.seen = found
	secrets, err := readSecrets(t.file)
	if err != nil {
		return false, err
	}
	t.secret = secrets
	return true, nil
}

// deriveKeys returns the keys for a period. The first makes tickets; all are good
// to read them. An instance whose clock is ahead makes them with the key of the
// next period already.
func deriveKeys(secrets [][]byte, period int64) (keys [][32]byte) {
	for _, s := range secrets {
		for _, p := range []int64{0, 1, -1, -2, -3}[:2+ticketsKept] {
			keys = append(keys, expand(s, "shirube session ticket "+strconv.FormatInt(period+p, 10)))
		}
	}
	return keys
}

func (t *tickets) derive(label string) [32]byte { return expand(t.first, "shirube "+label) }

// expand derives a key from a secret, for one use (RFC 5869).
func expand(secret []byte, use string) (k [32]byte) {
	key, err := hkdf.Key(sha256.New, secret, nil, use, len(k))
	if err != nil {
		panic("certs: " + err.Error()) // only of a length beyond 255 hashes
	}
	return [32]byte(key)
}

// readSecrets returns the secrets in file: one on each line, in hexadecimal
// digits. Empty lines and those that begin with # do not count. The error does
// not show them.
func readSecrets(file string) (secrets [][]byte, err error) {
	text, err := read(file)
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		secret, err := hex.DecodeString(line)
		if err != nil || len(secret) < minSecret || len(secret) > maxSecret {
			return nil, fmt.Errorf("%s: line %d: found %d characters; expected %d to %d hexadecimal digits", file, n, len(line), 2*minSecret, 2*maxSecret)
		}
		secrets = append(secrets, secret)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if len(secrets) == 0 || len(secrets) > maxSecrets {
		return nil, fmt.Errorf("%s: found %d secrets; expected 1 to %d", file, len(secrets), maxSecrets)
	}
	return secrets, nil
}
