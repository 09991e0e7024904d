package config

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// Identity is what the server says of itself. In its texts, {hostname} and {version}
// stand for those of the process.
type Identity struct {
	// What a client that asks for it is told of which server answered (NSID, RFC
	// 5001; `dig +nsid`), as text of 128 octets at most: the name of the
	// instance, behind an address that many share. Empty: nothing. Everybody who
	// may ask can see it. Here, in `id` and in `version`, `{hostname}` stands for the
	// name of the host, which is a pod's own, and `{version}` for that of the program.
	NSID string `yaml:"nsid"`
	// The same as hexadecimal digits, for other octets than those of text. Only
	// one of the two can be given.
	NSIDHex string `yaml:"nsid_hex"`
	// What `id.server` and `hostname.bind` are answered with in the class CHAOS (RFC
	// 4892), as text of 255 octets at most. Empty: such questions are refused, as all
	// others in that class.
	ID string `yaml:"id"`
	// What `version.server` and `version.bind` are answered with, likewise. Empty:
	// they are refused.
	Version string `yaml:"version"`
}

// Fill returns i with what stands in braces filled in. An error is that a text is too
// long then.
func (i Identity) Fill(hostname, version string) (Identity, error) {
	words := strings.NewReplacer("{hostname}", hostname, "{version}", version)
	i.NSID, i.ID, i.Version = words.Replace(i.NSID), words.Replace(i.ID), words.Replace(i.Version)
	var d decoder
	d.failed = map[string]bool{}
	d.identity(&i)
	return i, d.err("identity")
}

// Octets returns the NSID. It is empty if there is none.
func (i Identity) Octets() []byte {
	if i.NSIDHex == "" {
		return []byte(i.NSID)
	}
	octets, err := hex.DecodeString(i.NSIDHex)
	if err != nil {
		return nil // it was checked when it was read
	}
	return octets
}

// maxNSID is how long an NSID may be, in octets.
const maxNSID = 128

// maxChaos is how long a text in the class CHAOS may be, in octets (RFC 1035 §3.3).
const maxChaos = 255

// identity reports what cannot be said.
func (d *decoder) identity(i *Identity) {
	for _, chaos := range []struct{ path, text string }{{"identity.id", i.ID}, {"identity.version", i.Version}} {
		if n := len(chaos.text); n > maxChaos {
			d.contradiction(fmt.Sprintf("found %d octets; expected %d at most", n, maxChaos), chaos.path)
		}
	}
	const text, digits = "identity.nsid", "identity.nsid_hex"
	if _, err := hex.DecodeString(i.NSIDHex); err != nil {
		d.contradiction(fmt.Sprintf("found %q; expected hexadecimal digits, two for each octet", shorten(i.NSIDHex)), digits)
		return
	}
	if n := len(i.NSID); n > maxNSID {
		d.contradiction(fmt.Sprintf("found %d octets; expected %d at most", n, maxNSID), text)
	}
	if n := len(i.NSIDHex) / 2; n > maxNSID {
		d.contradiction(fmt.Sprintf("found %d octets; expected %d at most", n, maxNSID), digits)
	}
	if i.NSID != "" && i.NSIDHex != "" {
		d.contradiction("found both nsid and nsid_hex; expected one of them", text, digits)
	}
}
