package resolver

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"shirube/cache"
	"shirube/internal/ede"
	"shirube/internal/exchange"
	"shirube/internal/rrset"
	"shirube/internal/wire"
)

// unasked fails the test when a server is asked.
type unasked struct{ t *testing.T }

func (u unasked) Exchange(_ context.Context, req exchange.Request) (exchange.Response, error) {
	u.t.Errorf("%v was asked for %v", req.Server, req.Question)
	return exchange.Response{}, exchange.ErrTimeout
}

// newRefusing returns a resolver that knows the servers of shut.example., where it
// lets nobody in, and of example.
func newRefusing(t *testing.T, change func(*Options)) (*Resolver, *cache.Memory) {
	t.Helper()
	m := cache.NewMemory(cache.MemoryOptions{})
	opt := Options{Exchanger: unasked{t}, Memory: m, NoPriming: true, ZoneInFlight: 1}
	if change != nil {
		change(&opt)
	}
	r, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	m.PutCut(fleetCut("example.", time.Hour))
	m.PutCut(fleetCut("shut.example.", time.Hour))
	return r, m
}

// shut lets nobody more in at z.
func (r *Resolver) shut(z zoneKey) {
	for r.crowds.Take(z, r.room(z)) { // to the first that is turned away
	}
	_ = r.turnedAway(z, time.Now())
}

var shutZone = zoneKey{zone: wire.MustParseName("shut.example.")}

func mayRefuse(r *Resolver, q string) *ede.Error { return r.Refuses(Query{Question: question(q)}) }

func TestQuestionIsRefusedAsItWouldFail(t *testing.T) {
	dead := ede.Errorf(ede.NoReachableAuthority, "no server of shut.example. answered")
	for name, prepare := range map[string]func(*Resolver){
		"too many of its zone": func(r *Resolver) { r.shut(shutZone) },
		"its zone is dead":     func(r *Resolver) { r.dead.dies(shutZone, silentDeath, false, dead, time.Now()) },
	} {
		t.Run(name, func(t *testing.T) {
			r, _ := newRefusing(t, nil)
			if err := mayRefuse(r, "a.shut.example. A"); err != nil {
				t.Errorf("while all is well: %v", err)
			}
			prepare(r)
			before := r.Stats()
			refused := mayRefuse(r, "a.shut.example. A")
			counted := r.Stats()
			_, err := r.Resolve(t.Context(), Query{Question: shutQuestion})
			after := r.Stats()
			if refused == nil || !errors.Is(err, refused) {
				t.Errorf("refused: %v; resolved: %v", refused, err)
			}
			for _, n := range [][3]uint64{
				{before.Resolutions, counted.Resolutions, after.Resolutions},
				{before.Failures, counted.Failures, after.Failures},
				{before.ShedCrowded + before.DeadSpared, counted.ShedCrowded + counted.DeadSpared, after.ShedCrowded + after.DeadSpared},
			} {
				if n[1] != n[0]+1 || n[2] != n[1]+1 {
					t.Errorf("%d, once refused %d, once resolved %d", n[0], n[1], n[2])
				}
			}
			if err := mayRefuse(r, "open.example. A"); err != nil {
				t.Errorf("of another zone: %v", err)
			}
			if n := testing.AllocsPerRun(100, func() { _ = r.Refuses(Query{Question: shutQuestion}) }); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

var shutQuestion = question("a.shut.example. A")

func TestQuestionIsNotRefusedThatMayBeAnswered(t *testing.T) {
	until := time.Now().Add(time.Hour)
	denied := func(n string, typ wire.Type) func(*testing.T, *cache.Memory) {
		return func(_ *testing.T, m *cache.Memory) {
			m.PutSet(rrset.Set{Name: wire.MustParseName(n), Type: typ, Until: until, Denial: &rrset.Denial{Rcode: wire.NXDomain}})
		}
	}
	for name, tt := range map[string]struct {
		ask      string
		until    time.Time
		remember func(*testing.T, *cache.Memory)
		options  func(*Options)
	}{
		"it is in memory":               {ask: "a.b.shut.example. TXT", remember: denied("a.b.shut.example.", wire.TypeTXT)},
		"its name does not exist":       {ask: "a.b.shut.example. A", remember: denied("a.b.shut.example.", rrset.AnyType)},
		"nor does what it is below":     {ask: "a.b.shut.example. A", remember: denied("b.shut.example.", rrset.AnyType)},
		"a referral may have said":      {ask: "shut.example. DS"},
		"its zone has other servers":    {ask: "a.shut.example. A", options: func(o *Options) { o.Zones = []Zone{firstZone} }},
		"others may know a deeper zone": {ask: "a.shut.example. A", remember: deeper},
		"what it is below is elsewhere": {ask: "a.b.shut.example. A", remember: denied("b.shut.example.", wire.TypeDNAME)},
		"it is an alias":                {ask: "a.b.shut.example. A", remember: denied("a.b.shut.example.", wire.TypeCNAME)},
		"the zone is to be found anew":  {ask: "a.shut.example. A", until: until.Add(time.Hour)},
	} {
		t.Run(name, func(t *testing.T) {
			r, m := newRefusing(t, tt.options)
			r.shut(shutZone)
			if tt.remember != nil {
				tt.remember(t, m)
			}
			if err := r.Refuses(Query{Question: question(tt.ask), Until: tt.until}); err != nil {
				t.Error(err)
			}
			if s := r.Stats(); s.Resolutions+s.Failures+s.ShedCrowded != 1 { // the one that shut made
				t.Errorf("%+v", s)
			}
		})
	}
}

// firstZone may be resolved without its configured servers.
var firstZone = Zone{
	Name: shutZone.zone, First: true, Forward: true,
	Servers: []ZoneServer{{Addr: netip.MustParseAddrPort("192.0.2.7:53")}},
}

// deeper has m know the servers of a zone below shut.example.
func deeper(_ *testing.T, m *cache.Memory) { m.PutCut(fleetCut("a.shut.example.", time.Hour)) }

func TestQuestionIsNotRefusedWhereDenialsMayBeDeduced(t *testing.T) {
	r := deducing(t, false)
	r.opt.Memory.PutCut(fleetCut("example.", time.Hour))
	r.shut(zoneKey{zone: wire.MustParseName("example.")})
	if err := mayRefuse(r, "b.example. A"); err != nil {
		t.Error(err)
	}
	if r.opt.AggressiveNSEC = false; mayRefuse(r, "b.example. A") == nil {
		t.Error("not refused where nothing is deduced")
	}
}

func TestForwarderThatIsAskedTooMuchIsAskedNoMore(t *testing.T) {
	r, _ := newRefusing(t, func(o *Options) {
		z := firstZone
		z.First = false
		o.Zones = []Zone{z}
	})
	if mayRefuse(r, "a.shut.example. A") != nil {
		t.Error("refused without need")
	}
	r.shut(zoneKey{shutZone.zone, r.zones[shutZone.zone]})
	if mayRefuse(r, "a.shut.example. A") == nil {
		t.Error("not refused")
	}
}

func TestNobodyIsRefusedForWhatWasLongAgo(t *testing.T) {
	r, _ := newRefusing(t, nil)
	r.shut(shutZone)
	if r.crowds.Give(shutZone); mayRefuse(r, "a.shut.example. A") != nil {
		t.Error("refused though there is room")
	}
	if r.crowding.lately(func() time.Time { return time.Now().Add(crowdingLasts) }) {
		t.Error("still looked at")
	}
}
