// Package bgp announces routes over BGP (RFC 4271), with an embedded GoBGP. It never
// learns a route, changes no table of the kernel's, and listens nowhere. Nobody else
// imports that library.
package bgp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"sync"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	packet "github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"github.com/osrg/gobgp/v4/pkg/server"

	"shirube/announce"
)

// Options configures a [Speaker].
type Options struct {
	ASN      uint32
	RouterID netip.Addr // IPv4
	Peers    []Peer

	// Next hops, by family; the zero Addr: the session's own address, and routes of
	// that family go to sessions of that family only.
	NextHop4, NextHop6 netip.Addr

	announce.Attributes

	Log *slog.Logger // nil: nowhere
}

// Peer is a router.
type Peer struct {
	At           netip.AddrPort
	ASN          uint32
	Password     string        // TCP MD5 (RFC 2385); "": none
	LocalAddr    netip.Addr    // to connect from; zero: as the route goes
	HoldTime     time.Duration // whole seconds
	ConnectRetry time.Duration // whole seconds
	Multihop     uint8         // TTL; 0: it is on the same link
	TTLSecurity  bool          // RFC 5082
}

// keepalives is how many of them are sent in a hold time (RFC 4271 §10).
const keepalives = 3

// Speaker is a [announce.Driver].
type Speaker struct {
	opt    Options
	server *server.BgpServer
	cancel context.CancelFunc // of what watches

	mu    sync.Mutex
	sent  map[netip.Prefix]announce.How // what the table has
	peers []announce.Peer
}

// Start begins to speak. The caller has to call Close.
func Start(opt Options) (*Speaker, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	// GoBGP tells of each message at info, and of what is told here below anyway.
	level := new(slog.LevelVar)
	level.Set(slog.LevelError)
	ctx, cancel := context.WithCancel(context.Background())
	s := &Speaker{
		opt: opt, server: server.NewBgpServer(server.LoggerOption(quiet(opt.Log), level)), cancel: cancel,
		sent: make(map[netip.Prefix]announce.How),
	}
	go s.server.Serve() // owner: s; ends with Close; one
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("bgp: %w", err), s.Close())
	}
	return s, nil
}

func (s *Speaker) start(ctx context.Context) error {
	err := s.server.StartBgp(ctx, &api.StartBgpRequest{Global: &api.Global{
		Asn: s.opt.ASN, RouterId: s.opt.RouterID.String(), ListenPort: -1, // it connects, and nobody else does
	}})
	if err != nil {
		return err
	}
	if err := s.learnNothing(ctx); err != nil {
		return err
	}
	for i := range s.opt.Peers {
		s.peers = append(s.peers, announce.Peer{Address: s.opt.Peers[i].At.Addr().String()})
	}
	if err := s.server.WatchEvent(ctx, server.WatchEventMessageCallbacks{OnPeerUpdate: s.peerChanged}, server.WatchPeer()); err != nil {
		return err
	}
	for i := range s.opt.Peers {
		if err := s.server.AddPeer(ctx, &api.AddPeerRequest{Peer: s.peer(&s.opt.Peers[i])}); err != nil {
			return fmt.Errorf("peer %s: %w", s.opt.Peers[i].At, err)
		}
	}
	return nil
}

// learnNothing has routes of others rejected: were one of an address of ours taken
// for better, ours would not be announced. A plain default of reject rejects one's
// own routes too (GoBGP 4.8).
func (s *Speaker) learnNothing(ctx context.Context) error {
	const name = "own-routes-only"
	err := s.server.AddPolicy(ctx, &api.AddPolicyRequest{Policy: &api.Policy{
		Name: name,
		Statements: []*api.Statement{{
			Name:       name,
			Conditions: &api.Conditions{RouteType: api.Conditions_ROUTE_TYPE_LOCAL},
			Actions:    &api.Actions{RouteAction: api.RouteAction_ROUTE_ACTION_ACCEPT},
		}},
	}})
	if err != nil {
		return err
	}
	return s.server.SetPolicyAssignment(ctx, &api.SetPolicyAssignmentRequest{Assignment: &api.PolicyAssignment{
		Name: "global", Direction: api.PolicyDirection_POLICY_DIRECTION_IMPORT,
		DefaultAction: api.RouteAction_ROUTE_ACTION_REJECT, Policies: []*api.Policy{{Name: name}},
	}})
}

// peer returns what GoBGP has to know of p.
func (s *Speaker) peer(p *Peer) *api.Peer {
	hold := uint64(p.HoldTime / time.Second)
	out := &api.Peer{
		Conf: &api.PeerConf{
			NeighborAddress: p.At.Addr().String(), PeerAsn: p.ASN, AuthPassword: p.Password, SendCommunity: math.MaxUint8,
		},
		Timers: &api.Timers{Config: &api.TimersConfig{
			HoldTime: hold, KeepaliveInterval: max(1, hold/keepalives), ConnectRetry: uint64(p.ConnectRetry / time.Second),
			IdleHoldTimeAfterReset: uint64(p.ConnectRetry / time.Second),
		}},
		Transport: &api.Transport{RemotePort: uint32(p.At.Port())},
		AfiSafis:  s.families(p),
	}
	if p.LocalAddr.IsValid() {
		out.Transport.LocalAddress = p.LocalAddr.String()
	}
	if p.Multihop > 0 {
		out.EbgpMultihop = &api.EbgpMultihop{Enabled: true, MultihopTtl: uint32(p.Multihop)}
	}
	if p.TTLSecurity {
		out.TtlSecurity = &api.TtlSecurity{Enabled: true, TtlMin: math.MaxUint8}
	}
	return out
}

// families returns what can go over the session: what there is a next hop for.
func (s *Speaker) families(p *Peer) []*api.AfiSafi {
	var list []*api.AfiSafi
	for _, f := range []struct {
		own bool
		hop netip.Addr
		afi api.Family_Afi
	}{
		{p.At.Addr().Is4(), s.opt.NextHop4, api.Family_AFI_IP},
		{!p.At.Addr().Is4(), s.opt.NextHop6, api.Family_AFI_IP6},
	} {
		if f.own || f.hop.IsValid() {
			list = append(list, &api.AfiSafi{Config: &api.AfiSafiConfig{
				Family: &api.Family{Afi: f.afi, Safi: api.Family_SAFI_UNICAST}, Enabled: true,
			}})
		}
	}
	return list
}

// peerChanged is told of the sessions.
func (s *Speaker) peerChanged(e *apiutil.WatchEventMessage_PeerEvent, _ time.Time) {
	address := e.Peer.State.NeighborAddress.String()
	established := e.Peer.State.SessionState == packet.BGP_FSM_ESTABLISHED
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.peers {
		p := &s.peers[i]
		if p.Address != address || p.Established == established {
			continue
		}
		p.Established = established
		p.Changes++
		if established {
			s.opt.Log.Info("BGP session established", "peer", address)
		} else {
			s.opt.Log.Warn("a BGP session has ended", "peer", address, "why", e.Peer.State.DisconnectReason.String())
		}
	}
}

// Peers implements [announce.Driver].
func (s *Speaker) Peers() []announce.Peer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]announce.Peer(nil), s.peers...)
}

// Apply implements [announce.Driver].
func (s *Speaker) Apply(_ context.Context, routes []announce.Route) error {
	var errs []error
	for _, r := range routes {
		if was := s.sent[r.Prefix]; was == r.How {
			continue
		}
		if err := s.change(r); err != nil {
			errs = append(errs, fmt.Errorf("bgp: %s: %w", r.Prefix, err))
			continue
		}
		s.sent[r.Prefix] = r.How
	}
	return errors.Join(errs...)
}

// change has the table hold r, or nothing.
func (s *Speaker) change(r announce.Route) error {
	path, err := s.path(r)
	if err != nil {
		return err
	}
	if r.How == announce.Withdrawn {
		return s.server.DeletePath(apiutil.DeletePathRequest{Paths: []*apiutil.Path{path}})
	}
	// It replaces what the table has for the prefix.
	_, err = s.server.AddPath(apiutil.AddPathRequest{Paths: []*apiutil.Path{path}})
	return err
}

// path returns r with its attributes.
func (s *Speaker) path(r announce.Route) (*apiutil.Path, error) {
	nlri, err := packet.NewIPAddrPrefix(r.Prefix)
	if err != nil {
		return nil, err
	}
	med, communities := s.opt.Of(r.How)
	attrs := []packet.PathAttributeInterface{
		packet.NewPathAttributeOrigin(packet.BGP_ORIGIN_ATTR_TYPE_IGP),
		packet.NewPathAttributeMultiExitDisc(med),
	}
	if len(communities) > 0 {
		attrs = append(attrs, packet.NewPathAttributeCommunities(communities))
	}
	family, hop := packet.RF_IPv4_UC, s.opt.NextHop4
	if r.Prefix.Addr().Is6() {
		family, hop = packet.RF_IPv6_UC, s.opt.NextHop6
	}
	next, err := nextHop(family, nlri, hop)
	if err != nil {
		return nil, err
	}
	return &apiutil.Path{Family: family, Nlri: nlri, Attrs: append(attrs, next)}, nil
}

// nextHop returns the attribute with hop; an unspecified address in place of none
// is replaced by the session's own.
func nextHop(family packet.Family, nlri packet.NLRI, hop netip.Addr) (packet.PathAttributeInterface, error) {
	if family == packet.RF_IPv4_UC {
		if !hop.IsValid() {
			hop = netip.IPv4Unspecified()
		}
		return packet.NewPathAttributeNextHop(hop)
	}
	if !hop.IsValid() {
		hop = netip.IPv6Unspecified()
	}
	return packet.NewPathAttributeMpReachNLRI(family, []packet.PathNLRI{{NLRI: nlri}}, hop)
}

// Close ends all sessions with a notification (Cease), upon which routers forget
// what was announced.
func (s *Speaker) Close() error {
	s.cancel()
	s.server.Stop()
	return nil
}
