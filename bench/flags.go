package main

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"time"
)

// settings are the flags of all subcommands; each uses those that it declares.
type settings struct {
	names   int           // names that may be asked for
	zones   int           // zones they lie in
	shirube string        // path of the binary
	ports   string        // that the system gives to sockets: the first and the last
	rounds  int           // runs of each server
	run     time.Duration // length of a run
	within  time.Duration // that all runs have to be over; 0: however long they take (full)
	peers   string        // comma-separated names of the servers compared
	threads int           // that answer queries, of each server
	out     string        // directory for the results
	clients int           // clients that ask at once (cold)
	signed  bool          // all zones are signed, and the servers validate
	faults  bool          // some authorities are dead, some slow (cold)
	delay   time.Duration // of the slow ones (cold)
	perf    string        // directory for profiles; empty: none (cold)
	tcp     bool          // the load comes over TCP (warm)
	loads   string        // comma-separated names of what is measured; empty: all (encrypted)
	conns   int           // connections (idle)
	dot     bool          // encrypted ones (idle)
	listen  string        // address and port (echo, blast)
	file    string        // of questions (blast)
	works   string        // comma-separated (full, shared)
	hot     int           // names that stay in memory, of names (full)
	rate    int           // queries a second, of an open loop (full, fill, flood, shared)
	manual  string        // directory of the pages that tell of results (report)
	entries int           // answers in memory (fill)
	most    time.Duration // to resolve them all (fill)
	times   int           // what is asked for by what can be resolved (flood)
	load    int           // queries a second while memcached go (shared)
	sizes   string        // comma-separated: servers of fleets (shared)
	first   bool          // the kernel is to run servers rather than strangers (flood)

	delegated map[string]string // records that the root and TLDs have besides, by their names
}

// parse reads the flags of c. Errors have been told to the user.
func (c *subcommand) parse(args []string) (settings, error) {
	set := settings{names: 10_000, zones: 300, threads: 2, peers: "unbound,shirube"}
	fs := flag.NewFlagSet("bench "+c.name, flag.ContinueOnError)
	c.own(fs, &set)
	if !c.bare {
		labFlags(fs, &set)
	}
	if err := fs.Parse(args); err != nil {
		return set, err
	}
	var err error
	switch {
	case fs.NArg() > 0:
		err = fmt.Errorf("what is %q?", fs.Arg(0))
	case set.zones > set.names:
		err = fmt.Errorf("%d -zones cannot have only %d -names", set.zones, set.names)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench %s: %v\n", c.name, err)
	}
	return set, err
}

// labFlags are the flags of all that have a laboratory; set has their defaults.
func labFlags(fs *flag.FlagSet, set *settings) {
	count(fs, &set.names, "names", set.names, 1, 1_000_000, "names to ask for")
	count(fs, &set.zones, "zones", set.zones, 1, 10_000, "zones they lie in, not more than names")
	fs.StringVar(&set.shirube, "shirube", "bin/shirube", "the `binary` to measure")
	fs.StringVar(&set.ports, "ports", "1024 65535", "`range` of the ports that the system gives to sockets (net.ipv4.ip_local_port_range)")
}

// comparisonFlags are the flags of all that compare servers.
func comparisonFlags(fs *flag.FlagSet, set *settings) {
	count(fs, &set.rounds, "rounds", 5, 1, 1000, "runs of each server, in turn")
	fs.StringVar(&set.peers, "peers", set.peers, "`servers` to compare, each "+knownKinds()+" or one of them with a binary of its own (shirube=bin/before); the first is the measure")
	count(fs, &set.threads, "threads", 2, 1, 64, "threads of each server that answer queries")
	fs.StringVar(&set.out, "out", resultsDir, "`directory` for the results")
}

func timeFlag(fs *flag.FlagSet, set *settings, normal time.Duration) {
	set.run = normal
	fs.Var(spell{&set.run, time.Second, 24 * time.Hour, time.Second}, "time", "`length` of a run, in whole seconds")
}

func signedFlag(fs *flag.FlagSet, set *settings) {
	fs.BoolVar(&set.signed, "signed", false, "all zones are signed (ECDSA P-256, NSEC), and the servers validate")
}

// count declares a number between least and most.
func count(fs *flag.FlagSet, at *int, name string, normal, least, most int, usage string) {
	*at = normal
	fs.Var(bounded{at, least, most}, name, usage)
}

// bounded is a [flag.Value].
type bounded struct {
	at          *int
	least, most int
}

func (b bounded) String() string {
	if b.at == nil {
		return "" // [flag.Value]: of the zero value too
	}
	return strconv.Itoa(*b.at)
}

// Set implements [flag.Value].
func (b bounded) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < b.least || n > b.most {
		return fmt.Errorf("want a number between %d and %d", b.least, b.most)
	}
	*b.at = n
	return nil
}

// spell is a [flag.Value]: a time between least and most in whole units.
type spell struct {
	at                *time.Duration
	least, most, unit time.Duration
}

func (s spell) String() string {
	if s.at == nil {
		return ""
	}
	return s.at.String()
}

// Set implements [flag.Value].
func (s spell) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil || d < s.least || d > s.most || d%s.unit != 0 {
		return fmt.Errorf("want a time between %v and %v that is a multiple of %v", s.least, s.most, s.unit)
	}
	*s.at = d
	return nil
}
