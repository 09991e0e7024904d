package cache

import (
	"math"
	"sync/atomic"
	"time"
	"unsafe"

	"shirube/internal/wire"
)

// slot is the head of one answer in an [arena]. Behind it are the offsets of
// the answer's TTL fields, then its message, whose question is folded: that is
// the key, together with two bits of the state.
//
// It is nothing but words of 32 bits and halves of them, so that it needs to be
// aligned to [unit] only. Whoever has the arena's lock for reading may change
// state and refresh, atomically; all else is changed under the lock for
// writing, and never while somebody reads it.
type slot struct {
	state   atomic.Uint32 // see below
	refresh atomic.Uint32 // see due
	stored  [2]uint32     // nanoseconds after the cache's base, low half first
	seconds uint32        // that the answer lives from then on
	size    uint16        // of head and body, in units
	octets  uint16        // of the message; MaxAnswer fits
	counts  uint32        // see below
}

const (
	unit     = 4  // octets: all slots are multiples of it
	slotHead = 28 // octets of a slot before its body
)

// What a slot's state holds, beside three octets: the first record of the ring,
// the number of its records, and the length of the question's name.
const (
	freqMask  = 3      // how often the answer was used, to maxFreq
	maxFreq   = 3      //
	slotDead  = 1 << 2 // nothing, but for its size
	slotPlain = 1 << 3 // Answer.plain
	slotBits  = 4      // shift of the key's request bits
	ringFirst = 8      // shift
	ringCount = 16     // shift
	nameLen   = 24     // shift
)

// What a slot's counts hold, so many bits each.
const (
	countBits  = 11                     // of the number of TTLs, then of the remark
	countMask  = 1<<countBits - 1       //
	spareShift = 2 * countBits          // then what is spare
	mostSpare  = 1<<(32-spareShift) - 1 //
	maxTTLs    = MaxAnswer / 11         // a record has eleven octets and more (RFC 1035 §4.1.3)
	_          = uint(countMask - maxTTLs)
	_          = uint(countMask - maxRemarks)
)

// slotSize returns the size of the slot for an answer, in octets.
func slotSize(f *form) int {
	return (slotHead + 2*len(f.ttls) + len(f.msg) + unit - 1) &^ (unit - 1)
}

// bytes returns the size of s in octets.
func (s *slot) bytes() int { return int(s.size) * unit }

// ttls returns how many TTL fields the message of s has.
func (s *slot) ttls() int { return int(s.counts & countMask) }

// remark returns the number of the remark that goes with s; 0: none.
func (s *slot) remark() uint16 { return uint16(s.counts >> countBits & countMask) }

// offsets returns the offsets of the TTL fields in the message of s. They are
// good as long as the lock is held.
func (s *slot) offsets() []uint16 {
	return unsafe.Slice((*uint16)(unsafe.Add(unsafe.Pointer(s), slotHead)), s.ttls())
}

// msg returns the message of s. It is good as long as the lock is held.
func (s *slot) msg() []byte {
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(s), slotHead+2*s.ttls())), s.octets)
}

// form returns what s says, which is good as long as the lock is held.
func (s *slot) form() form {
	state := s.state.Load()
	return form{
		msg: s.msg(), ttls: s.offsets(), spare: uint16(s.counts >> spareShift),
		ring: ring{first: uint16(uint8(state >> ringFirst)), n: uint16(uint8(state >> ringCount))},
	}
}

// appendKey appends the key of s, as the function of that name does.
func (s *slot) appendKey(buf []byte) []byte {
	state := s.state.Load()
	question := s.msg()[wire.HeaderLen:][:state>>nameLen+4]
	return append(append(buf, question...), byte(state>>slotBits)&keyMask)
}

// is reports whether key is that of s: the whole of it.
func (s *slot) is(key []byte) bool {
	state := s.state.Load()
	last := len(key) - 1
	if int(state>>nameLen) != len(key)-keyTail || byte(state>>slotBits)&keyMask != key[last] {
		return false
	}
	return string(s.msg()[wire.HeaderLen:][:last]) == string(key[:last])
}

// write makes s the answer a, stored at the given time, to the question of key.
// It has room for it. Size and use stay.
func (s *slot) write(key []byte, a *Answer, stored int64, remark uint16) {
	name := len(key) - keyTail
	state := s.state.Load()&freqMask | uint32(key[len(key)-1])<<slotBits | uint32(name)<<nameLen
	if a.plain {
		state |= slotPlain
	}
	if a.ring.first <= math.MaxUint8 { // more records than any set may have come before it
		state |= uint32(a.ring.first)<<ringFirst | uint32(min(a.ring.n, math.MaxUint8))<<ringCount
	}
	s.state.Store(state)
	s.refresh.Store(unasked)
	s.stored = [2]uint32{uint32(stored), uint32(stored >> 32)}
	s.seconds, s.octets = a.seconds, uint16(len(a.msg))
	s.counts = uint32(len(a.ttls)) | uint32(remark)<<countBits
	if a.spare <= mostSpare {
		s.counts |= uint32(a.spare) << spareShift
	}
	copy(s.offsets(), a.ttls)
	msg := s.msg()
	copy(msg, a.msg)
	// In the spelling of the key: whoever is answered gets his own.
	copy(msg[wire.HeaderLen:], key[:name])
}

// free makes s a piece of nothing, of so many octets.
func (s *slot) free(octets int) {
	s.state.Store(slotDead)
	s.size = uint16(octets / unit)
}

// touch notes that s was of use. What is found dead is not: it is to go first.
// A popular answer is not written to.
func (s *slot) touch() {
	if state := s.state.Load(); state&freqMask < maxFreq {
		s.state.CompareAndSwap(state, state+1) // whoever lost did so to another's use
	}
}

// storedAt returns when s was stored, in nanoseconds after the base.
func (s *slot) storedAt() int64 { return int64(s.stored[1])<<32 | int64(s.stored[0]) }

// life returns how long s lives after it was stored, in nanoseconds.
func (s *slot) life() int64 { return int64(s.seconds) * int64(time.Second) }

// age returns how old s is at now, in nanoseconds; less than 0 if it is from
// later.
func (s *slot) age(now int64) int64 { return apart(now, s.storedAt()) }

// apart returns a-b, or the nearest there is to it.
func apart(a, b int64) int64 {
	switch d := a - b; {
	case b < 0 && d < a:
		return math.MaxInt64
	case b > 0 && d > a:
		return math.MinInt64
	default:
		return d
	}
}

// alive reports whether s may be used at now. See within.
func (s *slot) alive(now int64) bool {
	age := s.age(now)
	return age < s.life() && age >= -int64(clockSlack)
}

// stale reports whether s has expired at now, but not for as long as most.
func (s *slot) stale(now, most int64) bool {
	over := s.age(now) - s.life()
	return over >= 0 && over < most
}

// over reports whether s is of no use at now or later, for it has expired for
// as long as most, or is from before the clock was set back.
func (s *slot) over(now, most int64) bool { return !s.alive(now) && !s.stale(now, most) }

// place is where an answer begins, as the index has it: tag and position. The
// tag is half of the key's hash, and enough to find the place's buckets: to grow,
// the index need not look at the answers. The position, in units, is good for
// arenas of 16 GiB. 0 is nowhere.
type place uint64

const (
	tagShift = 32
	posMask  = 1<<tagShift - 1
)

// placeOf returns the place of the slot at off, an offset in octets, whose key
// has hash h.
func placeOf(h uint64, off int) place {
	return place(h>>tagShift<<tagShift | uint64(off/unit+1))
}

// tag returns the bits of the key's hash that p has.
func (p place) tag() uint32 { return uint32(p >> tagShift) }

// tagOf returns the bits of h, a key's hash, that its place has. They are others
// than choose the arena.
func tagOf(h uint64) uint32 { return uint32(h >> tagShift) }

// offset returns where the slot begins, in octets.
func (p place) offset() int { return int(p&posMask-1) * unit }

// at returns the slot at off.
func (a *arena) at(off int) *slot {
	_ = a.memory[off+slotHead-1]
	return (*slot)(unsafe.Pointer(&a.memory[off]))
}

// offsetOf returns where s begins.
func (a *arena) offsetOf(s *slot) int {
	return int(uintptr(unsafe.Pointer(s)) - uintptr(unsafe.Pointer(unsafe.SliceData(a.memory))))
}
