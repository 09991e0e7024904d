package metrics

import (
	"shirube/discovery"
	"shirube/internal/wire"
)

// discoveryMetrics are of what the server says of itself.
func discoveryMetrics() []Metric {
	return []Metric{
		{
			"shirube_discovery_answers_total", Counter,
			[]string{"about"},
			"Questions about this server: `ddr`, for its encrypted transports, that were answered with some; `ddr_none`, with none; `empty`, for what resolver.arpa does not have; `resinfo`; `chaos`; `hb46pp`, for provisioning, that were answered; `hb46pp_none`, for which there is no record; `hb46pp_failed`, of clients in no view (SERVFAIL)",
			func(s *Snapshot, e *emitter) {
				d := &s.Discovery
				e.count(d.Designated, "ddr")
				e.count(d.Undesignated, "ddr_none")
				e.count(d.Empty, "empty")
				e.count(d.RESINFO, "resinfo")
				e.count(d.Chaos, "chaos")
				e.count(d.Provisioned, "hb46pp")
				e.count(d.Unprovisioned, "hb46pp_none")
				e.count(d.ProvisionFailed, "hb46pp_failed")
			},
		},
		{
			"shirube_ddr_suppressed_total", Counter,
			[]string{"transport", "reason"},
			"Encrypted transports that were left out of answers because clients could not use or verify them: `not_listening` at the address asked; `unknown_address`, which nobody told; `no_certificate`; `out_of_time`, the certificate has expired; `address_not_in_certificate`; `name_not_in_certificate`; `no_name`, neither configured nor in the certificate",
			func(s *Snapshot, e *emitter) {
				for proto := wire.DoT; proto < wire.NumProtos; proto++ {
					for reason := range discovery.NumReasons {
						e.count(s.Discovery.Omitted[proto-wire.DoT][reason], lower(proto.String()), reason.String())
					}
				}
			},
		},
	}
}
