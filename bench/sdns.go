package main

import (
	"context"
	"fmt"
	"strings"
)

// sdns (github.com/semihalev/sdns) is a resolver in Go. Debian has no package of it:
// it is measured where somebody has put the program into the PATH, or named it.

func sdnsVersion(ctx context.Context, program string) (string, error) {
	return firstLine(ctx, program, "version") // "sdns v1.8.0"
}

func prepareSDNS(_ context.Context, l *lab, c *contestant) ([][]string, error) {
	conf, err := c.configure(l, "sdns.conf", l.secureSDNS(c, sdnsConf(l, c)))
	return [][]string{{c.program, "-c", conf}}, err
}

// sdnsConf turns off what the others do not do: lists of what is blocked, prefetching,
// an API, limits on rates. Its cache is counted in entries: it has room for every
// answer here, as the others' have. It has as many threads as it sees processors.
func sdnsConf(l *lab, c *contestant) string {
	var roots []string
	for _, a := range rootAddrs {
		roots = append(roots, fmt.Sprintf("%q", a.String()+":53"))
	}
	dnssec, keys := "off", ""
	if l.anchor != "" {
		dnssec, keys = "on", fmt.Sprintf("%q", strings.ReplaceAll(l.net.root.key, "\t", " "))
	}
	return fmt.Sprintf(`version = "1.8.0"
directory = %q
bind = "%s:53"
rootservers = [%s]
root6servers = []
ipv6access = false
dnssec = %q
rootkeys = [%s]
fallbackservers = []
forwarderservers = []
accesslist = ["127.0.0.0/8"]
api = ""
loglevel = "error"
blocklists = []
blocklistdir = ""
nullroute = "0.0.0.0"
nullroutev6 = "::0"
timeout = "2s"
querytimeout = "10s"
expire = 600
cachesize = 1000000
prefetch = 0
maxdepth = 30
ratelimit = 0
clientratelimit = 0
domainmetrics = false
reflexenabled = false
chaos = false
qname_min_level = 3
`, c.dir(l), c.addr, strings.Join(roots, ", "), dnssec, keys)
}
