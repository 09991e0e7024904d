package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
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

// shirubeCtl tells the server with that control socket to do something, and waits
// for it.
func shirubeCtl(ctx context.Context, program, socket string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, append([]string{"ctl", "--socket", socket}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("shirube ctl %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
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
