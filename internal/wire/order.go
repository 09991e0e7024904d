package wire

import "strings"

// maxLabels is how many labels a name can have, the root's not counted: each
// takes two octets at least.
const maxLabels = (MaxNameLen - 1) / 2

// Compare returns −1, 0 or +1 as a is before, the same as, or behind b in the
// canonical order of names (RFC 4034 §6.1): label by label from the right, each
// as a string of octets, and a name before the names below it. It is the order
// of a zone's NSEC records, and not that of the strings. Neither may be the zero
// Name.
func Compare(a, b Name) int {
	var ofA, ofB [maxLabels]uint8
	i, j := labelStarts(&ofA, a), labelStarts(&ofB, b)
	for i > 0 && j > 0 {
		i, j = i-1, j-1
		if c := strings.Compare(label(a, ofA[i]), label(b, ofB[j])); c != 0 {
			return c
		}
	}
	switch {
	case i > 0:
		return +1
	case j > 0:
		return -1
	}
	return 0
}

// labelStarts notes where the labels of n begin, from the left, and returns how
// many there are.
func labelStarts(starts *[maxLabels]uint8, n Name) (count int) {
	for off := 0; off < len(n)-1 && count < maxLabels; off += 1 + int(n[off]) {
		starts[count] = uint8(off) // below MaxNameLen
		count++
	}
	return count
}

// label returns the octets of the label of n that begins at off.
func label(n Name, off uint8) string {
	start := int(off) + 1
	return string(n[start : start+int(n[off])])
}

// CommonAncestor returns the longest name that both a and b are within: one of
// them, if the other is below it. Neither may be the zero Name.
func CommonAncestor(a, b Name) Name {
	la, lb := a.Labels(), b.Labels()
	a, b = a.Tail(lb), b.Tail(la)
	for a != b {
		a, b = a[1+int(a[0]):], b[1+int(b[0]):]
	}
	return a
}
