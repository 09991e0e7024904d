//go:build !race

package daemon

// ordersAsked is in how many orders all is asked that can be asked about a zone.
const ordersAsked = 3

// crowdRate is how many questions a second are a flood: many times as many as a
// sixteenth of all places.
const crowdRate = 10_000

// nthName is which of the lab's names are asked for: all.
const nthName = 1
