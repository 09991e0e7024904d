package cache

import (
	"strings"
	"sync"
	"sync/atomic"

	"shirube/internal/ede"
)

// remarks are the Extended DNS Errors that go with answers. They are few, and
// the same for many answers, so that arenas hold their numbers: what is there
// has no pointers, and who hits needs one. Each stays as long as an answer has
// it.
type remarks struct {
	mu     sync.Mutex
	limit  int
	number map[remark]uint16
	free   []uint16 // numbers that were given back
	uses   [maxRemarks + 1]uint32
	list   [maxRemarks + 1]atomic.Pointer[ede.Error] // by number, from 1
}

// remark is what a client sees of an error.
type remark struct {
	code ede.Code
	text string
}

const (
	// maxRemarks is how many there may be at once. Answers beyond go without
	// text, then without any.
	maxRemarks = 1024
	// maxRemark is how long the text of one is, in octets; the rest is cut off.
	maxRemark = 255
	// remarkSize is about what one takes in memory.
	remarkSize = 512
	// bareRemarks is how many of them are kept for codes without a text. The
	// registry has half as many.
	bareRemarks = 64
)

// newRemarks returns room for so many.
func newRemarks(limit int) *remarks { return &remarks{limit: limit, number: make(map[remark]uint16)} }

// bound sets how many there may be.
func (r *remarks) bound(limit int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.limit = limit
}

// hold returns the number of err, which may be nil, for one more answer.
// Whoever has it gives it back with release.
func (r *remarks) hold(err *ede.Error) uint16 {
	if err == nil {
		return 0
	}
	text := err.Text
	if len(text) > maxRemark {
		text = strings.ToValidUTF8(text[:maxRemark], "")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if text != "" {
		if n := r.get(remark{err.Code, text}, r.limit); n != 0 {
			return n
		}
	}
	return r.get(remark{code: err.Code}, r.limit+bareRemarks)
}

// get returns the number of m, or 0 if there are limit others.
func (r *remarks) get(m remark, limit int) uint16 {
	n, ok := r.number[m]
	switch {
	case ok:
	case len(r.number) >= min(limit, maxRemarks):
		return 0
	case len(r.free) > 0:
		n = r.free[len(r.free)-1]
		r.free = r.free[:len(r.free)-1]
	default:
		n = uint16(len(r.number) + 1)
	}
	if !ok {
		m.text = strings.Clone(m.text)
		r.number[m] = n
		r.list[n].Store(&ede.Error{Code: m.code, Text: m.text})
	}
	r.uses[n]++
	return n
}

// release gives back what hold returned.
func (r *remarks) release(n uint16) {
	if n == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.uses[n]--; r.uses[n] > 0 {
		return
	}
	err := r.list[n].Swap(nil)
	delete(r.number, remark{err.Code, err.Text})
	r.free = append(r.free, n)
}

// of returns the error with number n, or nil. Somebody has to hold it, but not
// to keep what is returned.
func (r *remarks) of(n uint16) *ede.Error { return r.list[n].Load() }
