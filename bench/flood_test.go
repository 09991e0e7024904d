package main

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"shirube/internal/wire"
)

func TestFloodComparesWithPeaceInTheSameRound(t *testing.T) {
	s := floodServer{Server: "shirube", Version: "shirube 1"}
	for round, p99 := range []float64{1, 2, 4} {
		s.Runs = append(s.Runs,
			floodSample{Round: round + 1, Flood: floodKinds[0].name, Stream: &streamTally{P99: p99}},
			floodSample{Round: round + 1, Flood: floodKinds[1].name, Stream: &streamTally{Asked: 100, Lost: 1, P99: 3 * p99}})
	}
	rows := s.rows()
	if len(rows) != 2 || rows[0].ratio.Median != 1 || rows[1].ratio != (spread{Median: 3, Min: 3, Max: 3}) || rows[1].lost != 3 || rows[1].asked != 300 {
		t.Errorf("the rows are %+v", rows)
	}
	r := floodReport{Servers: []floodServer{s}}
	if err := r.verdict(); err == nil || !strings.Contains(err.Error(), "3.0 times") {
		t.Errorf("the verdict is %v", err)
	}
	for _, tt := range []struct {
		p99 float64 // the echo's in the same flood; Shirube's is 6 ms
		met bool
	}{{5.9, false}, {6, true}} {
		echo := floodServer{Server: "echo", Runs: []floodSample{
			{Round: 1, Flood: floodKinds[0].name, Stream: &streamTally{P99: 1}},
			{Round: 1, Flood: floodKinds[1].name, Stream: &streamTally{P99: tt.p99}},
		}}
		r := floodReport{Servers: []floodServer{s, echo}}
		if err := r.verdict(); err == nil != tt.met {
			t.Errorf("beside an echo with %v ms: %v", tt.p99, err)
		}
		if !strings.Contains(r.markdown(), "is not known") {
			t.Error("the report says nothing of the floor")
		}
	}
}

func TestEchoIsFloodedAsTheOthersAre(t *testing.T) {
	r := floodReport{Servers: []floodServer{{Capacity: 10}, {Capacity: 30}, {}}}
	for i, want := range []float64{10, 30, 30} {
		if got := r.capacity(&r.Servers[i]); got != want {
			t.Errorf("server %d: %v, want %v", i, got, want)
		}
	}
}

func TestFloodsAreForServersThatResolve(t *testing.T) {
	resolves, echoes := &contestant{}, &contestant{kind: kind{echo: true}}
	for i, want := range []struct{ resolves, echoes bool }{{true, true}, {true, true}, {true, false}, {true, false}, {true, false}, {false, true}} {
		k := floodKinds[i]
		if got := k.of(resolves); got != want.resolves {
			t.Errorf("%s, of a server that resolves: %v", k.name, got)
		}
		if got := k.of(echoes); got != want.echoes {
			t.Errorf("%s, of the echo: %v", k.name, got)
		}
	}
}

// TestStreamTakesTheTimeOfEachAnswer asks an echo that leaves one question in ten
// without an answer.
func TestStreamTakesTheTimeOfEachAnswer(t *testing.T) {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go func() { // ends when c is closed
		buf := make([]byte, 512)
		for i := 0; ; i++ {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			if buf[2] |= 0x80; i%10 != 0 {
				_, _ = c.WriteToUDPAddrPort(buf[:n], from)
			}
		}
	}()
	queries := [][]byte{newQuery(0, "a.", uint16(wire.TypeA)), newQuery(0, "b.", uint16(wire.TypeA))}
	asked, err := stream(t.Context(), c.LocalAddr().(*net.UDPAddr).AddrPort(), queries, 1000, 200*time.Millisecond, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := newStreamTally(asked)
	if got.Asked != 200 || got.Good != 180 || got.Lost != 20 || got.Failed != 0 || got.P50 <= 0 || got.P99 != 2000 {
		t.Errorf("it saw %v", got)
	}
}

func TestSynthAnswersAtOnceLaterOrNever(t *testing.T) {
	zone := wire.MustParseName("flood.com.")
	for i, k := range []struct {
		delay  time.Duration
		answer synthetic
		want   bool
	}{{0, denying(zone), true}, {10 * time.Millisecond, denying(zone), true}, {0, silence, false}} {
		s, err := startSynthAt(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"), k.delay, k.answer)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.DialUDP("udp", nil, s.conns[0].LocalAddr().(*net.UDPAddr))
		if err != nil {
			t.Fatal(err)
		}
		query := newQuery(uint16(i), "x.flood.com.", uint16(wire.TypeA))
		if _, err := conn.Write(query); err != nil {
			t.Fatal(err)
		}
		if k.want {
			if got := askOnce(conn, query, make([]byte, 512)); got != outcomeNXDomain {
				t.Errorf("%d: %s", i, got)
			}
		}
		for s.asked.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		s.stop()
		_ = conn.Close()
	}
}
