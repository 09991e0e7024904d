package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// profileAdmin is where Shirube's profiles are fetched from, in the namespaces.
const profileAdmin = "127.0.0.1:9153"

func profileFlags(fs *flag.FlagSet, set *settings) {
	set.peers = "shirube"
	set.names = 200_000 // as many as are resolved while it samples
	timeFlag(fs, set, 10*time.Second)
	signedFlag(fs, set)
	fs.StringVar(&set.out, "out", "bench/out", "`directory` for the profiles")
}

// profile writes CPU profiles of Shirube's to the directory of results: of names
// that it has to resolve, and then of the same from memory. They are what the
// compiler is given to know what matters (cmd/shirube/default.pgo).
func profile(ctx context.Context, dir string, set settings) error {
	l, err := startLab(ctx, dir, set)
	defer l.stop()
	if err != nil {
		return err
	}
	if l.admin, err = adminLines(l.dir, profileAdmin); err != nil {
		return err
	}
	l.admin += "  profiles: true\n"
	servers, err := startContestants(ctx, l, set)
	defer func() { stopContestants(servers) }()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(set.out, 0o755); err != nil {
		return err
	}
	kind := "unsigned"
	if set.signed {
		kind = "signed"
	}
	c := servers[0]
	cold := func(ctx context.Context) error {
		_, err := closedLoop(ctx, netip.AddrPortFrom(c.addr, 53), l.net.questions, profileClients)
		return err
	}
	if err := profiled(ctx, filepath.Join(set.out, kind+"-cold.pprof"), set.shirube, set.run, cold); err != nil {
		return err
	}
	warm := func(ctx context.Context) error {
		_, err := warmRun(ctx, l, c, set.run)
		return err
	}
	return profiled(ctx, filepath.Join(set.out, kind+"-warm.pprof"), set.shirube, set.run, warm)
}

// profileClients is how many clients ask for cold names.
const profileClients = 50

// profiled has what the server does during load, at most for the given time,
// written to file. binary is the server's.
func profiled(ctx context.Context, file, binary string, most time.Duration, load func(context.Context) error) error {
	loaded := make(chan error, 1)
	// Owner: profiled. End: with the load. Bound: one.
	go func() { loaded <- load(ctx) }()
	octets, err := fetchProfile(ctx, most)
	if err = errors.Join(err, <-loaded); err != nil {
		return err
	}
	octets, err = withoutPath(octets, binary)
	if err != nil {
		return fmt.Errorf("a profile: %w", err)
	}
	fmt.Fprintf(os.Stderr, "%d octets written to %s\n", len(octets), file)
	return os.WriteFile(file, octets, 0o644)
}

// withoutPath returns a profile that does not say where on this machine the
// binary was: it is for everybody. The lengths in it stay true.
func withoutPath(octets []byte, binary string) ([]byte, error) {
	path, err := filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	r, err := gzip.NewReader(bytes.NewReader(octets))
	if err != nil {
		return nil, err
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	name := filepath.Base(path)
	plain = bytes.ReplaceAll(plain, []byte(path), []byte(strings.Repeat("/", len(path)-len(name))+name))
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err = w.Write(plain); err == nil {
		err = w.Close()
	}
	return out.Bytes(), err
}

// fetchProfile returns a CPU profile of the server, of the given time.
func fetchProfile(ctx context.Context, most time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, most+time.Minute)
	defer cancel()
	return fetchAdmin(ctx, profileAdmin, fmt.Sprintf("/debug/pprof/profile?seconds=%d", int(most.Seconds())))
}

// labToken is what admin listeners of the lab's servers want to see.
const labToken = "a-token-of-the-lab"

// adminLines returns the lines of a configuration that have a server's admin
// listener at an address. The token's file is in dir.
func adminLines(dir, at string) (string, error) {
	file := filepath.Join(dir, "admin-token")
	lines := fmt.Sprintf("admin:\n  listen:\n    - {address: %q, token_file: %q}\n", at, file)
	return lines, os.WriteFile(file, []byte(labToken), 0o644)
}

// fetchAdmin returns a document of the admin listener at an address.
func fetchAdmin(ctx context.Context, at, path string) ([]byte, error) {
	url := "http://" + at + path
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+labToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	octets, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, resp.Status, octets)
	}
	return octets, err
}
