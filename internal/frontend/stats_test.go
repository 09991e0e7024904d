package frontend

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/miekg/dns"

	"shirube/internal/ede"
	"shirube/internal/wire"
	"shirube/resolver"
)

func TestReasonsAreCountedByTheirCode(t *testing.T) {
	f := newFrontend(t, func(_ context.Context, q wire.Question) (*resolver.Answer, error) {
		if q.Type == wire.TypeTXT {
			return nil, &ede.Error{Code: 4000, Text: "of a code that nobody knows"}
		}
		return nil, errors.New("nobody knows why")
	}, nil)
	stranger := query(t, "a.example.", dns.TypeA, nil)
	stranger.Client = netip.MustParseAddrPort("192.0.2.1:1")
	answer(t, f, stranger)
	answer(t, f, query(t, "a.example.", dns.TypeA, nil))
	answer(t, f, query(t, "a.example.", dns.TypeA, nil)) // the same from memory
	answer(t, f, query(t, "a.example.", dns.TypeTXT, nil))
	answer(t, f, query(t, "localhost.", dns.TypeANY, nil))
	want := [NumReasons]uint64{ede.Prohibited: 1, ede.Other: 2, NumReasons - 1: 1}
	if got := f.Stats().Reasons; got != want {
		t.Errorf("found %v; want %v", got, want)
	}
}

func TestFlightsAreTimed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFrontend(t, func(context.Context, wire.Question) (*resolver.Answer, error) {
			time.Sleep(3 * time.Second)
			return nil, errors.New("after a while")
		}, nil)
		answer(t, f, query(t, "a.example.", dns.TypeA, nil))
		if took := f.Stats().Took; took.Count() != 1 || took.Sum() != 3*time.Second {
			t.Errorf("%v, in all %v", took, took.Sum())
		}
	})
}

func TestStripesAreWholeCacheLines(t *testing.T) {
	if size := unsafe.Sizeof(stripe{}); size%64 != 0 {
		t.Errorf("a stripe has %d octets", size)
	}
}
