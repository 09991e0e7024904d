package shared

import (
	"context"
	"errors"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
)

// Why nobody knows what there is.
var (
	errBehind = errors.New("the flushes of the fleet are not known")
	errOut    = errors.New("its server is out, or most are")
	errSilent = errors.New("the server did not answer in time")
)

// Inspection is what the fleet has about a question, for people.
type Inspection struct {
	Server string // that the question belongs to; "": no server is of use
	Entry  Entry  // an answer, or a failure; as far as it could be read
	Octets int    // of its value; 0: there is none
	Err    error  // why it is not used, or why nobody knows; nil: it is, or there is none
}

// Inspect says what there is about k. It takes as long as one operation on a
// connection may, and says nothing of the server's health.
func (c *Cache) Inspect(ctx context.Context, k Key) Inspection {
	d := c.ring.digest(k)
	s, _ := c.pick(d.route(), time.Now())
	if s == nil {
		if c.behind(time.Now()) {
			return Inspection{Err: errBehind}
		}
		return Inspection{Err: errOut}
	}
	in := Inspection{Server: s.Name}
	answer, failure := keyName(forAnswer, c.opt.Generation, d), keyName(forFailure, c.opt.Generation, d)
	l := s.ask(time.Now(), answer, failure)
	if !c.patient(ctx, l) {
		in.Err = errSilent
		return in
	}
	for _, name := range []string{answer, failure} {
		item := l.items[name]
		if item == nil || len(item.Value) == 0 {
			continue
		}
		if in.inspect(c, k, name, item); in.Err == nil {
			return in
		}
	}
	if in.Octets == 0 {
		in.Err = l.err
	}
	return in
}

// inspect reads the item called name.
func (in *Inspection) inspect(c *Cache, k Key, name string, item *memcache.Item) {
	in.Octets = len(item.Value)
	in.Entry, in.Err = c.read(k, name, item.Value)
}
