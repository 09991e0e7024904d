//go:build !race

package upstream

// slowness is how much longer than a millisecond a millisecond's work may take:
// for machines slower, or busier, than the one that the limits were chosen on.
// Without the limits the worst takes 35.
const slowness = 20
