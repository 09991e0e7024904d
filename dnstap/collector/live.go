package collector

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"shirube/dnstap"
)

// The limits of a [Live].
const (
	liveRows     = 200              // records that are remembered to be shown
	liveCounters = 1000             // names, and as many clients, that are counted to find the first ones
	liveHalving  = 10 * time.Second // after which what came before counts half
	maxColumns   = 500              // of a terminal
)

// Live is what is going on, for a terminal. It is safe for concurrent use.
type Live struct {
	now func() time.Time

	mu     sync.Mutex
	filter *Filter
	paused bool
	rows   [liveRows]string
	next   int    // row to be written
	seen   uint64 // frames
	taken  uint64 // by the filter
	shares [3]map[string]uint64
	top    *Top

	rate    float64 // taken frames a second
	counted uint64  // of taken, at since
	since   time.Time
	halved  time.Time
}

// The shares of a [Live].
const (
	byTransport = iota
	byRcode
	byType
)

// NewLive returns a Live that shows what f takes.
func NewLive(f *Filter) *Live {
	l := &Live{now: time.Now}
	l.SetFilter(f)
	return l
}

// SetFilter begins anew with what f takes.
func (l *Live) SetFilter(f *Filter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.filter, l.rows, l.next, l.seen, l.taken, l.rate, l.counted = f, [liveRows]string{}, 0, 0, 0, 0, 0
	l.since = l.now()
	l.halved, l.top = l.since, NewTop(liveCounters)
	for i := range l.shares {
		l.shares[i] = make(map[string]uint64)
	}
}

// Filter returns what is taken now.
func (l *Live) Filter() *Filter {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.filter
}

// Pause holds the list of messages, or lets it go on. Numbers go on.
func (l *Live) Pause() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paused = !l.paused
}

// Add takes r in.
func (l *Live) Add(r *dnstap.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen++
	if !l.filter.Takes(r) {
		return
	}
	l.taken++
	l.shares[byTransport][knownTransport(r)]++
	if rcode, ok := r.Rcode(); ok {
		l.shares[byRcode][rcode.String()]++
	}
	name, typ, _, ok := r.Question()
	if ok {
		// Types are the senders' choice: of those without a name there may be many.
		text := typ.String()
		if strings.HasPrefix(text, "TYPE") {
			text = "other"
		}
		l.shares[byType][text]++
	}
	if counts := dnstap.ClientQuery; r.Type == uint32(counts) || len(l.filter.rcodes) > 0 && r.Type == uint32(counts+1) {
		l.top.Add(r) // with a filter for rcodes there are answers only
	}
	if l.paused {
		return
	}
	question := "?"
	if ok {
		question = nameOf(name) + " " + typ.String()
	}
	l.rows[l.next%liveRows] = liveRow(r, question)
	l.next++
}

// knownTransport is [transport] for keys: numbers that nobody knows are one.
func knownTransport(r *dnstap.Record) string {
	if r.SocketProtocol >= uint32(len(protocolWords)) || r.HTTPProtocol >= uint32(len(httpWords)) {
		return "other"
	}
	return transport(r)
}

// liveRow is a line about r. All of it is printable ASCII, whatever was sent.
func liveRow(r *dnstap.Record, question string) string {
	what, peer := word(typeLetters, r.Type)+"Q", r.Response
	if r.IsResponse() {
		what = word(typeLetters, r.Type) + "R"
	}
	if strings.HasPrefix(what, "C") {
		peer = r.Query
	}
	result := ""
	if rcode, ok := r.Rcode(); ok {
		result = rcode.String()
		if !r.QueryTime.IsZero() && !r.ResponseTime.IsZero() {
			result += " " + r.ResponseTime.Sub(r.QueryTime).Round(time.Microsecond).String()
		}
	}
	return ascii(fmt.Sprintf("%s %-2s %-9s %-15s %s %s", appendClock(nil, r.Time()), what, transport(r), addressWord(peer.Addr()), question, result))
}

// ascii returns text without what a terminal would take for a command, or not
// show in one column.
func ascii(text string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == 'µ':
			return 'u'
		case c < ' ' || c > '~':
			return '?'
		}
		return c
	}, text)
}

// Screen returns what a terminal of so many columns and lines shows: as many
// lines, none longer. The last line is foot.
func (l *Live) Screen(columns, lines int, title, foot string) []string {
	columns = min(max(columns, 1), maxColumns)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pace()
	out := []string{
		fmt.Sprintf("shirube tap  %s  %.0f/s  %d of %d messages", title, l.rate, l.taken, l.seen),
		"filter: " + cmp.Or(l.filter.String(), "none") + map[bool]string{true: "  PAUSED"}[l.paused],
	}
	if lines >= 16 {
		out = append(out, "")
		out = append(out, l.tables(columns, (lines-4)/2)...)
		out = append(out, "")
	}
	room := lines - len(out) - 1
	for i := max(l.next-max(room, 0), l.next-liveRows, 0); i < l.next; i++ {
		out = append(out, l.rows[i%liveRows])
	}
	out = out[:min(len(out), max(lines-1, 0))]
	for len(out) < lines-1 {
		out = append(out, "")
	}
	if lines > 0 {
		out = append(out, foot)
	}
	for i, line := range out {
		line = ascii(line)
		out[i] = line[:min(len(line), columns)]
	}
	return out
}

// pace keeps the rate, and lets what was long ago count less.
func (l *Live) pace() {
	now := l.now()
	if d := now.Sub(l.since); d >= time.Second {
		l.rate = float64(l.taken-l.counted) / d.Seconds()
		l.counted, l.since = l.taken, now
	}
	if now.Sub(l.halved) >= liveHalving {
		l.halved = now
		l.top.Halve()
	}
}

// tables returns shares and the first names and clients side by side, in lines
// lines at most.
func (l *Live) tables(columns, lines int) []string {
	lines = min(lines, 11)
	top := l.top.Stats(lines - 1)
	sides := [][]string{
		l.share("TRANSPORT", byTransport), l.share("RCODE", byRcode), l.share("TYPE", byType),
		first("NAMES", top.Names), first("CLIENTS", top.Clients),
	}
	widths := []int{18, 18, 18, max(columns-54-24, 20), 0}
	longest := 0
	for _, cells := range sides {
		longest = max(longest, len(cells))
	}
	out := make([]string, min(lines, longest))
	for i := range out {
		var line strings.Builder
		for side, cells := range sides {
			cell := ""
			if i < len(cells) {
				cell = cells[i]
			}
			if w := widths[side]; w > 0 {
				cell = fmt.Sprintf("%-*.*s ", w-1, w-1, cell)
			}
			line.WriteString(cell)
		}
		out[i] = strings.TrimRight(line.String(), " ")
	}
	return out
}

// share lists the parts of something, the largest one first.
func (l *Live) share(title string, of int) []string {
	counts := l.shares[of]
	var all uint64
	for _, n := range counts {
		all += n
	}
	keys := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	out := []string{title}
	for _, key := range keys {
		out = append(out, fmt.Sprintf("%-9s %5.1f%%", cmp.Or(key, "-"), 100*float64(counts[key])/float64(all)))
	}
	return out
}

// first lists names or clients.
func first(title string, counts []TopCount) []string {
	out := []string{title}
	for _, c := range counts {
		out = append(out, fmt.Sprintf("%6d %s", c.Queries, c.Key))
	}
	return out
}
