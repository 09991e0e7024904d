package daemon

import (
	"context"
	"encoding/base64"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/miekg/dns"

	"shirube/internal/config"
)

// askSocket asks for the builtin name localhost by HTTP/2 without TLS, for client or
// for nobody, over a connection to path that stays.
func askSocket(t *testing.T, path, client string) (rcode byte, err error) {
	t.Helper()
	msg, err := new(dns.Msg).SetQuestion("localhost.", dns.TypeA).Pack()
	if err != nil {
		return 0, err
	}
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	tr := &http.Transport{Protocols: p, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	q, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://dns.example/dns-query?dns="+base64.RawURLEncoding.EncodeToString(msg), nil)
	if err != nil {
		return 0, err
	}
	if client != "" {
		q.Header.Set("X-Forwarded-For", client)
	}
	rsp, err := tr.RoundTrip(q)
	if err != nil {
		return 0, err
	}
	defer func() { _ = rsp.Body.Close() }()
	b, err := io.ReadAll(rsp.Body)
	if err != nil || rsp.StatusCode != http.StatusOK || len(b) < 4 {
		return 0, errors.Join(err, errors.New(rsp.Status))
	}
	return b[3] & 0xf, nil
}

// TestReloadMovesTheSocketOfDoH has the socket come, change its group while clients
// are served, move, and go.
func TestReloadMovesTheSocketOfDoH(t *testing.T) {
	dir := t.TempDir()
	one, two := filepath.Join(dir, "one.sock"), filepath.Join(dir, "two.sock")
	r := startReloadable(t, func(cfg *config.Config) {
		cfg.AccessControl = []config.AccessRule{{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Action: config.ActionAllow}}
	})
	served := func(path string) {
		t.Helper()
		for client, want := range map[string]byte{"192.0.2.7": dns.RcodeSuccess, "198.51.100.7": dns.RcodeRefused, "": dns.RcodeRefused} {
			if got, err := askSocket(t, path, client); err != nil || got != want {
				t.Errorf("%s for %q: %d, %v, want %d", path, client, got, err, want)
			}
		}
	}
	reload := func(path, group string) error {
		r.cfg.DoH.Socket, r.cfg.DoH.Group = path, group
		_, err := r.Reload(t.Context())
		return err
	}
	for _, step := range []struct{ path, group string }{
		{one, ""}, {one, strconv.Itoa(os.Getgid())}, {two, ""}, {"", ""}, {one, ""},
	} {
		if err := reload(step.path, step.group); err != nil {
			t.Fatal(err)
		}
		for _, path := range []string{one, two} {
			if path == step.path {
				served(path)
				continue
			}
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is there, with %s configured: %v", path, step.path, err)
			}
		}
	}
	file, err := os.Lstat(one)
	if err != nil || file.Mode() != fs.ModeSocket|0o660 || file.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid()) {
		t.Errorf("%v, %v", file.Mode(), err)
	}
	if err := reload(filepath.Join(dir, "none", "doh.sock"), ""); err == nil {
		t.Error("a socket in no directory is taken")
	}
	served(one)
	if err := reload(one, "no-such-group"); err == nil {
		t.Error("a group that there is not is taken")
	}
	served(one)
}
