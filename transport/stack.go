package transport

// reserveStack makes the stack of the calling goroutine 16 KiB large, if it is
// smaller: what it takes to resolve a question. The goroutine calls it first.
//
// A goroutine begins with 2 KiB and grows by doubling, and each time the runtime
// walks all frames and copies them. That was an eighth of the server's CPU time
// on cold questions; a stack that grows while it is all but empty costs next to
// nothing, and ends as large as it would have.
//
//go:noinline
func reserveStack() { useStack(new([9 << 10]byte)) }

// useStack is what the array, which does not escape, is for: the compiler leaves
// out what nobody uses.
//
//go:noinline
func useStack(*[9 << 10]byte) {}
