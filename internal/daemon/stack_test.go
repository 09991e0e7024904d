//go:build !race

package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/miekg/dns"

	"shirube/internal/exchange"
	"shirube/internal/lab"
	"shirube/internal/simnet"
	"shirube/internal/stack"
	"shirube/internal/wire"
)

// elsewhere is an exchanger that needs as much of its caller's stack as the
// transport does, and no more.
type elsewhere struct{ *simnet.Net }

func (e elsewhere) Exchange(ctx context.Context, req exchange.Request) (resp exchange.Response, err error) {
	takeStack(new([4 << 10]byte))
	var done sync.WaitGroup
	done.Go(func() { resp, err = e.Net.Exchange(ctx, req) })
	done.Wait()
	return resp, err
}

//go:noinline
func takeStack(*[4 << 10]byte) {}

// The goroutine of a cold question begins with 16 KiB of stack (stack.Reserve), and
// without validation stays there: 4 KiB more in a frame would not change that, so that
// another compiler does not. Signatures are verified at a depth where some
// questions need a few octets more, and which of them do changes with every frame on
// the way. What must not be is that all of them have it doubled twice.
func TestColdResolutionFitsIntoTheStackItIsGiven(t *testing.T) {
	const some = 4 << 10 // on average, for the few that need more, and for what else is under way
	for _, validate := range []bool{false, true} {
		world, most := lab.NewWorld(1), uint64(stack.Size+some)
		if validate {
			world, most = lab.NewSignedWorld(1), 2*stack.Size+some
		}
		got := stackOfColdQuestions(t, world, validate)
		t.Logf("validation %v: %d octets", validate, got)
		if got > most {
			t.Errorf("validation %v: %d octets of stack for a question, want no more than %d", validate, got, most)
		}
	}
}

// stackOfColdQuestions resolves names of world, each on a goroutine of its own
// with a stack of 16 KiB, and returns how large their stacks are in the end.
func stackOfColdQuestions(t *testing.T, world *lab.World, validate bool) uint64 {
	t.Helper()
	names, err := world.Names()
	if err != nil {
		t.Fatal(err)
	}
	hints := labHints(t, world)
	var size uint64
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New()
		cfg := scenarioConfig(t)
		inLab(t, &cfg, n, world, hints, validate)
		p, err := NewPipeline(cfg, elsewhere{n}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		defer p.Frontend.Close()
		size = stackOf(t, 200, func(i int) {
			name := names[i*len(names)/200]
			raw, q := parseAsk(t, fmt.Sprintf("%v %v", name.Question.Name, name.Question.Type))
			if status := q.Parse(raw); status != wire.OK {
				t.Errorf("the query does not parse: %d", status)
			}
			q.Limit = wire.MaxMsgSize
			m := new(dns.Msg)
			if err := m.Unpack(p.Frontend.Serve(t.Context(), nil, q)); err != nil || m.Rcode == dns.RcodeServerFailure {
				t.Errorf("%v: %v, %v", name.Question, m, err)
			}
		})
	})
	return size
}

// stackOf returns how large a stack the calls of do have in the end, one after
// the other and each on a goroutine that begins with 16 KiB.
func stackOf(t *testing.T, calls int, do func(int)) uint64 {
	t.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // it makes stacks smaller
	hold := make(chan struct{})
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range calls {
		done := make(chan struct{})
		go func() {
			stack.Reserve()
			do(i)
			close(done)
			<-hold
		}()
		<-done
	}
	runtime.ReadMemStats(&after)
	close(hold)
	return (after.StackInuse - before.StackInuse) / uint64(calls)
}
