// Command bench measures Shirube against real servers, in a closed network of
// its own.
//
//	bench warm    warm UDP or TCP: queries per second and server CPU per query, beside Unbound
//	bench cold    10,000 names that nobody asked for yet: CPU, upstream packets and latency, beside Unbound
//	bench idle    100,000 TCP connections that wait: the server's memory for each
//	bench soak    a minute of load on cached names without an error or a leak
//
// It builds a small Internet of NSD servers (root, five TLDs, some hundred
// zones) inside new network and process namespaces that have nothing but the
// loopback interface. Nothing it starts can reach, disturb or outlive anything
// outside. That takes root, or a kernel that lets users make namespaces.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

func main() {
	// The namespaces' first process is to die with the thread that started it
	// (Pdeathsig); the main thread lives as long as the process.
	runtime.LockOSThread()
	os.Exit(run(os.Args[1:]))
}

// settings are the flags of the subcommands.
type settings struct {
	names   int           // cached names asked for
	zones   int           // zones they lie in
	rounds  int           // runs of each server (warm, cold)
	run     time.Duration // length of a run (warm, soak)
	shirube string        // path of the binary
	peers   string        // comma-separated names of the servers compared (warm, cold)
	out     string        // directory for the results (warm, cold)
	clients int           // clients that ask at once (cold)
	signed  bool          // all zones are signed, and the servers validate (cold)
	faults  bool          // some authorities are dead, some slow (cold)
	delay   time.Duration // of the slow ones (cold)
	perf    string        // directory for profiles; empty: none (cold)
	tcp     bool          // the load comes over TCP (warm)
	conns   int           // connections (idle)
	ports   string        // that the system gives to sockets: the first and the last
}

const usage = `usage: bench warm|cold|attack|idle|soak|profile [flags]

warm compares servers over warm UDP or TCP; idle measures what connections that wait cost; cold compares them on names that they have
to resolve; attack measures what hostile signed zones cost others; soak loads Shirube and looks for errors and leaks;
profile samples what Shirube does. "bench warm -h"
lists the flags of warm.
`

// subcommands are what the first argument may be, and what each does inside
// the namespaces.
var subcommands = map[string]func(ctx context.Context, dir string, set settings) error{
	"warm": warm, "cold": cold, "soak": soak, "attack": attack, "idle": idle, "profile": profile,
}

// run is main with an exit code: 0 for success, 1 for a failure, 2 for wrong
// usage.
func run(args []string) int {
	if len(args) == 0 || subcommands[args[0]] == nil {
		fmt.Fprint(os.Stderr, usage)
		return 2
	}
	set, err := parseFlags(args[0], args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2
	}
	dir, inside := os.LookupEnv(insideEnv)
	if !inside {
		return enterSandbox()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := inSandbox(ctx, args[0], dir, set); err != nil {
		fmt.Fprintf(os.Stderr, "bench %s: %v\n", args[0], err)
		return 1
	}
	return 0
}

// inSandbox does the work of a subcommand.
func inSandbox(ctx context.Context, name, dir string, set settings) error {
	if err := furnish(ctx, set.ports); err != nil {
		return err
	}
	return subcommands[name](ctx, dir, set)
}

// parseFlags reads the flags of a subcommand. Errors have been told to the
// user.
func parseFlags(name string, args []string) (settings, error) {
	var set settings
	fs := flag.NewFlagSet("bench "+name, flag.ContinueOnError)
	names := 10_000
	if name == "profile" { // as many as are resolved while it samples
		names = 200_000
	}
	fs.IntVar(&set.names, "names", names, "names to ask for")
	fs.IntVar(&set.zones, "zones", 300, "zones they lie in")
	fs.StringVar(&set.shirube, "shirube", "bin/shirube", "the `binary` to measure")
	fs.StringVar(&set.ports, "ports", "1024 65535", "`range` of the ports that the system gives to sockets (net.ipv4.ip_local_port_range)")
	set.run = 10 * time.Second
	switch name {
	case "soak":
		set.run = time.Minute
	case "idle":
		fs.IntVar(&set.conns, "connections", 100_000, "connections to open; both programs need a descriptor for each (ulimit -n)")
	case "profile":
		fs.StringVar(&set.out, "out", "bench/out", "`directory` for the profiles")
		fs.BoolVar(&set.signed, "signed", false, "all zones are signed (ECDSA P-256, NSEC), and the server validates")
	default:
		fs.IntVar(&set.rounds, "rounds", 5, "runs of each server, in turn")
		fs.StringVar(&set.peers, "peers", "unbound,shirube", "`servers` to compare: unbound, shirube, shirube=BINARY, shirube-tap, shirube-tap100, shirube-tapstopped; the first is the measure")
		fs.StringVar(&set.out, "out", "bench/results", "`directory` for the results")
	}
	if name == "warm" {
		fs.BoolVar(&set.tcp, "tcp", false, "ask over TCP: 20 connections that stay open, with up to 100 queries on the way")
	}
	if name == "cold" {
		fs.IntVar(&set.clients, "clients", 50, "clients, each of which waits for its answer before it asks again")
		fs.BoolVar(&set.signed, "signed", false, "all zones are signed (ECDSA P-256, NSEC), and the servers validate")
		fs.BoolVar(&set.faults, "faults", false, "of the zones' 200 name servers 2 are dead and 10 slow")
		fs.DurationVar(&set.delay, "delay", 300*time.Millisecond, "how much later the slow ones answer")
		fs.StringVar(&set.perf, "perf", "", "keep what perf(1) samples of each run in this `directory`; it costs CPU")
	} else {
		fs.DurationVar(&set.run, "time", set.run, "length of a run, in whole seconds")
	}
	if err := fs.Parse(args); err != nil {
		return set, err
	}
	if err := set.check(name); err != nil {
		fmt.Fprintf(os.Stderr, "bench %s: %v\n", name, err)
		return set, err
	}
	return set, nil
}

// check reports what makes the settings unusable.
func (s *settings) check(name string) error {
	switch {
	case s.names < 1 || s.names > 1_000_000:
		return errors.New("-names must be between 1 and 1,000,000")
	case s.zones < 1 || s.zones > s.names || s.zones > 10_000:
		return errors.New("-zones must be between 1 and the number of names, and at most 10,000")
	case s.run < time.Second || s.run%time.Second != 0:
		return errors.New("-time must be whole seconds, at least one")
	case name != "soak" && name != "idle" && name != "profile" && (s.rounds < 1 || s.rounds > 1000):
		return errors.New("-rounds must be between 1 and 1000")
	case name == "idle" && (s.conns < 1 || s.conns > 1_000_000):
		return errors.New("-connections must be between 1 and 1,000,000")
	case name == "cold" && (s.clients < 1 || s.clients > 1000):
		return errors.New("-clients must be between 1 and 1000")
	case name == "cold" && (s.delay < 0 || s.delay > 5*time.Second):
		return errors.New("-delay must be between 0 and 5s")
	}
	return nil
}
