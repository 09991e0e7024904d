package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"shirube/internal/config"
	"shirube/internal/control"
)

// table writes rows of cells that are separated by tabs as columns.
func table(out *bytes.Buffer, rows func(w io.Writer)) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	rows(w)
	_ = w.Flush() // a buffer takes everything
}

// since writes how long ago t was, or how long it is until then, in whole
// seconds.
func since(t, now time.Time) string { return now.Sub(t).Abs().Round(time.Second).String() }

func showStatus(out *bytes.Buffer, s control.Status) {
	now := time.Now()
	table(out, func(w io.Writer) {
		fmt.Fprintf(w, "version\t%s\n", s.Version)
		fmt.Fprintf(w, "state\t%s, process %d\n", s.State, s.PID)
		fmt.Fprintf(w, "started\t%s, %s ago\n", s.Started.Format(time.RFC3339), time.Duration(s.UptimeSeconds)*time.Second)
		for _, l := range s.Listeners {
			fmt.Fprintf(w, "listens\t%s %s\n", l.Address, l.Protocol)
		}
		fmt.Fprintf(w, "in flight\t%d questions\n", s.InFlight)
		for _, c := range s.Caches {
			showMemory(w, c)
		}
		if s.LocalRoot != nil {
			fmt.Fprintf(w, "local root\tserial %d\n", s.LocalRoot.Serial)
		}
		fmt.Fprintf(w, "log level\t%s\n", s.LogLevel)
		switch {
		case !s.Validation.Enabled:
			fmt.Fprintf(w, "validation\toff\n")
		case s.Validation.Permissive:
			fmt.Fprintf(w, "validation\tPERMISSIVE: bogus answers are given\n")
		default:
			fmt.Fprintf(w, "validation\ton\n")
		}
		for _, a := range s.Validation.Anchors {
			fmt.Fprintf(w, "trust anchor\t%s %s\n", a.Zone, tags(a.Trusted))
		}
		for _, n := range s.Validation.NegativeAnchors {
			fmt.Fprintf(w, "not validated\t%s for %s %s\n", n.Name, since(n.Until, now), n.Reason)
		}
	})
}

// showMemory writes how full a part of memory is as a row.
func showMemory(w io.Writer, c control.Cache) {
	fmt.Fprintf(w, "memory\t%s: %d entries, %s of %s (%d %%), %d evicted\n",
		c.Name, c.Entries, mebibytes(c.Bytes), mebibytes(c.Limit), 100*c.Bytes/max(c.Limit, 1), c.Evicted)
}

func showReloaded(out *bytes.Buffer, r control.Reloaded) {
	if len(r.Changed) == 0 {
		fmt.Fprintln(out, "reloaded; nothing has changed")
		return
	}
	fmt.Fprintf(out, "reloaded; changed: %s\n", strings.Join(r.Changed, ", "))
}

// mebibytes writes a number of octets.
func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

// tags writes key tags.
func tags(list []uint16) string {
	if len(list) == 0 {
		return "no key"
	}
	return strings.Trim(fmt.Sprint(list), "[]")
}

// showCounters writes the counters of s.
func showCounters(out *bytes.Buffer, s map[string]any) {
	flat := make(map[string]string)
	flatten(flat, "", s)
	table(out, func(w io.Writer) {
		for _, name := range slices.Sorted(maps.Keys(flat)) {
			fmt.Fprintf(w, "%s\t%s\n", name, flat[name])
		}
	})
}

// narrow takes out of s the counters whose names begin with none of prefixes, of
// which each has to be of use.
func narrow(s map[string]any, prefixes []string) error {
	if len(prefixes) == 0 {
		return nil
	}
	used := make(map[string]bool)
	keep(s, "", prefixes, used)
	for _, p := range prefixes {
		if !used[p] {
			return fmt.Errorf("there is no counter whose name begins with %q", p)
		}
	}
	return nil
}

// keep is narrow for the counters below path. It says in used which prefixes some
// begin with.
func keep(section map[string]any, path string, prefixes []string, used map[string]bool) {
	for name, v := range section {
		full := strings.TrimPrefix(path+"."+name, ".")
		if inner, ok := v.(map[string]any); ok {
			if keep(inner, full, prefixes, used); len(inner) == 0 {
				delete(section, name)
			}
			continue
		}
		wanted := false
		for _, p := range prefixes {
			if strings.HasPrefix(full, p) {
				wanted, used[p] = true, true
			}
		}
		if !wanted {
			delete(section, name)
		}
	}
}

// flatten adds the numbers below v to flat, by their path.
func flatten(flat map[string]string, path string, v any) {
	section, ok := v.(map[string]any)
	if !ok {
		text, _ := json.Marshal(v) // it was JSON
		flat[path] = string(text)
		return
	}
	for name, inner := range section {
		flatten(flat, strings.TrimPrefix(path+"."+name, "."), inner)
	}
}

func showLookup(out *bytes.Buffer, l control.Lookup) {
	now := time.Now()
	table(out, func(w io.Writer) {
		fmt.Fprintf(w, "zone\t%s (%s)\n", l.Zone, l.Kind)
		if l.Expires != nil {
			fmt.Fprintf(w, "known for\t%s\n", since(*l.Expires, now))
		}
		if l.Kind == "learned" {
			fmt.Fprintf(w, "delegation\t%s\n", l.DS)
		}
		if l.Dead != nil {
			fmt.Fprintf(w, "not asked for\t%s: %s\n", since(l.Dead.Until, now), l.Dead.Why)
		}
		if t := l.Trust; t != nil {
			fmt.Fprintf(w, "trust\t%s %s for %s: %s %s\n", t.Zone, t.Trust, since(t.Until, now), tags(t.Keys), t.Why)
		}
	})
	fmt.Fprintln(out)
	table(out, func(w io.Writer) {
		fmt.Fprintf(w, "SERVER\tADDRESS\tRTT\tTIMEOUT\tREMARKS\n")
		for i := range l.Servers {
			showServer(w, &l.Servers[i], now)
		}
	})
}

// showServer writes one address of a server as a row.
func showServer(w io.Writer, s *control.NameServer, now time.Time) {
	cell := func(text string) string {
		if text == "" {
			return "-"
		}
		return text
	}
	rtt, timeout, remarks := "-", "-", []string{}
	if s.Known {
		timeout = fmt.Sprintf("%d ms", s.TimeoutMillis)
		if s.SRTTMillis > 0 {
			rtt = fmt.Sprintf("%.1f ± %.1f ms", s.SRTTMillis, s.RTTVarMillis)
		}
		if s.DeadUntil != nil {
			remarks = append(remarks, "dead for "+since(*s.DeadUntil, now))
		}
		if s.LameUntil != nil {
			remarks = append(remarks, "lame for "+since(*s.LameUntil, now))
		}
		if s.Silences > 0 {
			remarks = append(remarks, fmt.Sprintf("silent %d times in a row", s.Silences))
		}
		if s.NoEDNS {
			remarks = append(remarks, "without EDNS")
		}
		if s.TCP {
			remarks = append(remarks, "over TCP")
		}
		if s.LastHeard != nil {
			remarks = append(remarks, "heard "+since(*s.LastHeard, now)+" ago")
		}
	}
	fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", cell(s.Host), cell(s.Address), rtt, timeout, cell(strings.Join(remarks, ", ")))
}

func showFlights(out *bytes.Buffer, f control.Flights) {
	table(out, func(w io.Writer) {
		fmt.Fprintf(w, "QUESTION\tTYPE\tAGE\tWAITERS\n")
		for _, fl := range f.Flights {
			cd := ""
			if fl.CD {
				cd = " +cd"
			}
			fmt.Fprintf(w, "%s\t%s%s\t%.0f ms\t%d\n", fl.Name, fl.Type, cd, fl.AgeMillis, fl.Waiters)
		}
		if f.Omitted > 0 {
			fmt.Fprintf(w, "and %d more\n", f.Omitted)
		}
	})
	if len(f.Asking) == 0 {
		return
	}
	fmt.Fprintln(out)
	table(out, func(w io.Writer) {
		fmt.Fprintf(w, "ASKED FOR\tTYPE\tSERVER\tOF ZONE\n")
		for _, a := range f.Asking {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", a.Name, a.Type, a.Server, a.Zone)
		}
	})
}

func showFlushed(out *bytes.Buffer, f control.Flushed) {
	fmt.Fprintf(out, "forgotten: %d answers, %d failures, %d RRsets, %d zone cuts, %d links of the chain of trust, %d denials\n",
		f.Answers, f.Failures, f.RRsets, f.Cuts, f.Links, f.Denials)
	if f.Fleet != nil {
		fmt.Fprintf(out, "the fleet is told: %d of %d memcached have the order\n", f.Fleet.Servers, f.Fleet.Of)
	}
}

func showAnchors(out *bytes.Buffer, anchors []control.Anchor) {
	table(out, func(w io.Writer) {
		fmt.Fprintf(w, "ZONE\tKEY\tALGORITHM\tSTATE\tSINCE\tUNTIL\n")
		for _, a := range anchors {
			for _, k := range a.Keys {
				until := "-"
				if k.Until != nil {
					until = k.Until.Format(time.RFC3339)
				}
				fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", a.Zone, k.Tag, k.Algorithm, k.State, k.Since.Format(time.RFC3339), until)
			}
			if len(a.Keys) == 0 { // not looked at yet, or not followed
				fmt.Fprintf(w, "%s\t%s\t-\tconfigured\t-\t-\n", a.Zone, tags(a.Trusted))
			}
		}
	})
}

func showNegatives(out *bytes.Buffer, negatives []control.Negative) {
	now := time.Now()
	table(out, func(w io.Writer) {
		fmt.Fprintf(w, "NAME\tFOR\tUNTIL\tREASON\n")
		for _, n := range negatives {
			left := config.FormatDuration(n.Until.Sub(now).Round(time.Second))
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", n.Name, left, n.Until.Format(time.RFC3339), n.Reason)
		}
	})
}
