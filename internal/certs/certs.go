// Package certs keeps current what encrypted transports show their clients:
// certificates, which are read again when their files change, and the keys of
// session tickets, which a whole fleet can share.
package certs

import (
	"context"
	"crypto/tls"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// DefaultPoll is how often files are looked at. They are stat'ed, not watched: a
// look at the name sees a file that was written over, one that was renamed into
// its place, and a directory on the way that is a link and was switched over
// (how Kubernetes mounts secrets) alike.
const DefaultPoll = time.Second

// Pair is a certificate with its chain and its key, as files in PEM. Both may be
// in one.
type Pair struct{ Certificate, Key string }

// Options configures a [Store].
type Options struct {
	// Pairs are what there is to be shown. The first is for clients that name no
	// server, or one that none is for. Without any, nobody can shake hands, and
	// SecretFile is not read.
	Pairs []Pair

	// SecretFile has what the keys of session tickets are derived from, so that
	// all servers that have it take each other's; see [Store.Config]. "": they
	// are random, and this process's alone.
	SecretFile string

	Poll time.Duration // DefaultPoll
	Log  *slog.Logger  // nil: nowhere
}

// Store has the certificates and ticket keys in use. Its methods may be called
// concurrently, but for [Store.Run], which is called once at a time at most.
type Store struct {
	poll time.Duration
	log  *slog.Logger

	following sync.Mutex // held while files are read; guards source
	source    source

	shown   atomic.Pointer[shown]
	version atomic.Uint64 // of shown, which changes first
	taken   atomic.Uint64
	failed  atomic.Uint64

	mu      sync.Mutex
	configs []*tls.Config // that were given out
	keys    [][32]byte    // what they have
}

// source is where certificates and ticket keys come from.
type source struct {
	pairs   []*pair // as in Options
	tickets *tickets
}

// Stats is what a [Store] has and has done.
type Stats struct {
	InUse   int    // certificates
	Failing int    // of them, whose files hold others by now, that cannot be used
	Expires int64  // when the first of them does, as Unix seconds
	Taken   uint64 // pairs taken up, those at the start included
	Failed  uint64 // changes of files that were not, for what was found there
}

// New reads all files. An error names the file. That a certificate has expired
// is none, for want of a better one, but is logged.
func New(opt Options) (*Store, error) {
	s := &Store{poll: opt.Poll, log: opt.Log}
	if s.poll <= 0 {
		s.poll = DefaultPoll
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	take, err := s.Prepare(opt)
	if err != nil {
		return nil, err
	}
	take()
	return s, nil
}

// Prepare reads the files that opt names, but for those that are in use already,
// and returns what has handshakes go by all of them from then on. Until that is
// called nothing changes. Sessions can be resumed as long as the secret stays.
// Errors are as New's. Poll and Log stay as they were.
func (s *Store) Prepare(opt Options) (take func(), err error) {
	s.following.Lock()
	defer s.following.Unlock()
	if len(opt.Pairs) == 0 {
		opt.SecretFile = ""
	}
	next := source{tickets: s.source.tickets}
	if next.tickets == nil || next.tickets.file != opt.SecretFile {
		if next.tickets, err = newTickets(opt.SecretFile, time.Now()); err != nil {
			return nil, err
		}
	}
	loaded := uint64(0)
	for _, files := range opt.Pairs {
		p := s.source.pair(files)
		if p == nil {
			if p, err = newPair(files, s.log); err != nil {
				return nil, err
			}
			loaded++
		}
		next.pairs = append(next.pairs, p)
	}
	return func() {
		s.following.Lock()
		defer s.following.Unlock()
		s.taken.Add(loaded)
		s.source = next
		s.show()
		s.setKeys()
	}, nil
}

// pair returns a copy of the pair that comes from those files; nil: there is none.
func (s *source) pair(files Pair) *pair {
	for _, p := range s.pairs {
		if p.Pair == files {
			own := *p // what the original reads until it is replaced, the copy reads after that
			return &own
		}
	}
	return nil
}

// Run keeps everything current until ctx ends.
func (s *Store) Run(ctx context.Context) {
	tick := time.NewTicker(s.poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.follow(time.Now())
	}
}

// Look looks at the files now, as Run does now and then.
func (s *Store) Look() { s.follow(time.Now()) }

// follow takes up what has changed by now.
func (s *Store) follow(now time.Time) {
	s.following.Lock()
	defer s.following.Unlock()
	changed := false
	for _, p := range s.source.pairs {
		taken, err := p.follow(now)
		switch {
		case err != nil:
			s.failed.Add(1)
			s.log.Error("cannot use a new certificate; going on with the one before",
				"file", p.Certificate, "error", err, "not_after", p.cert.Leaf.NotAfter)
		case taken:
			s.taken.Add(1)
			s.log.Info("a new certificate is in use", "file", p.Certificate, "names", p.cert.Leaf.DNSNames,
				"addresses", p.cert.Leaf.IPAddresses, "not_after", p.cert.Leaf.NotAfter)
		}
		changed = changed || taken || err != nil
		p.warn(s.log, now)
	}
	if changed {
		s.show()
	}
	rotated, err := s.source.tickets.follow(now)
	if err != nil {
		s.failed.Add(1)
		s.log.Error("cannot use the new secret for session tickets; going on with the one before", "error", err)
	}
	if rotated {
		s.setKeys()
	}
}

// setKeys has tickets made and read with the keys of the source. The caller holds
// following.
func (s *Store) setKeys() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = s.source.tickets.keys
	for _, c := range s.configs {
		c.SetSessionTicketKeys(s.keys)
	}
}

// show has handshakes see the pairs as they are now. The caller holds following.
func (s *Store) show() {
	s.shown.Store(newShown(s.source.pairs))
	s.version.Add(1)
}

// Config returns what a listener needs whose clients speak one of protocols (IANA's
// ALPN IDs, the best first): TLS 1.2 with nothing but AEAD (RFC 9325 §3.1.1,
// §4.2) and TLS 1.3, in which the hybrid X25519MLKEM768 is preferred by default.
// It may be cloned, and stays current all the same.
func (s *Store) Config(protocols ...string) *tls.Config {
	current := &tls.Config{
		MinVersion: tls.VersionTLS12,
		CipherSuites: []uint16{ // of TLS 1.2; those of 1.3 are all AEAD, and not to be chosen
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		NextProtos:     protocols,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) { return s.shown.Load().choose(hello) },
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	current.SetSessionTicketKeys(s.keys)
	s.configs = append(s.configs, current)
	// Who serves clones what it is given, ticket keys included. The one that is
	// kept current is asked for at each handshake.
	given := current.Clone()
	given.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return current, nil }
	return given
}

// Derive returns a key for another use than tickets, which is the same wherever
// the secret is, and stays what it is as long as this process has the same
// SecretFile. It reports false if there is none.
func (s *Store) Derive(label string) (key [32]byte, ok bool) {
	s.following.Lock()
	defer s.following.Unlock()
	t := s.source.tickets
	return t.derive(label), t.file != ""
}

// Leaves returns the certificates in use, in the order of Options.Pairs.
func (s *Store) Leaves() []*tls.Certificate { return s.shown.Load().all }

// Stats returns the current numbers.
func (s *Store) Stats() Stats {
	v := s.shown.Load()
	st := Stats{InUse: len(v.all), Failing: v.failing, Taken: s.taken.Load(), Failed: s.failed.Load()}
	for _, c := range v.all {
		if expires := c.Leaf.NotAfter.Unix(); st.Expires == 0 || expires < st.Expires {
			st.Expires = expires
		}
	}
	return st
}
