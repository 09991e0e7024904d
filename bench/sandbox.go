package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
)

// insideEnv is set for the process inside the namespaces: its scratch
// directory.
const insideEnv = "SHIRUBE_BENCH_DIR"

// enterSandbox runs this program once more, with the same arguments, as the
// first process of new network, process and mount namespaces, and returns its
// exit code. When that process ends, whatever happened to it, the kernel kills
// what it had started and takes the namespaces down.
func enterSandbox() int {
	dir, err := os.MkdirTemp("", "shirube-bench-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	cmd, err := sandboxCommand(dir)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		fmt.Fprintf(os.Stderr, "bench: no new namespaces (%v): this needs root, or a kernel that lets users make them\n", err)
		return 1
	}
	return await(cmd, signals)
}

// sandboxCommand returns the command for this program inside the namespaces.
func sandboxCommand(dir string) (*exec.Cmd, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, os.Args[1:]...) //nolint:noctx // await forwards signals: the servers are to be stopped in order
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), insideEnv+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
		Setpgid:    true, // Ctrl-C comes here only, and is forwarded
	}
	if uid := os.Getuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	return cmd, nil
}

// await waits for the process inside to end and returns its exit code. The
// first signal asks it to stop, the second kills it and all it started.
func await(cmd *exec.Cmd, signals <-chan os.Signal) int {
	ended := make(chan error, 1)
	// Owner: await. Ends with the process inside. One.
	go func() { ended <- cmd.Wait() }()
	for asked := false; ; asked = true {
		select {
		case s := <-signals:
			if asked {
				s = syscall.SIGKILL
			}
			_ = cmd.Process.Signal(s) // it may have ended this moment
		case err := <-ended:
			if exit, ok := errors.AsType[*exec.ExitError](err); ok {
				return max(exit.ExitCode(), 1) // -1 for a signal
			}
			if err != nil {
				fmt.Fprintln(os.Stderr, "bench:", err)
				return 1
			}
			return 0
		}
	}
}

// authorities are the addresses of the laboratory's servers: those of RFC 2544, as
// sdns asks none of 127.0.0.0/8, nor any that an interface has, which these are not.
const authorities = "198.18.0.0/15"

// furnish makes the new namespaces usable: the loopback interface is up, with
// all of 127.0.0.0/8 and of authorities, /proc shows the processes in here, dir is in memory, and
// sockets that ask for no port get one of ports.
func furnish(ctx context.Context, dir, ports string) error {
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("detach the mounts: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil { // Knot Resolver has its cache in a file
		return fmt.Errorf("mount %s: %w", dir, err)
	}
	if out, err := exec.CommandContext(ctx, "ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		return fmt.Errorf("ip link set lo up: %w: %s", err, out)
	}
	if out, err := exec.CommandContext(ctx, "ip", "route", "add", "local", authorities, "dev", "lo").CombinedOutput(); err != nil {
		return fmt.Errorf("have the addresses %s: %w: %s", authorities, err, out)
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte(ports), 0o644); err != nil {
		return fmt.Errorf("set the system's ports to %q: %w", ports, err)
	}
	return nil
}
