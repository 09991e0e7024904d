package config

// Debug configures what tests of the whole server need.
type Debug struct {
	// Whether the other keys of this section may be used. Never for production.
	Enabled bool `yaml:"enabled"`
	// A file with a number of seconds, which may have a fraction and a sign:
	// how far the clock that caches and validation go by is ahead of the real
	// one. It is read for every query, so that what is written to it counts
	// from the next query on. Timeouts and measurements are not changed. Until
	// the file is there, the real time counts; what is not a number is logged
	// and changes nothing. It needs `enabled`. Never for production: whoever
	// can write the file can make expired data and signatures pass for good,
	// and it makes every query slower. A relative path starts at the directory
	// that the server was started in.
	ClockOffsetFile string `yaml:"clock_offset_file"`
}

// debug reports settings for tests that may have been left over.
func (d *decoder) debug(cfg *Config) {
	if g := &cfg.Debug; g.ClockOffsetFile != "" && !g.Enabled {
		d.contradiction("found a file without debug.enabled; it is for tests only, and never for production",
			"debug.clock_offset_file", "debug.enabled")
	}
}
