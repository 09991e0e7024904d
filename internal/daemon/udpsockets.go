package daemon

import (
	"errors"
	"fmt"
	"net"

	"shirube/internal/config"
	"shirube/internal/netx"
)

var loops = map[config.UDPLoop]netx.Loop{
	config.UDPLoopAuto:     netx.LoopAuto,
	config.UDPLoopPoller:   netx.LoopPoller,
	config.UDPLoopBlocking: netx.LoopBlocking,
}

var steerings = map[config.UDPSteering]netx.Steering{
	config.UDPSteeringOff:    netx.SteerByClient,
	config.UDPSteeringRandom: netx.SteerRandom,
	config.UDPSteeringCPU:    netx.SteerByCPU,
}

// tune has the kernel treat the sockets of one address as the configuration says.
func (d *Daemon) tune(conns []*net.UDPConn, cfg config.UDP) error {
	if err := netx.Steer(conns, steerings[cfg.Steering]); err != nil {
		return fmt.Errorf("udp.steering: %w", err)
	}
	want := netx.Buffers{Receive: int(cfg.ReceiveBuffer), Send: int(cfg.SendBuffer)}
	for _, c := range conns {
		short, err := netx.SetBuffers(c, want)
		if err != nil {
			return fmt.Errorf("udp: %w", err)
		}
		for _, s := range short {
			d.warnShort(s)
		}
	}
	return nil
}

// retune has the kernel treat the sockets that there are already as another
// configuration says. The caller holds reloading.
func (d *Daemon) retune(from, to config.UDP) {
	d.toldShort = nil // it may be another size that is not to be had
	var err error
	if from.ReceiveBuffer != 0 && to.ReceiveBuffer == 0 || from.SendBuffer != 0 && to.SendBuffer == 0 {
		var system netx.Buffers
		system, err = netx.SystemBuffers()
		if to.ReceiveBuffer == 0 {
			to.ReceiveBuffer = config.Size(system.Receive)
		}
		if to.SendBuffer == 0 {
			to.SendBuffer = config.Size(system.Send)
		}
	}
	for _, l := range d.listening {
		if l.tune != nil {
			err = errors.Join(err, l.tune(to))
		}
	}
	if err != nil {
		d.log.Warn("sockets of UDP stay as they were", "error", err)
	}
}

// warnShort tells the operator once that the system bounds a buffer.
func (d *Daemon) warnShort(s netx.Shortfall) {
	if d.toldShort[s.Buffer] {
		return
	}
	if d.toldShort == nil {
		d.toldShort = make(map[string]bool)
	}
	d.toldShort[s.Buffer] = true
	d.log.Warn("the system limits the buffers of UDP sockets: bursts of queries may be lost",
		"key", "udp."+s.Buffer+"_buffer", "wanted", config.Size(s.Want), "got", config.Size(s.Got), "remedy", s.Remedy())
}
