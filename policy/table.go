package policy

// bucket is how many ranges are searched rather than indexed: four steps. With
// 10,000 prefixes 8 was measured no faster than 16, and takes more memory.
const bucket = 16

// table finds the range that an address is in. It is a trie over the octets of
// addresses, in slices without pointers, that gives up where few ranges are left
// and has them searched. A binary search of all 20,000 ranges was measured to take
// three times as long.
type table struct {
	ranges

	// slots has 256 slots per octet looked at: those of the first octet, and
	// behind them those of each node below. A node exists only where more
	// than bucket ranges begin with the same octets, so there are no more
	// nodes than ranges/bucket for each octet that addresses have: 1 KiB each,
	// a quarter of a MiB for 10,000 prefixes of the usual kinds.
	slots []slot
}

// slot says where to look on: with isNode, in the node of the given number; else
// in a run of ranges, less than 256 of them, the position of the first in the low
// 24 bits, and how many follow it above.
type slot uint32

const isNode slot = 1 << 31

func newTable(spans []span) table {
	t := table{ranges: flatten(spans)}
	t.addNode(key{}, 0, 0, len(t.starts)-1)
	return t
}

// addNode appends the node for the addresses that begin with the first depth
// octets of from, which lie in the ranges first to last, and returns its number.
func (t *table) addNode(from key, depth, first, last int) slot {
	node := len(t.slots)
	t.slots = append(t.slots, make([]slot, 256)...)
	for c := range 256 {
		start := from.octet(depth, c)
		end := start.last(8 * (depth + 1))
		for first < last && start.before(t.starts[first+1]) == 0 {
			first++
		}
		until := first
		for until < last && end.before(t.starts[until+1]) == 0 {
			until++
		}
		s := slot(until-first)<<24 | slot(first)
		if until-first >= bucket { // never for a single address, so depth is bounded
			s = isNode | t.addNode(start, depth+1, first, until)
		}
		t.slots[node+c] = s
	}
	return slot(node / 256)
}

// find returns the action for the address k.
func (t *table) find(k key) Action {
	rest := k
	s := t.slots[rest.hi>>56]
	for s&isNode != 0 {
		rest.hi, rest.lo = rest.hi<<8|rest.lo>>56, rest.lo<<8
		s = t.slots[uint64(s&^isNode)<<8|rest.hi>>56]
	}
	first := int(s & 0xFFFFFF)
	for n := int(s>>24) + 1; n > 1; {
		half := n / 2
		first += half &^ -int(k.before(t.starts[first+half]))
		n -= half
	}
	return t.actions[first]
}
