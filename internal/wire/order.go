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

// MaxOrderKeyLen is how long the key of a name can be.
const MaxOrderKeyLen = 2 * MaxNameLen

// AppendOrderKey appends octets to buf whose order, as strings, is that of
// [Compare], and that are the beginning of the keys of all names below n: its
// labels from the right, each with an octet at its end that is below all others.
// It is for those who keep many names in order.
func AppendOrderKey(buf []byte, n Name) []byte {
	var starts [maxLabels]uint8
	for i := labelStarts(&starts, n) - 1; i >= 0; i-- {
		start := int(starts[i]) + 1
		for _, c := range []byte(n[start : start+int(n[starts[i]])]) {
			if c <= 1 { // 0 ends a label, 1 makes room for it
				buf, c = append(buf, 1), c+1
			}
			buf = append(buf, c)
		}
		buf = append(buf, 0)
	}
	return buf
}
