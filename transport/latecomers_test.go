package transport

import (
	"fmt"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// gate is a scripted Handler whose TryServe, on a name that begins with "gate",
// lets the slow query before it finish and waits until that has joined.
type gate struct {
	*scripted
	t *testing.T
	s *TCP
}

func (h *gate) TryServe(buf []byte, q *wire.Query) ([]byte, Outcome) {
	if string(firstLabel(q)) != "gate" {
		return h.scripted.TryServe(buf, q)
	}
	h.release <- struct{}{}
	eventually(h.t, "the slow answer is ready", func() bool {
		ready := false
		h.s.conns.each(func(c *tcpConn) {
			c.late.mu.Lock()
			defer c.late.mu.Unlock()
			ready = c.late.buf != nil
		})
		return ready
	})
	return wire.AppendReply(buf, q, wire.NoError), Answered
}

func TestTCPDeferredAnswerJoinsTheOthersWrite(t *testing.T) {
	for _, together := range []bool{true, false} {
		t.Run(fmt.Sprintf("read together %v", together), func(t *testing.T) {
			h := &gate{scripted: newScripted(), t: t}
			s, p := servePipes(t, TCPOptions{Handler: h})
			h.s = s
			c, writes := p.dial(t, "192.0.2.1:4000")
			first, second := packQuery(t, 1, "slow"), packQuery(t, 2, "gate")
			if together {
				write(t, c, frame(first, second))
			} else {
				write(t, c, frame(first))
				h.waitBegan(t, 1)
				write(t, c, frame(second))
			}
			ids := map[uint16]bool{}
			for range 2 {
				m := unpack(t, receiveTCP(t, c))
				wantRcode(t, m, dns.RcodeSuccess)
				ids[m.Id] = true
			}
			if len(ids) != 2 || writes.Load() != 1 {
				t.Errorf("answers to %v in %d writes", ids, writes.Load())
			}
			wantBalance(t, s.Stats().Counts, 0)
		})
	}
}

func TestLatecomersJoinWhileTheyAreAdmitted(t *testing.T) {
	l := latecomers{pool: &sync.Pool{New: func() any { return new([]byte) }}}
	if l.join([]byte("x")) || l.dismiss() != nil {
		t.Error("an answer joined nobody")
	}
	l.admit()
	l.admit()
	if !l.join([]byte("ab")) || !l.join([]byte("cd")) {
		t.Error("an answer was turned away")
	}
	if l.join(make([]byte, bufferSize-3)) {
		t.Error("an answer joined that there is no room for")
	}
	if buf := l.dismiss(); buf == nil || string(*buf) != "abcd" {
		t.Errorf("what has joined is %q", *buf)
	}
	if l.join([]byte("ef")) || l.dismiss() != nil {
		t.Error("an answer joined after all was written")
	}
}
