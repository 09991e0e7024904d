package certs

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"time"
)

// maxFile is how long a file in PEM may be, in octets: a chain of dozens.
const maxFile = 256 << 10

// lateRenewal is the part of a certificate's life that is left when its renewal
// is late: clients of ACME renew when a third is.
const lateRenewal = 10

// pair is a certificate in use and the files that it comes from.
type pair struct {
	Pair
	cert    *tls.Certificate
	seen    files // when cert was read, or tried in vain
	next    files // that were there at the last look
	early   files // that have a certificate which is not good yet
	failing bool  // seen was tried in vain

	warned time.Time // the NotAfter that a warning was given for
}

// newPair reads a pair for the first time.
func newPair(from Pair, log *slog.Logger) (p *pair, err error) {
	p = &pair{Pair: from, seen: stat(from)}
	if p.cert, err = load(from); err != nil {
		return nil, err
	}
	if time.Now().After(p.cert.Leaf.NotAfter) {
		log.Warn("a certificate has expired", "file", from.Certificate, "not_after", p.cert.Leaf.NotAfter)
	}
	return p, nil
}

// files is how the two files of a pair looked; a file that is not there is nil.
type files [2]fs.FileInfo

// stat looks at the files of p, wherever links lead to.
func stat(p Pair) (f files) {
	for i, name := range []string{p.Certificate, p.Key} {
		if info, err := os.Stat(name); err == nil {
			f[i] = info
		}
	}
	return f
}

// same reports whether nothing was written between two looks.
func (f files) same(g files) bool {
	for i := range f {
		a, b := f[i], g[i]
		if a == nil || b == nil {
			if a != b {
				return false
			}
			continue
		}
		if !os.SameFile(a, b) || a.Size() != b.Size() || !a.ModTime().Equal(b.ModTime()) {
			return false
		}
	}
	return true
}

// follow looks at the files, and takes up what is in them if that is new and
// good. It tells an error once for each change.
func (p *pair) follow(now time.Time) (taken bool, err error) {
	found := stat(p.Pair)
	settled := found.same(p.next)
	p.next = found
	if found.same(p.seen) || !settled { // not while somebody writes one after the other
		return false, nil
	}
	cert, err := load(p.Pair)
	switch {
	case err != nil:
	case now.After(cert.Leaf.NotAfter):
		err = fmt.Errorf("%s: expired at %v", p.Certificate, cert.Leaf.NotAfter)
	case now.Before(cert.Leaf.NotBefore) && now.Before(p.cert.Leaf.NotAfter):
		if found.same(p.early) { // it is taken up when it is good
			return false, nil
		}
		p.early, p.failing = found, true
		return false, fmt.Errorf("%s: good from %v on", p.Certificate, cert.Leaf.NotBefore)
	}
	p.seen = found // even in vain: another try would find the same
	p.failing = err != nil
	if err != nil {
		return false, err
	}
	p.cert = cert
	return true, nil
}

// warn logs once that the certificate should have been renewed by now.
func (p *pair) warn(log *slog.Logger, now time.Time) {
	leaf := p.cert.Leaf
	late := leaf.NotAfter.Add(-leaf.NotAfter.Sub(leaf.NotBefore) / lateRenewal)
	if now.Before(late) || leaf.NotAfter.Equal(p.warned) {
		return
	}
	p.warned = leaf.NotAfter
	log.Warn("a certificate expires soon, and was not renewed", "file", p.Certificate, "not_after", leaf.NotAfter)
}

// load reads a pair. The error names the file.
func load(p Pair) (*tls.Certificate, error) {
	chain, err := read(p.Certificate)
	if err != nil {
		return nil, err
	}
	key, err := read(p.Key)
	if err != nil {
		return nil, err
	}
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("%s with the key %s: %w", p.Certificate, p.Key, err)
	}
	return &cert, nil
}

var errLong = errors.New("too long")

// read returns what is in a file of maxFile octets at most.
func read(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err // names the file
	}
	defer func() { _ = f.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%w: more than %d octets", errLong, maxFile)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return text, nil
}
