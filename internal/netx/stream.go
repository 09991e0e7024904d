package netx

// Memory is where a [Stream] puts what it reads. Both methods are called by the
// goroutine that reads, and none after Read has returned.
type Memory interface {
	// Space returns where the next octets go: room for one at least.
	Space() []byte

	// Wait says that nothing has come yet. What the last Space returned is not
	// used any more: from now on the connection is silent, maybe for long.
	Wait()
}
