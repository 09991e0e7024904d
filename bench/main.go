// Command bench measures Shirube beside other servers, in a closed network of
// its own. Without arguments it lists what it can do.
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
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

// subcommand is what the first argument may name.
type subcommand struct {
	name string
	does string                                                    // in a line
	own  func(fs *flag.FlagSet, set *settings)                     // declares the flags that not all have
	run  func(ctx context.Context, dir string, set settings) error // dir is for what need not stay
	bare bool                                                      // runs where it was started, not in namespaces, and has no laboratory
}

// subcommands are all there are, in the order of the usage. A new one is a line
// here and a file of its own; what flags.go declares for several is at hand.
func subcommands() []subcommand {
	return []subcommand{
		{name: "warm", does: "names in memory, over UDP or TCP: queries per second, server CPU per query", own: warmFlags, run: warm},
		{name: "cold", does: "names that nobody asked for yet: server CPU, upstream packets, latency", own: coldFlags, run: cold},
		{name: "encrypted", does: "names in memory, over DoT and DoH, and handshakes: server CPU for each", own: encryptedFlags, run: encrypted},
		{name: "full", does: "all that the results in docs/performance.md rest on; -works names parts of it", own: fullFlags, run: full},
		{name: "report", does: "the text, the plots and docs/performance.md once more, of results that are there", own: reportFlags, run: rewrite, bare: true},
		{name: "attack", does: "names in memory while names of hostile signed zones are asked for: latency", own: attackFlags, run: attack},
		{name: "idle", does: "connections of TCP or DoT that wait: the server's memory for each", own: idleFlags, run: idle},
		{name: "fill", does: "ten million answers in Shirube's memory: what each costs, whom they keep waiting", own: fillFlags, run: fill},
		{name: "flood", does: "names in memory while many more are asked for than can be resolved: latency", own: floodFlags, run: flood},
		{name: "tap", does: "frames that the collector takes: its CPU for each, by what it does with them", own: tapFlags, run: collecting, bare: true},
		{name: "dnstap", does: "names in memory, with dnstap and without: what it costs the server", own: dnstapFlags, run: dnstapCost},
		{name: "shared", does: "fleets with a shared cache: where answers come from, what it costs, what is noticed when it goes", own: sharedFlags, run: shared},
		{name: "soak", does: "a minute of load on Shirube without an error or a leak", own: soakFlags, run: soak},
		{name: "echo", does: "a server of the same answers for all names, until it is stopped: the ceiling of the machine", own: echoFlags, run: echo, bare: true},
		{name: "blast", does: "a load over UDP that is quicker than dnsperf, with one thread", own: blastFlags, run: blast, bare: true},
		{name: "profile", does: "samples of what Shirube does, for the compiler", own: profileFlags, run: profile},
	}
}

func main() {
	// The namespaces' first process is to die with the thread that started it
	// (Pdeathsig); the main thread lives as long as the process.
	runtime.LockOSThread()
	os.Exit(run(os.Args[1:]))
}

// listSubcommands lists the subcommands.
func listSubcommands(w io.Writer) {
	fmt.Fprint(w, "usage: bench SUBCOMMAND [flags]\n\n")
	for _, c := range subcommands() {
		fmt.Fprintf(w, "  %-9s %s\n", c.name, c.does)
	}
	fmt.Fprint(w, "\n\"bench SUBCOMMAND -h\" lists the flags of one.\n")
}

// run is main with an exit code: 0 for success, 1 for a failure, 2 for wrong
// usage.
func run(args []string) int {
	cmd, set, err := parseArgs(args)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2 // the user has been told
	}
	dir, inside := os.LookupEnv(insideEnv)
	if !inside && !cmd.bare {
		return enterSandbox()
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if !cmd.bare {
		err = furnish(ctx, dir, set.ports)
	}
	if err == nil {
		err = cmd.run(ctx, dir, set)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench %s: %v\n", cmd.name, err)
		return 1
	}
	return 0
}

// parseArgs finds the subcommand and reads its flags. Errors have been told to
// the user.
func parseArgs(args []string) (cmd subcommand, set settings, err error) {
	for _, c := range subcommands() {
		if len(args) > 0 && c.name == args[0] {
			set, err = c.parse(args[1:])
			return c, set, err
		}
	}
	listSubcommands(os.Stderr)
	return cmd, set, errors.New("no such subcommand")
}
