package anchor

import (
	"bufio"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// The limits of a file of anchors.
const (
	maxOctets  = 1 << 20
	maxRecords = 1000
)

// defaultTTL is for records without one. It is not used: anchors do not expire.
const defaultTTL = 3600

// errExpected says what an anchor is.
var errExpected = errors.New("expected a DS or DNSKEY record in the form of a zone file, such as \"example. IN DS 12345 13 2 0123…CDEF\"")

// ParseFile reads the anchors in a file; see [Parse].
func ParseFile(path string) ([]dns.RR, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	return Parse(f, path)
}

// Parse reads anchors in the form of a zone file: DS and DNSKEY records with
// absolute names. In the files that Unbound keeps for auto-trust-anchor-file,
// a key's state stands in a comment behind it; those that are not to be trusted
// are left out. An error names the file, the line and what was expected.
func Parse(r io.Reader, file string) ([]dns.RR, error) {
	in := &lines{r: bufio.NewReader(io.LimitReader(r, maxOctets+1))}
	zp := dns.NewZoneParser(in, ".", file)
	zp.SetDefaultTTL(defaultTTL)
	var rrs []dns.RR
	seen := 0
	for rr, ok := zp.Next(); ok; rr, ok = zp.Next() {
		seen++
		err := errTrust(rr, zp.Comment())
		if errors.Is(err, errNotTrusted) {
			continue
		}
		if err == nil && seen > maxRecords {
			err = fmt.Errorf("found more than %d records", maxRecords)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, in.line(), err)
		}
		rrs = append(rrs, rr)
	}
	switch err := zp.Err(); {
	case in.octets > maxOctets:
		return nil, fmt.Errorf("%s: larger than %d octets", file, maxOctets)
	case err != nil:
		return nil, fmt.Errorf("%s:%d: %s; %w", file, in.line(), strings.TrimPrefix(err.Error(), file+": "), errExpected)
	case seen == 0:
		return nil, fmt.Errorf("%s: found no record; %w", file, errExpected)
	}
	return rrs, nil
}

// ParseRecord reads one anchor, as it stands in a line of a file.
func ParseRecord(text string) (dns.RR, error) {
	zp := dns.NewZoneParser(strings.NewReader(text+"\n"), ".", "")
	zp.SetDefaultTTL(defaultTTL)
	rr, ok := zp.Next()
	switch {
	case !ok && zp.Err() != nil:
		return nil, fmt.Errorf("%s; %w", strings.TrimPrefix(zp.Err().Error(), "dns: "), errExpected)
	case !ok:
		return nil, fmt.Errorf("found no record; %w", errExpected)
	}
	if _, more := zp.Next(); more || zp.Err() != nil {
		return nil, fmt.Errorf("found more than one record; %w", errExpected)
	}
	return rr, check(rr)
}

// errNotTrusted says that a file has a key that is no anchor.
var errNotTrusted = errors.New("not trusted")

// The states in Unbound's files (validator/autotrust.h) of keys that may be
// trusted; the others are START, ADDPEND, REVOKED and REMOVED.
const (
	unboundState   = ";;state="
	unboundValid   = unboundState + "2"
	unboundMissing = unboundState + "3"
)

// errTrust says why a record with the comment behind it is no anchor.
func errTrust(rr dns.RR, comment string) error {
	if k, ok := rr.(*dns.DNSKEY); ok && k.Flags&dns.REVOKE != 0 {
		return errNotTrusted
	}
	comment = strings.ReplaceAll(comment, " ", "") // the parser adds some
	if strings.Contains(comment, unboundState) &&
		!strings.Contains(comment, unboundValid) && !strings.Contains(comment, unboundMissing) {
		return errNotTrusted
	}
	return check(rr)
}

// check reports why rr cannot be an anchor. It brings its data into the one
// form in which they are compared.
func check(rr dns.RR) error {
	h := rr.Header()
	name, err := wire.ParseName(h.Name)
	switch {
	case err != nil:
		return fmt.Errorf("found the owner %q: %w; %w", h.Name, err, errExpected)
	case h.Class != dns.ClassINET:
		return fmt.Errorf("found the class %s; expected IN", dns.Class(h.Class))
	}
	h.Name = name.String()
	switch rr := rr.(type) {
	case *dns.DS:
		return checkDS(rr)
	case *dns.DNSKEY:
		return checkKey(rr)
	}
	return fmt.Errorf("found a record of type %s; %w", dns.Type(h.Rrtype), errExpected)
}

func checkDS(ds *dns.DS) error {
	// RFC 4034 §5.1.3 and appendix A.2, RFC 4509, RFC 6605 §2.
	sizes := map[uint8]int{dns.SHA1: 20, dns.SHA256: 32, dns.SHA384: 48}
	size, known := sizes[ds.DigestType]
	digest, err := hex.DecodeString(ds.Digest)
	switch {
	case !known:
		return fmt.Errorf("found the digest type %d; expected 1 (SHA-1), 2 (SHA-256) or 4 (SHA-384)", ds.DigestType)
	case err != nil || len(digest) != size:
		return fmt.Errorf("found a digest of type %d with %d digits; expected %d hexadecimal ones", ds.DigestType, len(ds.Digest), 2*size)
	}
	ds.Digest = strings.ToLower(ds.Digest)
	return nil
}

func checkKey(k *dns.DNSKEY) error {
	key, err := base64.StdEncoding.DecodeString(k.PublicKey)
	switch {
	case k.Protocol != 3: // RFC 4034 §2.1.2
		return fmt.Errorf("found the protocol %d; expected 3", k.Protocol)
	case k.Flags&dns.ZONE == 0: // RFC 4034 §2.1.1
		return fmt.Errorf("found the flags %d, which are not those of a zone's key; expected 257", k.Flags)
	case k.Flags&dns.REVOKE != 0: // RFC 5011 §7
		return fmt.Errorf("found the flags %d, which are those of a revoked key; expected 257", k.Flags)
	case err != nil || len(key) == 0:
		return errors.New("found no key; expected it in base64")
	}
	k.PublicKey = base64.StdEncoding.EncodeToString(key)
	return nil
}

// lines is a reader that counts the line ends it has given out. The parser
// takes one octet after the other from it, so the count is where it is.
type lines struct {
	r      *bufio.Reader
	ends   int
	octets int
	last   byte
}

// ReadByte implements io.ByteReader.
func (l *lines) ReadByte() (byte, error) {
	c, err := l.r.ReadByte()
	if err != nil {
		return 0, err
	}
	if c == '\n' {
		l.ends++
	}
	l.octets++
	l.last = c
	return c, nil
}

// Read implements io.Reader, which the parser asks for and does not call.
func (l *lines) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	c, err := l.ReadByte()
	if err != nil {
		return 0, err
	}
	p[0] = c
	return 1, nil
}

// line returns the number of the line that was read last, from 1.
func (l *lines) line() int {
	if l.last == '\n' {
		return l.ends
	}
	return l.ends + 1
}
