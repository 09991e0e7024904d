// Package control is the admin API of a running server: HTTP and JSON on a unix
// socket, for `shirube ctl`, curl and monitoring. Who may use it is decided by
// the socket's file mode, and once more by what the kernel says of the peer.
//
// What the server has to offer comes in as the functions of [Backend]: the
// package knows neither caches nor resolver. Its types are the documents of the
// API, and stable: fields may be added, and none changes its name or meaning
// within /v1.
package control

import (
	"context"
	"errors"
	"time"

	"shirube/internal/wire"
)

// Backend is what a server offers. All functions are needed. They may be called
// concurrently.
type Backend struct {
	Status  func() Status
	Stats   func() map[string]any // see [Counters]
	Lookup  func(n wire.Name) Lookup
	Flights func() Flights

	// Trace resolves q and tells of each step, in order, as something that can
	// be written as a JSON object. tell does not block. It ends when ctx does.
	Trace func(ctx context.Context, q wire.Question, tell func(step any)) (TraceEnd, error)

	// Flush forgets. Its error is for who asked: that there is no fleet to tell.
	Flush func(ctx context.Context, f Flush) (Flushed, error)

	Cache func() CacheLayers
	Entry func(ctx context.Context, q wire.Question) CacheEntry
	Top   func(most int) []Asked

	// Validates reports whether anything is validated. If not, the four after it
	// are not called.
	Validates      func() bool
	Anchors        func() []Anchor
	Negatives      func() []Negative
	AddNegative    func(name wire.Name, lasts time.Duration, reason string) (Negative, error)
	RemoveNegative func(name wire.Name) bool

	// Reload reads the configuration anew and has it take effect. After an error,
	// which is for who asked, all is as it was.
	Reload func(ctx context.Context) (Reloaded, error)

	// Drain has nobody sent here any more, while whoever comes is served; false
	// ends that.
	Drain func(on bool) error

	// HandOver returns what the process pid is to have, which wants to take over. Nothing
	// that clients notice changes until it is given up, or left. The error is for who
	// asked.
	HandOver func(pid int) (*Estate, error)
	// Upgrade starts the program anew, which takes over, and returns when it has. The
	// error is for who asked: then all is as it was.
	Upgrade func(ctx context.Context) (pid int, err error)

	LogLevel    func() string
	SetLogLevel func(level string) error // the error is for who asked
}

// Status is what a server is and how it is doing.
type Status struct {
	Version       string     `json:"version"`
	PID           int        `json:"pid"`
	Started       time.Time  `json:"started"`
	UptimeSeconds int64      `json:"uptime_seconds"`
	State         string     `json:"state"` // one of those below
	Listeners     []Listener `json:"listeners"`
	InFlight      int64      `json:"in_flight"` // client queries being resolved
	Caches        []Cache    `json:"caches"`
	Validation    Validation `json:"validation"`
	LocalRoot     *LocalRoot `json:"local_root,omitempty"` // absent: the root servers are asked
	LogLevel      string     `json:"log_level"`
}

// The states of a server.
const (
	StateStarting = "starting"
	StateReady    = "ready"
	StateDraining = "draining" // serves, but nobody is to be sent here
	StateStopping = "stopping" // accepts nothing new
)

// Listener is where clients are listened to.
type Listener struct {
	Address  string `json:"address"`
	Protocol string `json:"protocol"`
}

// Cache is how full a part of memory is.
type Cache struct {
	Name    string `json:"name"`
	Entries int    `json:"entries"`
	Bytes   int64  `json:"bytes"`
	Limit   int64  `json:"limit_bytes"`
	Evicted uint64 `json:"evicted"` // to make room
}

// Validation is what is validated.
type Validation struct {
	Enabled         bool       `json:"enabled"`
	Permissive      bool       `json:"permissive"`
	Anchors         []Anchor   `json:"trust_anchors"`
	NegativeAnchors []Negative `json:"negative_trust_anchors"`
}

// LocalRoot is the local copy of the root zone.
type LocalRoot struct {
	Serial uint32 `json:"serial"` // 0: there is none that can be used
}

// Anchor is what is trusted of a zone, and what became of its keys (RFC 5011).
type Anchor struct {
	Zone       string   `json:"zone"`
	Trusted    []uint16 `json:"trusted_tags"` // none: all were revoked
	Configured []string `json:"configured"`   // records
	Keys       []Key    `json:"keys"`         // seen so far
}

// Key is a key that was seen in a zone.
type Key struct {
	Tag       uint16     `json:"tag"`
	Algorithm string     `json:"algorithm"`
	State     string     `json:"state"` // RFC 5011 §4.2, in lower case
	Since     time.Time  `json:"since"`
	Until     *time.Time `json:"until,omitempty"` // the end of its hold-down time
}

// Negative is a negative trust anchor (RFC 7646).
type Negative struct {
	Name   string    `json:"name"`
	Until  time.Time `json:"until"`
	Reason string    `json:"reason"`
}

// Lookup is what is known of the zone whose servers a name would be asked of.
type Lookup struct {
	Name    string       `json:"name"`
	Zone    string       `json:"zone"`
	Kind    string       `json:"kind"`            // "learned", "hints", "stub" or "forward"
	Expires *time.Time   `json:"until,omitempty"` // absent: never
	DS      string       `json:"ds"`              // what the parent said of its keys: "signed", "unsigned" or "unknown"; not proven by this
	Dead    *Dead        `json:"dead,omitempty"`  // absent: it may be asked
	Trust   *Trust       `json:"trust,omitempty"` // absent: nothing was validated
	Servers []NameServer `json:"servers"`
}

// Dead is why a zone is not asked for now: none of its servers answers.
type Dead struct {
	Until time.Time `json:"until"`
	Why   string    `json:"why"`
}

// Trust is the deepest known link of the chain of trust at or above a name.
type Trust struct {
	Zone  string    `json:"zone"`
	Trust string    `json:"trust"` // RFC 4035 §4.3: "secure", "insecure", "bogus"
	Keys  []uint16  `json:"key_tags"`
	Until time.Time `json:"until"`
	Why   string    `json:"why,omitempty"`
}

// NameServer is one address of a zone's name server, or a server whose addresses
// are not known.
type NameServer struct {
	Host    string `json:"host,omitempty"`
	Address string `json:"address,omitempty"` // with the port
	Known   bool   `json:"known"`             // it was asked lately; otherwise the rest says nothing

	SRTTMillis    float64    `json:"srtt_ms,omitempty"`    // smoothed round-trip time; 0: it has never answered
	RTTVarMillis  float64    `json:"rttvar_ms,omitempty"`  // its variation
	TimeoutMillis int64      `json:"timeout_ms,omitempty"` // that the next question has
	Silences      int        `json:"silences,omitempty"`   // in a row
	DeadUntil     *time.Time `json:"dead_until,omitempty"`
	LameUntil     *time.Time `json:"lame_until,omitempty"`
	NoEDNS        bool       `json:"no_edns,omitempty"` // asked without EDNS
	TCP           bool       `json:"tcp,omitempty"`     // asked over TCP
	LastHeard     *time.Time `json:"last_heard,omitempty"`
}

// Flights is what is being resolved.
type Flights struct {
	Flights []Flight `json:"flights"` // the oldest first
	Asking  []Asking `json:"asking"`  // servers that an answer is waited for
	Omitted int      `json:"omitted"` // flights beyond the most that are listed
}

// Flight is one question being resolved, for all who ask it.
type Flight struct {
	Name      string  `json:"name"`
	Type      string  `json:"type"`
	CD        bool    `json:"cd"`
	AgeMillis float64 `json:"age_ms"`
	Waiters   int     `json:"waiters"` // clients; a renewal that nobody waits for counts as one
}

// Asking is one question that a server was sent.
type Asking struct {
	Zone   string `json:"zone"`
	Name   string `json:"name"`
	Type   string `json:"type"`
	Server string `json:"server"`
}

// Flush says what to forget.
type Flush struct {
	Name  wire.Name
	Below bool
	Type  wire.Type // 0: all
	Fleet bool      // on all servers that have a shared cache in common
}

// Flushed is how much was forgotten.
type Flushed struct {
	Answers  int `json:"answers"`
	Failures int `json:"failures"`
	RRsets   int `json:"rrsets"`
	Cuts     int `json:"cuts"`
	Links    int `json:"links"`   // of the chain of trust
	Denials  int `json:"denials"` // NSEC and NSEC3 records that other names are denied by

	Fleet *FleetFlushed `json:"fleet,omitempty"` // absent: the fleet was not told
}

// Reloaded is what came of a reload.
type Reloaded struct {
	Changed []string `json:"changed"` // keys of the configuration
}

// TraceEnd is the last line of a trace.
type TraceEnd struct {
	Step    string   `json:"step"` // StepAnswer or StepError
	Rcode   string   `json:"rcode,omitempty"`
	Trust   string   `json:"trust,omitempty"`
	Records []string `json:"records,omitempty"`
	Error   string   `json:"error,omitempty"`
}

// What the last line of a trace can be.
const (
	StepAnswer = "answer"
	StepError  = "error"
)

// Problem is the document of every response that is no success.
type Problem struct {
	Error string `json:"error"`
}

// check returns an error if b lacks something.
func (b *Backend) check() error {
	if b.Status == nil || b.Stats == nil || b.Lookup == nil || b.Flights == nil || b.Trace == nil || b.Flush == nil || b.Cache == nil || b.Entry == nil || b.Top == nil || b.Reload == nil || b.Drain == nil || b.HandOver == nil || b.Upgrade == nil ||
		b.LogLevel == nil || b.SetLogLevel == nil || b.Validates == nil || b.Anchors == nil || b.Negatives == nil ||
		b.AddNegative == nil || b.RemoveNegative == nil {
		return errors.New("control: the Backend lacks functions")
	}
	return nil
}
