package daemon

import (
	"net/netip"
	"time"

	"shirube/internal/config"
	"shirube/internal/frontend"
	"shirube/internal/health"
)

// notReady is what a server that is not ready answers to its health name.
var notReady = map[config.NotReady]frontend.HealthAnswer{
	config.NotReadyServFail: frontend.HealthServFail,
	config.NotReadyRefused:  frontend.HealthRefused,
	config.NotReadyNXDomain: frontend.HealthNXDomain,
	config.NotReadyNoData:   frontend.HealthNoData,
	config.NotReadyDrop:     frontend.HealthSilence,
}

// healthName translates the configuration of the health name; nil: there is none.
func healthName(cfg config.Health, state *health.State) *frontend.Health {
	name := cfg.Domain()
	if name == "" {
		return nil
	}
	h := &frontend.Health{Name: name, State: state, NotReady: notReady[cfg.NotReady], Clients: cfg.Clients}
	h.Addresses = make([]netip.Addr, 0, len(cfg.Addresses))
	for _, a := range cfg.Addresses {
		h.Addresses = append(h.Addresses, a.Addr())
	}
	return h
}

// tellHealth keeps state after the life of d.
func (d *Daemon) tellHealth(s State) {
	h, now := d.Pipeline().Health, time.Now()
	for _, c := range []struct {
		is         State
		code, text string
	}{
		{Starting, health.Starting, "clients are not listened to yet"},
		{Draining, health.Draining, "the server still answers, and clients are to go elsewhere"},
		{Stopping, health.Stopping, "clients are not listened to any more"},
	} {
		if s == c.is {
			h.Begin(c.code, c.text, 0, now)
		} else {
			h.End(c.code)
		}
	}
}
