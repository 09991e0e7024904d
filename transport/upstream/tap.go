package upstream

import (
	"net"
	"net/netip"
	"time"

	"shirube/dnstap"
)

// tapped reports whether the tap may want the queries of the exchange, or the
// replies to them.
func (a *attempt) tapped() bool {
	query, response := a.tapTypes()
	return a.client.opt.Tap.Wants(query) || a.client.opt.Tap.Wants(response)
}

// tapTypes returns what the messages of the exchange are to a collector.
func (a *attempt) tapTypes() (query, response dnstap.Type) {
	if a.req.RD {
		return dnstap.ForwarderQuery, dnstap.ForwarderResponse
	}
	return dnstap.ResolverQuery, dnstap.ResolverResponse
}

// tapQuery tells the tap of a query that was sent.
func (a *attempt) tapQuery(msg []byte, sent time.Time) {
	typ, _ := a.tapTypes()
	a.tap(typ, msg, sent, time.Time{})
}

// tapResponse tells the tap of a reply that was accepted, rtt after its query.
func (a *attempt) tapResponse(msg []byte, sent time.Time, rtt time.Duration) {
	_, typ := a.tapTypes()
	a.tap(typ, msg, sent, sent.Add(rtt))
}

func (a *attempt) tap(typ dnstap.Type, msg []byte, sent, came time.Time) {
	m := dnstap.Message{
		Type: typ, Proto: a.over(),
		Query: a.asker, Response: a.req.Server,
		QueryTime: sent, ResponseTime: came,
		Zone: a.req.Zone, Msg: msg,
	}
	a.client.opt.Tap.Emit(int(a.asker.Port()), &m)
}

// tcpAsker returns where a connection comes from.
func tcpAsker(c net.Conn) netip.AddrPort { return addrPortOf(c.LocalAddr()) }

// addrPortOf returns a, of a socket, in the form that the rest here has.
func addrPortOf(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.AddrPort()
	case *net.UDPAddr:
		return a.AddrPort()
	}
	return netip.AddrPort{}
}
