package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// lab is the running laboratory.
type lab struct {
	dir     string
	net     *internet
	hints   string // file with the root hints
	all     *queryFile
	anchor  string // the DS record of the root; empty: nothing is signed
	servers []*process
	faults  *faults // nil: none
	tcp     bool    // what servers are loaded with comes over TCP
	limits  string  // lines below limits in Shirube's configuration
	admin   string  // lines of it for its admin listener

	identity *identity // of servers that speak DoT and DoH; nil: they do not
}

// startLab writes the zones and starts three NSD, one for each tier. The caller
// stops the lab, also after an error.
func startLab(ctx context.Context, dir string, set settings) (*lab, error) {
	addrs := zoneAddrs
	if set.faults {
		addrs = faultyAddrs
	}
	l := &lab{
		dir: dir, net: buildInternet(set.zones, set.names, addrs),
		hints: filepath.Join(dir, "root.hints"), tcp: set.tcp,
	}
	l.net.delegate(set.delegated)
	var err error
	if set.signed {
		if l.anchor, err = l.net.sign(); err != nil {
			return l, err
		}
	}
	if err := writeFiles(map[string]string{l.hints: rootHints()}); err != nil {
		return l, err
	}
	if l.all, err = l.write("questions.txt", l.net.questions); err != nil {
		return l, err
	}
	if err := l.startTier(ctx, "root", rootAddrs, []zone{l.net.root}); err != nil {
		return l, err
	}
	if err := l.startTier(ctx, "tld", tldAddrs, l.net.tlds); err != nil {
		return l, err
	}
	if set.faults {
		if l.faults, err = startFaults(ctx, set.delay); err != nil {
			return l, err
		}
		addrs = l.faults.healthy(addrs)
	}
	return l, l.startTier(ctx, "zones", addrs, l.net.zones)
}

// startTier starts an NSD with zones and waits until it answers.
func (l *lab) startTier(ctx context.Context, tier string, addrs []netip.Addr, zones []zone) error {
	dir := filepath.Join(l.dir, tier)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	conf := filepath.Join(dir, "nsd.conf")
	files := map[string]string{conf: nsdConf(dir, addrs, zones)}
	for i, z := range zones {
		files[zoneFile(dir, i)] = z.text
	}
	if err := writeFiles(files); err != nil {
		return err
	}
	p, err := start(l.dir, "nsd-"+tier, []string{"nsd", "-d", "-c", conf})
	if err != nil {
		return err
	}
	l.servers = append(l.servers, p)
	return p.await(ctx, addrs[0], zones[len(zones)-1].name)
}

// stop stops all servers of the lab.
func (l *lab) stop() {
	for _, p := range l.servers {
		p.stop()
	}
	if l.faults != nil {
		l.faults.stop()
	}
}

func zoneFile(dir string, i int) string {
	return filepath.Join(dir, fmt.Sprintf("%05d.zone", i))
}

// nsdConf returns the configuration of an NSD without limits on the rate of
// responses: one resolver is its only client.
func nsdConf(dir string, addrs []netip.Addr, zones []zone) string {
	var b strings.Builder
	fmt.Fprintf(&b, `server:
  username: ""
  chroot: ""
  database: ""
  zonesdir: %[1]q
  pidfile: "%[1]s/nsd.pid"
  xfrdfile: ""
  xfrdir: %[1]q
  zonelistfile: "%[1]s/zone.list"
  server-count: 1
  rrl-ratelimit: 0
  rrl-whitelist-ratelimit: 0
`, dir)
	for _, a := range addrs {
		fmt.Fprintf(&b, "  ip-address: %s\n", a)
	}
	// A socket of the file system needs no keys.
	fmt.Fprintf(&b, "remote-control:\n  control-enable: yes\n  control-interface: \"%s/control\"\n", dir)
	for i, z := range zones {
		fmt.Fprintf(&b, "zone:\n  name: %q\n  zonefile: %q\n", z.name, zoneFile(dir, i))
	}
	return b.String()
}

// writeFiles writes files, by their names.
func writeFiles(files map[string]string) error {
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
