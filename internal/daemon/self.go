package daemon

import (
	"crypto/x509"
	"net/netip"
	"sync/atomic"

	"shirube/discovery"
	"shirube/internal/certs"
	"shirube/internal/config"
	"shirube/internal/ede"
	"shirube/internal/wire"
)

// reach is what clients can reach now: where they are listened to, and what they
// are shown there. Its zero value is nothing.
type reach struct {
	changes atomic.Uint64 // of listeners
	where   atomic.Pointer[[]discovery.Listener]
	certs   atomic.Pointer[certs.Store]
}

// encrypted are the transports that can be advertised, as clients know them.
var encrypted = map[config.Protocol]wire.Proto{
	config.ProtocolDoT: wire.DoT, config.ProtocolDoH: wire.DoH, config.ProtocolDoH3: wire.DoH3, config.ProtocolDoQ: wire.DoQ,
	config.ProtocolUDP: wire.UDP, config.ProtocolTCP: wire.TCP,
}

// listen says where clients are listened to.
func (l *reach) listen(list []endpoint) {
	where := discoveryListeners(list)
	l.where.Store(&where)
	l.changes.Add(1) // after what it is about
}

// discoveryListeners translates endpoints. DoH without TLS is for proxies: what
// clients are shown by them nobody knows here.
func discoveryListeners(list []endpoint) []discovery.Listener {
	where := make([]discovery.Listener, 0, len(list))
	for _, e := range list {
		if proto, ok := encrypted[e.proto]; ok {
			where = append(where, discovery.Listener{At: e.at, Proto: proto})
		}
	}
	return where
}

// listeners returns where clients are listened to.
func (l *reach) listeners() []discovery.Listener {
	if where := l.where.Load(); where != nil {
		return *where
	}
	return nil
}

// version returns another number whenever something has changed. Neither part
// ever becomes less.
func (l *reach) version() uint64 {
	n := l.changes.Load()
	if store := l.certs.Load(); store != nil {
		n += store.Version()
	}
	return n
}

// certificate returns what a client is shown.
func (l *reach) certificate(local netip.Addr, server string) *x509.Certificate {
	if store := l.certs.Load(); store != nil {
		return store.Shown(local, server)
	}
	return nil
}

// directory makes what the server says of itself.
func (p *Pipeline) directory(before *Pipeline) (*discovery.Directory, error) {
	// That of the pipeline in force, whichever that is.
	opt := selfOptions(&p.Config, discovery.Live{
		Version:   func() uint64 { return p.current.reach.version() },
		Listeners: func() []discovery.Listener { return p.current.reach.listeners() },
		Certificate: func(local netip.Addr, server string) *x509.Certificate {
			return p.current.reach.certificate(local, server)
		},
	})
	opt.Log = p.log
	if before != nil {
		return before.Self.With(opt)
	}
	return discovery.New(opt)
}

// selfOptions translates the configuration of what the server says of itself.
func selfOptions(cfg *config.Config, now discovery.Live) discovery.Options {
	return discovery.Options{
		DDR: ddrOptions(cfg, now),
		RESINFO: discovery.RESINFO{
			Enabled:  cfg.Discovery.RESINFO.Enabled,
			QNameMin: cfg.Resolver.QNameMinimisation != config.MinimisationOff,
			Errors:   errorsTold(cfg),
			InfoURL:  cfg.Discovery.RESINFO.InfoURL,
		},
		HB46PP: hb46ppOptions(&cfg.Provisioning),
		Chaos:  discovery.Chaos{ID: cfg.Identity.ID, Version: cfg.Identity.Version},
	}
}

func ddrOptions(cfg *config.Config, now discovery.Live) discovery.DDR {
	own := cfg.Discovery
	ddr := discovery.DDR{
		Enabled: own.DDR.Enabled, Name: own.Name, Path: cfg.DoH.Path, Opportunistic: own.DDR.Opportunistic, Live: now,
		Ports: [wire.NumProtos]uint16{wire.DoT: own.DDR.Ports.DoT, wire.DoH: own.DDR.Ports.DoH, wire.DoH3: own.DDR.Ports.DoH3, wire.DoQ: own.DDR.Ports.DoQ},
	}
	for _, a := range own.Addresses {
		ddr.Addresses = append(ddr.Addresses, a.Addr())
	}
	for _, p := range own.DDR.Preference {
		ddr.Preference = append(ddr.Preference, encrypted[config.Protocol(p)])
	}
	return ddr
}

func hb46ppOptions(cfg *config.Provisioning) discovery.HB46PP {
	others := map[config.HB46PPOthers]discovery.Others{
		config.HB46PPServFail: discovery.OthersServFail, config.HB46PPNoData: discovery.OthersNoData, config.HB46PPRecurse: discovery.OthersRecurse,
	}
	h := discovery.HB46PP{Others: others[cfg.HB46PPOthers]}
	for i := range cfg.HB46PP {
		h.Views = append(h.Views, cfg.HB46PP[i].View())
	}
	return h
}

// The Extended DNS Errors that clients are told: in any case, where answers are
// validated, and where they may be stale. A test finds them in the source.
var (
	errorsAlways = []ede.Code{
		ede.Other, ede.CachedError, ede.NotReady, ede.Prohibited, ede.NotAuthoritative, ede.NotSupported,
		ede.NoReachableAuthority, ede.NetworkError, ede.InvalidData,
	}
	errorsValidating = []ede.Code{
		ede.UnsupportedDNSKEYAlgorithm, ede.UnsupportedDSDigest, ede.Indeterminate, ede.Bogus, ede.SignatureExpired, ede.SignatureNotYetValid,
		ede.DNSKEYMissing, ede.RRSIGsMissing, ede.NoZoneKeyBitSet, ede.NSECMissing, ede.SignatureExpiredBeforeValid,
		ede.UnsupportedNSEC3Iterations, ede.NegativeTrustAnchor,
	}
	errorsStale = []ede.Code{ede.StaleAnswer, ede.StaleNXDOMAIN}
)

// errorsTold returns the Extended DNS Errors that clients may be told.
func errorsTold(cfg *config.Config) []ede.Code {
	list := errorsAlways[:len(errorsAlways):len(errorsAlways)]
	if cfg.DNSSEC.Validation {
		list = append(list, errorsValidating...)
	}
	if cfg.Cache.ServeStale.Enabled {
		list = append(list, errorsStale...)
	}
	return list
}

// Reachable returns how clients find the server that cfg describes, if it is
// started now: by the listeners in cfg, and the certificates in its files.
func Reachable(cfg *config.Config) (discovery.DDR, error) {
	store, err := certs.New(certsOptions(cfg.TLS, nil))
	if err != nil {
		return discovery.DDR{}, err
	}
	l := new(reach)
	l.listen(endpoints(cfg))
	l.certs.Store(store)
	return ddrOptions(cfg, discovery.Live{Version: l.version, Listeners: l.listeners, Certificate: l.certificate}), nil
}
