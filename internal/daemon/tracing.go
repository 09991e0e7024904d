package daemon

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"time"

	"shirube/internal/config"
	"shirube/internal/otlp"
)

// tracingGrace is how long the collector of traces has at the end, and when a
// reload puts another in its place, to take what is queued for it.
const tracingGrace = 2 * time.Second

// serviceName is what this is to a collector of traces.
const serviceName = "shirube"

// newTracing returns what tells the collector of traces that cfg has; nil: there is
// none. It counts on where before has, if that is not nil.
func newTracing(cfg *config.Config, before *otlp.Exporter, log *slog.Logger) (*otlp.Exporter, error) {
	t := &cfg.Tracing
	if t.Endpoint == "" {
		return nil, nil
	}
	opt := otlp.Options{
		Endpoint: t.Endpoint, Headers: t.HeadersFile, Sample: t.Sample, Names: t.Names,
		Timeout: t.Timeout, Queue: t.Queue, Batch: t.Batch, Interval: t.Interval,
		Service: serviceName, Instance: tapIdentity(cfg), Log: log,
	}
	if strings.HasPrefix(t.Endpoint, "https:") {
		conf, err := clientTLS("", t.TLS.CAFile, t.TLS.CertFile, t.TLS.KeyFile) // net/http knows the name
		if err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
		conf.MinVersion = tls.VersionTLS12
		opt.TLS = conf
	}
	return otlp.New(opt, before)
}

// buildTracing makes what tells of resolutions.
func (p *Pipeline) buildTracing(before *Pipeline) (err error) {
	if before == nil {
		p.Spans, err = newTracing(&p.Config, nil, p.log)
		return err
	}
	from, to := &before.Config, &p.Config
	if reflect.DeepEqual(from.Tracing, to.Tracing) && tapIdentity(from) == tapIdentity(to) {
		p.Spans = before.Spans
		return nil
	}
	p.Spans, err = newTracing(to, before.Spans, p.log)
	return err
}

// reloadTracing has the next configuration's collector be told, and that before be
// told what is queued for it.
func (d *Daemon) reloadTracing(r *reload) error {
	from, to := r.from.Spans, r.to.Spans
	if from == to {
		return nil
	}
	r.commit(func() { to.Start(d.Version) })
	r.retire(func() { d.closeTracing(d.ctx, from) })
	return nil
}

// closeTracing tells the collector of e what is queued, and that is all.
func (d *Daemon) closeTracing(ctx context.Context, e *otlp.Exporter) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tracingGrace)
	defer cancel()
	if err := e.Close(ctx); err != nil {
		d.log.Warn("the collector of traces was not told all", "error", err)
	}
}
