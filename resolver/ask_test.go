package resolver

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/ede"
	"shirube/internal/exchange"
	"shirube/internal/wire"
	"shirube/resolver/infra"
)

// noAnchors has validation on, and nothing to validate by.
type noAnchors struct{}

func (noAnchors) Closest(wire.Name) (wire.Name, []*dns.DS, bool) { return "", nil, false }
func (noAnchors) Negative(wire.Name) *ede.Error                  { return nil }

func TestForwardersAreAskedNotToValidateWhatIsValidatedHere(t *testing.T) { // RFC 6840 §5.9
	for _, tt := range []struct{ validate, recurse, want bool }{
		{false, false, false}, {false, true, false}, {true, false, false}, {true, true, true},
	} {
		var got exchange.Request
		ex := &scripted{servers: map[netip.Addr]func(context.Context, exchange.Request) (exchange.Response, error){
			ip(1): func(ctx context.Context, req exchange.Request) (exchange.Response, error) {
				got = req
				return server(0, dns.RcodeSuccess)(ctx, req)
			},
		}}
		r, at := newScripted(t, ex)
		if tt.validate {
			r.opt.Anchors = noAnchors{}
		}
		q := question("www.example.com A")
		a := r.askServer(t.Context(), ZoneServer{Addr: ipPort(1), recurse: tt.recurse}, infra.Hint{Timeout: time.Second}, q, at, r.work(Query{Question: q}))
		if !a.useful() || got.CD != tt.want || got.RD != tt.recurse {
			t.Errorf("validating %v, a forwarder %v: RD %v, CD %v, %+v", tt.validate, tt.recurse, got.RD, got.CD, a)
		}
	}
}

func TestFORMERRThatMayBeForgedTakesEDNSFromNobody(t *testing.T) {
	for name, tt := range map[string]struct {
		failure exchange.Response // of the first query: how it came
		asks    int
		want    bool
	}{
		"once":            {exchange.Response{}, 1, false},
		"twice":           {exchange.Response{}, 2, true},
		"with the cookie": {exchange.Response{Cookie: true}, 1, true},
		"over TCP":        {exchange.Response{TCP: true}, 1, true},
	} {
		ex := &scripted{servers: map[netip.Addr]func(context.Context, exchange.Request) (exchange.Response, error){
			ip(1): func(ctx context.Context, req exchange.Request) (exchange.Response, error) {
				if req.Bare {
					return server(0, dns.RcodeSuccess)(ctx, req)
				}
				resp := tt.failure
				resp.Msg = &dns.Msg{MsgHdr: dns.MsgHdr{Response: true, Rcode: dns.RcodeFormatError}}
				return resp, nil
			},
		}}
		r, at := newScripted(t, ex)
		for range tt.asks {
			q := question("www.example.com A")
			if a := r.askServer(t.Context(), ZoneServer{Addr: ipPort(1)}, infra.Hint{Timeout: time.Second}, q, at, r.work(Query{Question: q})); !a.useful() {
				t.Errorf("%s: %+v", name, a)
			}
		}
		if _, hint := r.infra.Choose(at.cut.Zone, []netip.AddrPort{ipPort(1)}, time.Now()); hint.Bare != tt.want {
			t.Errorf("%s: asked without EDNS from now on: %v, want %v", name, hint.Bare, tt.want)
		}
	}
}
