package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// kind is a kind of server that can be measured.
type kind struct {
	name    string
	program string // unless the list of peers names another; empty: the binary that -shirube names
	// version names the server and its version.
	version func(ctx context.Context, program string) (string, error)
	// prepare writes what the server reads, and returns a command for each of its
	// processes.
	prepare func(ctx context.Context, l *lab, c *contestant) ([][]string, error)
	// quic: it speaks DoQ and DoH3.
	quic bool
	// echo: it knows no names, and answers all of them alike, over UDP only.
	echo bool
}

// kinds are all there are. A new one is a line here and its prepare.
func kinds() []kind {
	return []kind{
		{name: "unbound", program: "unbound", version: unboundVersion, prepare: prepareUnbound},
		{name: "bind", program: "named", version: bindVersion, prepare: prepareBIND},
		{name: "knot", program: "kresd", version: knotVersion, prepare: prepareKnot},
		{name: "pdns", program: "pdns_recursor", version: pdnsVersion, prepare: preparePDNS},
		{name: "sdns", program: "sdns", version: sdnsVersion, prepare: prepareSDNS, quic: true},
		{name: "shirube", version: shirubeVersion, prepare: prepareShirube, quic: true},
		{name: "echo", version: echoVersion, prepare: prepareEcho, echo: true},
	}
}

// knownKinds lists the names of kinds.
func knownKinds() string {
	var names []string
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	return strings.Join(names, ", ")
}

// contestant is a server under measurement.
type contestant struct {
	name    string // as in the tables; unique
	kind    kind
	program string
	version string
	addr    netip.Addr
	threads int
	cpus    string            // that it may run on, and
	others  string            // those that its load may; empty: all (taskset(1))
	first   bool              // the kernel is to run it rather than strangers (nice(1))
	procs   []*process        // one, or as many as threads
	proc    *process          // the first of them
	files   map[string]string // its configuration, by the names of files
	command string            // that started its first process
	memory  memory
}

// memory is what a server had in RAM, in octets: when it had started, with the
// hot names, and with all names.
type memory struct{ start, hot, all int64 }

// newContestants reads a comma-separated list of kinds, which may name one twice,
// and a program of its own for each ("shirube=bin/before"): so a change is
// measured beside what was before it.
func newContestants(ctx context.Context, set settings) ([]*contestant, error) {
	var all []*contestant
	seen := make(map[string]int)
	for i, entry := range strings.Split(set.peers, ",") {
		name, program, _ := strings.Cut(entry, "=")
		k, err := findKind(name)
		if err != nil {
			return nil, err
		}
		if seen[name]++; seen[name] > 1 {
			name = fmt.Sprintf("%s-%d", name, seen[name])
		}
		c := &contestant{name: name, kind: k, program: program, addr: netip.AddrFrom4([4]byte{127, 0, 1, byte(i + 1)}), threads: set.threads, first: set.first}
		c.place()
		if c.program == "" {
			c.program = k.program
		}
		if c.program == "" {
			c.program = set.shirube
		}
		if c.version, err = k.version(ctx, c.program); err != nil {
			return nil, err
		}
		if err := recordable(c.version, set.out); err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// place says where the server may run, by its threads.
func (c *contestant) place() { c.cpus, c.others = processors(c.threads, runtime.NumCPU()) }

// processors shares the machine out: a server with fewer threads than there are
// cores has as many cores to itself, the last ones, and the load has the rest.
// With as many threads as cores, both have them all.
func processors(threads, cores int) (server, load string) {
	if threads >= cores {
		return "", ""
	}
	return fmt.Sprintf("%d-%d", cores-threads, cores-1), fmt.Sprintf("0-%d", cores-threads-1)
}

// installed returns the servers of a comma-separated list but for those whose
// program is not on this machine, and these. Not everything is in Debian.
func installed(peers string) (present string, absent []string) {
	var there []string
	for entry := range strings.SplitSeq(peers, ",") {
		k, err := findKind(entry)
		if err == nil && k.program != "" {
			if _, err = exec.LookPath(k.program); err != nil {
				fmt.Fprintf(os.Stderr, "%s is not installed, and so not measured\n", entry)
				absent = append(absent, entry)
				continue
			}
		}
		there = append(there, entry) // if it is unknown, newContestants says so
	}
	return strings.Join(there, ","), absent
}

// findKind returns the kind of that name.
func findKind(name string) (kind, error) {
	for _, k := range kinds() {
		if k.name == name {
			return k, nil
		}
	}
	return kind{}, fmt.Errorf("unknown server %q: known are %s", name, knownKinds())
}

// startContestants starts the servers of a list and waits until they resolve.
// The caller stops those returned, also after an error.
func startContestants(ctx context.Context, l *lab, set settings) ([]*contestant, error) {
	all, err := newContestants(ctx, set)
	if err != nil {
		return nil, err
	}
	for i, c := range all {
		if err := c.startReady(ctx, l); err != nil {
			return all[:i+1], err
		}
	}
	return all, nil
}

// startReady starts the server, waits until it resolves, and looks at whether it
// validates. The caller stops it, also after an error.
func (c *contestant) startReady(ctx context.Context, l *lab) error {
	if err := c.start(ctx, l); err != nil {
		return err
	}
	if err := c.proc.await(ctx, c.addr, l.net.zones[len(l.net.zones)-1].name); err != nil {
		return err
	}
	return c.checkValidation(l)
}

// checkValidation returns an error if the server does not validate where zones
// are signed: it would have less to do than the others.
func (c *contestant) checkValidation(l *lab) error {
	if c.kind.echo {
		return nil
	}
	last := l.net.zones[len(l.net.zones)-1].name
	if err := validates(netip.AddrPortFrom(c.addr, 53), last, l.anchor != ""); err != nil {
		return fmt.Errorf("%s: %w; its log says:\n%s", c.name, err, c.proc.logTail())
	}
	return nil
}

func stopContestants(all []*contestant) {
	for _, c := range all {
		c.stop()
	}
}

// start configures and starts the server. The caller stops it, also after an
// error.
func (c *contestant) start(ctx context.Context, l *lab) error {
	if err := os.RemoveAll(c.dir(l)); err != nil { // a cache may lie there
		return err
	}
	commands, err := c.kind.prepare(ctx, l, c)
	if err != nil {
		return err
	}
	for i, argv := range commands {
		name := c.name
		if i > 0 {
			name += "-process" + strconv.Itoa(i+1)
		}
		p, err := start(l.dir, name, c.beside(argv))
		if err != nil {
			return err
		}
		c.procs = append(c.procs, p)
	}
	c.proc, c.command = c.procs[0], strings.Join(commands[0], " ")
	return nil
}

// beside returns the command that runs argv where the server runs, and as it does.
func (c *contestant) beside(argv []string) []string {
	if c.cpus != "" {
		argv = append([]string{"taskset", "-c", c.cpus}, argv...)
	}
	if c.first {
		argv = append([]string{"nice", "-n", "-20"}, argv...) // which goes on where that is not allowed
	}
	return argv
}

// stop stops what start has started.
func (c *contestant) stop() {
	for _, p := range c.procs {
		p.stop()
	}
	c.procs = nil
}

// alive returns an error if a process has ended.
func (c *contestant) alive() error {
	var errs []error
	for _, p := range c.procs {
		errs = append(errs, p.alive())
	}
	return errors.Join(errs...)
}

// cpuClock returns what all processes have used, to the nanosecond.
func (c *contestant) cpuClock() (time.Duration, error) { return sumOf(c.procs, cpuClock) }

// resident returns the memory that all processes have in RAM. What they share is
// counted once.
func (c *contestant) resident() (int64, error) {
	if len(c.procs) == 1 {
		return sumOf(c.procs, residentBytes)
	}
	return sumOf(c.procs, proportionalBytes)
}

// sumOf adds up a measure of processes.
func sumOf[N time.Duration | int64](procs []*process, measure func(pid int) (N, error)) (sum N, err error) {
	for _, p := range procs {
		n, err := measure(p.pid())
		if err != nil {
			return 0, fmt.Errorf("%s: %w", p.name, err)
		}
		sum += n
	}
	return sum, nil
}

// firstLine returns the first line that a command prints.
func firstLine(ctx context.Context, argv ...string) (string, error) {
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line), nil
}

// configure writes the text of a configuration, in a directory of its own.
func (c *contestant) configure(l *lab, file, text string) (path string, err error) {
	path = filepath.Join(c.dir(l), file)
	if c.files == nil {
		c.files = make(map[string]string)
	}
	c.files[file] = text
	return path, writeFiles(map[string]string{path: text})
}

// dir is where a contestant has its files.
func (c *contestant) dir(l *lab) string { return filepath.Join(l.dir, c.name) }
