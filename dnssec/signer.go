package dnssec

import (
	"time"

	"github.com/miekg/dns"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// VerifySigner verifies that key, which is of zone, signed s. It says nothing
// about who trusts the key. Unlike for [VerifySet], it may be revoked: that is
// proven by its signature over a set that has the revoked key (RFC 5011 §2.1).
// The error is an *[ede.Error], or [ErrBudget].
func VerifySigner(s *rrset.Set, zone wire.Name, key *dns.DNSKEY, now time.Time, b *Budget) (Proof, error) {
	keys := readKeys([]*dns.DNSKEY{key})
	if key.Flags&dns.REVOKE != 0 {
		was := *key
		was.Flags &^= dns.REVOKE
		before := readKeys([]*dns.DNSKEY{&was})
		keys[0].code, keys[0].fault = before[0].code, before[0].fault
	}
	return verifySet(s, zone, keys, now, b)
}
