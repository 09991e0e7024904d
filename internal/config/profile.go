package config

import (
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/miekg/dns"

	"shirube/internal/wire"
)

// Profile is a file that says what `shirube verify` asks, and what it expects. It is
// written and checked like a configuration; docs/verify.md is its manual.
type Profile struct {
	// Where the transports are.
	Ports ProfilePorts `yaml:"ports"`
	// Where queries go over HTTP.
	DoHPath string `yaml:"doh_path"`
	// The name that the certificates are for. Empty: the address that is asked.
	ServerName string `yaml:"server_name"`
	// Authorities that sign them, a PEM file. Empty: those that the system trusts.
	CAFile string `yaml:"ca_file"`
	// Single servers behind the targets: addresses, or names that have some.
	Instances []string `yaml:"instances" range:"0..64"`
	// What is asked.
	Questions ProfileQuestions `yaml:"questions"`
	// What is expected of the answers.
	Expect ProfileExpect `yaml:"expect"`
	// How fast known answers have to come.
	Latency ProfileLatency `yaml:"latency"`
	// A command that flushes {name} from the caches of the fleet.
	FlushCommand []string `yaml:"flush_command" range:"0..64"`
	// Where what the servers tell by dnstap can be seen.
	Dnstap ProfileDnstap `yaml:"dnstap"`
	// Which checks count.
	Checks ProfileChecks `yaml:"checks"`
	// How long one question may take, connecting included.
	QuestionTimeout time.Duration `yaml:"question_timeout" range:"100ms..30s"`
	// How long all may take.
	Timeout time.Duration `yaml:"timeout" range:"1s..1h"`
}

// ProfilePorts is where the transports are.
type ProfilePorts struct {
	// UDP and TCP.
	DNS uint16 `yaml:"dns" range:"1..65535"`
	// DoT and DoQ.
	TLS uint16 `yaml:"tls" range:"1..65535"`
	// DoH and DoH3.
	HTTPS uint16 `yaml:"https" range:"1..65535"`
}

// ProfileQuestion is one question. In the name, {random} stands for a label that
// nobody has asked for. Without a name it is not asked.
type ProfileQuestion struct {
	Name string `yaml:"name"`
	Type string `yaml:"type"`
}

// ProfileQuestions are the questions that checks are made with.
type ProfileQuestions struct {
	Good     ProfileQuestion `yaml:"good"`
	Bogus    ProfileQuestion `yaml:"bogus"`
	Unsigned ProfileQuestion `yaml:"unsigned"`
	Denied   ProfileQuestion `yaml:"denied"`
	Empty    ProfileQuestion `yaml:"empty"`
	Big      ProfileQuestion `yaml:"big"`
	Fresh    ProfileQuestion `yaml:"fresh"`
	Health   ProfileQuestion `yaml:"health"`
}

// ProfileExpect is what is expected of the answers. What is empty is not.
type ProfileExpect struct {
	Transports          []ProfileTransport `yaml:"transports" range:"1.."`
	Version             string             `yaml:"version"`
	NSID                string             `yaml:"nsid"`
	ID                  string             `yaml:"id"`
	ExtendedErrors      []uint16           `yaml:"extended_errors" range:"1..64"`
	DDR                 []ProfileALPN      `yaml:"ddr"`
	RESINFO             []string           `yaml:"resinfo" range:"0..64"`
	HB46PP              string             `yaml:"hb46pp"`
	PaddingBlock        int                `yaml:"padding_block" range:"0..4096"`
	CertificateLifetime time.Duration      `yaml:"certificate_lifetime" range:"0s..365d"`
	UDPSize             int                `yaml:"udp_size" range:"0..65535"`
}

// ProfileTransport is a transport that is asked over.
type ProfileTransport string

func (ProfileTransport) values() []string { return []string{"udp", "tcp", "dot", "doh", "doh3", "doq"} }

// ProfileALPN is a transport as DDR names it.
type ProfileALPN string

func (ProfileALPN) values() []string { return []string{"dot", "doq", "h2", "h3"} }

// ProfileLatency is how fast known answers come over UDP.
type ProfileLatency struct {
	Samples int           `yaml:"samples" range:"0..10000"`
	Median  time.Duration `yaml:"median" range:"1us..10s"`
	Worst   time.Duration `yaml:"worst" range:"1us..10s"` // of 99 of 100
}

// ProfileDnstap is where what the servers tell can be seen: an address to listen at
// for senders, or the URL of a collector's /status.json and a file with the token
// that it wants.
type ProfileDnstap struct {
	Listen    string `yaml:"listen"`
	Status    string `yaml:"status"`
	TokenFile string `yaml:"token_file"`
}

// ProfileChecks says which checks count, by their names.
type ProfileChecks struct {
	Required []string `yaml:"required" range:"0..100"`
	Optional []string `yaml:"optional" range:"0..100"`
	Skip     []string `yaml:"skip" range:"0..100"`
}

// DefaultProfile returns what is asked without a profile: names of the Internet that
// are there for it.
func DefaultProfile() Profile {
	ask := func(name, typ string) ProfileQuestion { return ProfileQuestion{name, typ} }
	return Profile{
		Ports:     ProfilePorts{DNS: 53, TLS: 853, HTTPS: 443},
		DoHPath:   "/dns-query",
		Instances: []string{},
		Questions: ProfileQuestions{
			Good:     ask("iana.org", "A"),
			Bogus:    ask("dnssec-failed.org", "A"),
			Unsigned: ask("google.com", "A"),
			Denied:   ask("{random}.arpa", "A"),
			Empty:    ask("iana.org", "HINFO"),
			Big:      ask("", "TXT"),
			Fresh:    ask("", "A"),
			Health:   ask("", "A"),
		},
		Expect: ProfileExpect{
			Transports:          []ProfileTransport{"udp", "tcp", "dot", "doh", "doh3", "doq"},
			ExtendedErrors:      []uint16{6, 7, 8, 9, 10, 11, 12},
			DDR:                 []ProfileALPN{"dot", "doq", "h2", "h3"},
			RESINFO:             []string{"qnamemin", "exterr"},
			PaddingBlock:        468, // RFC 8467 §4.1
			CertificateLifetime: 48 * time.Hour,
			UDPSize:             1232,
		},
		Latency:         ProfileLatency{Samples: 200, Median: 50 * time.Millisecond, Worst: 250 * time.Millisecond},
		FlushCommand:    []string{},
		Checks:          ProfileChecks{Required: []string{}, Optional: []string{}, Skip: []string{}},
		QuestionTimeout: 3 * time.Second,
		Timeout:         2 * time.Minute,
	}
}

// LoadProfile reads and checks the profile at path. Its error is an [*Error].
func LoadProfile(path string) (Profile, error) { return load(path, ReadProfile) }

// ReadProfile reads and checks a profile from r; file is its name in reports. Its
// error is an [*Error].
func ReadProfile(file string, r io.Reader) (Profile, error) { return read(file, r, ParseProfile) }

// ParseProfile checks data, the content of a profile; file is its name in reports.
// Keys that it does not have keep the values of [DefaultProfile]. Its error is an
// [*Error] with everything that is wrong.
func ParseProfile(file string, data []byte) (Profile, error) {
	return parse(file, data, DefaultProfile(), (*decoder).profile)
}

// profile reports what no check could be made with.
func (d *decoder) profile(p *Profile) {
	q := &p.Questions
	for _, x := range []struct {
		key string
		q   *ProfileQuestion
	}{
		{"good", &q.Good},
		{"bogus", &q.Bogus},
		{"unsigned", &q.Unsigned},
		{"denied", &q.Denied},
		{"empty", &q.Empty},
		{"big", &q.Big},
		{"fresh", &q.Fresh},
		{"health", &q.Health},
	} {
		d.profileQuestion("questions."+x.key, x.q)
	}
	if q.Fresh.Name != "" && !strings.Contains(q.Fresh.Name, randomLabel) {
		d.contradiction(fmt.Sprintf("found %s; expected {random} in it, for a name that nobody has asked for", printable(q.Fresh.Name)), "questions.fresh.name")
	}
	for _, x := range []struct{ path, pattern string }{{"expect.nsid", p.Expect.NSID}, {"expect.id", p.Expect.ID}} {
		if _, err := regexp.Compile(x.pattern); err != nil {
			d.contradiction(fmt.Sprintf("found %s; expected a regular expression: %v", printable(x.pattern), err), x.path)
		}
	}
	if !strings.HasPrefix(p.DoHPath, "/") {
		d.contradiction(fmt.Sprintf("found %s; expected a path, such as /dns-query", printable(p.DoHPath)), "doh_path")
	}
	if p.Dnstap.Listen != "" && p.Dnstap.Status != "" {
		d.contradiction("found both listen and status; expected one of them", "dnstap.listen", "dnstap.status")
	}
	if u, err := url.Parse(p.Dnstap.Status); p.Dnstap.Status != "" && (err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "") {
		d.contradiction(fmt.Sprintf("found %s; expected the URL of a collector's /status.json", printable(p.Dnstap.Status)), "dnstap.status")
	}
	if p.Dnstap.TokenFile != "" && p.Dnstap.Status == "" {
		d.contradiction("found a token without status, which it is for", "dnstap.token_file")
	}
	if p.Latency.Worst < p.Latency.Median {
		d.contradiction(fmt.Sprintf("found %s, less than the median of %s", FormatDuration(p.Latency.Worst), FormatDuration(p.Latency.Median)), "latency.worst")
	}
}

// randomLabel stands for a label that nobody has asked for.
const randomLabel = "{random}"

// profileQuestion reports what is not a question.
func (d *decoder) profileQuestion(path string, q *ProfileQuestion) {
	if q.Name == "" {
		return
	}
	if _, err := wire.ParseName(strings.ReplaceAll(q.Name, randomLabel, "v0123456789abcdef")); err != nil {
		d.contradiction(fmt.Sprintf("found %s; expected a domain name, such as www.example.com", printable(q.Name)), path+".name")
	}
	if _, known := dns.StringToType[q.Type]; !known {
		d.contradiction(fmt.Sprintf("found %s; expected a type of records, such as AAAA", printable(q.Type)), path+".type")
	}
}
