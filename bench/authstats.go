package main

import (
	"context"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// tiers are the laboratory's NSD, from the top.
var tiers = []string{"root", "tld", "zones"}

// upstreamCount is what reached the authorities. Over UDP a query is a packet.
type upstreamCount struct {
	UDP   int64            `json:"udp"`   // to all addresses
	TCP   int64            `json:"tcp"`   // likewise
	Dead  int64            `json:"dead"`  // of UDP: to those that never answer
	Slow  int64            `json:"slow"`  // of UDP: to those that answer late
	Tiers map[string]int64 `json:"tiers"` // UDP and TCP, by tier and type, as in "tld A"
}

// minus returns what came since an earlier count.
func (u upstreamCount) minus(before upstreamCount) upstreamCount {
	d := upstreamCount{
		UDP: u.UDP - before.UDP, TCP: u.TCP - before.TCP, Dead: u.Dead - before.Dead, Slow: u.Slow - before.Slow,
		Tiers: make(map[string]int64),
	}
	for k, n := range u.Tiers {
		if n != before.Tiers[k] {
			d.Tiers[k] = n - before.Tiers[k]
		}
	}
	return d
}

// byTier returns Tiers as text, the types in order of the alphabet.
func (u upstreamCount) byTier() string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(u.Tiers)) {
		fmt.Fprintf(&b, "%s %d, ", k, u.Tiers[k])
	}
	return strings.TrimSuffix(b.String(), ", ")
}

// upstream counts the queries that the authorities have had since they started:
// what each NSD says of itself, and what came for faulty addresses.
func (l *lab) upstream(ctx context.Context) (upstreamCount, error) {
	total := upstreamCount{Tiers: make(map[string]int64)}
	for _, tier := range tiers {
		conf := filepath.Join(l.dir, tier, "nsd.conf")
		out, err := exec.CommandContext(ctx, "nsd-control", "-c", conf, "stats_noreset").CombinedOutput()
		if err != nil {
			return total, fmt.Errorf("nsd-control stats: %w: %s", err, out)
		}
		if err := total.add(tier, string(out)); err != nil {
			return total, err
		}
	}
	if f := l.faults; f != nil {
		total.Dead, total.Slow = f.deadPackets.Load(), f.slowPackets.Load()
		// What was relayed has been counted twice; what still waits, once.
		total.UDP += total.Dead + total.Slow - f.relayed.Load()
	}
	return total, nil
}

// add counts what an NSD says of itself ("num.udp=17" in nsd-control(8)).
func (u *upstreamCount) add(tier, stats string) error {
	found := 0
	for line := range strings.Lines(stats) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok || !strings.HasPrefix(key, "num.") {
			continue
		}
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return fmt.Errorf("nsd-control stats: %w", err)
		}
		switch typ, isType := strings.CutPrefix(key, "num.type."); {
		case key == "num.udp" || key == "num.udp6":
			u.UDP += n
			found++
		case key == "num.tcp" || key == "num.tcp6":
			u.TCP += n
			found++
		case isType && n > 0:
			u.Tiers[tier+" "+typ] += n
		}
	}
	if found != 4 {
		return fmt.Errorf("nsd-control stats of %s: %d of 4 counters found in\n%s", tier, found, stats)
	}
	return nil
}
