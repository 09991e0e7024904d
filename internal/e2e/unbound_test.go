package e2e

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
)

// startUnbound starts an Unbound that listens at the addresses, keeps to its
// directory and is stopped at the end of the test. more is what else its file
// has: first lines of the section "server", then other sections.
func startUnbound(t *testing.T, more string, at ...netip.AddrPort) {
	t.Helper()
	dir := t.TempDir()
	var b strings.Builder
	fmt.Fprintf(&b, `remote-control:
  control-enable: no
server:
  directory: %q
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  verbosity: 1
  num-threads: 1
  minimal-responses: yes
`, dir)
	for _, a := range at {
		fmt.Fprintf(&b, "  interface: %s@%d\n", a.Addr(), a.Port())
	}
	conf := filepath.Join(dir, "unbound.conf")
	writeFile(t, conf, b.String()+more)
	p, err := start("unbound", []string{"unbound", "-d", "-p", "-c", conf}, nil, nil)
	if err == nil {
		_, err = p.await(p.out, "start of service", startTimeout)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.stop() })
}
