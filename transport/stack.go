package transport

// reserveStack makes the stack of the calling goroutine 8 KiB large, if it is
// smaller: what it takes to pack an answer. The goroutine calls it first.
//
// A goroutine begins with 2 KiB and grows by doubling, and each time the runtime
// walks all frames and copies them. With two goroutines for each cold question
// that was an eighth of the server's CPU time; a stack that grows while it is
// all but empty costs next to nothing, and ends as large as it would have.
//
//go:noinline
func reserveStack() { useStack(new([4 << 10]byte)) }

// useStack is what the array, which does not escape, is for: the compiler leaves
// out what nobody uses.
//
//go:noinline
func useStack(*[4 << 10]byte) {}
