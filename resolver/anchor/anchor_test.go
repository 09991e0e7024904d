package anchor

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// The root's keys, as IANA publishes them (root-anchors.xml).
const (
	ksk2017 = ". IN DNSKEY 257 3 8 AwEAAaz/tAm8yTn4Mfeh5eyI96WSVexTBAvkMgJzkKTOiW1vkIbzxeF3+/4RgWOq7HrxRixHlFlExOLAJr5emLvN7SWXgnLh4+B5xQlNVz8Og8kvArMtNROxVQuCaSnIDdD5LKyWbRd2n9WGe2R8PzgCmr3EgVLrjyBxWezF0jLHwVN8efS3rCj/EWgvIWgb9tarpVUDK/b58Da+sqqls3eNbuv7pr+eoZG+SrDK6nWeL3c6H5Apxz7LjVc1uTIdsIXxuOLYA4/ilBmSVIzuDWfdRUfhHdY6+cn8HFRm+2hM8AnXGXws9555KrUB5qihylGa8subX2Nn6UwNR1AkUTV74bU="
	ksk2024 = ". IN DNSKEY 257 3 8 AwEAAa96jeuknZlaeSrvyAJj6ZHv28hhOKkx3rLGXVaC6rXTsDc449/cidltpkyGwCJNnOAlFNKF2jBosZBU5eeHspaQWOmOElZsjICMQMC3aeHbGiShvZsx4wMYSjH8e7Vrhbu6irwCzVBApESjbUdpWWmEnhathWu1jo+siFUiRAAxm9qyJNg/wOZqqzL/dL/q8PkcRU5oUKEpUge71M3ej2/7CPqpdVwuMoTvoB+ZOT4YeGyxMvHmbrxlFzGOHOijtzN+u1TQNatX2XBuzZNQ1K+s2CXkPIZo7s6JgZyvaBevYtxPvYLw4z9mR7K2vaF18UYH9Z9GNUUeayffKC73PYc="
)

func TestBuiltInAnchorsAreTheDigestsOfTheRootsKeys(t *testing.T) {
	built := RootAnchors()
	for i, text := range []string{ksk2017, ksk2024} {
		rr, err := ParseRecord(text)
		if err != nil {
			t.Fatal(err)
		}
		k := rr.(*dns.DNSKEY)
		if want := []uint16{20326, 38696}[i]; k.KeyTag() != want || !standsFor(built[i], k) || check(built[i]) != nil {
			t.Errorf("%v is not the digest of key %d", built[i], want)
		}
	}
	a, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got := a.Tags(wire.Root); !slices.Equal(got, []uint16{20326, 38696}) {
		t.Errorf("trusted of the root: %v", got)
	}
}

// records parses anchors.
func records(t *testing.T, text string) []dns.RR {
	t.Helper()
	rrs, err := Parse(strings.NewReader(text), "test")
	if err != nil {
		t.Fatal(err)
	}
	return rrs
}

// ds returns the text of some DS record.
func ds(zone string, tag int) string {
	return fmt.Sprintf("%s IN DS %d 13 2 %s\n", zone, tag, strings.Repeat("ab", 32))
}

func TestClosestAnchorAndNegativeAnchor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		until := time.Now().Add(time.Hour)
		negative := func(names ...string) (out []Negative) {
			for _, n := range names {
				out = append(out, Negative{Name: wire.MustParseName(n), Until: until, Reason: n})
			}
			return out
		}
		a, err := New(Options{
			Records:   records(t, ds("corp.example.", 1)+ds("corp.example.", 2)+ds("deep.broken.example.", 3)),
			Negatives: negative("broken.example.", "corp.example.", "arpa."),
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range []struct{ name, anchor, negative string }{
			{".", ".", ""},
			{"example.", ".", ""},
			{"xcorp.example.", ".", ""},
			{"corp.example.", "corp.example.", "corp.example."}, // at one name, the negative one wins
			{"www.corp.example.", "corp.example.", "corp.example."},
			{"broken.example.", ".", "broken.example."},
			{"a.b.broken.example.", ".", "broken.example."},
			{"deep.broken.example.", "deep.broken.example.", ""},
			{"x.deep.broken.example.", "deep.broken.example.", ""},
			{"10.in-addr.arpa.", ".", "arpa."},
		} {
			n := wire.MustParseName(test.name)
			if got, ok := a.Closest(n); !ok || got.Zone.String() != test.anchor {
				t.Errorf("%s: closest anchor %v, %v", test.name, got.Zone, ok)
			}
			if got, ok := a.Negative(n); got.Reason != test.negative || ok != (test.negative != "") {
				t.Errorf("%s: negative anchor %v, %v", test.name, got, ok)
			}
		}
		if got := a.Tags(wire.MustParseName("corp.example.")); !slices.Equal(got, []uint16{1, 2}) {
			t.Errorf("tags %v", got)
		}
		time.Sleep(time.Hour)
		if got, ok := a.Negative(wire.MustParseName("broken.example.")); ok {
			t.Errorf("%v outlived its time", got)
		}
		if _, ok := a.Closest(""); ok {
			t.Error("no name has an anchor")
		}
		if _, ok := a.Negative(""); ok {
			t.Error("no name has a negative anchor")
		}
	})
}

func TestConfiguredRootTakesThePlaceOfTheBuiltIn(t *testing.T) {
	a, err := New(Options{Records: records(t, ds(".", 7))})
	if err != nil {
		t.Fatal(err)
	}
	if got := a.Tags(wire.Root); !slices.Equal(got, []uint16{7}) {
		t.Errorf("trusted of the root: %v", got)
	}
	if a, err = New(Options{NoRoot: true}); err != nil {
		t.Fatal(err)
	}
	if got, ok := a.Closest(example); ok {
		t.Errorf("without the built-in ones: %v", got)
	}
}

func TestNewRefusesBadOptions(t *testing.T) {
	many := func(n int, zone func(int) string) (out []dns.RR) {
		for i := range n {
			out = append(out, records(t, ds(zone(i), i%60000))...)
		}
		return out
	}
	for want, opt := range map[string]Options{
		"trust anchors of 1002 zones":       {Records: many(MaxZones+1, func(i int) string { return fmt.Sprintf("z%d.", i) })},
		"more than 16 trust anchors":        {Records: many(maxConfigured+1, func(int) string { return "example." })},
		"example. is there twice":           {Negatives: []Negative{{Name: example}, {Name: example}}},
		"found 1001 negative trust anchors": {Negatives: negatives(MaxNegatives + 1)},
		"expected a DS or DNSKEY record":    {Records: []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: ".", Class: dns.ClassINET, Rrtype: dns.TypeA}}}},
	} {
		if _, err := New(opt); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func negatives(n int) (out []Negative) {
	for i := range n {
		out = append(out, Negative{Name: wire.MustParseName(fmt.Sprintf("n%d.", i)), Until: time.Now().Add(time.Hour)})
	}
	return out
}

func TestNegativeAnchorsComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		n, err := a.AddNegative(example, 0, "they lost their key")
		if err != nil || time.Until(n.Until) != time.Hour {
			t.Errorf("got %v, %v; want an hour", n, err)
		}
		if n, err = a.AddNegative(wire.MustParseName("a.example."), MaxNegative, ""); err != nil || time.Until(n.Until) != MaxNegative {
			t.Errorf("got %v, %v; want a week", n, err)
		}
		if got := a.Negatives(); len(got) != 2 || got[0].Name.String() != "a.example." || got[1].Reason != "they lost their key" {
			t.Errorf("got %v", got)
		}
		if !a.RemoveNegative(example) || a.RemoveNegative(example) {
			t.Error("it has to go once")
		}
		if _, ok := a.Negative(example); ok {
			t.Error("it is still there")
		}
		time.Sleep(MaxNegative)
		if got := a.Negatives(); len(got) != 0 || a.RemoveNegative(wire.MustParseName("a.example.")) {
			t.Errorf("after its time: %v", got)
		}
		for _, lasts := range []time.Duration{-1, MaxNegative + 1} {
			if _, err := a.AddNegative(example, lasts, ""); err == nil {
				t.Errorf("one of %v was taken", lasts)
			}
		}
		if _, err := a.AddNegative("", time.Hour, ""); err == nil {
			t.Error("one without a name was taken")
		}
	})
}

// TestNegativeAnchorsAreBounded: the ones that have expired do not count.
func TestNegativeAnchorsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, err := New(Options{Negatives: negatives(MaxNegatives)})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.AddNegative(example, time.Hour, ""); err == nil {
			t.Error("one more was taken")
		}
		if _, err := a.AddNegative(wire.MustParseName("n1."), time.Minute, ""); err != nil {
			t.Errorf("one in place of another: %v", err)
		}
		time.Sleep(time.Minute)
		if _, err := a.AddNegative(example, time.Hour, ""); err != nil {
			t.Errorf("after one has expired: %v", err)
		}
	})
}

// TestReadersNeedNoLock has readers and writers at once, for the race detector.
func TestReadersNeedNoLock(t *testing.T) {
	k, next := newPair(t, 257), newPair(t, 257)
	a, err := New(Options{Records: []dns.RR{k.ds()}, Directory: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	www := wire.MustParseName("www.example.")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 1000 {
				if got, ok := a.Closest(www); !ok || got.Zone != example || len(got.DS)+len(got.Keys) == 0 {
					t.Errorf("got %v, %v", got, ok)
					return
				}
				a.Negative(www)
				a.Tags(example)
				a.State(example)
			}
		})
	}
	for i := range 100 {
		if _, err := a.AddNegative(www, time.Hour, ""); err != nil {
			t.Fatal(err)
		}
		p := facts([]pair{k, next}, []pair{k})
		if i%2 == 1 {
			p = facts([]pair{next}, []pair{k})
		}
		a.learn(example, p, t0.Add(time.Duration(i)*day))
		a.RemoveNegative(www)
	}
	wg.Wait()
}

func TestKeyTagQueryNamesTheKeysInOrder(t *testing.T) {
	for _, test := range []struct {
		zone string
		tags []uint16
		want string
	}{
		{".", []uint16{19036, 38696}, "_ta-4a5c-9728."},
		{".", []uint16{5}, "_ta-0005."},
		{"example.", []uint16{0xabcd}, "_ta-abcd.example."},
		{".", slices.Repeat([]uint16{1}, 20), "_ta" + strings.Repeat("-0001", 12) + "."},
	} {
		q, ok := KeyTagQuery(wire.MustParseName(test.zone), test.tags)
		if parsed := wire.MustParseName(test.want); !ok || q.Name != parsed || q.Type.String() != "NULL" {
			t.Errorf("got %v, %v, want %s NULL", q, ok, test.want)
		}
	}
	if q, ok := KeyTagQuery(wire.Root, nil); ok {
		t.Errorf("without a tag: %v", q)
	}
	long := wire.MustParseName(strings.Repeat(strings.Repeat("a", 49)+".", 5))
	if q, ok := KeyTagQuery(long, []uint16{1}); ok {
		t.Errorf("too long: %v", q)
	}
}
