package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func shirubeVersion(ctx context.Context, program string) (string, error) {
	return firstLine(ctx, program, "version")
}

func prepareShirube(_ context.Context, l *lab, c *contestant) ([][]string, error) {
	return shirubeWith(l, c, "")
}

// shirubeWith is Shirube with more lines at the end of its configuration.
func shirubeWith(l *lab, c *contestant, more string) ([][]string, error) {
	conf, err := c.configure(l, "shirube.yaml", l.secureShirube(c, shirubeConf(l, c))+more)
	return [][]string{{c.program, "serve", "--config", conf}}, err
}

// tapped is Shirube with dnstap to a collector on this machine, of the messages
// that sample says.
func tapped(sample string) func(context.Context, *lab, *contestant) ([][]string, error) {
	return func(ctx context.Context, l *lab, c *contestant) ([][]string, error) {
		more, err := c.startTap(ctx, l, sample)
		if err != nil {
			return nil, err
		}
		return shirubeWith(l, c, more)
	}
}

// stopTap stops the collector, which keeps its socket.
func stopTap(c *contestant) error { return c.tap.cmd.Process.Signal(syscall.SIGSTOP) }

// startTap starts a collector, and returns the part of the configuration that
// sends it the messages of sample.
func (c *contestant) startTap(ctx context.Context, l *lab, sample string) (conf string, err error) {
	socket := filepath.Join(l.dir, c.name+".sock")
	if c.tap, err = start(l.dir, c.name+"-collector", []string{c.program, "tap", "--unix", socket, "--format", "none", "--counts"}); err != nil {
		return "", err
	}
	for { // ends with ctx, or the collector
		if _, err := os.Stat(socket); err == nil {
			return fmt.Sprintf("dnstap:\n  outputs:\n    - {socket: %q, %s}\n", socket, sample), nil
		}
		if err := c.tap.alive(); err != nil {
			return "", err
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// shirubeConf changes only what the laboratory needs: its root, servers on
// loopback, and as much memory and as many readers as the others have threads.
func shirubeConf(l *lab, c *contestant) string {
	dnssec := "validation: false"
	if l.anchor != "" {
		dnssec = fmt.Sprintf("auto_trust_anchor: false\n  trust_anchors: [%q]", strings.ReplaceAll(l.anchor, "\t", " "))
	}
	return fmt.Sprintf(`listen:
  - address: %s:53
    protocols: [udp, tcp]
cache:
  answers_size: 128MiB
  rrsets_size: 256MiB
resolver:
  root_hints: %s
  ipv6: false
  do_not_query_localhost: false
builtin_zones:
  except: [127.in-addr.arpa]
dnssec:
  %s
limits:
  udp_readers: %d
%slog:
  level: info
  format: text
%s`, c.addr, l.hints, dnssec, c.threads, l.limits, l.admin)
}
