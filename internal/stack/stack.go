// Package stack makes goroutines' stacks as large as they will be needed.
package stack

// Size is how large [Reserve] makes a stack, in octets: what it takes to resolve
// a question.
const Size = 16 << 10

// Reserve makes the stack of the calling goroutine [Size] large, if it is
// smaller. The goroutine calls it first.
//
// A goroutine begins with 2 KiB and grows by doubling, and each time the runtime
// walks all frames and copies them. On cold questions that was an eighth of the
// server's CPU time; a stack that grows while it is all but empty costs next to
// nothing, and ends as large as it would have.
//
//go:noinline
func Reserve() { use(new([9 << 10]byte)) }

// use is what the array, which does not escape, is for: the compiler leaves out
// what nobody uses.
//
//go:noinline
func use(*[9 << 10]byte) {}
