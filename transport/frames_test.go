package transport

import (
	"bytes"
	"encoding/binary"
	"sync"
	"testing"

	"shirube/internal/wire"
)

// message returns a message of n octets, n ≥ 12.
func message(n int, fill byte) []byte {
	return append(make([]byte, wire.HeaderLen), bytes.Repeat([]byte{fill}, n-wire.HeaderLen)...)
}

func newFrames() *frames {
	return &frames{pool: &sync.Pool{New: func() any { return new(inbox) }}}
}

type frameGiven struct {
	msg []byte
	cut bool
}

// feed puts stream into f in pieces of the given sizes, the last one over and
// over, and returns what f gave.
func feed(f *frames, stream []byte, sizes ...int) (given []frameGiven) {
	for i := 0; len(stream) > 0; i++ {
		space := f.Space()
		n := min(len(space), len(stream), sizes[min(i, len(sizes)-1)])
		copy(space, stream[:n])
		f.added(n)
		stream = stream[n:]
		for msg, cut, ok := f.next(); ok; msg, cut, ok = f.next() {
			given = append(given, frameGiven{bytes.Clone(msg), cut})
		}
	}
	return given
}

func TestFramesAreTheSameWhereverTheStreamIsSplit(t *testing.T) {
	want := [][]byte{message(12, 0), message(40, 1), message(1500, 2), message(29, 3)}
	stream := frame(want...)
	for split := 1; split < len(stream); split++ {
		f := newFrames()
		given := feed(f, stream, split, len(stream))
		if len(given) != len(want) || f.done != len(want) || f.partial() {
			t.Fatalf("split at %d: %d messages, %d done", split, len(given), f.done)
		}
		for i := range want {
			if given[i].cut || !bytes.Equal(given[i].msg, want[i]) {
				t.Errorf("split at %d: message %d differs", split, i)
			}
		}
	}
	f := newFrames()
	if given := feed(f, stream, 1); len(given) != len(want) {
		t.Errorf("octet by octet: %d messages", len(given))
	}
}

func TestFramesCutAnOversizedMessageAndGoOn(t *testing.T) {
	for _, size := range []int{maxQuery, maxQuery + 1, 2 * maxQuery, wire.MaxMsgSize} {
		for _, piece := range []int{1, 7, 1000, 100_000} {
			f := newFrames()
			big, after := message(size, 1), message(50, 2)
			given := feed(f, frame(big, after), piece)
			if len(given) != 2 || f.done != 2 || f.partial() {
				t.Fatalf("%d octets in pieces of %d: %d messages, %d done", size, piece, len(given), f.done)
			}
			if !bytes.Equal(given[0].msg, big[:min(size, maxQuery)]) || given[0].cut != (size > maxQuery) {
				t.Errorf("%d octets in pieces of %d: %d octets, cut %v", size, piece, len(given[0].msg), given[0].cut)
			}
			if !bytes.Equal(given[1].msg, after) || given[1].cut {
				t.Errorf("%d octets in pieces of %d: what follows is lost", size, piece)
			}
		}
	}
}

// A length costs nothing: whatever is announced, there is room for one query.
func TestFramesHoldOneQueryWhateverIsAnnounced(t *testing.T) {
	f := newFrames()
	feed(f, []byte{0xFF, 0xFF}, 2)
	if n := len(f.Space()); n != maxQuery {
		t.Errorf("room for %d octets of a message of 65535", n)
	}
	feed(f, make([]byte, 60_000), 60_000)
	if n := len(f.Space()); n > prefixLen+maxQuery {
		t.Errorf("room for %d octets of a message that is cut", n)
	}
}

func TestFramesHoldNothingWhileNothingComes(t *testing.T) {
	f := newFrames()
	f.Wait() // nothing was there
	f.Space()
	f.Wait()
	if f.inbox != nil {
		t.Error("memory is kept though nothing has come")
	}
	feed(f, frame(message(4000, 1), message(100, 1)), 4050)
	if f.Wait(); f.inbox != nil {
		t.Error("memory is kept after whole messages")
	}
	half := frame(message(100, 1))
	feed(f, half[:50], 50)
	if f.Wait(); f.inbox == nil {
		t.Error("half a message was thrown away")
	}
	if given := feed(f, half[50:], 100); len(given) != 1 || !bytes.Equal(given[0].msg, half[prefixLen:]) {
		t.Errorf("after a wait came %v", given)
	}
	feed(f, frame(message(60_000, 1))[:5000], 5000)
	if f.Wait(); f.inbox != nil || !f.partial() {
		t.Error("memory is kept of a message that is thrown away, or where it ends was forgotten")
	}
}

func TestFramesGiveTooShortMessagesAtOnce(t *testing.T) {
	for n := range wire.HeaderLen {
		f := newFrames()
		given := feed(f, binary.BigEndian.AppendUint16(nil, uint16(n)), 2)
		if len(given) != 1 || len(given[0].msg) != 0 {
			t.Errorf("length %d: %v", n, given)
		}
	}
}

// FuzzFrames splits a stream in two ways, and wants the same messages.
func FuzzFrames(f *testing.F) {
	f.Add(frame(message(12, 0), message(40, 1)), 3, 5)
	f.Add(frame(message(5000, 1), message(17, 2)), 1, 4098)
	f.Add([]byte{0, 0, 0xFF, 0xFF, 0, 1}, 1, 1)
	f.Fuzz(func(t *testing.T, stream []byte, a, b int) {
		a, b = max(a, 1), max(b, 1)
		f1, f2 := newFrames(), newFrames()
		one, two := feed(f1, stream, a, b), feed(f2, stream, len(stream)+1)
		for i := range min(len(one), len(two)) {
			if len(one[i].msg) < wire.HeaderLen {
				return // the connection ends here
			}
			if !bytes.Equal(one[i].msg, two[i].msg) || one[i].cut != two[i].cut {
				t.Fatalf("message %d: %d octets, cut %v; %d octets, cut %v",
					i, len(one[i].msg), one[i].cut, len(two[i].msg), two[i].cut)
			}
		}
		if len(one) != len(two) || f1.done != f2.done || f1.partial() != f2.partial() {
			t.Fatalf("%d and %d messages", len(one), len(two))
		}
	})
}
