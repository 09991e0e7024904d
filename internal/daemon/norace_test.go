//go:build !race

package daemon

// orders is in how many orders all is asked that can be asked about a zone.
const orders = 3
