package rrset

// Chain is how a zone denies: by which of its chains of records. It can be
// compared; the zero Chain is that of NSEC records.
type Chain struct {
	Hashed     bool   // NSEC3 records; the rest is theirs
	Iterations uint16 // additional ones
	Salt       string // its octets
}
