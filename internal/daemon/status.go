package daemon

import (
	"cmp"
	"crypto/x509"
	"slices"
	"strings"
	"time"

	"shirube/dnstap"
	"shirube/dnstap/collector"
	"shirube/internal/admin"
	"shirube/internal/metrics"
)

// statusDocument is the document of the status page.
type statusDocument struct {
	metrics.Status
	Causes       []admin.Cause       `json:"causes"`
	Listeners    []string            `json:"listeners"`
	Trouble      []deadZone          `json:"trouble"` // zones none of whose servers answers, the first few
	Servers      []troubledServer    `json:"servers"` // of other zones, that do not answer, or not usefully
	Certificates []certificateStatus `json:"certificates"`
	Collectors   []collectorStatus   `json:"collectors"`
	Top          *topStatus          `json:"top"` // nil: nobody looks for who asks most
}

// collectorStatus is who is told of messages (dnstap) or of traces.
type collectorStatus struct {
	Name    string `json:"name"`
	State   string `json:"state"`
	Up      bool   `json:"up"`      // or it has not been needed yet
	Sent    uint64 `json:"sent"`    // frames, or traces
	Dropped uint64 `json:"dropped"` // likewise: that there was no room for, or that it did not take
}

// deadZone is a zone none of whose servers answers.
type deadZone struct {
	Zone  string    `json:"zone"`
	Until time.Time `json:"until"` // it is not asked before
	Why   string    `json:"why"`
}

// troubledServer is a name server that is not asked if that can be helped.
type troubledServer struct {
	Server string    `json:"server"`
	Zone   string    `json:"zone"`
	Why    string    `json:"why"`
	Until  time.Time `json:"until"`
}

// certificateStatus is a certificate that clients are shown.
type certificateStatus struct {
	Names   string `json:"names"`
	Expires int64  `json:"expires"` // Unix seconds
}

// topStatus is who asks most lately, and for what.
type topStatus struct {
	Sample int `json:"sample"` // of so many queries one is counted
	collector.LatelyStats
}

// How many of each are listed.
const (
	maxTrouble      = 8
	maxCertificates = 8
	maxNamesShown   = 3 // of a certificate
)

// statusPage returns the document of the status page.
func (d *Daemon) statusPage() any {
	s, p, now := d.snapshot(), d.Pipeline(), time.Now()
	doc := statusDocument{
		Status: s.Status(now), Causes: admin.Causes(s.Causes, now), Listeners: []string{},
		Trouble: []deadZone{}, Servers: troubledServers(p), Certificates: d.secure.certificateStatus(),
		Collectors: collectors(&s), Top: d.tapped.Load().status(now),
	}
	for _, e := range d.where() {
		doc.Listeners = append(doc.Listeners, e.String())
	}
	for _, z := range p.Resolver.DeadZones(maxTrouble) {
		doc.Trouble = append(doc.Trouble, deadZone{Zone: z.Zone.String(), Until: z.Until, Why: z.Why.Error()})
	}
	return doc
}

// collectors lists who is told what s has counted.
func collectors(s *metrics.Snapshot) []collectorStatus {
	list := []collectorStatus{}
	for i := range s.Dnstap {
		if o := &s.Dnstap[i]; o.Name != topOutput {
			list = append(list, collectorStatus{Name: o.Name, State: o.State.String(), Up: o.State == dnstap.Connected, Sent: o.Sent, Dropped: o.Dropped})
		}
	}
	if t := s.Traces; t != nil {
		c := collectorStatus{Name: "traces", State: "in use", Up: true, Sent: t.Sent, Dropped: t.Dropped + t.Failed}
		switch {
		case t.Requests == 0:
			c.State = "not used yet"
		case !t.Up:
			c.State, c.Up = "failing", false
		}
		list = append(list, c)
	}
	return list
}

// troubledServers lists servers of p that are in trouble.
func troubledServers(p *Pipeline) []troubledServer {
	list := []troubledServer{}
	for _, s := range p.Resolver.Troubled(maxTrouble) {
		t := troubledServer{Server: s.Server.String(), Zone: s.Zone.String(), Why: "does not answer", Until: s.DeadUntil}
		if s.DeadUntil.IsZero() {
			t.Why, t.Until = "is of no help", s.LameUntil
		}
		list = append(list, t)
	}
	return list
}

// certificateStatus lists the certificates in use, those that expire first.
func (s *secure) certificateStatus() []certificateStatus {
	list := []certificateStatus{}
	if s.certs == nil {
		return list
	}
	for _, c := range s.certs.Leaves() {
		list = append(list, certificateStatus{Names: shownNames(c.Leaf), Expires: c.Leaf.NotAfter.Unix()})
	}
	slices.SortStableFunc(list, func(a, b certificateStatus) int { return cmp.Compare(a.Expires, b.Expires) })
	return list[:min(len(list), maxCertificates)]
}

// shownNames returns whom c is for, for people.
func shownNames(c *x509.Certificate) string {
	names := slices.Clone(c.DNSNames)
	for _, a := range c.IPAddresses {
		names = append(names, a.String())
	}
	if more := len(names) - maxNamesShown; more > 0 {
		names = append(names[:maxNamesShown], "…")
	}
	return strings.Join(names, ", ")
}

// status returns what t has found by now.
func (t *tapped) status(now time.Time) *topStatus {
	if t == nil {
		return nil
	}
	return &topStatus{Sample: t.conf.Sample, LatelyStats: t.Stats(t.conf.Entries, now)}
}
