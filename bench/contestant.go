package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// contestant is a resolver under measurement.
type contestant struct {
	name    string // as in the tables; unique
	version string
	addr    netip.Addr
	proc    *process
	tap     *process // the collector of its dnstap; nil: none
}

// taps are the kinds of Shirube with dnstap to a collector on this machine, and
// what of it they tell.
var taps = map[string]string{
	"shirube-tap":        "sample: {}",
	"shirube-tap100":     "sample: {client_query: 100, client_response: 100}",
	"shirube-tapstopped": "sample: {}", // to a collector that is stopped
}

// startContestants starts the resolvers of a comma-separated list, which may
// name one twice, and waits until they resolve. The caller stops those
// returned, also after an error.
func startContestants(ctx context.Context, l *lab, list, shirube string) ([]*contestant, error) {
	var all []*contestant
	kinds := strings.Split(list, ",")
	for i, kind := range kinds {
		c := &contestant{name: peerName(kinds, i), addr: netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)})}
		if err := c.start(ctx, l, kind, shirube); err != nil {
			return all, err
		}
		all = append(all, c)
		if err := c.proc.await(ctx, c.addr, l.net.zones[len(l.net.zones)-1].name); err != nil {
			return all, err
		}
	}
	return all, nil
}

func stopContestants(all []*contestant) {
	for _, c := range all {
		c.proc.stop()
		if c.tap != nil {
			_ = c.tap.cmd.Process.Signal(syscall.SIGCONT) // or it could not be told to stop
			c.tap.stop()
		}
	}
}

// start configures and starts the resolver.
func (c *contestant) start(ctx context.Context, l *lab, kind, shirube string) (err error) {
	var argv []string
	var conf string
	if c.version, err = peerVersion(ctx, kind, shirube); err != nil {
		return err
	}
	kind, shirube = kindOf(kind, shirube)
	tapped := ""
	if sample, ok := taps[kind]; ok {
		if tapped, err = c.startTap(ctx, l, shirube, sample); err != nil {
			return err
		}
		if kind == "shirube-tapstopped" {
			defer func() {
				if err == nil {
					err = c.tap.cmd.Process.Signal(syscall.SIGSTOP)
				}
			}()
		}
		kind = "shirube"
	}
	switch kind {
	case "unbound":
		conf = filepath.Join(l.dir, c.name+".conf")
		argv = []string{"unbound", "-d", "-c", conf}
		err = os.WriteFile(conf, []byte(unboundConf(l, c.addr)), 0o644)
	case "shirube":
		conf = filepath.Join(l.dir, c.name+".yaml")
		argv = []string{shirube, "serve", "--config", conf}
		err = os.WriteFile(conf, []byte(shirubeConf(l, c.addr)+tapped), 0o644)
	}
	if err != nil {
		return err
	}
	c.proc, err = start(l.dir, c.name, argv)
	return err
}

// startTap starts a collector, and returns the part of the configuration that
// sends it the messages of sample.
func (c *contestant) startTap(ctx context.Context, l *lab, shirube, sample string) (conf string, err error) {
	socket := filepath.Join(l.dir, c.name+".sock")
	if c.tap, err = start(l.dir, c.name+"-collector", []string{shirube, "tap", "--unix", socket, "--format", "none", "--counts"}); err != nil {
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

// kindOf splits an entry of the list of peers into the kind of server and its
// binary, which is shirube unless the entry names one ("shirube=bin/before"):
// so a change is measured beside what was before it.
func kindOf(entry, shirube string) (kind, binary string) {
	if kind, binary, ok := strings.Cut(entry, "="); ok {
		return kind, binary
	}
	return entry, shirube
}

// peerVersion returns a kind of server with its version.
func peerVersion(ctx context.Context, kind, shirube string) (string, error) {
	kind, shirube = kindOf(kind, shirube)
	switch kind {
	case "unbound":
		v, err := firstLine(ctx, "unbound", "-V") // "Version 1.17.1"
		return "unbound " + strings.TrimPrefix(v, "Version "), err
	case "shirube", "shirube-tap", "shirube-tap100", "shirube-tapstopped":
		return firstLine(ctx, shirube, "version")
	}
	return "", fmt.Errorf("unknown server %q: unbound, shirube, shirube=BINARY, and shirube-tap, shirube-tap100 and shirube-tapstopped are known", kind)
}

// firstLine returns the first line that a command prints.
func firstLine(ctx context.Context, argv ...string) (string, error) {
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line), nil
}

// threads is the number of threads that answer queries: Unbound's num-threads,
// and Shirube's readers of an address.
const threads = 2

// unboundConf follows Unbound's own advice for throughput ("Performance
// Tuning" in its manual): a thread per core, slabs a power of two, a socket per
// thread, large socket buffers. It validates where there is something signed.
func unboundConf(l *lab, addr netip.Addr) string {
	modules, anchor := "iterator", ""
	if l.anchor != "" {
		modules, anchor = "validator iterator", fmt.Sprintf("  trust-anchor: %q\n  trust-anchor-signaling: no\n", strings.ReplaceAll(l.anchor, "\t", " "))
	}
	return fmt.Sprintf(`server:
  verbosity: 0
  use-syslog: no
  logfile: ""
  log-queries: no
  statistics-interval: 0
  extended-statistics: no
  chroot: ""
  username: ""
  directory: %q
  pidfile: ""
  interface: %s@53
  access-control: 127.0.0.0/8 allow
  num-threads: %d
  so-reuseport: yes
  so-rcvbuf: 4m
  so-sndbuf: 4m
  msg-cache-slabs: 4
  rrset-cache-slabs: 4
  infra-cache-slabs: 4
  key-cache-slabs: 4
  msg-cache-size: 128m
  rrset-cache-size: 256m
  incoming-num-tcp: 256
  outgoing-range: 4096
  num-queries-per-thread: 2048
  do-ip6: no
  do-not-query-localhost: no
  prefetch: no
  serve-expired: no
  root-hints: %q
  module-config: %q
%sremote-control:
  control-enable: no
`, l.dir, addr, threads, l.hints, modules, anchor)
}

// shirubeConf changes only what the laboratory needs: its root, servers on
// loopback, and as much memory and as many threads as Unbound has.
func shirubeConf(l *lab, addr netip.Addr) string {
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
%s`, addr, l.hints, dnssec, threads, l.limits, l.admin)
}
