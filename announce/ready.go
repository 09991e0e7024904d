package announce

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
)

// Readiness is what a resolver says of itself.
type Readiness struct {
	Ready  bool
	Causes []string // codes of what makes it not ready, or makes it go
}

// maxReadiness is how many octets of a resolver's document are read: it has a few
// causes of some hundred each.
const maxReadiness = 64 << 10

// ReadyAt returns a function that asks the admin socket of a resolver, at path, for
// /readyz. The connection is a new one each time: what is asked is also whether
// there is still somebody.
func ReadyAt(path string) func(ctx context.Context) (Readiness, error) {
	t := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}
	client := &http.Client{Transport: t}
	return func(ctx context.Context) (Readiness, error) { return askReady(ctx, client) }
}

func askReady(ctx context.Context, client *http.Client) (r Readiness, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/readyz", http.NoBody)
	if err != nil {
		return r, err
	}
	rsp, err := client.Do(req)
	if err != nil {
		return r, err
	}
	defer func() { _ = rsp.Body.Close() }() // only read
	if rsp.StatusCode != http.StatusOK && rsp.StatusCode != http.StatusServiceUnavailable {
		return r, fmt.Errorf("/readyz: %s", rsp.Status)
	}
	var doc struct {
		Ready  bool `json:"ready"`
		Causes []struct {
			Code   string `json:"code"`
			Counts bool   `json:"counts"`
		} `json:"causes"`
	}
	if err := json.NewDecoder(io.LimitReader(rsp.Body, maxReadiness)).Decode(&doc); err != nil {
		return r, fmt.Errorf("/readyz: %w", err)
	}
	r.Ready = doc.Ready
	for _, c := range doc.Causes {
		if c.Counts {
			r.Causes = append(r.Causes, c.Code)
		}
	}
	return r, nil
}
