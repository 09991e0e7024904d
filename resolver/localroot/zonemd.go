package localroot

import (
	"bytes"
	"cmp"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// ZONEMD is what to do about the digest of the zone (RFC 8976).
type ZONEMD uint8

// The policies.
const (
	Require   ZONEMD = iota // a zone without a digest that can be checked is not used
	IfPresent               // it is; one whose digest is wrong is not
	Ignore                  // the digest is not looked at
)

// The one scheme and the hashes that are known (RFC 8976 §5.2, §5.3).
const (
	schemeSimple = 1
	hashSHA384   = 1
	hashSHA512   = 2
)

// What is wrong with a zone's digest.
var (
	errNoDigest  = errors.New("no ZONEMD record that can be checked")
	errBadDigest = errors.New("ZONEMD does not match the zone")
)

// verify checks the digest of the zone at origin that rrs make up, of the given
// serial (RFC 8976 §4). The errors are those above.
func verify(rrs []dns.RR, origin wire.Name, serial uint32, policy ZONEMD) error {
	if policy == Ignore {
		return nil
	}
	candidates := usableDigests(rrs, origin, serial)
	if len(candidates) == 0 {
		if policy == IfPresent && !hasDigest(rrs, origin) {
			return nil
		}
		return errNoDigest
	}
	for _, c := range candidates { // RFC 8976 §4: one that matches is enough
		sum, err := digest(rrs, origin, newHash(c.Hash))
		if err != nil {
			return err
		}
		if hex.EncodeToString(sum) == strings.ToLower(c.Digest) {
			return nil
		}
	}
	return errBadDigest
}

// apexDigests returns the ZONEMD records at origin.
func apexDigests(rrs []dns.RR, origin wire.Name) []*dns.ZONEMD {
	var found []*dns.ZONEMD
	for _, rr := range rrs {
		md, ok := rr.(*dns.ZONEMD)
		if !ok {
			continue
		}
		if owner, err := wire.ParseName(md.Hdr.Name); err == nil && owner == origin {
			found = append(found, md)
		}
	}
	return found
}

// hasDigest reports whether there is a ZONEMD record at origin, of any kind.
func hasDigest(rrs []dns.RR, origin wire.Name) bool { return len(apexDigests(rrs, origin)) > 0 }

// usableDigests returns the ZONEMD records that can be checked: of the zone's
// serial, a known scheme and hash, the hash's length, and the only one with
// that scheme and hash (RFC 8976 §4, steps 3 and 4).
func usableDigests(rrs []dns.RR, origin wire.Name, serial uint32) []*dns.ZONEMD {
	var usable []*dns.ZONEMD
	all := apexDigests(rrs, origin)
	for i, md := range all {
		twin := func(o *dns.ZONEMD) bool { return o.Scheme == md.Scheme && o.Hash == md.Hash }
		if slices.ContainsFunc(all[:i], twin) || slices.ContainsFunc(all[i+1:], twin) {
			continue
		}
		h := newHash(md.Hash)
		if md.Serial == serial && md.Scheme == schemeSimple && h != nil && len(md.Digest) == 2*h.Size() {
			usable = append(usable, md)
		}
	}
	return usable
}

// newHash returns the hash of a number, or nil.
func newHash(number uint8) hash.Hash {
	switch number {
	case hashSHA384:
		return sha512.New384()
	case hashSHA512:
		return sha512.New()
	}
	return nil
}

// canonicalRR is a record as it is digested, with what it is sorted by.
type canonicalRR struct {
	owner string // see canonicalKey
	typ   uint16
	rdata []byte // the end of wire
	wire  []byte
}

// digest returns the digest of the zone at origin in the scheme SIMPLE (RFC
// 8976 §3.3.1): over all records in it, sorted, each once and in canonical
// form (RFC 4034 §6), but for the ZONEMD set at origin and its signatures.
func digest(rrs []dns.RR, origin wire.Name, h hash.Hash) ([]byte, error) {
	var all []canonicalRR
	for _, rr := range rrs {
		owner, err := wire.ParseName(rr.Header().Name)
		if err != nil {
			return nil, fmt.Errorf("owner %q: %w", rr.Header().Name, err)
		}
		if rr.Header().Class != dns.ClassINET || !owner.Within(origin) || owner == origin && aboutDigest(rr) {
			continue
		}
		packed, err := packCanonical(rr)
		if err != nil {
			return nil, fmt.Errorf("packing a record of %v: %w", owner, err)
		}
		all = append(all, canonicalRR{canonicalKey(owner), rr.Header().Rrtype, packed[len(owner)+10:], packed})
	}
	slices.SortFunc(all, func(a, b canonicalRR) int {
		return cmp.Or(strings.Compare(a.owner, b.owner), cmp.Compare(a.typ, b.typ), bytes.Compare(a.rdata, b.rdata))
	})
	for i, rr := range all {
		if i > 0 && bytes.Equal(rr.wire, all[i-1].wire) { // RFC 8976 §3.3.1.1: once
			continue
		}
		h.Write(rr.wire)
	}
	return h.Sum(nil), nil
}

// aboutDigest reports whether rr is a ZONEMD record or a signature of such.
func aboutDigest(rr dns.RR) bool {
	sig, ok := rr.(*dns.RRSIG)
	return rr.Header().Rrtype == dns.TypeZONEMD || ok && sig.TypeCovered == dns.TypeZONEMD
}

// packCanonical returns rr in canonical form, with its own TTL, which is the
// original one in a zone (RFC 4034 §6.2).
func packCanonical(rr dns.RR) ([]byte, error) {
	c := dns.Copy(rr)
	c.Header().Name = lower(c.Header().Name)
	lowerData(c)
	buf := make([]byte, dns.Len(c)+1)
	n, err := dns.PackRR(c, buf, 0, nil, false)
	return buf[:n], err
}

// lower folds a name. One that is none stays as it is, for the packer to say so.
func lower(name string) string {
	n, err := wire.ParseName(name)
	if err != nil {
		return name
	}
	return n.String()
}

// lowerData folds the names in the data of the types that RFC 4034 §6.2 lists,
// without HINFO and NSEC (RFC 6840 §5.1).
func lowerData(rr dns.RR) {
	for _, name := range dataNames(rr) {
		*name = lower(*name)
	}
}

// dataNames returns the names in rr's data that are folded.
func dataNames(rr dns.RR) []*string {
	switch rr := rr.(type) {
	case *dns.NS:
		return []*string{&rr.Ns}
	case *dns.SOA:
		return []*string{&rr.Ns, &rr.Mbox}
	case *dns.RRSIG:
		return []*string{&rr.SignerName}
	case *dns.CNAME:
		return []*string{&rr.Target}
	case *dns.DNAME:
		return []*string{&rr.Target}
	case *dns.PTR:
		return []*string{&rr.Ptr}
	case *dns.MX:
		return []*string{&rr.Mx}
	case *dns.SRV:
		return []*string{&rr.Target}
	case *dns.NAPTR:
		return []*string{&rr.Replacement}
	case *dns.KX:
		return []*string{&rr.Exchanger}
	case *dns.RP:
		return []*string{&rr.Mbox, &rr.Txt}
	case *dns.MINFO:
		return []*string{&rr.Rmail, &rr.Email}
	case *dns.AFSDB:
		return []*string{&rr.Hostname}
	case *dns.RT:
		return []*string{&rr.Host}
	case *dns.PX:
		return []*string{&rr.Map822, &rr.Mapx400}
	case *dns.MB:
		return []*string{&rr.Mb}
	case *dns.MG:
		return []*string{&rr.Mg}
	case *dns.MR:
		return []*string{&rr.Mr}
	case *dns.MD:
		return []*string{&rr.Md}
	case *dns.MF:
		return []*string{&rr.Mf}
	}
	return nil
}
