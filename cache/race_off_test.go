//go:build !race

package cache

// pared is by how much tests are smaller that compute for long.
const pared = 1
