package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"shirube/internal/localsock"
)

// DefaultPath is where a socket is looked for.
const DefaultPath = "/run/shirube/control.sock"

// The bounds of what a client waits for.
const (
	dialTime    = 5 * time.Second
	answerTime  = 15 * time.Second // for the head of an answer; longer than the server takes for any
	maxDocument = 64 << 20         // octets
	maxLine     = 1 << 20          // octets of one line of a trace
)

// ErrUnreachable is wrapped by errors that say that no server could be asked.
var ErrUnreachable = errors.New("no server could be asked")

// Client asks a server by its socket.
type Client struct {
	path    string
	http    http.Client
	patient http.Client // for what takes longer
}

// NewClient returns a client of the server whose socket is at path.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		d := net.Dialer{Timeout: dialTime}
		return d.DialContext(ctx, "unix", path)
	}
	client := func(answer time.Duration) http.Client {
		return http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true, ResponseHeaderTimeout: answer}}
	}
	return &Client{path: path, http: client(answerTime), patient: client(max(reloadTime, upgradeTime) + dialTime)}
}

// Do sends a request and returns the document of the answer. body is the
// document of the request; nil: it has none. What the server refuses is an error
// with its words; that it could not be asked wraps [ErrUnreachable].
func (c *Client) Do(ctx context.Context, method, path string, query url.Values, body any) ([]byte, error) {
	resp, err := c.send(ctx, method, path, query, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	doc, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err == nil && len(doc) > maxDocument {
		err = fmt.Errorf("the answer has more than %d octets", maxDocument)
	}
	return doc, c.broken(err)
}

// Trace has the server resolve a name, and calls each for every line as it
// comes.
func (c *Client) Trace(ctx context.Context, name, typ string, each func(line []byte) error) error {
	resp, err := c.send(ctx, http.MethodGet, "/v1/trace", url.Values{"name": {name}, "type": {typ}}, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxLine)
	for lines.Scan() {
		if err := each(lines.Bytes()); err != nil {
			return err
		}
	}
	return c.broken(lines.Err())
}

// send sends a request, and returns the answer if it is a success.
func (c *Client) send(ctx context.Context, method, path string, query url.Values, body any) (*http.Response, error) {
	var content io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(b)
	}
	u := url.URL{Scheme: "http", Host: "shirube", Path: path, RawQuery: query.Encode()}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), content)
	if err != nil {
		return nil, err
	}
	client := &c.http
	if path == reloadPath || path == upgradePath {
		client = &c.patient
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	defer resp.Body.Close()
	var p Problem
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxLine)).Decode(&p); err != nil || p.Error == "" {
		return nil, fmt.Errorf("the server answers %s, and does not say why", resp.Status)
	}
	return nil, errors.New(p.Error)
}

// unreachable says why no server could be asked, and what to do about it.
func (c *Client) unreachable(err error) error {
	why := err
	if u, ok := errors.AsType[*url.Error](err); ok {
		why = u.Err
	}
	why = localsock.Shorten(why)
	hint := ""
	switch {
	case errors.Is(err, fs.ErrNotExist):
		hint = ": no server with a control socket runs, or it is elsewhere (control.socket of the server, --socket here)"
	case errors.Is(err, fs.ErrPermission):
		hint = ": only root, the server's own user and members of control.group may use it"
	case errors.Is(err, syscall.ECONNREFUSED):
		hint = ": the server that made it is gone"
	}
	return fmt.Errorf("%w at %s: %w%s", ErrUnreachable, c.path, why, hint)
}

// broken explains an error in the middle of an answer.
func (c *Client) broken(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("the server at %s stopped in the middle of its answer: %w", c.path, err)
}
