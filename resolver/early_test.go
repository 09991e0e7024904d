package resolver

import "testing"

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
