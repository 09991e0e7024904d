package control

import (
	"encoding/json"
	"testing"
)

// summed is a [Summary].
type summed struct{ n int }

func (s summed) Summary() map[string]any { return map[string]any{"count": s.n} }

func TestCountersAreNamedInSnakeCase(t *testing.T) {
	type Common struct{ Received uint64 }
	type inner struct {
		TCPInUse  int
		IPv4, ID  uint64
		ByKind    [2]uint64
		Anonymous [2]int
	}
	got, err := json.Marshal(Counters(struct {
		Common
		UDP    inner
		Took   summed
		hidden int
	}{Common{5}, inner{1, 2, 3, [2]uint64{4, 5}, [2]int{6, 7}}, summed{9}, 8}, map[string][]string{"udp.by_kind": {"good", "bad"}}))
	want := `{"received":5,"took":{"count":9},"udp":{"anonymous":[6,7],"by_kind":{"bad":5,"good":4},"id":3,"ipv4":2,"tcp_in_use":1}}`
	if err != nil || string(got) != want {
		t.Errorf("%v, got %s\nwant %s", err, got, want)
	}
}
