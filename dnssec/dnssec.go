// Package dnssec decides what signatures prove (RFC 4033, 4034, 4035, 5155,
// 6840). It is pure: records and the time come in, verdicts go out; it asks
// nobody, keeps nothing, and spends no more than a [Budget] allows. Whatever it
// is given was sent by somebody who may want it to be wrong, or to be busy.
package dnssec

import (
	"errors"
	"math"
	"time"

	"shirube/internal/ede"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// The limits that hold for every record set, whoever asks for it. They are
// those that the attacks of 2023 to 2026 were answered with (KeyTrap,
// CVE-2023-50387; NSEC3 bombs, CVE-2023-50868).
const (
	MaxDS         = 8  // DS records of one set that are looked at
	MaxKeysPerTag = 2  // keys of one tag that are tried for a signature
	MaxSignatures = 4  // signatures of one set that are verified
	MaxProofs     = 8  // NSEC and NSEC3 records of one denial that are looked at
	MaxIterations = 50 // of NSEC3 (RFC 9276 §3.2), if the [Budget] says nothing else; above it the denial proves nothing: insecure
	MaxSalt       = 32 // octets of NSEC3 salt; above it as well
	MaxKeyBits    = 4096
	MaxExponent   = 64 // bits of an RSA exponent
)

// ErrBudget is wrapped by the error of what was not decided since the budget
// was used up. It says nothing about the records.
var ErrBudget = errors.New("dnssec: too much work")

// Budget is what one client question may still spend, over everything that is
// validated on its behalf. It belongs to one goroutine.
type Budget struct {
	Verifications int // of signatures
	Hashes        int // of NSEC3 owner names

	// Iterations is how many a hash may have at most; 0 is [MaxIterations], and
	// less is none.
	Iterations int
}

// iterations returns how many a hash may have at most.
func (b *Budget) iterations() uint16 {
	if b.Iterations == 0 {
		return MaxIterations
	}
	return uint16(max(0, min(b.Iterations, math.MaxUint16)))
}

// The default budget (DESIGN §6).
const (
	DefaultVerifications = 32
	DefaultHashes        = 32
)

// NewBudget returns the default budget.
func NewBudget() *Budget {
	return &Budget{Verifications: DefaultVerifications, Hashes: DefaultHashes}
}

// verify pays for one verification of a signature.
func (b *Budget) verify() error {
	return pay(&b.Verifications, "more signatures to verify than one question may cost")
}

// hash pays for one NSEC3 hash.
func (b *Budget) hash() error {
	return pay(&b.Hashes, "more NSEC3 hashes to compute than one question may cost")
}

func pay(left *int, text string) error {
	if *left <= 0 {
		return ede.Wrap(ErrBudget, ede.Bogus, "%s", text)
	}
	*left--
	return nil
}

// Proof is what was found out about a set or a denial, which is not bogus: that
// is an error.
type Proof struct {
	Trust rrset.Trust // Secure or Insecure
	Until time.Time   // not to be believed any longer: the signatures' expiry, or their original TTL from now on; zero: as long as the set lives
	Note  *ede.Error  // what a client is to be told about an insecure one, if anything

	// Wildcard is the name of the wildcard that a secure set was made of; ""
	// for a set that stands in the zone itself. Then it still has to be proven
	// that there is no closer match (RFC 4035 §5.3.4): [DenyCloser].
	Wildcard wire.Name
}
