package cache

import (
	"bytes"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// denials keeps the NSEC and NSEC3 records of zones, each zone's in the order of
// its chain. They are kept as octets, many to a block, so that a million of them
// are some ten thousand pointers to the garbage collector. It is bounded in
// bytes: when it is full, a hand goes round the blocks of all zones, or of the
// one that has more than its share, and a block that was not of use since it
// last passed goes as a whole.
//
// There is one lock: it is taken on the way to servers, where everything else
// takes longer, and is held for a search and the copy of one record.
type denials struct {
	limit int64

	mu      sync.RWMutex
	zones   map[wire.Name]*denialZone
	ring    []*denialZone // all of them
	hand    int           // in ring
	bytes   int64
	entries int
	evicted uint64
}

// denialZone is what is kept of one zone.
type denialZone struct {
	zone    wire.Name
	place   int // in ring
	chain   rrset.Chain
	soa     rrset.Set
	soaSize int64
	life    time.Duration // of soa, when it was stored
	blocks  []*denialBlock
	hand    int // in blocks
	bytes   int64
}

// denialBlock is some links in their order. None is empty.
type denialBlock struct {
	data []byte   // the links, as appendEntry writes them
	at   []uint16 // where each begins
	used atomic.Bool
}

// The sizes of blocks: one that would become longer is split. What is written
// anew for one more link is a block.
const (
	maxBlock      = 8 << 10
	blockOverhead = 128 // bytes, beside its data
)

func newDenials(limit int64) *denials {
	return &denials{limit: limit, zones: make(map[wire.Name]*denialZone)}
}

// resize changes the limit. What does not fit any more goes.
func (d *denials) resize(limit int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.limit = limit
	for d.bytes > d.limit && len(d.ring) > 0 {
		d.evict()
	}
}

// entryHeader is the octets of an entry before its variable parts: the lengths
// of from, to and msg, the end, and the life it had.
const entryHeader = 3*2 + 2*8

// appendEntry appends l to buf.
func appendEntry(buf []byte, l *link) []byte {
	buf = binary.LittleEndian.AppendUint16(buf, uint16(len(l.from)))
	buf = binary.LittleEndian.AppendUint16(buf, uint16(len(l.to)))
	buf = binary.LittleEndian.AppendUint16(buf, uint16(len(l.msg)))
	buf = binary.LittleEndian.AppendUint64(buf, uint64(l.until.UnixNano()))
	buf = binary.LittleEndian.AppendUint64(buf, uint64(l.life))
	buf = append(buf, l.from...)
	buf = append(buf, l.to...)
	return append(buf, l.msg...)
}

// entry returns the link at i, without its chain. Its slices are b's.
func (b *denialBlock) entry(i int) link {
	e := b.data[b.at[i]:]
	from, to, msg := int(binary.LittleEndian.Uint16(e)), int(binary.LittleEndian.Uint16(e[2:])), int(binary.LittleEndian.Uint16(e[4:]))
	l := link{
		until: time.Unix(0, int64(binary.LittleEndian.Uint64(e[6:]))),
		life:  time.Duration(binary.LittleEndian.Uint64(e[14:])),
	}
	e = e[entryHeader:]
	l.from, l.to, l.msg = e[:from], e[from:from+to], e[from+to:from+to+msg]
	return l
}

// from returns the owner of the link at i.
func (b *denialBlock) from(i int) []byte {
	e := b.data[b.at[i]:]
	return e[entryHeader:][:binary.LittleEndian.Uint16(e)]
}

// size returns about how many bytes b takes in memory.
func (b *denialBlock) size() int64 {
	return int64(len(b.data)+len(b.data)/8+2*len(b.at)) + blockOverhead // the allocator rounds up
}

// newBlock returns a block of links.
func newBlock(links []link) *denialBlock {
	size := 0
	for i := range links {
		size += entryHeader + len(links[i].from) + len(links[i].to) + len(links[i].msg)
	}
	b := &denialBlock{data: make([]byte, 0, size), at: make([]uint16, 0, len(links))}
	for i := range links {
		b.at = append(b.at, uint16(len(b.data)))
		b.data = appendEntry(b.data, &links[i])
	}
	return b
}

// links returns the links of b.
func (b *denialBlock) links() []link {
	out := make([]link, len(b.at), len(b.at)+1)
	for i := range out {
		out[i] = b.entry(i)
	}
	return out
}

// find returns the set of zone's chain that is at key, or spans it.
func (d *denials) find(zone wire.Name, hashed bool, key []byte, now time.Time) (s rrset.Set, match, ok bool) {
	msg, until, match := d.copyOut(zone, hashed, key, now)
	if msg == nil {
		return rrset.Set{}, false, false
	}
	s = rrset.Set{Type: wire.TypeNSEC, Rank: rrset.AuthAuthority, Trust: rrset.Secure, Until: until}
	if hashed {
		s.Type = wire.TypeNSEC3
	}
	name, err := wire.FromWire(msg[wire.HeaderLen:]) // the first one, so it is not compressed
	if err != nil {
		return rrset.Set{}, false, false
	}
	s.Name = name
	s.RRs, s.Sigs, ok = unpackRecords(msg)
	return s, match, ok
}

// copyOut returns the octets of what find returns; nil when there is none.
func (d *denials) copyOut(zone wire.Name, hashed bool, key []byte, now time.Time) (msg []byte, until time.Time, match bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	z := d.zones[zone]
	if z == nil || z.chain.Hashed != hashed || len(z.blocks) == 0 {
		return nil, until, false
	}
	at, i := z.search(key)
	if at < 0 { // before the first one: it can be in the last one's span
		at = len(z.blocks) - 1
		i = len(z.blocks[at].at) - 1
	}
	b := z.blocks[at]
	l := b.entry(i)
	match = bytes.Equal(l.from, key)
	if !match && !between(l.from, key, l.to) || !within(now, l.until, l.life) {
		return nil, until, false
	}
	if !b.used.Load() { // do not dirty the line on every hit
		b.used.Store(true)
	}
	return bytes.Clone(l.msg), l.until, match
}

// search returns the block and the place in it of the last link at or before
// key; −1 for a key before all.
func (z *denialZone) search(key []byte) (block, i int) {
	low, high := -1, len(z.blocks) // the block at low begins at or before key, that at high behind it
	for high-low > 1 {
		if mid := (low + high) / 2; bytes.Compare(z.blocks[mid].from(0), key) <= 0 {
			low = mid
		} else {
			high = mid
		}
	}
	if low < 0 {
		return -1, 0
	}
	block, b := low, z.blocks[low]
	low, high = 0, len(b.at) // the same of links
	for high-low > 1 {
		if mid := (low + high) / 2; bytes.Compare(b.from(mid), key) <= 0 {
			low = mid
		} else {
			high = mid
		}
	}
	return block, low
}

// put stores links of zone, and its SOA set unless that is nil.
func (d *denials) put(zone wire.Name, soa *rrset.Set, links []link, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	z := d.zones[zone]
	if z == nil {
		z = &denialZone{zone: zone, place: len(d.ring), chain: links[0].chain}
		d.zones[zone], d.ring = z, append(d.ring, z)
		d.bytes += denialZoneSize + int64(len(zone))
	}
	if soa != nil {
		d.account(z, setSize(soa)-z.soaSize, 0)
		z.soa, z.soaSize, z.life = *soa, setSize(soa), soa.Until.Sub(now)
	}
	for i := range links {
		l := &links[i]
		if l.chain != z.chain {
			d.clear(z)
			z.chain = l.chain
		}
		d.insert(z, l)
		for range maxOutdated {
			if !d.endNext(z, l) {
				break
			}
		}
	}
	for z.bytes > d.limit/zoneShare && len(z.blocks) > 1 {
		d.evictFrom(z)
	}
	for d.bytes > d.limit && len(d.ring) > 0 {
		d.evict()
	}
}

// insert puts l into its place, instead of what has the same owner.
func (d *denials) insert(z *denialZone, l *link) {
	if len(z.blocks) == 0 {
		d.splice(z, 0, 0, []link{*l})
		return
	}
	block, i := z.search(l.from)
	if block < 0 {
		block, i = 0, -1
	}
	links := z.blocks[block].links()
	if i >= 0 && bytes.Equal(links[i].from, l.from) {
		links[i] = *l
	} else {
		links = slices.Insert(links, i+1, *l)
	}
	d.splice(z, block, block+1, links)
}

// endNext removes the link behind l if l says that its owner does not exist: it
// is newer. It reports whether it did.
func (d *denials) endNext(z *denialZone, l *link) bool {
	block, i := z.search(l.from)
	if i++; i == len(z.blocks[block].at) {
		block, i = (block+1)%len(z.blocks), 0
	}
	b := z.blocks[block]
	if !between(l.from, b.from(i), l.to) {
		return false
	}
	d.splice(z, block, block+1, slices.Delete(b.links(), i, i+1))
	return true
}

// splice puts links, in order, into the place of z's blocks from first to the
// one before end.
func (d *denials) splice(z *denialZone, first, end int, links []link) {
	var blocks []*denialBlock
	size, used := 0, false
	for _, b := range z.blocks[first:end] {
		d.account(z, -b.size(), -len(b.at))
		used = used || b.used.Load()
	}
	for i := range links {
		size += entryHeader + len(links[i].from) + len(links[i].to) + len(links[i].msg)
	}
	switch half := len(links) / 2; {
	case len(links) == 0:
	case size > maxBlock && half > 0:
		blocks = []*denialBlock{newBlock(links[:half]), newBlock(links[half:])}
	default:
		blocks = []*denialBlock{newBlock(links)}
	}
	for _, b := range blocks {
		b.used.Store(used)
		d.account(z, b.size(), len(b.at))
	}
	z.blocks = slices.Replace(z.blocks, first, end, blocks...)
}

// account adds what z has more.
func (d *denials) account(z *denialZone, bytes int64, entries int) {
	z.bytes += bytes
	d.bytes += bytes
	d.entries += entries
}

// clear forgets the links of z.
func (d *denials) clear(z *denialZone) {
	for _, b := range z.blocks {
		d.account(z, -b.size(), -len(b.at))
	}
	z.blocks, z.hand = nil, 0
}

// evict forgets one block, of the zone that the hand is at.
func (d *denials) evict() {
	if d.hand >= len(d.ring) {
		d.hand = 0
	}
	z := d.ring[d.hand]
	if len(z.blocks) > 0 && !d.evictFrom(z) {
		d.hand++
		return
	}
	if len(z.blocks) > 0 {
		return
	}
	d.forget(z)
}

// forget forgets z, which has no links any more.
func (d *denials) forget(z *denialZone) {
	last := d.ring[len(d.ring)-1]
	d.ring[z.place], last.place = last, z.place
	d.ring[len(d.ring)-1] = nil
	d.ring = d.ring[:len(d.ring)-1]
	delete(d.zones, z.zone)
	d.bytes -= denialZoneSize + int64(len(z.zone)) + z.soaSize
}

// evictFrom forgets the block of z that the hand is at, or passes over it if it
// was of use. It reports false when the hand has come round.
func (d *denials) evictFrom(z *denialZone) bool {
	if z.hand >= len(z.blocks) {
		z.hand = 0
		return false
	}
	b := z.blocks[z.hand]
	if b.used.Swap(false) {
		z.hand++
		return true
	}
	d.evicted += uint64(len(b.at))
	d.splice(z, z.hand, z.hand+1, nil)
	return true
}

// flush forgets the zones that goes says so of, and returns how many links they
// had.
func (d *denials) flush(goes func(zone wire.Name) bool) (forgotten int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	before := d.entries
	for i := len(d.ring) - 1; i >= 0; i-- {
		if z := d.ring[i]; goes(z.zone) {
			d.clear(z)
			d.forget(z)
		}
	}
	return before - d.entries
}

// stats returns a snapshot.
func (d *denials) stats() DenialStats {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return DenialStats{StoreStats{Entries: d.entries, Bytes: d.bytes, Evicted: d.evicted}, len(d.ring)}
}
