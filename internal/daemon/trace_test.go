package daemon

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"shirube/internal/config"
	"shirube/internal/simnet"
	"shirube/internal/wire"
	"shirube/resolver"
)

// traced returns the steps of resolving name, each as one short line.
func traced(t *testing.T, p *Pipeline, name string) (steps []string, err error) {
	t.Helper()
	last := resolver.Event{}
	_, err = p.Resolver.Trace(t.Context(), resolver.Query{Question: wire.Question{Name: wire.MustParseName(name), Type: wire.TypeA}}, func(e resolver.Event) {
		if e.At < last.At {
			t.Errorf("%v comes after %v", e, last)
		}
		last = e
		steps = append(steps, strings.Join(strings.Fields(fmt.Sprintf("%d %s %s %s %s", e.Depth, e.Step, e.Zone, e.Server, e.Question)), " "))
	})
	return steps, err
}

func TestTraceTellsEachStep(t *testing.T) {
	inBubble(t, func(_ *config.Config, n *simnet.Net) {
		n.Serve("192.0.2.2", "com.", "glueless.com. 3600 NS ns.other.net.")
		n.Serve("192.0.2.21", "glueless.com.", "www.glueless.com. 300 A 198.51.100.20")
	}, func(t *testing.T, p *Pipeline, n *simnet.Net) {
		steps, err := traced(t, p, "www.glueless.com.")
		want := []string{
			"1 question www.glueless.com. A",
			"1 zone . com. A", "1 query 192.0.2.1:53 com. A", "1 verdict com. com. A",
			"1 zone com. glueless.com. A", "1 query 192.0.2.2:53 glueless.com. A", "1 verdict glueless.com. glueless.com. A",
			"1 zone glueless.com. www.glueless.com. A",
			"1 lookup glueless.com. ns.other.net. A",
			"2 question ns.other.net. A",
			"2 zone . net. A", "2 query 192.0.2.1:53 net. A", "2 verdict net. net. A",
			"2 zone net. other.net. A", "2 query 192.0.2.3:53 other.net. A", "2 verdict other.net. other.net. A",
			"2 zone other.net. ns.other.net. A", "2 query 192.0.2.21:53 ns.other.net. A", "2 verdict ns.other.net. A",
			"1 query 192.0.2.21:53 www.glueless.com. A", "1 verdict www.glueless.com. A",
		}
		if err != nil || !slices.Equal(steps, want) {
			t.Errorf("error %v; got\n%s\nwant\n%s", err, strings.Join(steps, "\n"), strings.Join(want, "\n"))
		}
		steps, err = traced(t, p, "www.glueless.com.")
		want = []string{"1 question www.glueless.com. A", "1 memory www.glueless.com. A"}
		if err != nil || !slices.Equal(steps, want) {
			t.Errorf("error %v; got\n%s\nwant\n%s", err, strings.Join(steps, "\n"), strings.Join(want, "\n"))
		}
		n.Break("192.0.2.21", simnet.Rcode(wire.Refused))
		steps, err = traced(t, p, "www.other.net.")
		if err == nil || !slices.Contains(steps, "1 failure www.other.net. A") {
			t.Errorf("error %v; got\n%s", err, strings.Join(steps, "\n"))
		}
	})
}
