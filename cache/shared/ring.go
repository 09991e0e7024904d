package shared

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"shirube/internal/wire"
)

// SecretLen is how long a secret is, in octets.
const SecretLen = 32

// MaxSecrets is how many secrets may be in use at once: one can follow another.
const MaxSecrets = 2

// Secrets are what the servers of a fleet have in common, and nobody else has.
type Secrets struct {
	// Values are of SecretLen octets each. The first seals what is written; what
	// any of them sealed is read. None: nothing is sealed, and whoever can write
	// to memcached decides what the fleet answers.
	Values [][]byte
	// Names, of SecretLen octets, makes the names of keys from questions; nil:
	// the last of Values does. One of its own lets Values be changed while what
	// was written stays in use.
	Names []byte
}

// equal reports whether s and o are the same, in the same order.
func (s Secrets) equal(o Secrets) bool {
	return slices.EqualFunc(s.Values, o.Values, bytes.Equal) && bytes.Equal(s.Names, o.Names)
}

// A value is a head and a body; the body is sealed with AES-256-GCM, and with
// it the head and the name of the key are authenticated. The head, in network
// order:
//
//	version 1 | secret 4 | writer 16 | counter 8
//
// The key of the cipher is derived from the secret and the writer, a number
// drawn when a server starts (HKDF, RFC 5869), so that the counter is a nonce: no
// server repeats one with its key. Without secrets, secret, writer and counter
// are 0, and a CRC of all that shows damage.
const (
	version    = 1
	secretEnd  = 1 + 4
	writerLen  = 16
	writerEnd  = secretEnd + writerLen
	headLen    = writerEnd + 8
	nonceStart = 4 // of 12 octets; the counter's 8 follow (RFC 5288 §3)
	crcLen     = 4
)

// MaxValue is how long a value may be, in octets, head and tag included.
const MaxValue = 16 << 10

// maxCiphers bounds the writers whose derived keys are remembered: more servers
// than a fleet has, with those that were restarted lately. Beyond, all are
// forgotten, and derived again as they are needed.
const maxCiphers = 1024

// The words that derived keys are for.
const (
	useSeal  = "shirube shared cache, version 1: sealing"
	useNames = "shirube shared cache, version 1: names"
	useID    = "shirube shared cache, version 1: number of the secret"
	useList  = "shirube shared cache, version 1: name of the list of flushes"
)

// listSeal is what one copy of the list of flushes is sealed with.
type listSeal struct {
	name string // of its key
	id   uint32
	own  cipher.AEAD // nil: it is not sealed
}

// newListSeal returns how the list is sealed with a secret.
func newListSeal(secret []byte, id uint32, own cipher.AEAD) (listSeal, error) {
	name, err := hkdf.Key(sha256.New, secret, nil, useList, digestLen)
	if err != nil {
		return listSeal{}, err
	}
	return listSeal{name: keyName(forList, 0, digest(name)), id: id, own: own}, nil
}

// ring seals and opens values, and names keys. It is safe for concurrent use.
type ring struct {
	writer  [writerLen]byte // this process
	counter atomic.Uint64   // values sealed: never set back, whatever the secret
	epoch   atomic.Uint64   // of the fleet; see flushList
	keys    atomic.Pointer[keys]
}

// keys are the secrets in use.
type keys struct {
	names  [sha256.Size]byte
	values map[uint32][]byte // by number; none: nothing is sealed
	own    cipher.AEAD       // that seals
	ownID  uint32
	lists  []listSeal // what the list of flushes is sealed with: for each secret, so that who has one of them can read it

	mu      sync.RWMutex
	ciphers map[[writerEnd - 1]byte]cipher.AEAD // by number and writer, as in a head
}

// newRing returns a ring with a writer's number of its own.
func newRing(s Secrets) (*ring, error) {
	r := &ring{}
	if _, err := rand.Read(r.writer[:]); err != nil {
		return nil, fmt.Errorf("drawing a number for this server: %w", err)
	}
	return r, r.use(s)
}

// use has the ring go on with s. After an error it goes on as before.
func (r *ring) use(s Secrets) error {
	if len(s.Values) > MaxSecrets {
		return fmt.Errorf("found %d secrets; expected %d at most", len(s.Values), MaxSecrets)
	}
	k := &keys{values: make(map[uint32][]byte), ciphers: make(map[[writerEnd - 1]byte]cipher.AEAD)}
	for i, secret := range s.Values {
		if len(secret) != SecretLen {
			return fmt.Errorf("found a secret of %d octets; expected %d", len(secret), SecretLen)
		}
		id, err := secretID(secret)
		if err != nil {
			return err
		}
		if _, again := k.values[id]; again {
			return errors.New("found the same secret twice")
		}
		k.values[id] = secret
		own, err := newCipher(secret, r.writer[:])
		if err != nil {
			return err
		}
		if i == 0 {
			k.own, k.ownID = own, id
		}
		if err := k.addList(secret, id, own); err != nil {
			return err
		}
	}
	if len(s.Values) == 0 {
		if err := k.addList(nil, 0, nil); err != nil {
			return err
		}
	}
	if err := k.name(s); err != nil {
		return err
	}
	r.keys.Store(k)
	return nil
}

// addList has the list of flushes be sealed with a secret, too.
func (k *keys) addList(secret []byte, id uint32, own cipher.AEAD) error {
	l, err := newListSeal(secret, id, own)
	k.lists = append(k.lists, l)
	return err
}

// isList reports whether name is that of a copy of the list of flushes.
func (k *keys) isList(name string) bool {
	return slices.ContainsFunc(k.lists, func(l listSeal) bool { return l.name == name })
}

// name derives what keys are named with.
func (k *keys) name(s Secrets) error {
	from := s.Names
	switch {
	case from != nil && len(from) != SecretLen:
		return fmt.Errorf("found a secret for names of %d octets; expected %d", len(from), SecretLen)
	case from == nil && len(s.Values) == 0:
		return nil // in the open, as all the rest is
	case from == nil:
		from = s.Values[len(s.Values)-1]
	}
	derived, err := hkdf.Key(sha256.New, from, nil, useNames, len(k.names))
	if err == nil {
		copy(k.names[:], derived)
	}
	return err
}

// secretID returns the number by which a secret is known in values, which says
// nothing of the secret. It is not 0.
func secretID(secret []byte) (uint32, error) {
	b, err := hkdf.Key(sha256.New, secret, nil, useID, 4)
	if err != nil {
		return 0, err
	}
	return max(binary.BigEndian.Uint32(b), 1), nil
}

// newCipher returns what a writer seals with.
func newCipher(secret, writer []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, secret, writer, useSeal, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// castagnoli is the CRC that finds every flipped bit, and more, in values that
// are not sealed.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal returns the value of the key called name that has the given body.
func (r *ring) seal(name string, body []byte) []byte {
	k := r.keys.Load()
	return r.sealWith(k.own, k.ownID, name, body)
}

// sealWith is seal with one of the secrets; own is nil for none.
func (r *ring) sealWith(own cipher.AEAD, id uint32, name string, body []byte) []byte {
	value := make([]byte, headLen, headLen+len(body)+crcLen+16)
	value[0] = version
	if own == nil {
		value = append(value, body...)
		return binary.BigEndian.AppendUint32(value, checksum(name, value))
	}
	binary.BigEndian.PutUint32(value[1:], id)
	copy(value[secretEnd:], r.writer[:])
	binary.BigEndian.PutUint64(value[writerEnd:], r.counter.Add(1))
	return own.Seal(value, nonce(value), body, bound(name, value))
}

// nonce returns what the cipher of the value with this head takes once.
func nonce(head []byte) []byte {
	n := make([]byte, 12)
	copy(n[nonceStart:], head[writerEnd:headLen])
	return n
}

// bound returns what is authenticated along with the body.
func bound(name string, head []byte) []byte {
	return append(append(make([]byte, 0, headLen+len(name)), head[:headLen]...), name...)
}

// checksum is that of an open value without it, and of the name of its key.
func checksum(name string, value []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(name), castagnoli), castagnoli, value)
}

// open returns the body of the value of the key called name. The error is one
// of those above: a value is taken for what it is only if it was written with
// one of the secrets, under this name, by somebody who has the same.
func (r *ring) open(name string, value []byte) ([]byte, error) {
	switch {
	case len(value) > MaxValue:
		return nil, errSize
	case len(value) == 0, value[0] != version:
		return nil, errVersion
	case len(value) < headLen:
		return nil, errForm
	}
	k := r.keys.Load()
	id := binary.BigEndian.Uint32(value[1:])
	if k.own == nil {
		return openUnsealed(name, value, id)
	}
	secret, ok := k.values[id]
	if !ok {
		return nil, errSecret
	}
	sealed, known, err := k.cipher(secret, value)
	if err != nil {
		return nil, errTag
	}
	body, err := sealed.Open(nil, nonce(value), value[headLen:], bound(name, value))
	if err != nil {
		return nil, errTag
	}
	if !known { // only now: forged numbers of writers fill nothing
		k.remember(sealed, value)
	}
	return body, nil
}

// openUnsealed is open without secrets. A value that somebody has sealed is not
// for us, as one that nobody has is not for those who have secrets.
func openUnsealed(name string, value []byte, id uint32) ([]byte, error) {
	if id != 0 {
		return nil, errSecret
	}
	end := len(value) - crcLen
	if end < headLen || binary.BigEndian.Uint32(value[end:]) != checksum(name, value[:end]) {
		return nil, errTag
	}
	return value[headLen:end], nil
}

// cipher returns what the writer of a value seals with, and whether it is
// remembered.
func (k *keys) cipher(secret, value []byte) (c cipher.AEAD, known bool, err error) {
	k.mu.RLock()
	c, known = k.ciphers[[writerEnd - 1]byte(value[1:writerEnd])]
	k.mu.RUnlock()
	if !known {
		c, err = newCipher(secret, value[secretEnd:writerEnd])
	}
	return c, known, err
}

// remember keeps the cipher of the writer of a value.
func (k *keys) remember(c cipher.AEAD, value []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.ciphers) >= maxCiphers {
		clear(k.ciphers)
	}
	k.ciphers[[writerEnd - 1]byte(value[1:writerEnd])] = c
}

// What a key is for. Each has key names of its own.
const (
	forAnswer  = 'a'
	forFailure = 'f'
	forLease   = 'l'
	forCut     = 'c'
	forKeys    = 'k'
	forList    = 'x' // of flushes
	forHot     = 'h' // questions that are asked most: where they are
	forHotPart = 'p' // and some of them
)

// digestLen is how much of the keyed hash of a question is in a key's name, in
// octets: nobody finds two questions with the same.
const digestLen = 24

// digest is the keyed hash of a question. Without the secret nobody can tell
// what a key is about, nor pick names that meet at one server.
type digest [digestLen]byte

// digest returns the digest of k. What is hashed is as long as it says itself,
// so that no two questions are hashed from the same octets.
func (r *ring) digest(k Key) digest {
	var b [sha256.Size + wire.MaxNameLen + 24]byte
	buf := append(b[:0], r.keys.Load().names[:]...)
	buf = append(buf, k.Name...)
	buf = binary.BigEndian.AppendUint16(buf, uint16(k.Type))
	buf = binary.BigEndian.AppendUint16(buf, wire.ClassIN)
	buf = append(buf, 0) // CD: what is asked for with it is not shared
	buf = binary.BigEndian.AppendUint64(buf, k.Scope)
	buf = append(buf, 0) // client subnet: there is none (RFC 7871)
	if epoch := r.epoch.Load(); epoch > 0 {
		buf = binary.BigEndian.AppendUint64(buf, epoch)
	}
	sum := sha256.Sum256(buf)
	return digest(sum[:digestLen])
}

// route returns what picks the server.
func (d digest) route() uint64 { return binary.BigEndian.Uint64(d[:]) }

// keyName returns the name of a key of the given use and generation. It is
// printable and short of memcached's 250 octets, whatever the question.
func keyName(use byte, generation uint64, d digest) string {
	var b [64]byte
	buf := append(b[:0], 's', '0'+version, use)
	buf = strconv.AppendUint(buf, generation, 36)
	buf = append(buf, ':')
	return string(base64.RawURLEncoding.AppendEncode(buf, d[:]))
}
