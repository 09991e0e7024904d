package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"shirube/internal/ede"
	"shirube/internal/wire"
)

// sized returns an answer of exactly so many octets, 60 more than n has at
// least, to the question for an address of n: records of an unknown type. All
// its bytes follow from serial.
func sized(tb testing.TB, n wire.Name, octets int, ttl uint32, serial byte, stored time.Time) *Answer {
	tb.Helper()
	msg := make([]byte, wire.HeaderLen, octets)
	msg[2], msg[3], msg[5] = 0x81, 0x80, 1
	msg = append(append(msg, n...), 0, 1, 0, 1)
	for len(msg) < octets {
		size := min(octets-len(msg)-12, 64+int(serial))
		if rest := octets - len(msg) - 12 - size; rest > 0 && rest < 12 {
			size -= 12 - rest
		}
		msg = append(msg, 0xC0, 12, 0xFF, 0, 0, 1, byte(ttl>>24), byte(ttl>>16), byte(ttl>>8), byte(ttl), byte(size>>8), byte(size))
		for range size {
			msg = append(msg, serial)
		}
		binary.BigEndian.PutUint16(msg[6:], binary.BigEndian.Uint16(msg[6:])+1)
	}
	a, err := NewAnswer(msg, nil, stored, nil)
	if err != nil || len(a.msg) != octets {
		tb.Fatalf("an answer of %d octets has %d: %v", octets, len(msg), err)
	}
	return a
}

func TestArenasAreWholeCacheLines(t *testing.T) {
	if got := unsafe.Sizeof(arena{}); got%64 != 0 {
		t.Errorf("an arena has %d bytes", got)
	}
	if got := unsafe.Sizeof(slot{}); got != slotHead || unsafe.Alignof(slot{}) != unit {
		t.Errorf("a slot has %d bytes, at multiples of %d", got, unsafe.Alignof(slot{}))
	}
}

func TestArenasAreAsManyAsTheirMemoryIsGoodFor(t *testing.T) {
	for size, want := range map[int64]int{
		0: 1, 1 << 20: 8, 31 << 20: 128, 32 << 20: 256, 4 << 30: 256, 8<<30 - 1: 256, 8 << 30: 512, 1 << 40: 4096,
	} {
		if got := arenasFor(size); got != want {
			t.Errorf("%d bytes are for %d arenas, want %d", size, got, want)
		}
	}
}

// TestAnswersTakeTheSizeAndShapeTheyAreGiven stores and finds answers of any
// size in caches of any size.
func TestAnswersTakeTheSizeAndShapeTheyAreGiven(t *testing.T) {
	n := name("www.example.")
	q := query(t, "www.example.", wire.TypeA)
	q.Limit = wire.MaxMsgSize
	for _, bytes := range []int64{-1, 1, 1000, 4000, 10_000, 100 << 10, 1 << 20, 64 << 20} {
		c := NewAnswers(AnswersOptions{Bytes: bytes})
		for _, octets := range []int{90, 91, 92, 93, 500, 4000, MaxAnswer} {
			a := sized(t, n, octets, 60, 7, epoch)
			c.Put(q.Question(), false, false, a)
			out, hit := c.Append(nil, q, epoch)
			if hit.Found && string(out) != string(a.Append(nil, q, epoch)) {
				t.Errorf("%d bytes: %d octets come back as %x", bytes, octets, out)
			}
			if bytes >= 1<<20 && !hit.Found {
				t.Errorf("%d bytes: %d octets are not kept", bytes, octets)
			}
			checkArenas(t, c)
		}
	}
}

func TestAnswersRememberWhatIsSpare(t *testing.T) {
	n := name("www.example.")
	q := query(t, "www.example.", wire.TypeA)
	for _, spare := range []int{0, 1, 5, 900} {
		a := sized(t, n, MaxAnswer, 60, 0, epoch)
		copy(a.msg[8:], a.msg[6:8]) // all its records are of the authority section
		a.msg[6], a.msg[7] = 0, 0
		a.MarkSpare(spare)
		c := NewAnswers(AnswersOptions{Bytes: 1 << 20})
		c.Put(q.Question(), false, false, a)
		for _, q.Limit = range []int{wire.MaxMsgSize, MaxAnswer - 1, MaxAnswer - 400, 512} {
			out, hit := c.Append(nil, q, after(1))
			if !hit.Found || string(out) != string(a.Append(nil, q, after(1))) {
				t.Errorf("%d are spare, %d octets: %x", spare, q.Limit, out)
			}
		}
	}
}

func TestAnswersKeepTheirInvariantsUnderRandomOperations(t *testing.T) {
	for seed, bytes := range []int64{-1, 1, 20 << 10, 200 << 10, 1 << 20, 16 << 20} {
		m := newModel(t, bytes)
		rng := rand.New(rand.NewPCG(uint64(seed), 2))
		program := make([]byte, 60_000/pared)
		for i := range program {
			program[i] = byte(rng.Uint32())
		}
		for step := 0; len(program) >= opSize; step++ {
			program = m.do(program)
			if step%1000 == 0 {
				checkArenas(t, m.c)
				check(t, m.c.failures.Load())
			}
		}
		checkArenas(t, m.c)
		check(t, m.c.failures.Load())
		if st := m.c.Stats(); bytes >= 1<<20 && (st.Answers.Entries == 0 || m.hits == 0) {
			t.Errorf("with %d bytes allowed, %d hits: %+v", bytes, m.hits, st)
		}
	}
}

// FuzzAnswers runs a program against a cache and against a map: what the cache
// answers is what was put last, and what was flushed is gone.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte("put, ask, flush and resize"), uint8(40))
	f.Add([]byte(strings.Repeat("0123456789abcdefghijklmnopqrstuvwxyz", 30)), uint8(2))
	f.Fuzz(func(t *testing.T, program []byte, kibibytes uint8) {
		m := newModel(t, int64(kibibytes)<<12)
		for len(program) >= opSize {
			program = m.do(program)
		}
		checkArenas(t, m.c)
		check(t, m.c.failures.Load())
	})
}

// model is a cache and what is known of what it may answer.
type model struct {
	t    *testing.T
	c    *Answers
	now  float64
	may  map[modelKey][]*Answer // any of them, or none
	hits int
}

type modelKey struct {
	name   wire.Name
	do, cd bool
}

func newModel(t *testing.T, bytes int64) *model {
	return &model{t: t, c: newAnswers(AnswersOptions{Bytes: bytes, MaxStale: time.Minute}, onHeap()), may: map[modelKey][]*Answer{}}
}

// opSize is how many bytes of a program are one operation.
const opSize = 6

// do runs the first operation of a program, and returns the rest.
func (m *model) do(program []byte) []byte {
	op, who, what, size, ttl, bits := program[0], program[1], program[2], program[3], program[4], program[5]
	k := modelKey{name(fmt.Sprintf("h%d.z%d.example.", who, who%8)), bits&1 != 0, bits&2 != 0}
	q := wire.Question{Name: k.name, Type: wire.TypeA}
	m.now += float64(bits) / 100
	switch op % 32 {
	case 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12:
		octets := 75 + int(size) + int(what)*int(size)%MaxAnswer*int(op%32/12)
		a := sized(m.t, k.name, min(octets, MaxAnswer), uint32(ttl), what, after(m.now))
		if what%8 == 0 {
			a.ede = &ede.Error{Code: ede.Code(what % 16), Text: fmt.Sprintf("text %d", size)}
		}
		m.c.Put(q, k.do, k.cd, a)
		m.may[k] = []*Answer{a}
		if ttl == 0 {
			m.may[k] = nil
		}
	case 13: // comes late
		a := sized(m.t, k.name, 80+int(what), 1+uint32(ttl), what, after(m.now-5))
		m.c.Put(q, k.do, k.cd, a)
		m.may[k] = append(m.may[k], a)
	case 14:
		m.c.Fail(q, k.cd, &ede.Error{Text: "x"}, after(m.now))
	case 15:
		m.flush(what, k.name)
	case 16:
		if what < 32 {
			if err := m.c.Resize(int64(size)<<12, after(m.now)); err != nil {
				m.t.Fatal(err)
			}
		}
	default:
		m.ask(k)
	}
	return program[opSize:]
}

// flush forgets what has to do with n.
func (m *model) flush(how byte, n wire.Name) {
	parent, _ := n.Parent()
	goes := func(k modelKey) bool { return k.name == n }
	switch how % 8 {
	case 0:
		m.c.Flush(Scope{Name: n})
	case 1:
		m.c.Flush(Scope{Name: n, Type: wire.TypeA})
	case 2:
		m.c.Flush(Scope{Name: parent, Below: true})
		goes = func(k modelKey) bool { p, _ := k.name.Parent(); return p == parent }
	default:
		m.c.Flush(Scope{Name: n, Type: wire.TypeAAAA})
		goes = func(modelKey) bool { return false }
	}
	for k := range m.may {
		if goes(k) {
			delete(m.may, k)
		}
	}
}

// ask asks for k, and compares.
func (m *model) ask(k modelKey) {
	q := new(wire.Query)
	msg := []byte{1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	msg = append(append(msg, k.name...), 0, 1, 0, 1)
	if q.Parse(msg) != wire.OK {
		m.t.Fatalf("%x is no query", msg)
	}
	q.DO, q.CD, q.Limit = k.do, k.cd, wire.MaxMsgSize
	out, hit := m.c.Append(nil, q, after(m.now))
	if !hit.Found || wire.RcodeOf(out) == wire.ServFail {
		return
	}
	m.hits++
	for _, a := range m.may[k] {
		if string(a.Append(nil, q, after(m.now))) == string(out) && a.alive(after(m.now)) && sameRemark(hit.EDE, a.ede) {
			return
		}
	}
	m.t.Fatalf("%+v is answered with %x, %v; put were %d", k, out, hit.EDE, len(m.may[k]))
}

// sameRemark reports whether got is what is left of want, which loses its text
// and then its code when there are too many.
func sameRemark(got, want *ede.Error) bool {
	return got == nil || want != nil && got.Code == want.Code && (got.Text == want.Text || got.Text == "")
}

func TestNewestAnswerIsAlwaysThere(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 9))
	c := newAnswers(AnswersOptions{Bytes: 1 << 20}, onHeap())
	for i := range 20_000 {
		n := fmt.Sprintf("host%d.example.", rng.IntN(5000))
		a := sized(t, name(n), 100+rng.IntN(1<<rng.IntN(14)), 300, byte(i), after(float64(i)/1000))
		c.Put(question(n, wire.TypeA), false, false, a)
		q := query(t, n, wire.TypeA)
		q.Limit = wire.MaxMsgSize
		if out, hit := c.Append(nil, q, after(float64(i)/1000)); !hit.Found || string(out) != string(a.Append(nil, q, after(float64(i)/1000))) {
			t.Fatalf("put %d, of %d octets, is not answered: %v", i, len(a.msg), hit.Found)
		}
	}
	checkArenas(t, c)
	st := c.Stats().Answers
	if st.Evicted == 0 || st.Promoted == 0 || st.Reinserted == 0 || st.Returned == 0 || st.Replaced == 0 {
		t.Errorf("not all was tried: %+v", st)
	}
}

func TestArenaTellsKeysOfOneHashApart(t *testing.T) {
	c := newAnswers(AnswersOptions{Bytes: 100 << 10}, onHeap())
	a := &c.table.Load().arenas[0]
	const h = 0xABCD_EF01_0000_0000
	key := func(n string, do bool) []byte { return appendKey(nil, []byte(name(n)), wire.TypeA, do, false) }
	put := func(n string, do bool) {
		off := a.reserve(&a.small, 128, 0, new(int))
		s := a.at(off)
		s.size = 128 / unit
		s.write(key(n, do), sized(t, name(n), 90, 60, 1, epoch), c.since(epoch), 0)
		if !a.settle(placeOf(h, off)) {
			t.Fatal("no room")
		}
	}
	put("a.", false)
	put("b.", false)
	put("a.", true)
	for _, w := range []struct {
		n  string
		do bool
	}{{"a.", false}, {"b.", false}, {"a.", true}} {
		s := a.find(h, key(w.n, w.do))
		if s == nil || string(s.appendKey(nil)) != string(key(w.n, w.do)) {
			t.Errorf("%+v is %v", w, s)
		}
	}
	for _, k := range [][]byte{key("b.", true), key("c.", false), appendKey(nil, []byte(name("a.")), wire.TypeAAAA, false, false)} {
		if a.find(h, k) != nil {
			t.Errorf("%x is found", k)
		}
	}
}

func TestPopularAnswersStayAndUnusedOnesGo(t *testing.T) {
	c := NewAnswers(AnswersOptions{Bytes: 200 << 10})
	put := func(n string) { c.Put(question(n, wire.TypeA), false, false, sized(t, name(n), 150, 3600, 1, epoch)) }
	there := func(n string) bool { _, ok := c.Expires(question(n, wire.TypeA), false, false); return ok }
	for i := range 50 {
		n := fmt.Sprintf("popular%d.", i)
		put(n)
		for range 2 {
			ask(t, c, query(t, n, wire.TypeA), epoch)
		}
	}
	for i := range 100_000 { // many times what there is room for
		put(fmt.Sprintf("once%d.", i))
		if i%20 == 0 {
			ask(t, c, query(t, fmt.Sprintf("popular%d.", i/20%50), wire.TypeA), epoch)
		}
	}
	gone := 0 // the seed decides which meet in one bucket or arena: a few may go, to be asked for again
	for i := range 50 {
		if !there(fmt.Sprintf("popular%d.", i)) {
			gone++
		}
	}
	if gone > 5 {
		t.Errorf("%d of 50 popular answers are gone", gone)
	}
	if there("once50000.") {
		t.Error("what nobody asked for again is there")
	}
	checkArenas(t, c)
}

func TestAnswerComesBackToTheMainQueue(t *testing.T) {
	c := NewAnswers(AnswersOptions{Bytes: 100 << 10})
	put := func(n string) { c.Put(question(n, wire.TypeA), false, false, sized(t, name(n), 150, 3600, 1, epoch)) }
	for i := range 2000 { // until the main queue has no room left
		put(fmt.Sprintf("before%d.", i))
	}
	put("www.example.")
	there := true
	for i := 0; there && i < 5000; i++ {
		put(fmt.Sprintf("once%d.", i))
		_, there = c.Expires(question("www.example.", wire.TypeA), false, false)
	}
	before := c.Stats().Answers.Returned
	put("www.example.")
	a := &c.table.Load().arenas[0]
	key := appendKey(nil, []byte(name("www.example.")), wire.TypeA, false, false)
	s := a.find(c.rules.hash(key), key)
	if s == nil || a.offsetOf(s) < a.main.from || c.Stats().Answers.Returned != before+1 {
		t.Errorf("it is not in the main queue: %+v", c.Stats().Answers)
	}
}

func TestCacheFillsUpBeforeItEvicts(t *testing.T) {
	c := NewAnswers(AnswersOptions{Bytes: 4 << 20})
	for i := 0; c.Stats().Answers.Evicted == 0 && i < 100_000; i++ {
		n := fmt.Sprintf("host%d.", i)
		c.Put(question(n, wire.TypeA), false, false, sized(t, name(n), 150, 3600, 1, epoch))
	}
	if st := c.Stats().Answers; st.Bytes < st.Reserved*8/10 { // the fullest of all arenas decides
		t.Errorf("the first answer goes when %d of %d bytes are taken", st.Bytes, st.Reserved)
	}
}

func TestRenewedAnswerTakesThePlaceOfTheOldOne(t *testing.T) {
	c := NewAnswers(AnswersOptions{Bytes: 1 << 20})
	q := question("www.example.", wire.TypeA)
	put := func(octets int) { c.Put(q, false, false, sized(t, q.Name, octets, 3600, 1, epoch)) }
	put(200)
	taken := c.Stats().Answers.Bytes
	for _, octets := range []int{200, 199, 190, 200, 180} {
		put(octets)
	}
	if st := c.Stats().Answers; st.Bytes != taken || st.Replaced != 5 || st.Entries != 1 {
		t.Errorf("%d bytes were taken, then %+v", taken, st)
	}
	put(400)
	if st := c.Stats().Answers; st.Bytes <= taken || st.Replaced != 5 || st.Entries != 1 {
		t.Errorf("of another size: %+v", st)
	}
	checkArenas(t, c)
}

func TestRenewedAnswerStaysPopular(t *testing.T) {
	c := NewAnswers(AnswersOptions{Bytes: 1 << 20})
	q := question("www.example.", wire.TypeA)
	for _, octets := range []int{150, 150, 300} {
		c.Put(q, false, false, sized(t, q.Name, octets, 3600, 1, epoch))
		if octets == 150 {
			ask(t, c, query(t, "www.example.", wire.TypeA), epoch)
		}
	}
	a, s := c.locate(appendKey(nil, []byte(q.Name), q.Type, false, false))
	if s == nil || s.state.Load()&freqMask != 2 {
		t.Fatal("it is forgotten how often it was used")
	}
	a.mu.RUnlock()
}

func TestExpiredAnswersGoWhenTheirTurnComes(t *testing.T) {
	c := NewAnswers(AnswersOptions{Bytes: 200 << 10, MaxStale: time.Minute})
	for i := range 20_000 {
		n := fmt.Sprintf("host%d.", i)
		c.Put(question(n, wire.TypeA), false, false, sized(t, name(n), 150, 5, 1, after(float64(i))))
		for range 3 {
			ask(t, c, query(t, n, wire.TypeA), after(float64(i)))
		}
	}
	if st := c.Stats().Answers; st.Expired < 15_000 || st.Reinserted > 0 {
		t.Errorf("with 65 s of use at most, they were moved on: %+v", st)
	}
}

func TestAppendDoesNotCountTheDeadAsUsed(t *testing.T) {
	c := NewAnswers(AnswersOptions{})
	q := query(t, "www.example.", wire.TypeA)
	c.Put(q.Question(), false, false, hosts(t, "www.example.", epoch, "www.example. 30 IN A 192.0.2.1"))
	used := func() uint32 {
		a, s := c.locate(appendKey(nil, q.RawName(), q.Type, false, false))
		defer a.mu.RUnlock()
		return s.state.Load() & freqMask
	}
	if c.Append(nil, q, after(30)); used() != 0 {
		t.Error("an expired answer is used")
	}
	for _, want := range []uint32{1, 2, 3, 3} { // then nothing is written
		if c.Append(nil, q, after(29)); used() != want {
			t.Errorf("it is used %d times, want %d", used(), want)
		}
	}
}

func TestOnePutMovesSoManyAnswersAtMost(t *testing.T) {
	c := NewAnswers(AnswersOptions{Bytes: 200 << 10})
	put := func(n string) { c.Put(question(n, wire.TypeA), false, false, sized(t, name(n), 75, 3600, 1, epoch)) }
	var names []string
	for i := 0; c.Stats().Answers.Evicted == 0; i++ {
		names = append(names, fmt.Sprintf("host%d.", i))
		put(names[i])
	}
	for _, n := range names {
		for range maxFreq {
			c.Append(nil, query(t, n, wire.TypeA), epoch)
		}
	}
	for i := range 5000 {
		before := c.Stats().Answers
		put(fmt.Sprintf("new%d.", i))
		if st := c.Stats().Answers; st.Promoted+st.Reinserted > before.Promoted+before.Reinserted+maxMoves {
			t.Fatalf("put %d: %+v, then %+v", i, before, st)
		}
	}
	checkArenas(t, c)
}

func TestNoAnswerTakesMoreThanAQuarter(t *testing.T) {
	c := NewAnswers(AnswersOptions{Bytes: 64 << 10})
	a := &c.table.Load().arenas[0]
	for _, tt := range []struct {
		octets int
		kept   bool
	}{{a.main.size()/maxShare - 1000, true}, {a.main.size()/maxShare + 1, false}} {
		if tt.octets > MaxAnswer {
			t.Fatalf("an arena of %d octets is too large to tell", a.main.size())
		}
		q := question("www.example.", wire.TypeA)
		c.Put(q, false, false, sized(t, q.Name, tt.octets, 3600, 1, epoch))
		if got := c.Stats().Answers.Entries == 1; got != tt.kept {
			t.Errorf("%d octets of %d: kept %v", tt.octets, a.main.size(), got)
		}
		checkArenas(t, c)
		c.Flush(Everything)
	}
}

func TestSmallAnswersShareTheIndexWhenItIsFull(t *testing.T) {
	c := NewAnswers(AnswersOptions{Bytes: 1 << 20})
	for i := range 60_000 {
		n := fmt.Sprintf("%d.", i)
		c.Put(question(n, wire.TypeA), false, false, sized(t, name(n), 40, 3600, 1, epoch))
	}
	checkArenas(t, c)
	places := 0
	for i := range c.table.Load().arenas {
		places += len(c.table.Load().arenas[i].index)
	}
	if st := c.Stats().Answers; st.Crowded == 0 || st.Entries < places*19/20 {
		t.Errorf("%d of %d places are taken: %+v", st.Entries, places, st)
	}
}

func TestRemarksAreSharedAndBounded(t *testing.T) {
	r := newRemarks(3)
	if r.hold(nil) != 0 {
		t.Error("nothing has a number")
	}
	a, b := r.hold(&ede.Error{Code: 1, Text: "a"}), r.hold(&ede.Error{Code: 1, Text: "b"})
	if a == b || a == 0 || r.hold(&ede.Error{Code: 1, Text: "a"}) != a || r.of(a).Text != "a" {
		t.Errorf("the numbers are %d and %d", a, b)
	}
	long := r.hold(&ede.Error{Code: 2, Text: strings.Repeat("é", 300)})
	if got := r.of(long); got.Text != strings.Repeat("é", maxRemark/2) {
		t.Errorf("a long text becomes %q", got.Text)
	}
	bare := r.hold(&ede.Error{Code: 7, Text: "c"})
	if got := r.of(bare); got.Code != 7 || got.Text != "" {
		t.Errorf("one too many becomes %v", got)
	}
	for i := range 100 {
		r.hold(&ede.Error{Code: ede.Code(1000 + i)})
	}
	if len(r.number) != 3+bareRemarks {
		t.Errorf("%d are held", len(r.number))
	}
	r.release(a)
	if r.of(a) == nil {
		t.Error("what is still used is gone")
	}
	r.release(a)
	if r.of(a) != nil || len(r.number) != 2+bareRemarks {
		t.Errorf("what nobody uses is there: %v", r.of(a))
	}
	if c := r.hold(&ede.Error{Code: 3}); c != a || r.of(c).Code != 3 {
		t.Errorf("its number is not given again: %d is %v", c, r.of(c))
	}
}

func TestAnswersServeWhileTheyAreFilledFlushedAndResized(t *testing.T) {
	c := newAnswers(AnswersOptions{Bytes: 256 << 10, Prefetch: true, Rotate: true, MaxStale: time.Minute}, onHeap()) // which the race detector watches
	const names = 300
	var queries []*wire.Query
	var answers []*Answer
	for i := range names {
		n := fmt.Sprintf("host%d.example.", i)
		queries = append(queries, query(t, n, wire.TypeA))
		answers = append(answers, blob(t, n, 100+i*4, epoch))
		if i%3 == 0 {
			answers[i].ede = &ede.Error{Code: ede.Other, Text: fmt.Sprint(i)}
		}
	}
	var wg sync.WaitGroup
	for worker := range 8 { // end with their loops
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(worker), 1))
			buf := make([]byte, 0, wire.MaxMsgSize)
			for range 3000 {
				i := rng.IntN(names)
				q := queries[i]
				switch rng.IntN(1000) {
				case 0:
					c.Flush(Scope{Name: q.Question().Name})
				case 1:
					if err := c.Resize(int64(100+rng.IntN(1<<10))<<10, epoch); err != nil {
						t.Error(err)
					}
				case 2:
					c.Stats()
				case 3, 4, 5, 6:
					c.Flush(Scope{Name: q.Question().Name, Type: wire.TypeA})
				case 7, 8, 9, 10, 11, 12:
					c.Expect(queries)
				default:
					switch rng.IntN(8) {
					case 0, 1:
						c.Put(q.Question(), false, false, answers[i])
					case 2:
						c.Fail(q.Question(), false, &ede.Error{Text: "x"}, after(float64(rng.IntN(100))))
					case 3:
						c.Stale(buf, q, after(float64(300+rng.IntN(100))))
					default:
						out, hit := c.Append(buf, q, after(float64(rng.IntN(100))))
						if hit.Found && (len(out) < 12 || string(out[12:12+len(q.RawQuestion())]) != string(q.RawQuestion())) {
							t.Errorf("%v is answered with %x", q.Question(), out)
							return
						}
					}
				}
			}
		})
	}
	wg.Wait()
	checkArenas(t, c)
	check(t, c.failures.Load())
}

func TestResizeKeepsWhatThereIsRoomFor(t *testing.T) {
	c := NewAnswers(AnswersOptions{Bytes: 8 << 20})
	const names = 20_000
	put := func(n string) *Answer {
		a := sized(t, name(n), 150, 3600, 1, epoch)
		c.Put(question(n, wire.TypeA), false, false, a)
		return a
	}
	for i := range names {
		a := sized(t, name(fmt.Sprintf("host%d.", i)), 150, 3600, 1, epoch)
		a.ede = &ede.Error{Code: 4, Text: "kept"}
		c.Put(question(fmt.Sprintf("host%d.", i), wire.TypeA), false, false, a)
	}
	c.Fail(question("lame.", wire.TypeA), false, nil, epoch)
	before := c.Stats().Answers
	for _, size := range []int64{64 << 20, 40 << 20, 64 << 20} {
		if err := c.Resize(size, after(1)); err != nil {
			t.Fatal(err)
		}
		checkArenas(t, c)
		if st := c.Stats().Answers; st.Entries != before.Entries || st.Reserved <= size*3/4 || st.Reserved > size {
			t.Fatalf("at %d bytes: %+v, before %+v", size, st, before)
		}
	}
	m, hit := ask(t, c, query(t, "host77.", wire.TypeA), after(10))
	if m == nil || m.Answer[0].Header().Ttl != 3590 || hit.EDE == nil || hit.EDE.Text != "kept" {
		t.Errorf("moved, the answer is %v, %v", m, hit.EDE)
	}
	for i := range 100 { // popular: these stay
		for range 3 {
			ask(t, c, query(t, fmt.Sprintf("host%d.", i), wire.TypeA), after(10))
		}
	}
	if err := c.Resize(1<<20, after(10)); err != nil {
		t.Fatal(err)
	}
	checkArenas(t, c)
	st := c.Stats().Answers
	if st.Entries < 2000 || st.Entries > 6000 || st.Reserved > 1<<20 {
		t.Errorf("made small: %+v", st)
	}
	put("after.")
	if _, ok := c.Expires(question("after.", wire.TypeA), false, false); !ok {
		t.Error("nothing new is kept")
	}
}

func TestResizeThatFailsChangesNothing(t *testing.T) {
	why := errors.New("no memory")
	fails := false
	from := onHeap()
	get := from.get
	from.get = func(size int) ([]byte, error) {
		if fails {
			return nil, why
		}
		return get(size)
	}
	c := newAnswers(AnswersOptions{Bytes: 1 << 20}, from)
	c.Put(question("www.example.", wire.TypeA), false, false, hosts(t, "www.example.", epoch, "www.example. 300 IN A 192.0.2.1"))
	before := c.Stats()
	fails = true
	if err := c.Resize(2<<20, epoch); !errors.Is(err, why) {
		t.Errorf("the error is %v", err)
	}
	if st := c.Stats(); st != before {
		t.Errorf("%+v became %+v", before, st)
	}
	fails = false
	if err := c.Resize(2<<20, epoch); err != nil || c.Stats().Answers.Entries != 1 {
		t.Errorf("later: %v, %+v", err, c.Stats())
	}
	checkArenas(t, c)
}

func TestCacheWithoutMappingsUsesTheHeap(t *testing.T) {
	from := mapped()
	from.get = func(int) ([]byte, error) { return nil, errors.New("none") }
	c := newAnswers(AnswersOptions{Bytes: 1 << 20}, from)
	c.Put(question("www.example.", wire.TypeA), false, false, hosts(t, "www.example.", epoch, "www.example. 300 IN A 192.0.2.1"))
	if m, _ := ask(t, c, query(t, "www.example.", wire.TypeA), epoch); m == nil {
		t.Error("nothing is kept")
	}
	if addr := uintptr(unsafe.Pointer(&c.table.Load().memory[0])); addr%64 != 0 {
		t.Errorf("memory begins at %#x", addr)
	}
}

func TestFlushForgetsByNameTreeAndType(t *testing.T) {
	type at struct {
		n   string
		typ wire.Type
	}
	all := []at{
		{"example.", wire.TypeA},
		{"www.example.", wire.TypeA},
		{"www.example.", wire.TypeAAAA},
		{"a.www.example.", wire.TypeA},
		{"notwww.example.", wire.TypeA},
		{"www.example.org.", wire.TypeA},
		{"ww.www.example.", wire.TypeAAAA},
	}
	for _, tt := range []struct {
		what  string
		scope Scope
		gone  []int
	}{
		{"name", Scope{Name: name("WWW.example.")}, []int{1, 2}},
		{"tree", Scope{Name: name("www.example."), Below: true}, []int{1, 2, 3, 6}},
		{"type", Scope{Name: name("www.example."), Type: wire.TypeAAAA}, []int{2}},
		{"type of a tree", Scope{Name: name("www.example."), Below: true, Type: wire.TypeAAAA}, []int{2, 6}},
		{"root", Everything, []int{0, 1, 2, 3, 4, 5, 6}},
		{"absent", Scope{Name: name("absent."), Below: true}, nil},
		{"absent type", Scope{Name: name("example."), Type: wire.TypeMX}, nil},
	} {
		c := NewAnswers(AnswersOptions{Bytes: 1 << 20})
		for _, a := range all {
			q := question(a.n, a.typ)
			answer := answerOf(t, response(q, rr(t, a.n+" 300 IN TXT x")), epoch)
			c.Put(q, false, false, answer)
			c.Put(q, true, true, answer)
			c.Fail(q, false, nil, after(1))
		}
		if got, want := c.Flush(tt.scope), (AnswersFlushed{2 * len(tt.gone), len(tt.gone)}); got != want {
			t.Errorf("%s: %+v are flushed, want %+v", tt.what, got, want)
		}
		gone := map[int]bool{}
		for _, i := range tt.gone {
			gone[i] = true
		}
		for i, a := range all {
			_, plain := c.Expires(question(a.n, a.typ), false, false)
			_, both := c.Expires(question(a.n, a.typ), true, true)
			failed := lookup(c.failures.Load(), appendKey(nil, []byte(name(a.n)), a.typ, false, false)) != nil
			if plain == gone[i] || both == gone[i] || failed == gone[i] {
				t.Errorf("%s: %+v is there: %v, %v, %v", tt.what, a, plain, both, failed)
			}
		}
		checkArenas(t, c)
		check(t, c.failures.Load())
	}
}

func TestArenaHitsMoreOftenThanCLOCK(t *testing.T) {
	arena, clock := hitRatios(t, 50_000/pared, 5000/pared, 400_000/pared, 1.05, 4)
	t.Logf("hit ratio: S3-FIFO %.2f %%, CLOCK %.2f %%", arena, clock)
	if arena < clock+3 {
		t.Errorf("the hit ratio is %.2f %%, with CLOCK it would be %.2f %%", arena, clock)
	}
}

// hitRatios plays one trace to a cache of answers and to a CLOCK of as many
// entries: names asked for as Zipf's law has it, and one query in so many for
// a name that nobody asks for again. It returns the percentages of hits in the
// last two thirds.
func hitRatios(tb testing.TB, names, kept, requests int, s float64, onceIn int) (arena, clock float64) {
	tb.Helper()
	const octets = 160
	c := newAnswers(AnswersOptions{Bytes: 1 << 30}, onHeap())
	size := slotSize(&sized(tb, numbered(0), octets, 3600, 1, epoch).form)
	t, err := newTable(int64(kept*size)*bucketSize/(ways*meanSlot), &c.rules, onHeap())
	if err != nil {
		tb.Fatal(err)
	}
	c.table.Store(t)
	room := 0
	for i := range t.arenas {
		room += len(t.arenas[i].memory) / size
	}
	old := newStore[uint64, struct{}](1 << 30)
	old.limit = int64(room) * (old.overhead + 100) / shardCount
	rng := rand.New(rand.NewPCG(7, 8))
	zipf := rand.NewZipf(rng, s, 1, uint64(names-1))
	var arenaHits, clockHits int
	for i := range requests {
		k := zipf.Uint64()
		if onceIn > 0 && rng.IntN(onceIn) == 0 {
			k = uint64(names + i)
		}
		measured := 0
		if i >= requests/3 {
			measured = 1
		}
		key := appendKey(nil, []byte(numbered(k)), wire.TypeA, false, false)
		if a, s := c.locate(key); s != nil {
			s.touch()
			a.mu.RUnlock()
			arenaHits += measured
		} else {
			c.put(key, sized(tb, numbered(k), octets, 3600, 1, epoch))
		}
		h := k * 0x9E3779B97F4A7C15 >> 8
		if e := old.get(h, k); e != nil {
			e.touch()
			clockHits += measured
		} else {
			old.put(h, k, struct{}{}, 100, nil)
		}
	}
	checkArenas(tb, c)
	if entries := c.Stats().Answers.Entries; entries > room || entries < room*85/100 {
		tb.Errorf("%d answers are kept, there is room for %d", entries, room)
	}
	last := float64(requests-requests/3) / 100
	return float64(arenaHits) / last, float64(clockHits) / last
}

// numbered returns one of many names of 21 octets.
func numbered(i uint64) wire.Name { return wire.Name(fmt.Sprintf("\x0bh%010d\x07example\x00", i)) }

// typical returns an answer of so many octets with an alias and three addresses
// to the question for one of the numbered names.
func typical(tb testing.TB, octets int) *Answer {
	tb.Helper()
	n := string(numbered(0))
	msg := append([]byte("\x00\x00\x81\x80\x00\x01\x00\x04\x00\x00\x00\x00"), n+"\x00\x01\x00\x01"...)
	at := byte(len(msg) + 12)
	alias := octets - int(at) - 3*16
	msg = append(msg, 0xC0, 12, 0, 5, 0, 1, 0, 0, 14, 16, 0, byte(alias), 30)
	msg = append(msg, strings.Repeat("x", 30)...)
	msg = append(append(msg, byte(alias-33)), strings.Repeat("y", alias-33)+"\x00"...)
	for i := range 3 {
		msg = append(msg, 0xC0, at, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4, 192, 0, 2, byte(i))
	}
	a, err := NewAnswer(msg, nil, epoch, nil)
	if err != nil || len(a.msg) != octets {
		tb.Fatalf("%d octets: %v", len(msg), err)
	}
	return a
}

// renumber makes name, one of the numbered, another one.
func renumber(name []byte, i uint64) {
	for at := 11; at > 1; at-- {
		name[at] = byte('0' + i%10)
		i /= 10
	}
}
