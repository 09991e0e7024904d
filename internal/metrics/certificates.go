package metrics

// certificateMetrics are of what the server shows to clients over TLS. There are
// none without certificates.
func certificateMetrics() []Metric {
	return []Metric{
		{
			"shirube_certificates", Gauge,
			[]string{"state"},
			"Certificates `in_use`; of these, `failing` ones: their files hold others by now, which cannot be used. Only with certificates",
			func(s *Snapshot, e *emitter) {
				if c := &s.Certificates; c.InUse > 0 {
					e.add(float64(c.InUse), "in_use")
					e.add(float64(c.Failing), "failing")
				}
			},
		},
		{
			"shirube_certificate_expiry_seconds", Gauge, nil,
			"When the first of the certificates expires, in seconds since 1970. Only with certificates",
			func(s *Snapshot, e *emitter) {
				if s.Certificates.InUse > 0 {
					e.add(float64(s.Certificates.Expires))
				}
			},
		},
		{
			"shirube_certificate_changes_total", Counter,
			[]string{"outcome"},
			"Changes of the certificates' files: `taken` up, those at the start included, or `failed`, for what was found there",
			func(s *Snapshot, e *emitter) {
				e.count(s.Certificates.Taken, "taken")
				e.count(s.Certificates.Failed, "failed")
			},
		},
	}
}
