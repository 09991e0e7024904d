package otlp

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"os"
	"strconv"
	"strings"
	"time"
)

// What a collector may answer.
const (
	maxReply        = 64 << 10 // octets of a body: the OTLP specification has 4 MiB at most, for what is a line of text
	maxReplyHeader  = 16 << 10
	maxReplyText    = 200 // octets of it that the log is told
	maxHeadersFile  = 16 << 10
	maxHeaders      = 32
	idleConnections = time.Minute
)

// poster sends requests, one after the other.
type poster struct {
	to      string
	headers string // file; "": none
	client  *http.Client
	timeout time.Duration
}

func newPoster(to, socket string, opt *Options) poster {
	var d net.Dialer
	t := &http.Transport{ // without a proxy: the environment is not the configuration
		DialContext:     d.DialContext,
		TLSClientConfig: opt.TLS, MaxConnsPerHost: 1, IdleConnTimeout: idleConnections, MaxResponseHeaderBytes: maxReplyHeader,
		DisableCompression: true, // of what comes back: nothing that is small grows
	}
	if socket != "" {
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", socket) }
	}
	return poster{
		to: to, headers: opt.Headers, timeout: opt.Timeout,
		client: &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, // what is secret in headers goes nowhere else
	}
}

// verdict is what came of a request.
type verdict struct {
	taken    bool
	again    bool          // if not: the same may be sent again
	after    time.Duration // not before; 0: not said
	rejected uint64        // spans, of what was taken
	text     string        // why
	err      error         // if not taken
}

// send sends body.
func (p *poster) send(ctx context.Context, body []byte) verdict {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.to, bytes.NewReader(body))
	if err != nil {
		return verdict{err: err}
	}
	req.Header.Set("Content-Type", "application/json")
	if err := p.addHeaders(req); err != nil {
		return verdict{err: err, again: true} // somebody is changing the file
	}
	rsp, err := p.client.Do(req)
	if err != nil {
		return verdict{err: err, again: true} // OTLP specification, "All Other Responses"
	}
	defer func() { _ = rsp.Body.Close() }() // it was read
	text, err := io.ReadAll(io.LimitReader(rsp.Body, maxReply+1))
	switch {
	case err != nil:
		return verdict{err: fmt.Errorf("%s: %w", rsp.Status, err), again: true}
	case len(text) > maxReply: // OTLP specification, "OTLP/HTTP Response": it is not sent again
		return verdict{err: fmt.Errorf("%s: an answer of more than %d octets", rsp.Status, maxReply)}
	}
	return judge(rsp, text)
}

// judge returns what an answer means.
func judge(rsp *http.Response, text []byte) verdict {
	if rsp.StatusCode == http.StatusOK {
		return judgeSuccess(text)
	}
	v := verdict{err: fmt.Errorf("%s: %q", rsp.Status, text[:min(len(text), maxReplyText)])}
	switch rsp.StatusCode { // OTLP specification, "Retryable Response Codes"
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		v.again, v.after = true, retryAfter(rsp.Header.Get("Retry-After"), time.Now())
	}
	return v
}

// judgeSuccess reads an ExportTraceServiceResponse. What cannot be read was an
// answer all the same: the status says that the spans were taken.
func judgeSuccess(text []byte) verdict {
	var doc struct {
		PartialSuccess struct {
			RejectedSpans json.RawMessage `json:"rejectedSpans"` // a number, or one as text
			ErrorMessage  string          `json:"errorMessage"`
		} `json:"partialSuccess"`
	}
	v := verdict{taken: true}
	if json.Unmarshal(text, &doc) != nil {
		return v
	}
	n, err := strconv.ParseInt(strings.Trim(string(doc.PartialSuccess.RejectedSpans), `"`), 10, 64)
	if err == nil && n > 0 { // OTLP specification, "Partial Success": it is not sent again
		v.rejected, v.text = uint64(n), doc.PartialSuccess.ErrorMessage
		v.text = v.text[:min(len(v.text), maxReplyText)]
	}
	return v
}

// retryAfter returns how long text says to wait (RFC 9110 §10.2.3).
func retryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(text); err == nil {
		return time.Duration(min(max(seconds, 0), int(maxRetryAfter/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// addHeaders adds to req what the file has.
func (p *poster) addHeaders(req *http.Request) error {
	if p.headers == "" {
		return nil
	}
	h, err := readHeaders(p.headers)
	for name, values := range h {
		req.Header[name] = values
	}
	return err
}

// readHeaders returns what is in a file: one header a line, as in HTTP. Lines that
// are empty or begin with # say nothing.
func readHeaders(file string) (http.Header, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("headers: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	text, err := io.ReadAll(io.LimitReader(f, maxHeadersFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("headers: %w", err)
	case len(text) > maxHeadersFile:
		return nil, fmt.Errorf("headers: %s: expected %d octets at most", file, maxHeadersFile)
	}
	h := make(http.Header)
	number := 0
	for line := range strings.Lines(string(text)) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !isToken(name) || !isValue(value) { // which may be secret, and is not said
			return nil, fmt.Errorf("headers: %s:%d: expected a header such as Authorization: Bearer …", file, number)
		}
		h.Add(textproto.CanonicalMIMEHeaderKey(name), strings.TrimSpace(value))
	}
	if len(h) > maxHeaders {
		return nil, fmt.Errorf("headers: %s: expected %d at most", file, maxHeaders)
	}
	return h, nil
}

// isToken reports whether s is one (RFC 9110 §5.6.2).
func isToken(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// isValue reports whether s has no octets that a header's value cannot have (RFC
// 9110 §5.5).
func isValue(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) < 0
}

// close lets go of the connection.
func (p *poster) close() { p.client.CloseIdleConnections() }
