package main

const (
	// strangersAllowed is the share of the machine that others may use in a run.
	strangersAllowed = 0.05
	// attempts is how often a run is tried for the sake of quiet.
	attempts = 3
)

// disturbed is a run that knows what share of the machine others used meanwhile.
type disturbed interface{ disturbance() float64 }

// quietest does a run again, a few times at most, while others are busy on the
// machine, and returns the one that was disturbed least. spare is how many more
// runs there is time for; nil: as many as it takes.
func quietest[S disturbed](spare *int, run func() (S, error)) (best S, err error) {
	for i := range attempts {
		if i > 0 && spare != nil {
			if *spare == 0 {
				break
			}
			*spare--
		}
		s, err := run()
		if err != nil {
			return best, err
		}
		if i == 0 || s.disturbance() < best.disturbance() {
			best = s
		}
		if best.disturbance() <= strangersAllowed {
			break
		}
	}
	return best, nil
}
