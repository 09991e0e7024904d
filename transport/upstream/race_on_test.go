//go:build race

package upstream

// slowness is how much longer than a millisecond a millisecond's work may take: the
// race detector's share, on a machine that others use too.
const slowness = 300
