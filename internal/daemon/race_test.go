//go:build race

package daemon

// orders is in how many orders all is asked that can be asked about a zone. The race
// detector makes signing and validating several times as expensive, and finds no more
// in the second order than in the first.
const orders = 1
