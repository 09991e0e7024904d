//go:build race

package cache

// pared is by how much tests are smaller that compute for long. What they are about,
// ratios and sizes, is measured without the detector, which has most of them take
// ten times as long.
const pared = 4
