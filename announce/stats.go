package announce

import (
	"io"
	"slices"

	"shirube/internal/exposition"
)

// Stats is what is announced, why, and what was counted.
type Stats struct {
	VIPs         []VIPStats    `json:"vips"`
	Members      []MemberStats `json:"members,omitempty"`
	Peers        []Peer        `json:"peers,omitempty"`
	DriverErrors uint64        `json:"driver_errors"`
}

// VIPStats is of an address.
type VIPStats struct {
	Address    string       `json:"address"`
	How        string       `json:"announced_as"`
	Reason     string       `json:"because"`
	Changes    uint64       `json:"changes"` // of how it is announced
	Transports []ProbeStats `json:"transports"`
}

// ProbeStats is of an address over a transport.
type ProbeStats struct {
	Transport string `json:"transport"`
	Up        bool   `json:"up"`
	Successes uint64 `json:"successes"`
	Failures  uint64 `json:"failures"`
}

// MemberStats is of another resolver of the fleet.
type MemberStats struct {
	Address string `json:"address"`
	Up      bool   `json:"up"`
}

// Stats returns what there is to know now.
func (a *Announcer) Stats() Stats {
	a.mu.Lock()
	s := a.stats
	a.mu.Unlock()
	s.Peers = a.driver.Peers()
	return s
}

// note has Stats return what is known now.
func (a *Announcer) note() {
	s := Stats{VIPs: make([]VIPStats, 0, len(a.vips))}
	for _, v := range a.vips {
		vs := VIPStats{Address: v.conf.Addr.String(), How: v.how.String(), Reason: v.reason.String(), Changes: v.changes, Transports: slices.Clone(v.probes)}
		for j := range v.transports {
			vs.Transports[j].Transport = string(v.conf.Targets[j].Transport)
			vs.Transports[j].Up = v.transports[j].condition == up
		}
		s.VIPs = append(s.VIPs, vs)
	}
	for _, m := range a.members {
		s.Members = append(s.Members, MemberStats{m.target.At.String(), m.check.condition == up && m.last})
	}
	a.mu.Lock()
	s.DriverErrors = a.stats.DriverErrors
	a.stats = s
	a.mu.Unlock()
}

// WritePrometheus writes s in Prometheus' text format. Labels are what the
// configuration names.
func (s *Stats) WritePrometheus(w io.Writer) error {
	var e exposition.Text
	e.Family("shirube_announce_state", "gauge", "1 for how an address is announced")
	for i := range s.VIPs {
		for how := Withdrawn; how <= Announced; how++ {
			e.Sample("shirube_announce_state", number(s.VIPs[i].How == how.String()), "address", s.VIPs[i].Address, "state", how.String())
		}
	}
	e.Family("shirube_announce_reason", "gauge", "1 for why it is announced so")
	for i := range s.VIPs {
		for r := Unknown; r <= Ending; r++ {
			e.Sample("shirube_announce_reason", number(s.VIPs[i].Reason == r.String()), "address", s.VIPs[i].Address, "reason", r.String())
		}
	}
	e.Family("shirube_announce_changes_total", "counter", "Changes of how an address is announced")
	for i := range s.VIPs {
		e.Sample("shirube_announce_changes_total", float64(s.VIPs[i].Changes), "address", s.VIPs[i].Address)
	}
	s.writeProbes(&e)
	e.Family("shirube_announce_member_up", "gauge", "1 if another resolver of the fleet answers")
	for _, m := range s.Members {
		e.Sample("shirube_announce_member_up", number(m.Up), "member", m.Address)
	}
	e.Family("shirube_announce_peer_up", "gauge", "1 if the BGP session with a router is established")
	for _, p := range s.Peers {
		e.Sample("shirube_announce_peer_up", number(p.Established), "peer", p.Address)
	}
	e.Family("shirube_announce_peer_changes_total", "counter", "Times that the session was established or ended")
	for _, p := range s.Peers {
		e.Sample("shirube_announce_peer_changes_total", float64(p.Changes), "peer", p.Address)
	}
	e.Single("shirube_announce_driver_errors_total", "counter", "Times that routes could not be changed", float64(s.DriverErrors))
	return e.Send(w)
}

func (s *Stats) writeProbes(e *exposition.Text) {
	e.Family("shirube_announce_transport_up", "gauge", "1 if an address is answered on over a transport")
	each := func(do func(address string, p *ProbeStats)) {
		for i := range s.VIPs {
			for j := range s.VIPs[i].Transports {
				do(s.VIPs[i].Address, &s.VIPs[i].Transports[j])
			}
		}
	}
	each(func(address string, p *ProbeStats) {
		e.Sample("shirube_announce_transport_up", number(p.Up), "address", address, "transport", p.Transport)
	})
	e.Family("shirube_announce_probes_total", "counter", "Questions asked, by how it went")
	each(func(address string, p *ProbeStats) {
		e.Sample("shirube_announce_probes_total", float64(p.Successes), "address", address, "transport", p.Transport, "outcome", "good")
		e.Sample("shirube_announce_probes_total", float64(p.Failures), "address", address, "transport", p.Transport, "outcome", "bad")
	})
}

func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
