//go:build race

package lab_test

// slowdown is what the race detector costs, at most (go.dev/doc/articles/race_detector).
const slowdown = 20
