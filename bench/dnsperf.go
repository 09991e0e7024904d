package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// load says how dnsperf is to ask.
type load struct {
	clients     int           // -c: source ports
	threads     int           // -T
	outstanding int           // -q: queries on the way at once
	length      time.Duration // -l
	patience    time.Duration // -t: until a query counts as lost
	once        bool          // -n 1: stop when every question was asked once
	tcp         bool          // -m tcp: clients are connections, which stay open
	secure      string        // -m: dot or doh, if it is one of these
	do          bool          // -D: the client wants signatures
	blast       bool          // not dnsperf asks but this program, as blast does
	cpus        string        // that it may run on, as taskset(1) names them; empty: all
}

// warmLoad asks every question once, slowly enough for a resolver that knows
// nothing; hitLoad is what is measured.
func warmLoad() load {
	return load{clients: 10, threads: 1, outstanding: 50, length: 3 * time.Minute, patience: 5 * time.Second, once: true}
}

func hitLoad(length time.Duration, tcp bool) load {
	return load{clients: 20, threads: 1, outstanding: 100, length: length, patience: 2 * time.Second, tcp: tcp}
}

// transport names what the queries come over, as dnsperf does.
func (ld load) transport() string {
	switch {
	case ld.secure != "":
		return ld.secure
	case ld.tcp:
		return "tcp"
	}
	return "udp"
}

// port returns where servers are asked so.
func (ld load) port() int {
	switch ld.transport() {
	case "dot":
		return dotPort
	case "doh":
		return dohPort
	}
	return 53
}

// program is what asks.
func (ld load) program() string {
	if ld.blast {
		return "bench blast"
	}
	return "dnsperf"
}

// flags are those of dnsperf that say how it asks.
func (ld load) flags() []string {
	if ld.blast {
		return nil
	}
	f := []string{"-m", ld.transport(), "-c", strconv.Itoa(ld.clients), "-T", strconv.Itoa(ld.threads), "-q", strconv.Itoa(ld.outstanding)}
	if ld.secure == "doh" {
		f = append(f, "-O", "doh-uri=https://dns.bench/dns-query", "-O", "doh-method=GET")
	}
	if ld.do {
		f = append(f, "-D")
	}
	return f
}

// command is what loads a server with the questions of a file.
func (ld load) command(server netip.Addr, questions string) ([]string, error) {
	argv := []string{"dnsperf", "-s", server.String(), "-p", strconv.Itoa(ld.port()), "-d", questions}
	argv = append(argv, ld.flags()...)
	argv = append(argv, "-l", strconv.Itoa(int(ld.length/time.Second)), "-t", strconv.Itoa(int(ld.patience/time.Second)))
	if ld.once {
		argv = append(argv, "-n", "1")
	}
	if ld.blast {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		argv = []string{self, "blast", "-server", netip.AddrPortFrom(server, 53).String(), "-questions", questions, "-time", ld.length.String()}
	}
	if ld.cpus != "" {
		argv = append([]string{"taskset", "-c", ld.cpus}, argv...)
	}
	return argv, nil
}

// tally is what dnsperf says at the end of a run.
type tally struct {
	Sent         int64            `json:"sent"`
	Completed    int64            `json:"completed"`
	Lost         int64            `json:"lost"`
	Rcodes       map[string]int64 `json:"rcodes"`
	ResponseSize float64          `json:"response_octets"` // mean
	Seconds      float64          `json:"seconds"`
	PerSecond    float64          `json:"per_second"`
	Latency      float64          `json:"latency_us"` // mean, in µs

	cpu time.Duration // used by dnsperf itself
}

// dnsperf loads a server with the questions of a file, and returns what the
// program says of it.
func dnsperf(ctx context.Context, server netip.Addr, questions string, ld load) (*tally, error) {
	argv, err := ld.command(server, questions)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return nil, errors.New("interrupted")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", ld.program(), err, out)
	}
	t := new(tally)
	if ld.blast {
		err = json.Unmarshal(out, t)
	} else {
		t, err = parseTally(string(out))
	}
	if err != nil {
		return nil, fmt.Errorf("%w in the output of %s:\n%s", err, ld.program(), out)
	}
	t.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	return t, nil
}

// parseTally reads the statistics at the end of dnsperf's output (2.10).
func parseTally(out string) (*tally, error) {
	_, stats, ok := strings.Cut(out, "\nStatistics:\n")
	if !ok {
		return nil, errors.New("no statistics")
	}
	var err error
	number := func(label string) float64 {
		m := regexp.MustCompile(regexp.QuoteMeta(label) + `\s+([\d.]+)`).FindStringSubmatch(stats)
		if m == nil {
			err = errors.Join(err, fmt.Errorf("no %q", label))
			return 0
		}
		n, bad := strconv.ParseFloat(m[1], 64)
		err = errors.Join(err, bad)
		return n
	}
	t := &tally{
		Sent:      int64(number("Queries sent:")),
		Completed: int64(number("Queries completed:")),
		Lost:      int64(number("Queries lost:")),
		Seconds:   number("Run time (s):"),
		PerSecond: number("Queries per second:"),
		Latency:   number("Average Latency (s):") * 1e6,
		Rcodes:    make(map[string]int64),
	}
	if t.Completed > 0 {
		t.ResponseSize = number(", response")
		codes := regexp.MustCompile(`Response codes:(.*)`).FindString(stats)
		for _, m := range regexp.MustCompile(`([A-Z]+[A-Z0-9]*) (\d+) \(`).FindAllStringSubmatch(codes, -1) {
			n, bad := strconv.ParseInt(m[2], 10, 64)
			err = errors.Join(err, bad)
			t.Rcodes[m[1]] = n
		}
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// errors counts the queries that got no answer, or one that says neither that
// the name exists nor that it does not.
func (t *tally) errors() int64 {
	bad := t.Lost
	for code, n := range t.Rcodes {
		if code != "NOERROR" && code != "NXDOMAIN" {
			bad += n
		}
	}
	return bad
}

// dnsperfVersion returns the version of dnsperf, which it prints only before it
// complains about its arguments.
func dnsperfVersion(ctx context.Context) string {
	out, _ := exec.CommandContext(ctx, "dnsperf", "-h").CombinedOutput() // it exits with an error
	if m := regexp.MustCompile(`Version (\S+)`).FindSubmatch(out); m != nil {
		return string(m[1])
	}
	return "of unknown version"
}
