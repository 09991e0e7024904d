package config

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"shirube/internal/wire"
)

// Tracing configures what a collector of OpenTelemetry's is told of how questions
// are resolved that memory has no answer to: a trace of each, with a span for each
// server that was asked. It has the names that clients ask for; of the clients
// themselves it has nothing.
type Tracing struct {
	// Where the collector takes OTLP over HTTP: `http://127.0.0.1:4318`,
	// `https://collector.example.com:4318`, or `unix:` and the path of a socket. Traces
	// are posted to `/v1/traces` if it has no other path. A name is looked up by the
	// system, which should not ask this server. Empty: nothing is told, and nothing
	// spent on it.
	Endpoint string `yaml:"endpoint"`
	// One in so many resolutions is traced. `0`: none, but for `names`.
	Sample int `yaml:"sample" range:"0..1000000000"`
	// Every resolution of a name in or below one of these is traced.
	Names []wire.Name `yaml:"names" range:"0..64"`
	// A file with headers of the requests, one a line as in HTTP, such as
	// `Authorization: Bearer …`. It is read anew for each request. Empty: none.
	HeadersFile string `yaml:"headers_file"`
	// TLS to an endpoint with `https`.
	TLS TracingTLS `yaml:"tls"`
	// How long a request may take.
	Timeout time.Duration `yaml:"timeout" range:"100ms..1m"`
	// How many traces wait at most for the collector to take them. What finds no room
	// is dropped, and counted.
	Queue int `yaml:"queue" range:"1..65536"`
	// How many traces go into one request at most.
	Batch int `yaml:"batch" range:"1..256"`
	// How long the first of them waits for the others.
	Interval time.Duration `yaml:"interval" range:"10ms..1m"`
}

// TracingTLS configures TLS to a collector.
type TracingTLS struct {
	// File with the certificates of the authorities that the collector's may be
	// from, in PEM. Empty: those that this machine trusts.
	CAFile string `yaml:"ca_file"`
	// File with this server's certificate, in PEM, for a collector that asks for
	// one. Needs `key_file`.
	CertFile string `yaml:"cert_file"`
	// File with the key of `cert_file`, in PEM.
	KeyFile string `yaml:"key_file"`
}

func defaultTracing() Tracing {
	return Tracing{Names: []wire.Name{}, Timeout: 5 * time.Second, Queue: 1024, Batch: 64, Interval: time.Second}
}

// tracing reports an endpoint that is none, and one that would be told nothing.
func (d *decoder) tracing(t *Tracing) {
	const endpoint = "tracing.endpoint"
	if t.Endpoint == "" {
		return
	}
	u, err := url.Parse(t.Endpoint)
	path, unix := strings.CutPrefix(t.Endpoint, "unix:")
	switch {
	case unix && (!filepath.IsAbs(path) || len(path) > maxSocketPath):
		d.contradiction(fmt.Sprintf("found %s; expected an absolute path of %d octets at most after unix:", printable(t.Endpoint), maxSocketPath), endpoint)
	case !unix && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != ""):
		d.contradiction(fmt.Sprintf("found %s; expected http:// or https:// with a host and a port, or unix: and a path", printable(t.Endpoint)), endpoint)
	case t.TLS != (TracingTLS{}) && (unix || u.Scheme != "https"):
		d.contradiction(fmt.Sprintf("found %s; expected https:// with tls", printable(t.Endpoint)), endpoint)
	case t.Sample == 0 && len(t.Names) == 0:
		d.contradiction("found neither sample nor names; expected one of them, or there is nothing to tell", endpoint)
	}
	d.ownCertificate(t.TLS.CertFile, t.TLS.KeyFile, "tracing.tls")
}
