package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// What all peers have of memory for answers, in MiB: so has Shirube.
const (
	messageCache = 128
	rrsetCache   = 256
)

func unboundVersion(ctx context.Context, program string) (string, error) {
	v, err := firstLine(ctx, program, "-V") // "Version 1.17.1"
	return "unbound " + strings.TrimPrefix(v, "Version "), err
}

func prepareUnbound(_ context.Context, l *lab, c *contestant) ([][]string, error) {
	conf, err := c.configure(l, "unbound.conf", l.secureUnbound(c, unboundConf(l, c)))
	return [][]string{{c.program, "-d", "-c", conf}}, err
}

// unboundConf follows Unbound's own advice for throughput ("Performance
// Tuning" in its manual): a thread per core, slabs a power of two, a socket per
// thread, large socket buffers. It validates where there is something signed.
func unboundConf(l *lab, c *contestant) string {
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
  msg-cache-size: %dm
  rrset-cache-size: %dm
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
`, l.dir, c.addr, c.threads, messageCache, rrsetCache, l.hints, modules, anchor)
}

func bindVersion(ctx context.Context, program string) (string, error) {
	v, err := firstLine(ctx, program, "-v") // "BIND 9.18.49-1~deb12u3-Debian (Extended Support Version) <id:>"
	v, _, _ = strings.Cut(v, " (")
	return v, err
}

func prepareBIND(ctx context.Context, l *lab, c *contestant) ([][]string, error) {
	// It listens only where an interface has the address itself.
	if out, err := exec.CommandContext(ctx, "ip", "address", "replace", c.addr.String()+"/32", "dev", "lo").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("give lo the address %s: %w: %s", c.addr, err, out)
	}
	text, err := bindConf(l, c)
	if err != nil {
		return nil, err
	}
	conf, err := c.configure(l, "named.conf", l.secureBIND(c, text))
	return [][]string{{c.program, "-f", "-4", "-n", fmt.Sprint(c.threads), "-c", conf}}, err
}

// bindConf raises what limits throughput: buffers, clients, memory. The rest is
// BIND's default; it has a socket for each thread by itself.
func bindConf(l *lab, c *contestant) (string, error) {
	validation, anchors := "no", ""
	if l.anchor != "" {
		ds, err := anchorFields(l.anchor)
		if err != nil {
			return "", err
		}
		validation = "yes"
		anchors = fmt.Sprintf("trust-anchors { . static-ds %s %s %s %q; };\n", ds[0], ds[1], ds[2], ds[3])
	}
	return fmt.Sprintf(`options {
  directory %[1]q;
  managed-keys-directory %[1]q;
  pid-file none;
  lock-file none;
  session-keyfile none;
  listen-on port 53 { %[2]s; };
  listen-on-v6 { none; };
  recursion yes;
  allow-query { any; };
  allow-recursion { any; };
  allow-query-cache { any; };
  dnssec-validation %[3]s;
  trust-anchor-telemetry no;
  empty-zones-enable no;
  minimal-responses yes;
  querylog no;
  max-cache-size %[4]dm;
  recursive-clients 20000;
  tcp-clients 2000;
  tcp-listen-queue 1024;
  udp-receive-buffer 4194304;
  udp-send-buffer 4194304;
};
controls { };
logging { category default { null; }; category unmatched { null; }; category lame-servers { null; }; category dnssec { null; }; category resolver { null; }; };
zone "." { type hint; file %[5]q; };
%[6]s`, c.dir(l), c.addr, validation, messageCache+rrsetCache, l.hints, anchors), nil
}

// anchorFields are the four fields of a DS record's data.
func anchorFields(ds string) ([]string, error) {
	f := strings.Fields(ds) // ". 86400 IN DS 12345 13 2 0A1B..."
	if len(f) < 8 || f[3] != "DS" {
		return nil, fmt.Errorf("the trust anchor is no DS record: %q", ds)
	}
	return append(f[4:7:7], strings.Join(f[7:], "")), nil
}

func knotVersion(ctx context.Context, program string) (string, error) {
	v, err := firstLine(ctx, program, "--version") // "Knot Resolver, version 5.6.0"
	return strings.Replace(v, ", version", "", 1), err
}

func prepareKnot(_ context.Context, l *lab, c *contestant) ([][]string, error) {
	text := knotConf(l, c)
	if l.anchor != "" {
		anchor, err := c.configure(l, "root.key", l.anchor+"\n")
		if err != nil {
			return nil, err
		}
		text += fmt.Sprintf("trust_anchors.add_file('%s', true)\n", anchor)
	} else {
		text += "trust_anchors.remove('.')\n"
	}
	conf, err := c.configure(l, "kresd.conf", l.secureKnot(c, text))
	if err != nil {
		return nil, err
	}
	var commands [][]string
	for range c.threads {
		commands = append(commands, []string{c.program, "-n", "-c", conf, c.dir(l)})
	}
	return commands, nil
}

// knotConf is for a process of a thread: as many of them as others have threads
// share an address and a cache in memory (tmpfs), as its manual advises. What
// looks after itself in the background is off.
func knotConf(l *lab, c *contestant) string {
	return fmt.Sprintf(`log_level('crit')
log_target('stderr')
net.ipv6 = false
option('ALLOW_LOCAL', true)
net.listen('%s', 53, { kind = 'dns' })
modules.load('hints > iterate')
hints.root_file('%s')
cache.open(%d * MB, 'lmdb://%s/cache')
modules.unload('priming')
modules.unload('detect_time_jump')
modules.unload('detect_time_skew')
modules.unload('ta_update')
modules.unload('ta_signal_query')
modules.unload('ta_sentinel')
`, c.addr, l.hints, messageCache+rrsetCache, c.dir(l))
}

func pdnsVersion(ctx context.Context, program string) (string, error) {
	v, err := firstLine(ctx, program, "--version") // "Nov 22 12:09:53 PowerDNS Recursor 4.8.8 (C) 2001-2022 PowerDNS.COM BV"
	if i := strings.Index(v, "PowerDNS"); i > 0 {
		v = v[i:]
	}
	v, _, _ = strings.Cut(v, " (C)")
	return v, err
}

func preparePDNS(_ context.Context, l *lab, c *contestant) ([][]string, error) {
	lua := "clearTA()\n"
	if l.anchor != "" {
		ds, err := anchorFields(l.anchor)
		if err != nil {
			return nil, err
		}
		lua += fmt.Sprintf("addTA('.', %q)\n", strings.Join(ds, " "))
	}
	script, err := c.configure(l, "anchors.lua", lua)
	if err != nil {
		return nil, err
	}
	_, err = c.configure(l, "recursor.conf", pdnsConf(l, c, script))
	return [][]string{{c.program, "--config-dir=" + c.dir(l)}}, err
}

// pdnsConf follows PowerDNS's performance guide: a socket for each thread, and
// none that only hands on. Its caches are counted in entries: they have room for
// every answer here, as the others' have.
func pdnsConf(l *lab, c *contestant, script string) string {
	dnssec := "off"
	if l.anchor != "" {
		dnssec = "validate"
	}
	return fmt.Sprintf(`daemon=no
quiet=yes
loglevel=0
log-common-errors=no
disable-syslog=yes
write-pid=no
socket-dir=%s
security-poll-suffix=
local-address=%s
local-port=53
allow-from=127.0.0.0/8
dont-query=
query-local-address=0.0.0.0
hint-file=%s
lua-config-file=%s
dnssec=%s
threads=%d
pdns-distributes-queries=no
distributor-threads=0
reuseport=yes
max-mthreads=8192
max-cache-entries=1000000
max-packetcache-entries=500000
record-cache-shards=1024
max-tcp-clients=1000
max-concurrent-requests-per-tcp-connection=500
max-total-msec=10000
statistics-interval=0
serve-rfc1918=no
export-etc-hosts=no
`, c.dir(l), c.addr, l.hints, script, dnssec, c.threads)
}
