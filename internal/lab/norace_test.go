//go:build !race

package lab_test

// slowdown is what the race detector costs.
const slowdown = 1
