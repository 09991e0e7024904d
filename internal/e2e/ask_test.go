package e2e

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// client is a program to ask with, and how.
type client struct {
	program string // dig or kdig
	args    []string
}

// ask returns how to ask s with program at the address at, with further args.
func (s *server) ask(program, at string, args ...string) client {
	c := client{program, []string{"@" + at, "-p", strconv.Itoa(s.port)}}
	if program == "dig" {
		c.args = slices.Insert(c.args, 0, "-r") // no ~/.digrc
	}
	c.args = append(c.args, args...)
	return c
}

// question is what a client asks.
type question struct{ name, typ string }

func (q question) String() string { return q.name + " " + q.typ }

// response is what a client printed of one response.
type response struct {
	opcode, status string
	flags          string // "qr rd ra": in the order of RFC 1035 §4.1.1
	edns           string // "version 0, flags do, size 1232"; "" without EDNS
	ede            []string
	cookie         string   // in hexadecimal digits
	nsid           string   // as the client printed it
	other          []string // further lines about EDNS
	question       string   // "www.example.com. IN A", spelled as it came
	sections       map[string][]record
	raw            string // the text all this is from
}

// record is one record, in a form that does not depend on who printed it.
type record struct {
	text string // without TTL, owner in lower case
	ttl  uint32
	typ  uint16
}

// texts returns the records of a section, sorted.
func (r *response) texts(section string) []string { return texts(r.sections[section]) }

func texts(records []record) []string {
	out := make([]string, len(records))
	for i, rr := range records {
		out[i] = rr.text
	}
	slices.Sort(out)
	return out
}

// askTimeout bounds one run of a client. It is more than a client waits itself.
const askTimeout = time.Minute

// run runs the client with more args and returns what it printed, standard
// error included, and its exit code.
func (c client) run(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), askTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.program, append(slices.Clone(c.args), args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	b, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil || ctx.Err() != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, b)
	}
	return string(b), cmd.ProcessState.ExitCode()
}

// one asks one question and returns the response.
func (c client) one(t *testing.T, args ...string) *response {
	t.Helper()
	out, _ := c.run(t, args...)
	rs := parseResponses(t, out)
	if len(rs) != 1 {
		t.Fatalf("%s %s %s: %d responses, want 1:\n%s", c.program, strings.Join(c.args, " "), strings.Join(args, " "), len(rs), out)
	}
	return rs[0]
}

// all asks many questions in one run of the client, one after the other.
func (c client) all(t *testing.T, qs []question) []*response {
	t.Helper()
	var args []string
	for _, q := range qs {
		args = append(args, "-q", q.name, "-t", q.typ)
	}
	out, _ := c.run(t, args...)
	rs := parseResponses(t, out)
	if len(rs) != len(qs) {
		t.Fatalf("%s %s: %d responses to %d questions:\n%s", c.program, strings.Join(c.args, " "), len(rs), len(qs), out)
	}
	return rs
}

// What dig and kdig print.
var (
	headerLine   = regexp.MustCompile(`->>HEADER<<- opcode: (\w+)[,;] status: (\w+)[,;] id: \d+`)
	flagsLine    = regexp.MustCompile(`^;; [Ff]lags:([ a-z]*); QUERY: `)
	sectionLine  = regexp.MustCompile(`^;; (\w+) (?:PSEUDO)?SECTION:`)
	digEDNSLine  = regexp.MustCompile(`^; EDNS: version: (\d+), flags:([ a-z]*); udp: (\d+)`)
	kdigEDNSLine = regexp.MustCompile(`^;; Version: (\d+); flags: ([a-z]*) ?; UDP size: (\d+) B`)
	cookieLine   = regexp.MustCompile(`^;;? COOKIE: ([0-9A-Fa-f]+)(?: \((?:good|echoed)\))?$`)
	nsidLine     = regexp.MustCompile(`^;;? NSID: [0-9A-Fa-f ]+ (?:\("(.*)"\)|"(.*)")$`)
	edeLine      = regexp.MustCompile(`^;;? EDE: (\d+) \(([^)]*)\)(?:: [('](.*)[)'])?$`)
)

// parseResponses reads what dig or kdig printed.
func parseResponses(t *testing.T, out string) []*response {
	t.Helper()
	starts := headerLine.FindAllStringIndex(out, -1)
	rs := make([]*response, len(starts))
	for i, start := range starts {
		end := len(out)
		if i+1 < len(starts) {
			end = starts[i+1][0]
		}
		rs[i] = parseResponse(t, out[start[0]:end])
	}
	return rs
}

func parseResponse(t *testing.T, text string) *response {
	t.Helper()
	r := &response{sections: make(map[string][]record), raw: text}
	header := headerLine.FindStringSubmatch(text)
	r.opcode, r.status = header[1], header[2]
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if m := flagsLine.FindStringSubmatch(line); m != nil {
			r.flags = strings.TrimSpace(m[1])
		} else if m := sectionLine.FindStringSubmatch(line); m != nil {
			section = m[1]
		} else if line == "" {
			section = strings.TrimSuffix(section, "QUESTION") // a blank line is after each
		} else if err := r.add(section, line); err != nil {
			t.Fatalf("%v in:\n%s", err, text)
		}
	}
	return r
}

// add reads one line of a section.
func (r *response) add(section, line string) error {
	switch section {
	case "QUESTION":
		r.question = strings.Join(strings.Fields(strings.TrimLeft(line, "; ")), " ")
	case "OPT", "EDNS":
		r.addEDNS(line)
	case "ANSWER", "AUTHORITY", "ADDITIONAL":
		if strings.HasPrefix(line, ";") {
			return nil
		}
		rr, err := dns.NewRR(line)
		if err != nil || rr == nil {
			return fmt.Errorf("no record (%w): %q", err, line)
		}
		rec, err := canonical(rr)
		r.sections[section] = append(r.sections[section], rec)
		return err
	}
	return nil
}

// addEDNS reads one line about EDNS.
func (r *response) addEDNS(line string) {
	for _, form := range []*regexp.Regexp{digEDNSLine, kdigEDNSLine} {
		if m := form.FindStringSubmatch(line); m != nil {
			r.edns = fmt.Sprintf("version %s, flags %s, size %s", m[1], strings.TrimSpace(m[2]), m[3])
			return
		}
	}
	if m := cookieLine.FindStringSubmatch(line); m != nil {
		r.cookie = strings.ToLower(m[1])
	} else if m := nsidLine.FindStringSubmatch(line); m != nil {
		r.nsid = m[1] + m[2]
	} else if m := edeLine.FindStringSubmatch(line); m != nil {
		r.ede = append(r.ede, fmt.Sprintf("%s %s: %s", m[1], m[2], m[3]))
	} else if strings.HasPrefix(line, ";") && !strings.HasPrefix(line, ";; ") {
		r.other = append(r.other, line)
	}
}

// canonical returns rr as everybody would print it: by way of its wire format.
func canonical(rr dns.RR) (record, error) {
	buf := make([]byte, dns.MaxMsgSize)
	n, err := dns.PackRR(rr, buf, 0, nil, false)
	if err != nil {
		return record{}, err
	}
	rr, _, err = dns.UnpackRR(buf[:n], 0)
	if err != nil {
		return record{}, err
	}
	h := rr.Header()
	ttl := h.Ttl
	h.Ttl, h.Name = 0, dns.CanonicalName(h.Name)
	return record{rr.String(), ttl, h.Rrtype}, nil
}

// difference describes how got differs from want; "" if it does not.
func difference(got, want []string) string {
	count := make(map[string]int)
	for _, s := range want {
		count[s]++
	}
	for _, s := range got {
		count[s]--
	}
	var b bytes.Buffer
	for _, s := range slices.Sorted(maps.Keys(count)) {
		switch n := count[s]; {
		case n > 0:
			fmt.Fprintf(&b, "\n  missing:    %s", s)
		case n < 0:
			fmt.Fprintf(&b, "\n  unexpected: %s", s)
		}
	}
	return b.String()
}
