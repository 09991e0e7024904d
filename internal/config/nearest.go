package config

import "strings"

// maxNearest is how long a word may be to be compared; the longest key has
// half of it.
const maxNearest = 64

// nearest returns the candidate that word was probably meant to be, or nothing
// if none is close: at most a third of its letters may be wrong, or one of them
// starts with the other.
func nearest(word string, candidates []string) string {
	if len(word) > maxNearest {
		return ""
	}
	word = fold(word)
	best, found := 1+max(1, len(word)/3), ""
	for _, c := range candidates {
		if d := distance(word, fold(c)); d < best && d < len(c) {
			best, found = d, c
		}
	}
	for _, c := range candidates {
		short, long := fold(c), word
		if len(short) > len(long) {
			short, long = long, short
		}
		if found == "" && len(short) >= 3 && strings.HasPrefix(long, short) {
			found = c
		}
	}
	return found
}

// fold takes away the differences that do not count between two words.
func fold(word string) string {
	return strings.ReplaceAll(strings.ToLower(word), "-", "_")
}

// distance returns how many octets have to be changed, added, left out or
// swapped with the next one to make b from a (optimal string alignment).
func distance(a, b string) int {
	var before []int
	last := make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j]+cost, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
