package dnssec

import (
	"testing"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

func TestSentinelFailsAsRFC8509Says(t *testing.T) {
	tags := []uint16{42, 20326}
	for _, test := range []struct {
		name  string
		typ   wire.Type
		trust rrset.Trust
		cd    bool
		want  bool
	}{
		// The table of RFC 8509 §3.2.
		{"root-key-sentinel-is-ta-20326.example.", wire.TypeA, rrset.Secure, false, false},
		{"root-key-sentinel-is-ta-38696.example.", wire.TypeA, rrset.Secure, false, true},
		{"root-key-sentinel-not-ta-20326.example.", wire.TypeA, rrset.Secure, false, true},
		{"root-key-sentinel-not-ta-38696.example.", wire.TypeA, rrset.Secure, false, false},
		{"Root-Key-Sentinel-Not-TA-20326.", wire.TypeAAAA, rrset.Secure, false, true},
		{"root-key-sentinel-not-ta-00042.", wire.TypeA, rrset.Secure, false, true},
		{"root-key-sentinel-is-ta-00043.", wire.TypeA, rrset.Secure, false, true},
		// The conditions of §3.1.
		{"root-key-sentinel-not-ta-20326.", wire.TypeTXT, rrset.Secure, false, false},
		{"root-key-sentinel-not-ta-20326.", wire.TypeA, rrset.Insecure, false, false},
		{"root-key-sentinel-not-ta-20326.", wire.TypeA, rrset.Unchecked, false, false},
		{"root-key-sentinel-not-ta-20326.", wire.TypeA, rrset.Secure, true, false},
		// Other names.
		{"root-key-sentinel-is-ta-43.", wire.TypeA, rrset.Secure, false, false},
		{"root-key-sentinel-is-ta-000043.", wire.TypeA, rrset.Secure, false, false},
		{"root-key-sentinel-is-ta-70000.", wire.TypeA, rrset.Secure, false, false},
		{"root-key-sentinel-is-ta-+0043.", wire.TypeA, rrset.Secure, false, false},
		{"root-key-sentinel-is-ta-.", wire.TypeA, rrset.Secure, false, false},
		{"root-key-sentinel-38696.", wire.TypeA, rrset.Secure, false, false},
		{"www.root-key-sentinel-is-ta-38696.", wire.TypeA, rrset.Secure, false, false},
		{".", wire.TypeA, rrset.Secure, false, false},
	} {
		q := wire.Question{Name: wire.MustParseName(test.name), Type: test.typ}
		if got := SentinelFails(q, test.trust, test.cd, tags); got != test.want {
			t.Errorf("%v, %v, CD %v: got %v", q, test.trust, test.cd, got)
		}
	}
}
