package main

import (
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

const nsdStats = `server0.queries=5
num.queries=5
time.boot=1.048943
num.type.A=3
num.type.NS=2
num.class.IN=5
num.udp=3
num.udp6=1
num.tcp=1
num.tcp6=0
`

func TestUpstreamCountIsOfAllProtocolsAndTiers(t *testing.T) {
	u := upstreamCount{Tiers: make(map[string]int64)}
	for _, tier := range []string{"root", "zones"} {
		if err := u.add(tier, nsdStats); err != nil {
			t.Fatal(err)
		}
	}
	if u.UDP != 8 || u.TCP != 2 || u.byTier() != "root A 3, root NS 2, zones A 3, zones NS 2" {
		t.Errorf("count %+v: %s", u, u.byTier())
	}
	before := upstreamCount{UDP: 5, TCP: 2, Tiers: map[string]int64{"root A": 3, "zones A": 1}}
	if d := u.minus(before); d.UDP != 3 || d.TCP != 0 || d.byTier() != "root NS 2, zones A 2, zones NS 2" {
		t.Errorf("difference %+v: %s", d, d.byTier())
	}
}

func TestStatsWithoutACounterAreAnError(t *testing.T) {
	u := upstreamCount{Tiers: make(map[string]int64)}
	if err := u.add("root", strings.Replace(nsdStats, "num.tcp6=0\n", "", 1)); err == nil {
		t.Error("a counter is missing, and nobody says so")
	}
	if err := u.add("root", "num.udp=many\n"); err == nil {
		t.Error("a counter is no number, and nobody says so")
	}
}

func TestPercentileIsOfTheNearestRank(t *testing.T) {
	var v []time.Duration
	for i := range 200 {
		v = append(v, time.Duration(i+1))
	}
	for p, want := range map[float64]time.Duration{50: 100, 90: 180, 99: 198, 99.9: 200, 100: 200} {
		if got := percentile(v, p); got != want {
			t.Errorf("percentile %v of 1 to 200 is %d, want %d", p, got, want)
		}
	}
	if got := percentile(nil, 99); got != 0 {
		t.Errorf("percentile of nothing is %v", got)
	}
}

func TestSnmpCounterIsFoundByItsName(t *testing.T) {
	const snmp = "Tcp: ActiveOpens PassiveOpens\nTcp: 7 8\nUdp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors\nUdp: 1 2 3 4 5\n"
	if got, err := snmpCounter([]byte(snmp), "Udp:", "RcvbufErrors"); err != nil || got != 5 {
		t.Errorf("RcvbufErrors = %d, %v", got, err)
	}
	if got, err := snmpCounter([]byte(snmp), "Udp:", "PassiveOpens"); err == nil {
		t.Errorf("a counter of TCP's is UDP's: %d", got)
	}
	if _, err := udpDrops(); err != nil {
		t.Errorf("this machine's: %v", err)
	}
}

func TestCPUClockOfThisProcessAdvances(t *testing.T) {
	before, err := cpuClock(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for range 1_000_000 {
		before++ // some work
	}
	before -= 1_000_000
	after, err := cpuClock(os.Getpid())
	if err != nil || after <= before {
		t.Errorf("CPU clock went from %v to %v, %v", before, after, err)
	}
	if own, err := ownTime(); err != nil || own < 0 {
		t.Errorf("ownTime = %v, %v", own, err)
	}
}

func TestFaultyServersLeaveEveryZoneAGoodOne(t *testing.T) {
	net := buildInternet(300, 10_000, faultyAddrs)
	bad := make(map[string]bool)
	dead, slow := 0, 0
	for i, a := range faultyAddrs {
		if isDead(i) && isSlow(i) {
			t.Errorf("%v is dead and slow", a)
		}
		if isDead(i) {
			dead++
		}
		if isSlow(i) {
			slow++
		}
		bad[a.String()] = isDead(i) || isSlow(i)
	}
	if dead != 2 || slow != 10 {
		t.Errorf("%d dead and %d slow of %d", dead, slow, len(faultyAddrs))
	}
	for _, z := range net.zones {
		var good, all int
		for line := range strings.Lines(z.text) {
			if f := strings.Fields(line); strings.HasPrefix(f[0], "ns") && strings.HasSuffix(f[0], z.name) && f[3] == "A" {
				all++
				if !bad[f[4]] {
					good++
				}
			}
		}
		if all > 0 && good == 0 {
			t.Errorf("%s has %d servers and no good one", z.name, all)
		}
	}
	sum := 0
	for _, n := range net.asked {
		sum += n
	}
	if sum != 2*10_000 {
		t.Errorf("%d names have two servers each, %d in all", 10_000, sum)
	}
}

// loopback is a UDP socket on 127.0.0.1 that answers every query with rcode.
func loopback(t *testing.T, rcode byte) netip.AddrPort {
	t.Helper()
	return responder(t, func(msg []byte) { msg[2], msg[3] = msg[2]|0x80, rcode })
}

// responder is a UDP socket on 127.0.0.1 that answers every query with what turn
// makes of it, after a stray datagram.
func responder(t *testing.T, turn func(msg []byte)) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadBuffer(1 << 20); err != nil { // or as much as the system allows
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 512)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			turn(buf[:n])
			stray := slices.Clone(buf[:n])
			stray[0]++
			_, _ = conn.WriteToUDPAddrPort(stray, from)
			_, _ = conn.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

func TestClosedLoopAsksEveryQuestionOnce(t *testing.T) {
	questions := []string{"a.example A", "b.example AAAA", "c.example MX", "d.example TXT", "e.example A"}
	for rcode, want := range map[byte][3]int{0: {5, 0, 0}, 3: {0, 5, 0}, 2: {0, 0, 5}} {
		got, err := closedLoop(t.Context(), loopback(t, rcode), questions, 2)
		if err != nil {
			t.Fatal(err)
		}
		if got.Asked != 5 || [3]int{got.NoError, got.NXDomain, got.Failed} != want || got.Max <= 0 || got.P50 > got.Max {
			t.Errorf("rcode %d: %+v", rcode, *got)
		}
	}
	if _, err := closedLoop(t.Context(), loopback(t, 0), []string{"a.example HINFO"}, 1); err == nil {
		t.Error("a question of unknown type was asked")
	}
}

func TestDeadServerTakesPacketsAndSaysNothing(t *testing.T) {
	f := &faults{closed: make(chan struct{})}
	defer f.stop()
	if err := f.bury(t.Context(), netip.MustParseAddr("127.0.0.1")); err != nil {
		t.Fatal(err)
	}
	server := f.conns[0].LocalAddr().(*net.UDPAddr).AddrPort()
	if msg, err := exchangeUDP(server, soaQuery("."), 50*time.Millisecond); err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("a dead server said %x, %v", msg, err)
	}
	if n := f.deadPackets.Load(); n != 1 {
		t.Errorf("%d packets counted", n)
	}
}

func TestSlowServerAnswersLater(t *testing.T) {
	f := &faults{delay: 60 * time.Millisecond, target: loopback(t, 0), closed: make(chan struct{})}
	defer f.stop()
	if err := f.slowDown(t.Context(), netip.MustParseAddr("127.0.0.1")); err != nil {
		t.Fatal(err)
	}
	server := f.conns[0].LocalAddr().(*net.UDPAddr).AddrPort()
	began := time.Now()
	if _, err := exchangeUDP(server, soaQuery("."), 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < f.delay {
		t.Errorf("answered after %v, not %v", took, f.delay)
	}
	if f.slowPackets.Load() != 1 || f.relayed.Load() != 1 {
		t.Errorf("%d came, %d were relayed", f.slowPackets.Load(), f.relayed.Load())
	}
}

func TestColdReportComparesWithTheFirstServer(t *testing.T) {
	r := &coldReport{
		testbed: testbed{Date: time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)}, Names: 100, Rounds: 2,
		Faults: &faultReport{Servers: 200, Dead: 2, Slow: 10, Delay: 300, DeadNames: 7, SlowNames: 9},
	}
	for i := range 2 {
		for j, name := range []string{"unbound", "shirube"} {
			r.Runs = append(r.Runs, coldSample{
				Server: name, Round: i + 1, CPU: float64(40+10*i) * float64(j+1), Packets: 1.25 / float64(j+1),
				loopTally: loopTally{Asked: 100, Failed: j, P99: 300}, Upstream: upstreamCount{UDP: 125, Dead: 3},
			})
		}
	}
	r.summarise([]*contestant{{name: "unbound", version: "unbound 1.17.1"}, {name: "shirube", version: "shirube v0"}})
	w := r.Rows[1]
	if w.CPURatio != 2 || w.PacketsRatio != 0.5 || w.Failed != 2 || w.Asked != 200 || math.Abs(w.CPU.Median-90) > 1e-9 {
		t.Errorf("row %+v", w)
	}
	text := r.markdown()
	for _, want := range []string{
		"# Cold cache, faulty servers, 2026-11-22\n",
		"| shirube | 90.0 (80.0–100.0) | 2.00 | 0.6250 (0.6250–0.6250) | 0.500 |",
		"of the last round: 125 UDP, 0 TCP, of them 3 to dead and 0 to slow servers",
		"2 are dead, silently, and 10 answer 300 ms late",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
}
