//go:build race

package daemon

// What the race detector makes several times as expensive, and where it finds in
// a part what it would in all of it. The file for who does without it says what
// each is.
const ordersAsked = 1
const crowdRate = 5_000
const nthName = 5
