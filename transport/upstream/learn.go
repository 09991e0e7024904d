package upstream

import (
	"bytes"
	"net/netip"
)

// learn remembers what the reply r to q says about the server, if nobody else
// can have sent it. Everything that is remembered of a server is decided in
// this file.
func (a *attempt) learn(q *query, r *reply) {
	if r.proof == proven {
		a.client.count.cookiesProven.Add(1)
		a.learnCookie(q, r)
	}
	if r.respelled && (a.overTCP || r.proof == proven) {
		a.client.count.folds.Add(1)
		a.remember(func(s *server) { s.foldsTil = a.now + int64(oddityLife) })
	}
}

// learnCookie remembers the server cookie in r, which is proven, with the client
// cookie it belongs to.
func (a *attempt) learnCookie(q *query, r *reply) {
	old := &a.known.cookie
	same := bytes.Equal(q.cookie, old.client[:]) && old.length > 0
	if len(r.cookie) == 0 || same && bytes.Equal(r.cookie, old.server[:old.length]) {
		return
	}
	c := cookie{length: uint8(len(r.cookie)), born: a.now, local: old.local}
	copy(c.client[:], q.cookie)
	copy(c.server[:], r.cookie)
	if same {
		c.born = old.born
	} else if c.local = a.local(); !c.local.IsValid() {
		return
	}
	a.client.count.cookiesLearned.Add(1)
	a.remember(func(s *server) { s.cookie = c })
}

// learnFromTCP remembers what the reply r to q, over TCP, says about the server
// by what is not in it.
func (a *attempt) learnFromTCP(q *query, r *reply) {
	if q.cookie == nil {
		return
	}
	if a.known.cookie.length > 0 && r.proof == noProof && r.malformed == nil {
		a.client.count.cookieless.Add(1)
		a.remember(func(s *server) {
			s.cookie = cookie{}
			s.shunsTil = a.now + int64(cookieLessLife)
		})
	}
	if a.known.verifyAt != 0 {
		a.verifyLater(0) // it does not fail on cookies: the FORMERR was not its own
	}
}

// learnShuns remembers that the server failed over TCP with a cookie, and did
// not without.
func (a *attempt) learnShuns() {
	a.client.count.cookieless.Add(1)
	a.remember(func(s *server) {
		s.cookie, s.verifyAt = cookie{}, 0
		s.shunsTil = a.now + int64(oddityLife)
	})
}

// verifyLater has the first question from when, in Unix nanoseconds, asked over
// TCP, to see whether the server fails on cookies.
func (a *attempt) verifyLater(when int64) {
	a.remember(func(s *server) { s.verifyAt = when })
}

// remember has learn change what is remembered of the server.
func (a *attempt) remember(learn func(*server)) {
	a.client.servers.update(a.req.Server, a.now, learn)
}

// local returns the address of this machine that the query was sent from.
func (a *attempt) local() netip.Addr {
	if a.overTCP {
		return a.localTCP
	}
	return a.scratch.socket.localAddr()
}
