// Package rpl reads replay scenarios, the .rpl files of Unbound's test data and
// of CZ.NIC's Deckard, and plays them to a resolver in memory.
//
// A [Scenario] is read from a file by [Read]: settings, what servers answer in
// which range of steps, and the steps. A [World] is the servers, in the place
// of the upstream transport. [Play] takes the steps, asks the resolver as its
// clients would and compares what it answers. All of it happens in simulated
// time: only under testing/synctest. [PlayServer] plays the same to a server
// that runs by itself and knows nothing of it, over real [Sockets] and in real
// time, in a network of its own.
//
// The format is that of Unbound's testcode/replay.h and testcode/testpkts.h,
// and of Deckard's doc/scenario_guide.rst. Both are read; a [Dialect] says
// where they mean different things. Two steps are this package's own, for the
// scenarios of this repository:
//
//	STEP n CHECK_SENT
//	192.0.2.1 example.com. NS
//	192.0.2.2 www.example.com. A TCP
//	SENT_END
//
// holds if exactly these queries, in this order, were sent to servers since
// the last CHECK_SENT. Words follow, in this order: "TLS" or "TCP" for what the
// query went over, "bare" if it had no EDNS, "RD" if it asked for recursion.
//
//	STEP n CHECK_TIME WITHIN 0.5
//
// holds if the answer that the last CHECK_ANSWER took came within so many
// seconds of simulated time after its query.
package rpl

import (
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// Dialect is one of the two ways to write a scenario.
type Dialect uint8

// The dialects. They differ in the configuration block; in which range comes
// first when several are in force (Unbound: the last in the file; Deckard: the
// first); in STEP REPLY (Unbound: answers a query that is outstanding then;
// Deckard: any later one, once); in when a client asks on (Unbound: at once;
// Deckard: when it has its answer); and in EDNS (Unbound: where the entry has
// DO or HEX_EDNSDATA; Deckard: always).
const (
	Unbound Dialect = iota
	Deckard
)

// String returns the usual name of d.
func (d Dialect) String() string {
	if d == Deckard {
		return "Deckard"
	}
	return "Unbound"
}

// Scenario is one file. It is immutable.
type Scenario struct {
	Name    string // of the file, as it is in errors
	Title   string
	Dialect Dialect
	Config  []Block
	Files   map[string]string // contents that settings refer to, by [Setting.File]
	Ranges  []Range           // in the order to search them in
	Steps   []Step            // by number
}

// Block is a clause of the configuration, as server: or stub-zone: in
// Unbound's dialect. Deckard's has one without a name.
type Block struct {
	Name     string
	Line     int
	Settings []Setting
}

// Setting is one line of a [Block].
type Setting struct {
	Key    string
	Values []string // unquoted; Deckard's dialect has one, perhaps ""
	File   string   // key of [Scenario.Files]: the value is a file with these contents
	Line   int
}

// Range is what a server answers in some steps.
type Range struct {
	From, To int          // numbers of steps, both included
	Addrs    []netip.Addr // of the server; none: of all servers
	Entries  []*Entry     // the first that matches is the answer
	Line     int
}

// holds reports whether r speaks for addr at the step with the given number.
func (r *Range) holds(step int, addr netip.Addr) bool {
	if step < r.From || step > r.To {
		return false
	}
	for _, a := range r.Addrs {
		if a == addr {
			return true
		}
	}
	return len(r.Addrs) == 0
}

// Kind is what a step does.
type Kind uint8

// The kinds of steps.
const (
	Nothing       Kind = iota
	Query              // a client asks Entry
	CheckAnswer        // a client's answer is like Entry
	CheckOutQuery      // a query like Entry was sent to a server, or is now
	Reply              // a server answers an outstanding query with Entry
	Timeout            // the server of the last query sent never answers it
	Error              // the connection to that server breaks
	TimePasses         // Elapse goes by
	Traffic            // nothing, until nothing goes on any more
	FlushMessage       // the answer to Question is dropped from memory
	CheckSent          // exactly the queries Sent were sent
	CheckTime          // the last answer came within Elapse
	Inside             // Text looks at or changes the inside of Unbound
)

// Step is one event.
type Step struct {
	Number   int
	Kind     Kind
	Addr     netip.Addr // of the client or the server; not valid: the usual, any
	Entry    *Entry
	Elapse   time.Duration
	Question dns.Question
	Sent     []string
	Text     string // as it is in the file
	Line     int
}

// Entry is a message: what to send, or what to compare with.
type Entry struct {
	Line    int
	Match   Match
	Adjust  Adjust
	Packets []Packet // at least one
}

// Packet is one message of an [Entry].
type Packet struct {
	Msg     *dns.Msg // without its rcode and its OPT record
	Rcode   int      // with the bits that the OPT record has
	EDNS    bool     // it has an OPT record
	DO, CO  bool
	Options []byte // RDATA of the OPT record, from HEX_EDNSDATA; nil: not given
	Raw     []byte // sent instead of Msg; nil: not given
	Sleep   time.Duration
}

// Adjust says how an answer is fitted to its query.
type Adjust struct {
	CopyID    bool // in CHECK_OUT_QUERY: the entry is the answer, too; else every answer has its query's ID
	CopyQuery bool
	Silent    bool // Deckard's do_not_answer
	Subnet    bool // copy the client subnet option, or its scope: not played
	Sleep     time.Duration
}

// Field is a part of a message that MATCH can name.
type Field uint32

// The fields.
const (
	Opcode Field = 1 << iota
	QType
	QName
	QCase // the name with its spelling
	Subdomain
	Flags
	RCode
	Question
	Answer
	Authority
	Additional
	TTLs     // of the records that are compared
	EDNS     // version and payload size
	EDNSData // the options
	NoEDNS
	WithDO
	WithCO
	OverUDP
	OverTCP
	Serial
	EDE
	AnyEDE
	ClientCookie
	ServerCookie
)

// wholeMessage is what MATCH all names.
const wholeMessage = Opcode | Question | Flags | RCode | Answer | Authority | Additional

// Match is what a message must have in common with an [Entry].
type Match struct {
	Fields Field
	EDE    uint16
	Serial uint32
}

// has reports whether all of f are to be compared.
func (m Match) has(f Field) bool { return m.Fields&f == f }
