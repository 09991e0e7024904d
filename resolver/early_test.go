package resolver

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"shirube/cache"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// TestRecallKeysWaitsForWhoAsksEarly has keys asked for early by one question, while
// another one looks for them in memory.
func TestRecallKeysWaitsForWhoAsksEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := cache.NewMemory(cache.MemoryOptions{})
		r, err := New(Options{Exchanger: &scripted{}, Memory: m, Anchors: trusting{}})
		if err != nil {
			t.Fatal(err)
		}
		q := question("example.com DNSKEY")
		w := newWork(t, Limits{Queries: 1, Bytes: 1, Depth: 1})
		done := make(chan struct{})
		r.early.Store(q.Name, done)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if rep, ok := r.recallKeys(ctx, q, w); ok || ctx.Err() == nil {
			t.Fatalf("it does not wait for them: %v", rep)
		}
		// Owner: the test. End: when the keys are there. Bound: one.
		go func() {
			time.Sleep(time.Second)
			m.PutSet(rrset.Set{
				Name: q.Name, Type: q.Type, Rank: rrset.AuthAnswer, Until: time.Now().Add(time.Hour),
				RRs: []dns.RR{&dns.DNSKEY{
					Hdr:   dns.RR_Header{Name: "example.com.", Rrtype: dns.TypeDNSKEY, Class: dns.ClassINET, Ttl: 3600},
					Flags: dns.ZONE, Protocol: 3, Algorithm: dns.ED25519, PublicKey: "l02Woi0iS8Aa25FQkUd9RMzZHJpBoRQwAQEX1SxZJA4=",
				}},
			})
			r.early.Delete(q.Name)
			close(done)
		}()
		if rep, ok := r.recallKeys(t.Context(), q, w); !ok || len(rep.Sets) != 1 {
			t.Fatalf("%v, %v", rep, ok)
		}
		if rep, ok := r.recallKeys(t.Context(), question("com DNSKEY"), w); ok {
			t.Errorf("of a zone that nobody asks for: %v", rep)
		}
	})
}

// TestNobodyAsksEarlyForKeysThatAreInMemory has another question find them just before
// this one may ask.
func TestNobodyAsksEarlyForKeysThatAreInMemory(t *testing.T) {
	m := cache.NewMemory(cache.MemoryOptions{})
	r, at := newScripted(t, &scripted{})
	r.opt.Memory = m
	zone := at.cut.Zone
	m.PutSet(rrset.Set{
		Name: zone, Type: wire.TypeDNSKEY, Rank: rrset.AuthAuthority, Until: time.Now().Add(time.Hour),
		Denial: &rrset.Denial{Rcode: wire.NoError},
	})
	w := newWork(t, Limits{Queries: 1, Bytes: 1, Depth: 1})
	r.askEarly(t.Context(), at, w)
	if w.awaits(keysOf(zone)) {
		t.Error("they are asked for")
	}
	if _, asked := r.early.Load(zone); asked {
		t.Error("nobody else may ask for them")
	}
}

func TestWorkPaysForWhatIsAskedBeside(t *testing.T) {
	w := newWork(t, Limits{Queries: 3, Bytes: 1000, Depth: 8})
	own := w.beside(question("example.com DNSKEY"))
	for range earlyQueries {
		if err := own.spend(); err != nil {
			t.Fatal(err)
		}
	}
	if !own.spent() || own.spend() == nil {
		t.Errorf("more than %d queries", earlyQueries)
	}
	if w.sent() != 0 || w.spent() {
		t.Errorf("the question itself sent %d queries, spent: %v", w.sent(), w.spent())
	}
	if err := w.spend(); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, w.spend(), "more than 3 queries needed for www.example.com.")
	if own.lookup() {
		t.Error("an address may be looked up")
	}
	if err := own.received(600); err != nil {
		t.Fatal(err)
	}
	wantRefusal(t, w.received(401), "more than 1000 octets received for www.example.com.")
	wantRefusal(t, own.received(1), "more than 1000 octets received for www.example.com.")
}

func TestWhatIsAskedBesideEndsWithTheWorkThatPays(t *testing.T) {
	w := newWork(t, Limits{Queries: 2, Bytes: 1000, Depth: 8})
	own := w.beside(question("example.com DNSKEY"))
	if err := own.spend(); err != nil {
		t.Fatal(err)
	}
	own.resent(1) // over TCP, as it was truncated
	if !w.spent() {
		t.Error("what the transport sent by itself was not paid for")
	}
	wantRefusal(t, w.spend(), "more than 2 queries needed for www.example.com.")
}
