package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"shirube/internal/control"
)

// newCacheCommand returns `shirube cache`: what there is to see and to do about
// the caches of a running server, and of its fleet.
func newCacheCommand() *cobra.Command {
	var c ctl
	cmd := &cobra.Command{
		Use:   "cache",
		Short: "Look into the caches of a running server, and have it or its fleet forget",
		Long: `Look into the caches of a running server, and have it forget: its own memory, and the
shared cache that the servers of a fleet have in common. The server is found as by
'shirube ctl', and the exit codes are the same.`,
		Example: `  shirube cache stats
  shirube cache get www.example.com AAAA
  shirube cache flush --subtree example.com --fleet
  shirube cache top`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.persistentFlags(cmd)
	cmd.AddCommand(c.cacheStats(), c.cacheGet(), c.flush("shirube cache flush"), c.cacheTop())
	return cmd
}

func (c *ctl) cacheStats() *cobra.Command {
	return &cobra.Command{
		Use:     "stats",
		Short:   "Say how full the caches are, and what they are good for",
		Example: "  shirube cache stats",
		Args:    noArgs,
		RunE:    exchange(c, http.MethodGet, "/v1/cache", func(out *bytes.Buffer, l control.CacheLayers) { showCacheLayers(out, &l, time.Now()) }),
	}
}

func (c *ctl) cacheGet() *cobra.Command {
	return &cobra.Command{
		Use:   "get NAME [TYPE]",
		Short: "Say what the caches have about a question",
		Long: `Say what this server's memory and the shared cache have about a question: how old it
is, how long it lives, and who wrote it. Nothing is resolved by this, and nothing
put from one into the other. TYPE is A unless given.`,
		Example:           "  shirube cache get www.example.com AAAA",
		Args:              someArgs(1, 2, "a name, and a type if it is not A"),
		ValidArgsFunction: completeType,
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{"name": args[:1]}
			if len(args) > 1 {
				query.Set("type", args[1])
			}
			var e control.CacheEntry
			return c.do(cmd, request{
				method: http.MethodGet, path: "/v1/cache/entry", query: query,
				doc: &e, show: func(out *bytes.Buffer) { showCacheEntry(out, &e) },
			})
		},
	}
}

func (c *ctl) cacheTop() *cobra.Command {
	count := 20
	cmd := &cobra.Command{
		Use:   "top",
		Short: "List the questions that are asked most",
		Long: `List the questions that the server is asked most, and about how often each was asked
lately: of the answers from memory one in 64 is counted, as 64, and what was asked
counts half as much every five minutes.`,
		Example: "  shirube cache top --count 100",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var list []control.Asked
			return c.do(cmd, request{
				method: http.MethodGet, path: "/v1/cache/top", query: url.Values{"count": {strconv.Itoa(count)}},
				doc: &list, show: func(out *bytes.Buffer) { showAsked(out, list) },
			})
		},
	}
	cmd.Flags().IntVarP(&count, "count", "n", count, "how `many`, 10,000 at most")
	return cmd
}

// flush is `flush`, wherever it is called.
func (c *ctl) flush(path string) *cobra.Command {
	var q control.FlushRequest
	cmd := &cobra.Command{
		Use:   "flush {NAME [TYPE] | --all}",
		Short: "Forget what is remembered of names",
		Long: `Forget what is remembered of a name, so that it is asked for anew: answers, failures,
records, and if it is a zone, who its servers are. With a type, only what answers for
it. What names above say of it stays: that one of them does not exist, say.

With --fleet, all servers that have a shared cache in common forget it, within a
second of when they can be reached, and nobody takes what the shared cache has of it.
Without, the other servers keep what they have.`,
		Example: strings.ReplaceAll(`  FLUSH www.example.com
  FLUSH example.com MX
  FLUSH --subtree example.com --fleet
  FLUSH --all`, "FLUSH", path),
		ValidArgsFunction: completeType,
		RunE: func(cmd *cobra.Command, args []string) error {
			q := q
			switch {
			case q.All && (q.Subtree || q.Type != "" || len(args) > 0):
				return &usageError{errors.New("flush --all takes nothing else but --fleet")}
			case !q.All && (len(args) < 1 || len(args) > 2):
				return &usageError{fmt.Errorf("flush takes a name and maybe a type, or --all; see '%s --help'", path)}
			case len(args) > 1 && q.Type != "":
				return &usageError{errors.New("flush takes one type: behind the name, or with --type")}
			}
			if len(args) > 0 {
				q.Name = args[0]
			}
			if len(args) > 1 {
				q.Type = args[1]
			}
			var f control.Flushed
			err := c.do(cmd, request{
				method: http.MethodPost, path: "/v1/cache/flush", body: q,
				doc: &f, show: func(out *bytes.Buffer) { showFlushed(out, f) },
			})
			if err == nil && f.Fleet != nil && f.Fleet.Problem != "" {
				return errors.New(f.Fleet.Problem)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&q.Subtree, "subtree", false, "all names below it as well")
	cmd.Flags().StringVar(&q.Type, "type", "", "only what answers for this `type`")
	cmd.Flags().BoolVar(&q.All, "all", false, "everything")
	cmd.Flags().BoolVar(&q.Fleet, "fleet", false, "on all servers of the fleet")
	return cmd
}

func showCacheLayers(out *bytes.Buffer, l *control.CacheLayers, now time.Time) {
	table(out, func(w io.Writer) {
		for _, c := range l.Memory {
			showMemory(w, c)
		}
		fmt.Fprintf(w, "answered\t%d from memory, %d from the shared cache, %d resolved\n", l.Given.Memory, l.Given.Shared, l.Given.Resolved)
		if s := l.Shared; s != nil {
			fmt.Fprintf(w, "shared\t%d hits, %d stale, %d failures, %d misses, %d not looked up\n", s.Hits, s.Stale, s.Failures, s.Misses, s.Skipped)
			for _, why := range slices.Sorted(maps.Keys(s.Rejected)) {
				fmt.Fprintf(w, "not used\t%d: %s\n", s.Rejected[why], why)
			}
			fmt.Fprintf(w, "clocks\tlately ahead of ours by %d ms at most\n", s.SkewMS)
		}
		if f := l.Fleet; f != nil {
			fmt.Fprintf(w, "fleet\t%s, as on all servers that share with this one\n", f.ID)
			fmt.Fprintf(w, "flushes\t%d orders, %d octets; read %d ms ago, %d of %d copies\n", f.Orders, f.Octets, f.AgeMillis, f.Read, f.Copies)
			if f.Epoch != nil {
				fmt.Fprintf(w, "all flushed\t%s, %s ago\n", f.Epoch.Format(time.RFC3339), since(*f.Epoch, now))
			}
		}
	})
	if l.Shared == nil {
		return
	}
	fmt.Fprintln(out)
	table(out, func(w io.Writer) {
		fmt.Fprintf(w, "MEMCACHED\tADDRESS\tSTATE\tASKED\tHITS\tLATE\tERRORS\tSTORED\n")
		for _, s := range l.Shared.Servers {
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\n", s.Name, s.Address, s.State, s.Gets, s.Hits, s.Late, s.Errors, s.Stored)
		}
	})
}

// seconds writes a number of seconds.
func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(100 * time.Millisecond).String()
}

func showCacheEntry(out *bytes.Buffer, e *control.CacheEntry) {
	dash := func(text string) string {
		if text == "" {
			return "-"
		}
		return text
	}
	table(out, func(w io.Writer) {
		fmt.Fprintf(w, "WHERE\tSTATUS\tRCODE\tAGE\tLEFT\tOCTETS\tTRUST\tWRITER\n")
		for _, m := range e.Memory {
			fmt.Fprintf(w, "memory, %s\t%s\t%s\t%s\t%s\t%d\t-\t-\n", m.Form, m.Status, m.Rcode, seconds(m.AgeSeconds), seconds(m.LeftSeconds), m.Octets)
		}
		if len(e.Memory) == 0 {
			fmt.Fprintf(w, "memory\tnone\t-\t-\t-\t-\t-\t-\n")
		}
		s := e.Shared
		switch {
		case s == nil:
			fmt.Fprintf(w, "shared\tnot shared\t-\t-\t-\t-\t-\t-\n")
		case s.Writer == "" && s.AgeSeconds == 0:
			fmt.Fprintf(w, "shared, %s\t%s\t-\t-\t-\t-\t-\t-\n", dash(s.Server), s.Status)
		default:
			fmt.Fprintf(w, "shared, %s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", dash(s.Server), s.Status, dash(s.Rcode),
				seconds(s.AgeSeconds), seconds(s.LeftSeconds), s.Octets, dash(s.Trust), dash(s.Writer))
		}
	})
	if e.Shared != nil && e.Shared.Why != "" {
		fmt.Fprintf(out, "\nwhat is shared is not used: %s\n", e.Shared.Why)
	}
}

func showAsked(out *bytes.Buffer, list []control.Asked) {
	table(out, func(w io.Writer) {
		fmt.Fprintf(w, "ABOUT\tTYPE\tNAME\n")
		for _, a := range list {
			fmt.Fprintf(w, "%d\t%s\t%s\n", a.Count, a.Type, a.Name)
		}
	})
}
